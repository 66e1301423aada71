package session_test

import (
	"errors"
	"testing"
	"time"

	"nestbox/auth"
	"nestbox/session"
	"nestbox/takeover"
)

// TestInheritedForgotten: 90 days after the take-over no token of the old server is known, and
// the sessions live on by ours.
func TestInheritedForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir())
	alice := w.account("alice", "none")
	took := w.clock.Now()
	rows := oldRows{alice.DID.String(): {{ID: "a", Expires: took.Add(80 * day)}, {ID: "b", Expires: took.Add(80 * day)}}}
	if _, err := takeover.BringSessions(t.Context(), rows, w.World.Legacy, took); err != nil {
		t.Fatal(err)
	}
	old := auth.Token{Scope: auth.ScopeRefresh, DID: alice.DID, JTI: "a"}
	signed, err := w.Refresh(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		before time.Time
		want   int
	}{{took, 0}, {took.Add(time.Millisecond), 2}, {took.Add(day), 0}} {
		if n, err := w.Store.ForgetInherited(t.Context(), c.before); err != nil || n != c.want {
			t.Errorf("taken over before %s: %d forgotten, want %d, %v", c.before, n, c.want, err)
		}
	}
	if _, err := w.Refresh(t.Context(), old); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("a forgotten token: %v", err)
	}
	if _, err := w.refresh(t.Context(), signed.Refresh); err != nil {
		t.Errorf("ours: %v", err)
	}
}

// TestInheritedOwnToken: after the way back and another take-over, sessions have other numbers:
// a token of ours is found by its name, whether its number is free or another session has it.
func TestInheritedOwnToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir())
	alice := w.account("alice", "none")
	took := w.clock.Now()
	rows := oldRows{alice.DID.String(): {
		{ID: "1-former.0", Expires: took.Add(80 * day), Next: "1-former.1"},
		{ID: "1-former.1", Expires: took.Add(80 * day)},
		{ID: "zz-other.7", Expires: took.Add(80 * day)},
	}}
	if _, err := takeover.BringSessions(t.Context(), rows, w.World.Legacy, took); err != nil {
		t.Fatal(err)
	}
	token := func(sid, jti string) auth.Token {
		return auth.Token{Scope: auth.ScopeRefresh, DID: alice.DID, SID: sid, JTI: jti}
	}
	for _, own := range []auth.Token{token("1-former", "1-former.1"), token("1-former", "1-former.0"), token("zz-other", "zz-other.7")} {
		if _, err := w.Refresh(t.Context(), own); err != nil {
			t.Errorf("%s: %v", own.JTI, err)
		}
	}
	if _, err := w.Refresh(t.Context(), token("1-former", "1-former.9")); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("a generation that never was: %v", err)
	}
	if _, err := w.Refresh(t.Context(), token("1-former", "2-other.1")); !errors.Is(err, session.ErrMismatch) {
		t.Errorf("a name that does not fit: %v", err)
	}
	if err := w.SignOut(t.Context(), token("1-former", "1-former.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Refresh(t.Context(), token("1-former", "1-former.1")); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("after signing out: %v", err)
	}
	if _, err := w.Refresh(t.Context(), token("zz-other", "zz-other.7")); err != nil {
		t.Errorf("another session: %v", err)
	}
}
