package session_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/session"
	"nestbox/signin"
	"nestbox/xrpc"
)

// household is an account with one session of each kind.
type household struct {
	*world

	owner  *account.Account
	labels []string
	pairs  map[string]auth.Pair
	tokens map[string]auth.Token // access tokens
}

// The labels of a household's sessions.
const (
	laptop  = "laptop" // opened by the password
	tablet  = "tablet" // the same
	phone   = "phone"  // opened by an app password
	watch   = "watch"  // opened by another one, privileged
	foreign = "foreign access token"
)

func newHousehold(t *testing.T) household {
	t.Helper()
	w := newWorld(t, t.TempDir())
	h := household{world: w, owner: w.account("alice", cheapHash(password)), labels: []string{laptop, tablet, phone, watch}}
	w.appPassword(h.owner, phone, false)
	w.appPassword(h.owner, watch, true)
	h.pairs, h.tokens = map[string]auth.Pair{}, map[string]auth.Token{}
	for label, app := range map[string]string{laptop: "", tablet: "", phone: phone, watch: watch} {
		h.pairs[label] = w.mustBegin(h.owner, app).Pair
		h.tokens[label] = w.access(h.pairs[label].Access)
	}
	// An access token that another server issued under a secret we took over.
	h.tokens[foreign] = auth.Token{Scope: auth.ScopeAccess, DID: h.owner.DID, IssuedAt: w.clock.Now(), Expires: w.clock.Now().Add(2 * time.Hour)}
	w.clock.Advance(time.Minute)
	return h
}

// end ends the session of label as its own client does.
func (h household) end(label string) error {
	_, err := h.DeleteSession(h.t.Context(), auth.EndingCaller{Token: h.token(h.pairs[label].Refresh)}, xrpc.None{})
	return err
}

// TestEndings is the contract's table "What ends sessions". An ended session
// cannot be refreshed and its access tokens are dead at once; every other
// session goes on.
func TestEndings(t *testing.T) {
	applied := func(a bool) *account.Applied { return &account.Applied{Applied: a} }
	for _, c := range []struct {
		event   string
		do      func(h household) error
		ends    []string
		refused string              // the answer to a refresh of an ended one
		trail   []account.EntryKind // newest first
	}{
		{
			event: "deleteSession, password", do: func(h household) error { return h.end(laptop) },
			ends: []string{laptop}, trail: []account.EntryKind{account.EntrySignOut},
		},
		{
			event: "deleteSession, app password", do: func(h household) error { return h.end(phone) },
			ends: []string{phone}, trail: []account.EntryKind{account.EntrySignOut},
		},
		{
			event: "revoke in the list", do: func(h household) error {
				return h.Revoke(h.t.Context(), h.owner.DID, h.number(h.owner, h.pairs[tablet].Refresh), account.ActorOwner)
			},
			ends: []string{tablet}, trail: []account.EntryKind{account.EntrySessionRevoked},
		},
		{
			event: "revokeAppPassword", do: func(h household) error {
				return h.Accounts.RevokeAppPassword(h.t.Context(), h.owner.ID, phone, h.entry(account.EntryAppPasswordRevoked))
			},
			ends: []string{phone, foreign}, trail: []account.EntryKind{account.EntryAppPasswordRevoked},
		},
		{
			event: "password reset", do: func(h household) error {
				return h.Accounts.SetPassword(h.t.Context(), h.owner.ID, cheapHash("another"), 0, h.entry(account.EntryPasswordChanged))
			},
			ends: []string{laptop, tablet, phone, watch, foreign}, trail: []account.EntryKind{account.EntryPasswordChanged},
		},
		{
			event: "password change by a session", do: func(h household) error {
				keep := h.number(h.owner, h.pairs[laptop].Refresh)
				return h.Accounts.SetPassword(h.t.Context(), h.owner.ID, cheapHash("another"), keep, h.entry(account.EntryPasswordChanged))
			},
			ends: []string{tablet, phone, watch, foreign}, trail: []account.EntryKind{account.EntryPasswordChanged},
		},
		{
			event: "sign out everywhere", do: func(h household) error {
				n, err := h.RevokeAll(h.t.Context(), h.owner.DID, false, account.ActorAdmin)
				if n != 4 {
					h.t.Errorf("%d sessions ended", n)
				}
				return err
			},
			ends: []string{laptop, tablet, phone, watch, foreign}, trail: []account.EntryKind{account.EntryAllSignedOut},
		},
		{
			event: "takedown", do: func(h household) error { h.takedown(h.owner, true); return nil },
			ends:    []string{laptop, tablet, phone, watch, foreign},
			refused: wireTakedown, trail: []account.EntryKind{account.EntryTakedown},
		},
		{
			event: "takedown and lift", do: func(h household) error {
				h.takedown(h.owner, true)
				h.takedown(h.owner, false)
				return nil
			},
			ends:  []string{laptop, tablet, phone, watch, foreign},
			trail: []account.EntryKind{account.EntryTakedownLifted, account.EntryTakedown},
		},
		{
			event: "lift of nothing", do: func(h household) error {
				h.setStatus(h.owner, account.StatusChange{Takedown: applied(false)}, account.EntryTakedownLifted)
				return nil
			},
			trail: []account.EntryKind{account.EntryTakedownLifted},
		},
		{
			event: "account deletion", do: func(h household) error { return h.Accounts.Delete(h.t.Context(), h.owner.ID, h.Now()) },
			ends: []string{laptop, tablet, phone, watch, foreign},
		},
		{
			event: "deactivation", do: func(h household) error {
				h.setStatus(h.owner, account.StatusChange{Deactivated: new(true)}, account.EntryDeactivated)
				return nil
			},
			trail: []account.EntryKind{account.EntryDeactivated},
		},
		{
			event: "suspension", do: func(h household) error {
				h.setStatus(h.owner, account.StatusChange{Suspended: new(true)}, account.EntrySuspended)
				return nil
			},
			trail: []account.EntryKind{account.EntrySuspended},
		},
	} {
		t.Run(c.event, func(t *testing.T) {
			h := newHousehold(t)
			before := len(h.trail(h.owner))
			if err := c.do(h); err != nil {
				t.Fatal(err)
			}
			if got := h.trail(h.owner); len(got) > 0 {
				var kinds []account.EntryKind
				for _, e := range got[:len(got)-before] {
					kinds = append(kinds, e.Kind)
				}
				if !slices.Equal(kinds, c.trail) {
					t.Errorf("trail %q, want %q", kinds, c.trail)
				}
			}
			if c.refused == "" {
				c.refused = wireRevoked
			}
			for label, token := range h.tokens {
				if ended := slices.Contains(c.ends, label); h.live(token) == ended {
					t.Errorf("%s: access token lives: %t", label, !ended)
				}
			}
			for _, label := range h.labels {
				want := wireOK
				if slices.Contains(c.ends, label) {
					want = c.refused
				}
				if _, err := h.refresh(t.Context(), h.pairs[label].Refresh); wire(err) != want {
					t.Errorf("%s: refresh %q, want %q", label, wire(err), want)
				}
			}
			// What ended stays ended, also after a restart of the server.
			h.Reopen()
			h.wire()
			for label, token := range h.tokens {
				if ended := slices.Contains(c.ends, label); h.live(token) == ended {
					t.Errorf("%s after a restart: access token lives: %t", label, !ended)
				}
			}
		})
	}
}

// TestStatusInAnswer: the answer of a session that has not ended has the account's
// status.
func TestStatusInAnswer(t *testing.T) {
	h := newHousehold(t)
	h.setStatus(h.owner, account.StatusChange{Deactivated: new(true)}, account.EntryDeactivated)
	if out := h.mustRefresh(h.pairs[laptop].Refresh); out.Active || out.Status != account.Deactivated {
		t.Errorf("deactivated: active %t, status %q", out.Active, out.Status)
	}
	h.setStatus(h.owner, account.StatusChange{Suspended: new(true)}, account.EntrySuspended)
	if out := h.mustRefresh(h.pairs[laptop].Refresh); out.Active || out.Status != account.Suspended {
		t.Errorf("suspended: active %t, status %q", out.Active, out.Status)
	}
}

// TestAppPasswordsStay: signing out everywhere, or another password, leaves the app
// passwords, unless the caller asks to remove them as well.
func TestAppPasswordsStay(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	app := w.appPassword(a, "phone", false)
	if err := w.Accounts.SetPassword(t.Context(), a.ID, cheapHash("another"), 0, w.entry(account.EntryPasswordChanged)); err != nil {
		t.Fatal(err)
	}
	w.attempts(1, home, "alice.test", app, wireOK)
	if _, err := w.RevokeAll(t.Context(), a.DID, false, account.ActorOwner); err != nil {
		t.Fatal(err)
	}
	w.attempts(1, home, "alice.test", app, wireOK)
	if n, err := w.RevokeAll(t.Context(), a.DID, true, account.ActorOwner); err != nil || n != 1 {
		t.Fatalf("%d sessions ended, %v", n, err)
	}
	w.attempts(1, home, "alice.test", app, wireWrong)
}

// TestRevokeIsTheOwnersOwn: nobody ends another account's session by its number.
func TestRevokeIsTheOwnersOwn(t *testing.T) {
	h := newHousehold(t)
	other := h.account("bob", "none")
	id := h.number(h.owner, h.pairs[laptop].Refresh)
	for name, err := range map[string]error{
		"another account":  h.Revoke(t.Context(), other.DID, id, account.ActorOwner),
		"an unknown one":   h.Revoke(t.Context(), h.owner.DID, 4711, account.ActorOwner),
		"no number at all": h.Revoke(t.Context(), h.owner.DID, 0, account.ActorOwner),
	} {
		if !errors.Is(err, session.ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := h.Revoke(t.Context(), "did:plc:nobody", id, account.ActorOwner); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("unknown account: %v", err)
	}
	h.mustRefresh(h.pairs[laptop].Refresh)
}

// TestSignOut: deleteSession accepts any refresh token of the session, expired or
// not, and ends all of it; it is not an error if the session is gone already.
func TestSignOut(t *testing.T) {
	w := newWorld(t, t.TempDir())
	alice, bob := w.account("alice", "none"), w.account("bob", "none")
	end := func(token auth.Token) string {
		_, err := w.DeleteSession(t.Context(), auth.EndingCaller{Token: token}, xrpc.None{})
		return wire(err)
	}
	first := w.mustBegin(alice, "")
	second := w.mustRefresh(first.Refresh)
	third := w.mustRefresh(second.RefreshJwt)
	other := w.mustBegin(alice, "")

	// Tokens that fit nothing end nothing.
	good := w.token(third.RefreshJwt)
	for name, token := range map[string]auth.Token{
		"another session's jti": {DID: alice.DID, SID: good.SID, JTI: w.token(other.Refresh).JTI},
		"no generation":         {DID: alice.DID, SID: good.SID, JTI: good.SID},
	} {
		if got := end(token); got != wireUnproven {
			t.Errorf("%s: %s", name, got)
		}
	}
	for name, token := range map[string]auth.Token{
		"another account":     {DID: bob.DID, SID: good.SID, JTI: good.JTI},
		"an unknown account":  {DID: "did:plc:nobody", SID: good.SID, JTI: good.JTI},
		"another nonce":       {DID: alice.DID, SID: good.SID + "x", JTI: good.SID + "x.0"},
		"an unknown number":   {DID: alice.DID, SID: "zz-nonce", JTI: "zz-nonce.0"},
		"another server's":    {DID: alice.DID, JTI: "some-random-id"},
		"no number in its ID": {DID: alice.DID, SID: "x", JTI: "x.0"},
	} {
		if got := end(token); got != wireOK {
			t.Errorf("%s: %s", name, got)
		}
	}
	if !w.live(w.access(third.AccessJwt)) {
		t.Fatal("something of that ended the session")
	}

	// The oldest token ends all, also when it has expired.
	oldest, newest := w.token(first.Refresh), third.RefreshJwt
	w.clock.Advance(95 * day)
	if _, err := w.Keyring.VerifyRefresh(first.Refresh, audience, w.clock.Now(), false); wire(err) != wireExpired {
		t.Fatalf("not expired: %v", err)
	}
	for range 2 {
		if got := end(oldest); got != wireOK {
			t.Errorf("sign-out: %s", got)
		}
	}
	if _, err := w.refresh(t.Context(), newest); wire(err) != wireRevoked {
		t.Errorf("refresh afterwards: %s", wire(err))
	}
	w.mustRefresh(other.Refresh)
	if got := len(w.reasons(alice, account.EntrySignOut)); got != 1 {
		t.Errorf("%d sign-outs on the trail", got)
	}
}

// TestNeverBack: no token of an ended session brings it back, not even one of a
// generation that the database has never seen.
func TestNeverBack(t *testing.T) {
	h := newHousehold(t)
	st := h.sessions(h.owner)[0]
	pairs := []auth.Token{}
	for _, generation := range []int64{0, 1, 2, 1000} {
		pairs = append(pairs, auth.Token{Scope: auth.ScopeRefresh, DID: h.owner.DID, SID: st.SID(), JTI: st.JTI(generation)})
	}
	if err := h.Revoke(t.Context(), h.owner.DID, st.ID, account.ActorAdmin); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, token := range pairs {
			if _, err := h.Refresh(t.Context(), token); !errors.Is(err, session.ErrUnknown) {
				t.Errorf("%s: %v", token.JTI, err)
			}
		}
		h.mustBegin(h.owner, "") // a new one does not take its place
	}
}

// TestStartAgainstEndings: whatever the interleaving, no session is left that a
// replaced password opened, or that is older than a takedown.
func TestStartAgainstEndings(t *testing.T) {
	for name, end := range map[string]func(w *world, a *account.Account) error{
		"password": func(w *world, a *account.Account) error {
			return w.Accounts.SetPassword(w.t.Context(), a.ID, cheapHash("another"), 0, w.entry(account.EntryPasswordChanged))
		},
		"takedown": func(w *world, a *account.Account) error { w.takedown(a, true); return nil },
		"deletion": func(w *world, a *account.Account) error { return w.Accounts.Delete(w.t.Context(), a.ID, w.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			a := w.account("alice", cheapHash(password))
			cred, err := w.Accounts.Credentials(t.Context(), a.ID)
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			begun := make(chan struct{}, 200)
			for range 20 {
				all.Go(func() {
					for range 10 {
						_, err := w.Open(t.Context(), signin.Proven{Account: a, Epoch: cred.Epoch})
						if err != nil && !errors.Is(err, session.ErrUnknown) {
							t.Errorf("start: %v", err)
						}
						begun <- struct{}{}
					}
				})
			}
			for range 50 { // in between
				<-begun
			}
			if err := end(w, a); err != nil {
				t.Fatal(err)
			}
			all.Wait()
			if left := w.sessions(a); len(left) > 0 {
				t.Errorf("%d sessions are left", len(left))
			}
			if _, err := w.Open(t.Context(), signin.Proven{Account: a, Epoch: cred.Epoch}); !errors.Is(err, session.ErrUnknown) {
				t.Errorf("start afterwards: %v", err)
			}
		})
	}
}

// TestLimitOfSessions: the longest unused go first, and the trail says so.
func TestLimitOfSessions(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.Limit = 3
	a, b := w.account("alice", "none"), w.account("bob", "none")
	neighbour := w.mustBegin(b, "")
	var refresh []string
	for range 3 {
		w.clock.Advance(time.Minute)
		refresh = append(refresh, w.mustBegin(a, "").Refresh)
	}
	w.clock.Advance(time.Minute)
	refresh[0] = w.mustRefresh(refresh[0]).RefreshJwt // the oldest is in use
	w.clock.Advance(time.Minute)
	refresh = append(refresh, w.mustBegin(a, "").Refresh)
	if got := len(w.sessions(a)); got != 3 {
		t.Errorf("%d sessions", got)
	}
	for i, want := range []string{wireOK, wireRevoked, wireOK, wireOK} {
		if _, err := w.refresh(t.Context(), refresh[i]); wire(err) != want {
			t.Errorf("session %d: %q, want %q", i, wire(err), want)
		}
	}
	w.mustRefresh(neighbour.Refresh)
	if got := w.reasons(a, account.EntrySessionsCapped); !slices.Equal(got, []string{"1 sessions ended to keep within the limit of 3"}) {
		t.Errorf("trail %q", got)
	}
	w.Limit = 1 // the operator lowered it
	only := w.mustBegin(a, "")
	if got := w.sessions(a); len(got) != 1 || got[0].SID() != w.token(only.Refresh).SID {
		t.Errorf("sessions %+v", got)
	}
}
