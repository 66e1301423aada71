package pause_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"nestbox/internal/pause"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if !pause.For(t.Context(), time.Hour) || time.Since(begun) != time.Hour {
			t.Errorf("an hour took %v", time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun = time.Now()
		if pause.For(ctx, time.Hour) || time.Since(begun) != time.Minute {
			t.Errorf("a context of a minute let it wait %v", time.Since(begun))
		}
	})
}
