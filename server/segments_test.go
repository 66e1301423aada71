package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// awaitSegments waits until a store has some segments of the log, and returns their files, in order.
func awaitSegments(t *testing.T, store string, least int) (found []string) {
	t.Helper()
	for range 600 {
		var err error
		if found, err = filepath.Glob(filepath.Join(store, "log", "*", "*.ltx")); err != nil {
			t.Fatal(err)
		}
		if len(found) >= least {
			return found
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the store has %d segments", len(found))
	return nil
}

// TestLogSent: what is written between two snapshots arrives at the store of the backups, also
// after a restart, and the doctor shows it.
func TestLogSent(t *testing.T) {
	t.Parallel()
	store, data := filepath.Join(t.TempDir(), "store"), t.TempDir()
	settings := []string{"PDS_BACKUP_TO=" + store, "PDS_BACKUP_LOG_EVERY=1s"}
	s := pdstest.Start(t, pdstest.Options{Dir: data, Settings: settings})
	await(t, s, true, "what is written is there within 1s")
	s.SignUp(t, "alice")
	awaitSegments(t, store, 1)
	s.Stop()
	before := len(awaitSegments(t, store, 1))
	s = pdstest.Start(t, pdstest.Options{Dir: data, Settings: settings})
	await(t, s, true, "what is written is there within 1s")
	s.SignUp(t, "bob")
	awaitSegments(t, store, before+1)
	chains, err := os.ReadDir(filepath.Join(store, "log"))
	if err != nil || len(chains) != 1 {
		t.Errorf("the restart began another chain: %v, %v", chains, err)
	}
}

// away moves the folder of a store's parent away, as with a disk that is not there, and returns what
// brings it back.
func away(t *testing.T, disk string) (back func()) {
	t.Helper()
	elsewhere := disk + ".away"
	there := os.Rename(disk, elsewhere) == nil
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		err := os.Remove(disk)
		if there {
			err = errors.Join(err, os.Rename(elsewhere, disk))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// awaitUnsent waits until the admin page of the disks says why the log is not sent.
func awaitUnsent(t *testing.T, s *pdstest.InProcess, why string) {
	t.Helper()
	last := ""
	for range 600 {
		if last = s.Disks(t.Context()).Unsent; (last == "") == (why == "") && strings.Contains(last, why) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the page says %q, want %q", last, why)
}

// TestLogOff: what is wrong with the data directory itself at the start stays until the next one, and
// is said.
func TestLogOff(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	state := filepath.Join(data, "backups")
	if err := os.WriteFile(state, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := pdstest.Start(t, pdstest.Options{Dir: data, Settings: []string{"PDS_BACKUP_TO=" + filepath.Join(t.TempDir(), "store")}})
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	if err := s.BackUpIfDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, false, "not sent there until the next start")
	awaitUnsent(t, s, "until the next start")
}

// TestLogAway: a folder that cannot be opened at the start is a store that is away. What is written
// meanwhile waits, and is sent once the folder is there, by the same server and into the same log.
func TestLogAway(t *testing.T) {
	t.Parallel()
	disk, data := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	store := filepath.Join(disk, "store")
	o := pdstest.Options{Dir: data, Settings: []string{"PDS_BACKUP_TO=" + store, "PDS_BACKUP_LOG_EVERY=1s"}}
	s := pdstest.Start(t, o)
	await(t, s, true, "what is written is there within 1s")
	s.SignUp(t, "alice")
	s.Stop()
	before := len(awaitSegments(t, store, 1))

	back := away(t, disk)
	s = pdstest.Start(t, o)
	await(t, s, false, "cannot be reached")
	awaitUnsent(t, s, "cannot be reached")
	s.SignUp(t, "bob")
	back()
	awaitUnsent(t, s, "")
	awaitSegments(t, store, before+1)
	await(t, s, true, "what is written is there within 1s")
	s.Stop()
	if snapshots, err := os.ReadDir(filepath.Join(store, "snapshots")); err != nil || len(snapshots) != 1 {
		t.Errorf("the log did not go on: %v, %v", snapshots, err)
	}
	restored := filepath.Join(t.TempDir(), "data")
	if out, err := restoreTo(t, store, restored, "", time.Time{}); err != nil || out.Gap != "" || out.Faults > 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	s = pdstest.Start(t, pdstest.Options{Dir: restored})
	s.SignIn(t, "bob.test", pdstest.Password)
}

// TestLogAwayFirst: it is so at the first start, where a snapshot begins the log.
func TestLogAwayFirst(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "disk")
	store := filepath.Join(disk, "store")
	back := away(t, disk)
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_BACKUP_TO=" + store, "PDS_BACKUP_LOG_EVERY=1s"}})
	await(t, s, false, "cannot be reached")
	back()
	if err := s.BackUpIfDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, true, "what is written is there within 1s")
	s.SignUp(t, "alice")
	awaitSegments(t, store, 1)
}

// TestLogLost: the doctor shows that the store has lost a part of the log. One snapshot is due at once,
// which begins another one.
func TestLogLost(t *testing.T) {
	t.Parallel()
	store, data := filepath.Join(t.TempDir(), "store"), t.TempDir()
	settings := []string{"PDS_BACKUP_TO=" + store, "PDS_BACKUP_LOG_EVERY=1s"}
	s := pdstest.Start(t, pdstest.Options{Dir: data, Settings: settings})
	await(t, s, true, "was restored and verified; what is written")
	s.SignUp(t, "alice")
	s.Stop() // it sends the rest
	s = pdstest.Start(t, pdstest.Options{Dir: data, Settings: settings})
	await(t, s, true, "what is written is there within 1s")
	if err := os.RemoveAll(filepath.Join(store, "log")); err != nil {
		t.Fatal(err)
	}
	await(t, s, false, "a snapshot is made within a minute")
	await(t, s, false, "the times until the next snapshot cannot be restored")
	for range 2 { // the second time nothing is lost
		if err := s.BackUpIfDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		await(t, s, true, "what is written is there within 1s")
	}
	if snapshots, err := os.ReadDir(filepath.Join(store, "snapshots")); err != nil || len(snapshots) != 2 {
		t.Errorf("%v, %v", snapshots, err)
	}
	s.SignUp(t, "bob")
	s.Stop()
	if out, err := restoreTo(t, store, filepath.Join(t.TempDir(), "data"), "", time.Time{}); err != nil || out.Gap != "" || out.Segments == 0 {
		t.Errorf("%+v, %v", out, err)
	}
}
