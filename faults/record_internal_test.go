package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"nestbox/faults/findings"
	"nestbox/internal/costtest"
	"nestbox/repo"
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

// TestBodies: a body is looked at also if its length is not known ahead, up to a bound that no method's body
// exceeds; the server gets all of it.
func TestBodies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size    int
		chunked bool
		known   bool
	}{
		"small": {100, false, true}, "chunked": {100, true, true}, "large": {repo.MaxWriteBody, false, true},
		"large and chunked": {repo.MaxWriteBody, true, true}, "too large": {maxMembers + 1, false, false}, "too large, in chunks": {maxMembers + 1, true, false},
	} {
		body := `{"repo":"a.test","text":""}`
		body = strings.Replace(body, `""`, `"`+strings.Repeat("x", c.size-len(body))+`"`, 1)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/xrpc/com.atproto.repo.createRecord", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if c.chunked {
			r.ContentLength = -1
		}
		known := look(r)
		digest := (&recorder{}).digest(r, known, true)
		if whole, err := io.ReadAll(r.Body); err != nil || string(whole) != body || (digest != "") != c.known || (known.texts["repo"] == "a.test") != c.known {
			t.Errorf("%s: %d of %d bytes, digest %q, repo %q, %v", name, len(whole), len(body), digest, known.texts["repo"], err)
		}
	}
}

// TestAssertion: a request of OAuth stays the same with another client_assertion, and with nothing else.
func TestAssertion(t *testing.T) {
	t.Parallel()
	digest := func(form string) string {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, oauthToken, strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return (&recorder{}).digest(r, look(r), false)
	}
	first := digest("grant_type=refresh_token&refresh_token=a&client_assertion=x")
	if again := digest("grant_type=refresh_token&refresh_token=a&client_assertion=y"); again != first {
		t.Error("another assertion is another request")
	}
	if next := digest("grant_type=refresh_token&refresh_token=b&client_assertion=x"); next == first {
		t.Error("another token is the same request")
	}
}

// TestReads: a client looks at a repository by any method that shows records or the newest commit.
func TestReads(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"com.atproto.repo.listRecords?repo=a.test":   "a.test",
		"com.atproto.sync.getLatestCommit?did=did:a": "did:a",
		"com.atproto.sync.getHead?did=did:a":         "did:a",
		"com.atproto.sync.getCheckout?did=did:a":     "did:a",
		"com.atproto.sync.listRepos":                 "*",
		"com.atproto.server.getSession":              "",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/xrpc/"+path, nil)
		if got := reads(r, look(r)); got != want {
			t.Errorf("%s reads %q", path, got)
		}
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
	now, f := time.Now(), &Faults{}
	n := &findings.Call{At: now, Account: "alice.test"}
	f.gave(n, &given{Access: &claims{Sub: "did:plc:a", SID: "1-a", IAT: 100, EXP: 120}, Refresh: &claims{SID: "1-a", JTI: "1-a.0", EXP: 900}})
	if n.Account != "alice.test" || n.DID != "did:plc:a" || !n.Expires.Equal(time.Unix(120, 0)) || !n.Ends.Equal(time.Unix(900, 0)) {
		t.Errorf("%+v", n)
	}
	f.gave(n, &given{Access: &claims{ClientID: "x", IAT: 100, EXP: 120}, Refresh: &claims{SID: "1-a", JTI: "1-a.0"}})
	if !n.Expires.Equal(now.Add(20 * time.Second)) { // expires_in
		t.Errorf("OAuth: %+v", n)
	}
}

// TestMovedHost: only a handle that the caller's account had before is a host that has moved, and only once
// an answer has said so.
func TestMovedHost(t *testing.T) {
	t.Parallel()
	s := newStage(t, 200, `{"did":"did:plc:a","handle":"new.test"}`)
	token := jwt(`{"typ":"at+jwt"}`, `{"sub":"did:plc:a","sid":"c-x"}`)
	s.f.recorder.named("did:plc:a", "old.test")
	call := func(method, host string) *findings.Call {
		s.call(method, "", "Authorization", "Bearer "+token, "Host", host)
		calls := s.f.recorder.calls
		return &calls[len(calls)-1]
	}
	const read = "app.bsky.feed.getTimeline"
	if c := call(read, "old.test"); c.Moved != "" {
		t.Errorf("nobody has told: %+v", c)
	}
	told := call("com.atproto.server.getSession", "old.test").End
	call("com.atproto.server.getSession", "new.test") // the first answer counts
	for host, want := range map[string]string{
		"old.test": "the handle old.test, which is new.test now", "OLD.test:2583": "the handle OLD.test, which is new.test now",
		"new.test": "", "docker-host": "", "pds.internal:2583": "", "localhost": "", "127.0.0.1:2583": "",
	} {
		if c := call(read, host); c.Moved != want || want != "" && !c.Told.Equal(told) {
			t.Errorf("%s: %+v", host, c)
		}
	}
	for now, moved := range map[string]bool{"did:plc:a": true, "did:plc:b": false} {
		s.accounts = map[string]string{"old.test": now}
		if c := call(read, "old.test"); (c.Moved != "") != moved {
			t.Errorf("%s has it now: %+v", now, c)
		}
	}
}

// TestUnsafe: a call is unsafe if any part of it is done twice.
func TestUnsafe(t *testing.T) {
	t.Parallel()
	const create, update = `{"$type":"com.atproto.repo.applyWrites#create"`, `{"$type":"com.atproto.repo.applyWrites#update","rkey":"a"}`
	for body, want := range map[string]bool{
		`{"writes":[` + create + `}]}`:                            true,
		`{"writes":[` + create + `,"rkey":"a"}]}`:                 false,
		`{"writes":[` + create + `,"rkey":"a"},` + create + `}]}`: true,
		`{"writes":[` + update + `,` + create + `}]}`:             true,
		`{"writes":[` + update + `]}`:                             false,
		`{"writes":[` + create + `,"value":{"rkey":"a"}}]}`:       true,
		`{"swapCommit":"x","writes":[` + create + `}]}`:           false,
		`{"writes":"none"}`:                                       false,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/xrpc/com.atproto.repo.applyWrites", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if got := unsafe(r, look(r)); got != want {
			t.Errorf("%s: %t", body, got)
		}
	}
}

// TestSessionNames: calls and findings have one name of a session, its number in it, and nothing else that
// a token has.
func TestSessionNames(t *testing.T) {
	t.Parallel()
	s := newStage(t, 200, pairOf())
	token := "Bearer " + jwt(`{"typ":"refresh+jwt"}`, `{"sub":"did:plc:a","sid":"c-x","jti":"c-x.0"}`)
	s.call(refreshSession, "", "Authorization", token)              // named by the answer
	s.call("app.bsky.feed.getTimeline", "", "Authorization", token) // the wrong token
	report, err := s.f.report(t.Context(), ReportArgs{})
	if err != nil || len(report.Clients) != 1 || len(report.Clients[0].Findings) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	calls, found := s.f.recorder.calls, report.Clients[0].Findings[0]
	if found.SessionNumber != 12 || found.Session != calls[0].Session || found.Session != calls[1].Session {
		t.Errorf("%+v of %+v", found, calls)
	}
	if raw, err := json.Marshal([]any{calls, report}); err != nil || strings.Contains(string(raw), "c-x") {
		t.Errorf("%s, %v", raw, err)
	}
}

// TestNews: a watch shows a finding once in a record, and one that a later call may take back when it is settled.
func TestNews(t *testing.T) {
	t.Parallel()
	now := time.Now()
	call := func(after time.Duration, session string, c findings.Call) findings.Call {
		c.At, c.End, c.Session, c.Account, c.DID = now.Add(after), now.Add(after), session, "did:plc:a", "did:plc:a"
		return c
	}
	in := findings.Call{Purpose: findings.SignIn, Generation: findings.None, Status: 200}
	refresh := findings.Call{Purpose: findings.Refresh, Token: findings.RefreshToken, Given: findings.None, Status: 503}
	const s = time.Second
	r := &recorder{}
	record := func() {
		r.add(call(0, "1", in))
		r.add(call(s, "1", refresh))
		r.add(call(4*s, "2", in))
	}
	record()
	n := news{recorder: r}
	for _, step := range []struct {
		after time.Duration
		shown int
		waits bool
	}{{5 * s, 0, true}, {64 * s, 1, false}, {65 * s, 0, false}} {
		if got := n.next(now.Add(step.after)); len(got) != step.shown || n.waits != step.waits {
			t.Errorf("%s: %v, waits %t", step.after, got, n.waits)
		}
	}
	r.clear()
	record()
	if got := n.next(now.Add(65 * s)); len(got) != 1 {
		t.Errorf("in a new record: %v", got)
	}
	refresh.Status, refresh.Given = 200, 1
	r.add(call(7*s, "1", refresh))
	n = news{recorder: r}
	if got := n.next(now.Add(65 * s)); len(got) != 0 || n.waits {
		t.Errorf("the session goes on: %v, waits %t", got, n.waits)
	}
}

// TestNewsAgain: what comes again is shown again, with how often, and a moment later at the earliest; also what had
// come before the watch began.
func TestNewsAgain(t *testing.T) {
	t.Parallel()
	now, r := time.Now(), &recorder{}
	const s = time.Second
	wrong := func(after time.Duration) {
		at := now.Add(after)
		r.add(findings.Call{At: at, End: at, Session: "1", Method: "getSession", Token: findings.RefreshToken, Generation: findings.None, Given: findings.None, Status: 400})
	}
	wrong(0)
	early := news{recorder: r}
	if got := early.next(now); len(got) != 1 || got[0].again != 0 {
		t.Errorf("at first: %+v", got)
	}
	late := news{recorder: r}
	late.skip(now)
	for i := range 1000 {
		wrong(s + time.Duration(i)*time.Millisecond)
	}
	check := func(name string, n *news, after time.Duration, again int, newest string, waits bool) {
		t.Helper()
		got := n.next(now.Add(after))
		switch {
		case n.waits != waits, (len(got) == 1) != (again > 0):
			t.Errorf("%s: %+v, waits %t", name, got, n.waits)
		case again > 0 && (got[0].again != again || len(got[0].Evidence) != 1 || !strings.HasPrefix(got[0].Evidence[0], newest)):
			t.Errorf("%s: %+v", name, got)
		}
	}
	stamp := func(after time.Duration) string { return now.Add(after).Format("15:04:05.000") }
	check("a moment later", &early, 3*s, 0, "", true)
	check("by one who came later", &late, 3*s, 1000, stamp(1999*time.Millisecond), false)
	check("later", &early, pauseOfNews, 1000, stamp(1999*time.Millisecond), false)
	wrong(12 * s)
	check("once more", &late, 13*s, 1, stamp(12*s), false)
	check("nothing new", &late, time.Minute, 0, "", false)
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
