package backup_test

import (
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/backup"
	"nestbox/blob/disk"
	"nestbox/store/storetest"
)

// TestRetainOthers: of two servers of one name in one store, neither removes what the other made, nor its
// log and the blobs in it. What the operator adopts counts as the server's own.
func TestRetainOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := openFolder(t, dir)
	var passed atomic.Int64 // nanoseconds
	begin := time.Date(2020, 11, 20, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return begin.Add(time.Duration(passed.Load())) }
	pass := func(d time.Duration) { stamp(t, dir, now()); passed.Add(int64(d)) }
	w, v := newWorld(t), newWorld(t)
	s, other := w.service(store), v.service(store)
	s.Now, other.Now, s.Keep = now, now, backup.Keep{Daily: 1}
	follow(t, w, s)
	follow(t, v, other)
	theirs := snapshot(t, other)
	pass(time.Hour)
	if err := v.use(t.Context(), 1, "a file of a segment"); err != nil {
		t.Fatal(err)
	}
	send(t, v, other)
	retain := func(snapshots int, want ...string) {
		t.Helper()
		pass(25 * time.Hour)
		out, err := s.Retain(t.Context())
		if err != nil || out.Snapshots != snapshots {
			t.Errorf("%+v, %v", out, err)
		}
		if names, err := backup.Names(t.Context(), store); !slices.Equal(names, want) || err != nil {
			t.Errorf("%q are left, %v, want %q", names, err, want)
		}
	}
	var own *backup.Manifest
	for n := range 3 {
		pass(24 * time.Hour)
		w.fill(n*10, n*10+10, 300)
		send(t, w, s)
		own = snapshot(t, s)
	}
	retain(2, theirs.Name, own.Name)
	to := filepath.Join(t.TempDir(), "restored")
	err := (&backup.Reader{Depot: store}).Restore(t.Context(), theirs, backup.Target{
		Dir: to, Named: storetest.BlobFiles, Then: func(replay *backup.Replay) error {
			if replay.Segments() != 1 || replay.Gap != "" {
				t.Errorf("%+v", replay)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = verifyDir(t.Context(), to, disk.Look(filepath.Join(to, "blobs"), ""), func(line string) { t.Errorf("restored: %s", line) })
	if err != nil || lastEvent(t, to) != lastEvent(t, v.dir) {
		t.Errorf("of the other's log, %d events are left: %v", lastEvent(t, to), err)
	}
	s.Adopt = true
	own = snapshot(t, s)
	retain(2, own.Name)
	mustVerify(t, store)
	if left, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("%q are left, %v", left, err)
	}
}

// TestRetainChains: the first snapshot of each log stays while the times behind it can be restored, though
// it is not the last of its day.
func TestRetainChains(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	var passed time.Duration
	s.Now = func() time.Time { return time.Date(2020, 11, 20, 12, 0, 0, 0, time.UTC).Add(passed) }
	s.Keep = backup.Keep{Daily: 2}
	want := []string{snapshot(t, s).Name}
	follow(t, w, s)
	passed += 24 * time.Hour
	for log := range 3 {
		m := snapshot(t, s) // begins a log
		want = append(want, m.Name)
		for n := range 2 {
			passed += time.Second
			w.fill(log*20+n*10, log*20+n*10+10, 300)
			send(t, w, s)
			m = snapshot(t, s) // leads on from it
		}
		if log == 2 {
			want = append(want, m.Name)
		}
		if err := s.Segments.Part(t.Context(), m.Chain, backup.ErrParted); err != nil {
			t.Fatal(err)
		}
		passed += time.Second
	}
	retained(t, s, want...)
	for range 2 { // later the times behind them cannot be restored any more
		passed += 24 * time.Hour
		want = append(want, snapshot(t, s).Name)
	}
	retained(t, s, want[len(want)-2:]...)
}

// TestMadeElsewhere: what the service made it knows again after a backup to another store in its place, as
// while a disk was not mounted.
func TestMadeElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	s.Keep = backup.Keep{Daily: 1}
	snapshot(t, s)
	w.pass(time.Second)
	s.Depot = openFolder(t, t.TempDir())
	snapshot(t, s)
	w.pass(time.Second)
	s.Depot = store
	last := snapshot(t, s)
	retained(t, s, last.Name)
}

// retained removes the snapshots of the service that it does not keep, and reports others than some as left.
func retained(t *testing.T, s *backup.Service, want ...string) {
	t.Helper()
	if _, err := s.Retain(t.Context()); err != nil {
		t.Error(err)
	}
	if names, err := backup.Names(t.Context(), s.Depot); err != nil || !slices.Equal(names, want) {
		t.Errorf("%q are left, %v, want %q", names, err, want)
	}
}
