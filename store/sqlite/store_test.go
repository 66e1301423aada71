package sqlite_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"nestbox/store/sqlite"
	"nestbox/store/storetest"
)

func openDB(tb testing.TB, path string, o sqlite.Options) *sqlite.DB {
	tb.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { tb.Errorf("the outcome of a commit is unknown: %v", err) }
	}
	db, err := sqlite.Open(tb.Context(), path, o)
	if err != nil {
		tb.Fatal(err)
	}
	return db
}

func verify(tb testing.TB, path string) {
	tb.Helper()
	faults, err := sqlite.Verify(path)
	if err != nil {
		tb.Error(err)
	}
	for _, f := range faults {
		tb.Error(f)
	}
}

func stores(db *sqlite.DB, reopen func() storetest.Stores) storetest.Stores {
	return storetest.Stores{Stores: db.Stores(), Reopen: reopen}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Stores {
		path := filepath.Join(t.TempDir(), "nestbox.sqlite")
		db := openDB(t, path, sqlite.Options{})
		var reopen func() storetest.Stores
		reopen = func() storetest.Stores {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			db = openDB(t, path, sqlite.Options{})
			return stores(db, reopen)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			verify(t, path)
		})
		return stores(db, reopen)
	})
}
