package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"
	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/store"
	"nestbox/store/sqlite"
	"nestbox/store/storetest"
)

// TestBlobCount: how many blobs a repository refers to is right after every write,
// is counted for older databases, is verified, and is repaired.
func TestBlobCount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	db := openDB(t, path, sqlite.Options{})
	alice := newWriter(t, db, "alice")
	blobs := sqlite.Blobs{DB: db}
	var ids []cid.Cid
	for _, key := range []string{"a", "b", "c"} {
		b := blob.Blob{CID: dagcbor.RawCID([32]byte{key[0]}), Size: 1, MimeType: "image/png", Key: key, CreatedAt: start}
		if err := blobs.Intend(t.Context(), key, start); err != nil {
			t.Fatal(err)
		}
		if _, err := blobs.Add(t.Context(), alice.account.ID, b, 0); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, b.CID)
	}
	counts := func(what string, want int64) {
		t.Helper()
		expected, there, err := sqlite.Blobs{DB: db}.Count(t.Context(), alice.account.ID)
		if err != nil || expected != want || there != want {
			t.Errorf("%s: %d expected, %d there, want %d; %v", what, expected, there, want, err)
		}
	}
	one, two := post(1), post(2)
	one.Blobs, two.Blobs = []cid.Cid{ids[0], ids[1], ids[0]}, ids[1:]
	alice.commit(t, one)
	counts("one record", 2)
	alice.commit(t, two)
	counts("another, of which one is the same", 3)
	alice.commit(t, repo.Write{Key: one.Key})
	counts("without the first", 2)

	script := func(sql string) {
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := zombie.OpenConn(path, zombie.OpenReadWrite)
		if err == nil {
			err = sqlitex.ExecuteScript(c, sql, nil)
		}
		if err == nil {
			err = c.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	migration, err := os.ReadFile("migrations/0013_blob_counts.sql")
	if err != nil {
		t.Fatal(err)
	}
	script("ALTER TABLE repo DROP COLUMN blobs;\n" + string(migration))
	db = openDB(t, path, sqlite.Options{})
	counts("a database of before", 2)
	script("UPDATE repo SET blobs = 7")
	faults, err := storetest.Faults(t.Context(), sqlite.Inspector{Path: path})
	if want := "repository counts its blobs wrong: " + alice.account.DID.String(); err != nil || len(faults) != 1 || faults[0] != want {
		t.Errorf("faults %q, %v", faults, err)
	}
	i, err := sqlite.Inspector{Path: path}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done, err := i.Rebuild(alice.account.ID, false, func(r repo.Record) (repo.Derived, error) {
		return repo.Derived{Blobs: []string{ids[1].String(), ids[2].String()}}, nil
	}, start)
	if err != nil || done != (store.Rebuilt{Counted: true}) || i.Close() != nil {
		t.Errorf("%+v, %v", done, err)
	}
	verify(t, path)
}
