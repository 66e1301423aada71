package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"nestbox/admin"
	"nestbox/config"
	"nestbox/internal/pause"
	"nestbox/internal/system"
)

const (
	// beatEvery is how often a write shows that the database can be written, and how often the
	// free space is looked up.
	beatEvery = 10 * time.Second
	// beatLife is how long such a write, and such a look, is good for.
	beatLife = 15 * time.Second
	// writeLife is how long one write may be computed before the writer counts as stuck.
	writeLife = 10 * time.Second
	// floorPart: the default floor of a disk is at most one in so many parts of its size.
	floorPart = 50
)

// health knows whether the server works. What it says it says from memory: nothing that asks it
// waits for a disk.
type health struct {
	// beat makes a write; space returns the size and the free part of the worst of the disks.
	beat  func(context.Context) error
	space func() (disks []diskSpace, err error)
	// writing returns how long the write that is being computed has taken.
	writing func() time.Duration
	// passed returns how long the server has run, whatever the clock says.
	passed func() time.Duration
	floor  int64
	log    *slog.Logger

	written, looked atomic.Pointer[heartbeat]
	disks           atomic.Pointer[[]diskSpace]
	stopping        atomic.Bool
}

// heartbeat is how the last attempt at something went that succeeded at a time, or failed since.
type heartbeat struct {
	at  time.Duration
	err error
}

// diskSpace is a disk that the server writes to.
type diskSpace struct {
	name      string // what it is for
	path      string
	all, free int64
}

// below reports whether a disk is below its floor.
func (d diskSpace) below(floor int64) bool {
	if floor == config.DefaultDiskFloor {
		floor = min(floor, d.all/floorPart)
	}
	return d.free < floor
}

// openHealth returns the health of a server whose database is open. If it is going to serve, that
// has written once, so that it is ready then.
func (s *Server) openHealth(ctx context.Context) *health {
	began := time.Now()
	h := &health{
		beat:    func(ctx context.Context) error { return s.db.Beat(ctx, s.opts.Now()) },
		space:   s.spaces,
		writing: s.db.Writing, passed: func() time.Duration { return time.Since(began) },
		floor: s.opts.Config.DiskFloor, log: s.opts.Log,
	}
	if s.opts.Listen {
		h.write(ctx)
		h.look()
	}
	return h
}

// spaces looks at the disks.
func (s *Server) spaces() ([]diskSpace, error) {
	disks := []diskSpace{{name: "data", path: s.DataDir}}
	if elsewhere := s.opts.Config.BlobDiskLocation; elsewhere != "" {
		disks = append(disks, diskSpace{name: "blobs", path: elsewhere})
	}
	for i := range disks {
		var err error
		if disks[i].all, disks[i].free, err = system.Space(disks[i].path); err != nil {
			return nil, err
		}
	}
	return disks, nil
}

// note keeps how an attempt went: an error does not make the last success older.
func (h *health) note(kept *atomic.Pointer[heartbeat], err error) {
	now := heartbeat{h.passed(), err}
	if last := kept.Load(); err != nil && last != nil {
		now.at = last.at
	}
	kept.Store(&now)
}

func (h *health) write(ctx context.Context) {
	if err := h.beat(ctx); ctx.Err() == nil {
		h.note(&h.written, err)
	}
}

func (h *health) look() {
	disks, err := h.space()
	if err == nil {
		h.disks.Store(&disks)
	}
	h.note(&h.looked, err)
}

// watchWrites and watchSpace go on until ctx ends, each on its own: one that hangs shows by its
// age.
func (h *health) watchWrites(ctx context.Context) {
	for pause.For(ctx, beatEvery) {
		h.write(ctx)
	}
}

func (h *health) watchSpace(ctx context.Context) {
	for said := false; pause.For(ctx, beatEvery); {
		h.look()
		err := h.room()
		if err != nil && !said {
			h.log.LogAttrs(ctx, slog.LevelError, "the server is not ready", slog.String("cause", err.Error()))
		}
		said = err != nil
	}
}

var errStops = errors.New("the server stops")

// Live returns why the server's process does not work any more, nil if it does. A disk that hangs
// is no reason: a restart would not mend it.
func (h *health) Live() error {
	if took := h.writing(); took > writeLife {
		return fmt.Errorf("a write has been computed for %s", took.Round(time.Second))
	}
	return nil
}

// Ready returns why the server should get no requests, nil if it should.
func (h *health) Ready() error {
	if h.stopping.Load() {
		return errStops
	}
	if err := h.fresh(h.written.Load(), "the database could not be written"); err != nil {
		return err
	}
	if err := h.fresh(h.looked.Load(), "the disk could not be looked at"); err != nil {
		return err
	}
	return h.room()
}

// fresh returns an error if an attempt failed, or none has ended for too long.
func (h *health) fresh(last *heartbeat, what string) error {
	if last == nil {
		return errors.New(what)
	}
	age := h.passed() - last.at
	switch {
	case last.err != nil:
		return fmt.Errorf("%s: %w", what, last.err)
	case age > beatLife:
		return fmt.Errorf("%s for %s", what, age.Round(time.Second))
	default:
		return nil
	}
}

// room returns an error if a disk is too full.
func (h *health) room() error {
	disks := h.disks.Load()
	if disks == nil {
		return nil // look says why
	}
	for _, d := range *disks {
		if d.below(h.floor) {
			return fmt.Errorf("only %d MB of the disk of %s are free (PDS_DISK_FLOOR)", d.free>>20, d.path)
		}
	}
	return nil
}

// healthLine returns what the command nestbox health prints.
func (s *Server) healthLine() admin.Health {
	out := admin.Health{Version: s.opts.Version}
	live, ready := s.health.Live(), s.health.Ready()
	out.Live, out.Ready = live == nil, live == nil && ready == nil
	switch {
	case live != nil:
		out.Problem = live.Error()
	case ready != nil:
		out.Problem = ready.Error()
	}
	return out
}

// answer answers a probe: 200 and "ok", or 503 and the reason.
func answer(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err := check(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, err) // a probe that has gone needs no answer
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	}
}

// watchdog tells the service manager that the server lives, as often as it wants to hear that.
func (s *Server) watchdog(ctx context.Context) {
	every := s.opts.Manager.Watchdog()
	for every > 0 && pause.For(ctx, every) {
		if err := s.health.Live(); err != nil {
			s.opts.Log.LogAttrs(ctx, slog.LevelError, "the server does not live", slog.String("cause", err.Error()))
			continue
		}
		s.tell(ctx, "WATCHDOG=1")
	}
}

// tell tells the service manager about the server's state.
func (s *Server) tell(ctx context.Context, state string) {
	if err := s.opts.Manager.Tell(state); err != nil {
		s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "the service manager was not told", slog.String("cause", err.Error()))
	}
}
