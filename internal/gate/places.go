package gate

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Refusals of Places.
var (
	// ErrFull: all places are taken, or as many callers wait as may.
	ErrFull = errors.New("all places are taken")
	// ErrShare: a key of the caller has as many places as one key may.
	ErrShare = errors.New("one caller has its share of the places")
)

// Room bounds Places in all.
type Room struct {
	// All is how many places there are; 0 bounds nothing.
	All int
	// Waiting is how many callers of Take may wait for one; 0 bounds nothing.
	Waiting int
	// IdleSince, unless it is zero, lets Try take over the place that has not moved
	// for longest, if it has not moved since then.
	IdleSince time.Time
}

// Share bounds what one key has of Places. A caller may count for several keys,
// an address and the network around it.
type Share[K comparable] struct {
	Key K
	// Most is how many places callers of the key hold at once; 0 bounds nothing.
	Most int
	// Waiting is how many callers of the key may wait; 0 bounds nothing.
	Waiting int
}

// Places is a bounded number of places.
type Places[K comparable] struct {
	mu      sync.Mutex
	held    int
	of      map[K]int // places held by key
	queue   []*waiter[K]
	waiting map[K]int // callers in the queue by key
	grants  int       // places given
	last    map[K]int // the last of grants by key, for keys that wait or hold a place
	watched map[*Place[K]]struct{}
}

// Place is one of Places, until its holder leaves it or loses it.
type Place[K comparable] struct {
	all    *Places[K]
	shares []Share[K]

	// What follows is guarded by all.mu.
	gone   bool
	moved  time.Time
	revoke func()
}

// waiter is a caller of Take.
type waiter[K comparable] struct {
	place *Place[K]
	room  Room
	given chan struct{} // closed once it has its place
}

// Try takes a place, or fails at once with ErrFull or ErrShare.
func (p *Places[K]) Try(room Room, shares ...Share[K]) (*Place[K], error) {
	place, lost, err := p.try(room, shares)
	if lost != nil {
		lost() // it may call back
	}
	return place, err
}

func (p *Places[K]) try(room Room, shares []Share[K]) (place *Place[K], revoke func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.within(shares) {
		return nil, nil, ErrShare
	}
	if room.All > 0 && p.held >= room.All {
		idle := p.idle(room.IdleSince)
		if idle == nil || p.held > room.All {
			return nil, nil, ErrFull
		}
		revoke = idle.revoke
		p.drop(idle)
	}
	place = &Place[K]{all: p, shares: shares}
	p.hold(place)
	return place, revoke, nil
}

// Take waits for a place until ctx ends. Of those that wait, the next is the one whose
// keys hold the fewest places, among equals the one whose keys were given a place
// longest ago, and then the first to come: keys that ask for many places do not make
// the others wait for all of them. ErrFull and ErrShare if as many wait as may.
func (p *Places[K]) Take(ctx context.Context, room Room, shares ...Share[K]) (*Place[K], error) {
	w := &waiter[K]{place: &Place[K]{all: p, shares: shares}, room: room, given: make(chan struct{})}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.enqueue(w); err != nil {
		return nil, err
	}
	select {
	case <-w.given:
		return w.place, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	if i := slices.Index(p.queue, w); i >= 0 {
		p.dequeue(i)
		p.mu.Unlock()
		return nil, ctx.Err()
	}
	p.mu.Unlock()
	w.place.Leave() // it came at the same time
	return nil, ctx.Err()
}

func (p *Places[K]) enqueue(w *waiter[K]) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fits(w) {
		p.hold(w.place)
		close(w.given)
		return nil
	}
	if w.room.Waiting > 0 && len(p.queue) >= w.room.Waiting {
		return ErrFull
	}
	for _, s := range w.place.shares {
		if s.Waiting > 0 && p.waiting[s.Key] >= s.Waiting {
			return ErrShare
		}
	}
	p.queue = append(p.queue, w)
	for _, s := range w.place.shares {
		if p.waiting == nil {
			p.waiting = map[K]int{}
		}
		p.waiting[s.Key]++
	}
	return nil
}

// dequeue takes the i-th waiter out of the queue. p.mu is held.
func (p *Places[K]) dequeue(i int) *waiter[K] {
	w := p.queue[i]
	p.queue = slices.Delete(p.queue, i, i+1)
	for _, s := range w.place.shares {
		decrement(p.waiting, s.Key)
		p.forget(s.Key)
	}
	return w
}

// within reports whether none of the keys has all of its share. p.mu is held.
func (p *Places[K]) within(shares []Share[K]) bool {
	for _, s := range shares {
		if s.Most > 0 && p.of[s.Key] >= s.Most {
			return false
		}
	}
	return true
}

func (p *Places[K]) fits(w *waiter[K]) bool {
	return (w.room.All == 0 || p.held < w.room.All) && p.within(w.place.shares)
}

// hold counts a place that is taken. p.mu is held.
func (p *Places[K]) hold(place *Place[K]) {
	p.held++
	p.grants++
	for _, s := range place.shares {
		if p.of == nil {
			p.of, p.last = map[K]int{}, map[K]int{}
		}
		p.of[s.Key]++
		p.last[s.Key] = p.grants
	}
}

// drop counts a place that is free again. p.mu is held.
func (p *Places[K]) drop(place *Place[K]) {
	place.gone = true
	delete(p.watched, place)
	p.held--
	for _, s := range place.shares {
		decrement(p.of, s.Key)
		p.forget(s.Key)
	}
}

// forget drops the time at which a key last got a place, once it neither waits nor
// holds one. p.mu is held.
func (p *Places[K]) forget(key K) {
	if p.of[key] == 0 && p.waiting[key] == 0 {
		delete(p.last, key)
	}
}

// admit gives free places to those that wait. p.mu is held.
func (p *Places[K]) admit() {
	for {
		next, best := -1, [2]int{}
		for i, w := range p.queue {
			if !p.fits(w) {
				continue
			}
			if rank := p.rank(w); next < 0 || slices.Compare(rank[:], best[:]) < 0 {
				next, best = i, rank
			}
		}
		if next < 0 {
			return
		}
		w := p.dequeue(next)
		p.hold(w.place)
		close(w.given)
	}
}

// rank orders those that wait: by the places that its keys hold, and by when they
// were given one last. p.mu is held.
func (p *Places[K]) rank(w *waiter[K]) (rank [2]int) {
	for _, s := range w.place.shares {
		rank[0] = max(rank[0], p.of[s.Key])
		rank[1] = max(rank[1], p.last[s.Key])
	}
	return rank
}

// idle is the place that has not moved for longest, if that was not after since.
// p.mu is held.
func (p *Places[K]) idle(since time.Time) (longest *Place[K]) {
	if since.IsZero() {
		return nil
	}
	for place := range p.watched {
		if !place.moved.After(since) && (longest == nil || place.moved.Before(longest.moved)) {
			longest = place
		}
	}
	return longest
}

// Held returns how many places are taken.
func (p *Places[K]) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// Waiting returns how many callers wait for a place.
func (p *Places[K]) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)
}

// Leave gives the place to others. The second call, and one after the place was
// lost, do nothing.
func (pl *Place[K]) Leave() {
	pl.all.mu.Lock()
	defer pl.all.mu.Unlock()
	if !pl.gone {
		pl.all.drop(pl)
		pl.all.admit()
	}
}

// Watch lets others take the place over from now on, whenever its holder does not
// Move. Then revoke is called, once; it must end the use of the place.
func (pl *Place[K]) Watch(now time.Time, revoke func()) {
	pl.all.mu.Lock()
	defer pl.all.mu.Unlock()
	if pl.gone {
		return
	}
	pl.moved, pl.revoke = now, revoke
	if pl.all.watched == nil {
		pl.all.watched = map[*Place[K]]struct{}{}
	}
	pl.all.watched[pl] = struct{}{}
}

// Move notes that the place is in use, and reports whether its holder still has it.
func (pl *Place[K]) Move(now time.Time) bool {
	pl.all.mu.Lock()
	defer pl.all.mu.Unlock()
	pl.moved = now
	return !pl.gone
}

func decrement[K comparable](m map[K]int, key K) {
	if m[key]--; m[key] == 0 {
		delete(m, key)
	}
}
