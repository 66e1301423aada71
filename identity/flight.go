package identity

import (
	"context"
	"errors"
	"sync"
	"time"

	"nestbox/internal/gate"
	"nestbox/ratelimit"
	"nestbox/request"
)

// flights asks one question about a key at a time: callers that want the answer
// meanwhile share it. A caller that leaves does not end the question for the others.
type flights[V any] struct {
	question func(ctx context.Context, key string) (V, error)
	work     *work

	mu  sync.Mutex
	way map[string]*flight[V]
}

// flight is a question that is on its way.
type flight[V any] struct {
	done  chan struct{}
	value V
	err   error
	// next leaves when this one is back, for callers that came after this one had
	// left and want an answer that is newer than their call; flights.mu guards it.
	next *flight[V]
}

func newFlights[V any](w *work, question func(ctx context.Context, key string) (V, error)) *flights[V] {
	return &flights[V]{question: question, work: w, way: map[string]*flight[V]{}}
}

// ask returns the answer about a key, which is from after the call if newest is set,
// or ErrBusy.
func (s *flights[V]) ask(ctx context.Context, key string, why purpose, newest bool) (V, error) {
	f := s.depart(key, why, request.ClientOf(ctx), newest)
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

// depart asks about a key on behalf of a client, unless that question is on
// its way or is the next to leave.
func (s *flights[V]) depart(key string, why purpose, client request.Client, newest bool) *flight[V] {
	s.mu.Lock()
	defer s.mu.Unlock()
	on := s.way[key]
	if on != nil && !newest {
		return on
	}
	if on != nil && on.next != nil {
		return on.next
	}
	f := &flight[V]{done: make(chan struct{})}
	var accepted bool
	if on != nil { // it takes the place of the one before it
		accepted = s.work.spend(client)
		if accepted {
			on.next = f
		}
	} else {
		accepted = s.work.start(why, client, func(ctx context.Context) { s.fly(ctx, key, f) })
		if accepted {
			s.way[key] = f
		}
	}
	if !accepted {
		f.err = ErrBusy
		close(f.done)
	}
	return f
}

// fly asks, and then what waits for this answer to be back.
func (s *flights[V]) fly(ctx context.Context, key string, f *flight[V]) {
	for f != nil {
		if f.err = ctx.Err(); f.err == nil {
			f.value, f.err = s.question(ctx, key)
		}
		s.mu.Lock()
		next := f.next
		if next == nil {
			delete(s.way, key)
		} else {
			s.way[key] = next
		}
		s.mu.Unlock()
		close(f.done)
		f = next
	}
}

// purpose is what a question to the network is for. Each has a room of its own: what
// anybody may ask must not block what callers are proven by, and neither may block an
// owner.
type purpose int

const (
	forAnybody purpose = iota
	// forProof: somebody presents what only the answer proves, a service token.
	forProof
	// forOwner: an account that is signed in, the operator, or this server itself.
	forOwner
	// forRenewal: nobody waits.
	forRenewal
	purposes
)

// roomFor returns how many questions may be on their way at once for a purpose, how
// many of them for one client network, and how many places are kept for networks that
// were here before.
func roomFor(p purpose) (all, ofNetwork, kept int) {
	switch p {
	case forAnybody:
		return 256, 16, 32
	case forProof, forOwner:
		return 256, 64, 32 // a token names any issuer that it likes
	case forRenewal, purposes:
	}
	return 128, 128, 0
}

// lookups limits the questions that the requests of one client network cause in all,
// however fast the network answers them.
var lookups = ratelimit.Limit{Name: "look-ups", Points: 1000, Window: 5 * time.Minute}

// ErrBusy: nothing was asked, since too many questions are on their way, or the
// client's network has caused too many.
var ErrBusy = errors.New("too many identities are being looked up")

// work runs a bounded number of questions, which close ends and waits for.
type work struct {
	ctx    context.Context //nolint:containedctx // ended by close
	stop   context.CancelFunc
	limits *ratelimit.Limiter // nil counts nothing
	wg     sync.WaitGroup

	running [purposes]gate.Places[string]

	mu     sync.Mutex
	closed bool
}

func newWork(limits *ratelimit.Limiter) *work {
	ctx, stop := context.WithCancel(context.Background())
	return &work{ctx: ctx, stop: stop, limits: limits}
}

// spend counts a question of a client, and reports whether it may be asked.
func (w *work) spend(client request.Client) bool {
	return client.Unlimited || !client.Addr.IsValid() || w.limits.TakeKeys(client.Network().Keys(""), 1, lookups).Allowed
}

// enter takes a place for a question, which leave gives back, and reports whether
// there was one.
func (w *work) enter(why purpose, client request.Client) (leave func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, false
	}
	all, ofNetwork, kept := roomFor(why)
	shares := client.Shares(gate.Share[string]{Most: ofNetwork}, all)
	place, err := w.running[why].Try(gate.Room{All: client.Open(all, kept)}, shares...)
	if err != nil {
		return nil, false
	}
	if !w.spend(client) {
		place.Leave()
		return nil, false
	}
	w.wg.Add(1)
	return func() {
		defer w.wg.Done()
		place.Leave()
	}, true
}

// start runs f in a place of its own, and reports whether there was one.
func (w *work) start(why purpose, client request.Client, f func(context.Context)) bool {
	leave, ok := w.enter(why, client)
	if ok {
		go func() {
			defer leave()
			f(w.ctx)
		}()
	}
	return ok
}

func (w *work) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.stop()
	w.wg.Wait()
}
