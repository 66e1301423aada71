package ratelimit_test

import (
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/ratelimit"
)

// clock is one that a test sets.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)} }

var (
	short = ratelimit.Limit{Name: "short", Points: 3, Window: 5 * time.Minute}
	long  = ratelimit.Limit{Name: "long", Points: 5, Window: 24 * time.Hour}
)

// TestWindow: so many points from the first attempt on, and all of them again
// at the very moment when the window ends.
func TestWindow(t *testing.T) {
	c := newClock()
	l := ratelimit.New(1000, c.now)
	start := c.t
	for _, step := range []struct {
		at        time.Duration
		allowed   bool
		remaining int
		reset     time.Duration
	}{
		{0, true, 2, 5 * time.Minute},
		{time.Minute, true, 1, 5 * time.Minute},
		{4 * time.Minute, true, 0, 5 * time.Minute},
		{4 * time.Minute, false, 0, 5 * time.Minute},
		{5*time.Minute - 1, false, 0, 5 * time.Minute},
		{5 * time.Minute, true, 2, 10 * time.Minute},
		{5 * time.Minute, true, 1, 10 * time.Minute},
		{17 * time.Minute, true, 2, 22 * time.Minute},
	} {
		c.t = start.Add(step.at)
		got := l.Take("alice", short)
		want := ratelimit.Result{Allowed: step.allowed, Limit: short, Remaining: step.remaining, Reset: start.Add(step.reset)}
		if got != want {
			t.Errorf("after %v: %+v, want %+v", step.at, got, want)
		}
	}
	if r := l.Take("bob", short); r.Remaining != 2 {
		t.Errorf("another key shares the bucket: %+v", r)
	}
	if r := l.Take("alice", long); r.Remaining != 4 {
		t.Errorf("another limit shares the bucket: %+v", r)
	}
}

// TestSeveralLimits: all or nothing, and the answer is that of the limit that
// refuses, else of the one with the least left.
func TestSeveralLimits(t *testing.T) {
	c := newClock()
	l := ratelimit.New(1000, c.now)
	take := func() ratelimit.Result { return l.Take("alice", long, short) }
	for i := range 3 {
		if r := take(); !r.Allowed || r.Limit != short || r.Remaining != 2-i {
			t.Fatalf("attempt %d: %+v", i, r)
		}
	}
	for range 10 { // takes nothing of the long one
		if r := take(); r.Allowed || r.Limit != short {
			t.Fatalf("past the short limit: %+v", r)
		}
	}
	c.t = c.t.Add(short.Window)
	for i := range 2 {
		if r := take(); !r.Allowed || r.Limit != long || r.Remaining != 1-i {
			t.Fatalf("in the second window, attempt %d: %+v", i, r)
		}
	}
	if r := take(); r.Allowed || r.Limit != long {
		t.Errorf("past the long limit: %+v", r)
	}
	if r := l.Take("alice", short); !r.Allowed || r.Remaining != 0 {
		t.Errorf("what the long limit refused took of the short one, or gave: %+v", r)
	}
}

func TestGiveBack(t *testing.T) {
	c := newClock()
	l := ratelimit.New(1000, c.now)
	for range 100 { // good attempts never count
		if !l.Take("alice", short, long).Allowed {
			t.Fatal("refused although every point was given back")
		}
		l.GiveBack("alice", short, long)
	}
	l.GiveBack("alice", short) // nothing was taken: nothing to give
	l.GiveBack("nobody", short)
	for i := range 3 {
		if r := l.Take("alice", short); !r.Allowed || r.Remaining != 2-i {
			t.Errorf("attempt %d: %+v", i, r)
		}
	}
	if l.Take("alice", short).Allowed {
		t.Error("a point too many was given")
	}
}

// TestParallel: attempts that run at once never pass a limit together, while
// others take and give back beside them.
func TestParallel(t *testing.T) {
	l := ratelimit.New(1000, newClock().now)
	limit := ratelimit.Limit{Name: "x", Points: 50, Window: time.Hour}
	never := ratelimit.Limit{Name: "never", Points: 0, Window: time.Hour}
	var now, most, kept atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				if l.Take("alice", limit, never).Allowed {
					t.Error("a limit of no points allows")
				}
				if !l.Take("alice", limit).Allowed {
					continue
				}
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				if i == 0 && j%10 == 0 {
					kept.Add(1)
					continue
				}
				now.Add(-1)
				l.GiveBack("alice", limit)
			}
		})
	}
	wg.Wait()
	if most.Load() > int64(limit.Points) {
		t.Errorf("%d attempts passed a limit of %d", most.Load(), limit.Points)
	}
	if r := l.Take("alice", limit); r.Remaining != limit.Points-1-int(kept.Load()) {
		t.Errorf("%d points left after %d were kept", r.Remaining, kept.Load())
	}
}

// TestFlood: keys that an attacker invents cost bounded memory, and do not push
// out the bucket of his victim, which is near its limit.
func TestFlood(t *testing.T) {
	const buckets, flood = 2000, 200_000
	c := newClock()
	l := ratelimit.New(buckets, c.now)
	limit := ratelimit.Limit{Name: "sign-in", Points: 30, Window: 24 * time.Hour}
	for range limit.Points {
		l.Take("victim", limit)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range flood {
		l.Take(fmt.Sprint("invented ", i), limit)
	}
	// All of them would take 30 MB; those that are kept take 300 kB.
	if grown := int64(heap()) - int64(before); grown > 3<<20 {
		t.Errorf("%d keys grew the heap by %d bytes", flood, grown)
	}
	if r := l.Take("victim", limit); r.Allowed {
		t.Errorf("a flood of keys freed the victim's bucket: %+v", r)
	}
	runtime.KeepAlive(l)

	// Expired buckets make room first.
	c.t = c.t.Add(limit.Window)
	for i := range buckets / 2 {
		l.Take(fmt.Sprint("tomorrow ", i), limit)
	}
	for i := range buckets / 2 {
		if r := l.Take(fmt.Sprint("tomorrow ", i), limit); r.Remaining != limit.Points-2 {
			t.Fatalf("a live bucket was dropped for dead ones: %+v", r)
		}
	}
}

// TestSmall: room for fewer buckets than there are shards is room for some.
func TestSmall(t *testing.T) {
	l := ratelimit.New(0, newClock().now)
	for i := range 100 {
		if !l.Take(fmt.Sprint(i), short).Allowed {
			t.Fatal("refused")
		}
	}
}

func TestNil(t *testing.T) {
	var l *ratelimit.Limiter
	for range 10 {
		if !l.Take("alice", short).Allowed {
			t.Fatal("no limiter refuses")
		}
	}
	l.GiveBack("alice", short)
}

func TestHeaders(t *testing.T) {
	at := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		reset     time.Time
		remaining int
		wantReset string
		wantLeft  string
	}{
		{at, 2, "1785585600", "2"},
		{at.Add(1), 0, "1785585601", "0"},
		{at.Add(time.Second - 1), -1, "1785585601", "0"},
		{at.Add(time.Second), 3, "1785585601", "3"},
	} {
		h := http.Header{}
		ratelimit.Result{Limit: short, Remaining: c.remaining, Reset: c.reset}.SetHeaders(h)
		for name, want := range map[string]string{
			"RateLimit-Limit": "3", "RateLimit-Remaining": c.wantLeft, "RateLimit-Reset": c.wantReset, "RateLimit-Policy": "3;w=300",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%v: %s: %s, want %s", c.reset, name, got, want)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	for left, want := range map[time.Duration]time.Duration{
		-time.Hour: time.Second, 0: time.Second, time.Millisecond: time.Second, 90 * time.Second: 90 * time.Second,
	} {
		if got := (ratelimit.Result{Reset: now.Add(left)}).RetryAfter(now); got != want {
			t.Errorf("%v left: wait %v, want %v", left, got, want)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	l := ratelimit.New(ratelimit.DefaultMaxBuckets, time.Now)
	limit := ratelimit.Limit{Name: "x", Points: 1 << 30, Window: time.Hour}
	b.ReportAllocs()
	for b.Loop() {
		l.Take("192.0.2.1", limit)
	}
}

// TestTakeN: all the points that are asked for, of every limit, or none.
func TestTakeN(t *testing.T) {
	l := ratelimit.New(1000, newClock().now)
	if r := l.TakeN("alice", 2, short, long); !r.Allowed || r.Remaining != 1 || r.Limit != short {
		t.Errorf("two of three: %+v", r)
	}
	if r := l.TakeN("alice", 2, long, short); r.Allowed || r.Limit != short || r.Remaining != 1 {
		t.Errorf("two where one is left: %+v", r)
	}
	if r := l.TakeN("alice", 3, long); !r.Allowed || r.Remaining != 0 {
		t.Errorf("what was refused was counted: %+v", r)
	}
	if r := l.TakeN("alice", 1, short); !r.Allowed || r.Remaining != 0 {
		t.Errorf("the last one: %+v", r)
	}
	var none *ratelimit.Limiter
	if !none.TakeN("alice", 1000, short).Allowed {
		t.Error("a nil Limiter refused")
	}
}
