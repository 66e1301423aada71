package sqlite

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// TestScansOfAnAccount: however many scans of an account there are, one of another
// has a place; who gives up waiting leaves nothing behind.
func TestScansOfAnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScans()
		const waiting = 5
		ends, ran := make(chan struct{}), make(chan struct{}, waiting)
		ctx, stop := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		for range waiting {
			go func() {
				give, err := s.take(t.Context(), 1)
				if err != nil {
					t.Error(err)
					return
				}
				ran <- struct{}{}
				<-ends
				give()
			}()
		}
		synctest.Wait()
		go func() {
			_, err := s.take(ctx, 1)
			gone <- err
		}()
		synctest.Wait()
		if len(ran) != 1 || len(s.free) != 1 {
			t.Errorf("%d of one account run, %d places are taken", len(ran), len(s.free))
		}
		stop()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		give, err := s.take(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop = context.WithCancel(t.Context())
		stop()
		if _, err := s.take(ctx, 3); !errors.Is(err, context.Canceled) {
			t.Errorf("a third: %v", err)
		}
		give()
		close(ends)
		synctest.Wait()
		if len(ran) != waiting || len(s.free) != 0 || len(s.of) != 0 {
			t.Errorf("%d ran, %d places are taken, %d accounts are known", len(ran), len(s.free), len(s.of))
		}
		for range scanners {
			if _, err := s.take(t.Context(), 0); err != nil {
				t.Error(err)
			}
		}
	})
}
