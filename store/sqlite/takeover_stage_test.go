package sqlite_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"nestbox/store/sqlite"
	"nestbox/takeover"
)

// TestTakeoverStage: a take-over that was begun goes on with its own source only, and what it has
// come to can be read by others.
func TestTakeoverStage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	s, err := sqlite.OpenTakeover(t.Context(), path, func(context.Context) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		source string
		want   error
	}{{"/pds", nil}, {"/pds", nil}, {"/other", takeover.ErrOtherSource}} {
		stage, err := s.Begin(t.Context(), c.source, began)
		if !errors.Is(err, c.want) || err == nil && (!stage.Began.Equal(began) || !stage.Finished.IsZero()) {
			t.Errorf("%s: %+v, %v, want %v", c.source, stage, err, c.want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	stage, source, err := sqlite.TakenOver(t.Context(), path)
	if err != nil || source != "/pds" || !stage.Began.Equal(began) || !stage.Finished.IsZero() {
		t.Errorf("%+v of %q, %v", stage, source, err)
	}
}
