package gate

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// atOnce is the fare of a caller that always has a place.
func atOnce() Fare {
	return Fare{Place: func(context.Context) (func(), error) { return func() {}, nil }}
}

// nothing is known to a caller.
func nothing[V any]() *Flight[V] { return nil }

// held is work that lasts until it is released.
type held struct {
	times   atomic.Int32
	release chan struct{}
}

func (h *held) fly() (int32, error) {
	n := h.times.Add(1)
	<-h.release
	return n, nil
}

// TestFlightsShare: callers that come meanwhile share the work, those that want a newer
// answer share the next one, and one that leaves ends nothing.
func TestFlightsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flights[string, int32]
		h := &held{release: make(chan struct{})}
		got := map[bool]chan int32{false: make(chan int32, 20), true: make(chan int32, 20)}
		for _, newest := range []bool{false, true} {
			for range 10 {
				go func() {
					fare := atOnce()
					fare.Newest = newest
					on, err := f.Depart(t.Context(), "a", fare, nothing[int32], h.fly)
					if err != nil {
						t.Error(err)
						return
					}
					n, err := on.Wait(t.Context())
					if err != nil {
						t.Error(err)
					}
					got[newest] <- n
				}()
			}
			synctest.Wait()
		}
		leaving, leave := context.WithCancel(t.Context())
		on, err := f.Depart(leaving, "a", atOnce(), nothing[int32], h.fly)
		if err != nil {
			t.Fatal(err)
		}
		leave()
		if _, err := on.Wait(leaving); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left: %v", err)
		}
		close(h.release)
		for newest, want := range map[bool]int32{false: 1, true: 2} {
			for range 10 {
				if n := <-got[newest]; n != want {
					t.Errorf("newest %t: answer %d, want %d", newest, n, want)
				}
			}
		}
		f.Close()
		if len(f.way) != 0 {
			t.Error("a flight is kept")
		}
		if _, err := f.Depart(t.Context(), "a", atOnce(), nothing[int32], h.fly); !errors.Is(err, ErrClosed) || len(f.way) != 0 {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestFlightsQueue: a caller waits in its own queue only, until another one has begun the
// flight, and is refused for its own limits only.
func TestFlightsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Flights[string, int32]
		var places Places[string]
		full, err := places.Try(Room{}, Share[string]{Key: "busy"})
		if err != nil {
			t.Fatal(err)
		}
		caller := func(key string, pays error) Fare {
			return Fare{
				Place: func(ctx context.Context) (func(), error) {
					place, err := places.Take(ctx, Room{}, Share[string]{Key: key, Most: 1})
					if err != nil {
						return nil, err
					}
					return place.Leave, nil
				},
				Pay: func() error { return pays },
			}
		}
		h := &held{release: make(chan struct{})}
		type result struct {
			n   int32
			err error
		}
		depart := func(ctx context.Context, key string, pays error) <-chan result {
			done := make(chan result, 1)
			go func() {
				on, err := f.Depart(ctx, "a", caller(key, pays), nothing[int32], h.fly)
				if err != nil {
					done <- result{err: err}
					return
				}
				n, err := on.Wait(ctx)
				done <- result{n, err}
			}()
			synctest.Wait()
			return done
		}
		leaving, leave := context.WithCancel(t.Context())
		left := depart(leaving, "busy", nil)
		queued := depart(t.Context(), "busy", nil)
		leave()
		if r := <-left; !errors.Is(r.err, context.Canceled) {
			t.Errorf("a caller that left the queue: %v", r.err)
		}
		poor := errors.New("no points")
		if r := <-depart(t.Context(), "poor", poor); !errors.Is(r.err, poor) {
			t.Errorf("a caller that cannot pay: %v", r.err)
		}
		free := depart(t.Context(), "free", nil)
		if h.times.Load() != 1 || places.Waiting() != 0 {
			t.Errorf("%d flights began, %d callers wait for a place", h.times.Load(), places.Waiting())
		}
		late := depart(t.Context(), "poor", poor) // it pays for nothing
		close(h.release)
		for name, r := range map[string]result{"queued": <-queued, "free": <-free, "late": <-late} {
			if r.n != 1 || r.err != nil {
				t.Errorf("%s: %+v", name, r)
			}
		}
		f.Close()
		full.Leave()
		if places.Held() != 0 || len(f.way) != 0 {
			t.Errorf("%d places and %d flights are left", places.Held(), len(f.way))
		}
	})
}

// TestFlightsGivenUp: a flight that nobody could begin leaves nothing behind.
func TestFlightsGivenUp(t *testing.T) {
	var f Flights[string, int]
	fly := func() (int, error) { return 1, nil }
	if _, err := f.Depart(t.Context(), "a", Fare{Place: func(context.Context) (func(), error) { return nil, ErrFull }}, nothing[int], fly); !errors.Is(err, ErrFull) {
		t.Errorf("no place: %v", err)
	}
	gave := false
	fare := Fare{Place: func(context.Context) (func(), error) { return func() { gave = true }, nil }, Pay: func() error { return ErrShare }}
	if _, err := f.Depart(t.Context(), "a", fare, nothing[int], fly); !errors.Is(err, ErrShare) || !gave {
		t.Errorf("not paid: %v, the place was given back: %t", err, gave)
	}
	if len(f.way) != 0 {
		t.Error("the flight is kept")
	}
}

// TestFlightsLanded: a caller who looked before a flight was back, and came after it, takes
// what it brought. One begins only if that will not do.
func TestFlightsLanded(t *testing.T) {
	var f Flights[string, int]
	kept := 0
	fly := func() (int, error) {
		kept++
		return kept, nil
	}
	for i, c := range []struct{ least, want int }{{1, 1}, {1, 1}, {2, 2}, {1, 2}} {
		on, err := f.Depart(t.Context(), "a", atOnce(), func() *Flight[int] {
			if kept < c.least {
				return nil
			}
			return Landed(kept, nil)
		}, fly)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := on.Wait(t.Context()); n != c.want || err != nil {
			t.Errorf("%d: %d, %v", i, n, err)
		}
	}
}
