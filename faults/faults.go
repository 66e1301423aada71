package faults

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/faults/findings"
	"nestbox/internal/pause"
	"nestbox/oauth/dpop"
)

// Inside is what faults use of the server that they stand around.
type Inside struct {
	// URL and DID are the server's.
	URL, DID string
	// Routes are what the server answers itself: the NSIDs of methods, and paths, in which {x} stands for
	// one segment, and a slash at the end for all that lies below.
	Routes []string
	// Keyring signs the server's tokens.
	Keyring *auth.Keyring
	// Proofs checks proofs of possession. It may be changed before the first request.
	Proofs *dpop.Checker
	// Live reports whether a token is one of the server's that has not expired, and its session goes on.
	Live func(ctx context.Context, token string) bool
	// Run runs a command of the operator.
	Run func(ctx context.Context, name string, args, result any) error
	// SetActive deactivates an account, or activates it again.
	SetActive func(ctx context.Context, did string, active bool) error
	Now       func() time.Time
	Log       *slog.Logger
}

// Faults stands around a server.
type Faults struct {
	in          Inside
	running     atomic.Pointer[running]
	connections connections
	dated       dated
	windows     windows
	nonces      nonces
	recorder    recorder
	stops       struct {
		once sync.Once
		c    chan struct{}
	}

	mu      sync.Mutex
	callers map[string]caller // by DID or other identifier
	lifts   []lift
}

// running is a plan and its counts.
type running struct {
	Plan

	mu sync.Mutex
	// calls are how often each fault's calls came, by fault and the account's DID; acted how often it had an effect.
	calls []map[string]int
	acted []int
}

// lift is what ends a fault that lasts.
type lift struct {
	at  time.Time
	run func(context.Context) error
}

// hit is a fault that happens at a call, which is the n-th.
type hit struct {
	Fault

	i, n int
	// nonce is the one with which a Nonce refuses the call, empty if it does not.
	nonce string
}

// passage is a call on its way through the faults, and what is noted of it.
type passage struct {
	plan *running
	call *call
	note *findings.Call
	hits []hit
}

// side is where a fault loses, cuts or replaces the answer to a call.
type side int

const (
	neither side = iota // it leaves the answer to others
	ahead               // before the server sees the call
	behind              // once the server has done the work
)

// takes returns where a fault takes the answer to a call from the server.
func (h hit) takes() side {
	switch h.Kind {
	case LostAfter, Cut:
		return behind
	case Status, Page:
		if h.Done {
			return behind
		}
		return ahead
	case LostBefore, Reset, Restart, ReuseWindow:
		return ahead
	case Nonce:
		if h.nonce != "" {
			return ahead
		}
	}
	return neither
}

// Start sets a plan before the server serves: then the nonces of DPoP can change from the start.
func (f *Faults) Start(p Plan) Plan { return *f.set(&p) }

// stopped returns the channel that is closed when the server begins to stop.
func (f *Faults) stopped() chan struct{} {
	f.stops.once.Do(func() { f.stops.c = make(chan struct{}) })
	return f.stops.c
}

// set sets a plan, and picks a seed if it has none. A nil plan turns everything off.
func (f *Faults) set(p *Plan) *Plan {
	if p == nil {
		if f.running.Swap(nil) != nil {
			f.recorder.end()
		}
		return nil
	}
	if f.running.Load() == nil { // what came meanwhile is not known, so what is older says nothing
		f.recorder.clear()
	}
	if p.Seed == 0 {
		p.Seed = 1 + rand.Uint32N(999_999) //nolint:gosec // no secret
	}
	f.forgetCallers()
	f.running.Store(&running{Plan: *p, calls: make([]map[string]int, len(p.Faults)), acted: make([]int, len(p.Faults))})
	return p
}

// Handler returns next behind the faults. It fails if the plan of Start names what the server does not
// have.
func (f *Faults) Handler(next http.Handler, in Inside) (http.Handler, error) {
	f.in = in
	_, _ = crand.Read(f.recorder.key[:]) // never fails
	if p := f.running.Load(); p != nil {
		if err := p.checkRoutes(in.Routes); err != nil {
			return nil, fmt.Errorf("read faults: %w", err)
		}
		for _, name := range f.unknown(context.Background(), p.Plan) {
			in.Log.Warn("a fault names an account that does not exist", slog.String("account", name))
		}
		const enough = 6 * dpop.Window // so that the nonces of two minutes count from the start
		in.Proofs.Replays = dpop.NewReplays(in.Now().Add(-enough), 0)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := f.running.Load()
		if p == nil {
			f.dated.replace(r) // tokens from before live on
			next.ServeHTTP(w, r)
			return
		}
		f.serve(p, next, w, r)
	}), nil
}

// concerns reports whether a fault can happen to a call: some need a caller whose session or
// account is known, some an answer with tokens, and an answer that becomes a stream is not kept.
func (f Fault) concerns(c *call) bool {
	switch f.Kind {
	case LostAfter, Delay, Status, Page:
		return !c.upgrade
	case Cut:
		return !c.upgrade && !c.head
	case AccessLife, RefreshLife, Clock:
		return c.kind != "" && !c.upgrade
	case Nonce:
		return c.proof != nil && !c.upgrade
	case Takedown, Deactivate:
		return c.token != nil && c.token.Sub != ""
	case Revoke:
		if c.token == nil {
			return false
		}
		_, ok := c.token.sessionID()
		return ok
	case ReuseWindow:
		if c.token == nil || c.kind != Refresh || c.upgrade {
			return false
		}
		_, ok := c.token.generation()
		return ok
	}
	return true
}

// count counts a call with each fault that names it, and returns those that happen.
func (f *Faults) count(ctx context.Context, p *running, c *call) []hit {
	var hits []hit
	var by *caller
	for i, fault := range p.Faults {
		if !fault.isOf(c) || !fault.concerns(c) {
			continue
		}
		if by == nil {
			who := f.caller(ctx, c.account)
			by = &who
		}
		if len(fault.Accounts) > 0 && !by.isAny(fault.Accounts) {
			continue
		}
		p.mu.Lock()
		if p.calls[i] == nil {
			p.calls[i] = map[string]int{}
		}
		p.calls[i][by.DID]++
		n := p.calls[i][by.DID]
		p.mu.Unlock()
		if p.hits(i, n) {
			hits = append(hits, hit{Fault: fault, i: i, n: n})
		}
	}
	return hits
}

// choose leaves out of the faults that happen to a call those that have no effect: of all that lose, cut or
// replace the answer, only the first acts. One that cuts it may find no body there, so it leaves those behind
// it that act then.
func (f *Faults) choose(c *call, hits []hit) []hit {
	var left []hit
	taken, cut := false, false
	for _, h := range hits {
		switch h.Kind {
		case ReuseWindow:
			n, _ := c.token.generation()
			if !f.windows.over(c.token.SID, n, f.in.Now(), time.Duration(h.For)) {
				continue
			}
		case Nonce:
			other := f.otherNonce(c.proof.nonce)
			if other == "" {
				continue
			}
			if !taken && !cut && !f.nonces.use(c.proof) {
				h.nonce = other
			}
		}
		if at := h.takes(); at != neither {
			if taken || cut && at == ahead {
				continue
			}
			cut = h.Kind == Cut
			taken = !cut
		}
		left = append(left, h)
	}
	return left
}

// act counts and logs a fault that has an effect on a call.
func (f *Faults) act(ctx context.Context, o *passage, h hit) {
	o.plan.mu.Lock()
	o.plan.acted[h.i]++
	o.plan.mu.Unlock()
	o.note.Faults = append(o.note.Faults, h.Kind)
	attrs := []slog.Attr{slog.String("fault", h.Kind), slog.String("at", o.call.method), slog.Int("call", h.n)}
	if did, err := syntax.ParseDID(o.call.account); err == nil { // not what somebody typed to sign in
		attrs = append(attrs, slog.String("did", did.String()))
	}
	f.in.Log.LogAttrs(ctx, slog.LevelInfo, "fault on purpose", attrs...)
}

// serve answers a request, with the faults that happen to it.
func (f *Faults) serve(p *running, next http.Handler, w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		next.ServeHTTP(w, r)
		return
	}
	f.lift(r.Context(), f.in.Now())
	c := look(r)
	n := f.begin(r, c)
	o := &passage{p, c, n, f.choose(c, f.count(r.Context(), p, c))}
	n.Lost = true
	restarts, taken := f.connections.restarts.Load(), false
	defer func() { // a panic ends the connection
		n.End = f.in.Now()
		gone := r.Context().Err() != nil
		n.Left = gone && !taken && f.connections.restarts.Load() == restarts
		n.Lost = n.Lost || gone
		f.recorder.tell(n)
		f.recorder.add(*n)
		if c.method == updateHandle {
			f.forgetCallers()
		}
	}()
	if taken = f.before(r, o); taken {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	f.dated.replace(r)
	if !o.keeps() {
		s := &seen{ResponseWriter: w}
		next.ServeHTTP(s, r)
		f.learn(n, cmp.Or(s.status, http.StatusOK), w.Header(), s.begin)
		n.Lost = false
		return
	}
	a := keep(w)
	if !f.replaced(r.Context(), a, o) {
		next.ServeHTTP(a, r)
	}
	if f.after(r, a, o) {
		panic(http.ErrAbortHandler) // what was sent must not look whole
	}
	n.Lost = false
}

// before does what happens before the server sees a request, and reports whether it never does.
func (f *Faults) before(r *http.Request, o *passage) (lost bool) {
	for _, h := range o.hits {
		switch h.Kind {
		case LostBefore:
			f.act(r.Context(), o, h)
			return true
		case Reset:
			f.act(r.Context(), o, h)
			f.connections.reset(r.RemoteAddr)
			return true
		case Restart:
			f.act(r.Context(), o, h)
			f.connections.restart(cmp.Or(time.Duration(h.For), 2*time.Second))
			return true
		case Revoke, Takedown, Deactivate:
			// A caller that leaves in the middle must not leave the account as it is.
			acted, err := f.end(context.WithoutCancel(r.Context()), o.plan, h.Fault, o.call)
			if err != nil {
				f.in.Log.LogAttrs(r.Context(), slog.LevelWarn, "fault on purpose failed",
					slog.String("fault", h.Kind), slog.String("cause", err.Error()))
			}
			if acted {
				f.act(r.Context(), o, h)
			}
		}
	}
	return false
}

// keeps reports whether the answer to the call must be kept until it is whole.
func (o *passage) keeps() bool {
	return !o.call.upgrade && (o.call.kind != "" || slices.ContainsFunc(o.hits, func(h hit) bool {
		return h.takes() != neither || h.Kind == Delay || h.Kind == Nonce
	}))
}

// taker returns the fault that takes an answer which the server has made; its Kind is empty if none does.
func (o *passage) taker(a *answer) hit {
	for _, h := range o.hits {
		if h.takes() == behind && (h.Kind != Cut || a.body.Len() > 0) {
			return h
		}
	}
	return hit{}
}

// replaced makes the answer of a call that the server does not see, and reports whether it did.
func (f *Faults) replaced(ctx context.Context, a *answer, o *passage) bool {
	for _, h := range o.hits {
		switch {
		case h.Kind == Status && !h.Done:
			a.fail(o.call, h.Fault)
		case h.Kind == Page && !h.Done:
			a.page(h.Fault)
		case h.nonce != "":
			f.nonces.give(o.call.proof, h.nonce)
			a.refuseNonce(o.call, h.nonce)
		case h.Kind == ReuseWindow:
			f.refuseOld(a, o.call)
		default:
			continue
		}
		f.act(ctx, o, h)
		return true
	}
	return false
}

// refuseOld answers as the server does to a token from before the reuse window.
func (f *Faults) refuseOld(a *answer, c *call) {
	name, message := "ExpiredToken", "Token has been revoked"
	if c.oauth {
		name, message = "invalid_grant", "Invalid refresh token"
	}
	a.refuse(c, http.StatusBadRequest, name, message)
	if c.proof != nil {
		a.header.Set("DPoP-Nonce", f.in.Proofs.Nonce())
	}
}

// after changes an answer and sends it, and reports whether the connection ends then.
func (f *Faults) after(r *http.Request, a *answer, o *passage) (ends bool) {
	ctx, c, taker := r.Context(), o.call, o.taker(a)
	if g := readGiven(a); g != nil && c.kind != "" {
		f.note(g)
		if !taker.Done {
			defer f.gave(o.note, g)
		}
		if taker.Kind == "" {
			f.retime(ctx, a, o, g)
		}
	}
	defer func() { f.learn(o.note, a.status, a.header, a.body.Bytes()) }()
	late := time.Duration(0)
	for _, h := range o.hits {
		switch h.Kind {
		case Nonce:
			if other := f.otherNonce(c.proof.nonce); other != "" && !a.asked && taker.Kind != LostAfter && !taker.Done {
				a.header.Set("DPoP-Nonce", other)
				f.nonces.give(c.proof, other)
				f.act(ctx, o, h)
			}
		case Delay:
			by := min(o.plan.delay(h.i, h.n), maxDelay-late)
			if by == 0 {
				continue
			}
			late += by
			f.act(ctx, o, h)
			if !pause.For(ctx, by) {
				return true
			}
		}
	}
	if taker.Kind != "" {
		f.act(ctx, o, taker)
	}
	switch taker.Kind {
	case LostAfter:
		return true
	case Status:
		a.fail(c, taker.Fault)
	case Page:
		a.page(taker.Fault)
	}
	a.send(taker.Kind == Cut)
	return taker.Kind == Cut
}

// note remembers where a session's head is.
func (f *Faults) note(g *given) {
	if g.Refresh == nil {
		return
	}
	if n, ok := g.Refresh.generation(); ok {
		f.windows.move(g.Refresh.SID, n, f.in.Now())
	}
}

// end ends a caller's session, or pauses the account for a while, and reports whether it did. It leaves alone
// whom a token names that the server refuses, and an account that is down, or it would be lifted in the place
// of whoever took it down.
func (f *Faults) end(ctx context.Context, p *running, fault Fault, c *call) (acted bool, err error) {
	if !f.in.Live(ctx, f.dated.of(c.raw)) {
		return false, nil
	}
	did := c.token.Sub
	account := map[string]string{"account": did}
	if fault.Kind == Revoke {
		id, _ := c.token.sessionID()
		err := f.in.Run(ctx, "session.revoke", map[string]any{"account": did, "id": id}, &struct{}{})
		return err == nil, err
	}
	var is struct{ Status string }
	if err := f.in.Run(ctx, "account.info", account, &is); err != nil || is.Status != "" && is.Status != "active" {
		return false, err
	}
	switch fault.Kind {
	case Takedown:
		err := f.in.Run(ctx, "account.takedown", map[string]string{"account": did, "ref": "nestbox dev faults"}, &struct{}{})
		f.later(ctx, p, err, fault.For, func(ctx context.Context) error { return f.in.Run(ctx, "account.untakedown", account, &struct{}{}) })
		return err == nil, err
	case Deactivate:
		err := f.in.SetActive(ctx, did, false)
		f.later(ctx, p, err, fault.For, func(ctx context.Context) error { return f.in.SetActive(ctx, did, true) })
		return err == nil, err
	}
	return false, errors.ErrUnsupported
}

// later has something lifted after a time, unless it failed or lasts for good. What a plan did that is
// over by now is lifted at once.
func (f *Faults) later(ctx context.Context, p *running, failed error, after Duration, run func(context.Context) error) {
	if failed != nil || after == 0 {
		return
	}
	f.mu.Lock()
	f.lifts = append(f.lifts, lift{f.in.Now().Add(time.Duration(after)), run})
	f.mu.Unlock()
	if f.over(p) {
		f.liftAll(ctx)
	}
}

// over reports whether a plan has ended, or the server stops.
func (f *Faults) over(p *running) bool {
	select {
	case <-f.stopped():
		return true
	default:
		return f.running.Load() != p
	}
}

// liftAll ends what should end at any time: no account stays down for a plan that is over.
func (f *Faults) liftAll(ctx context.Context) {
	f.mu.Lock()
	for i := range f.lifts {
		f.lifts[i].at = time.Time{}
	}
	none := len(f.lifts) == 0
	f.mu.Unlock()
	if !none {
		f.lift(ctx, f.in.Now())
	}
}

// lift ends what should have ended by a time. It runs ahead of each call, so nobody notices that it
// was not earlier, and goes on when the caller leaves. What fails is tried again, a second later.
func (f *Faults) lift(ctx context.Context, by time.Time) {
	f.mu.Lock()
	var due []lift
	f.lifts = slices.DeleteFunc(f.lifts, func(l lift) bool {
		if l.at.After(by) {
			return false
		}
		due = append(due, l)
		return true
	})
	f.mu.Unlock()
	const enough = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enough)
	defer cancel()
	for _, l := range due {
		err := l.run(ctx)
		if err == nil {
			continue
		}
		f.in.Log.LogAttrs(ctx, slog.LevelWarn, "fault on purpose not lifted", slog.String("cause", err.Error()))
		f.mu.Lock()
		f.lifts = append(f.lifts, lift{f.in.Now().Add(time.Second), l.run})
		f.mu.Unlock()
	}
}
