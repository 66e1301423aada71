package session_test

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/firehose/event"
	"nestbox/session"
	"nestbox/xrpc"
)

// TestRefreshTogether: any number of concurrent refreshes with one token give
// one successor.
func TestRefreshTogether(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", "none")
	token := w.mustBegin(a, "").Refresh
	for round := range 10 {
		var mu sync.Mutex
		got := map[string]string{} // refresh token by its jti
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				out, err := w.refresh(t.Context(), token)
				if err != nil {
					t.Errorf("refresh: %v", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				got[w.token(out.RefreshJwt).JTI] = out.RefreshJwt
			})
		}
		all.Wait()
		st := w.sessions(a)[0]
		next, ok := got[st.JTI(int64(round+1))]
		if len(got) != 1 || !ok || st.Head != int64(round+1) {
			t.Fatalf("round %d: %d successors, head %d", round, len(got), st.Head)
		}
		token = next
	}
}

// TestRefreshChains: tabs that refresh in turn, as fast as they can and without
// looking at each other, all go on, and the head never moves back.
func TestRefreshChains(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", "none")
	first := w.mustBegin(a, "").Refresh
	var mu sync.Mutex
	highest := map[string]bool{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			token := first
			for range 50 {
				out, err := w.refresh(t.Context(), token)
				if err != nil {
					t.Errorf("refresh: %v", err)
					return
				}
				token = out.RefreshJwt
			}
			mu.Lock()
			defer mu.Unlock()
			highest[w.token(token).JTI] = true
		})
	}
	all.Wait()
	st := w.sessions(a)[0]
	if !highest[st.JTI(st.Head)] {
		t.Errorf("head %d is nobody's: %v", st.Head, highest)
	}
	if got := w.reasons(a, account.EntrySessionAhead); len(got) > 0 {
		t.Errorf("the head moved back: %q", got)
	}
}

// overtaken runs a function between a rotation's decision and its write.
type overtaken struct {
	session.Store

	meanwhile func()
}

func (o *overtaken) Rotate(ctx context.Context, id int64, decide func(session.State) (session.Rotation, error)) (session.Rotation, error) {
	return o.Store.Rotate(ctx, id, func(st session.State) (session.Rotation, error) {
		r, err := decide(st)
		if f := o.meanwhile; f != nil {
			o.meanwhile = nil
			f()
		}
		return r, err
	})
}

// TestRefreshOvertaken: a decision on a state that is no longer true is made
// again.
func TestRefreshOvertaken(t *testing.T) {
	for _, c := range []struct {
		name      string
		meanwhile func(w *world, a *account.Account, first string)
		want      string
		head      int64
	}{
		{"the same refresh", func(w *world, _ *account.Account, first string) { w.mustRefresh(first) }, wireOK, 1},
		{"two refreshes", func(w *world, _ *account.Account, first string) { w.mustRefresh(w.mustRefresh(first).RefreshJwt) }, wireOK, 2},
		{"sign-out", func(w *world, _ *account.Account, first string) {
			if err := w.SignOut(w.t.Context(), w.token(first)); err != nil {
				w.t.Fatal(err)
			}
		}, wireRevoked, 0},
		{"takedown", func(w *world, a *account.Account, _ string) { w.takedown(a, true) }, wireTakedown, 0},
		{"deletion", func(w *world, a *account.Account, _ string) {
			if err := w.Accounts.Delete(w.t.Context(), a.ID, w.Now()); err != nil {
				w.t.Fatal(err)
			}
		}, wireRevoked, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			a := w.account("alice", "none")
			first := w.mustBegin(a, "").Refresh
			sid := w.token(first).SID
			// The session was read before, so that the store decides on what it
			// remembers, outside of its transaction.
			if _, err := w.Store.Load(t.Context(), w.number(a, first)); err != nil {
				t.Fatal(err)
			}
			w.Store = &overtaken{Store: w.Store, meanwhile: func() { c.meanwhile(w, a, first) }}
			out, err := w.refresh(t.Context(), first)
			if wire(err) != c.want {
				t.Fatalf("got %q, want %q", wire(err), c.want)
			}
			list := w.sessions(a)
			if err != nil {
				if len(list) > 0 {
					t.Errorf("the session is back: %+v", list)
				}
				return
			}
			if want := sid + "." + strconv.FormatInt(c.head, 10); list[0].Head != c.head || w.token(out.RefreshJwt).JTI != want {
				t.Errorf("head %d, answered %s; want %s", list[0].Head, w.token(out.RefreshJwt).JTI, want)
			}
		})
	}
}

// TestRefreshRefused: the answer to a token that is genuine but refused.
func TestRefreshRefused(t *testing.T) {
	w := newWorld(t, t.TempDir())
	alice, bob := w.account("alice", "none"), w.account("bob", "none")
	gone := w.account("gone", "none")
	first := w.token(w.mustBegin(alice, "").Refresh)
	goneToken := w.token(w.mustBegin(gone, "").Refresh)
	if err := w.Accounts.Delete(t.Context(), gone.ID, w.Now()); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*auth.Token)) auth.Token {
		token := first
		change(&token)
		return token
	}
	for _, c := range []struct {
		name  string
		token auth.Token
		want  string
	}{
		{"account gone", goneToken, wireRevoked},
		{"account never was", with(func(t *auth.Token) { t.DID = "did:plc:nobody" }), wireRevoked},
		{"another account's", with(func(t *auth.Token) { t.DID = bob.DID }), wireRevoked},
		{"unknown number", with(func(t *auth.Token) { t.SID, t.JTI = "zz-nonce", "zz-nonce.0" }), wireRevoked},
		{"number of a session, another nonce", with(func(t *auth.Token) { t.SID, t.JTI = t.SID+"x", t.SID+"x.0" }), wireRevoked},
		{"another server's", with(func(t *auth.Token) { t.SID, t.JTI = "", "random" }), wireRevoked},
		{"no name of ours", with(func(t *auth.Token) { t.SID, t.JTI = "random", "random.0" }), wireRevoked},
		{"jti of another session", with(func(t *auth.Token) { t.JTI = "zz-nonce.0" }), wireUnproven},
		{"jti without generation", with(func(t *auth.Token) { t.JTI = t.SID + "." }), wireUnproven},
		{"jti written otherwise", with(func(t *auth.Token) { t.JTI = t.SID + ".00" }), wireUnproven},
		{"as it was", first, wireOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.RefreshSession(t.Context(), auth.RefreshCaller{Token: c.token}, xrpc.None{})
			if wire(err) != c.want {
				t.Errorf("got %q, want %q", wire(err), c.want)
			}
		})
	}
}

// TestStoreFails: if the store fails the answer is a 503, on which clients keep
// their session.
func TestStoreFails(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	signed := w.mustBegin(a, "")
	refresh := w.token(signed.Refresh)
	w.Close()
	w.Noted, w.SignIns.Limits = nil, nil
	_, create := w.signIn(t.Context(), "alice.test", password)
	_, again := w.RefreshSession(t.Context(), auth.RefreshCaller{Token: refresh}, xrpc.None{})
	_, end := w.DeleteSession(t.Context(), auth.EndingCaller{Token: refresh}, xrpc.None{})
	for name, err := range map[string]error{"createSession": create, "refreshSession": again, "deleteSession": end} {
		e, ok := errors.AsType[*xrpc.Error](err)
		if !ok || e.Status != 503 || e.RetryAfter <= 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStanding: what lies behind an access token.
func TestStanding(t *testing.T) {
	w := newWorld(t, t.TempDir())
	alice, bob := w.account("alice", "none"), w.account("bob", "none")
	own := w.access(w.mustBegin(alice, "").Access)
	foreignToken := auth.Token{DID: alice.DID, IssuedAt: w.clock.Now()}
	w.storeAppPassword(alice, "phone", "none", false)
	appSession := w.mustBegin(alice, "phone").Access
	cred, err := w.Accounts.Credentials(t.Context(), alice.ID)
	if err != nil || len(cred.AppPasswords) != 1 {
		t.Fatal(cred, err)
	}
	app := cred.AppPasswords[0]
	for _, c := range []struct {
		name  string
		token auth.Token
		want  auth.Standing
	}{
		{"own", own, auth.Standing{Live: true}},
		{"an app password's", w.access(appSession), auth.Standing{Live: true, AppPassword: app.ID}},
		{"another account's session", auth.Token{DID: bob.DID, SID: own.SID}, auth.Standing{}},
		{"unknown account", auth.Token{DID: "did:plc:nobody", SID: own.SID}, auth.Standing{}},
		{"another nonce", auth.Token{DID: alice.DID, SID: own.SID + "x"}, auth.Standing{}},
		{"no name of ours", auth.Token{DID: alice.DID, SID: "random"}, auth.Standing{}},
		{"another server's", foreignToken, auth.Standing{Live: true}},
		{"another server's, of an unknown account", auth.Token{DID: "did:plc:nobody", IssuedAt: w.clock.Now()}, auth.Standing{}},
		{"another server's, without iat", auth.Token{DID: alice.DID}, auth.Standing{}},
	} {
		if got, err := w.Standing(t.Context(), c.token); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
	// What ends all sessions ends the other server's tokens from before it.
	w.clock.Advance(time.Second)
	if _, err := w.RevokeAll(t.Context(), alice.DID, false, account.ActorAdmin); err != nil {
		t.Fatal(err)
	}
	if w.live(foreignToken) {
		t.Error("another server's token outlived the end of all sessions")
	}
	w.clock.Advance(time.Second)
	if !w.live(auth.Token{DID: alice.DID, IssuedAt: w.clock.Now()}) {
		t.Error("a token from afterwards is dead")
	}
	w.takedown(alice, true)
	if st, err := w.Standing(t.Context(), own); err != nil || st.Status != event.StatusTakenDown || st.Live {
		t.Errorf("taken down: %+v, %v", st, err)
	}
}

// TestReusePolicyRevoke: a reuse after the window ends the session, for everybody
// who has it, if the operator chose that.
func TestReusePolicyRevoke(t *testing.T) {
	for policy, want := range map[session.Policy]string{session.PolicyReport: wireOK, session.PolicyRevoke: wireRevoked} {
		t.Run(string(policy), func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			w.Policy = policy
			a := w.account("alice", "none")
			stolen := w.mustBegin(a, "").Refresh
			mine := w.mustRefresh(w.mustRefresh(stolen).RefreshJwt)
			token := w.access(mine.AccessJwt)
			w.clock.Advance(25 * time.Hour)
			if _, err := w.refresh(from(t.Context(), elsewhere, "thief"), stolen); wire(err) != wireRevoked {
				t.Errorf("the old token: %s", wire(err))
			}
			if got := w.live(token); got != (want == wireOK) {
				t.Errorf("access token lives: %t", got)
			}
			if _, err := w.refresh(t.Context(), mine.RefreshJwt); wire(err) != want {
				t.Errorf("the newest token: %s, want %s", wire(err), want)
			}
			if got := len(w.reasons(a, account.EntrySuspectedReuse)); got != 1 {
				t.Errorf("%d suspicions on the trail", got)
			}
			if got := len(w.reasons(a, account.EntrySessionRevoked)); got != map[session.Policy]int{session.PolicyRevoke: 1}[policy] {
				t.Errorf("%d revocations on the trail", got)
			}
		})
	}
}

// TestKeyRotation: a new signing key logs nobody out, retiring the old one ends
// what only it signed.
func TestKeyRotation(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", "none")
	stays, moves := w.mustBegin(a, "").Refresh, w.mustBegin(a, "").Refresh
	old := w.Keyring.Keys()[0].ID
	if _, err := w.Keyring.Rotate(); err != nil {
		t.Fatal(err)
	}
	moves = w.mustRefresh(moves).RefreshJwt
	w.token(stays)
	if err := w.Keyring.Retire(old); err != nil {
		t.Fatal(err)
	}
	w.mustRefresh(moves)
	if _, err := w.Keyring.VerifyRefresh(stays, audience, w.clock.Now(), true); wire(err) != wireUnproven {
		t.Errorf("signed by a retired key: %v", err)
	}
}

// TestList checks what an account page will show.
func TestList(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", "none")
	w.appPassword(a, "phone", true)
	began := w.clock.Now()
	first, err := w.begin(from(t.Context(), "192.0.2.7", "Bluesky/1.99"), a, "")
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	if _, err := w.begin(from(t.Context(), "2001:db8::1", "curl/8"), a, "phone"); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	if _, err := w.refresh(from(t.Context(), "198.51.100.7", "Bluesky/2.0"), first.Refresh); err != nil {
		t.Fatal(err)
	}
	list, err := w.List(t.Context(), a.DID)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i].ID, list[i].Nonce, list[i].AppPasswordID, list[i].Marks = 0, "", 0, nil
	}
	want := []session.State{
		{
			AccountID: a.ID, Scope: auth.ScopeAccess, CreatedAt: began, Head: 1, RotatedAt: began.Add(2 * time.Hour),
			Expires: began.Add(2*time.Hour + 90*day), Network: "198.51.100.7", UserAgent: "Bluesky/2.0",
		},
		{
			AccountID: a.ID, Scope: auth.ScopeAppPassPrivileged, AppPassword: "phone", CreatedAt: began.Add(time.Hour),
			RotatedAt: began.Add(time.Hour), Expires: began.Add(time.Hour + 90*day), Network: "2001:db8::/64", UserAgent: "curl/8",
		},
	}
	if !reflect.DeepEqual(list, want) {
		t.Errorf("list %+v\nwant %+v", list, want)
	}
}

// TestCollect runs the collector for some lives of a token: it removes sessions
// that no token can wake any more, and only those.
func TestCollect(t *testing.T) {
	const life = 10 * time.Hour // the database's own ticks make days costly
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.Now = time.Now // the bubble's
		w.RefreshTTL = life
		a := w.account("alice", "none")
		idle, used := w.mustBegin(a, ""), w.mustBegin(a, "")
		w.mustRefresh(idle.Refresh) // its answer was lost

		ended := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		go func() { defer close(ended); w.Collect(ctx) }()

		// In the last minute of the token's life the lost answer is still there.
		time.Sleep(life - time.Minute)
		synctest.Wait()
		w.mustRefresh(used.Refresh)
		if _, err := w.Keyring.VerifyRefresh(idle.Refresh, audience, time.Now(), false); err != nil {
			t.Fatal(err)
		}
		again := w.mustRefresh(idle.Refresh)
		// And the token that it brought holds for another life.
		time.Sleep(life - time.Minute)
		synctest.Wait()
		if _, err := w.Keyring.VerifyRefresh(again.RefreshJwt, audience, time.Now(), false); err != nil {
			t.Fatal(err)
		}
		if got := len(w.sessions(a)); got != 2 {
			t.Errorf("%d sessions after twice the life of a token", got)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := w.sessions(a); len(got) != 1 || got[0].SID() != w.token(used.Refresh).SID {
			t.Errorf("sessions afterwards: %+v", got)
		}
		time.Sleep(life)
		synctest.Wait()
		if got := w.sessions(a); len(got) != 0 {
			t.Errorf("sessions at last: %+v", got)
		}
		stop()
		<-ended
	})
}

// TestCollectClock: while the clock cannot be trusted no session is collected; after that
// the expired ones are.
func TestCollectClock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.RefreshTTL = time.Hour
		var ahead atomic.Bool // by far, and nobody can say so
		ahead.Store(true)
		w.Now = time.Now // the bubble's
		a := w.account("alice", "none")
		w.mustBegin(a, "")
		w.Now = func() time.Time {
			if ahead.Load() {
				return time.Now().Add(1000 * time.Hour)
			}
			return time.Now()
		}
		w.Doubt = func() error {
			if ahead.Load() {
				return errors.New("the clock is ahead")
			}
			return nil
		}
		ended := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		go func() { defer close(ended); w.Collect(ctx) }()
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		if got := len(w.sessions(a)); got != 1 {
			t.Errorf("%d sessions after the clock jumped, want 1", got)
		}
		ahead.Store(false) // it is set right
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := len(w.sessions(a)); got != 0 {
			t.Errorf("%d sessions after two lives of a token, want none", got)
		}
		stop()
		<-ended
	})
}
