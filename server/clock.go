package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"nestbox/internal/pause"
)

const (
	// clockGap is how far the clock may be ahead of the last write when the server
	// starts. Beyond it we ask another clock.
	clockGap = 24 * time.Hour
	// clockSkew is how far the other clock may be off.
	clockSkew    = time.Hour
	clockAgain   = 10 * time.Second
	clockTimeout = 10 * time.Second
)

// errClock is for actions that a wrong clock would make wrong for good.
var errClock = errors.New("the clock of this machine is far ahead of when this server last wrote something, " +
	"and nothing has confirmed it: set the clock, or make the PLC directory reachable, which is asked for the time")

// clock keeps a server whose clock is far ahead, as that of a machine without a
// battery may be when it starts, from what cannot be undone: deleting what is due,
// pruning what is old, and signing revisions of the future, after which the network
// refuses earlier ones. A clock is sure once it is near the last write, or near the
// clock of the PLC directory.
type clock struct {
	now    func() time.Time
	newest time.Time // the last write; zero: there was none
	// ask returns the time of another clock.
	ask func(context.Context) (time.Time, error)
	log *slog.Logger

	sure atomic.Bool
	done chan struct{} // closed once it is sure
}

func newClock(now func() time.Time, newest time.Time, ask func(context.Context) (time.Time, error), log *slog.Logger) *clock {
	c := &clock{now: now, newest: newest, ask: ask, log: log, done: make(chan struct{})}
	if newest.IsZero() || c.near() {
		c.trust()
	}
	return c
}

// openClock returns the clock of a server. In development it is always sure, so that a
// test may set it.
func (s *Server) openClock(ctx context.Context) (*clock, error) {
	newest, err := s.db.LastWritten(ctx)
	if err != nil {
		return nil, err
	}
	if s.opts.Config.DevMode {
		newest = time.Time{}
	}
	ask := func(ctx context.Context) (time.Time, error) {
		got, err := fetch(ctx, s.PLC+"/_health")
		if err != nil {
			return time.Time{}, err
		}
		return http.ParseTime(got.date)
	}
	return newClock(s.opts.Now, newest, ask, s.opts.Log), nil
}

func (c *clock) near() bool { return c.now().Sub(c.newest) <= clockGap }

func (c *clock) trust() {
	c.sure.Store(true)
	close(c.done)
}

// Check returns errClock until the clock is sure.
func (c *clock) Check() error {
	if c.sure.Load() {
		return nil
	}
	return errClock
}

// run checks until the clock is sure, or ctx ends.
func (c *clock) run(ctx context.Context) {
	for said := false; !c.sure.Load(); {
		within, cancel := context.WithTimeout(ctx, clockTimeout)
		other, err := c.ask(within)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case c.near() || err == nil && c.now().Sub(other).Abs() <= clockSkew:
			c.trust()
			return
		case !said:
			said = true
			attrs := []slog.Attr{slog.Time("clock", c.now()), slog.Time("last_written", c.newest)}
			if err != nil {
				attrs = append(attrs, slog.String("cause", err.Error()))
			} else {
				attrs = append(attrs, slog.Time("directory", other))
			}
			c.log.LogAttrs(ctx, slog.LevelError, "the clock is far ahead: nothing is deleted and no commit is signed "+
				"until it is set, or confirmed by the PLC directory", attrs...)
		}
		if !pause.For(ctx, clockAgain) {
			return
		}
	}
}

// then returns a function that waits until the clock is sure, and then calls run.
func (c *clock) then(run func(context.Context)) func(context.Context) {
	return func(ctx context.Context) {
		select {
		case <-c.done:
			run(ctx)
		case <-ctx.Done():
		}
	}
}
