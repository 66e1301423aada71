package repo

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"nestbox/repo/mst"
)

// TestLock: one writer at a time for an account, other accounts beside it; a waiting
// caller can leave, and nothing is kept of an account that nobody writes to.
func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Service
		lock := func(ctx context.Context, id int64) func() {
			unlock, err := s.lock(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			return unlock
		}
		first := lock(t.Context(), 1)
		other := lock(t.Context(), 2)

		leaving, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := s.lock(leaving, 1)
			left <- err
		}()
		in := 0
		for range 3 {
			go func() {
				unlock, err := s.lock(t.Context(), 1)
				if err != nil {
					t.Error(err)
					return
				}
				in++ // the race detector sees two at the same time
				unlock()
			}()
		}
		synctest.Wait()
		if in != 0 {
			t.Fatal("two hold one lock")
		}
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left: %v", err)
		}
		first()
		synctest.Wait()
		if in != 3 {
			t.Errorf("%d of 3 got the lock", in)
		}
		other()
		if n := s.writing.Len(); n != 0 {
			t.Errorf("%d locks are kept", n)
		}
	})
}

// TestRemembered: a bounded number of accounts is remembered, the last one among
// them.
func TestRemembered(t *testing.T) {
	var m memory
	for id := range int64(maxRemembered + 50) {
		tree := mst.NewTree(1)
		tree.Flush()
		m.keep(id, Head{Number: id}, tree, "")
		if n := len(m.of); n > maxRemembered {
			t.Fatalf("of %d accounts", n)
		}
		if id%2 == 0 {
			continue
		}
		if r := m.take(id); r == nil || r.head.Number != id {
			t.Errorf("of %d: %v", id, r)
		}
		if m.take(id) != nil {
			t.Errorf("%d is taken twice", id)
		}
	}
}
