package conformance

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Target is a server that an operator named.
type Target struct {
	// Origin is its URL as browsers compare them: in lower case, without a slash at the end, or the
	// scheme's own port.
	Origin string
	// Loopback: it is on this machine, and no connection goes elsewhere.
	Loopback bool
}

// ParseTarget reads a server's URL: https, or http if it is on this machine.
func ParseTarget(raw string) (Target, error) {
	if !strings.Contains(raw, "://") {
		return Target{}, fmt.Errorf("%q: write the server's URL, such as https://%s", raw, raw)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return Target{}, fmt.Errorf("read the server's URL: %w", err)
	}
	t := Target{Origin: origin(u), Loopback: isLoopback(strings.ToLower(u.Hostname()))}
	switch {
	case u.Hostname() == "":
		return Target{}, fmt.Errorf("%q has no host: write the server's URL, such as https://pds.example.com", raw)
	case u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return Target{}, fmt.Errorf("%q: write scheme and host alone, as in %s", raw, t.Origin)
	case u.Scheme == "http" && !t.Loopback:
		return Target{}, errors.New("the password would be sent unencrypted: use https, or a host on this machine")
	case u.Scheme != "https" && u.Scheme != "http":
		return Target{}, fmt.Errorf("%q: use https", raw)
	}
	return t, nil
}

// Host returns the name and port.
func (t Target) Host() string {
	_, host, _ := strings.Cut(t.Origin, "://")
	return host
}

// isLoopback reports whether a host names this machine: by its name or address alone.
func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// origin returns scheme and host of a URL, in the one form of Target.Origin.
func origin(u *url.URL) string {
	host := strings.TrimSuffix(strings.ToLower(u.Host), ":")
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

// originOf returns the origin of a URL, "" if it is not one of http or https.
func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return origin(u)
}
