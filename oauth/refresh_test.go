package oauth_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/session"
)

// TestRefresh is the contract's table of refresh_token.
func TestRefresh(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.Limits = nil
	a := w.app(confidentialID)
	first := a.granted()
	second := a.refresh(first.text("refresh_token"))
	id := func(got answer) string {
		t.Helper()
		token, err := w.Keyring.VerifyOAuthRefresh(got.text("refresh_token"), issuer, w.clock.Now())
		if err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		return token.JTI[strings.LastIndexByte(token.JTI, '.'):]
	}
	if id(first) != ".0" || id(second) != ".1" {
		t.Errorf("generations %s, %s", id(first), id(second))
	}
	w.clock.Advance(60 * day)
	lost := a.refresh(first.text("refresh_token"))
	if id(lost) != ".1" {
		t.Errorf("a lost answer, asked for again: %s", id(lost))
	}
	third := a.refresh(second.text("refresh_token"))
	if id(third) != ".2" {
		t.Errorf("%s", id(third))
	}
	w.clock.Advance(23 * time.Hour)
	if got := a.refresh(first.text("refresh_token")); id(got) != ".2" {
		t.Errorf("superseded within a day: %s", id(got))
	}
	w.clock.Advance(2 * time.Hour)
	if got := a.refresh(first.text("refresh_token")); got.String() != "400 invalid_grant: Refresh token was superseded" {
		t.Errorf("superseded for more than a day: %s", got)
	}
	if w.trail(account.EntrySuspectedReuse) != 1 || w.liveSessions() != 1 {
		t.Error("a reuse is to be recorded, and the session lives on")
	}
	// What the database does not know yet, as after a restore.
	dir := t.TempDir()
	w.CopyTo(dir)
	for range 3 {
		third = a.refresh(third.text("refresh_token"))
	}
	w.OpenCopy(dir)
	w.wire()
	if got := a.refresh(third.text("refresh_token")); id(got) != ".6" || w.trail(account.EntrySessionAhead) != 1 {
		t.Errorf("a newer one than the database knows: %s", id(got))
	}
	w.clock.Advance(90 * day)
	if got := a.refresh(third.text("refresh_token")); got.String() != "400 invalid_grant: Session has expired" {
		t.Errorf("90 days unused: %s", got)
	}
}

// TestRefreshEnded: what ends a session ends its tokens, at once.
func TestRefreshEnded(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.Limits = nil
	entry := account.Entry{At: w.clock.Now(), Kind: account.EntryPasswordChanged, By: account.ActorOwner}
	for name, end := range map[string]func(a *app, got answer) error{
		"revoked by its refresh token": func(a *app, got answer) error { a.revoke(got.text("refresh_token")); return nil },
		"revoked by its access token":  func(a *app, got answer) error { a.revoke(got.text("access_token")); return nil },
		"new password": func(*app, answer) error {
			return w.World.Accounts.SetPassword(t.Context(), w.alice.ID, "new", 0, entry)
		},
		"signed out everywhere": func(*app, answer) error {
			_, err := w.Sessions.RevokeAll(t.Context(), w.alice.DID, false, account.ActorAdmin)
			return err
		},
		"taken down and lifted": func(*app, answer) error { w.takedown(true); w.takedown(false); return nil },
	} {
		a := w.app(publicID)
		got := a.granted()
		if err := end(a, got); err != nil {
			t.Fatal(err)
		}
		if again := a.refresh(got.text("refresh_token")); again.String() != "400 invalid_grant: Session has ended" {
			t.Errorf("%s: %s", name, again)
		}
		if w.live(got.text("access_token")) {
			t.Errorf("%s: its access token lives on", name)
		}
	}
	a := w.app(publicID)
	got := a.granted()
	w.takedown(true)
	if again := a.refresh(got.text("refresh_token")); again.String() != "400 invalid_grant: Session has ended" {
		t.Errorf("taken down: %s", again)
	}
}

// TestRefreshTheft: the right token by another program changes nothing for its own, but is
// recorded, and told once a day.
func TestRefreshTheft(t *testing.T) {
	t.Parallel()
	for _, policy := range []session.Policy{session.PolicyReport, session.PolicyRevoke} {
		for name, thief := range map[string]func(w *world, a *app) *app{
			"another DPoP key": func(w *world, a *app) *app { return w.app(a.id) },
			"another client":   func(w *world, a *app) *app { b := w.app(trustedID); b.dpop = a.dpop; return b },
			"another client key": func(w *world, a *app) *app {
				w.rotateKey("key-2")
				w.clock.Advance(11 * time.Second)
				b := *a
				b.key, b.kid = w.key, "key-2"
				return &b
			},
		} {
			t.Run(string(policy)+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newTestWorld(t)
				w.confirmEmail()
				w.Sessions.Policy = policy
				a := w.app(confidentialID)
				got := a.granted()
				b := thief(w, a)
				for range 3 {
					w.clock.Advance(2 * time.Hour)
					want := "400 invalid_grant: Refresh token does not match the client or its key"
					if policy == session.PolicyRevoke && w.trail(account.EntrySuspectedTheft) > 0 {
						want = "400 invalid_grant: Session has ended"
					}
					if stolen := b.refresh(got.text("refresh_token")); stolen.String() != want {
						t.Errorf("%s, want %s", stolen, want)
					}
				}
				if n := w.trail(account.EntrySuspectedTheft); n != 1 {
					t.Errorf("%d entries in six hours, want 1", n)
				}
				if n := w.mails(string(mail.NoticeTheft)); n != 1 {
					t.Errorf("%d mails in six hours, want 1", n)
				}
				if name == "another client key" {
					return // its own key is gone
				}
				if own := a.refresh(got.text("refresh_token")); (own.Status == http.StatusOK) != (policy == session.PolicyReport) {
					t.Errorf("its own program: %s", own)
				}
			})
		}
	}
}

// rotateKey gives the confidential client another key.
func (w *world) rotateKey(kid string) {
	fresh := w.app(confidentialID).dpop
	jwk := fresh.JWK()
	jwk["kid"], jwk["alg"] = kid, "ES256"
	w.network.set(confidentialID, "jwks", map[string]any{"keys": []any{jwk}})
	w.key = fresh
}

// TestRemovedKey: a session ends an hour after its client's key is gone, and not before.
func TestRemovedKey(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a := w.app(confidentialID)
	got := a.granted()
	old := w.key
	w.rotateKey("key-2")
	w.clock.Advance(11 * time.Minute)
	if again := a.refresh(got.text("refresh_token")); again.String() != "400 invalid_client: client_assertion: its kid is not in the client's jwks" {
		t.Errorf("the key is gone: %s", again)
	}
	sweep := func() {
		t.Helper()
		if err := w.SweepKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.clock.Advance(30 * time.Minute)
	sweep()
	if n := w.trail(account.EntryClientKeyRemoved); n != 0 {
		t.Errorf("%d ended within the hour", n)
	}
	jwk := old.JWK()
	jwk["kid"], jwk["alg"] = "key-1", "ES256"
	w.network.set(confidentialID, "jwks", map[string]any{"keys": []any{jwk}})
	w.clock.Advance(11 * time.Minute)
	if got = a.refresh(got.text("refresh_token")); got.Status != http.StatusOK {
		t.Errorf("the key is back: %s", got)
	}
	w.rotateKey("key-3")
	w.clock.Advance(11 * time.Minute)
	a.refresh(got.text("refresh_token"))
	w.clock.Advance(61 * time.Minute)
	sweep()
	if n := w.trail(account.EntryClientKeyRemoved); n != 1 || w.liveSessions() != 0 {
		t.Errorf("an hour after the key is gone: %d entries, %d sessions", n, w.liveSessions())
	}
}

func (w *world) liveSessions() int {
	w.t.Helper()
	list, err := w.World.Sessions.List(w.t.Context(), w.alice.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(list)
}

// TestRefreshFaults: no fault of ours or of the client's host ends a session.
func TestRefreshFaults(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a := w.app(publicID)
	got := a.granted("scope", "atproto include:app.bsky.authCreatePosts")
	w.network.fail(true)
	w.clock.Advance(6 * day)
	if got = a.refresh(got.text("refresh_token")); got.Status != http.StatusOK {
		t.Fatalf("its host is down for six days: %s", got)
	}
	w.clock.Advance(2 * day)
	down := a.refresh(got.text("refresh_token"))
	if down.Status != http.StatusServiceUnavailable || down.Error != "temporarily_unavailable" || down.Header.Get("Retry-After") == "" {
		t.Errorf("for eight days: %s", down)
	}
	w.network.fail(false)
	w.clock.Advance(time.Minute)
	if got = a.refresh(got.text("refresh_token")); got.Status != http.StatusOK {
		t.Errorf("it is back: %s", got)
	}
	w.World.Close()
	if down := a.refresh(got.text("refresh_token")); down.Status != http.StatusServiceUnavailable {
		t.Errorf("the disk fails: %s", down)
	}
	w.Reopen()
	w.wire()
	if got = a.refresh(got.text("refresh_token")); got.Status != http.StatusOK {
		t.Errorf("it is mended: %s", got)
	}
}
