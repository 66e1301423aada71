package identity

import (
	"context"
	"errors"
	"time"

	"github.com/maypok86/otter/v2"

	"nestbox/internal/gate"
	"nestbox/request"
)

// cacheTimes are how long answers are used.
type cacheTimes struct {
	// stale: an older answer is given, and renewed in the background.
	stale time.Duration
	// gone: an older answer is not given.
	gone time.Duration
	// negative: how long it is believed that there is nothing.
	negative time.Duration
}

// cached is an answer of the network.
type cached[V any] struct {
	value V
	none  error // that there is nothing, as the network said for certain
	at    time.Time
}

// cache keeps what the network answered, and asks for what it lacks.
type cache[V any] struct {
	times cacheTimes
	// ask gets an answer. Errors of certain are answers, others are not kept.
	ask     func(ctx context.Context, key string) (V, error)
	certain []error
	now     func() time.Time
	work    *work

	entries *otter.Cache[string, cached[V]]
	flights *flights[V]
}

func newCache[V any](maxBytes uint64, weigh func(V) int, c *cache[V]) *cache[V] {
	const overhead = 200 // bytes of an entry beside its value, about
	c.flights = newFlights(c.work, c.fetch)
	c.entries = otter.Must(&otter.Options[string, cached[V]]{
		MaximumWeight: maxBytes,
		Weigher: func(key string, v cached[V]) uint32 {
			return uint32(len(key) + weigh(v.value) + overhead) //nolint:gosec // answers are bounded
		},
	})
	return c
}

// get returns what is known of a key, or asks, which ErrBusy may refuse.
func (c *cache[V]) get(ctx context.Context, key string, why purpose) (V, error) {
	if known := c.known(key, c.times.gone, c.times.negative); known != nil {
		if known.none == nil && c.now().Sub(known.at) >= c.times.stale {
			// If there is no room: the next call.
			_, _ = c.flights.depart(key, forRenewal, request.Client{}, c.landed(key, c.times.stale, c.times.negative))
		}
		return known.value, known.none
	}
	return c.flights.ask(ctx, key, why, c.landed(key, c.times.gone, c.times.negative))
}

// known returns the answer that is kept of a key, if it is younger than good, or than none if
// it is that there is nothing. It is nil otherwise.
func (c *cache[V]) known(key string, good, none time.Duration) *cached[V] {
	known, ok := c.entries.GetIfPresent(key)
	if known.none != nil {
		good = none
	}
	if !ok || c.now().Sub(known.at) >= good {
		return nil
	}
	return &known
}

// landed is known for flights.
func (c *cache[V]) landed(key string, good, none time.Duration) func() *gate.Flight[V] {
	return func() *gate.Flight[V] {
		if known := c.known(key, good, none); known != nil {
			return gate.Landed(known.value, known.none)
		}
		return nil
	}
}

// renew asks the network even if the answer is known, unless it was asked less than
// believed ago. The answer is from after the call if believed is zero.
func (c *cache[V]) renew(ctx context.Context, key string, why purpose, believed time.Duration) (V, error) {
	if believed == 0 {
		return c.flights.ask(ctx, key, why, nil)
	}
	if known := c.known(key, believed, believed); known != nil {
		return known.value, known.none
	}
	return c.flights.ask(ctx, key, why, c.landed(key, believed, believed))
}

// fetch asks the network and keeps the answer.
func (c *cache[V]) fetch(ctx context.Context, key string) (V, error) {
	at := c.now()
	value, err := c.ask(ctx, key)
	switch {
	case err == nil:
		c.keep(key, cached[V]{value: value, at: at})
	case c.isCertain(err):
		c.keep(key, cached[V]{value: value, none: err, at: at})
	}
	return value, err
}

func (c *cache[V]) isCertain(err error) bool {
	for _, target := range c.certain {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// keep keeps an answer, unless a newer one came meanwhile.
func (c *cache[V]) keep(key string, answer cached[V]) {
	c.entries.Compute(key, func(known cached[V], found bool) (cached[V], otter.ComputeOp) {
		if found && known.at.After(answer.at) {
			return known, otter.CancelOp
		}
		return answer, otter.WriteOp
	})
}
