package storetest

import (
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/session"
)

var sessionTests = tests{
	"SessionCreate":         testSessionCreate,
	"SessionEpoch":          testSessionEpoch,
	"SessionLimit":          testSessionLimit,
	"SessionRotate":         testSessionRotate,
	"SessionRotateError":    testSessionRotateError,
	"SessionRotateInside":   testSessionRotateInside,
	"SessionRotateParallel": testSessionRotateParallel,
	"SessionRevokeByRotate": testSessionRevokeByRotate,
	"SessionEnd":            testSessionEnd,
	"SessionEndRaces":       testSessionEndRaces,
	"SessionEndAll":         testSessionEndAll,
	"SessionList":           testSessionList,
	"SessionCollect":        testSessionCollect,
}

func testSessionCreate(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	n := newSession(t, s, a)
	st := create(t, s, n)
	want := session.State{
		ID: st.ID, Nonce: n.Nonce, AccountID: a.ID, Scope: n.Scope, CreatedAt: n.At, RotatedAt: n.At, Expires: n.Expires,
		Network: n.Network, UserAgent: n.UserAgent,
	}
	if st.ID == 0 || !reflect.DeepEqual(*st, want) {
		t.Errorf("Create = %+v\nwant     %+v", *st, want)
	}
	s.Reopen()
	got, err := s.Sessions.Load(t.Context(), st.ID)
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("Load = %+v, %v\nwant   %+v", got, err, want)
	}
	trail, err := s.Accounts.Trail(t.Context(), a.ID, 1)
	if err != nil || len(trail) != 1 || trail[0].Kind != account.EntrySignIn || trail[0].Session != st.ID {
		t.Errorf("trail %+v, %v; want the sign-in of session %d", trail, err, st.ID)
	}
	p := addAppPassword(t, s, a, "app")
	app := signInWith(t, s, a, p)
	if app.AppPassword != "app" {
		t.Errorf("%+v", app)
	}
	s.Reopen()
	if got, err := s.Sessions.Load(t.Context(), app.ID); err != nil || got.AppPasswordID != p.ID || got.AppPassword != "app" {
		t.Errorf("session of an app password: %+v, %v", got, err)
	}
	if _, err := s.Sessions.Load(t.Context(), 999); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("Load of no session: %v", err)
	}
}

// testSessionEpoch: a session is only made if the checked credentials still
// hold.
func testSessionEpoch(t *testing.T, s *Database) {
	t.Helper()
	for name, end := range map[string]func(a *account.Account) error{
		"password": func(a *account.Account) error {
			return s.Accounts.SetPassword(t.Context(), a.ID, "new", 0, entry(account.EntryPasswordChanged))
		},
		"takedown": func(a *account.Account) error {
			_, err := s.Accounts.SetStatus(t.Context(), a.ID, account.StatusChange{Takedown: &account.Applied{Applied: true}}, entry(account.EntryTakedown))
			return err
		},
		"deletion": func(a *account.Account) error { return s.Accounts.Delete(t.Context(), a.ID, at(2)) },
	} {
		a := newAccount(t, s, name)
		checked := newSession(t, s, a)
		if err := end(a); err != nil {
			t.Fatal(err)
		}
		if st, err := s.Sessions.Create(t.Context(), checked); !errors.Is(err, session.ErrUnknown) {
			t.Errorf("%s between check and sign-in: %+v, %v", name, st, err)
		}
	}
	a := newAccount(t, s, "app")
	p := addAppPassword(t, s, a, "gone")
	checked := newSession(t, s, a)
	checked.AppPasswordID = p.ID
	if err := s.Accounts.RevokeAppPassword(t.Context(), a.ID, "gone", entry(account.EntryAppPasswordRevoked)); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Sessions.Create(t.Context(), checked); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("app password revoked between check and sign-in: %+v, %v", st, err)
	}
}

// testSessionLimit: the longest unused go first, and the trail has it.
func testSessionLimit(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	other := signIn(t, s, b)
	n := newSession(t, s, a)
	n.Limit = 3
	first, second, third := create(t, s, n), create(t, s, n), create(t, s, n)
	if _, err := s.Sessions.Rotate(t.Context(), first.ID, forward); err != nil {
		t.Fatal(err)
	}
	fourth := create(t, s, n)
	alive(t, s, map[*session.State]bool{first: true, second: false, third: true, fourth: true, other: true})
	if got := kinds(t, s, a); got[0] != account.EntrySignIn || got[1] != account.EntrySessionsCapped {
		t.Errorf("trail %q", got)
	}
	// An app that signs in again and again ends its own sessions first.
	p := addAppPassword(t, s, a, "app")
	n.Limit, n.AppPasswordID, n.Scope = 4, p.ID, auth.ScopeAppPass
	firstApp, secondApp := create(t, s, n), create(t, s, n)
	alive(t, s, map[*session.State]bool{first: true, third: true, fourth: true, firstApp: false, secondApp: true})
	n = newSession(t, s, a)
	n.Limit = 1
	fifth := create(t, s, n)
	alive(t, s, map[*session.State]bool{first: false, third: false, fourth: false, fifth: true, other: true})
}

func testSessionRotate(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	st := signIn(t, s, a)
	want := *st
	for range 12 {
		r, err := s.Sessions.Rotate(t.Context(), st.ID, func(was session.State) (session.Rotation, error) {
			if !reflect.DeepEqual(was, want) {
				t.Errorf("decide sees %+v\nwant        %+v", was, want)
			}
			return forward(was)
		})
		if err != nil {
			t.Fatal(err)
		}
		want = r.Next
	}
	s.Reopen()
	if got, err := s.Sessions.Load(t.Context(), st.ID); err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("after a restart %+v, %v\nwant            %+v", got, err, want)
	}
	flagged := func(was session.State) (session.Rotation, error) {
		next := was
		next.FlaggedAt = at(99)
		e := entry(account.EntrySuspectedReuse)
		return session.Rotation{Outcome: session.Stale, Next: next, Changed: true, Entries: []account.Entry{e}}, nil
	}
	if _, err := s.Sessions.Rotate(t.Context(), st.ID, flagged); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	if got, err := s.Sessions.Load(t.Context(), st.ID); err != nil || !got.FlaggedAt.Equal(at(99)) || got.Head != want.Head {
		t.Errorf("after a suspicion %+v, %v", got, err)
	}
	if got := kinds(t, s, a); got[0] != account.EntrySuspectedReuse {
		t.Errorf("trail %q", got)
	}
}

// testSessionRotateError: an error, or a decision that changes nothing, changes
// nothing.
func testSessionRotateError(t *testing.T, s *Database) {
	t.Helper()
	st := signIn(t, s, newAccount(t, s, "alice"))
	refused := errors.New("refused")
	for range 2 { // on a session that was just made, and on one that must be read
		_, err := s.Sessions.Rotate(t.Context(), st.ID, func(was session.State) (session.Rotation, error) {
			r, _ := forward(was)
			return r, refused
		})
		if !errors.Is(err, refused) {
			t.Errorf("error of decide: %v", err)
		}
		r, err := s.Sessions.Rotate(t.Context(), st.ID, func(was session.State) (session.Rotation, error) {
			return session.Rotation{Outcome: session.Repeat, Next: was}, nil
		})
		if err != nil || r.Outcome != session.Repeat || !reflect.DeepEqual(r.Next, *st) {
			t.Errorf("unchanged: %+v, %v", r, err)
		}
		if got, err := s.Sessions.Load(t.Context(), st.ID); err != nil || !reflect.DeepEqual(got, st) {
			t.Errorf("%+v, %v; want %+v", got, err, st)
		}
		s.Reopen()
	}
	if _, err := s.Sessions.Rotate(t.Context(), 999, forward); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("no session: %v", err)
	}
}

// testSessionRotateInside forces the interleavings: while a decision is being
// made, something else happens to its session. The session was read before, so
// a store that decides on its cached state, outside of its transaction, must
// notice.
func testSessionRotateInside(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	for name, c := range map[string]struct {
		other func(id int64) error
		lives bool
		head  int64
	}{
		"another rotation": {func(id int64) error { _, err := s.Sessions.Rotate(t.Context(), id, forward); return err }, true, 2},
		"end": {func(id int64) error {
			return s.Sessions.End(t.Context(), id, entry(account.EntrySignOut))
		}, false, 0},
		"password": {func(int64) error {
			return s.Accounts.SetPassword(t.Context(), a.ID, "new", 0, entry(account.EntryPasswordChanged))
		}, false, 0},
		"takedown": {func(int64) error {
			_, err := s.Accounts.SetStatus(t.Context(), a.ID, account.StatusChange{Takedown: &account.Applied{Applied: true}}, entry(account.EntryTakedown))
			return err
		}, false, 0},
		"all ended": {func(int64) error {
			_, err := s.Sessions.EndAll(t.Context(), a.ID, false, entry(account.EntryAllSignedOut))
			return err
		}, false, 0},
	} {
		st := signIn(t, s, a)
		if _, err := s.Sessions.Load(t.Context(), st.ID); err != nil {
			t.Fatal(err)
		}
		calls := 0
		r, err := s.Sessions.Rotate(t.Context(), st.ID, func(was session.State) (session.Rotation, error) {
			if calls++; calls == 1 {
				if err := c.other(st.ID); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			return forward(was)
		})
		if c.lives && (err != nil || r.Next.Head != c.head) || !c.lives && !errors.Is(err, session.ErrUnknown) {
			t.Errorf("%s while deciding: head %d, %v; want it to live: %t", name, r.Next.Head, err, c.lives)
		}
		alive(t, s, map[*session.State]bool{st: c.lives})
	}
}

// testSessionRotateParallel: of any number of presentations of one head, one
// moves it, and all return the new one.
func testSessionRotateParallel(t *testing.T, s *Database) {
	t.Helper()
	const devices, tabs = 5, 50
	a := newAccount(t, s, "alice")
	var all sync.WaitGroup
	for range devices {
		st := signIn(t, s, a)
		advanced := make(chan int64, tabs)
		var one sync.WaitGroup
		for range tabs {
			one.Go(func() {
				r, err := s.Sessions.Rotate(t.Context(), st.ID, func(was session.State) (session.Rotation, error) {
					if was.Head == 0 {
						return forward(was)
					}
					return session.Rotation{Outcome: session.Repeat, Next: was}, nil
				})
				if err != nil || r.Next.Head != 1 {
					t.Errorf("head %d, %v", r.Next.Head, err)
				}
				if r.Outcome == session.Advance {
					advanced <- 1
				}
			})
		}
		all.Go(func() {
			one.Wait()
			if n := len(advanced); n != 1 {
				t.Errorf("%d presentations moved the head", n)
			}
		})
	}
	all.Wait()
}

func testSessionRevokeByRotate(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	st, other := signIn(t, s, a), signIn(t, s, a)
	r, err := s.Sessions.Rotate(t.Context(), st.ID, func(was session.State) (session.Rotation, error) {
		entries := []account.Entry{entry(account.EntrySuspectedReuse), entry(account.EntrySessionRevoked)}
		return session.Rotation{Outcome: session.Stale, Next: was, Changed: true, Revoke: true, Entries: entries}, nil
	})
	if err != nil || !r.Revoke {
		t.Errorf("%+v, %v", r, err)
	}
	alive(t, s, map[*session.State]bool{st: false, other: true})
	if got := kinds(t, s, a); !slices.Equal(got[:2], []account.EntryKind{account.EntrySessionRevoked, account.EntrySuspectedReuse}) {
		t.Errorf("trail %q", got)
	}
}

func testSessionEnd(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	st, other := signIn(t, s, a), signIn(t, s, a)
	if err := s.Sessions.End(t.Context(), st.ID, entry(account.EntrySignOut)); err != nil {
		t.Fatal(err)
	}
	alive(t, s, map[*session.State]bool{st: false, other: true})
	if err := s.Sessions.End(t.Context(), st.ID, entry(account.EntrySignOut)); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("ended twice: %v", err)
	}
	trail, err := s.Accounts.Trail(t.Context(), a.ID, 1)
	if err != nil || trail[0].Kind != account.EntrySignOut || trail[0].Session != st.ID {
		t.Errorf("trail %+v, %v", trail, err)
	}
	if again := signIn(t, s, a); again.ID == st.ID {
		t.Error("the number of an ended session was given again")
	}
}

// testSessionEndRaces: whatever reads a session or moves its head while it is
// ended, it stays ended.
func testSessionEndRaces(t *testing.T, s *Database) {
	t.Helper()
	const tries = 100_000 // far more than anyone needs to notice
	a := newAccount(t, s, "alice")
	for range 20 {
		st := signIn(t, s, a)
		var work sync.WaitGroup
		for range 8 {
			work.Go(func() {
				for range tries {
					if _, err := s.Sessions.Rotate(t.Context(), st.ID, forward); err != nil {
						if !errors.Is(err, session.ErrUnknown) {
							t.Error(err)
						}
						return
					}
				}
			})
			work.Go(func() {
				for range tries {
					if _, err := s.Sessions.Load(t.Context(), st.ID); err != nil {
						return
					}
				}
			})
		}
		if err := s.Sessions.End(t.Context(), st.ID, entry(account.EntrySignOut)); err != nil {
			t.Error(err)
		}
		if _, err := s.Sessions.Load(t.Context(), st.ID); !errors.Is(err, session.ErrUnknown) {
			t.Errorf("right after it was ended: %v", err)
		}
		work.Wait()
		if _, err := s.Sessions.Load(t.Context(), st.ID); !errors.Is(err, session.ErrUnknown) {
			t.Errorf("after everyone had noticed: %v", err)
		}
	}
}

func testSessionEndAll(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	app := signInWith(t, s, a, addAppPassword(t, s, a, "app"))
	mine, other := signIn(t, s, a), signIn(t, s, b)
	n, err := s.Sessions.EndAll(t.Context(), a.ID, false, entry(account.EntryAllSignedOut))
	if err != nil || n != 2 {
		t.Errorf("ended %d, %v; want 2", n, err)
	}
	alive(t, s, map[*session.State]bool{app: false, mine: false, other: true})
	if cred, err := s.Accounts.Credentials(t.Context(), a.ID); err != nil || len(cred.AppPasswords) != 1 {
		t.Errorf("app passwords %+v, %v; want them kept", cred.AppPasswords, err)
	}
	if got, err := s.Accounts.ByDID(t.Context(), a.DID); err != nil || !got.TokensValidAfter.Equal(at(1)) {
		t.Errorf("foreign tokens are valid after %v, %v", got.TokensValidAfter, err)
	}
	if n, err := s.Sessions.EndAll(t.Context(), a.ID, true, entry(account.EntryAllSignedOut)); err != nil || n != 0 {
		t.Errorf("ended %d, %v; want 0", n, err)
	}
	s.Reopen()
	if cred, err := s.Accounts.Credentials(t.Context(), a.ID); err != nil || len(cred.AppPasswords) != 0 {
		t.Errorf("app passwords %+v, %v; want none", cred.AppPasswords, err)
	}
}

func testSessionList(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	first, second, third := signIn(t, s, a), signIn(t, s, a), signIn(t, s, a)
	signIn(t, s, b)
	if _, err := s.Sessions.Rotate(t.Context(), second.ID, forward); err != nil {
		t.Fatal(err)
	}
	list, err := s.Sessions.List(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, st := range list {
		got = append(got, st.ID)
	}
	if want := []int64{second.ID, third.ID, first.ID}; !slices.Equal(got, want) {
		t.Errorf("sessions %d, want the latest used first: %d", got, want)
	}
}

func testSessionCollect(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	want := map[*session.State]bool{}
	for i := range 30 {
		n := newSession(t, s, a)
		n.Expires = at(i)
		want[create(t, s, n)] = i >= 20
		granted(&n, "https://app.example/client.json")
		want[create(t, s, n)] = i >= 25
	}
	removed, rounds := 0, 0
	for after := int64(0); rounds < 100; rounds++ {
		next, n, err := s.Sessions.Collect(t.Context(), after, at(20), at(25))
		if err != nil {
			t.Fatal(err)
		}
		removed += n
		if next == 0 {
			break
		}
		if next <= after {
			t.Fatalf("goes from %d to %d", after, next)
		}
		after = next
	}
	if removed != 45 {
		t.Errorf("removed %d, want 45", removed)
	}
	alive(t, s, want)
	if _, n, err := s.Sessions.Collect(t.Context(), 0, start.Add(-time.Hour), start.Add(-time.Hour)); err != nil || n != 0 {
		t.Errorf("nothing has expired: %d, %v", n, err)
	}
}
