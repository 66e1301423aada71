package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/repo"
	"nestbox/store"
	"nestbox/store/sqlite"
	"nestbox/store/storetest"
)

// TestRevs: the revisions of a repository's history, and the index of its posts, are
// made for older databases, verified, and repaired.
func TestRevs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	db := openDB(t, path, sqlite.Options{})
	alice, empty := newWriter(t, db, "alice"), newWriter(t, db, "bob")
	var revs []syntax.TID
	for i := range 3 {
		c := alice.change(t, post(i))
		if err := alice.repos.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		revs = append(revs, c.Next.Rev)
	}
	reopen := func(sql string) {
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		script(t, path, sql)
		db = openDB(t, path, sqlite.Options{})
		alice.repos, empty.repos = sqlite.Repos{DB: db}, sqlite.Repos{DB: db}
	}
	head := func(w *writer) (h repo.Head, posts int) {
		t.Helper()
		err := w.repos.View(t.Context(), w.account.ID, func(v repo.View) error {
			list, err := v.NewPosts("", repo.Bounds{Count: 100, Size: 1000, Bytes: 10_000})
			h, posts = v.Head(), len(list)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return h, posts
	}
	if h, _ := head(alice); h.First >= revs[0] {
		t.Fatalf("the first revision is %s, that of the first record %s", h.First, revs[0])
	}
	migration, err := os.ReadFile("migrations/0016_since.sql")
	if err != nil {
		t.Fatal(err)
	}
	reopen("DROP INDEX record_post; ALTER TABLE repo DROP COLUMN first_rev; ALTER TABLE repo DROP COLUMN removed_rev;\n" + string(migration))
	if h, posts := head(alice); h.First != revs[0] || h.Removed != "" || posts != 3 {
		t.Errorf("migrated: first %q, want the oldest record's, %q; removed %q; %d posts", h.First, revs[0], h.Removed, posts)
	}
	if h, posts := head(empty); h.First != h.Rev || h.Removed != "" || posts != 0 {
		t.Errorf("an empty repository, migrated: first %q, want %q; removed %q; %d posts", h.First, h.Rev, h.Removed, posts)
	}
	damaged := func(set, want string, first, removed syntax.TID) {
		t.Helper()
		sql := "UPDATE repo SET " + set + " WHERE account_id = 1"
		reopen(sql)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		faults, err := storetest.Faults(t.Context(), sqlite.Inspector{Path: path})
		if err != nil || !strings.Contains(strings.Join(faults, "\n"), want+": "+alice.account.DID.String()) {
			t.Errorf("%s: faults %q, %v", sql, faults, err)
		}
		i, err := sqlite.Inspector{Path: path}.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done, err := i.Rebuild(alice.account.ID, false, func(repo.Record) (repo.Derived, error) { return repo.Derived{}, nil }, start)
		if err != nil || done != (store.Rebuilt{Counted: true}) || i.Close() != nil {
			t.Errorf("%s: %+v, %v", sql, done, err)
		}
		verify(t, path)
		db = openDB(t, path, sqlite.Options{})
		alice.repos = sqlite.Repos{DB: db}
		if h, _ := head(alice); h.First != first || h.Removed != removed {
			t.Errorf("%s: repaired to first %q, removed %q, want %q, %q", sql, h.First, h.Removed, first, removed)
		}
	}
	const itself, older = "repository without a first revision, or with one that is newer than its commit", "record is older than its repository's first revision"
	damaged("first_rev = ''", itself, revs[0], "")
	damaged("first_rev = '"+revs[1].String()+"'", older, revs[0], "")
	damaged("first_rev = '3zzzzzzzzzzzz'", itself, revs[0], "")
	damaged("first_rev = '2222222222222', removed_rev = '3zzzzzzzzzzzz'", itself, "2222222222222", revs[2])
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
