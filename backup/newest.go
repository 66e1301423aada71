package backup

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// RestoreNewest is Restore of the youngest state that can be restored, of all or of those that are not
// younger than to.At. A snapshot that is damaged or missing is left out, as Replay.LeftOut tells: an older
// one and its log are restored. It is an error if the store cannot be read, and ErrNoSnapshot.
func (r *Reader) RestoreNewest(ctx context.Context, to Target) error {
	names, err := candidates(ctx, r.Depot, to.At, time.Now())
	if err != nil {
		return err
	}
	var left leftOut
	begun, then := false, to.Then
	to.Then = func(replay *Replay) error {
		begun = true
		left.note(replay)
		if then == nil {
			return nil
		}
		return then(replay)
	}
	for _, name := range slices.Backward(names) {
		m, err := Load(ctx, r.Depot, name)
		if err == nil {
			err = r.Restore(ctx, m, to)
		}
		switch {
		case err == nil, begun, !harmed(err) && len(left.why) == 0:
			return err
		case !harmed(err):
			return fmt.Errorf("%w; left out was %w", err, left.first)
		}
		left.add(name, err)
	}
	return left.first
}

// leftOut are the snapshots that a restore has left out.
type leftOut struct {
	why   []string
	first error // of the youngest one
	at    time.Time
}

func (l *leftOut) add(name string, harm error) {
	if len(l.why) == 0 {
		l.first = harm
		l.at, _, _ = nameOf(name)
	}
	l.why = append(l.why, fmt.Sprintf("the snapshot %s cannot be used: %v", name, harm))
}

// note tells of them in a state that was restored instead. If that is older, it is a gap.
func (l *leftOut) note(replay *Replay) {
	replay.LeftOut = l.why
	if len(l.why) > 0 && replay.Gap == "" && replay.Later == 0 && replay.At.Before(l.at) {
		replay.Gap = l.why[0]
	}
}
