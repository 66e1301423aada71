package identity

import (
	"context"
	"fmt"
	"testing"
)

// TestWork: each purpose has its room, each network a part of it, and what has ended
// takes none.
func TestWork(t *testing.T) {
	w := newWork(nil)
	end := make(chan struct{})
	defer w.close()
	start := func(p purpose, network string) bool {
		return w.start(p, network, func(ctx context.Context) {
			select {
			case <-end:
			case <-ctx.Done():
			}
		})
	}
	for _, c := range []struct {
		why            purpose
		all, ofNetwork int
	}{{forAnybody, 256, 16}, {forProof, 256, 64}, {forOwner, 256, 64}, {forRenewal, 128, 128}} {
		for i := range c.all {
			if network := fmt.Sprint(i / c.ofNetwork); !start(c.why, network) {
				t.Fatalf("purpose %d, network %s: question %d was refused", c.why, network, i)
			}
			if i == c.ofNetwork-1 && c.ofNetwork < c.all && start(c.why, "0") {
				t.Errorf("purpose %d: more than %d of one network", c.why, c.ofNetwork)
			}
		}
		for _, network := range []string{"another", ""} {
			if start(c.why, network) {
				t.Errorf("purpose %d: more than %d", c.why, c.all)
			}
		}
	}
	close(end)
	w.wg.Wait()
	for p, running := range w.running {
		if running.all != 0 || len(running.networks) != 0 {
			t.Errorf("purpose %d: %+v is left", p, running)
		}
	}
	// What counts for no network has all of the room.
	end = make(chan struct{})
	defer close(end)
	for i := range 17 {
		if !start(forAnybody, "") {
			t.Errorf("question %d of no network was refused", i)
		}
	}
}
