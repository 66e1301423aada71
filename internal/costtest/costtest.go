// Package costtest is for tests that a cost follows the size of its input: a
// parser of foreign bytes must not cost more if they repeat, share or nest.
package costtest

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// factor is how many times the cost of n an input of 2n may cost.
	factor = 2.5
	// slackTime and slackMemory are costs that depend on no input. Below them
	// nothing is compared.
	slackTime   = 10 * time.Millisecond
	slackMemory = 256 << 10
	// maxHeap is the heap at which the collector runs nevertheless, in bytes.
	maxHeap = 1 << 30
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
	// The collector runs between what is measured: within, how often it does follows the
	// machine's other work.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(maxHeap))
	small, large := memory(once), memory(twice)
	if limit := slackMemory + int64(factor*float64(small)); large > limit {
		t.Errorf("an input of %d takes %d bytes of memory, one of %d takes %d; the limit is %d", n, small, 2*n, large, limit)
	}
	a, b := best(t, once), best(t, twice)
	for range rounds {
		a, b = min(a, best(t, once)), min(b, best(t, twice))
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
func best(t *testing.T, run func()) time.Duration {
	t.Helper()
	shortest := time.Duration(1<<63 - 1)
	for range runs {
		runtime.GC()
		began := CPU(t)
		run()
		shortest = min(shortest, CPU(t)-began)
	}
	return shortest
}

// CPU returns the processor time that the program took so far: what other programs take
// is not in it.
func CPU(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}
