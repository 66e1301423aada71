package faults

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nestbox/faults/findings"
)

// stage is a server behind faults that answers each call with one status and body.
type stage struct {
	f      *Faults
	h      http.Handler
	status int
	on     func() // what happens in the middle of a call
	// accounts are DIDs by any name.
	accounts map[string]string
	log      bytes.Buffer
	t        *testing.T
}

func newStage(t *testing.T, status int, body string, all ...Fault) *stage {
	t.Helper()
	s := &stage{f: &Faults{}, status: status, on: func() {}, t: t}
	h, err := s.f.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.on()
		w.WriteHeader(s.status)
		_, _ = w.Write([]byte(body))
	}), Inside{URL: "http://example.com", Now: time.Now, Log: slog.New(slog.NewTextHandler(&s.log, nil)), Run: s.run})
	if err != nil {
		t.Fatal(err)
	}
	s.h = h
	s.f.set(&Plan{Faults: all})
	return s
}

// run knows accounts by their names, and does nothing else.
func (s *stage) run(_ context.Context, name string, args, result any) error {
	asked, _ := args.(map[string]string)
	did := s.accounts[asked["account"]]
	if name != "account.info" || did == "" {
		return errors.New("no such account")
	}
	return json.Unmarshal([]byte(`{"did":"`+did+`"}`), result)
}

// call makes a POST, and returns the status of the answer, 0 for a connection that ended.
func (s *stage) call(method string, body string, header ...string) (status int) {
	s.t.Helper()
	return s.callWith(s.t.Context(), method, body, header...)
}

func (s *stage) callWith(ctx context.Context, method string, body string, header ...string) (status int) {
	s.t.Helper()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/xrpc/"+method, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r.Host = r.Header.Get("Host")
	w := httptest.NewRecorder()
	defer func() {
		if ended := recover(); ended != nil {
			status = 0
		}
	}()
	s.h.ServeHTTP(w, r)
	return w.Code
}

// acted is how often each fault had an effect.
func (s *stage) acted() (times []int) {
	for _, h := range s.f.state().Happened {
		times = append(times, h.Times)
	}
	return times
}

// jwt is a token that nobody verifies.
func jwt(header, claims string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".x"
}

// pairOf is the answer of a refresh.
func pairOf() string {
	return `{"did":"did:plc:a","handle":"alice.test","accessJwt":"` + jwt(`{"typ":"at+jwt"}`, `{"sub":"did:plc:a","sid":"c-x","iat":100,"exp":7300}`) +
		`","refreshJwt":"` + jwt(`{"typ":"refresh+jwt"}`, `{"sub":"did:plc:a","sid":"c-x","jti":"c-x.1","iat":100,"exp":900000}`) + `"}`
}

// TestActs: a fault is counted and logged if it had an effect, and of those that replace the answer only
// the first has one.
func TestActs(t *testing.T) {
	t.Parallel()
	const read = "app.bsky.feed.getTimeline"
	soon := Fault{Kind: AccessLife, For: Duration(20 * time.Second)}
	page, error503 := Fault{Kind: Page}, Fault{Kind: Status, Status: 503}
	done := Fault{Kind: Page, Status: 504, Done: true}
	for name, c := range map[string]struct {
		method string
		status int // the server's
		body   string
		header []string
		faults []Fault
		times  []int
		want   int // the status that the client gets
	}{
		"tokens where none are given":      {read, 200, "{}", nil, []Fault{soon, {Kind: Clock, By: 1e9}, {Kind: RefreshLife, For: 1e9}}, []int{0, 0, 0}, 200},
		"tokens that are refused":          {refreshSession, 400, "{}", nil, []Fault{soon}, []int{0}, 400},
		"tokens that are lost":             {refreshSession, 200, pairOf(), nil, []Fault{soon, {Kind: LostAfter}}, []int{0, 1}, 0},
		"a life that is longer":            {refreshSession, 200, pairOf(), nil, []Fault{{Kind: AccessLife, For: Duration(3 * time.Hour)}}, []int{0}, 200},
		"a stream":                         {read, 200, "", []string{"Upgrade", "websocket"}, []Fault{error503, {Kind: Cut}, {Kind: LostAfter}, soon}, []int{0, 0, 0, 0}, 200},
		"a stream that does not begin":     {read, 200, "", []string{"Upgrade", "websocket"}, []Fault{error503, {Kind: LostBefore}}, []int{0, 1}, 0},
		"HTTP/2 is offered":                {refreshSession, 200, pairOf(), []string{"Upgrade", "h2c"}, []Fault{soon, error503}, []int{0, 1}, 503},
		"an error, then a page":            {read, 200, "{}", nil, []Fault{error503, page}, []int{1, 0}, 503},
		"a page, then an error":            {read, 200, "{}", nil, []Fault{page, error503}, []int{1, 0}, 502},
		"a page afterwards, then an error": {read, 200, "{}", nil, []Fault{done, error503}, []int{1, 0}, 504},
		"an error, then a page afterwards": {read, 200, "{}", nil, []Fault{error503, done}, []int{1, 0}, 503},
		"an error, then no answer":         {read, 200, "{}", nil, []Fault{error503, {Kind: LostAfter}, {Kind: LostBefore}}, []int{1, 0, 0}, 503},
		"no answer, then an error":         {read, 200, "{}", nil, []Fault{{Kind: LostAfter}, error503}, []int{1, 0}, 0},
		"a cut":                            {read, 200, "{}", nil, []Fault{{Kind: Cut}}, []int{1}, 0},
		"a cut of nothing":                 {read, 200, "", nil, []Fault{{Kind: Cut}}, []int{0}, 200},
		"a cut, then no answer":            {read, 200, "{}", nil, []Fault{{Kind: Cut}, {Kind: LostAfter}}, []int{1, 0}, 0},
		"a cut of nothing, then no answer": {read, 200, "", nil, []Fault{{Kind: Cut}, {Kind: Cut}, {Kind: LostAfter}, done}, []int{0, 0, 1, 0}, 0},
		"a cut of nothing, then a page":    {read, 200, "", nil, []Fault{{Kind: Cut}, done}, []int{0, 1}, 504},
		"a cut of nothing is too late":     {read, 200, "", nil, []Fault{{Kind: Cut}, error503, {Kind: LostBefore}}, []int{0, 0, 0}, 200},
	} {
		s := newStage(t, c.status, c.body, c.faults...)
		if got := s.call(c.method, "", c.header...); got != c.want {
			t.Errorf("%s: status %d, want %d", name, got, c.want)
		}
		sum := 0
		for _, n := range c.times {
			sum += n
		}
		if times := s.acted(); !slices.Equal(times, c.times) || strings.Count(s.log.String(), "fault on purpose") != sum {
			t.Errorf("%s: %v, want %v; the log is %s", name, times, c.times, s.log.String())
		}
		if got := s.f.recorder.calls; len(got) != 1 || len(got[0].Faults) != sum {
			t.Errorf("%s: recorded %+v", name, got)
		}
	}
}

// TestDelays: several delays of one call are together no longer than the server allows.
func TestDelays(t *testing.T) {
	t.Parallel()
	minute := Fault{Kind: Delay, From: Duration(maxDelay), To: Duration(maxDelay)}
	synctest.Test(t, func(t *testing.T) {
		s, began := newStage(t, 200, "{}", minute, minute), time.Now()
		if s.call("app.bsky.feed.getTimeline", ""); time.Since(began) != maxDelay {
			t.Errorf("late by %s", time.Since(began))
		}
	})
}

// TestHead: an answer without a body is not cut, so the next fault acts.
func TestHead(t *testing.T) {
	t.Parallel()
	s := newStage(t, 200, "{}", Fault{Kind: Cut}, Fault{Kind: Status, Status: 503})
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/xrpc/com.atproto.server.getSession", nil))
	if times := s.acted(); w.Code != http.StatusServiceUnavailable || !slices.Equal(times, []int{0, 1}) {
		t.Errorf("%d, %v", w.Code, times)
	}
}

// TestRepeatedWhileLate: a post that comes again while the answer to the first is late is found, unless the
// server refused the first, which the record has though its client has left.
func TestRepeatedWhileLate(t *testing.T) {
	t.Parallel()
	const s = Duration(time.Second)
	for status, want := range map[int]int{200: 1, 400: 0} {
		synctest.Test(t, func(t *testing.T) {
			stage := newStage(t, status, "{}", Fault{Kind: Delay, From: 30 * s, To: 30 * s})
			ctx, leave := context.WithTimeout(t.Context(), 10*time.Second)
			defer leave()
			var calls sync.WaitGroup
			for _, ctx := range []context.Context{ctx, t.Context()} {
				calls.Go(func() { stage.callWith(ctx, "com.atproto.repo.createRecord", `{"record":{}}`) })
				time.Sleep(9 * time.Second)
				synctest.Wait()
				stage.status = 200
			}
			calls.Wait()
			got := stage.f.recorder.calls
			if len(got) != 2 || !got[0].Lost || !got[0].Left || got[1].Left || got[0].Status != status || len(findings.Of(got)) != want {
				t.Errorf("%d: %+v", status, got)
			}
		})
	}
}

// TestLeft: that a connection ended is the client's doing only if no fault did it.
func TestLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault Kind
		want  bool
	}{"the client": {Deactivate, true}, "a fault": {Reset, false}, "a fault at another call": {Restart, false}} {
		s := newStage(t, 200, "{}", Fault{Kind: c.fault, Methods: []string{"app.bsky.feed.getTimeline"}})
		ctx, leave := context.WithCancel(t.Context())
		s.on = func() {
			if c.fault == Restart {
				s.on = func() {}
				s.call("app.bsky.feed.getTimeline", "")
			}
			leave()
		}
		if c.fault == Reset {
			leave()
		}
		method := "app.bsky.feed.getTimeline"
		if c.fault == Restart {
			method = "app.bsky.feed.getFeed"
		}
		s.callWith(ctx, method, "")
		all := s.f.recorder.calls
		if got := all[len(all)-1]; !got.Lost || got.Left != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestPageInstead: tokens behind a proxy's page have not come to the client.
func TestPageInstead(t *testing.T) {
	t.Parallel()
	s := newStage(t, 200, pairOf(), Fault{Kind: Page, Done: true})
	s.call(refreshSession, "", "Authorization", "Bearer "+jwt(`{"typ":"refresh+jwt"}`, `{"sub":"did:plc:a","sid":"c-x","jti":"c-x.0"}`))
	if c := s.f.recorder.calls[0]; c.Given != findings.None || c.Lost || c.Status != http.StatusBadGateway || c.Session == "" {
		t.Errorf("%+v", c)
	}
}

// TestTyped: what somebody typed to sign in, and is no name of an account, is neither in the log nor in the record.
func TestTyped(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{"alice@example.com": "", "alice.test": "alice.test", "did:plc:a": "did:plc:a", "hunter2": ""} {
		s := newStage(t, 401, "{}", Fault{Kind: Status, Status: 503})
		s.call(createSession, `{"identifier":"`+typed+`","password":"x"}`)
		if got := s.f.recorder.calls[0].Account; got != want {
			t.Errorf("%s: recorded as %q", typed, got)
		}
		isDID := strings.HasPrefix(typed, "did:")
		if strings.Contains(s.log.String(), typed) != isDID || strings.Contains(s.log.String(), "did=") != isDID {
			t.Errorf("%s: logged %s", typed, s.log.String())
		}
	}
}
