package dpop

import (
	"strings"
)

// isTarget reports whether htu names the server's origin and a path: without query and
// fragment, in the normal form of RFC 3986 section 6.2.2 and 6.2.3 (RFC 9449 section 4.3).
func (c *Checker) isTarget(htu, path string) bool {
	if rest, ok := strings.CutPrefix(htu, c.Origin); ok && rest == path && path != "" {
		return true
	}
	got, ok := normalise(htu, c.Dev)
	want, wantOK := normalise(c.Origin+path, c.Dev)
	return ok && wantOK && got == want
}

// normalise returns the normal form of an absolute URL without its query and fragment.
func normalise(u string, dev bool) (string, bool) {
	u, _, _ = strings.Cut(u, "#")
	u, _, _ = strings.Cut(u, "?")
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok {
		return "", false
	}
	host, path := rest, "/"
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	scheme, host = strings.ToLower(scheme), strings.ToLower(host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	if dev {
		if name, port, found := strings.Cut(host, ":"); name == "127.0.0.1" {
			host = "localhost"
			if found {
				host += ":" + port
			}
		}
	}
	path, ok = unescape(path)
	return scheme + "://" + host + path, ok
}

// unescape decodes the escapes of characters that need none, and writes the others in
// upper case. It fails for what is not an escape.
func unescape(path string) (string, bool) {
	if !strings.Contains(path, "%") {
		return path, true
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			b.WriteByte(path[i])
			continue
		}
		if i+2 >= len(path) {
			return "", false
		}
		high, ok := digit(path[i+1])
		low, ok2 := digit(path[i+2])
		if !ok || !ok2 {
			return "", false
		}
		if c := high<<4 | low; unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	return b.String(), true
}

func digit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	default:
		return 0, false
	}
}

// unreserved: RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
