package firehose

import (
	"context"
	"log/slog"
	"time"

	"nestbox/internal/pause"
)

const (
	pruneEvery = time.Minute
	// prunePause lets the writers that waited for one step go on before the next.
	prunePause = 10 * time.Millisecond
)

// Retention keeps the log within bounds of age and size, and removes from it what
// it holds of deleted accounts.
type Retention struct {
	Log      Log
	Age      time.Duration
	MaxBytes int64
	Logger   *slog.Logger
	Now      func() time.Time
	// Doubt returns an error while Now cannot be trusted: then no event is old enough. If
	// it is nil, Now is always trusted.
	Doubt func() error
}

// Run prunes the log every minute, in steps that hold up nobody, until ctx ends.
func (r *Retention) Run(ctx context.Context) {
	for {
		removed, err := r.prune(ctx)
		if err != nil && ctx.Err() == nil {
			r.Logger.LogAttrs(ctx, slog.LevelError, "pruning the event log failed", slog.String("cause", err.Error()))
		}
		if removed > 0 {
			r.Logger.LogAttrs(ctx, slog.LevelInfo, "event log pruned", slog.Int("removed", removed))
		}
		if err := r.forget(ctx); err != nil && ctx.Err() == nil {
			r.Logger.LogAttrs(ctx, slog.LevelError, "removing events of deleted accounts failed", slog.String("cause", err.Error()))
		}
		if !pause.For(ctx, pruneEvery) {
			return
		}
	}
}

func (r *Retention) forget(ctx context.Context) error {
	for {
		more, err := r.Log.Forget(ctx)
		if err != nil || !more || !pause.For(ctx, prunePause) {
			return err
		}
	}
}

func (r *Retention) prune(ctx context.Context) (removed int, err error) {
	keep := r.Now().Add(-r.Age)
	if r.Doubt != nil && r.Doubt() != nil {
		keep = time.Time{}
	}
	for {
		n, err := r.Log.Prune(ctx, keep, r.MaxBytes)
		removed += n
		if err != nil || n == 0 || !pause.For(ctx, prunePause) {
			return removed, err
		}
	}
}
