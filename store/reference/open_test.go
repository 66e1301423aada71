package reference_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/store/reference"
)

// childVar makes the test binary a process that holds the database of that name open.
const childVar = "NESTBOX_REFERENCE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVar); path != "" {
		if strings.HasSuffix(path, busyName) {
			keepWriting(path)
		}
		hold(path)
	}
	os.Exit(m.Run())
}

// hold writes to a database, leaves what it wrote in the log, and ends with its parent.
func hold(path string) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL)
	if err == nil {
		err = sqlitex.ExecuteScript(conn, "CREATE TABLE IF NOT EXISTS kysely_migration (name TEXT, timestamp TEXT);"+
			"INSERT INTO kysely_migration VALUES ('001', ''), ('008', '');"+
			"CREATE TABLE kysely_migration_lock (id TEXT, is_locked INTEGER); INSERT INTO kysely_migration_lock VALUES ('x', 1);"+
			"CREATE TABLE actor (did TEXT, handle TEXT, novel TEXT); CREATE TABLE another (x TEXT)", nil)
	}
	fmt.Println("ready", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0) // as a kill does: without closing the database
}

// busyName is the name of a database that its child writes all the time.
const busyName = "sequencer.sqlite"

// keepWriting writes pairs of rows until its parent ends.
func keepWriting(path string) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL)
	if err == nil {
		err = sqlitex.ExecuteTransient(conn, "PRAGMA synchronous=OFF", nil)
	}
	if err == nil {
		err = sqlitex.ExecuteScript(conn, "CREATE TABLE kysely_migration (name TEXT)", nil)
	}
	fmt.Println("ready", err)
	for n := 0; err == nil; n++ {
		err = sqlitex.ExecuteScript(conn, fmt.Sprintf("INSERT INTO kysely_migration VALUES ('%d'), ('%[1]d')", n), nil)
		if n%1000 > 900 {
			time.Sleep(time.Millisecond)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestOpenBusy: of a database that is written all the time, with its log put into it now and
// then, each copy is whole.
func TestOpenBusy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), busyName)
	kill := child(t, path)
	defer kill()
	last := 0
	for range 15 {
		db, err := reference.Open(t.Context(), path, t.TempDir())
		if errors.Is(err, reference.ErrMoving) {
			continue // it says so
		}
		if err != nil {
			t.Fatal(err)
		}
		s, err := db.Schema(reference.KindEvents)
		if n := len(s.Unknown); err != nil || n%2 != 0 || n < last {
			t.Errorf("%d rows after %d, %v", n, last, err)
		}
		last = len(s.Unknown)
		if err := errors.Join(db.Intact(), db.Close()); err != nil {
			t.Error(err)
		}
	}
	if last == 0 {
		t.Error("it was never read")
	}
}

// child starts a process that holds a database, until kill is called.
func child(t *testing.T, path string) (kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+path)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// files returns the files below a folder with their content.
func files(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%s %d %x\n", path, len(b), b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestOpen: a database is read with what is in its log, while a process has it open and after
// that was killed, whatever its name, and nothing beside it changes.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "did:plc:a%3f?x#y")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path, scratch := filepath.Join(dir, "account.sqlite"), t.TempDir()
	kill := child(t, path)
	for _, running := range []bool{true, false} {
		if got, err := reference.Running(path); err != nil || got != running {
			t.Errorf("running: %v, %v, want %v", got, err, running)
		}
		before := files(t, dir)
		db, err := reference.Open(t.Context(), path, scratch)
		if err != nil {
			t.Fatal(err)
		}
		s, err := db.Schema(reference.KindAccounts)
		if err != nil || strings.Join(s.Unknown, ",") != "008" || !s.Locked || len(s.Missing) != 6 {
			t.Errorf("%+v, %v", s, err)
		}
		unread, err := db.Unread(reference.KindAccounts)
		if err != nil || strings.Join(unread, ",") != "actor.novel,another" {
			t.Errorf("unread %q, %v", unread, err)
		}
		if moved, err := db.Moved(); moved || err != nil {
			t.Errorf("moved %v, %v", moved, err)
		}
		if err := errors.Join(db.Intact(), db.Close()); err != nil {
			t.Error(err)
		}
		if files(t, dir) != before {
			t.Error("the source changed")
		}
		if left, err := os.ReadDir(scratch); len(left) > 0 || err != nil {
			t.Errorf("left behind: %v, %v", left, err)
		}
		if running {
			kill()
		}
	}
}

// TestOpenImmutable: a database without a log is read in place: no file is made, not even for
// a moment, so that a folder that cannot be written is enough.
func TestOpenImmutable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "account.sqlite")
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sqlitex.ExecuteScript(conn, "CREATE TABLE kysely_migration (name TEXT)", nil), conn.Close()); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	db, err := reference.Open(t.Context(), path, filepath.Join(dir, "no such folder"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Schema(reference.KindActor); err != nil || files(t, dir) != before {
		t.Errorf("%v", err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if moved, err := db.Moved(); !moved || err != nil {
		t.Errorf("moved %v, %v", moved, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenMissing(t *testing.T) {
	t.Parallel()
	if _, err := reference.Open(context.Background(), filepath.Join(t.TempDir(), "account.sqlite"), t.TempDir()); !errors.Is(err, reference.ErrMissing) {
		t.Error(err)
	}
}
