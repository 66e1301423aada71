// Package costtest is for tests that a cost follows the size of its input: a
// parser of foreign bytes must not cost more if they repeat, share or nest.
package costtest

import (
	"runtime"
	"testing"
	"time"
)

const (
	// factor is how many times the cost of n an input of 2n may cost.
	factor = 2.5
	// slackTime and slackMemory are costs that depend on no input. Below them
	// nothing is compared.
	slackTime   = 10 * time.Millisecond
	slackMemory = 256 << 10
	// runs is how often a size is measured at most; the best run counts. Other work
	// on the machine makes a run slower, never faster.
	runs = 5
	// rounds is how often a ratio that is too high is measured again. The best runs of
	// all rounds are compared, so that a busy machine needs more rounds, not luck.
	rounds = 20
)

// Linear fails the test unless an input of size 2n takes at most 2.5 times the
// time, and the memory in bytes allocated, of one of size n. prepare makes an
// input of a size and returns what is measured.
func Linear(t *testing.T, n int, prepare func(n int) (run func())) {
	t.Helper()
	once, twice := prepare(n), prepare(2*n)
	small, large := memory(once), memory(twice)
	if limit := slackMemory + int64(factor*float64(small)); large > limit {
		t.Errorf("an input of %d takes %d bytes of memory, one of %d takes %d; the limit is %d", n, small, 2*n, large, limit)
	}
	a, b := best(once), best(twice)
	for range rounds {
		a, b = min(a, best(once)), min(b, best(twice))
		if b <= slackTime+time.Duration(factor*float64(a)) {
			return
		}
	}
	t.Errorf("an input of %d takes %v, one of %d takes %v: more than %v times as much", n, a, 2*n, b, factor)
}

// memory returns how many bytes run allocates.
func memory(run func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc) //nolint:gosec // what a test allocates
}

// best returns the shortest time of some runs.
func best(run func()) time.Duration {
	shortest := time.Duration(1<<63 - 1)
	for range runs {
		began := time.Now()
		run()
		shortest = min(shortest, time.Since(began))
	}
	return shortest
}
