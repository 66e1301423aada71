package sqlite_test

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/account"
	"nestbox/session"
	"nestbox/store/sqlite"
	"nestbox/store/sqlite/groupcommit"
)

var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func didOf(name string) syntax.DID       { return syntax.DID(name) }
func handleOf(name string) syntax.Handle { return syntax.Handle(name + ".test") }

func accountEntry() account.Entry { return account.Entry{At: start, Kind: account.EntrySignIn} }

func forward(st session.State) (session.Rotation, error) {
	next := st
	next.Head++
	return session.Rotation{Outcome: session.Advance, Next: next, Changed: true}, nil
}

// world is the fixture of tests of failures: one account with one session, and
// another one with a repository.
type world struct {
	*sqlite.DB

	path    string
	account *account.Account
	session *session.State
	repo    repoWorld
}

// change is one kind of write, with a check whether it happened.
type change struct {
	do   func(t *testing.T, w world) error
	done func(t *testing.T, w world) bool
	// before is how many commits come before the one that counts.
	before int64
}

func changes() map[string]change {
	credentials := func(t *testing.T, w world) account.Credentials {
		t.Helper()
		c, err := sqlite.Accounts{DB: w.DB}.Credentials(t.Context(), w.account.ID)
		if err != nil && !errors.Is(err, account.ErrNotFound) {
			t.Error(err)
		}
		return c
	}
	list := func(t *testing.T, w world) []session.State {
		t.Helper()
		l, err := sqlite.Sessions{DB: w.DB}.List(t.Context(), w.account.ID)
		if err != nil {
			t.Error(err)
		}
		return l
	}
	load := func(t *testing.T, w world) *session.State {
		t.Helper()
		st, err := sqlite.Sessions{DB: w.DB}.Load(t.Context(), w.session.ID)
		if err != nil && !errors.Is(err, session.ErrUnknown) {
			t.Error(err)
		}
		return st
	}
	byDID := func(t *testing.T, w world) *account.Account {
		t.Helper()
		a, err := sqlite.Accounts{DB: w.DB}.ByDID(t.Context(), w.account.DID)
		if err != nil && !errors.Is(err, account.ErrNotFound) {
			t.Error(err)
		}
		return a
	}
	out := map[string]change{
		"sign-in": {
			do: func(t *testing.T, w world) error {
				_, err := sqlite.Sessions{DB: w.DB}.Create(t.Context(), newSession(w.account.ID))
				return err
			},
			done: func(t *testing.T, w world) bool { return len(list(t, w)) == 2 },
		},
		"refresh": {
			do: func(t *testing.T, w world) error {
				_, err := sqlite.Sessions{DB: w.DB}.Rotate(t.Context(), w.session.ID, forward)
				return err
			},
			done: func(t *testing.T, w world) bool { return load(t, w).Head == 1 },
		},
		"sign-out": {
			do: func(t *testing.T, w world) error {
				return sqlite.Sessions{DB: w.DB}.End(t.Context(), w.session.ID, accountEntry())
			},
			done: func(t *testing.T, w world) bool { return load(t, w) == nil },
		},
		"all signed out": {
			do: func(t *testing.T, w world) error {
				_, err := sqlite.Sessions{DB: w.DB}.EndAll(t.Context(), w.account.ID, true, accountEntry())
				return err
			},
			done: func(t *testing.T, w world) bool { return load(t, w) == nil },
		},
		"password": {
			do: func(t *testing.T, w world) error {
				return sqlite.Accounts{DB: w.DB}.SetPassword(t.Context(), w.account.ID, "new", 0, accountEntry())
			},
			done: func(t *testing.T, w world) bool { return credentials(t, w).PasswordHash == "new" && load(t, w) == nil },
		},
		"app password": {
			do: func(t *testing.T, w world) error {
				return sqlite.Accounts{DB: w.DB}.AddAppPassword(t.Context(), w.account.ID, account.AppPassword{Name: "x", Hash: "x", CreatedAt: start}, accountEntry())
			},
			done: func(t *testing.T, w world) bool { return len(credentials(t, w).AppPasswords) == 1 },
		},
		"takedown": {
			do: func(t *testing.T, w world) error {
				_, err := sqlite.Accounts{DB: w.DB}.SetStatus(t.Context(), w.account.ID, account.StatusChange{Takedown: &account.Applied{Applied: true}}, accountEntry())
				return err
			},
			done: func(t *testing.T, w world) bool {
				return byDID(t, w).Status() == account.TakenDown && load(t, w) == nil
			},
		},
		"DID document": {
			do: func(t *testing.T, w world) error {
				return sqlite.Identities{DB: w.DB}.SaveDocument(t.Context(), w.account.ID, []byte(`{"new":1}`), true, start)
			},
			done: func(t *testing.T, w world) bool { return byDID(t, w).HandleInvalid },
		},
	}
	maps.Copy(out, repoChanges())
	maps.Copy(out, blobChanges())
	maps.Copy(out, hostingChanges())
	return out
}

// seam is a COMMIT that fails from some moment on.
type seam struct {
	fails atomic.Bool
	// before is how many still succeed after that moment.
	before atomic.Int64
	fail   func(*zombie.Conn) error
}

func (s *seam) commit(c *zombie.Conn) error {
	if s.fails.Load() && s.before.Add(-1) < 0 {
		return s.fail(c)
	}
	return sqlitex.ExecuteTransient(c, "COMMIT", nil)
}

func openWorld(t *testing.T, path string, o sqlite.Options) world {
	t.Helper()
	w := world{DB: openDB(t, path, o), path: path}
	w.account = addAccount(t, w.DB, "alice")
	st, err := sqlite.Sessions{DB: w.DB}.Create(t.Context(), newSession(w.account.ID))
	if err != nil {
		t.Fatal(err)
	}
	w.session = st
	w.repo = openRepoWorld(t, w.DB)
	return w
}

// TestFailedNotSaved: a COMMIT that certainly failed is an error, nothing of it
// is kept or seen, and the store goes on.
func TestFailedNotSaved(t *testing.T) {
	for name, c := range changes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "nestbox.sqlite")
			s := &seam{fail: func(*zombie.Conn) error { return zombie.ResultFull.ToError() }}
			w := openWorld(t, path, sqlite.Options{Commit: s.commit})
			s.before.Store(c.before)
			s.fails.Store(true)
			if err := c.do(t, w); !errors.Is(err, groupcommit.ErrRolledBack) {
				t.Errorf("%v, want ErrRolledBack", err)
			}
			if c.done(t, w) {
				t.Error("seen, though it was not saved")
			}
			s.fails.Store(false)
			if err := c.do(t, w); err != nil {
				t.Errorf("tried again: %v", err)
			}
			if !c.done(t, w) {
				t.Error("not seen, though it was saved")
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			verify(t, path)
		})
	}
}

// TestFailedButSaved: after an I/O error it is unknown what is on disk.
// Options.Fatal is called, every further write is refused, no cache shows what
// was not acknowledged; after a restart the change is there as a whole or not at
// all.
func TestFailedButSaved(t *testing.T) {
	for name, c := range changes() {
		for _, saved := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/saved=%t", name, saved), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "nestbox.sqlite")
				s := &seam{fail: func(c *zombie.Conn) error {
					if saved {
						return errors.Join(sqlitex.ExecuteTransient(c, "COMMIT", nil), zombie.ResultIOErrFsync.ToError())
					}
					return zombie.ResultIOErrFsync.ToError()
				}}
				fatal := make(chan error, 1)
				w := openWorld(t, path, sqlite.Options{Commit: s.commit, Fatal: func(err error) { fatal <- err }})
				s.before.Store(c.before)
				s.fails.Store(true)
				if err := c.do(t, w); !errors.Is(err, groupcommit.ErrOutcomeUnknown) {
					t.Errorf("%v, want ErrOutcomeUnknown", err)
				}
				if err := <-fatal; !errors.Is(err, groupcommit.ErrOutcomeUnknown) {
					t.Errorf("Fatal was told %v", err)
				}
				s.fails.Store(false)
				if err := (sqlite.Accounts{DB: w.DB}).AddEntry(t.Context(), w.account.ID, accountEntry()); !errors.Is(err, groupcommit.ErrOutcomeUnknown) {
					t.Errorf("a write afterwards: %v", err)
				}
				if err := w.Close(); !errors.Is(err, groupcommit.ErrOutcomeUnknown) {
					t.Errorf("Close: %v", err)
				}
				again := world{DB: openDB(t, path, sqlite.Options{}), path: path, account: w.account, session: w.session, repo: w.repo}
				if got := c.done(t, again); got != saved {
					t.Errorf("after a restart it is there: %t", got)
				}
				if err := again.Close(); err != nil {
					t.Error(err)
				}
				verify(t, path)
			})
		}
	}
}
