package server

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	"nestbox/internal/pause"
)

const (
	// clockGap is how far the clock may be ahead of what we expect. Beyond it we ask
	// another clock.
	clockGap = 24 * time.Hour
	// clockSkew is how far the other clock may be off.
	clockSkew  = time.Hour
	clockAgain = 10 * time.Second
	// clockKeep is how often the time of a sure clock is saved.
	clockKeep    = time.Hour
	clockTimeout = 10 * time.Second
)

// errClock is for actions that a wrong clock would make wrong for good.
var errClock = errors.New("the clock of this machine is far ahead of what this server expects, " +
	"and nothing has confirmed it: set the clock, or make the PLC directory reachable, which is asked for the time")

// clock keeps a server whose clock is far ahead from what cannot be undone: deleting
// what is due, pruning what is old, and signing revisions of the future, after which the
// network refuses earlier ones. A clock is ahead when the server starts, as that of a
// machine without a battery may be, or from one moment to the next, as when somebody
// sets it wrong. It is sure near the time that we expect: the last time that was
// confirmed, at the start that in a file, and what has passed since. Without that file the
// last write counts, although a server writes the time of a clock that it doubts. It is also
// sure once it is near the clock of the PLC directory, which is then what we expect, as
// after a machine slept for days. Whatever is done when its time has come is only done
// later by a clock that is behind, so that one is sure.
type clock struct {
	now func() time.Time
	// passed returns how long the server has run, whatever happens to now. It may stand
	// still while the machine sleeps.
	passed func() time.Duration
	// ask returns the time of another clock.
	ask func(context.Context) (time.Time, error)
	// save keeps a time at which the clock was sure for the next start.
	save func(time.Time) error
	// gap is clockGap, or forever if now may be anything.
	gap time.Duration
	log *slog.Logger

	known atomic.Pointer[known]
}

// known is a time that was confirmed, and what had passed by then.
type known struct {
	at     time.Time
	passed time.Duration
}

const forever = time.Duration(math.MaxInt64)

// start begins with the last time that is known to be right, zero if there is none.
func (c *clock) start(last time.Time) {
	c.known.Store(&known{last, c.passed()})
	if ahead := c.ahead(); last.IsZero() || ahead >= 0 && ahead <= c.gap {
		c.confirm()
	}
}

// openClock returns the clock of a server. In development it is always sure, so that a
// test may set it, and its time says nothing about a later one.
func (s *Server) openClock(ctx context.Context) (*clock, error) {
	last, err := s.lastTime(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	c := &clock{
		now: s.opts.Now, passed: func() time.Duration { return time.Since(began) }, gap: clockGap, save: s.dir.KeepClock, log: s.opts.Log,
	}
	if s.opts.Config.DevMode {
		c.gap, c.save = forever, func(time.Time) error { return nil }
	}
	c.ask = func(ctx context.Context) (time.Time, error) {
		got, err := fetch(ctx, s.PLC+"/_health")
		if err != nil {
			return time.Time{}, err
		}
		return http.ParseTime(got.date)
	}
	c.start(last)
	return c, nil
}

// lastTime returns the last time that is known to be right, zero if the server never ran.
func (s *Server) lastTime(ctx context.Context) (time.Time, error) {
	at, err := s.dir.LastClock()
	if err != nil {
		s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "the time of the last run cannot be read; that of the last write counts",
			slog.String("cause", err.Error()))
	}
	if at.IsZero() {
		return s.db.LastWritten(ctx)
	}
	return at, nil
}

// wall returns the time without the monotonic reading, by which a difference of two
// times would be what has passed.
func (c *clock) wall() time.Time { return c.now().Round(0) }

func (c *clock) confirm() { c.known.Store(&known{c.wall(), c.passed()}) }

// expected returns the time that it should be at least.
func (c *clock) expected() time.Time {
	k := c.known.Load()
	return k.at.Add(c.passed() - k.passed)
}

func (c *clock) ahead() time.Duration { return c.wall().Sub(c.expected()) }

// Check returns errClock unless the clock is sure.
func (c *clock) Check() error {
	if c.ahead() <= c.gap {
		return nil
	}
	return errClock
}

// run looks after the clock until ctx ends: it has a jump confirmed, or reports it, and
// saves its time while it is sure.
func (c *clock) run(ctx context.Context) {
	said := false
	for keep := c.passed(); ; {
		switch ahead := c.ahead(); {
		case ahead.Abs() <= c.gap:
			if said {
				c.log.LogAttrs(ctx, slog.LevelInfo, "the clock is right again")
			}
			said = false
			if c.passed() >= keep {
				c.keep(ctx)
				keep = c.passed() + clockKeep
			}
		case c.asked(ctx, said):
			continue
		default:
			said = true
		}
		if !pause.For(ctx, clockAgain) {
			return
		}
	}
}

// keep saves the time. If it cannot, the next start expects an earlier one.
func (c *clock) keep(ctx context.Context) {
	if err := c.save(c.wall()); err != nil {
		c.log.LogAttrs(ctx, slog.LevelWarn, "the time was not saved for the next start", slog.String("cause", err.Error()))
	}
}

// asked reports whether the PLC directory confirms the clock. If not, it logs that,
// unless it was said.
func (c *clock) asked(ctx context.Context, said bool) bool {
	within, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	other, err := c.ask(within)
	if err == nil && c.wall().Sub(other).Abs() <= clockSkew {
		c.confirm()
		return true
	}
	if said || ctx.Err() != nil {
		return false
	}
	attrs := []slog.Attr{slog.Time("clock", c.wall()), slog.Time("expected", c.expected())}
	if err != nil {
		attrs = append(attrs, slog.String("cause", err.Error()))
	} else {
		attrs = append(attrs, slog.Time("directory", other))
	}
	if c.Check() != nil {
		c.log.LogAttrs(ctx, slog.LevelError, "the clock is far ahead: nothing is deleted, no mail is sent and no commit is signed "+
			"until it is set, or confirmed by the PLC directory", attrs...)
	} else {
		c.log.LogAttrs(ctx, slog.LevelWarn, "the clock is far behind: what is due is deleted later than it should be; set the clock", attrs...)
	}
	return false
}

// wait returns true once the clock is sure, false if ctx ends first.
func (c *clock) wait(ctx context.Context) bool {
	for c.Check() != nil {
		if !pause.For(ctx, clockAgain) {
			return false
		}
	}
	return ctx.Err() == nil
}
