package identity

import (
	"context"
	"errors"
	"time"

	"github.com/maypok86/otter/v2"

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
	if known, ok := c.entries.GetIfPresent(key); ok {
		age := c.now().Sub(known.at)
		switch {
		case known.none != nil && age < c.times.negative:
			return known.value, known.none
		case known.none != nil || age >= c.times.gone:
		default:
			if age >= c.times.stale {
				_, _ = c.flights.depart(key, forRenewal, request.Client{}, false) // if there is no room: the next call
			}
			return known.value, nil
		}
	}
	return c.flights.ask(ctx, key, why, false)
}

// renew asks the network even if the answer is known, unless it was asked less than
// believed ago. The answer is from after the call if believed is zero.
func (c *cache[V]) renew(ctx context.Context, key string, why purpose, believed time.Duration) (V, error) {
	if believed > 0 {
		if known, ok := c.entries.GetIfPresent(key); ok && c.now().Sub(known.at) < believed {
			return known.value, known.none
		}
	}
	return c.flights.ask(ctx, key, why, believed == 0)
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
