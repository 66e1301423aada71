package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/schema"
)

var permissionSetTests = tests{
	"PermissionSets":        testPermissionSets,
	"PermissionSetsDue":     testPermissionSetsDue,
	"PermissionSetsCollect": testPermissionSetsCollect,
}

func foundSet(nsid syntax.NSID, cid string, at time.Time) schema.Lexicon {
	return schema.Lexicon{
		NSID: nsid, DID: "did:web:example.com", CID: cid, Document: []byte(`{"lexicon":1,"id":"` + nsid.String() + `","x":"ü"}`),
		FoundAt: at, CheckedAt: at, UsedAt: at,
	}
}

func saveSet(t *testing.T, s *Database, l schema.Lexicon) {
	t.Helper()
	if err := s.PermissionSets.SaveLexicon(t.Context(), l); err != nil {
		t.Fatal(err)
	}
}

func testPermissionSets(t *testing.T, s *Database) {
	const id = "a.b.authAll"
	is := func(what string, want schema.Lexicon) {
		t.Helper()
		got, err := s.PermissionSets.Lexicon(t.Context(), id)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v %v, want %+v", what, got, err, want)
		}
	}
	fail := func(nsid syntax.NSID, why string, at time.Time) {
		t.Helper()
		if err := s.PermissionSets.SaveFailure(t.Context(), nsid, why, at); err != nil {
			t.Fatal(err)
		}
	}
	use := func(granted bool, at time.Time, nsids ...syntax.NSID) {
		t.Helper()
		if err := s.PermissionSets.Use(t.Context(), nsids, granted, at); err != nil {
			t.Fatal(err)
		}
	}
	unknown := func(nsid syntax.NSID) {
		t.Helper()
		if l, err := s.PermissionSets.Lexicon(t.Context(), nsid); !errors.Is(err, schema.ErrUnknown) {
			t.Errorf("%s: %+v %v, want ErrUnknown", nsid, l, err)
		}
	}
	unknown(id)
	fail(id, "no such name", at(0))
	use(true, at(0), id)
	unknown(id)

	want := foundSet(id, "one", at(1))
	saveSet(t, s, want)
	is("found", want)
	unknown("a.b.authOther")

	fail(id, "no such name", at(3))
	want.CheckedAt, want.Failure = at(3), "no such name"
	is("failed", want)
	fail(id, "an older failure", at(2))
	is("an older failure", want)

	use(false, at(5), id, "a.b.authOther")
	want.UsedAt = at(5)
	is("used", want)
	use(true, at(4), id)
	want.Granted = true
	is("granted, noted late", want)
	use(false, at(6), id)
	want.UsedAt = at(6)
	is("used again", want)

	second := foundSet(id, "two", at(5))
	saveSet(t, s, second)
	second.UsedAt, second.Granted = at(6), true
	is("found again", second)
	saveSet(t, s, foundSet(id, "late", at(4)))
	is("an older find", second)
	s.Reopen()
	is("after a restart", second)
}

func testPermissionSetsDue(t *testing.T, s *Database) {
	for i, granted := range []bool{true, false, true, true} {
		l := foundSet(syntax.NSID(fmt.Sprintf("a.b.auth%c", 'A'+i)), "one", at(10-i))
		l.Granted = granted
		saveSet(t, s, l)
	}
	due := func(before time.Time, limit int, want ...syntax.NSID) {
		t.Helper()
		got, err := s.PermissionSets.DueLexicons(t.Context(), before, limit)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("due before %s: %q %v, want %q", before, got, err, want)
		}
	}
	due(at(7), 10)
	due(at(8), 10, "a.b.authD")
	due(at(11), 10, "a.b.authD", "a.b.authC", "a.b.authA")
	due(at(11), 2, "a.b.authD", "a.b.authC")
	if err := s.PermissionSets.SaveFailure(t.Context(), "a.b.authD", "failed", at(20)); err != nil {
		t.Fatal(err)
	}
	due(at(11), 10, "a.b.authC", "a.b.authA")
}

func testPermissionSetsCollect(t *testing.T, s *Database) {
	add := func(name string, granted bool, used time.Time) {
		l := foundSet(syntax.NSID("a.b."+name), "one", at(0))
		l.Granted, l.UsedAt = granted, used
		saveSet(t, s, l)
	}
	left := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, name := range []string{"grantedOld", "grantedNew", "askedOld", "askedNew", "askedNewer", "askedNewest"} {
			if _, err := s.PermissionSets.Lexicon(t.Context(), syntax.NSID("a.b."+name)); err == nil {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q are left, want %q", what, got, want)
		}
	}
	collect := func(granted, others time.Time, keep, limit, want int) {
		t.Helper()
		if n, err := s.PermissionSets.CollectLexicons(t.Context(), granted, others, keep, limit); err != nil || n != want {
			t.Errorf("deleted %d, %v, want %d", n, err, want)
		}
	}
	add("grantedOld", true, at(1))
	add("grantedNew", true, at(20))
	add("askedOld", false, at(10))
	add("askedNew", false, at(21))
	add("askedNewer", false, at(22))
	add("askedNewest", false, at(23))
	collect(at(1), at(10), 4, 10, 0)
	left("none is too old", "grantedOld", "grantedNew", "askedOld", "askedNew", "askedNewer", "askedNewest")
	collect(at(2), at(11), 4, 10, 2)
	left("the old ones", "grantedNew", "askedNew", "askedNewer", "askedNewest")
	collect(at(2), at(11), 1, 1, 1)
	collect(at(2), at(11), 1, 10, 1)
	left("all but the most recently used", "grantedNew", "askedNewest")
	collect(at(2), at(11), 0, 10, 1)
	left("none kept", "grantedNew")
}
