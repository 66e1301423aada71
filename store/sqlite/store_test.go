package sqlite_test

import (
	"context"
	"log/slog"
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
	faults, err := storetest.Faults(context.WithoutCancel(tb.Context()), sqlite.Inspector{Path: path})
	if err != nil {
		tb.Error(err)
	}
	for _, f := range faults {
		tb.Error(f)
	}
}

func TestStore(t *testing.T) { storetest.Run(t, storetest.SQLite) }
