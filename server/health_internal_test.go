package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"nestbox/config"
	"nestbox/datadir"
	"nestbox/metrics"
)

// TestHealth goes through what may happen to a server: each shows within 15 seconds, in the
// answer that it belongs to, and goes away again.
func TestHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var mu sync.Mutex
		var beat, spaceErr error
		var frozen chan struct{}
		disk := diskSpace{name: "data", path: "/data", all: 100 << 30, free: 50 << 30}
		var writing time.Duration
		h := &health{
			beat: func(context.Context) error {
				mu.Lock()
				wait, err := frozen, beat
				mu.Unlock()
				if wait != nil {
					<-wait
				}
				return err
			},
			space: func() ([]diskSpace, error) {
				mu.Lock()
				defer mu.Unlock()
				return []diskSpace{disk}, spaceErr
			},
			writing: func() time.Duration { return writing },
			passed:  func() time.Duration { return time.Since(began) },
			floor:   512 << 20, log: slog.New(slog.DiscardHandler),
		}
		set := func(change func()) {
			mu.Lock()
			defer mu.Unlock()
			change()
		}
		state := func(live, ready string) {
			t.Helper()
			synctest.Wait()
			for want, check := range map[*string]func() error{&live: h.Live, &ready: h.Ready} {
				w := httptest.NewRecorder()
				answer(check)(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
				status := http.StatusOK
				if *want != "ok" {
					status = http.StatusServiceUnavailable
				}
				if w.Code != status || !strings.Contains(w.Body.String(), *want) {
					t.Errorf("after %s: %d %q, want %q", time.Since(began), w.Code, w.Body, *want)
				}
			}
		}
		state("ok", "the database could not be written") // nothing was tried
		h.write(ctx)
		h.look()
		go h.watchWrites(ctx)
		go h.watchSpace(ctx)
		state("ok", "ok")
		time.Sleep(time.Hour)
		state("ok", "ok")

		set(func() { frozen = make(chan struct{}) }) // the next write does not end
		time.Sleep(15*time.Second + 1)
		state("ok", "the database could not be written for 1")
		close(frozen)
		set(func() { frozen = nil })
		state("ok", "ok")

		set(func() { beat = errors.New("disk full") })
		time.Sleep(beatEvery)
		state("ok", "disk full")
		set(func() { beat = nil })
		time.Sleep(beatEvery)
		state("ok", "ok")

		set(func() { disk.free = 511 << 20 })
		time.Sleep(beatEvery)
		state("ok", "only 511 MB")
		set(func() { disk.all = 20 << 30 }) // 2 % are 409 MB
		time.Sleep(beatEvery)
		state("ok", "ok")
		set(func() { spaceErr = errors.New("gone") })
		time.Sleep(beatEvery)
		state("ok", "the disk could not be looked at: gone")
		set(func() { spaceErr = nil })
		time.Sleep(beatEvery)

		writing = writeLife + 1
		state("a write has been computed for 10s", "ok")
		writing = 0
		h.stopping.Store(true)
		state("ok", "the server stops")
	})
}

// TestDiskFloor: a small disk has a lower floor than the default, and the one that is set.
func TestDiskFloor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		floor, all, free int64
		below            bool
	}{
		{config.DefaultDiskFloor, 100 << 30, 511 << 20, true},
		{config.DefaultDiskFloor, 100 << 30, 513 << 20, false},
		{config.DefaultDiskFloor, 10 << 30, 511 << 20, false},
		{config.DefaultDiskFloor, 10 << 30, 200 << 20, true},
		{10 << 30, 100 << 30, 9 << 30, true},
		{10 << 30, 100 << 30, 11 << 30, false},
		{0, 100 << 30, 0, false},
	} {
		if got := (diskSpace{all: c.all, free: c.free}).below(c.floor); got != c.below {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// TestLastBackup: the time of the last backup is a metric, also after a restart.
func TestLastBackup(t *testing.T) {
	s := openForTest(t)
	s.families = metrics.NewFamilies()
	const name = "nestbox_backup_last_success_timestamp_seconds"
	count := func() int {
		t.Helper()
		n, err := testutil.GatherAndCount(metrics.New(s.samples).Gatherer(), name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	s.recallBackups(t.Context())
	if n := count(); n != 0 {
		t.Errorf("before the first backup there are %d values", n)
	}
	s.noteBackup(t.Context(), datadir.BackupMade)
	s.noteBackup(t.Context(), datadir.BackupVerified)
	at := s.sights.backups[1].Swap(0) // as after a restart
	s.recallBackups(t.Context())
	if n := count(); n != 2 || at == 0 || s.sights.backups[1].Load() != at {
		t.Errorf("%d values, %d, then %d", n, at, s.sights.backups[1].Load())
	}
	// What is to be done is a metric, too: else nobody notices what was never done.
	due := func(want int) {
		t.Helper()
		if n, err := testutil.GatherAndCount(metrics.New(s.samples).Gatherer(), "nestbox_backup_interval_seconds"); err != nil || n != want {
			t.Errorf("%d intervals, want %d; %v", n, want, err)
		}
	}
	due(0)
	c := &s.opts.Config
	c.BackupTo, c.BackupEvery, c.BackupLogEvery = filepath.Join(t.TempDir(), "store"), 24*time.Hour, 10*time.Second
	due(3)
	c.BackupLogEvery = 0
	due(2)
	service, err := s.backupTo(s.ownBackup())
	if err != nil {
		t.Fatal(err)
	}
	if err := (&proof{Refused: true}).keep(service.State); err != nil {
		t.Fatal(err)
	}
	s.recallBackups(t.Context())
	due(1) // it may not verify
	if disks := s.lookAtDisks(t.Context()); disks.BackedUp.IsZero() || disks.Verified.IsZero() {
		t.Errorf("the page of the disks shows a backup of %v, one verified at %v", disks.BackedUp, disks.Verified)
	}
}
