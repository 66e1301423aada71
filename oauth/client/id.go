package client

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// maxURL bounds a client_id and a redirect URI, in bytes.
const maxURL = 2048

// loopbackOrigin is how the client_id of an app under development begins
// (https://atproto.com/specs/oauth#localhost-client-development).
const loopbackOrigin = "http://localhost"

func badID(rule string) *Error { return refuse(CodeInvalidID, "Invalid client_id: %s", rule) }

// parseID checks a client_id that is the URL of a document. Under --dev it may be on this
// machine.
func parseID(id string, dev bool) (*url.URL, error) {
	if len(id) > maxURL {
		return nil, badID("it has more than 2048 bytes")
	}
	u, err := url.Parse(id)
	if err != nil || u.Host == "" || u.Opaque != "" || !isURLText(id) {
		return nil, badID("it is not a URL")
	}
	local := dev && mayBeHere(u)
	switch {
	case u.Scheme != "https" && (u.Scheme != "http" || !local):
		return nil, badID("its scheme is not https")
	case u.User != nil:
		return nil, badID("it holds a user name")
	case strings.Contains(id, "#"):
		return nil, badID("it has a fragment")
	case u.Port() != "" && !dev, strings.HasSuffix(u.Host, ":"):
		return nil, badID("it has a port")
	}
	if !local {
		if rule := publicName(u.Hostname()); rule != "" {
			return nil, badID(rule)
		}
	}
	if rule := documentPath(u, id); rule != "" {
		return nil, badID(rule)
	}
	return u, nil
}

// isURLText reports whether text holds only characters of a URL (RFC 3986 section 2).
func isURLText(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"<>\\^`{|}", r) })
}

// mayBeHere reports whether a URL's host can be this machine; what its name resolves to is
// checked when it is fetched.
func mayBeHere(u *url.URL) bool {
	host := u.Hostname()
	if isLocalhost(host) || u.Scheme == "http" || u.Port() != "" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// isLocalhost reports whether a name is that of this machine (RFC 6761 section 6.3).
func isLocalhost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// localSuffixes are of names that no public host has (RFC 6761, RFC 6762, RFC 9476 and
// ICANN's .internal).
var localSuffixes = []string{"local", "localhost", "test", "invalid", "example", "internal", "arpa"}

// publicName returns the rule that a host breaks as a name in the public DNS, or "".
func publicName(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.IsValid() {
		return "its host is an IP address"
	}
	labels := strings.Split(host, ".")
	last := labels[len(labels)-1]
	switch {
	case len(labels) < 2:
		return "its host is not a domain name with a dot"
	case slices.Contains(localSuffixes, last):
		return "its host is a local name, under ." + last
	case len(host) > 253 || last == "" || last[0] >= '0' && last[0] <= '9' || slices.ContainsFunc(labels, notLabel):
		return "its host is not a domain name in lower case"
	default:
		return ""
	}
}

// notLabel reports whether a part of a host name is malformed (RFC 1123 section 2.1).
func notLabel(label string) bool {
	return label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
		strings.ContainsFunc(label, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}

// documentPath returns the rule that the path of a client_id breaks, or "".
func documentPath(u *url.URL, id string) string {
	path := u.EscapedPath()
	switch {
	case path == "" || path == "/":
		return "it has no path"
	case strings.HasSuffix(path, "/"):
		return "its path ends with a slash"
	case slices.ContainsFunc(strings.Split(strings.ToLower(path), "/"), isDots):
		return "its path has dot segments"
	case u.String() != id || u.Host != strings.ToLower(u.Host) || hasDefaultPort(u):
		return "it is not in its normal form"
	default:
		return ""
	}
}

func isDots(segment string) bool {
	segment = strings.ReplaceAll(segment, "%2e", ".")
	return segment == "." || segment == ".."
}

func hasDefaultPort(u *url.URL) bool {
	return u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80"
}

// isLoopbackID reports whether a client_id is that of a loopback client, and returns its
// query. Whatever else begins like one is refused as a client_id.
func isLoopbackID(id string) (query string, ok bool) {
	rest, ok := strings.CutPrefix(id, loopbackOrigin)
	rest = strings.TrimPrefix(rest, "/")
	if !ok || rest != "" && rest[0] != '?' || len(id) > maxURL || strings.Contains(rest, "#") || !isURLText(id) {
		return "", false
	}
	return strings.TrimPrefix(rest, "?"), true
}

// loopbackClient makes the metadata of a loopback client from its client_id.
func loopbackClient(id, query string) (*Client, error) {
	bad := func(parameter, rule string) error {
		return refuse(CodeInvalidMetadata, "Invalid loopback client_id: %s: %s", parameter, rule)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, bad("query", "it is malformed")
	}
	c := &Client{
		ID: id, URL: &url.URL{Scheme: "http", Host: "localhost", Path: "/"}, Loopback: true, Native: true, Method: MethodNone,
		Name: "Development client", Scope: "atproto", Refreshes: true, RedirectURIs: values["redirect_uri"],
	}
	for name := range values {
		if name != "scope" && name != "redirect_uri" {
			return nil, bad(name, "only scope and redirect_uri may be there")
		}
	}
	if scopes, given := values["scope"]; given {
		if len(scopes) > 1 {
			return nil, bad("scope", "it may be there once")
		}
		if c.Scope = scopes[0]; scopeRule(c.Scope) != "" {
			return nil, bad("scope", scopeRule(c.Scope))
		}
	}
	if _, given := values["redirect_uri"]; !given {
		c.RedirectURIs = []string{"http://127.0.0.1/", "http://[::1]/"}
	}
	for _, uri := range c.RedirectURIs {
		if !strings.HasPrefix(uri, "http:") {
			return nil, bad("redirect_uri", "its scheme is not http")
		}
		if rule := c.redirectRule(uri, false); rule != "" {
			return nil, bad("redirect_uri", rule)
		}
	}
	return c, nil
}
