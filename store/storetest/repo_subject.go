package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"nestbox/repo"
)

var repoSubjectTests = tests{
	"RepoSubject":       testRepoSubject,
	"RepoSubjectImport": testRepoSubjectImport,
}

// about is the write of a record that has a subject.
func about(key, subject string) repo.Write {
	w := put(key, "about "+subject)
	w.Subject = subject
	return w
}

// found fails the test unless the records of a collection that are about a
// subject have these rkeys.
func (o *owner) found(t *testing.T, s *Database, collection, subject string, rkeys ...string) {
	t.Helper()
	var want []string
	for _, rkey := range rkeys {
		want = append(want, collection+"/"+rkey)
	}
	o.view(t, s, func(v repo.View) {
		if got, err := v.BySubject(collection, subject, 100); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s, %s: %q, want %q, %v", collection, subject, got, want, err)
		}
	})
}

// testRepoSubject: records are found by their subject as it is now, in their own
// repository and collection.
func testRepoSubject(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	alice.commit(t, s,
		about("a.b/2", "x"), about("a.b/1", "x"), about("a.b/3", "y"), put("a.b/4", "none"),
		about("a.b.c/1", "x"), about("a.bc/1", "x"), about("a/1", "x"), about("a.b-c/1", "x"), about("a.b/5", "X"), about("a.b/6", "x\x00"), about("a.b/7", "é"))
	bob.commit(t, s, about("a.b/1", "x"), about("a.b/9", "x"))
	s.Reopen()
	alice.found(t, s, "a.b", "x", "1", "2")
	alice.found(t, s, "a.b", "y", "3")
	alice.found(t, s, "a.b", "X", "5")
	alice.found(t, s, "a.b", "x\x00", "6")
	alice.found(t, s, "a.b", "é", "7")
	alice.found(t, s, "a.b", "e\u0301") // looks the same
	alice.found(t, s, "a.b", "")        // a record without a subject is not to be found by none
	alice.found(t, s, "a.b.c", "x", "1")
	alice.found(t, s, "a", "x", "1")
	alice.found(t, s, "none", "x")
	bob.found(t, s, "a.b", "x", "1", "9")
	alice.view(t, s, func(v repo.View) {
		for limit, want := range map[int]int{-1: 0, 0: 0, 1: 1, 2: 2, 3: 2} {
			if got, err := v.BySubject("a.b", "x", limit); err != nil || !slices.Equal(got, []string{"a.b/1", "a.b/2"}[:want]) {
				t.Errorf("limit %d: %q, %v", limit, got, err)
			}
		}
	})

	// The subject is that of the present record: changed, removed, set again,
	// deleted.
	alice.commit(t, s, about("a.b/1", "y"), put("a.b/3", "none any more"), about("a.b/4", "x"))
	alice.found(t, s, "a.b", "x", "2", "4")
	alice.found(t, s, "a.b", "y", "1")
	alice.commit(t, s, remove("a.b/2"), about("a.b/4", "x"), about("a.b/3", "y"), about("a.b/1", "z"), remove("a.b/1"))
	alice.found(t, s, "a.b", "x", "4")
	alice.found(t, s, "a.b", "y", "3")
	alice.found(t, s, "a.b", "z")
	// A change that is refused leaves it.
	stale := alice.change(t, s, about("a.b/4", "y"))
	alice.commit(t, s, put("a.b/new", "meanwhile"))
	if err := s.Repos.Commit(t.Context(), stale); !errors.Is(err, repo.ErrConflict) {
		t.Error(err)
	}
	alice.found(t, s, "a.b", "x", "4")
	bob.found(t, s, "a.b", "x", "1", "9")
}

// testRepoSubjectImport: an import brings its own subjects with the switch, and
// not before.
func testRepoSubjectImport(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	alice.commit(t, s, about("a.b/1", "x"), about("a.b/2", "y"))
	bob.commit(t, s, about("a.b/1", "x"))
	var records []repo.Write
	for i := range 30 {
		records = append(records, about(fmt.Sprintf("a.b/%02d", i), fmt.Sprintf("%d", i%10)))
	}
	i := alice.stage(t, s, append(records, about("a.b/9", "x"), put("a.b/99", "none"))...)
	alice.found(t, s, "a.b", "x", "1")
	alice.found(t, s, "a.b", "3")
	if err := i.put(t, s); err != nil {
		t.Fatal(err)
	}
	for range 2 { // with what was replaced still there, and without
		i.owner.found(t, s, "a.b", "x", "9")
		i.owner.found(t, s, "a.b", "y")
		i.owner.found(t, s, "a.b", "3", "03", "13", "23")
		bob.found(t, s, "a.b", "x", "1")
		s.Reopen()
		sweep(t, s)
	}
	i.owner.commit(t, s, remove("a.b/03"), about("a.b/13", "x"))
	i.owner.found(t, s, "a.b", "3", "23")
	i.owner.found(t, s, "a.b", "x", "13", "9")
	i.owner.check(t, s)
}
