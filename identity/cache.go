package identity

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"nestbox/xrpc"
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
				c.depart(key, forRenewal, "")
			}
			return known.value, nil
		}
	}
	f := c.depart(key, why, networkOf(ctx))
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

// depart has a key asked for on behalf of a client network, unless it is already.
func (c *cache[V]) depart(key string, why purpose, network string) *flight[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.way[key]; f != nil {
		return f
	}
	f := &flight[V]{done: make(chan struct{})}
	started := c.work.start(why, network, func(ctx context.Context) {
		if f.err = ctx.Err(); f.err == nil {
			f.value, f.err = c.renew(ctx, key)
		}
		c.mu.Lock()
		delete(c.way, key)
		c.mu.Unlock()
		close(f.done)
	})
	if !started {
		f.err = ErrBusy
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

// purpose is what a question to the network is for. Each has room of its own: what
// anybody may ask must not be in the way of what callers are proven by.
type purpose int

const (
	forAnybody purpose = iota
	// forProof: somebody presents what only the answer proves, or is signed in.
	forProof
	// forRenewal: nobody waits.
	forRenewal
	purposes
)

// roomFor is how many questions are on their way at once for a purpose, and how many
// of them those of one client network may be.
func roomFor(p purpose) (all, ofNetwork int) {
	switch p {
	case forAnybody:
		return 256, 16
	case forProof:
		return 256, 64 // a token names whom it likes
	case forRenewal, purposes:
	}
	return 128, 128
}

// networkOf is the client network that a question counts for, "" for none.
func networkOf(ctx context.Context) string {
	c := xrpc.ClientOf(ctx)
	if c.Unlimited {
		return ""
	}
	return c.Network()
}

// ErrBusy: nothing was asked, since too many questions are on their way.
var ErrBusy = errors.New("too many identities are being looked up")

// onItsWay counts the questions of one purpose.
type onItsWay struct {
	all      int
	networks map[string]int
}

// work runs questions: a bounded number, which Close ends and waits for.
type work struct {
	ctx  context.Context //nolint:containedctx // ended by Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	running [purposes]onItsWay
	closed  bool
}

func newWork() *work {
	ctx, stop := context.WithCancel(context.Background())
	w := &work{ctx: ctx, stop: stop}
	for i := range w.running {
		w.running[i].networks = map[string]int{}
	}
	return w
}

// start runs f, unless there is too much to do already.
func (w *work) start(why purpose, network string, f func(context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, ofNetwork := roomFor(why)
	running := &w.running[why]
	if w.closed || running.all >= all || network != "" && running.networks[network] >= ofNetwork {
		return false
	}
	running.all++
	running.networks[network]++
	w.wg.Go(func() {
		f(w.ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		running.all--
		if running.networks[network]--; running.networks[network] == 0 {
			delete(running.networks, network)
		}
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
