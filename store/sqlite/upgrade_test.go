package sqlite_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/internal/smalldisk"
	"nestbox/store/sqlite"
)

// oldSchema is that of the database that older returns.
const oldSchema = 28

// older puts a database of an older version into a folder.
func older(tb testing.TB, dir string) (path string) {
	tb.Helper()
	small, err := os.ReadFile(fmt.Sprintf("../../e2e/testdata/schemas/%04d.sqlite.gz", oldSchema))
	if err != nil {
		tb.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(small))
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := io.ReadAll(zip)
	if err != nil {
		tb.Fatal(err)
	}
	path = filepath.Join(dir, "nestbox.sqlite")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// number returns what a query of a database that nobody has open returns.
func number(tb testing.TB, path, sql string) (n int) {
	tb.Helper()
	c, err := zombie.OpenConn(path, zombie.OpenReadWrite)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	if err := sqlitex.ExecuteTransient(c, sql, &sqlitex.ExecOptions{ResultFunc: func(s *zombie.Stmt) error { n = s.ColumnInt(0); return nil }}); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return n
}

// copies returns the safety copies beside a database.
func copies(tb testing.TB, path string) []sqlite.SafetyCopy {
	tb.Helper()
	all, err := sqlite.SafetyCopies(path)
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// TestSafetyCopy: a database is kept as it is before it is migrated, once, whole, and closed to
// others; not a new one, nor one that is not migrated.
func TestSafetyCopy(t *testing.T) {
	fresh := filepath.Join(t.TempDir(), "nestbox.sqlite")
	for range 2 {
		if err := openDB(t, fresh, sqlite.Options{}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if all := copies(t, fresh); len(all) > 0 {
		t.Errorf("of a new database: %+v", all)
	}
	newest := number(t, fresh, "PRAGMA user_version")

	path := older(t, t.TempDir())
	records := number(t, path, "SELECT count(*) FROM record")
	// What is still in the log of a process that was killed belongs to the copy, too.
	script(t, path, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; UPDATE account SET email = 'changed@example.com' WHERE handle = 'alice.test';")
	for range 2 {
		if err := openDB(t, path, sqlite.Options{}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	verify(t, path)
	all := copies(t, path)
	if len(all) != 1 || all[0].Schema != oldSchema || all[0].Before != newest || all[0].Path != filepath.Join(filepath.Dir(path), fmt.Sprintf("before-%d.sqlite", newest)) {
		t.Fatalf("%+v", all)
	}
	if fi, err := os.Stat(all[0].Path); err != nil || fi.Mode().Perm() != 0o600 || fi.Size() != all[0].Size {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if n := number(t, all[0].Path, "SELECT count(*) FROM record"); n != records || records == 0 {
		t.Errorf("the copy has %d records, want %d", n, records)
	}
	if n := number(t, all[0].Path, "SELECT count(*) FROM account WHERE email = 'changed@example.com'"); n != 1 {
		t.Error("the copy lacks what the log had")
	}

	without := older(t, t.TempDir())
	if err := openDB(t, without, sqlite.Options{NoSafetyCopy: true}).Close(); err != nil {
		t.Fatal(err)
	}
	if all := copies(t, without); len(all) > 0 {
		t.Errorf("though it was not wanted: %+v", all)
	}
}

// TestSafetyCopyInterrupted: the copy of an upgrade that was interrupted stays the one from before it
// began; one that an earlier upgrade left does not pass for that.
func TestSafetyCopyInterrupted(t *testing.T) {
	path := older(t, t.TempDir())
	newest := func() int {
		fresh := filepath.Join(t.TempDir(), "nestbox.sqlite")
		if err := openDB(t, fresh, sqlite.Options{}).Close(); err != nil {
			t.Fatal(err)
		}
		return number(t, fresh, "PRAGMA user_version")
	}()
	kept := filepath.Join(filepath.Dir(path), fmt.Sprintf("before-%d.sqlite", newest))
	if err := os.WriteFile(kept+".part", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	// An upgrade made the copy and one step, and was killed.
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	script(t, kept, "PRAGMA user_version = 27;")
	if err := openDB(t, path, sqlite.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	if all := copies(t, path); len(all) != 1 || all[0].Schema != 27 {
		t.Errorf("%+v", all)
	}
	if _, err := os.Stat(kept + ".part"); !os.IsNotExist(err) {
		t.Errorf("an unfinished copy stays: %v", err)
	}

	// A program of the schema in between has served meanwhile: what it wrote is in the new copy, and
	// the old one stays beside it.
	later := older(t, filepath.Dir(path))
	script(t, later, `INSERT INTO trail (account_id, at, kind, actor, session_id, reason, network, user_agent, other_network, other_user_agent)
		SELECT account_id, at + 86400000, kind, actor, session_id, reason, network, user_agent, other_network, other_user_agent FROM trail ORDER BY at DESC LIMIT 1;`)
	if err := openDB(t, later, sqlite.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	all := copies(t, path)
	slices.SortFunc(all, func(a, b sqlite.SafetyCopy) int { return a.Schema - b.Schema })
	if len(all) != 2 || all[0].Schema != 27 || all[0].Before != oldSchema || all[1].Schema != oldSchema || all[1].Path != kept {
		t.Errorf("%+v", all)
	}
	const lastEntry = "SELECT max(at) FROM trail"
	if before, after := number(t, all[0].Path, lastEntry), number(t, kept, lastEntry); after != before+86400000 {
		t.Errorf("the newest entry of the copies: %d and %d", before, after)
	}

	// The copy of an upgrade that somebody undid by hand is of the same schema: it is replaced.
	again := older(t, filepath.Dir(path))
	script(t, again, "UPDATE account SET email = 'later@example.com' WHERE handle = 'alice.test';")
	script(t, kept, "PRAGMA user_version = 28;")
	if err := openDB(t, again, sqlite.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	if n := number(t, kept, "SELECT count(*) FROM account WHERE email = 'later@example.com'"); n != 1 {
		t.Error("an old copy passed for that of this upgrade")
	}
}

// TestNoRoom: without room for a copy nothing is changed, and the refusal names the way on.
func TestNoRoom(t *testing.T) {
	path := older(t, t.TempDir())
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	few := func() (int64, error) { return 1 << 20, nil }
	_, err = sqlite.Open(t.Context(), path, sqlite.Options{Free: few})
	if clones(t, filepath.Dir(path)) {
		t.Skip("this file system shares files: a copy takes no room")
	}
	if !errors.Is(err, sqlite.ErrNoRoom) || !strings.Contains(err.Error(), "--no-safety-copy") {
		t.Fatal(err)
	}
	if got := number(t, path, "PRAGMA user_version"); got != oldSchema {
		t.Errorf("it has schema %d", got)
	}
	after, err := os.ReadFile(path)
	if err != nil || !slices.Equal(before[100:], after[100:]) { // the header counts openings
		t.Errorf("the database was changed: %v", err)
	}
	if entries, err := filepath.Glob(filepath.Join(filepath.Dir(path), "before-*")); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %q, %v", entries, err)
	}
	if err := openDB(t, path, sqlite.Options{Free: few, NoSafetyCopy: true}).Close(); err != nil {
		t.Fatal(err)
	}
	verify(t, path)
}

// clones reports whether a file system can share the content of files.
func clones(t *testing.T, dir string) bool {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "before-*.sqlite"))
	return err == nil && len(all) > 0
}

// TestFullDiskUpgrade: an upgrade that runs out of room, while it copies or in a migration, leaves
// the database as the older version wrote it, and goes on once there is room.
func TestFullDiskUpgrade(t *testing.T) {
	dir, resize := smalldisk.Mount(t, "16m")
	path := older(t, dir)
	whole := number(t, path, "SELECT count(*) FROM record")
	if err := os.WriteFile(filepath.Join(dir, "ballast"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for left := 0; left <= 512<<10; left += 32 << 10 {
		fillDisk(t, filepath.Join(dir, "ballast"), left)
		for _, without := range []bool{false, true} {
			db, err := sqlite.Open(t.Context(), path, sqlite.Options{NoSafetyCopy: without})
			if err == nil {
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				t.Logf("%d kB suffice", left>>10)
				continue
			}
			failed++
			if err := os.Truncate(filepath.Join(dir, "ballast"), 0); err != nil {
				t.Fatal(err)
			}
			if got := number(t, path, "PRAGMA user_version"); got < oldSchema {
				t.Errorf("with %d kB left it has schema %d", left>>10, got)
			}
			if n := number(t, path, "SELECT count(*) FROM record"); n != whole {
				t.Errorf("with %d kB left it has %d records", left>>10, n)
			}
			if parts, err := filepath.Glob(filepath.Join(dir, "*.part")); err != nil || len(parts) > 0 {
				t.Errorf("left behind: %q, %v", parts, err)
			}
			fillDisk(t, filepath.Join(dir, "ballast"), left)
		}
	}
	if failed == 0 {
		t.Error("the disk was never full")
	}
	resize("64m")
	if err := openDB(t, path, sqlite.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	verify(t, path)
}

// fillDisk makes a file so large that so many bytes are left.
func fillDisk(t *testing.T, ballast string, left int) {
	t.Helper()
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 16<<10)
	for {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	fi, err := f.Stat()
	if err == nil {
		err = f.Truncate(max(fi.Size()-int64(left), 0))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestMinReader: a newer schema decides whether this binary may go on with the database.
func TestMinReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	filled(t, path)
	newest := number(t, path, "PRAGMA user_version")
	if reader := number(t, path, "SELECT min_reader FROM standing"); reader != newest {
		t.Errorf("min_reader is %d after migration %d, which allows no older one", reader, newest)
	}
	for reader, want := range map[int]error{newest: nil, 31: nil, newest + 1: sqlite.ErrNewerSchema, 1001: sqlite.ErrNewerSchema} {
		script(t, path, fmt.Sprintf("PRAGMA user_version = 1001; UPDATE standing SET min_reader = %d;", reader))
		db, err := sqlite.Open(t.Context(), path, sqlite.Options{Log: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("min_reader %d: %v", reader, err)
		}
		if err == nil {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			verify(t, path)
		}
		if got := number(t, path, "PRAGMA user_version"); got != 1001 {
			t.Errorf("the schema became %d", got)
		}
	}
	script(t, path, "DELETE FROM standing;")
	if _, err := sqlite.Open(t.Context(), path, sqlite.Options{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, sqlite.ErrNewerSchema) {
		t.Errorf("without a word about readers: %v", err)
	}
}

// TestDropSafetyCopies removes old ones, and nothing else.
func TestDropSafetyCopies(t *testing.T) {
	dir := t.TempDir()
	path := older(t, dir)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"before-29.sqlite": 8 * 24 * time.Hour, "before-31.sqlite": time.Hour, "before-x.sqlite": 1000 * time.Hour, "other.sqlite": 1000 * time.Hour} {
		at := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), raw, 0o600), os.Chtimes(filepath.Join(dir, name), at, at)); err != nil {
			t.Fatal(err)
		}
	}
	dropped, err := sqlite.DropSafetyCopies(path, time.Now().Add(-7*24*time.Hour))
	if err != nil || !slices.Equal(dropped, []string{filepath.Join(dir, "before-29.sqlite")}) {
		t.Errorf("%q, %v", dropped, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.sqlite"))
	if err != nil || len(left) != 4 {
		t.Errorf("%q, %v", left, err)
	}
}

// TestDowngradeRefuses: what cannot be put back, or is not whole, stays as it is.
func TestDowngradeRefuses(t *testing.T) {
	path := older(t, t.TempDir())
	if err := openDB(t, path, sqlite.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	kept := copies(t, path)[0]
	if _, err := sqlite.Downgrade(path, filepath.Join(t.TempDir(), "before-31.sqlite")); !errors.Is(err, sqlite.ErrNoCopy) {
		t.Errorf("a copy elsewhere: %v", err)
	}
	raw, err := os.ReadFile(kept.Path)
	if err != nil {
		t.Fatal(err)
	}
	whole := slices.Clone(raw)
	for i := 5 * 4096; i < len(raw)-4096; i += 97 {
		raw[i] ^= 0x55
	}
	if err := os.WriteFile(kept.Path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Downgrade(path, ""); err == nil {
		t.Error("a damaged copy was put back")
	}
	verify(t, path)
	if err := os.WriteFile(kept.Path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	done, err := sqlite.Downgrade(path, kept.Path)
	if err != nil || done.Copy.Schema != oldSchema || done.Events != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if number(t, path, "PRAGMA user_version") != oldSchema || number(t, done.Kept, "PRAGMA user_version") != kept.Before {
		t.Error("the two are not exchanged")
	}
}
