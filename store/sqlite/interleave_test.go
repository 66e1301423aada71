package sqlite_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/store/sqlite"
	"nestbox/store/storetest"
)

// interleaved is an account in a world for storetest.Interleave.
type interleaved struct {
	t        *testing.T
	accounts sqlite.Accounts
	id       int64
}

const interleavedDID = syntax.DID("did:plc:interleaved")

func newInterleaved(t *testing.T, before func()) *interleaved {
	t.Helper()
	db := openDB(t, filepath.Join(t.TempDir(), "nestbox.sqlite"), sqlite.Options{Before: before})
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	h := sqlite.Hosting{DB: db}
	id, err := h.Reserve(t.Context(), hosting.Pending{DID: interleavedDID, Handle: "alice.test", Email: "a@example.com", CreatedAt: time.UnixMilli(1000)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Activate(t.Context(), id, []byte("{}"), nil, account.Entry{At: time.UnixMilli(1000), Kind: account.EntrySignUp}); err != nil {
		t.Fatal(err)
	}
	return &interleaved{t: t, accounts: sqlite.Accounts{DB: db}, id: id}
}

func (w *interleaved) now() *account.Account {
	a, err := w.accounts.ByDID(w.t.Context(), interleavedDID)
	if err != nil {
		w.t.Error(err)
		return &account.Account{}
	}
	return a
}

func (w *interleaved) state() string {
	a := w.now()
	return fmt.Sprintf("%s %q", a.Email, a.Status())
}

// set is a change of status: what it leaves follows from the row in its transaction.
func (w *interleaved) set(c account.StatusChange) func() string {
	return func() string {
		_, err := w.accounts.SetStatus(w.t.Context(), w.id, c, account.Entry{At: time.UnixMilli(2000), Kind: account.EntrySuspended})
		return fmt.Sprint(err)
	}
}

// appends writes what it read before, and a letter: another change is undone by it.
func (w *interleaved) appends(letter string) func() string {
	return func() string {
		local, domain, _ := strings.Cut(w.now().Email, "@")
		err := w.accounts.SetEmail(w.t.Context(), w.id, account.EmailChange{Email: local + letter + "@" + domain}, account.Entry{At: time.UnixMilli(2000), Kind: account.EntryEmailChanged})
		return fmt.Sprint(err)
	}
}

// TestInterleave: Interleave finds a change that writes what it read before its
// transaction, and accepts one that decides inside it; it also finds one with another
// answer, at any write.
func TestInterleave(t *testing.T) {
	t.Run("decides inside", func(t *testing.T) {
		storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
			w := newInterleaved(t, before)
			return storetest.Changes{One: w.set(account.StatusChange{Suspended: new(true)}), Other: w.set(account.StatusChange{Deactivated: new(true)}), State: w.state}
		})
	})
	t.Run("writes what it read", func(t *testing.T) {
		faults := storetest.Interleavings(t, func(t *testing.T, before func()) storetest.Changes {
			w := newInterleaved(t, before)
			return storetest.Changes{One: w.appends("b"), Other: w.appends("c"), State: w.state}
		})
		if len(faults) != 2 {
			t.Errorf("%d lost changes were found, want one in each direction: %q", len(faults), faults)
		}
	})
	t.Run("the second write", func(t *testing.T) {
		// One checks the status, notes something, and only then writes by what it saw.
		faults := storetest.Interleavings(t, func(t *testing.T, before func()) storetest.Changes {
			w := newInterleaved(t, before)
			one := func() string {
				if err := w.accounts.AddEntry(w.t.Context(), w.id, account.Entry{At: time.UnixMilli(2000), Kind: account.EntrySignIn}); err != nil {
					return err.Error()
				}
				if w.now().Status() != account.Active {
					return "inactive"
				}
				return w.appends("b")()
			}
			return storetest.Changes{One: one, Other: w.set(account.StatusChange{Suspended: new(true)}), State: func() string { return w.state() }}
		})
		// The end is that of "one first", with its answers: nothing is lost.
		if len(faults) != 0 {
			t.Errorf("%q", faults)
		}
	})
	t.Run("another answer", func(t *testing.T) {
		faults := storetest.Interleavings(t, func(t *testing.T, before func()) storetest.Changes {
			w := newInterleaved(t, before)
			one := func() string {
				was := w.now().Status()
				w.set(account.StatusChange{Deactivated: new(false)})()
				return fmt.Sprintf("was %q, is %q", was, w.now().Status())
			}
			return storetest.Changes{One: one, Other: w.set(account.StatusChange{Suspended: new(true)}), State: w.state}
		})
		if len(faults) != 1 || !strings.Contains(faults[0], `was \"\", is \"suspended\"`) {
			t.Errorf("%q", faults)
		}
	})
}

// TestInterleaveLocked: two changes that take turns by a lock cannot meet, and both end.
func TestInterleaveLocked(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a lock that is held")
	}
	t.Parallel()
	storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
		w := newInterleaved(t, before)
		var lock sync.Mutex
		locked := func(change func() string) func() string {
			return func() string {
				lock.Lock()
				defer lock.Unlock()
				return change()
			}
		}
		return storetest.Changes{One: locked(w.appends("b")), Other: locked(w.appends("c")), State: w.state}
	})
}

// TestBefore: the hook runs ahead of a write, outside of its transaction.
func TestBefore(t *testing.T) {
	calls := 0
	w := newInterleaved(t, func() { calls++ })
	if calls != 2 {
		t.Errorf("called %d times for two writes", calls)
	}
	if _, err := w.accounts.SetStatus(t.Context(), 999, account.StatusChange{}, account.Entry{}); !errors.Is(err, account.ErrNotFound) || calls != 3 {
		t.Errorf("%v; called %d times for three writes", err, calls)
	}
}
