package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/datadir"
	"nestbox/internal/durable"
)

// TestOpen: a data directory is closed to other users, and has one holder at a time.
// What else is in the folder stays.
func TestOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "data")
	dir, release, err := datadir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	foreign := filepath.Join(path, "notes.txt")
	if err := os.WriteFile(foreign, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := datadir.Open(path); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if _, err := dir.Lock(); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("locked while it is open: %v", err)
	}
	if _, err := datadir.Find(path); !errors.Is(err, datadir.ErrNoDatabase) {
		t.Errorf("found before it was served: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, release, err = datadir.Open(path); err != nil {
		t.Fatalf("opened again: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(foreign); err != nil || string(raw) != "mine" {
		t.Errorf("what was there: %q, %v", raw, err)
	}
}

// TestAdminPassword: a server without a configured password makes one, closed to other
// users, and keeps it.
func TestAdminPassword(t *testing.T) {
	t.Parallel()
	dir := datadir.Dir(t.TempDir())
	if got, err := dir.AdminPassword("configured"); got != "configured" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	first, err := dir.AdminPassword("")
	if err != nil || len(first) < 32 {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := dir.AdminPassword(""); again != first || err != nil {
		t.Errorf("%q and then %q, %v", first, again, err)
	}
	if fi, err := os.Stat(filepath.Join(string(dir), "admin_password")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

// TestClock: the last time that was saved returns, to the second. None is no time, and a
// damaged file an error.
func TestClock(t *testing.T) {
	t.Parallel()
	dir := datadir.Dir(t.TempDir())
	if at, err := dir.LastClock(); !at.IsZero() || err != nil {
		t.Errorf("before it was saved: %v, %v", at, err)
	}
	want := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{want.Add(-time.Hour), want.Add(time.Second / 2)} {
		if err := dir.KeepClock(at); err != nil {
			t.Fatal(err)
		}
	}
	if at, err := dir.LastClock(); !at.Equal(want) || err != nil {
		t.Errorf("%v, %v, want %v", at, err, want)
	}
	for _, damaged := range []string{"", "2026", "\x00\x00", "2026-11-29T12:00:00Z and more", strings.Repeat("2", 1<<20)} {
		if err := os.WriteFile(filepath.Join(string(dir), "clock"), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if at, err := dir.LastClock(); !at.IsZero() || err == nil {
			t.Errorf("%.20q: %v, %v", damaged, at, err)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	dir := datadir.Dir(t.TempDir())
	if raw, err := dir.LastSizes(); len(raw) > 0 || err != nil {
		t.Errorf("before they were saved: %q, %v", raw, err)
	}
	for _, want := range []string{"1 2 3\n", "1 2 3\n4 5 6\n", strings.Repeat("9", 1<<20)} {
		if err := dir.KeepSizes([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if raw, err := dir.LastSizes(); string(raw) != want[:min(len(want), 64<<10)] || err != nil {
			t.Errorf("%.20q, %v, want %.20q", raw, err, want)
		}
	}
}
