package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"nestbox/faults/findings"
	"nestbox/internal/costtest"
)

// TestDigest: nobody can try passwords on what is shown of a call.
func TestDigest(t *testing.T) {
	t.Parallel()
	digests := map[string]bool{}
	for range 2 {
		f := &Faults{}
		if _, err := f.Handler(http.NotFoundHandler(), Inside{URL: "http://example.com", Now: time.Now, Log: slog.New(slog.DiscardHandler)}); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/xrpc/"+createSession, strings.NewReader(`{"identifier":"a.test","password":"secret"}`))
		r.Header.Set("Content-Type", "application/json")
		digests[f.begin(r, look(r)).Digest] = true
	}
	if len(digests) != 2 {
		t.Errorf("two servers show %v", digests)
	}
}

// TestCaller: a program is known by its connection; tabs of a browser, and what comes through a proxy, are
// not told apart.
func TestCaller(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header, value string
		known         bool
	}{
		"a program":    {"User-Agent", "my-app/1.0", true},
		"a browser":    {"User-Agent", "Mozilla/5.0 (X11; Linux x86_64)", false},
		"a page":       {"Origin", "http://localhost:3000", false},
		"its own site": {"Sec-Fetch-Site", "same-origin", false},
		"a proxy":      {"X-Forwarded-For", "192.0.2.7", false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/xrpc/_health", nil)
		r.Header.Set(c.header, c.value)
		if caller := callerOf(r); (caller != "") != c.known {
			t.Errorf("%s: %q", name, caller)
		}
	}
}

// TestGave: an answer says whose session it is, and leaves who asked as the request had it.
func TestGave(t *testing.T) {
	t.Parallel()
	now := time.Now()
	n := &findings.Call{At: now, Account: "alice.test"}
	gave(n, &given{Access: &claims{Sub: "did:plc:a", SID: "1-a", IAT: 100, EXP: 120}, Refresh: &claims{SID: "1-a", JTI: "1-a.0"}})
	if n.Account != "alice.test" || n.DID != "did:plc:a" || !n.Expires.Equal(time.Unix(120, 0)) {
		t.Errorf("%+v", n)
	}
	gave(n, &given{Access: &claims{ClientID: "x", IAT: 100, EXP: 120}, Refresh: &claims{SID: "1-a", JTI: "1-a.0"}})
	if !n.Expires.Equal(now.Add(20 * time.Second)) { // expires_in
		t.Errorf("OAuth: %+v", n)
	}
}

// TestMovedHost: a handle that is hosted here is a host of its own, and so is any for /.well-known/.
func TestMovedHost(t *testing.T) {
	t.Parallel()
	f := &Faults{}
	run := func(_ context.Context, _ string, args, result any) error {
		if who, ok := args.(map[string]string); !ok || who["account"] != "alice.test" {
			return errors.New("no such account")
		}
		return json.Unmarshal([]byte(`{"handle":"alice.test"}`), result)
	}
	if _, err := f.Handler(http.NotFoundHandler(), Inside{URL: "http://pds.test", Now: time.Now, Run: run}); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]bool{
		"http://alice.test/xrpc/_health": false, "http://old.test/.well-known/atproto-did": false, "http://old.test/xrpc/_health": true,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if moved := f.movedBy(r, look(r)); (moved != "") != want {
			t.Errorf("%s: %q", url, moved)
		}
	}
}

// TestBound: what is kept is bounded in calls and in bytes, and the newest stay.
func TestBound(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxText)
	for name, c := range map[string]findings.Call{
		"long":  {Client: long, ClientID: long, Account: long, DID: long, Handle: long, Session: long, Method: long, Error: long, Moved: long},
		"short": {Method: "a"},
	} {
		r := &recorder{}
		most := 0
		for i := range maxCalls + 10 {
			c.Generation = int64(i)
			r.add(c)
			most = max(most, r.bytes)
		}
		sum := 0
		for i := range r.calls {
			sum += sizeOf(&r.calls[i])
		}
		if sum != r.bytes || most > maxBytes || len(r.calls) > maxCalls/2+10 || r.calls[len(r.calls)-1].Generation != maxCalls+9 {
			t.Errorf("%s: %d calls of %d bytes, counted %d, at most %d", name, len(r.calls), sum, r.bytes, most)
		}
	}
}

// TestShort: a request decides over a bounded part of what is kept of it.
func TestShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 60<<10)
	s := newStage(t, 400, `{"error":"`+long+`"}`)
	s.call("app."+long, `{"client_id":"`+long+`","identifier":"`+long+`"}`, "User-Agent", long,
		"Authorization", "Bearer "+jwt(`{"typ":"at+jwt"}`, `{"sub":"did:plc:`+long+`","sid":"`+long+`","client_id":"`+long+`"}`))
	if got := s.f.recorder.bytes; len(s.f.recorder.calls) != 1 || got > 4<<10 {
		t.Errorf("%d bytes of %d calls", got, len(s.f.recorder.calls))
	}
}

// TestReportCost: twice as many clients take twice as long to count.
func TestReportCost(t *testing.T) {
	costtest.Linear(t, 8000, func(n int) func() {
		calls := make([]findings.Call, n)
		for i := range calls {
			calls[i].Client = fmt.Sprint("app/", i)
		}
		return func() { counted(calls) }
	})
}
