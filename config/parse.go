package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// setField parses raw into a field. The error describes a right value.
func setField(field any, raw string) (err error) {
	switch f := field.(type) {
	case *string:
		*f = raw
	case *Secret:
		*f = Secret{raw}
	case *bool:
		*f, err = parseBool(raw)
	case *int:
		if *f, err = strconv.Atoi(raw); err != nil {
			err = errors.New("write a whole number")
		}
	case *int64:
		if *f, err = strconv.ParseInt(raw, 10, 64); err != nil {
			err = errors.New("write a whole number")
		}
	case *float64:
		if *f, err = strconv.ParseFloat(raw, 64); err != nil {
			err = errors.New("write a number like 0.1")
		}
	case *time.Duration:
		*f, err = ParseDuration(raw)
	case *[]string:
		*f = parseList(raw)
	case *[]netip.Prefix:
		*f, err = parsePrefixes(raw)
	default:
		panic(fmt.Sprintf("config: no parser for %T", field)) // a Config with a new kind of field
	}
	return err
}

func parseBool(raw string) (bool, error) {
	switch raw {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	default:
		return false, errors.New("write true or false")
	}
}

func parseList(raw string) []string {
	var out []string
	for part := range strings.SplitSeq(raw, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func parsePrefixes(raw string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, part := range parseList(raw) {
		p, err := netip.ParsePrefix(part)
		if err != nil {
			a, aerr := netip.ParseAddr(part)
			if aerr != nil {
				return nil, errors.New("write addresses or networks like 10.0.0.1,fd00::/8")
			}
			p = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

var durationPart = regexp.MustCompile(`^([0-9]+)(ms|s|m|h|d|w)`)

// ParseDuration reads durations like 90d, 2h, 1500ms, 1d12h. A unit is
// required: a bare number would be milliseconds to some and seconds to others.
func ParseDuration(raw string) (time.Duration, error) {
	want := errors.New("write a duration with its unit, like 90d, 2h, 15m or 1500ms")
	units := map[string]time.Duration{
		"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
		"d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
	}
	var total time.Duration
	for rest := raw; rest != "" || raw == ""; {
		m := durationPart.FindStringSubmatch(rest)
		if m == nil {
			return 0, want
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		unit := units[m[2]]
		if err != nil || n > int64(math.MaxInt64/unit) || total > math.MaxInt64-time.Duration(n)*unit {
			return 0, want
		}
		total += time.Duration(n) * unit
		rest = rest[len(m[0]):]
	}
	return total, nil
}

// ParseEnvFile reads NAME=value lines as the reference's pds.env has them:
// comments, blank lines, an optional "export ", values in single or double quotes.
// It returns the numbers of all other lines.
func ParseEnvFile(text string) (values map[string]string, bad []int) {
	values = map[string]string{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		line = strings.TrimSpace(strings.TrimPrefix(line, "export "))
		name, v, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if v, ok = unquote(strings.TrimSpace(v), ok); !ok || !isName(name) {
			bad = append(bad, number)
			continue
		}
		values[name] = v
	}
	return values, bad
}

var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func isName(s string) bool { return namePattern.MatchString(s) }

// unquote removes the quotes of a value; after an unquoted one, " #" begins a
// comment.
func unquote(v string, ok bool) (string, bool) {
	if !ok || v == "" {
		return v, ok
	}
	if q := v[0]; q == '"' || q == '\'' {
		end := strings.IndexByte(v[1:], q)
		if end < 0 {
			return "", false
		}
		rest := strings.TrimSpace(v[end+2:])
		return v[1 : end+1], rest == "" || rest[0] == '#'
	}
	if i := strings.Index(v, " #"); i >= 0 {
		v = strings.TrimSpace(v[:i])
	}
	return v, true
}
