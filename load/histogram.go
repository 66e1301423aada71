package load

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Durations are counted in buckets, three for each doubling: a quantile is right to about
// an eighth. The first bucket has what is shorter than shortest, the last what is
// longer than longest.
const (
	perDoubling = 3
	doublings   = 20
	buckets     = perDoubling*doublings + 2
	shortest    = time.Duration(1) << shortestBits // 33 µs
	// shortestBits is the number of bits of a nanosecond count below shortest.
	shortestBits = 15
)

// Longest is the duration from which on all count alike, about 34 s.
const Longest = shortest << doublings

// Histogram counts durations.
type Histogram [buckets]uint32

// counters are a Histogram that several goroutines count in.
type counters [buckets]atomic.Uint32

// bucket returns the bucket of a duration.
func bucket(d time.Duration) int {
	if d < shortest {
		return 0
	}
	double := bits.Len64(uint64(d)) - shortestBits - 1
	if double >= doublings {
		return buckets - 1
	}
	// Where in its doubling: the cube roots of 2 and 4, in 1,024ths.
	const third, twoThirds = 1290, 1625
	part := 0
	switch within := d >> (double + shortestBits - 10); { //nolint:mnd // 1,024 is 2^10
	case within >= twoThirds:
		part = 2
	case within >= third:
		part = 1
	}
	return 1 + double*perDoubling + part
}

// upper returns where a bucket ends.
func upper(i int) time.Duration {
	return time.Duration(float64(shortest) * math.Exp2(float64(i)/perDoubling))
}

func (c *counters) count(d time.Duration) { c[bucket(d)].Add(1) }

// drain moves the counts into a Histogram.
func (c *counters) drain(to *Histogram) {
	for i := range c {
		if c[i].Load() != 0 { // most are
			to[i] += c[i].Swap(0)
		}
	}
}

func (h *Histogram) add(o *Histogram) {
	for i, n := range o {
		h[i] += n
	}
}

// Total returns how many durations were counted.
func (h *Histogram) Total() (n uint64) {
	for _, one := range h {
		n += uint64(one)
	}
	return n
}

// Quantile returns the duration that a part q, from 0 to 1, of all durations did not
// exceed: 0 if there are none, Longest if it is at least that.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Total()
	if total == 0 {
		return 0
	}
	rank := max(uint64(math.Ceil(q*float64(total))), 1)
	for i, n := range h {
		if uint64(n) < rank {
			rank -= uint64(n)
			continue
		}
		if i == buckets-1 {
			return Longest
		}
		lower := time.Duration(0)
		if i > 0 {
			lower = upper(i - 1)
		}
		// Those of a bucket are taken to lie in it at equal distances.
		return lower + time.Duration(float64(upper(i)-lower)*float64(rank)/float64(n))
	}
	return Longest
}
