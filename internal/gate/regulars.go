package gate

import (
	"sync"
	"time"
)

const (
	// seasoned is how long after its first visit a key is a regular, if it comes
	// again: an attacker must prepare that long, and be seen.
	seasoned = 10 * time.Minute
	// rememberedFor is how long a regular may stay away.
	rememberedFor = 30 * 24 * time.Hour
	// maxRegulars bounds the regulars, and as many newcomers.
	maxRegulars = 10_000
	// sampled is how many keys are compared to find one to forget.
	sampled = 32
)

// Regulars are the keys that came here before. Newcomers, however many, never push
// a regular out.
type Regulars[K comparable] struct {
	mu        sync.Mutex
	newcomers map[K]time.Time // the first visit
	regulars  map[K]time.Time // the last visit
}

// Came notes a successful visit.
func (r *Regulars[K]) Came(key K, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newcomers == nil {
		r.newcomers, r.regulars = map[K]time.Time{}, map[K]time.Time{}
	}
	first, seen := r.newcomers[key]
	_, regular := r.regulars[key]
	switch {
	case regular:
		r.regulars[key] = now
	case !seen:
		forget(r.newcomers)
		r.newcomers[key] = now
	case now.Sub(first) >= seasoned:
		delete(r.newcomers, key)
		forget(r.regulars)
		r.regulars[key] = now
	}
}

// Is reports whether key first came at least seasoned ago, and has come again
// since.
func (r *Regulars[K]) Is(key K, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.regulars[key]
	return ok && now.Sub(last) < rememberedFor
}

// forget makes room for one if there are too many: it drops the oldest of a
// sample.
func forget[K comparable](visits map[K]time.Time) {
	if len(visits) < maxRegulars {
		return
	}
	var oldest K
	var at time.Time
	seen := 0
	for key, t := range visits {
		if seen == 0 || t.Before(at) {
			oldest, at = key, t
		}
		if seen++; seen == sampled {
			break
		}
	}
	delete(visits, oldest)
}
