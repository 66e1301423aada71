package proxy

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzProxyHeader: what is accepted names one service by a DID that can exist, and nothing
// else than what was sent.
func FuzzProxyHeader(f *testing.F) {
	for _, seed := range []string{"", "#", "did:web:x.example.com#bsky_appview", "did:plc:ewvi7nxzyoun6zhxrhs64oiz#a#b", " did:web:localhost%3A1#x ", "did:web:a.b#x, did:web:a.b#x", "did:web:1.2.3.4#x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		text := proxyHeader(http.Header{"Atproto-Proxy": {header}})
		did, service, err := parseProxyHeader(text)
		if err != nil {
			return
		}
		if did.String()+"#"+service != text || strings.ContainsAny(service, "#, \t\r\n") || len(text) > maxProxyHeader || !isServiceDID(did.String()) {
			t.Errorf("%q is %q and %q", header, did, service)
		}
	})
}

// FuzzServiceOrigin: an endpoint that is accepted is an origin.
func FuzzServiceOrigin(f *testing.F) {
	for _, seed := range []string{"https://x.example.com", "https://x.example.com/", "http://[::1]:80", "https://a@b", "https://a?b", "https://a/b", "https://A:443", "http://:", "https://:443"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, endpoint string) {
		origin, ok := serviceOrigin(endpoint)
		if !ok {
			return
		}
		again, ok := serviceOrigin(origin)
		if !ok || again != origin || strings.ContainsAny(origin, "@?#") || strings.Count(origin, "/") != 2 {
			t.Errorf("%q is %q, and that %q", endpoint, origin, again)
		}
	})
}
