package server

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"nestbox/config"
)

// TestSkipLine: with a share of 0 only what explains a sign-out or is the operator's is logged; a
// share in between leaves out some.
func TestSkipLine(t *testing.T) {
	with := func(c config.Config) func(*http.Request) bool {
		return (&Server{opts: Options{Config: c, Log: slog.New(slog.DiscardHandler)}}).skipLine()
	}
	if with(config.Config{LogSample: 1}) != nil {
		t.Error("a share of 1 leaves something out")
	}
	ask := func(path, authorization string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, http.NoBody)
		r.Header.Set("Authorization", authorization)
		return r
	}
	none := with(config.Config{})
	for path, want := range map[string]bool{
		"/xrpc/com.atproto.server.createSession": false, "/xrpc/com.atproto.server.refreshSession": false, "/xrpc/com.atproto.server.deleteSession": false,
		"/xrpc/com.atproto.server.createAccount": false, "/xrpc/com.atproto.admin.getAccountInfo": false, "/oauth/token": false, "/oauth/revoke": false,
		"/admin/accounts": false, "/xrpc/com.atproto.server.getSession": true, "/xrpc/app.bsky.feed.getTimeline": true, "/account": true,
		"/xrpc/com.atproto.server.createSessions": true, "/administrator": true,
	} {
		if got := none(ask(path, "Bearer x")); got != want {
			t.Errorf("%s: left out %t, want %t", path, got, want)
		}
	}
	for _, basic := range []string{"Basic YWRtaW46eA==", "basic YWRtaW46eA=="} {
		if none(ask("/xrpc/com.atproto.server.createInviteCode", basic)) {
			t.Errorf("%s: the admin's request is left out", basic)
		}
	}
	some, skipped := with(config.Config{LogSample: 0.25}), 0
	for range 10_000 {
		if some(ask("/xrpc/com.atproto.server.getSession", "")) {
			skipped++
		}
	}
	if skipped < 7000 || skipped > 8000 {
		t.Errorf("%d of 10,000 were left out, want about 7,500", skipped)
	}
}

// TestShownNetwork: a crowded network is shown as PDS_LOG_CLIENT allows.
func TestShownNetwork(t *testing.T) {
	for _, c := range []struct{ shown, network, want string }{
		{"full", "192.0.2.7", "192.0.2.7"},
		{"network", "192.0.2.7", "192.0.2.0/24"},
		{"none", "192.0.2.7", ""},
		{"full", "2001:db8:1::/48", "2001:db8:1::/48"},
		{"network", "2001:db8:1::/48", "2001:db8:1::/48"},
		{"none", "2001:db8:1::/48", ""},
	} {
		s := &Server{opts: Options{Config: config.Config{LogClient: c.shown}}}
		if got := s.shownNetwork(c.network); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.shown, c.network, got, c.want)
		}
	}
}
