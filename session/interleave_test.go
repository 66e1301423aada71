package session_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/session"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

// meeting is an account with two sessions, its limit, and what may happen to them at the
// same time.
type meeting struct {
	*world

	alice *account.Account
	old   []auth.Pair
}

func newMeeting(t *testing.T, before func()) *meeting {
	t.Helper()
	m := &meeting{world: newWorldBefore(t, t.TempDir(), before)}
	m.Limit = 2
	m.alice = m.account("alice", cheapHash(password))
	m.appPassword(m.alice, "phone", false)
	for i := range m.Limit {
		m.clock.Advance(time.Minute)
		signed, err := m.begin(from(t.Context(), "192.0.2.1", fmt.Sprintf("old %d", i+1)), m.alice, "")
		if err != nil {
			t.Fatal(err)
		}
		m.old = append(m.old, signed.Pair)
	}
	m.clock.Advance(time.Minute)
	return m
}

// state is what is left of the account's sessions, and what the trail says of them.
func (m *meeting) state() string {
	list, err := m.Store.List(m.t.Context(), m.alice.ID)
	var sessions []string
	for _, s := range list {
		sessions = append(sessions, fmt.Sprintf("%s at %d", s.UserAgent, s.Head))
	}
	slices.Sort(sessions)
	var trail []string
	for _, e := range m.trail(m.alice) {
		trail = append(trail, string(e.Kind)+" "+e.Reason)
	}
	return fmt.Sprintf("%q, trail %q, %v", sessions, trail, err)
}

// signingIn is createSession of a client.
func (m *meeting) signingIn(userAgent string, allowTakenDown bool) func() string {
	return func() string {
		in := session.CreateSessionInput{Identifier: m.alice.Handle.String(), Password: password, AllowTakenDown: allowTakenDown}
		_, err := m.CreateSession(from(m.t.Context(), "192.0.2.1", userAgent), auth.Anyone{}, in)
		return wire(err)
	}
}

// refreshing is refreshSession of the first session.
func (m *meeting) refreshing() string {
	_, err := m.refresh(from(m.t.Context(), "192.0.2.1", "old 1"), m.old[0].Refresh)
	return wire(err)
}

// meetings are what happens to an account while it signs in or refreshes.
var meetings = map[string]func(m *meeting) func() string{
	"a sign-in": func(m *meeting) func() string { return m.signingIn("other", false) },
	"a refresh": func(m *meeting) func() string { return m.refreshing },
	"deleteSession": func(m *meeting) func() string {
		return func() string {
			_, err := m.DeleteSession(m.t.Context(), auth.EndingCaller{Token: m.token(m.old[0].Refresh)}, xrpc.None{})
			return wire(err)
		}
	},
	"revoked by number": func(m *meeting) func() string {
		id := m.number(m.alice, m.old[0].Refresh)
		return func() string { return fmt.Sprint(m.Revoke(m.t.Context(), m.alice.DID, id, account.ActorOwner)) }
	},
	"revoke all": func(m *meeting) func() string {
		return func() string {
			n, err := m.RevokeAll(m.t.Context(), m.alice.DID, true, account.ActorOwner)
			return fmt.Sprint(n, err)
		}
	},
	"another password": func(m *meeting) func() string {
		return func() string {
			return fmt.Sprint(m.Accounts.SetPassword(m.t.Context(), m.alice.ID, cheapHash("another-horse"), 0, m.entry(account.EntryPasswordChanged)))
		}
	},
	"a takedown": func(m *meeting) func() string {
		return func() string {
			down := account.StatusChange{Takedown: &account.Applied{Applied: true}}
			_, err := m.Accounts.SetStatus(m.t.Context(), m.alice.ID, down, m.entry(account.EntryTakedown))
			return fmt.Sprint(err)
		}
	},
	"the deletion": func(m *meeting) func() string {
		return func() string { return fmt.Sprint(m.Accounts.Delete(m.t.Context(), m.alice.ID, m.clock.Now())) }
	},
}

// TestSignInsMeet: a sign-in and what else happens to the account's sessions, its password
// or its status at the same time end as one after the other.
func TestSignInsMeet(t *testing.T) {
	t.Parallel()
	for name, other := range meetings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				m := newMeeting(t, before)
				return storetest.Changes{One: m.signingIn("new", false), Other: other(m), State: m.state}
			})
		})
	}
}

// TestRefreshesMeet: so do a refresh and what else happens.
func TestRefreshesMeet(t *testing.T) {
	t.Parallel()
	for name, other := range meetings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				m := newMeeting(t, before)
				return storetest.Changes{One: m.refreshing, Other: other(m), State: m.state}
			})
		})
	}
}
