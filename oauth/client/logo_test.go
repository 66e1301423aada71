package client_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"nestbox/oauth/client"
)

// TestLogo: a trusted client's picture is fetched once a day, is what its bytes are, and goes
// on while its host is down. What is no picture that runs nothing is none; others have none.
func TestLogo(t *testing.T) {
	t.Parallel()
	const (
		trusted, logo = "https://trusted.example.com/client.json", "https://cdn.example.com/logo"
		png           = "\x89PNG\r\n\x1a\n picture"
	)
	w := newWorld(t)
	of := func(id string) string {
		return jsonOf(metadata(map[string]any{"client_id": id, "logo_uri": logo, "client_name": "Trusted"}))
	}
	w.serve(trusted, answer{body: of(trusted)})
	w.serve(appID, answer{body: of(appID)})
	missing := func(what, id string) {
		t.Helper()
		if got, err := w.Logo(t.Context(), id); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	shown := func(what, kind, body string) {
		t.Helper()
		if got, err := w.Logo(t.Context(), trusted); err != nil || got.Type != kind || string(got.Body) != body {
			t.Errorf("%s: %s %q, %v", what, got.Type, got.Body, err)
		}
	}
	if c, err := w.Known(t.Context(), trusted); c != nil || err != nil {
		t.Errorf("before anybody has asked: %v, %v", c, err)
	}
	for what, a := range map[string]answer{
		"nothing": {status: http.StatusNotFound}, "redirect": {status: http.StatusFound, header: map[string]string{"Location": "https://127.0.0.1/"}},
		"unreachable": {err: errors.New("no route")}, "too large": {body: png + strings.Repeat("x", 256<<10)}, "empty": {},
		"SVG":  {body: `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`, header: map[string]string{"Content-Type": "image/svg+xml"}},
		"SVG2": {body: `<?xml version="1.0"?><svg/>`, header: map[string]string{"Content-Type": "image/png"}},
		"page": {body: "<!doctype html><script>alert(1)</script>", header: map[string]string{"Content-Type": "image/png"}},
	} {
		w.serve(logo, a)
		missing(what, trusted)
		if n := w.fetched(logo); n != 1 {
			t.Errorf("%s: asked %d times", what, n)
		}
		missing(what+", again", trusted)
		if n := w.fetched(logo); n != 0 {
			t.Errorf("%s: a failure is tried again at once", what)
		}
		w.pass(10 * time.Minute)
	}
	w.serve(logo, answer{body: png, header: map[string]string{"Content-Type": "text/html"}})
	for range 3 {
		shown("a picture", "image/png", png)
	}
	if n := w.fetched(logo); n != 1 {
		t.Errorf("asked %d times", n)
	}
	w.serve(logo, answer{status: http.StatusInternalServerError})
	w.pass(25 * time.Hour)
	shown("its host is down", "image/png", png)
	if n := w.fetched(logo); n != 1 {
		t.Errorf("a day later: asked %d times", n)
	}
	missing("a client that is not trusted", appID)
	missing("nobody", "https://nobody.example.com/client.json")
	if n := w.fetched(logo); n != 0 {
		t.Error("a logo was fetched that is not shown")
	}
	if c, err := w.Known(t.Context(), trusted); err != nil || c == nil || c.Name != "Trusted" || !c.Trusted {
		t.Errorf("known: %+v, %v", c, err)
	}
}
