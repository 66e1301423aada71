package groupcommit_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nestbox/store/sqlite/groupcommit"
)

// visits lets callers return again and again, a little after one another, and
// returns how many commits they made and how long they took.
func visits(t *testing.T, callers, rounds int) (commits int64, took time.Duration) {
	t.Helper()
	f := open(t, groupcommit.Options{})
	defer func() { _ = f.Close() }() // within the bubble
	begun := time.Now()
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for r := range rounds {
				if err := f.Do(t.Context(), insert(r*callers+c+1)); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Duration(c) * 10 * time.Microsecond)
			}
		})
	}
	all.Wait()
	if got := len(f.rows(t)); got != callers*rounds {
		t.Errorf("%d rows, want %d", got, callers*rounds)
	}
	return f.commits.Load(), time.Since(begun)
}

// TestGather: callers who were answered together and come again, each at a
// moment of its own, share their next commit. In a bubble a commit takes no
// time, so that without waiting for company each would have its own.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers, rounds = 32, 10
		commits, took := visits(t, callers, rounds)
		if commits > 2*rounds {
			t.Errorf("%d commits for %d rounds of %d callers", commits, rounds, callers)
		}
		if took > 2*rounds*time.Millisecond {
			t.Errorf("%v: they waited for more than a millisecond a round", took)
		}
	})
}

// TestNoGather: if there are few callers, none waits for others.
func TestNoGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, took := visits(t, 3, 100); took != 100*2*10*time.Microsecond {
			t.Errorf("%v: longer than the slowest of them slept", took)
		}
	})
}
