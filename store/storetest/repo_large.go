package storetest

import (
	"slices"
	"strings"
	"testing"

	"nestbox/repo"
)

var repoLargeTests = tests{
	"RepoLarge":        testRepoLarge,
	"RepoLargeImport":  testRepoLargeImport,
	"RepoLargeDeleted": testRepoLargeDeleted,
}

// Sizes of texts: on either side of what a store may keep apart, and far beyond.
var sizes = []int{1, 900, 2000, 4000, 4080, 4088, 4089, 4090, 4100, 5000, 70_000, 1_900_000}

// sized is the write of a record with a text of so many bytes.
func sized(key string, size int, mark string) repo.Write {
	return put(key, mark+strings.Repeat("x", max(size-len(mark), 0)))
}

// listed compares what Records and NewPosts return with what the repository must hold.
func (o *owner) listed(t *testing.T, s *Database) {
	t.Helper()
	o.view(t, s, func(v repo.View) {
		for _, ascending := range []bool{false, true} {
			list, err := v.Records(repo.Range{Collection: repo.PostCollection, Limit: 1000, Ascending: ascending, Shown: true})
			if err != nil || len(list) != len(o.records) {
				t.Errorf("%d records are listed, want %d: %v", len(list), len(o.records), err)
			}
			for _, r := range list {
				sameRecord(t, r, o.records[r.Key])
			}
		}
		// One that is too large is left out, wherever it lies.
		most := repo.Bounds{Count: 1000, Size: 60_000, Bytes: 1 << 30}
		list, err := v.NewPosts("", most)
		for _, r := range list {
			sameRecord(t, r, o.records[r.Key])
		}
		want := 0
		for _, r := range o.records {
			if len(r.Block) <= most.Size {
				want++
			}
		}
		if err != nil || len(list) != want {
			t.Errorf("%d posts are new, want %d: %v", len(list), want, err)
		}
	})
}

// testRepoLarge: a record is what was written last, however large that and what was there
// before are.
func testRepoLarge(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	bob.commit(t, s, sized(postKey("of-bob"), 50_000, "bob"))
	for round, mark := range []string{"a", "b", "c"} {
		var writes []repo.Write
		for i := range sizes {
			// Each has had another size before.
			writes = append(writes, sized(postKey(string(rune('a'+i))), sizes[(i+5*round)%len(sizes)], mark))
		}
		alice.commit(t, s, writes...)
		alice.check(t, s)
		alice.listed(t, s)
	}
	s.Reopen()
	alice.check(t, s)
	for i := range sizes {
		alice.commit(t, s, remove(postKey(string(rune('a'+i)))))
	}
	alice.check(t, s)
	alice.listed(t, s)
	bob.check(t, s)
	bob.listed(t, s)
}

// testRepoLargeImport: an import has the records that were staged, and what it replaces goes.
func testRepoLargeImport(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	alice.commit(t, s, sized(postKey("old"), 70_000, "old"))
	var writes []repo.Write
	for i, size := range sizes {
		writes = append(writes, sized(postKey(string(rune('a'+i))), size, "new"))
	}
	dropped := alice.stage(t, s, slices.Clone(writes)...)
	if err := s.Repos.Drop(t.Context(), dropped.change.Next.Number); err != nil {
		t.Fatal(err)
	}
	i := alice.stage(t, s, writes...)
	if err := i.put(t, s); err != nil {
		t.Fatal(err)
	}
	sweep(t, s)
	s.Reopen()
	i.owner.check(t, s)
	i.owner.listed(t, s)
}

// testRepoLargeDeleted: nothing of a deleted account's repository is left, as the faults that
// are looked for when the database is closed tell.
func testRepoLargeDeleted(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	for _, o := range []*owner{alice, bob} {
		o.commit(t, s, sized(postKey("a"), 1_900_000, o.Email), sized(postKey("b"), 1_900_000, o.Email), sized(postKey("c"), 10, o.Email))
	}
	if err := s.Accounts.Delete(t.Context(), alice.ID, at(2)); err != nil {
		t.Fatal(err)
	}
	// A step removes no more than others can wait for: each large record is one of its own.
	if steps := sweep(t, s); steps < 3 {
		t.Errorf("%d steps", steps)
	}
	bob.check(t, s)
	bob.listed(t, s)
}
