package proxy

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"nestbox/internal/safehttp"
)

// TestStrangers: a host that a client names is reached by https at a public address alone,
// outside of development; one that the operator chose is reached wherever it is.
func TestStrangers(t *testing.T) {
	s := New(Settings{URL: "https://pds.example.com"}, Parts{Now: time.Now})
	t.Cleanup(s.Close)
	for url, allowed := range map[string]bool{
		"http://127.0.0.1:1": false, "https://127.0.0.1": false, "https://10.0.0.1": false, "https://[::1]": false, "https://169.254.169.254": false,
		"http://service.example.com": false, "https://service.example.com:22": false, "https://service.invalid:8443": true,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.strangers.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Fatalf("%s answered", url)
		}
		if refused := errors.Is(err, safehttp.ErrForbidden); refused == allowed {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestOrigins: two spellings of one origin are one, so that this server knows itself.
func TestOrigins(t *testing.T) {
	for endpoint, want := range map[string]string{
		"https://PDS.example.com": "https://pds.example.com", "https://pds.example.com:443/": "https://pds.example.com", "http://pds.example.com:80": "http://pds.example.com",
		"https://pds.example.com:8443": "https://pds.example.com:8443", "https://pds.example.com:": "https://pds.example.com",
		"": "", "https://": "", "http://:": "", "https://:443": "", "ftp://pds.example.com": "", "https://pds.example.com/x": "", "https://pds.example.com?": "", "https://pds.example.com#": "", "https://me@pds.example.com": "",
	} {
		if got, ok := serviceOrigin(endpoint); got != want || ok != (want != "") {
			t.Errorf("%q: %q %t, want %q", endpoint, got, ok, want)
		}
	}
}

// TestBreakers: ten failures in a row within ten seconds end calls for five seconds; then
// one call tries.
func TestBreakers(t *testing.T) {
	const a, b = "https://a.example.com", "https://b.example.com"
	var all breakers
	now := time.Unix(1_800_000_000, 0)
	fail := func(origin string, n int) {
		for range n {
			all.done(origin, now, now, silent)
		}
	}
	fail(a, 9)
	if all.done(a, now, now, unknown); !all.admit(a, true, now) {
		t.Error("broken too early")
	}
	all.done(a, now, now, answered)
	fail(a, 9)
	if !all.admit(a, true, now) {
		t.Error("an answer between failures does not count")
	}
	now = now.Add(11 * time.Second)
	fail(a, 9)
	if !all.admit(a, true, now) {
		t.Error("failures that are long ago count")
	}
	fail(a, 1)
	if all.admit(a, true, now) || all.admit(a, true, now.Add(4*time.Second)) {
		t.Error("not broken")
	}
	if !all.admit(b, true, now) {
		t.Error("another origin is broken too")
	}
	now = now.Add(5 * time.Second)
	if first, second := all.admit(a, true, now), all.admit(a, true, now); !first || second {
		t.Error("not one call tries")
	}
	all.done(a, now, now, unknown) // it told nothing: the next one tries
	if !all.admit(a, true, now) {
		t.Error("after a call that told nothing, none tries")
	}
	fail(a, 1)
	if all.admit(a, true, now.Add(4*time.Second)) {
		t.Error("not broken again")
	}
	now = now.Add(5 * time.Second)
	if !all.admit(a, true, now) {
		t.Error("no call tries again")
	}
	all.done(a, now, now, answered)
	first, second := all.admit(a, true, now), all.admit(a, true, now)
	if !first || !second {
		t.Error("still broken after an answer")
	}
	// A slow call tells nothing of a service that answers others meanwhile.
	began := now
	now = now.Add(time.Second)
	all.done(a, began, now, answered)
	for range 20 {
		all.done(a, began, now, silent)
	}
	if !all.admit(a, true, now) {
		t.Error("slow calls broke a service that answers")
	}
	// Only a call whose length no client decides may try again.
	fail(b, 10)
	now = now.Add(6 * time.Second)
	if all.admit(b, false, now) || !all.admit(b, true, now) {
		t.Error("a call with a body tries, or one without does not")
	}
	for i := range 3 * maxBreakers {
		all.done(string(rune(i)), now, now, silent)
	}
	if len(all.of) > maxBreakers {
		t.Errorf("%d origins are remembered", len(all.of))
	}
}
