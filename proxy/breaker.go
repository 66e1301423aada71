package proxy

import (
	"sync"
	"time"
)

const (
	// breakAfter failures in a row, within breakWithin, end calls to a target for
	// breakFor.
	breakAfter  = 10
	breakWithin = 10 * time.Second
	breakFor    = 5 * time.Second
	// maxBreakers bounds how many targets are remembered.
	maxBreakers = 4096
)

// breakers keep callers from waiting for services that do not answer.
type breakers struct {
	mu sync.Mutex
	of map[string]*breaker // by key of a target
}

type breaker struct {
	failures    int
	first, last time.Time
	// answered is when the service answered last: a call that began before that and was
	// not answered was slow itself.
	answered time.Time
	// again is when the next call may try; zero while calls may go.
	again  time.Time
	trying bool
}

// broken reports whether calls to a target are refused for now.
func (b *breakers) broken(key string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.of[key]
	return o != nil && !o.again.IsZero() && (now.Before(o.again) || o.trying)
}

// admit reports whether a call to a target may go. If it does, done must be called. Only a
// call that may try ends a break: one whose length no client decides.
func (b *breakers) admit(key string, mayTry bool, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.of[key]
	if o == nil || o.again.IsZero() {
		return true
	}
	if now.Before(o.again) || o.trying || !mayTry {
		return false
	}
	o.trying = true
	return true
}

// done notes how a call went that began then.
func (b *breakers) done(key string, began, now time.Time, how outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.of[key]
	switch {
	case how == unknown && o != nil:
		o.trying = false
		return
	case how == unknown:
		return
	case o == nil:
		b.makeRoom(now)
		o = &breaker{}
		b.of[key] = o
	}
	o.last = now
	if how == answered {
		*o = breaker{last: now, answered: now}
		return
	}
	o.trying = false
	if began.Before(o.answered) {
		return
	}
	if o.again.IsZero() && now.Sub(o.first) > breakWithin {
		o.failures, o.first = 0, now
	}
	o.failures++
	if o.failures >= breakAfter {
		o.again = now.Add(breakFor)
	}
}

// makeRoom forgets targets that were not called for a while, or else any.
func (b *breakers) makeRoom(now time.Time) {
	if b.of == nil {
		b.of = map[string]*breaker{}
	}
	if len(b.of) < maxBreakers {
		return
	}
	for key, o := range b.of {
		if now.Sub(o.last) > breakWithin {
			delete(b.of, key)
		}
	}
	for key := range b.of {
		if len(b.of) < maxBreakers {
			return
		}
		delete(b.of, key)
	}
}

// outcome is what a call says of the service.
type outcome int

const (
	unknown  outcome = iota // the client left, its body failed, or we refused ourselves
	answered                // whatever the status
	silent                  // no connection, or no answer in time
)
