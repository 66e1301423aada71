package server

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestClock: a clock that is far ahead of the newest event is not trusted until the
// directory's clock agrees, or it is set right.
func TestClock(t *testing.T) {
	t.Parallel()
	newest := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	unreachable := errors.New("unreachable")
	for name, c := range map[string]struct {
		newest       time.Time
		ahead, other time.Duration // of newest
		err          error
		set          bool // the clock is set right after a while
		atOnce, sure bool
	}{
		"no event":                    {ahead: time.Hour, atOnce: true, sure: true},
		"near":                        {newest: newest, ahead: clockGap, err: unreachable, atOnce: true, sure: true},
		"behind":                      {newest: newest, ahead: -1000 * time.Hour, err: unreachable, atOnce: true, sure: true},
		"far, nobody to ask":          {newest: newest, ahead: clockGap + 1, err: unreachable},
		"far, the directory says so":  {newest: newest, ahead: 3000 * time.Hour, other: 3000*time.Hour - clockSkew, sure: true},
		"far, the directory says not": {newest: newest, ahead: 3000 * time.Hour, other: time.Hour},
		"far, then set":               {newest: newest, ahead: 3000 * time.Hour, other: time.Hour, set: true, sure: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ask := func(context.Context) (time.Time, error) { return newest.Add(c.other), c.err }
				now := func() time.Time {
					if c.set && time.Since(began) > time.Minute {
						return newest.Add(time.Hour)
					}
					return newest.Add(c.ahead)
				}
				k := newClock(now, c.newest, ask, slog.New(slog.DiscardHandler))
				if got := k.Check() == nil; got != c.atOnce {
					t.Errorf("sure at once: %v", got)
				}
				ctx, stop := context.WithCancel(t.Context())
				ran := false
				go k.run(ctx)
				ended := make(chan struct{})
				go func() {
					k.then(func(context.Context) { ran = true })(ctx)
					close(ended)
				}()
				time.Sleep(10 * time.Minute)
				stop()
				<-ended
				if err := k.Check(); ran != c.sure || (err == nil) != c.sure || err != nil && !errors.Is(err, errClock) {
					t.Errorf("it ran: %v; %v", ran, err)
				}
			})
		})
	}
}
