package proxy

import (
	"sync"
	"time"
)

const (
	// breakAfter failures in a row, within breakWithin, end calls to an origin for
	// breakFor.
	breakAfter  = 10
	breakWithin = 10 * time.Second
	breakFor    = 5 * time.Second
	// maxOrigins bounds how many failing origins are remembered.
	maxOrigins = 4096
)

// breakers keep callers from waiting for services that do not answer.
type breakers struct {
	mu sync.Mutex
	of map[string]*breaker // by origin; only those that failed last
}

type breaker struct {
	failures    int
	first, last time.Time
	// until is when the next call may try; zero while calls may go.
	until  time.Time
	trying bool
}

// admit reports whether a call to an origin may go. If it does, done must be called.
func (b *breakers) admit(origin string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.of[origin]
	if o == nil || o.until.IsZero() {
		return true
	}
	if now.Before(o.until) || o.trying {
		return false
	}
	o.trying = true
	return true
}

// done notes how a call went: whether the service answered at all, or why it says
// nothing of the service.
func (b *breakers) done(origin string, now time.Time, how outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.of[origin]
	switch {
	case how == answered:
		delete(b.of, origin)
		return
	case o != nil && how == unknown:
		o.trying = false
		return
	case how == unknown:
		return
	case o == nil || o.until.IsZero() && now.Sub(o.first) > breakWithin:
		b.makeRoom(now)
		o = &breaker{first: now}
		b.of[origin] = o
	}
	o.failures++
	o.last, o.trying = now, false
	if o.failures >= breakAfter {
		o.until = now.Add(breakFor)
	}
}

// makeRoom forgets origins that have not failed for a while, or else any.
func (b *breakers) makeRoom(now time.Time) {
	if b.of == nil {
		b.of = map[string]*breaker{}
	}
	if len(b.of) < maxOrigins {
		return
	}
	for origin, o := range b.of {
		if now.Sub(o.last) > breakWithin {
			delete(b.of, origin)
		}
	}
	for origin := range b.of {
		if len(b.of) < maxOrigins {
			return
		}
		delete(b.of, origin)
	}
}

// outcome is what a call says of the service.
type outcome int

const (
	unknown  outcome = iota // the client left, or its body failed
	answered                // whatever the status
	silent                  // no connection, or no answer in time
)
