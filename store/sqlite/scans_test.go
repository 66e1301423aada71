package sqlite

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"nestbox/internal/gate"
)

// TestScansOfAnAccount: however many scans of an account there are, one of another
// has a place; a scan that gives up waiting leaves nothing behind.
func TestScansOfAnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s gate.Places[int64]
		const waiting = 5
		ends, ran := make(chan struct{}), make(chan struct{}, waiting)
		ctx, stop := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		for range waiting {
			go func() {
				place, err := takeScan(t.Context(), &s, 1)
				if err != nil {
					t.Error(err)
					return
				}
				ran <- struct{}{}
				<-ends
				place.Leave()
			}()
		}
		synctest.Wait()
		go func() {
			_, err := takeScan(ctx, &s, 1)
			gone <- err
		}()
		synctest.Wait()
		if len(ran) != 1 || s.Held() != 1 {
			t.Errorf("%d of one account run, %d places are taken", len(ran), s.Held())
		}
		stop()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		place, err := takeScan(t.Context(), &s, 2)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop = context.WithCancel(t.Context())
		stop()
		if _, err := takeScan(ctx, &s, 3); !errors.Is(err, context.Canceled) {
			t.Errorf("a third: %v", err)
		}
		place.Leave()
		close(ends)
		synctest.Wait()
		if len(ran) != waiting || s.Held() != 0 || s.Waiting() != 0 {
			t.Errorf("%d ran, %d places are taken, %d wait", len(ran), s.Held(), s.Waiting())
		}
		for range scanners {
			if _, err := takeScan(t.Context(), &s, 0); err != nil {
				t.Error(err)
			}
		}
	})
}
