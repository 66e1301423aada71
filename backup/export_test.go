package backup

import (
	"context"
	"time"
)

// SetMost bounds what waits, in bytes.
func (s *Segments) SetMost(n int64) { s.most = n }

// Latest returns the newest snapshot that is not younger than now, or, if all are, the newest.
func Latest(ctx context.Context, d Depot, now time.Time) (*Manifest, error) {
	return youngest(ctx, d, time.Time{}, now)
}

// Pick returns the newest snapshot that is not younger than at, or than now if that is zero.
func Pick(ctx context.Context, d Depot, at time.Time) (*Manifest, error) {
	return youngest(ctx, d, at, time.Now())
}

func youngest(ctx context.Context, d Depot, at, now time.Time) (*Manifest, error) {
	names, err := candidates(ctx, d, at, now)
	if err != nil {
		return nil, err
	}
	return Load(ctx, d, names[len(names)-1])
}
