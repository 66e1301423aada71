package faults_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nestbox/control"
	"nestbox/faults"
	"nestbox/internal/pdstest"
	"nestbox/oauth/dpop"
	"nestbox/server"
)

// world is a server with faults around it, on a clock that the test sets.
type world struct {
	*pdstest.InProcess

	t   *testing.T
	f   *faults.Faults
	mu  sync.Mutex
	now time.Time
}

func newWorld(t *testing.T, settings ...string) *world {
	t.Helper()
	w := &world{t: t, f: &faults.Faults{}, now: time.Now().Truncate(time.Second)}
	w.InProcess = pdstest.Start(t, pdstest.Options{Now: w.clock, Settings: settings, Around: &server.Around{
		Listener: w.f.Listener, Commands: w.f.Commands(),
		Handler: func(next http.Handler, in server.Inside) (http.Handler, error) {
			return w.f.Handler(next, faults.Inside(in))
		},
	}})
	// A client that repeats nothing by itself.
	w.Client.HTTP = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// set sets the faults, as the command does.
func (w *world) set(all ...faults.Fault) {
	w.t.Helper()
	if _, err := control.Call(w.t.Context(), w.DataDir, faults.CmdFaults, faults.SetArgs{Plan: &faults.Plan{Faults: all}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) off() faults.State {
	w.t.Helper()
	state, err := control.Call(w.t.Context(), w.DataDir, faults.CmdFaults, faults.SetArgs{Off: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return state
}

// refresh is a refresh whose answer may be lost.
func (w *world) refresh(token string) (pdstest.Answer, error) {
	w.t.Helper()
	return w.Try(w.t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.refreshSession", Auth: pdstest.Bearer(token)})
}

// times returns when a token was made and when it expires, and its jti.
func times(t *testing.T, token string) (made, expires time.Time, jti string) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var c struct {
		IAT, EXP int64
		JTI      string
	}
	if err != nil || json.Unmarshal(raw, &c) != nil {
		t.Fatalf("%s: %v", token, err)
	}
	return time.Unix(c.IAT, 0), time.Unix(c.EXP, 0), c.JTI
}

func generation(t *testing.T, token string) string {
	t.Helper()
	_, _, jti := times(t, token)
	return jti[strings.LastIndexByte(jti, '.')+1:]
}

var refreshing = []string{faults.Refresh}

// TestLost: what is lost before the server did it is not done, and what is lost afterwards is.
func TestLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.SignUp(t, "alice")
	w.set(faults.Fault{Kind: faults.LostBefore, Methods: refreshing})
	if a, err := w.refresh(s.RefreshJwt); err == nil {
		t.Fatalf("answered %d", a.Status)
	}
	w.off()
	first := w.MustRefresh(t, s.RefreshJwt)
	w.set(faults.Fault{Kind: faults.LostAfter, Methods: refreshing})
	if a, err := w.refresh(first.RefreshJwt); err == nil {
		t.Fatalf("answered %d", a.Status)
	}
	w.GetSession(t, first.AccessJwt).Decode(t, &first) // no refresh
	w.off()
	info := struct{ Sessions []struct{ Refreshes int } }{}
	if err := w.Run(t.Context(), "account.info", map[string]string{"account": s.DID}, &info); err != nil {
		t.Fatal(err)
	}
	if got := info.Sessions[0].Refreshes; got != 2 {
		t.Errorf("%d refreshes are done, want 2", got)
	}
	if got := generation(t, w.MustRefresh(t, first.RefreshJwt).RefreshJwt); got != "2" {
		t.Errorf("generation %s, want the 2 that was lost", got)
	}
}

// TestBroken: connections that are cut or reset end as such.
func TestBroken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.SignUp(t, "alice")
	call := pdstest.Request{NSID: "com.atproto.server.getSession", Auth: pdstest.Bearer(s.AccessJwt)}
	whole := w.Do(t, call)
	w.set(faults.Fault{Kind: faults.Cut})
	part, err := w.Try(t, call)
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(part.Body) != len(whole.Body)/2 || part.Header.Get("Content-Type") != whole.Header.Get("Content-Type") {
		t.Errorf("cut: %d of %d bytes, %v", len(part.Body), len(whole.Body), err)
	}
	w.set(faults.Fault{Kind: faults.Reset})
	if _, err := w.Try(t, call); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %v", err)
	}
}

// TestRestart: all connections are cut, and new ones are reset for a while.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	idle, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.Base+"/xrpc/_health", nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := &http.Transport{}
	answer, err := kept.RoundTrip(idle)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	w.set(faults.Fault{Kind: faults.Restart, Methods: []string{"com.atproto.server.describeServer"}, For: faults.Duration(time.Minute)})
	if _, err := w.Try(t, pdstest.Request{NSID: "com.atproto.server.describeServer"}); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("restart: %v", err)
	}
	if answer, err := kept.RoundTrip(idle); err == nil { // its connection is gone, and so is the server
		_ = answer.Body.Close()
		t.Errorf("answered %d", answer.StatusCode)
	}
	w.off()
	w.Do(t, pdstest.Request{NSID: "com.atproto.server.describeServer"})
}

// TestErrors: errors and pages in place of answers, in the form of their endpoint.
func TestErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.SignUp(t, "alice")
	w.set(faults.Fault{Kind: faults.Status, Status: 503, RetryAfter: faults.Duration(1500 * time.Millisecond)})
	a, err := w.refresh(s.RefreshJwt)
	if err != nil {
		t.Fatal(err)
	}
	a.WantError(t, 503, "ServiceUnavailable", "A fault that nestbox dev faults makes on purpose")
	if a.Header.Get("Retry-After") != "2" || a.Header.Get("Access-Control-Allow-Origin") != "*" || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", a.Header)
	}
	form := "grant_type=refresh_token&refresh_token=x"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.Base+"/oauth/token", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	refused, err := w.Client.HTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(refused.Body)
	_ = refused.Body.Close()
	if err != nil || string(body) != `{"error":"temporarily_unavailable","error_description":"A fault that nestbox dev faults makes on purpose"}` {
		t.Errorf("OAuth: %d %s, %v", refused.StatusCode, body, err)
	}
	w.set(faults.Fault{Kind: faults.Status, Status: 429})
	if a, err = w.refresh(s.RefreshJwt); err != nil {
		t.Fatal(err)
	}
	if name, _ := a.Error(t); a.Status != 429 || name != "RateLimitExceeded" || a.Header.Get("Retry-After") != "" {
		t.Errorf("%d %s %v", a.Status, a.Body, a.Header)
	}
	w.set(faults.Fault{Kind: faults.Page, Status: 504, Done: true, Methods: refreshing})
	if a, err = w.refresh(s.RefreshJwt); err != nil {
		t.Fatal(err)
	}
	if a.Status != 504 || a.Header.Get("Content-Type") != "text/html" || !strings.Contains(string(a.Body), "<title>504 Gateway Timeout</title>") || a.Header.Get("X-Request-Id") != "" {
		t.Errorf("%d %v %s", a.Status, a.Header, a.Body)
	}
	w.off()
	if got := generation(t, w.MustRefresh(t, s.RefreshJwt).RefreshJwt); got != "1" { // done was behind the page
		t.Errorf("generation %s", got)
	}
}

// TestWhere: a fault happens at the calls that it names, and at no other; each account has its own
// count.
func TestWhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.SignUp(t, "alice"), w.SignUp(t, "bob")
	get := func(s pdstest.Session) int { return w.GetSession(t, s.AccessJwt).Status }
	w.set(faults.Fault{Kind: faults.Status, Status: 500, Accounts: []string{"Alice.test"}, Methods: []string{"com.atproto.server.get*"}, Every: 2})
	var got []int
	for range 4 {
		got = append(got, get(alice), get(bob))
	}
	if want := []int{200, 200, 500, 200, 200, 200, 500, 200}; !equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, err := w.refresh(alice.RefreshJwt); err != nil {
		t.Error(err)
	}
	w.set(faults.Fault{Kind: faults.Status, Status: 500, Methods: []string{"com.atproto.server.getSession"}, Every: 2})
	if got, want := []int{get(alice), get(bob), get(alice), get(bob)}, []int{200, 200, 500, 500}; !equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	w.set(faults.Fault{Kind: faults.Status, Status: 500, Methods: []string{faults.SignIn}, Accounts: []string{bob.DID}})
	for who, want := range map[string]int{"alice.test": 200, "bob.test": 500, bob.DID: 500} {
		a := w.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": who, "password": pdstest.Password}})
		if a.Status != want {
			t.Errorf("sign-in of %s: %d, want %d", who, a.Status, want)
		}
	}
	state, err := control.Call(t.Context(), w.DataDir, faults.CmdFaults, faults.SetArgs{})
	if err != nil || state.Plan == nil || state.Plan.Seed == 0 || len(state.Happened) != 1 || state.Happened[0].Times != 2 || state.Happened[0].Calls != 2 {
		t.Errorf("%+v, %v", state, err)
	}
	w.set(faults.Fault{Kind: faults.Cut, Accounts: []string{"Alice.test", "alcie.test", bob.DID}}, faults.Fault{Kind: faults.Cut, Accounts: []string{"alcie.test", "did:plc:a"}})
	state, err = control.Call(t.Context(), w.DataDir, faults.CmdFaults, faults.SetArgs{})
	if err != nil || !slices.Equal(state.Unknown, []string{"alcie.test", "did:plc:a"}) {
		t.Errorf("unknown accounts: %q, %v", state.Unknown, err)
	}
	if state := w.off(); state.Plan != nil {
		t.Errorf("%+v", state)
	}
	if get(alice) != 200 {
		t.Error("a fault, though all are off")
	}
	_, err = control.Call(t.Context(), w.DataDir, faults.CmdFaults, faults.SetArgs{Plan: &faults.Plan{Faults: []faults.Fault{{Kind: "magic"}}}})
	if err == nil || !strings.Contains(err.Error(), "no such fault") {
		t.Errorf("a plan that is wrong: %v", err)
	}
	typo := faults.Plan{Faults: []faults.Fault{{Kind: faults.Cut, Methods: []string{"com.atproto.server.getSesion", "/oauth/tokens", "com.atproto.server.getSession", "/oauth/token", "/account"}}}}
	_, err = control.Call(t.Context(), w.DataDir, faults.CmdFaults, faults.SetArgs{Plan: &typo})
	if err == nil || strings.Count(err.Error(), "the server has no such method or path") != 2 {
		t.Errorf("typos: %v", err)
	}
	early := &faults.Faults{}
	early.Start(typo)
	if _, err := early.Handler(http.NotFoundHandler(), faults.Inside{}); err == nil || !strings.Contains(err.Error(), "/oauth/tokens") {
		t.Errorf("typos at the start: %v", err)
	}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestDelay: an answer comes later, and the work is done.
func TestDelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.SignUp(t, "alice")
	const late = 60 * time.Millisecond
	w.set(faults.Fault{Kind: faults.Delay, From: faults.Duration(late), To: faults.Duration(late)})
	begun := time.Now()
	if got := generation(t, w.MustRefresh(t, s.RefreshJwt).RefreshJwt); got != "1" || time.Since(begun) < late {
		t.Errorf("generation %s after %s", got, time.Since(begun))
	}
}

// TestLives: tokens live as long as a fault says, the server refuses them then, and no fault makes
// one live longer.
func TestLives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set(faults.Fault{Kind: faults.AccessLife, For: faults.Duration(20 * time.Second)}, faults.Fault{Kind: faults.RefreshLife, For: faults.Duration(5 * time.Minute)})
	s := w.SignUp(t, "alice")
	made, expires, _ := times(t, s.AccessJwt)
	if life := expires.Sub(made); life != 20*time.Second {
		t.Errorf("access token lives %s", life)
	}
	made, expires, _ = times(t, s.RefreshJwt)
	if life := expires.Sub(made); life != 5*time.Minute {
		t.Errorf("refresh token lives %s", life)
	}
	if a := w.GetSession(t, s.AccessJwt); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	w.pass(20 * time.Second)
	w.GetSession(t, s.AccessJwt).WantError(t, 400, "ExpiredToken", "Token has expired")
	next := w.MustRefresh(t, s.RefreshJwt)
	if next.DID != s.DID || next.Handle != s.Handle {
		t.Errorf("%+v", next)
	}
	w.pass(5 * time.Minute)
	w.Refresh(t, next.RefreshJwt).WantError(t, 400, "ExpiredToken", "Token has expired")
	w.set(faults.Fault{Kind: faults.AccessLife, For: faults.Duration(1000 * time.Hour)})
	made, expires, _ = times(t, w.SignIn(t, "alice.test", pdstest.Password).AccessJwt)
	if life := expires.Sub(made); life != 2*time.Hour {
		t.Errorf("access token lives %s", life)
	}
}

// TestClock: tokens are dated by another clock, and live as long as they should by the server's.
func TestClock(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{3 * time.Minute, -3 * time.Minute} {
		w := newWorld(t)
		w.set(faults.Fault{Kind: faults.Clock, By: faults.Duration(by)}, faults.Fault{Kind: faults.AccessLife, For: faults.Duration(20 * time.Second)})
		s := w.SignUp(t, "alice")
		made, expires, _ := times(t, s.AccessJwt)
		if made.Sub(w.clock()) != by || expires.Sub(made) != 20*time.Second {
			t.Errorf("%s: made at %s, expires at %s, it is %s", by, made, expires, w.clock())
		}
		if made, _, _ := times(t, s.RefreshJwt); made.Sub(w.clock()) != by {
			t.Errorf("%s: refresh token made at %s", by, made)
		}
		if a := w.GetSession(t, s.AccessJwt); a.Status != 200 {
			t.Errorf("%s: %d %s", by, a.Status, a.Body)
		}
		w.pass(20 * time.Second)
		w.GetSession(t, s.AccessJwt).WantError(t, 400, "ExpiredToken", "Token has expired")
		s = w.MustRefresh(t, s.RefreshJwt)
		w.off()
		if a := w.GetSession(t, s.AccessJwt); a.Status != 200 {
			t.Errorf("%s, turned off: %d %s", by, a.Status, a.Body)
		}
		w.MustRefresh(t, s.RefreshJwt)
	}
}

// TestReuseWindow: a token that was superseded for good is refused after the window of the fault.
func TestReuseWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set(faults.Fault{Kind: faults.ReuseWindow, Methods: refreshing, For: faults.Duration(5 * time.Second)})
	zero := w.SignUp(t, "alice").RefreshJwt
	one := w.MustRefresh(t, zero).RefreshJwt
	w.pass(time.Hour)
	w.MustRefresh(t, zero) // its successor was not presented
	two := w.MustRefresh(t, one).RefreshJwt
	w.pass(4 * time.Second)
	w.MustRefresh(t, zero)
	w.pass(time.Second)
	w.Refresh(t, zero).WantError(t, 400, "ExpiredToken", "Token has been revoked")
	w.MustRefresh(t, one)
	w.MustRefresh(t, two)
	w.off()
	w.MustRefresh(t, zero) // the server's own window
}

// TestLifts: what should be lifted is, though the next caller leaves, the faults are turned off in the
// middle of the call, or the server stops.
func TestLifts(t *testing.T) {
	t.Parallel()
	type stub struct {
		f         *faults.Faults
		down      int
		fails     bool   // untakedown does, once
		on        func() // what happens in the middle of a takedown
		now       time.Time
		call, off func(ctx context.Context)
	}
	const short, long = faults.Duration(2 * time.Second), faults.Duration(2000 * time.Hour)
	started := func(life faults.Duration) *stub {
		w := &stub{f: &faults.Faults{}, now: time.Now(), on: func() {}}
		w.f.Start(faults.Plan{Faults: []faults.Fault{{Kind: faults.Takedown, Every: 3, For: life}}})
		h, err := w.f.Handler(http.NotFoundHandler(), faults.Inside{
			Proofs: &dpop.Checker{}, Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
			Live: func(context.Context, string) bool { return true },
			Run: func(ctx context.Context, name string, _, _ any) error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				switch name {
				case "account.takedown":
					w.down++
					w.on()
				case "account.untakedown":
					if w.fails {
						w.fails = false
						return errors.New("the disk is full")
					}
					w.down--
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		token := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"at+jwt"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"did:plc:a"}`)) + ".x"
		w.call = func(ctx context.Context) {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/xrpc/com.atproto.server.getSession", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		w.off = func(ctx context.Context) {
			if err := w.f.Commands().Run(ctx, string(faults.CmdFaults), faults.SetArgs{Off: true}, &faults.State{}); err != nil {
				t.Error(err)
			}
		}
		return w
	}
	gone, leave := context.WithCancel(t.Context())
	leave()

	left := started(short)
	left.call(t.Context())
	left.call(t.Context())
	left.call(t.Context())
	left.now, left.fails = left.now.Add(3*time.Second), true
	left.call(t.Context())
	left.now = left.now.Add(time.Second)
	if left.down != 1 {
		t.Fatalf("down %d times", left.down)
	}
	if left.call(gone); left.down != 0 {
		t.Error("the next caller left, and the account is down")
	}

	off := started(long)
	off.call(t.Context())
	off.on = func() { off.off(t.Context()) }
	off.call(t.Context())
	if off.call(t.Context()); off.down != 0 {
		t.Error("the faults are off, and the account is down")
	}

	later := started(long)
	for range 3 {
		later.call(t.Context())
	}
	if later.off(t.Context()); later.down != 0 {
		t.Error("the faults are off, and the account is down for months")
	}

	stops := started(long)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = stops.f.Listener(l)
	stops.call(t.Context())
	stops.call(t.Context())
	stops.call(t.Context())
	if err := l.Close(); err != nil || stops.down != 0 {
		t.Errorf("the server stops, and the account is down: %v", err)
	}
}

// TestNames: an account's calls count together whatever name it signs in with, what names no account counts as
// nobody's, and a handle is looked up again once it may have changed.
func TestNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.SignUp(t, "alice")
	in := func(name string) int {
		return w.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": name, "password": pdstest.Password}}).Status
	}
	w.set(faults.Fault{Kind: faults.Status, Status: 500, Methods: []string{faults.SignIn}, Every: 2})
	if got := []int{in("alice.test"), in("ALICE.test"), in(s.DID), in("alice.test")}; !equal(got, []int{200, 500, 200, 500}) {
		t.Errorf("%v", got)
	}
	if got := []int{in("nobody.test"), in("somebody"), in("nobody.test")}; !equal(got, []int{401, 500, 401}) {
		t.Errorf("of nobody: %v", got)
	}
	rename := func(handle string) {
		w.Do(t, pdstest.Request{NSID: "com.atproto.identity.updateHandle", Auth: pdstest.Bearer(s.AccessJwt), Body: map[string]string{"handle": handle}})
	}
	const old = "alice.test"
	byName := faults.Fault{Kind: faults.Status, Status: 500, Methods: []string{"com.atproto.server.getSession"}, Accounts: []string{old}}
	w.set(byName)
	if got := w.GetSession(t, s.AccessJwt).Status; got != 500 {
		t.Errorf("%d", got)
	}
	rename("alice-2.test")
	if got := w.GetSession(t, s.AccessJwt).Status; got != 200 {
		t.Errorf("after it was renamed: %d", got)
	}
	if err := w.Run(t.Context(), "account.handle", map[string]string{"account": s.DID, "handle": old}, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	w.set(byName)
	if got := w.GetSession(t, s.AccessJwt).Status; got != 500 {
		t.Errorf("a new plan after it was renamed: %d", got)
	}
}

// TestForged: no fault ends the session or takes down the account that a token names which the server refuses.
func TestForged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.SignUp(t, "alice")
	old := w.SignIn(t, "alice.test", pdstest.Password)
	w.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.deleteSession", Auth: pdstest.Bearer(old.RefreshJwt)})
	forged := s.AccessJwt[:strings.LastIndexByte(s.AccessJwt, '.')+1] + "AAAA"
	for _, kind := range []string{faults.Revoke, faults.Takedown, faults.Deactivate} {
		w.set(faults.Fault{Kind: kind, For: map[bool]faults.Duration{true: 0, false: faults.Duration(time.Minute)}[kind == faults.Revoke]})
		for name, token := range map[string]string{"forged": forged, "signed out": old.AccessJwt, "signed out, to refresh": old.RefreshJwt} {
			w.Do(t, pdstest.Request{NSID: "com.atproto.server.describeServer", Auth: pdstest.Bearer(token)})
			state, err := control.Call(t.Context(), w.DataDir, faults.CmdFaults, faults.SetArgs{})
			if err != nil || state.Happened[0].Times != 0 {
				t.Errorf("%s by a token that is %s: %+v, %v", kind, name, state.Happened, err)
			}
		}
		w.off()
	}
	w.pass(time.Second)
	w.set(faults.Fault{Kind: faults.Revoke})
	w.GetSession(t, s.AccessJwt).WantError(t, 400, "ExpiredToken", "Token has expired")
}

// TestEnds: sessions end and accounts pause in the middle, and what is to be lifted is.
func TestEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.SignUp(t, "alice")
	const pause = faults.Duration(20 * time.Second)
	w.set(faults.Fault{Kind: faults.Deactivate, Every: 2, For: pause, Methods: []string{"com.atproto.server.getSession"}})
	status := func() string {
		var got struct{ Status string }
		w.GetSession(t, s.AccessJwt).Decode(t, &got)
		return got.Status
	}
	if first, second := status(), status(); first != "" || second != "deactivated" {
		t.Errorf("%q, %q", first, second)
	}
	w.pass(20 * time.Second)
	if got := status(); got != "" {
		t.Errorf("%q after it was lifted", got)
	}
	w.set(faults.Fault{Kind: faults.Takedown, Every: 2, For: pause, Methods: []string{"com.atproto.server.getSession"}})
	w.GetSession(t, s.AccessJwt)
	if name, _ := w.GetSession(t, s.AccessJwt).Error(t); name != "AccountTakedown" {
		t.Errorf("%s, want AccountTakedown", name)
	}
	w.off() // lifts at once
	s = w.SignIn(t, "alice.test", pdstest.Password)
	if got := w.Do(t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.server.deactivateAccount", Auth: pdstest.Bearer(s.AccessJwt), Body: struct{}{},
	}); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	w.set(faults.Fault{Kind: faults.Deactivate, For: pause, Methods: []string{"com.atproto.server.getSession"}})
	first := status()
	w.off()
	if second := status(); first != "deactivated" || second != "deactivated" {
		t.Errorf("%q, %q of an account that its owner has deactivated", first, second)
	}
	again := w.SignIn(t, "alice.test", pdstest.Password)
	w.set(faults.Fault{Kind: faults.Revoke, Methods: refreshing})
	w.Refresh(t, again.RefreshJwt).WantError(t, 400, "ExpiredToken", "Token has been revoked")
}
