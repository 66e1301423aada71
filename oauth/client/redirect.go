package client

import (
	"net/url"
	"slices"
	"strings"
)

// redirectRule returns the rule that a redirect URI breaks as one that a client registers,
// or "".
func (c *Client) redirectRule(uri string, dev bool) string {
	if len(uri) > maxURL {
		return "it has more than 2048 bytes"
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Scheme == "" || !isURLText(uri):
		return "it is not a URL"
	case strings.Contains(uri, "#"):
		return "it has a fragment"
	case u.User != nil:
		return "it holds a user name"
	}
	switch scheme, _, _ := strings.Cut(uri, ":"); {
	case scheme == "https":
		return c.httpsRule(u, dev)
	case scheme == "http":
		return c.loopbackRule(u, dev)
	case strings.Contains(scheme, "."):
		return c.privateUseRule(u, uri)
	default:
		return "its scheme is neither https, nor http of this machine, nor the client_id's host in reverse order"
	}
}

func (c *Client) httpsRule(u *url.URL, dev bool) string {
	if dev && mayBeHere(c.URL) && mayBeHere(u) || dev && isLocalhost(u.Hostname()) {
		return ""
	}
	if u.Host == "" || u.Opaque != "" {
		return "it has no host"
	}
	return publicName(strings.ToLower(u.Hostname()))
}

// loopbackRule is RFC 8252 section 7.3 and, on localhost, section 8.3.
func (c *Client) loopbackRule(u *url.URL, dev bool) string {
	switch host := u.Hostname(); {
	case dev && mayBeHere(c.URL) && strings.HasSuffix(host, ".localhost"):
		return ""
	case !c.Native && (!dev || !mayBeHere(c.URL)):
		return "http is for clients whose application_type is native"
	case host == "localhost":
		return "use http://127.0.0.1 instead of http://localhost"
	case host != "127.0.0.1" && u.Host != "[::1]" && !strings.HasPrefix(u.Host, "[::1]:"):
		return "http is for 127.0.0.1 and [::1]"
	default:
		return ""
	}
}

// privateUseRule is RFC 8252 section 7.1 and the specification's: the scheme is the
// client_id's host in reverse order.
func (c *Client) privateUseRule(u *url.URL, uri string) string {
	labels := strings.Split(c.URL.Hostname(), ".")
	slices.Reverse(labels)
	scheme, rest, _ := strings.Cut(uri, ":")
	switch {
	case !c.Native:
		return "a private-use scheme is for clients whose application_type is native"
	case c.Loopback || scheme != strings.Join(labels, "."):
		return "its scheme is not the client_id's host in reverse order"
	case !strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "//") || u.Host != "":
		return "after a private-use scheme come a colon and one slash, like " + scheme + ":/callback"
	default:
		return ""
	}
}

// Redirect checks that a request's redirect_uri is one that the client registered. For a
// loopback address the port is free, unless the registered one has a port (RFC 8252 section
// 7.3).
func (c *Client) Redirect(uri string) error {
	if len(uri) <= maxURL && slices.ContainsFunc(c.RedirectURIs, func(r string) bool { return r == uri || samePortFree(r, uri) }) {
		return nil
	}
	return refuse(CodeInvalidRequest, "Invalid redirect_uri: %.200s is not in the client metadata", uri)
}

// SoleRedirect returns the redirect URI that a request may leave out: the only one that is
// registered, if its port is not free.
func (c *Client) SoleRedirect() (uri string, ok bool) {
	if len(c.RedirectURIs) != 1 || portFree(c.RedirectURIs[0]) != nil {
		return "", false
	}
	return c.RedirectURIs[0], true
}

// portFree returns a registered URI that leaves the port to the request, or nil.
func portFree(registered string) *url.URL {
	u, err := url.Parse(registered)
	if err != nil || u.Scheme != "http" || u.Port() != "" {
		return nil
	}
	return u
}

func samePortFree(registered, uri string) bool {
	r := portFree(registered)
	u, err := url.Parse(uri)
	if r == nil || err != nil || u.User != nil || strings.Contains(uri, "#") || !isURLText(uri) || strings.HasSuffix(u.Host, ":") {
		return false
	}
	path := func(u *url.URL) string { return "/" + strings.TrimPrefix(u.EscapedPath(), "/") }
	return u.Scheme == r.Scheme && u.Hostname() == r.Hostname() && path(u) == path(r) && u.RawQuery == r.RawQuery &&
		u.ForceQuery == r.ForceQuery
}

// ForeignRedirect returns the host that an answer goes to if it is not the client_id's own,
// so that the consent page can name it.
func (c *Client) ForeignRedirect(uri string) (host string, foreign bool) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" || u.Host == c.URL.Host {
		return "", false
	}
	return u.Host, true
}
