// Package ratelimit counts attempts in fixed windows and refuses them when there were
// too many. It knows no domain: a key is any string.
//
// Invariants:
//   - Memory is bounded by maxBuckets of New, whatever keys an attacker invents.
//   - A point is taken before the attempt and given back if it does not count, so
//     that parallel attempts cannot pass a limit together.
package ratelimit

import (
	"hash/maphash"
	"net/http"
	"strconv"
	"sync"
	"time"

	"nestbox/internal/tally"
)

// Limit allows so many points in a window of time.
type Limit struct {
	// Name keeps the buckets of different limits apart.
	Name   string
	Points int
	Window time.Duration
}

// Result is the limits' answer to one attempt. Of several limits it shows the one
// that refused, else the one with the least left.
type Result struct {
	Allowed   bool
	Limit     Limit
	Remaining int
	Reset     time.Time
}

// RetryAfter returns how long a refused caller should wait.
func (r Result) RetryAfter(now time.Time) time.Duration {
	return max(r.Reset.Sub(now), time.Second)
}

// SetHeaders writes RateLimit-Limit, -Remaining, -Reset (epoch seconds, as the
// reference PDS) and -Policy, unless h already has those of a limit with less left:
// of all limits that count a request, clients see the one that they will reach first.
func (r Result) SetHeaders(h http.Header) {
	if shown := h["Ratelimit-Remaining"]; r.Allowed && len(shown) > 0 {
		if left, err := strconv.Atoi(shown[0]); err == nil && left < r.Remaining {
			return
		}
	}
	reset := r.Reset.Unix()
	if r.Reset.Nanosecond() > 0 {
		reset++
	}
	h.Set("RateLimit-Limit", strconv.Itoa(r.Limit.Points))
	h.Set("RateLimit-Remaining", strconv.Itoa(max(r.Remaining, 0)))
	h.Set("RateLimit-Reset", strconv.FormatInt(reset, 10))
	h.Set("RateLimit-Policy", strconv.Itoa(r.Limit.Points)+";w="+strconv.Itoa(int(r.Limit.Window/time.Second)))
}

// DefaultMaxBuckets bounds the buckets of a Limiter; one takes about 150 bytes.
const DefaultMaxBuckets = 200_000

const shards = 16

// Limiter holds the buckets. It is safe for concurrent use; a nil Limiter
// allows everything.
type Limiter struct {
	now    func() time.Time
	seed   maphash.Seed
	perMap int
	shards [shards]shard
	// refused counts refusals by the name of the limit.
	refused tally.Words
}

type shard struct {
	mu      sync.Mutex
	buckets map[bucketKey]bucket
}

type bucketKey struct{ limit, key string }

type bucket struct {
	used  int
	reset time.Time
}

// New returns a Limiter with room for maxBuckets.
func New(maxBuckets int, now func() time.Time) *Limiter {
	l := &Limiter{now: now, seed: maphash.MakeSeed(), perMap: max(maxBuckets/shards, 1)}
	for i := range l.shards {
		l.shards[i].buckets = map[bucketKey]bucket{}
	}
	return l
}

// Now returns the time by the limiter's clock.
func (l *Limiter) Now() time.Time { return l.now() }

// Key is a name that attempts are counted under. A wide key, which covers several
// others, has Times the points of each limit.
type Key struct {
	Name  string
	Times int
}

// Take takes one point of each limit's bucket for key, or none at all when one
// of them is empty.
func (l *Limiter) Take(key string, limits ...Limit) Result { return l.TakeN(key, 1, limits...) }

// TakeN is Take of n points, for an attempt that weighs more than others under the
// same limits. It takes none if one of the buckets has fewer left.
func (l *Limiter) TakeN(key string, n int, limits ...Limit) Result {
	return l.TakeKeys([]Key{{key, 1}}, n, limits...)
}

// TakeKeys is TakeN for an attempt that is counted under several keys.
func (l *Limiter) TakeKeys(keys []Key, n int, limits ...Limit) Result {
	worst := Result{Allowed: true, Remaining: int(^uint(0) >> 1)}
	if l == nil {
		return worst
	}
	now := l.now()
	for i, key := range keys {
		for j, limit := range limits {
			limit.Points *= key.Times
			r := l.take(bucketKey{limit.Name, key.Name}, n, limit, now)
			if !r.Allowed {
				l.giveBackKeys(keys[:i], n, limits)
				l.giveBackKeys(keys[i:i+1], n, limits[:j])
				l.refused.Add(limit.Name, 1)
				return r
			}
			if r.Remaining < worst.Remaining {
				worst = r
			}
		}
	}
	return worst
}

// Refused returns how many attempts were refused since the start, by the name of the limit.
func (l *Limiter) Refused() map[string]uint64 {
	if l == nil {
		return nil
	}
	return l.refused.Counts()
}

// Look returns what Take of one limit would, and takes nothing.
func (l *Limiter) Look(key string, limit Limit) Result {
	r := Result{Allowed: true, Limit: limit, Remaining: limit.Points}
	if l == nil {
		return r
	}
	k := bucketKey{limit.Name, key}
	s := l.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.buckets[k]; ok && l.now().Before(b.reset) {
		r.Reset, r.Remaining = b.reset, limit.Points-b.used
		r.Allowed = r.Remaining > 0
	}
	return r
}

// GiveBack returns the points that a Take with the same arguments took.
func (l *Limiter) GiveBack(key string, limits ...Limit) {
	l.GiveBackKeys([]Key{{key, 1}}, 1, limits...)
}

// GiveBackKeys returns the points that a TakeKeys with the same arguments took.
func (l *Limiter) GiveBackKeys(keys []Key, n int, limits ...Limit) {
	if l != nil {
		l.giveBackKeys(keys, n, limits)
	}
}

func (l *Limiter) giveBackKeys(keys []Key, n int, limits []Limit) {
	for _, key := range keys {
		for _, limit := range limits {
			l.giveBack(bucketKey{limit.Name, key.Name}, n)
		}
	}
}

func (l *Limiter) shard(k bucketKey) *shard {
	return &l.shards[maphash.String(l.seed, k.limit+"\x00"+k.key)%shards]
}

func (l *Limiter) take(k bucketKey, n int, limit Limit, now time.Time) Result {
	s := l.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[k]
	if !ok || !now.Before(b.reset) {
		if !ok {
			s.makeRoom(l.perMap, now)
		}
		b = bucket{reset: now.Add(limit.Window)}
	}
	r := Result{Limit: limit, Reset: b.reset}
	if b.used+n <= limit.Points {
		b.used += n
		r.Allowed = true
	}
	r.Remaining = limit.Points - b.used
	s.buckets[k] = b
	return r
}

func (l *Limiter) giveBack(k bucketKey, n int) {
	s := l.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.buckets[k]; ok && b.used > 0 {
		b.used = max(b.used-n, 0)
		s.buckets[k] = b
	}
}

// makeRoom drops the expired buckets of a full shard. If that is not enough it drops an
// eighth of all, each the least used of a sample: an attacker that floods the shard with
// keys pushes out its own buckets of one attempt, not the victim's near its limit.
func (s *shard) makeRoom(limit int, now time.Time) {
	if len(s.buckets) < limit {
		return
	}
	for k, b := range s.buckets {
		if !now.Before(b.reset) {
			delete(s.buckets, k)
		}
	}
	const sample = 32
	for len(s.buckets) >= max(limit-limit/8, 1) {
		var least bucketKey
		fewest, seen := int(^uint(0)>>1), 0
		for k, b := range s.buckets {
			if b.used < fewest {
				least, fewest = k, b.used
			}
			if seen++; seen == sample {
				break
			}
		}
		delete(s.buckets, least)
	}
}
