package server

import (
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"

	"nestbox/request"
)

// noticeProxy warns, once, that requests come through a proxy that is not
// configured: all its clients then count as one, and share one rate limit. Only a
// nearby peer is taken for a proxy; anybody can send the header.
func (s *Server) noticeProxy(next http.Handler) http.Handler {
	var said atomic.Bool
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header["X-Forwarded-For"]) > 0 {
			peer := request.ClientAddr(r, nil)
			if (peer.IsLoopback() || peer.IsPrivate()) && !s.trusts(peer) && !said.Swap(true) {
				s.opts.Log.LogAttrs(r.Context(), slog.LevelWarn, "requests come through a proxy that PDS_TRUSTED_PROXIES does not name: "+
					"all clients share its rate limit", slog.String("proxy", peer.String()))
			}
		}
		next.ServeHTTP(w, r)
	})
}

// trusts reports whether a peer is one of the operator's proxies.
func (s *Server) trusts(peer netip.Addr) bool {
	return slices.ContainsFunc(s.opts.Config.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(peer) })
}
