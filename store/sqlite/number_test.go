package sqlite_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

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
