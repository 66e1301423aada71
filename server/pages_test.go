package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"nestbox/config"
)

// openForTest opens a server that does not listen: requests go to its handler.
func openForTest(t *testing.T) *Server {
	t.Helper()
	c, _, err := config.Load(config.Flags{Listen: "127.0.0.1:0", Data: t.TempDir(), Dev: true}, []string{"PDS_RATE_LIMITS_ENABLED=true"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Config: c, Version: "test", Log: slog.New(slog.DiscardHandler), Now: time.Now, Listen: true, DevMail: io.Discard, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask sends a request from a network to a handler.
func ask(ctx context.Context, h http.Handler, verb, path, from string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, verb, path, http.NoBody)
	r.RemoteAddr = from + ":1234"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// routesForTest returns all paths that the server knows, and some that it does not.
func (s *Server) routesForTest() map[string]bool {
	paths := map[string]bool{"/nothing": true, "//": true, "/xrpc/com.example.nothing": true, "/xrpc/nonsense": true, "/": true}
	for _, p := range s.pages() {
		paths[p.path] = true
	}
	for _, r := range s.site.Routes {
		paths[strings.ReplaceAll(r.Path, "{did}", "did:plc:nobody")] = true
	}
	for nsid := range s.xrpc.Methods {
		paths["/xrpc/"+nsid] = true
	}
	return paths
}

// TestEveryRouteCounts: every route, known or not and with any method, counts
// against the limit of its client's network, and is refused once nothing is left.
// Only a health check from the machine itself is still answered.
func TestEveryRouteCounts(t *testing.T) {
	s := openForTest(t)
	h := s.handler()
	const network = "192.0.2.1"
	for path := range s.routesForTest() {
		for _, verb := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
			if w := ask(t.Context(), h, verb, path, network); w.Header().Get("RateLimit-Limit") == "" {
				t.Errorf("%s %s is not counted: %d %v", verb, path, w.Code, w.Header())
			}
		}
	}
	for range everything.Points {
		if w := ask(t.Context(), h, http.MethodGet, "/robots.txt", network); w.Code == http.StatusTooManyRequests {
			break
		}
	}
	for path := range s.routesForTest() {
		if path == "/xrpc/com.atproto.sync.getRepo" {
			continue // has a limit of its own
		}
		w := ask(t.Context(), h, http.MethodGet, path, network)
		wait, err := strconv.Atoi(w.Header().Get("Retry-After"))
		if w.Code != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 300 {
			t.Errorf("%s at the limit: %d %v", path, w.Code, w.Header())
		}
		if w := ask(t.Context(), h, http.MethodGet, path, "192.0.2.2"); w.Code == http.StatusTooManyRequests {
			t.Errorf("%s: another network is refused", path)
		}
	}
	for range everything.Points + 1 {
		if w := ask(t.Context(), h, http.MethodGet, "/xrpc/_health", "127.0.0.1"); w.Code != http.StatusOK {
			t.Fatalf("health check from loopback: %d %s", w.Code, w.Body)
		}
	}
}

// TestSurfaces: other sites can read what is for programs, and nothing else; no
// preflight succeeds for them either, after which a browser would send what they
// like.
func TestSurfaces(t *testing.T) {
	s := openForTest(t)
	h := s.handler()
	for _, p := range append(s.pages(), page{path: "/nothing", surface: api}, page{path: "//", surface: api}) {
		path := p.path
		want, preflight := "", http.StatusMethodNotAllowed
		if p.surface == api {
			want, preflight = "*", http.StatusNoContent
		}
		for verb, status := range map[string]int{http.MethodGet: 0, http.MethodHead: 0, http.MethodOptions: preflight, http.MethodDelete: http.StatusMethodNotAllowed} {
			if path == "/xrpc/_health" && verb == http.MethodDelete {
				status = http.StatusBadRequest // XRPC's answer
			}
			w := ask(t.Context(), h, verb, path, "192.0.2.1")
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != want || status != 0 && w.Code != status {
				t.Errorf("%s %s: %d, Access-Control-Allow-Origin %q, want %d, %q", verb, path, w.Code, got, status, want)
			}
		}
	}
}

// TestPagePanics: a page that panics is a 500, and the server goes on.
func TestPagePanics(t *testing.T) {
	s := openForTest(t)
	h := s.front.Handler(s.mount(page{path: "/panics", serve: func(http.ResponseWriter, *http.Request) { panic(errors.New("in the kitchen")) }}))
	if w := ask(t.Context(), h, http.MethodGet, "/panics", "192.0.2.1"); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "kitchen") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
