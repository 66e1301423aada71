package sqlite_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/store/sqlite"
	"nestbox/store/storetest"
)

// TestNumber: a change whose event gets a number that is refused is undone, and uses that number up
// as little as itself.
func TestNumber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	held, floor := errors.New("held"), int64(2)
	db := openDB(t, path, sqlite.Options{Number: func(seq int64) error {
		if seq <= floor {
			return held
		}
		return nil
	}})
	s := db.Stores()
	pending := func(name string) hosting.Pending {
		return hosting.Pending{Handle: syntax.Handle(name + ".test"), CreatedAt: time.Now()}
	}
	if _, err := storetest.AddAccount(t.Context(), s, pending("alice")); !errors.Is(err, held) {
		t.Fatalf("%v, want the refusal", err)
	}
	if b, err := s.Log.Bounds(t.Context()); err != nil || b.Last != 0 {
		t.Errorf("%+v, %v after a change that was refused", b, err)
	}
	if err := s.Log.Jump(t.Context(), floor); err != nil {
		t.Fatal(err)
	}
	bob, err := storetest.AddAccount(t.Context(), s, pending("bob"))
	if err != nil || bob.Handle != "bob.test" {
		t.Errorf("%+v, %v after the jump", bob, err)
	}
	if b, err := s.Log.Bounds(t.Context()); err != nil || b.Last <= floor {
		t.Errorf("%+v, %v", b, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	verify(t, path)
}

// TestNumberTakedown: a takedown takes effect while no number is given, and is announced later; what
// can wait waits.
func TestNumberTakedown(t *testing.T) {
	held, floor := errors.New("held"), int64(0)
	db := openDB(t, filepath.Join(t.TempDir(), "nestbox.sqlite"), sqlite.Options{Number: func(seq int64) error {
		if seq <= floor {
			return held
		}
		return nil
	}})
	s := db.Stores()
	alice, err := storetest.AddAccount(t.Context(), s, hosting.Pending{Handle: "alice.test", CreatedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Log.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	floor = before.Last + 10
	set := func(c account.StatusChange) (account.Status, error) {
		a, err := s.Accounts.SetStatus(t.Context(), alice.ID, c, account.Entry{At: time.Now(), By: account.ActorAdmin, Kind: account.EntryTakedown})
		if err != nil {
			return "", err
		}
		return a.Status(), nil
	}
	if _, err := set(account.StatusChange{Deactivated: new(true)}); !errors.Is(err, held) || err.Error() != held.Error() {
		t.Errorf("deactivated: %v, want the refusal alone", err) // the operator reads it
	}
	if got, err := set(account.StatusChange{Suspended: new(true)}); err != nil || got != account.Suspended {
		t.Errorf("suspended: %q, %v", got, err)
	}
	if got, err := set(account.StatusChange{Takedown: &account.Applied{Applied: true}}); err != nil || got != account.TakenDown {
		t.Errorf("taken down: %q, %v", got, err)
	}
	if _, err := set(account.StatusChange{Takedown: &account.Applied{}}); !errors.Is(err, held) {
		t.Errorf("lifted to a suspension: %v, want the refusal", err)
	}
	b, err := s.Log.Bounds(t.Context())
	if err != nil || b.Last != before.Last || !b.Announcing {
		t.Errorf("%+v, %v: something was announced, or never will be", b, err)
	}
}
