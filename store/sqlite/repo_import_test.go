package sqlite

import (
	"math"
	"testing"
)

// TestHashRanges: each hash is in exactly one of the parts, which are of about
// the same size.
func TestHashRanges(t *testing.T) {
	for _, n := range []int64{1, 2, 3, 4, 5, 7, 8, 100, 1001} {
		next, parts := int64(math.MinInt64), int64(0)
		for low, high := range hashRanges(n) {
			if low != next || high < low {
				t.Errorf("%d parts: part %d is from %d to %d, want it from %d", n, parts, low, high, next)
			}
			if size, fair := uint64(high)-uint64(low), math.MaxUint64/uint64(n); size < fair-1 || size > fair && size-fair > uint64(n) {
				t.Errorf("%d parts: part %d has %d hashes, want %d", n, parts, size, fair)
			}
			next = high + 1
			parts++
		}
		if parts != n || next != math.MinInt64 {
			t.Errorf("%d parts: %d of them, the last one ends before %d", n, parts, next)
		}
	}
}
