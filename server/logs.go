package server

import (
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"

	"nestbox/request"
)

// newFront returns what stands before every handler.
func (s *Server) newFront() *request.Front {
	c := &s.opts.Config
	return &request.Front{
		TrustedProxies: c.TrustedProxies, Shown: request.Shown(c.LogClient), Skip: s.skipLine(), Unlimited: s.unlimited,
		Ended: s.ended(), Log: s.opts.Log, Now: s.opts.Now,
	}
}

// skipLine returns what decides which requests are left out of the log for PDS_LOG_SAMPLE, nil if
// none is.
func (s *Server) skipLine() func(*http.Request) bool {
	share := s.opts.Config.LogSample
	if share >= 1 {
		return nil
	}
	return func(r *http.Request) bool {
		return !alwaysLogged(r) && rand.Float64() >= share //nolint:gosec // no secret
	}
}

// alwaysLogged reports whether a request is one of those that explain why somebody was signed out,
// or what was done with the operator's rights.
func alwaysLogged(r *http.Request) bool {
	path := r.URL.Path
	switch path {
	case "/xrpc/com.atproto.server.createAccount", "/xrpc/com.atproto.server.createSession", "/xrpc/com.atproto.server.refreshSession",
		"/xrpc/com.atproto.server.deleteSession", "/oauth/token", "/oauth/revoke":
		return true
	}
	const basic = "basic "
	given := r.Header.Get("Authorization")
	return strings.HasPrefix(path, "/xrpc/com.atproto.admin.") || strings.HasPrefix(path, "/admin/") ||
		len(given) >= len(basic) && strings.EqualFold(given[:len(basic)], basic)
}

// shownNetwork returns what the log has of a network, an IPv4 address or an IPv6 /48.
func (s *Server) shownNetwork(network string) string {
	shown := request.Shown(s.opts.Config.LogClient)
	if addr, err := netip.ParseAddr(network); err == nil {
		return shown.Of(addr)
	}
	if shown == request.ShownNone {
		return ""
	}
	return network
}

// httpLog returns the log of the HTTP servers, whose lines have addresses of clients.
func (s *Server) httpLog() *log.Logger {
	h := s.opts.Log.Handler()
	if request.Shown(s.opts.Config.LogClient) != request.ShownFull {
		h = slog.DiscardHandler
	}
	return slog.NewLogLogger(h, slog.LevelDebug)
}
