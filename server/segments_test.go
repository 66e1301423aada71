package server_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// TestLogSent: what is written between two snapshots arrives at the store of the backups, also
// after a restart, and the doctor shows it.
func TestLogSent(t *testing.T) {
	t.Parallel()
	store, data := filepath.Join(t.TempDir(), "store"), t.TempDir()
	settings := []string{"PDS_BACKUP_TO=" + store, "PDS_BACKUP_LOG_EVERY=1s"}
	s := pdstest.Start(t, pdstest.Options{Dir: data, Settings: settings})
	await(t, s, true, "what is written is there within 1s")
	sent := func() int {
		found, err := filepath.Glob(filepath.Join(store, "log", "*", "*.ltx"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	awaitMore := func(than int) {
		t.Helper()
		for range 600 {
			if sent() > than {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("the store has %d segments", sent())
	}
	s.SignUp(t, "alice")
	awaitMore(0)
	s.Stop()
	before := sent()
	s = pdstest.Start(t, pdstest.Options{Dir: data, Settings: settings})
	await(t, s, true, "what is written is there within 1s")
	s.SignUp(t, "bob")
	awaitMore(before)
	chains, err := os.ReadDir(filepath.Join(store, "log"))
	if err != nil || len(chains) != 1 {
		t.Errorf("the restart began another chain: %v, %v", chains, err)
	}
}

// TestLogLost: the doctor shows that the store has lost a part of the log. After a restart a snapshot
// begins another one.
func TestLogLost(t *testing.T) {
	t.Parallel()
	store, data := filepath.Join(t.TempDir(), "store"), t.TempDir()
	settings := []string{"PDS_BACKUP_TO=" + store, "PDS_BACKUP_LOG_EVERY=1s"}
	s := pdstest.Start(t, pdstest.Options{Dir: data, Settings: settings})
	await(t, s, true, "what is written is there within 1s")
	s.SignUp(t, "alice")
	s.Stop() // it sends the rest
	s = pdstest.Start(t, pdstest.Options{Dir: data, Settings: settings})
	await(t, s, true, "what is written is there within 1s")
	if err := os.RemoveAll(filepath.Join(store, "log")); err != nil {
		t.Fatal(err)
	}
	await(t, s, false, "restart the server")
	s.Stop()
	s = pdstest.Start(t, pdstest.Options{Dir: data, Settings: settings})
	await(t, s, true, "what is written is there within 1s")
}
