package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/prefs"
)

var prefsTests = tests{
	"Prefs":     testPrefs,
	"PrefsRace": testPrefsRace,
}

func testPrefs(t *testing.T, s *Database) {
	alice, bob := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	is := func(what string, did syntax.DID, want ...string) {
		t.Helper()
		got, err := s.Prefs.Preferences(t.Context(), did)
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, p := range got {
			texts = append(texts, string(p))
		}
		if !slices.Equal(texts, want) {
			t.Errorf("%s: %q, want %q", what, texts, want)
		}
	}
	put := func(did syntax.DID, list ...jsontext.Value) error {
		return s.Prefs.ReplacePreferences(t.Context(), did, func([]jsontext.Value) ([]jsontext.Value, error) { return list, nil })
	}
	is("none yet", alice.DID)
	const one, two = `{"$type":"a.b.c","x":[1,"ü"]}`, `{"$type":"a.b.d"}`
	if err := put(alice.DID, jsontext.Value(one), jsontext.Value(two)); err != nil {
		t.Fatal(err)
	}
	is("two", alice.DID, one, two)
	is("another account", bob.DID)

	refused := errors.New("refused")
	err := s.Prefs.ReplacePreferences(t.Context(), alice.DID, func(now []jsontext.Value) ([]jsontext.Value, error) {
		if len(now) != 2 || string(now[0]) != one {
			t.Errorf("decide got %q", now)
		}
		return nil, refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("refused: %v", err)
	}
	is("after a refusal", alice.DID, one, two)
	s.Reopen()
	is("after a restart", alice.DID, one, two)
	if err := put(alice.DID); err != nil {
		t.Fatal(err)
	}
	is("emptied", alice.DID)

	if err := put(alice.DID, jsontext.Value(one)); err != nil {
		t.Fatal(err)
	}
	if err := s.Accounts.Delete(t.Context(), alice.ID, at(5)); err != nil {
		t.Fatal(err)
	}
	for _, did := range []syntax.DID{alice.DID, "did:plc:nobody"} {
		if _, err := s.Prefs.Preferences(t.Context(), did); !errors.Is(err, prefs.ErrNoAccount) {
			t.Errorf("preferences of %s: %v", did, err)
		}
		if err := put(did); !errors.Is(err, prefs.ErrNoAccount) {
			t.Errorf("put for %s: %v", did, err)
		}
	}
}

// testPrefsRace: each change sees the one before.
func testPrefsRace(t *testing.T, s *Database) {
	alice := newAccount(t, s, "alice")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			err := s.Prefs.ReplacePreferences(t.Context(), alice.DID, func(now []jsontext.Value) ([]jsontext.Value, error) {
				return append(slices.Clone(now), jsontext.Value(fmt.Sprint(i))), nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got, err := s.Prefs.Preferences(t.Context(), alice.DID)
	if err != nil || len(got) != 20 {
		t.Errorf("%d of 20 changes are left, %v", len(got), err)
	}
}
