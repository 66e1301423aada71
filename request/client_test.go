package request_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"nestbox/request"
)

// TestClientAddr is the table of peers and the client addresses that they send.
func TestClientAddr(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fe80::/10")}
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"direct", "192.0.2.1:1234", nil, "192.0.2.1"},
		{"direct IPv6", "[2001:db8::1]:1234", nil, "2001:db8::1"},
		{"direct with a zone", "[fe80::1%eth0]:1234", nil, "fe80::1"},
		{"direct, IPv4-mapped", "[::ffff:192.0.2.1]:1234", nil, "192.0.2.1"},
		{"unix socket", "@", []string{"192.0.2.9"}, "invalid IP"},
		{"empty peer", "", nil, "invalid IP"},
		{"a stranger's claim", "192.0.2.1:1234", []string{"198.51.100.7"}, "192.0.2.1"},
		{"a stranger's claim to be a proxy", "192.0.2.1:1234", []string{"10.0.0.1"}, "192.0.2.1"},
		{"proxied", "10.0.0.1:80", []string{"198.51.100.7"}, "198.51.100.7"},
		{"proxied, without a header", "10.0.0.1:80", nil, "10.0.0.1"},
		{"proxied, with an empty header", "10.0.0.1:80", []string{""}, "10.0.0.1"},
		{"proxied, peer IPv4-mapped", "[::ffff:10.0.0.1]:80", []string{"198.51.100.7"}, "198.51.100.7"},
		{"proxied, peer with a zone", "[fe80::1%eth0]:80", []string{"198.51.100.7"}, "198.51.100.7"},
		{"spoofed by the client", "10.0.0.1:80", []string{"127.0.0.1, 10.9.9.9, 198.51.100.7"}, "198.51.100.7"},
		{"spoofed in a header of its own", "10.0.0.1:80", []string{"127.0.0.1", "198.51.100.7"}, "198.51.100.7"},
		{"through two proxies", "10.0.0.1:80", []string{"203.0.113.5, 198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		{"through proxies alone", "10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"IPv6", "10.0.0.1:80", []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 in brackets", "10.0.0.1:80", []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"IPv6 with a port", "10.0.0.1:80", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{"IPv6 with a zone", "10.0.0.1:80", []string{"fe80::7%eth1, 2001:db8::7%x"}, "2001:db8::7"},
		{"IPv4 with a port", "10.0.0.1:80", []string{"198.51.100.7:4711"}, "198.51.100.7"},
		{"IPv4-mapped", "10.0.0.1:80", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"IPv4-mapped proxy", "10.0.0.1:80", []string{"198.51.100.7, ::ffff:10.0.0.2"}, "198.51.100.7"},
		{"white space", "10.0.0.1:80", []string{" 127.0.0.1 ,\t198.51.100.7  "}, "198.51.100.7"},
		{"garbage", "10.0.0.1:80", []string{"unknown"}, "10.0.0.1"},
		{"garbage at the right", "10.0.0.1:80", []string{"198.51.100.7, unknown"}, "10.0.0.1"},
		{"garbage in between", "10.0.0.1:80", []string{"198.51.100.7, _hidden, 10.0.0.2"}, "10.0.0.2"},
		{"garbage at the left", "10.0.0.1:80", []string{"'; DROP TABLE, 198.51.100.7"}, "198.51.100.7"},
		{"a comma at the end", "10.0.0.1:80", []string{"198.51.100.7,"}, "10.0.0.1"},
		{"an address too long", "10.0.0.1:80", []string{"198.51.100.7.8"}, "10.0.0.1"},
		{"a leading zero", "10.0.0.1:80", []string{"198.51.100.07"}, "10.0.0.1"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.RemoteAddr = c.peer
		r.Header["X-Forwarded-For"] = c.forwarded
		if got := request.ClientAddr(r, trusted).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		peer := ""
		if ap, err := netip.ParseAddrPort(c.peer); err == nil {
			peer = ap.Addr().Unmap().WithZone("").String()
		}
		if got := request.ClientAddr(r, nil); peer != "" && got.String() != peer {
			t.Errorf("%s, trusting nobody: %s, want %s", c.name, got, peer)
		}
	}
}

// TestUserAgent is cut between characters, and always text.
func TestUserAgent(t *testing.T) {
	for sent, want := range map[string]string{
		"":                                      "",
		"Mozilla/5.0 (X11)":                     "Mozilla/5.0 (X11)",
		strings.Repeat("x", 256):                strings.Repeat("x", 256),
		strings.Repeat("x", 5000):               strings.Repeat("x", 256),
		strings.Repeat("x", 255) + "é":          strings.Repeat("x", 255),
		strings.Repeat("x", 254) + "é":          strings.Repeat("x", 254) + "é",
		"x" + strings.Repeat("\U0001F600", 100): "x" + strings.Repeat("\U0001F600", 63),
		"caf\xe9 1.0":                           "caf? 1.0",
		"a\tb\u009b31mred\u202e\u2028":          "a?b?31mred??",
	} {
		var got request.Client
		r := get(t, "/")
		r.Header.Set("User-Agent", sent)
		serve(front(slog.DiscardHandler), func(_ http.ResponseWriter, r *http.Request) { got = request.ClientOf(r.Context()) }, r)
		if got.UserAgent != want || !utf8.ValidString(got.UserAgent) {
			t.Errorf("%.20q…: %q, want %q", sent, got.UserAgent, want)
		}
	}
}
