package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nestbox/config"
	"nestbox/hosting"
	"nestbox/store/storetest"
)

// clockwork is a clock of a server that wrote something last at newest, with a wall clock
// that a test sets, in a synctest bubble.
type clockwork struct {
	*clock

	t     *testing.T
	began time.Time
	start time.Time // by the wall clock

	mu    sync.Mutex    // guards what follows
	set   time.Duration // by how much somebody has set the wall clock
	slept time.Duration // how long the machine slept
	// other is by how much the directory's clock is ahead of right, err why it does not
	// answer.
	other time.Duration
	err   error
	asked int
	saved time.Time
	log   strings.Builder
}

var lastWritten = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func newClockwork(t *testing.T, newest, start time.Time) *clockwork {
	t.Helper()
	w := &clockwork{t: t, began: time.Now(), start: start}
	w.clock = &clock{
		// With the monotonic reading of the bubble's clock, as time.Now has it.
		now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return time.Now().Add(time.Until(w.right()) + w.set)
		},
		passed: func() time.Duration { return time.Since(w.began) },
		gap:    clockGap,
		ask: func(context.Context) (time.Time, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asked++
			return w.right().Add(w.other), w.err
		},
		save: func(at time.Time) error {
			w.change(func() { w.saved = at })
			return nil
		},
		log: slog.New(slog.NewTextHandler(lockedLog{w}, nil)),
	}
	w.clock.start(newest)
	return w
}

// lockedLog writes to the log of a clockwork.
type lockedLog struct{ *clockwork }

func (l lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(b)
}

// change changes what a running clock sees.
func (w *clockwork) change(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// said returns how often the log says something, and whether it says anything.
func (w *clockwork) said(text string) (times int, anything bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.log.String(), text), w.log.Len() > 0
}

// right returns what the wall clock would say if nobody had set it. w.mu is held.
func (w *clockwork) right() time.Time {
	return w.start.Add(time.Since(w.began) + w.slept)
}

func (w *clockwork) check(when string, sure bool) {
	w.t.Helper()
	if err := w.Check(); (err == nil) != sure || err != nil && !errors.Is(err, errClock) {
		w.t.Errorf("%s: %v, want sure: %v (clock %v, expected %v)", when, err, sure, w.wall(), w.expected())
	}
}

// running runs the clock while a test does something.
func (w *clockwork) running(do func()) {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.run(ctx) }()
	do()
	stop()
	<-ended
}

var errUnreachable = errors.New("unreachable")

// TestClock: at the start, a clock that is far ahead of the last write is not trusted
// until the directory's clock agrees, or it is set right.
func TestClock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		newest       time.Time
		ahead, other time.Duration // of the last write; of the right time
		err          error
		set          time.Duration // somebody sets the clock after a while
		atOnce, sure bool
	}{
		"never written":               {ahead: time.Hour, err: errUnreachable, atOnce: true, sure: true},
		"near":                        {newest: lastWritten, ahead: clockGap, err: errUnreachable, atOnce: true, sure: true},
		"behind":                      {newest: lastWritten, ahead: -1000 * time.Hour, err: errUnreachable, atOnce: true, sure: true},
		"far, nobody to ask":          {newest: lastWritten, ahead: clockGap + time.Second, err: errUnreachable},
		"far, the directory says so":  {newest: lastWritten, ahead: 3000 * time.Hour, other: -clockSkew, sure: true},
		"far, the directory says not": {newest: lastWritten, ahead: 3000 * time.Hour, other: -clockSkew - time.Second},
		"far, then set":               {newest: lastWritten, ahead: 3000 * time.Hour, other: -2999 * time.Hour, set: -2999 * time.Hour, sure: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newClockwork(t, c.newest, lastWritten.Add(c.ahead))
				w.change(func() { w.other, w.err = c.other, c.err })
				w.check("at once", c.atOnce)
				ran := false
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); ran = w.wait(ctx) }()
				w.running(func() {
					time.Sleep(time.Minute)
					w.change(func() { w.set = c.set })
					time.Sleep(10 * time.Minute)
				})
				stop()
				<-ended
				w.check("at last", c.sure)
				if ran != c.sure {
					t.Errorf("work that waited for the clock ran: %v", ran)
				}
			})
		})
	}
}

// TestClockJumps: on a running server, a clock that jumps far ahead is not trusted from
// that moment on, until the directory's clock agrees or it is set right; whatever else
// happens to it, it is.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		set, slept   time.Duration // what happens
		other        time.Duration
		err          error
		atOnce, sure bool
		said         string // once, in the log
		asked        bool
	}{
		"a day ahead":                             {set: day, err: errUnreachable, atOnce: true, sure: true},
		"ahead, nobody to ask":                    {set: day + time.Second, err: errUnreachable, said: "far ahead", asked: true},
		"ahead, the directory says not":           {set: 400 * day, said: "far ahead", asked: true},
		"ahead, and right":                        {set: 400 * day, other: 400 * day, sure: true, asked: true},
		"behind, nobody to ask":                   {set: -400 * day, err: errUnreachable, atOnce: true, sure: true, said: "far behind", asked: true},
		"behind, the directory says not":          {set: -400 * day, atOnce: true, sure: true, said: "far behind", asked: true},
		"behind, and right":                       {set: -400 * day, other: -400 * day, atOnce: true, sure: true, asked: true},
		"a night asleep, nobody to ask":           {slept: 12 * time.Hour, err: errUnreachable, atOnce: true, sure: true},
		"a week asleep":                           {slept: 7 * day, sure: true, asked: true},
		"a week asleep, nobody to ask":            {slept: 7 * day, err: errUnreachable, said: "far ahead", asked: true},
		"a step of a time server":                 {set: -3 * time.Second, err: errUnreachable, atOnce: true, sure: true},
		"as usual, though the directory is wrong": {other: 400 * day, atOnce: true, sure: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newClockwork(t, lastWritten, lastWritten.Add(time.Hour))
				w.running(func() {
					time.Sleep(2 * day)
					synctest.Wait()
					w.check("before", true)
					w.change(func() { w.set, w.slept, w.other, w.err = c.set, c.slept, c.other, c.err })
					w.check("at once", c.atOnce)
					time.Sleep(time.Hour)
					synctest.Wait()
					w.check("an hour later", c.sure)
					if got, anything := w.said("the clock is " + c.said); c.said != "" && got != 1 || c.said == "" && anything {
						t.Errorf("%q was said %d times", c.said, got)
					}
					asked := 0
					w.change(func() { asked = w.asked })
					if (asked > 0) != c.asked {
						t.Errorf("the directory was asked %d times", asked)
					}
					w.change(func() { w.set, w.other, w.err = 0, 0, errUnreachable })
					if c.other == 0 { // nobody has said that the clock is right
						w.check("set right", c.slept <= day || c.err == nil)
					}
				})
			})
		})
	}
}

// TestClockReturns: one jump after the other, each is judged by what was right before.
func TestClockReturns(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		w := newClockwork(t, lastWritten, lastWritten)
		w.running(func() {
			w.change(func() { w.err = errUnreachable })
			for i := range 3 {
				for _, step := range []struct {
					set  time.Duration
					sure bool
				}{{-year, true}, {0, true}, {year, false}, {year - clockGap/2, false}, {clockGap / 2, true}, {year, false}, {-year, true}, {0, true}} {
					w.change(func() { w.set = step.set })
					w.check(fmt.Sprint(i, step), step.sure)
					time.Sleep(time.Hour)
					w.check(fmt.Sprint("an hour after ", i, step), step.sure)
				}
			}
		})
		if n, _ := w.said("the clock is right again"); n == 0 {
			t.Error("nothing says that all is well")
		}
	})
}

// TestClockIsKept: the time is saved while the clock is sure, and only then, so that a
// restart does not make a wrong one right.
func TestClockIsKept(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		w := newClockwork(t, lastWritten, lastWritten)
		w.change(func() { w.err = errUnreachable })
		near := func(when string, want time.Time) {
			t.Helper()
			w.change(func() {
				if late := want.Sub(w.saved); late < 0 || late > clockKeep+clockAgain {
					t.Errorf("%s: %v is saved, want about %v", when, w.saved, want)
				}
			})
		}
		w.running(func() {
			synctest.Wait()
			near("at the start", lastWritten)
			time.Sleep(5*time.Hour + 30*time.Minute)
			near("while sure", w.wall())
			jumped := w.wall()
			for _, set := range []time.Duration{year, -year} {
				w.change(func() { w.set = set })
				time.Sleep(20 * time.Hour)
				near("while it is wrong", jumped)
			}
			w.change(func() { w.set, w.other, w.err = year, year, nil })
			time.Sleep(2 * time.Hour)
			near("once it is confirmed", w.wall())
		})
	})
}

// TestClockOfTheLastRun: a server writes while it doubts its clock. At the next start that
// time counts for nothing, unless no other one is known.
func TestClockOfTheLastRun(t *testing.T) {
	t.Parallel()
	s := openServer(t, func() time.Time { return lastWritten })
	wrong := lastWritten.Add(1000 * time.Hour)
	if _, err := storetest.AddAccount(t.Context(), s.stores, hosting.Pending{Handle: "alice.test", CreatedAt: wrong}); err != nil {
		t.Fatal(err)
	}
	expect := func(want time.Time) {
		t.Helper()
		if got, err := s.lastTime(t.Context()); !got.Equal(want) || err != nil {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	expect(wrong)
	if err := s.dir.KeepClock(lastWritten); err != nil {
		t.Fatal(err)
	}
	expect(lastWritten)
	if err := os.WriteFile(filepath.Join(string(s.dir), "clock"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(wrong)
}

// openServer opens a server of development.
func openServer(t *testing.T, now func() time.Time) *Server {
	t.Helper()
	c, _, err := config.Load(config.Flags{Listen: "127.0.0.1:0", Data: t.TempDir(), Dev: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Config: c, Version: "test", Log: slog.New(slog.DiscardHandler), Now: now, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestClockIsAsked: every service that can doubt the clock asks this server's.
func TestClockIsAsked(t *testing.T) {
	t.Parallel()
	now := lastWritten
	s := openServer(t, func() time.Time { return now })
	now = now.Add(2 * clockGap)
	doubts := func() (all, some int) {
		for field, service := range reflect.ValueOf(s).Elem().Fields() {
			if service.Kind() != reflect.Pointer || service.Elem().Kind() != reflect.Struct {
				continue
			}
			doubt := service.Elem().FieldByName("Doubt")
			if !doubt.IsValid() {
				continue
			}
			if all++; doubt.IsNil() {
				t.Errorf("%s does not ask the clock", field.Name)
				continue
			}
			if err := (*(*func() error)(doubt.Addr().UnsafePointer()))(); errors.Is(err, errClock) {
				some++
			}
		}
		return all, some
	}
	if _, some := doubts(); some != 0 {
		t.Errorf("%d doubt the clock in development", some)
	}
	s.clock.gap = clockGap
	if all, some := doubts(); all < 7 || some != all {
		t.Errorf("%d of %d doubt a clock that jumped; there are seven at least", some, all)
	}
}
