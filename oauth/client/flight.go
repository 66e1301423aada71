package client

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"nestbox/internal/gate"
	"nestbox/ratelimit"
	"nestbox/request"
)

// The room of fetches: in all, and for one client network; and how many may wait.
const (
	maxFetches        = 32
	maxFetchesNetwork = 8
	maxWaiting        = 256
	maxWaitingNetwork = 32
)

// fetches limits the fetches that one client network causes.
var fetches = ratelimit.Limit{Name: "client documents", Points: 30, Window: 5 * time.Minute}

// flights are the fetches that are on their way.
type flights struct {
	places *gate.Places[string]
	ended  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	way    map[string]*flight
}

type flight struct {
	done  chan struct{}
	known *known
	err   error
}

func (f *flights) wait() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.ended.Wait()
}

// board returns the fetch of a client that is on its way, or a new one, which mine reports.
func (f *flights) board(id string) (on *flight, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if on := f.way[id]; on != nil {
		return on, false
	}
	on = &flight{done: make(chan struct{})}
	if f.closed {
		on.err = ErrUnavailable
		close(on.done)
		return on, false
	}
	if f.way == nil {
		f.way = map[string]*flight{}
	}
	f.way[id] = on
	f.ended.Add(1)
	return on, true
}

func (f *flights) land(id string, on *flight) {
	f.mu.Lock()
	delete(f.way, id)
	f.mu.Unlock()
	close(on.done)
	f.ended.Done()
}

// fetch fetches a client's document, or shares the fetch that is on its way. A caller that
// leaves does not end it for the others. Errors, besides those of the database:
// ErrUnavailable, request.ErrTooMany.
func (s *Service) fetch(ctx context.Context, id string, u *url.URL) (*known, error) {
	on, mine := s.flying.board(id)
	if mine {
		if err := request.ChargeNetwork(ctx, s.Limits, 1, fetches); err != nil {
			on.err = err
			s.flying.land(id, on)
			return nil, err
		}
		client := request.ClientOf(ctx)
		go func() { //nolint:contextcheck // others wait for it too
			defer s.flying.land(id, on)
			on.known, on.err = s.fly(client, id, u)
		}()
	}
	select {
	case <-on.done:
		return on.known, on.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fly fetches in a place of its own.
func (s *Service) fly(client request.Client, id string, u *url.URL) (*known, error) {
	ctx, cancel := context.WithTimeout(s.ctx, fetchTimeout)
	defer cancel()
	shares := client.Shares(gate.Share[string]{Most: maxFetchesNetwork, Waiting: maxWaitingNetwork}, maxFetches)
	place, err := s.flying.places.Take(ctx, gate.Room{All: maxFetches, Waiting: maxWaiting}, shares...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer place.Leave()
	return s.obtain(s.ctx, id, u)
}
