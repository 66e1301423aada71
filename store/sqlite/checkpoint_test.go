package sqlite

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"

	"nestbox/store/sqlite/groupcommit"
)

// TestLogStartsOver: once the write-ahead log was copied into the file, the next
// write makes it short, so that it is not copied again until it has grown as
// large.
func TestLogStartsOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	db, err := Open(t.Context(), path, Options{Fatal: func(err error) { t.Error(err) }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	write := func(size int) {
		t.Helper()
		err := db.writer.Do(context.WithoutCancel(t.Context()), func(tx *groupcommit.Tx) error {
			_, err := change(tx.Conn, "INSERT INTO event (at, kind, did, split, total, body) VALUES (0, '', '', 0, 0, zeroblob(?))",
				func(s *sqlite.Stmt) { s.BindInt64(1, int64(size)) })
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write(checkpointAt + checkpointAt/4)
	if walSize(path) < checkpointAt {
		t.Fatalf("a log of %d bytes", walSize(path))
	}
	if err := db.writer.Outside(t.Context(), checkpoint); err != nil {
		t.Fatal(err)
	}
	write(1)
	if n := walSize(path); n >= checkpointAt {
		t.Errorf("the log begins again with %d bytes, and would be copied each second", n)
	}
	write(checkpointAt)
	if walSize(path) < checkpointAt {
		t.Error("the log does not grow any more")
	}
}
