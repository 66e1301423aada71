package sqlite

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/backup"
)

// restoreHeld writes what a backup of the held database has to a file, and returns how many
// rows are in it.
func restoreHeld(t *testing.T, held backup.Held, now backup.Moment) (rows int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "restored.sqlite")
	content := make([]byte, held.Size())
	if _, err := held.ReadAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(now.Facts().PageSize)
	if err := now.Pages(func(page uint32, content []byte) error {
		_, err := file.WriteAt(content, int64(page-1)*size)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Truncate(size*int64(now.Facts().PageCount)), file.Close()); err != nil {
		t.Fatal(err)
	}
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	check := ""
	err = sqlitex.ExecuteTransient(c, "PRAGMA integrity_check", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		check = s.ColumnText(0)
		return nil
	}})
	if err != nil || check != "ok" {
		t.Fatalf("the restored database: %q, %v", check, err)
	}
	err = sqlitex.ExecuteTransient(c, "SELECT count(*) FROM event", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		rows = s.ColumnInt(0)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestHold: however the log lies when the file is held, and whatever is written meanwhile,
// file and pages together are the state of the moment. Afterwards the log is emptied again.
func TestHold(t *testing.T) {
	t.Parallel()
	b := openBound(t)
	rows := 0
	write := func(n int) {
		t.Helper()
		for range n {
			if err := b.write(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
			rows++
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		write(random.IntN(4))
		switch random.IntN(4) {
		case 0: // the log is empty
			if _, err := b.empty(t.Context(), truncateWait); err != nil {
				t.Fatal(err)
			}
		case 1: // the log is copied, and starts over at the next write
			if err := b.writer.Outside(t.Context(), checkpoint); err != nil {
				t.Fatal(err)
			}
		}
		held, err := b.Hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		write(random.IntN(4))
		now, err := held.Moment(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := rows
		write(random.IntN(12)) // above the size at which the log is copied
		if random.IntN(2) == 0 {
			if emptied, err := b.empty(t.Context(), 0); err != nil || emptied {
				t.Fatalf("the log was emptied while the file is held: %v", err)
			}
		}
		if got := restoreHeld(t, held, now); got != want {
			t.Fatalf("round %d: %d rows, want %d", round, got, want)
		}
		if err := now.Close(); err != nil {
			t.Fatal(err)
		}
		held.Release()
		held.Release() // does nothing
	}
	if emptied, err := b.empty(t.Context(), truncateWait); err != nil || !emptied {
		t.Errorf("the log was not emptied after the file was let go: %v", err)
	}
}

// TestHoldLimit: writes go on above the limit of the log while the file is held, and reads
// are not ended for it. A database that is closed meanwhile ends the hold.
func TestHoldLimit(t *testing.T) {
	t.Parallel()
	b := openBound(t)
	if err := b.write(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	held, err := b.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for b.LogSize() < b.bounds.limit+boundTx {
		if err := b.write(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if held.LogSize() < b.bounds.limit {
		t.Errorf("the log has %d bytes", held.LogSize())
	}
	b.free.Store(0)
	if err := b.write(t.Context(), "x"); !errors.Is(err, errLogFull) {
		t.Errorf("a write when the disk is full: %v", err)
	}
	b.free.Store(1 << 40)
	held.Release()
}

// TestHoldClosed: a database that is closed ends the hold, since its log is copied then.
func TestHoldClosed(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "nestbox.sqlite"), Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	held, err := db.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.ReadAt(make([]byte, 1), 0); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := held.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("the file was read after the database was closed")
	}
	if _, err := held.Moment(t.Context()); err == nil {
		t.Error("a moment was chosen after the database was closed")
	}
	held.Release()
}
