package identity

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
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

// cache keeps what the network answered. A key is asked for once at a time,
// whoever waits; who waits no longer does not end it for the others.
type cache[V any] struct {
	times cacheTimes
	// ask gets an answer. Errors of certain are answers, others are not kept.
	ask     func(ctx context.Context, key string) (V, error)
	certain []error
	now     func() time.Time

	entries *otter.Cache[string, cached[V]]

	work *work
	mu   sync.Mutex
	way  map[string]*flight[V]
}

// flight is a question that is on its way.
type flight[V any] struct {
	done  chan struct{}
	value V
	err   error
}

func newCache[V any](maxBytes uint64, weigh func(V) int, c *cache[V]) *cache[V] {
	const overhead = 200 // bytes of an entry beside its value, about
	c.way = map[string]*flight[V]{}
	c.entries = otter.Must(&otter.Options[string, cached[V]]{
		MaximumWeight: maxBytes,
		Weigher: func(key string, v cached[V]) uint32 {
			return uint32(len(key) + weigh(v.value) + overhead) //nolint:gosec // answers are bounded
		},
	})
	return c
}

// get returns what is known of a key, or asks.
func (c *cache[V]) get(ctx context.Context, key string) (V, error) {
	if known, ok := c.entries.GetIfPresent(key); ok {
		age := c.now().Sub(known.at)
		switch {
		case known.none != nil && age < c.times.negative:
			return known.value, known.none
		case known.none != nil || age >= c.times.gone:
		default:
			if age >= c.times.stale {
				c.depart(key, false)
			}
			return known.value, nil
		}
	}
	f := c.depart(key, true)
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

// depart has a key asked for, unless it is already. One that nobody waits for is
// not asked for, and nil, while there is much to do.
func (c *cache[V]) depart(key string, awaited bool) *flight[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.way[key]; f != nil {
		return f
	}
	f := &flight[V]{done: make(chan struct{})}
	started := c.work.start(awaited, func(ctx context.Context) {
		if f.err = ctx.Err(); f.err == nil {
			f.value, f.err = c.renew(ctx, key)
		}
		c.mu.Lock()
		delete(c.way, key)
		c.mu.Unlock()
		close(f.done)
	})
	if !started {
		f.err = errBusy
		close(f.done)
		return f
	}
	c.way[key] = f
	return f
}

// renew asks, whatever is known, and keeps the answer.
func (c *cache[V]) renew(ctx context.Context, key string) (V, error) {
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

// work runs questions: a bounded number, which Close ends and waits for.
type work struct {
	ctx  context.Context //nolint:containedctx // ended by Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	running int
	closed  bool
}

const (
	// maxQuestions is how many questions to the network are on their way at once;
	// half of them at most renew what nobody waits for.
	maxQuestions = 256
	maxRenewals  = maxQuestions / 2
)

// errBusy: too many questions are on their way.
var errBusy = errors.New("too many identities are being looked up")

func newWork() *work {
	ctx, stop := context.WithCancel(context.Background())
	return &work{ctx: ctx, stop: stop}
}

// start runs f, unless there is too much to do already.
func (w *work) start(awaited bool, f func(context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit := maxRenewals
	if awaited {
		limit = maxQuestions
	}
	if w.closed || w.running >= limit {
		return false
	}
	w.running++
	w.wg.Go(func() {
		f(w.ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running--
	})
	return true
}

func (w *work) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.stop()
	w.wg.Wait()
}
