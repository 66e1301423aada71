// Package pause lets background work wait.
package pause

import (
	"context"
	"time"
)

// For returns true after d, false when ctx ends first.
func For(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
