package load_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"nestbox/load"
	"nestbox/request"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// world is a Recorder whose clock and gauges a test sets.
type world struct {
	*load.Recorder

	now    time.Time
	gauges load.Gauges
}

func newWorld() *world {
	w := &world{now: noon}
	w.Recorder = load.NewRecorder(func() time.Time { return w.now }, func() load.Gauges { return w.gauges })
	return w
}

func (w *world) request(status int, took time.Duration, marks request.Mark) {
	w.Request(request.Outcome{Status: status, Took: took, Marks: marks})
}

// minute returns the minute that began so long before the present one.
func (w *world) minute(t *testing.T, ago int) load.Slot {
	t.Helper()
	from, slots := w.Minutes(ago, 1)
	if want := w.now.Truncate(time.Minute).Add(-time.Duration(ago) * time.Minute); !from.Equal(want) {
		t.Errorf("%d minutes begin at %v, want %v", ago, from, want)
	}
	return slots[0]
}

func (w *world) advance(by time.Duration) {
	for ; by > 0; by -= 10 * time.Second {
		w.now = w.now.Add(10 * time.Second)
		w.Minutes(1, 1) // as Run does
	}
}

// jump sets the clock, which Run notices within seconds.
func (w *world) jump(to time.Time) {
	w.now = to
	w.Minutes(1, 1)
}

// TestRecords: what happened in a minute is in it, and in its hour.
func TestRecords(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for range 98 {
		w.request(200, 2*time.Millisecond, 0)
	}
	w.request(303, time.Millisecond, request.SignInFailed)
	w.request(429, 300*time.Millisecond, request.RefreshRefused)
	w.request(503, time.Hour, request.RefreshMoved|request.Written)
	w.request(101, time.Hour, 0) // a subscriber
	w.request(200, -time.Second, request.RefreshRepeated)
	w.Count(load.Event)
	w.Count(load.Event)
	w.Saved(8 * time.Millisecond)
	w.gauges = load.Gauges{Subscribers: 3, Memory: 100 << 20, CPU: 15 * time.Second}
	w.advance(time.Minute)
	w.request(404, time.Millisecond, 0)

	got := w.minute(t, 1)
	if got.Requests != [...]uint32{99, 1, 1, 1} || got.Counts != [...]uint32{1, 1, 1, 1, 1, 2} {
		t.Errorf("%v requests, %v", got.Requests, got.Counts)
	}
	if n := got.Took.Total(); n != 102 {
		t.Errorf("%d requests took time", n)
	}
	near(t, got.Took.Quantile(0.5), 2*time.Millisecond)
	near(t, got.Took.Quantile(0.99), 300*time.Millisecond)
	near(t, got.Saved.Quantile(0.5), 8*time.Millisecond)
	if most := got.Took.Quantile(1); most != load.Longest {
		t.Errorf("an hour counts as %v", most)
	}
	if got.Subscribers != 3 || got.Memory != 100<<20 || got.CPU != 15*time.Second || got.Covered != time.Minute {
		t.Errorf("%d subscribers, %d bytes, %v of %v", got.Subscribers, got.Memory, got.CPU, got.Covered)
	}
	w.advance(59 * time.Minute)
	from, hours := w.Hours(2, 1)
	if !from.Equal(noon.Add(-time.Hour)) || hours[0].Known() || hours[1].Requests != [...]uint32{99, 1, 2, 1} || hours[1].Covered != time.Hour {
		t.Errorf("hours from %v: %+v", from, hours)
	}
	if _, empty := w.Minutes(1, 1); empty[0].Requests[0] != 0 || !empty[0].Known() {
		t.Error("a minute without a request is not known")
	}
	// Groups begin at multiples of their length, whatever the time.
	w.now = w.now.Add(7 * time.Minute)
	if from, g := w.Minutes(13, 5); !from.Equal(noon) || g[0].Requests != [...]uint32{99, 1, 2, 1} || g[0].Covered != 5*time.Minute {
		t.Errorf("groups of five begin at %v with %v in %v", from, g[0].Requests, g[0].Covered)
	}
}

func near(t *testing.T, got, want time.Duration) {
	t.Helper()
	if off := math.Abs(float64(got-want)) / float64(want); off > 0.27 {
		t.Errorf("%v, want about %v", got, want)
	}
}

// TestQuantiles compares with the true ones of durations that spread over five magnitudes.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	w := newWorld()
	dice := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for range 20_000 {
		d := time.Duration(float64(100*time.Microsecond) * math.Exp(dice.Float64()*11))
		all = append(all, d)
		w.request(200, d, 0)
	}
	w.advance(time.Minute)
	got := w.minute(t, 1)
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.25, 0.5, 0.9, 0.99} {
		want, is := all[int(q*float64(len(all)))], got.Took.Quantile(q)
		if off := math.Abs(float64(is-want)) / float64(want); off > 0.03 {
			t.Errorf("quantile %v: %v, want %v", q, is, want)
		}
	}
	var none load.Histogram
	if none.Quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
}

// TestClockJumps: whatever the clock does, minutes have what happened in them, and none has
// what another had.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.request(200, 0, 0)
	w.advance(2 * time.Minute) // 12:02, in which 12:00 has one request
	w.jump(w.now.Add(72 * time.Hour))
	w.request(200, 0, 0)
	w.advance(time.Minute)
	_, slots := w.Minutes(load.KeptMinutes, 1)
	for i, s := range slots {
		if known := i == len(slots)-1; s.Known() != known {
			t.Errorf("three days later, minute %d is known: %v", i, s.Known())
		}
	}
	if got := slots[len(slots)-1]; got.Requests[load.Succeeded] != 1 || got.Covered > time.Minute {
		t.Errorf("%d requests in %v", got.Requests[load.Succeeded], got.Covered)
	}
	// Back: what was recorded of the future is gone, also when that time comes.
	w.jump(w.now.Add(-time.Hour))
	w.request(500, 0, 0)
	w.advance(time.Hour + 2*time.Minute)
	total := load.Slot{}
	_, slots = w.Minutes(load.KeptMinutes, 1)
	for i := range slots {
		total.Add(&slots[i])
	}
	if total.Requests != [...]uint32{0, 0, 0, 1} {
		t.Errorf("after the clock went back: %v", total.Requests)
	}
	for _, at := range []time.Time{time.Unix(-1e9, 0), time.Unix(0, 0), noon, time.Unix(1e11, 0), noon} {
		w.jump(at)
		w.request(200, 0, 0)
		w.advance(time.Minute)
		if _, s := w.Hours(load.KeptHours, 1); len(s) != load.KeptHours {
			t.Error(len(s))
		}
	}
}

// TestKept: what is older than a day, or 30, makes room.
func TestKept(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for range load.KeptMinutes + 60 {
		w.request(200, 0, 0)
		w.now = w.now.Add(time.Minute)
		w.Minutes(1, 1)
	}
	_, slots := w.Minutes(load.KeptMinutes, 1)
	known := 0
	for i := range slots {
		if slots[i].Known() && slots[i].Requests[load.Succeeded] == 1 {
			known++
		}
	}
	if known != load.KeptMinutes-1 { // the present one has the place of the oldest
		t.Errorf("%d minutes are known", known)
	}
	if _, hours := w.Hours(25, 1); hours[0].Requests[load.Succeeded] != 60 {
		t.Errorf("the hour before the last day has %v", hours[0].Requests)
	}
	if n := unsafe.Sizeof(load.Slot{}) * (load.KeptMinutes + load.KeptHours); n > 1_280_000 {
		t.Errorf("the rings have %d bytes", n)
	}
}

// TestTogether: nothing is lost or counted twice while many record and somebody looks.
func TestTogether(t *testing.T) {
	t.Parallel()
	r := load.NewRecorder(func() time.Time { return noon }, func() load.Gauges { return load.Gauges{} })
	var mu sync.Mutex
	now := noon
	r.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	var all sync.WaitGroup
	const each = 5000
	for worker := range 4 {
		all.Go(func() {
			for i := range each {
				r.Request(request.Outcome{Status: 200, Took: time.Duration(i*worker) * time.Microsecond, Marks: request.RefreshMoved})
				r.Saved(time.Millisecond)
			}
		})
	}
	all.Go(func() {
		for range 50 {
			mu.Lock()
			now = now.Add(time.Minute)
			mu.Unlock()
			r.Minutes(1, 1)
		}
	})
	all.Wait()
	now = now.Add(time.Minute)
	_, slots := r.Minutes(60, 1)
	total := load.Slot{}
	for i := range slots {
		total.Add(&slots[i])
	}
	if total.Requests[load.Succeeded] != 4*each || total.Counts[load.RefreshMoved] != 4*each || total.Took.Total() != 4*each || total.Saved.Total() != 4*each {
		t.Errorf("%v %v %d %d", total.Requests, total.Counts, total.Took.Total(), total.Saved.Total())
	}
}

// TestRun keeps each minute though nobody looks, with its gauges.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		r := load.NewRecorder(time.Now, func() load.Gauges {
			return load.Gauges{Subscribers: 2, CPU: time.Since(began) / 4}
		})
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		time.Sleep(150 * time.Second)
		r.Request(request.Outcome{Status: 200})
		time.Sleep(150 * time.Second)
		cancel()
		<-done
		_, slots := r.Minutes(4, 1)
		for i, s := range slots {
			if !s.Known() || s.Subscribers != 2 || s.CPU != 15*time.Second || s.Covered != time.Minute {
				t.Errorf("minute %d: %d subscribers, %v of %v", i, s.Subscribers, s.CPU, s.Covered)
			}
		}
		if slots[1].Requests[load.Succeeded] != 1 {
			t.Errorf("%v %v", slots[0].Requests, slots[1].Requests)
		}
	})
}

// TestRecordingAllocates nothing.
func TestRecordingAllocates(t *testing.T) {
	w := newWorld()
	if n := testing.AllocsPerRun(100, func() { record(w.Recorder, time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// record records what a refresh does.
func record(r *load.Recorder, took time.Duration) {
	r.Saved(took)
	r.Request(request.Outcome{Status: 200, Took: took, Marks: request.RefreshMoved})
}

// BenchmarkRefresh is what recording a refresh costs, alone and from all cores at once. A
// refresh itself: BenchmarkRefresh in session.
func BenchmarkRefresh(b *testing.B) {
	w := newWorld()
	b.Run("alone", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			record(w.Recorder, time.Duration(i)*time.Microsecond)
		}
	})
	b.Run("together", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				record(w.Recorder, time.Duration(i)*time.Nanosecond)
			}
		})
	})
}
