package storetest

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/mail"
	"nestbox/session"
)

// granted makes n the session of an OAuth client.
func granted(n *session.New, clientID string) {
	n.Scope, n.AppPasswordID = auth.ScopeOAuth, 0
	n.Grant = &session.Grant{
		Holder: session.Holder{
			ClientID: clientID, AuthMethod: session.AuthPrivateKey, KID: "k1", Alg: "ES256", ClientJKT: "client key", DPoPJKT: "dpop key",
		},
		Requested: "atproto repo:*", Granted: "atproto include:a.b.c", Effective: "atproto repo:a.b.d", Sets: "a.b.c 1",
		EndsAt: n.Expires.Add(365 * 24 * time.Hour), DeviceID: 7,
	}
	n.Entry.Kind, n.Entry.Reason = account.EntryAppAuthorized, clientID
}

// authorize makes the session of an OAuth client.
func authorize(t *testing.T, s *Database, a *account.Account, clientID string) *session.State {
	t.Helper()
	n := newSession(t, s, a)
	granted(&n, clientID)
	return create(t, s, n)
}

// same fails the test unless a session is want, in memory and after a restart.
func same(t *testing.T, s *Database, want *session.State) {
	t.Helper()
	for _, when := range []string{"now", "after a restart"} {
		if got, err := s.Sessions.Load(t.Context(), want.ID); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", when, got, err, want)
		}
		s.Reopen()
	}
}

func testGrantCreate(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	n := newSession(t, s, a)
	granted(&n, aClient)
	st := create(t, s, n)
	if !reflect.DeepEqual(st.Grant, n.Grant) || st.Scope != auth.ScopeOAuth {
		t.Errorf("%+v", st)
	}
	same(t, s, st)
	list, err := s.Sessions.List(t.Context(), a.ID)
	if err != nil || len(list) != 1 || !reflect.DeepEqual(list[0], *st) {
		t.Errorf("List = %+v, %v", list, err)
	}
}

// testGrantLimit: a client that is allowed in again displaces its own session first.
func testGrantLimit(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	oldest, own, called := signIn(t, s, a), authorize(t, s, a, aClient), authorize(t, s, a, aClient)
	if err := s.Sessions.Called(t.Context(), own.ID, at(5)); err != nil {
		t.Fatal(err)
	}
	n := newSession(t, s, a)
	n.Limit = 3
	granted(&n, aClient)
	fresh := create(t, s, n)
	alive(t, s, map[*session.State]bool{oldest: true, own: true, called: false, fresh: true})
	other := func() *session.State {
		n := newSession(t, s, a)
		n.Limit = 3
		granted(&n, "https://other.example/c")
		return create(t, s, n)
	}()
	alive(t, s, map[*session.State]bool{oldest: false, own: true, fresh: true, other: true})
}

func testGrantRotate(t *testing.T, s *Database) {
	t.Helper()
	st := authorize(t, s, newAccount(t, s, "alice"), aClient)
	want := *st
	for i := range 3 {
		r, err := s.Sessions.Rotate(t.Context(), st.ID, func(was session.State) (session.Rotation, error) {
			r, err := forward(was)
			if i != 1 {
				g := *was.Grant
				g.Effective, g.Sets, g.Version = fmt.Sprintf("atproto %d", i), "later", g.Version+1
				r.Next.Grant = &g
			}
			return r, err
		})
		if err != nil {
			t.Fatal(err)
		}
		want = r.Next
		same(t, s, &want)
	}
	if want.Grant.Effective != "atproto 2" || want.Grant.Version != 2 {
		t.Errorf("%+v", want.Grant)
	}
}

// testGrantRotateTheft: of two who present the same token at once, one is recorded, and
// its mail is queued with it.
func testGrantRotateTheft(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	st := authorize(t, s, a, aClient)
	s.Reopen()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := s.Sessions.Rotate(t.Context(), st.ID, func(was session.State) (session.Rotation, error) {
				if !was.Grant.TheftAt.IsZero() {
					return session.Rotation{Outcome: session.Theft, Next: was}, nil
				}
				g := *was.Grant
				g.TheftAt, g.Version = at(3), g.Version+1
				next := was
				next.Grant, next.FlaggedAt = &g, at(3)
				return session.Rotation{
					Outcome: session.Theft, Next: next, Changed: true, Entries: []account.Entry{entry(account.EntrySuspectedTheft)},
					Mails: []mail.Message{{To: "a@example.com", Subject: "theft", Text: "x", HTML: "x"}},
				}, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	thefts := 0
	for _, k := range kinds(t, s, a) {
		if k == account.EntrySuspectedTheft {
			thefts++
		}
	}
	mails, err := s.Outbox.Due(t.Context(), at(100), 10)
	if err != nil || thefts != 1 || len(mails) != 1 {
		t.Errorf("%d entries, %d mails, %v; want one each", thefts, len(mails), err)
	}
	s.Reopen()
	if got, err := s.Sessions.Load(t.Context(), st.ID); err != nil || !got.Grant.TheftAt.Equal(at(3)) || got.Head != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// testGrantCalled: a call is noted, and a rotation that was decided before does not undo it.
func testGrantCalled(t *testing.T, s *Database) {
	t.Helper()
	st := authorize(t, s, newAccount(t, s, "alice"), aClient)
	first := true
	r, err := s.Sessions.Rotate(t.Context(), st.ID, func(was session.State) (session.Rotation, error) {
		if first {
			first = false
			return forward(was)
		}
		return forward(was)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sessions.Called(t.Context(), st.ID, at(7)); err != nil {
		t.Fatal(err)
	}
	want := r.Next
	g := *want.Grant
	g.LastCallAt, g.Version = at(7), g.Version+1
	want.Grant = &g
	same(t, s, &want)
	if err := s.Sessions.Called(t.Context(), 999, at(7)); err != nil {
		t.Errorf("a session that has ended: %v", err)
	}
}

func testGrantEndKey(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	one, two, other := authorize(t, s, a, aClient), authorize(t, s, b, aClient), authorize(t, s, a, "https://other.example/c")
	n, err := s.Sessions.EndKey(t.Context(), aClient, "client key", entry(account.EntryClientKeyRemoved))
	if err != nil || n != 2 {
		t.Errorf("EndKey = %d, %v", n, err)
	}
	alive(t, s, map[*session.State]bool{one: false, two: false, other: true})
	if got := kinds(t, s, b); got[0] != account.EntryClientKeyRemoved {
		t.Errorf("trail %q", got)
	}
	if n, err := s.Sessions.EndKey(t.Context(), aClient, "client key", entry(account.EntryClientKeyRemoved)); err != nil || n != 0 {
		t.Errorf("again: %d, %v", n, err)
	}
}

// testGrantEnds: what ends an account's sessions ends those of OAuth clients.
func testGrantEnds(t *testing.T, s *Database) {
	t.Helper()
	for name, end := range map[string]func(a *account.Account, st *session.State) error{
		"end": func(_ *account.Account, st *session.State) error {
			return s.Sessions.End(t.Context(), st.ID, entry(account.EntrySessionRevoked))
		},
		"all": func(a *account.Account, _ *session.State) error {
			_, err := s.Sessions.EndAll(t.Context(), a.ID, false, entry(account.EntryAllSignedOut))
			return err
		},
		"new": func(a *account.Account, _ *session.State) error {
			return s.Accounts.SetPassword(t.Context(), a.ID, "new", 0, entry(account.EntryPasswordChanged))
		},
		"deleted": func(a *account.Account, _ *session.State) error { return s.Accounts.Delete(t.Context(), a.ID, at(2)) },
		"takedown": func(a *account.Account, _ *session.State) error {
			_, err := s.Accounts.SetStatus(t.Context(), a.ID, account.StatusChange{Takedown: &account.Applied{Applied: true}}, entry(account.EntryTakedown))
			return err
		},
		"revoked": func(_ *account.Account, st *session.State) error {
			_, err := s.Sessions.Rotate(t.Context(), st.ID, func(was session.State) (session.Rotation, error) {
				return session.Rotation{Outcome: session.Theft, Next: was, Changed: true, Revoke: true, Entries: []account.Entry{entry(account.EntrySessionRevoked)}}, nil
			})
			return err
		},
	} {
		a := newAccount(t, s, name)
		st := authorize(t, s, a, aClient)
		if err := end(a, st); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		alive(t, s, map[*session.State]bool{st: false})
	}
	if n, err := s.Sessions.EndKey(t.Context(), aClient, "client key", entry(account.EntryClientKeyRemoved)); err != nil || n != 0 {
		t.Errorf("grants that are left: %d, %v", n, err)
	}
}

func testGrantAuthorized(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	authorize(t, s, a, aClient)
	for _, c := range []struct {
		id              int64
		reason, network string
		want            bool
	}{
		{a.ID, aClient, "192.0.2.1", true},
		{a.ID, aClient, "192.0.2.9", false},
		{a.ID, "https://other.example/c", "192.0.2.1", false},
		{b.ID, aClient, "192.0.2.1", false},
	} {
		if got, err := s.Sessions.Authorized(t.Context(), c.id, c.reason, c.network); err != nil || got != c.want {
			t.Errorf("%+v: %t, %v", c, got, err)
		}
	}
}
