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
	way      gate.Flights[string, V]
}

func newFlights[V any](w *work, question func(ctx context.Context, key string) (V, error)) *flights[V] {
	return &flights[V]{question: question, work: w}
}

// ask returns the answer about a key, which is from after the call if known is nil, or
// ErrBusy.
func (s *flights[V]) ask(ctx context.Context, key string, why purpose, known func() *gate.Flight[V]) (V, error) {
	on, err := s.depart(key, why, request.ClientOf(ctx), known)
	if err != nil {
		var none V
		return none, err
	}
	return on.Wait(ctx)
}

// depart asks about a key on behalf of a client, unless that question is on its way, or the
// answer is known by now. If known is nil, only a question counts that leaves after the call.
// Error: ErrBusy.
func (s *flights[V]) depart(key string, why purpose, client request.Client, known func() *gate.Flight[V]) (*gate.Flight[V], error) {
	newest := known == nil
	if newest {
		known = func() *gate.Flight[V] { return nil }
	}
	return s.way.Depart(s.work.ctx, key, gate.Fare{
		Place:  func(context.Context) (func(), error) { return s.work.place(why, client) },
		Pay:    func() error { return s.work.pay(client) },
		Newest: newest,
	}, known, func() (value V, err error) {
		if err := s.work.ctx.Err(); err != nil {
			return value, err
		}
		return s.question(s.work.ctx, key)
	})
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

// pay counts a question of a client. Error: ErrBusy.
func (w *work) pay(client request.Client) error {
	if client.Unlimited || !client.Addr.IsValid() || w.limits.TakeKeys(client.Network().Keys(""), 1, lookups).Allowed {
		return nil
	}
	return ErrBusy
}

// place takes a place for a question, which leave gives back. Error: ErrBusy.
func (w *work) place(why purpose, client request.Client) (leave func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, ErrBusy
	}
	all, ofNetwork, kept := roomFor(why)
	shares := client.Shares(gate.Share[string]{Most: ofNetwork}, all)
	place, err := w.running[why].Try(gate.Room{All: client.Open(all, kept)}, shares...)
	if err != nil {
		return nil, ErrBusy
	}
	w.wg.Add(1)
	return func() {
		defer w.wg.Done()
		place.Leave()
	}, nil
}

// enter takes a place for a question that nobody shares, and counts it.
func (w *work) enter(why purpose, client request.Client) (leave func(), err error) {
	if leave, err = w.place(why, client); err != nil {
		return nil, err
	}
	if err := w.pay(client); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

func (w *work) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.stop()
	w.wg.Wait()
}
