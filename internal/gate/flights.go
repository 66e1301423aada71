package gate

import (
	"context"
	"errors"
	"sync"
)

// ErrClosed: Flights were closed.
var ErrClosed = errors.New("no more work is begun")

// Flights are work that callers share: for each key one piece is under way at a time, and
// callers that want the same meanwhile wait for it. A caller that leaves does not end it
// for the others.
type Flights[K comparable, V any] struct {
	mu     sync.Mutex
	way    map[K]*Flight[V]
	closed bool
	ended  sync.WaitGroup
}

// Flight is one piece of work of Flights.
type Flight[V any] struct {
	done  chan struct{}
	value V
	err   error

	// begun ends when the flight has its place; until then, each caller that boarded it looks
	// for one of its own.
	begun context.Context //nolint:containedctx // it ends what others wait for
	begin context.CancelFunc

	// What follows is guarded by Flights.mu.
	seekers int
	// next leaves when this one is back, for callers that came after this one had left and
	// want an answer that is newer than their call.
	next *Flight[V]
}

// Fare is what a caller brings for a flight that it begins. Nobody waits in the queue of
// another caller, or is refused because of what another one may not do.
type Fare struct {
	// Place returns a place for the flight, which leave gives back when it has ended. It may
	// wait for one: its context ends when another caller has begun the flight.
	Place func(context.Context) (leave func(), err error)
	// Pay, if it is set, counts the flight just before it leaves.
	Pay func() error
	// Newest demands a flight that leaves after the call: if one is under way, the next one,
	// which takes over its place.
	Newest bool
}

func newFlight[V any]() *Flight[V] {
	f := &Flight[V]{done: make(chan struct{})}
	f.begun, f.begin = context.WithCancel(context.Background()) //nolint:gosec // Depart calls it
	return f
}

// Landed returns a flight that has brought its answer.
func Landed[V any](value V, err error) *Flight[V] {
	f := newFlight[V]()
	f.value, f.err = value, err
	f.begin()
	close(f.done)
	return f
}

// Depart returns the flight of a key that is under way, or begins one. If none is, known is
// asked before one begins: what a flight brought between the caller's own look and this call
// is known by then, if fly keeps it. It returns nil if nothing is, and must not block. Errors:
// ErrClosed, and those of the fare.
func (f *Flights[K, V]) Depart(ctx context.Context, key K, fare Fare, known func() *Flight[V], fly func() (V, error)) (*Flight[V], error) {
	on, err := f.board(key, fare, known)
	if err != nil || on.begun.Err() != nil {
		return on, err
	}
	seek, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(on.begun, stop)() //nolint:contextcheck // a flight outlives its callers
	leave, err := fare.Place(seek)

	f.mu.Lock()
	defer f.mu.Unlock()
	on.seekers--
	begun := on.begun.Err() != nil
	if err == nil && !begun {
		if err = f.pay(fare); err == nil {
			on.begin()
			f.ended.Go(func() {
				defer leave()
				f.fly(key, on, fly)
			})
			return on, nil
		}
	}
	if leave != nil {
		leave()
	}
	if begun {
		return on, nil
	}
	if on.seekers == 0 {
		delete(f.way, key)
	}
	return nil, err
}

// board returns the flight of a key, which the caller must begin if nobody has. f.mu is
// not held.
func (f *Flights[K, V]) board(key K, fare Fare, known func() *Flight[V]) (*Flight[V], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	on := f.way[key]
	switch {
	case on == nil:
		if back := known(); back != nil {
			return back, nil
		}
		if f.way == nil {
			f.way = map[K]*Flight[V]{}
		}
		on = newFlight[V]()
		f.way[key] = on
	case on.begun.Err() == nil:
	case !fare.Newest:
		return on, nil
	case on.next != nil:
		return on.next, nil
	default:
		if err := f.pay(fare); err != nil {
			return nil, err
		}
		on.next = newFlight[V]()
		on.next.begin()
		return on.next, nil
	}
	on.seekers++
	return on, nil
}

// pay counts a flight that is about to leave. f.mu is held.
func (f *Flights[K, V]) pay(fare Fare) error {
	if f.closed {
		return ErrClosed
	}
	if fare.Pay == nil {
		return nil
	}
	return fare.Pay()
}

// fly does the work of a flight, and then that of those that wait for it to be back.
func (f *Flights[K, V]) fly(key K, on *Flight[V], work func() (V, error)) {
	for on != nil {
		on.value, on.err = work()
		f.mu.Lock()
		next := on.next
		if next == nil {
			delete(f.way, key)
		} else {
			f.way[key] = next
		}
		f.mu.Unlock()
		close(on.done)
		on = next
	}
}

// Close begins no more flights, and waits for those that are under way.
func (f *Flights[K, V]) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.ended.Wait()
}

// Wait returns what the flight brings, unless ctx ends before.
func (f *Flight[V]) Wait(ctx context.Context) (V, error) {
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}
