package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"nestbox/web"
)

// TestSite: each route of the pages for people, and each path beside them, has the same
// defences, whatever is asked: no other site reads or posts anything.
func TestSite(t *testing.T) {
	s := openForTest(t)
	h := s.handler()
	paths := []web.Route{{Path: "/account/nothing"}, {Path: "/account/u/did:plc:nobody/nothing"}, {Path: "/account//sign-in"}, {Path: "/account/../account"}}
	n := 0
	for _, r := range append(paths, s.site.Routes...) {
		path := strings.ReplaceAll(r.Path, "{did}", "did:plc:ewvi7nxzyoun6zhxrhs64oiz")
		if strings.HasSuffix(path, "/") {
			path += "nothing"
		}
		for _, verb := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions, http.MethodPut, http.MethodDelete} {
			for name, set := range foreign() {
				n++
				q := httptest.NewRequestWithContext(t.Context(), verb, path, strings.NewReader("decision=confirm&csrf=x"))
				q.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", n%250) // each counts against a limit
				q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				set(q.Header)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, q)
				checkDefences(t, verb+" "+path+" from "+name, w.Header())
				switch known := r.Get != nil || r.Post != nil; {
				case !known && w.Code != http.StatusNotFound, known && verb == http.MethodPost && r.Post != nil && w.Code != http.StatusForbidden,
					known && verb == http.MethodPost && r.Post == nil && w.Code != http.StatusMethodNotAllowed,
					known && (verb == http.MethodPut || verb == http.MethodOptions || verb == http.MethodDelete) && w.Code != http.StatusMethodNotAllowed:
					t.Errorf("%s %s from %s: %d", verb, path, name, w.Code)
				}
				if w.Header().Get("Set-Cookie") != "" {
					t.Errorf("%s %s from %s sets %s", verb, path, name, w.Header().Get("Set-Cookie"))
				}
			}
		}
	}
}

// foreign are the headers of requests that no form of ours makes.
func foreign() map[string]func(http.Header) {
	return map[string]func(http.Header){
		"nowhere":               func(http.Header) {},
		"another origin":        func(h http.Header) { h.Set("Origin", "https://evil.example") },
		"a null origin":         func(h http.Header) { h.Set("Origin", "null") },
		"two origins":           func(h http.Header) { h["Origin"] = []string{"http://localhost", "https://evil.example"} },
		"another site":          func(h http.Header) { h.Set("Sec-Fetch-Site", "cross-site") },
		"another host of ours":  func(h http.Header) { h.Set("Sec-Fetch-Site", "same-site") },
		"the address bar":       func(h http.Header) { h.Set("Sec-Fetch-Site", "none") },
		"two sites":             func(h http.Header) { h["Sec-Fetch-Site"] = []string{"same-origin", "cross-site"} },
		"one that says nothing": func(h http.Header) { h.Set("Sec-Fetch-Site", "") },
	}
}

// checkDefences checks the headers that every answer of the pages has.
func checkDefences(t *testing.T, what string, h http.Header) {
	t.Helper()
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("%s: %s: %s", what, name, h.Get(name))
		}
	}
	if !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: headers %v", what, h)
	}
}
