package server_test

import (
	"os"
	"path/filepath"
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
