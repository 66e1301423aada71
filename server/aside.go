package server

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// asideTimeout bounds an answer of the operator's port: a profile takes as long as it is asked to.
const asideTimeout = 10 * time.Minute

// openAside listens on PDS_METRICS_LISTEN; without it there is nothing aside.
func (s *Server) openAside(ctx context.Context) (err error) {
	at := s.opts.Config.MetricsListen
	if at == "" || !s.opts.Listen {
		return nil
	}
	var lc net.ListenConfig
	if !filepath.IsAbs(at) {
		s.aside, err = lc.Listen(ctx, "tcp", at)
	} else if err = removeSocket(at); err == nil {
		if s.aside, err = lc.Listen(ctx, "unix", at); err == nil {
			err = os.Chmod(at, 0o660) //nolint:gosec // a group may be let in
		}
	}
	if err != nil {
		return fmt.Errorf("PDS_METRICS_LISTEN: %w", err)
	}
	return nil
}

// asideAddr returns where the operator's tools ask, "" if nowhere.
func (s *Server) asideAddr() string {
	if s.aside == nil {
		return ""
	}
	return s.aside.Addr().String()
}

// removeSocket removes the socket of a server that has ended, and nothing else.
func removeSocket(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there, and is no socket", path)
	}
	return os.Remove(path)
}

// asideHandler returns what the operator's own tools ask.
func (s *Server) asideHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.Handler())
	mux.HandleFunc("GET /livez", answer(s.health.Live))
	mux.HandleFunc("GET /readyz", answer(s.health.Ready))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.asideAdmits(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="nestbox"`)
			http.Error(w, "PDS_METRICS_TOKEN is needed here", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// asideAdmits reports whether a request may ask: one with the token, or one from this machine
// that no proxy passed on, and no browser sends for another site: that has that site's name in
// Host, whatever address it was made to believe in.
func (s *Server) asideAdmits(r *http.Request) bool {
	if token := s.opts.Config.MetricsToken; token.IsSet() {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if ok && subtle.ConstantTimeCompare([]byte(given), []byte(token.Reveal())) == 1 {
			return true
		}
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	if filepath.IsAbs(s.opts.Config.MetricsListen) {
		return true // its mode decides
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err = netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host == "localhost"
}

// asideServer returns the server of the operator's port. Its requests are none of those that a
// stop waits for.
func (s *Server) asideServer() *http.Server {
	limit := s.opts.Timeouts
	return &http.Server{
		Handler: s.asideHandler(), ReadHeaderTimeout: limit.Header, ReadTimeout: limit.Request, WriteTimeout: asideTimeout,
		IdleTimeout: limit.Idle, MaxHeaderBytes: maxHeaderBytes, ErrorLog: s.httpLog(),
	}
}
