package blob

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

const (
	// collectEvery is how often Run collects.
	collectEvery = 10 * time.Minute
	// abandoned is how long an upload may take from its last byte to its entry in the
	// store. After that its file is garbage.
	abandoned = time.Hour
	// garbageAtOnce is how many files are removed between two calls of the store.
	garbageAtOnce = 200
)

// Run collects from time to time until ctx ends.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		if err := s.Collect(ctx); err != nil && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, slog.LevelError, "collecting blobs failed", slog.String("cause", err.Error()))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Collect forgets the blobs that nobody needs any more, and then removes the files
// that belong to none. It may be interrupted anywhere: a file is removed after its
// blob was forgotten, and its key is forgotten after it was removed, so the next
// Collect finds what one left. While the clock cannot be trusted it does nothing, and while
// HoldFiles holds the files it removes none.
func (s *Service) Collect(ctx context.Context) error {
	now := s.Now()
	if s.Doubt != nil && s.Doubt() != nil {
		return nil //nolint:nilerr // the clock's own worker reports it
	}
	for more := true; more; {
		var err error
		if _, more, err = s.Store.Collect(ctx, now.Add(-s.Unused), now.Add(-s.Unreferenced)); err != nil {
			return err
		}
	}
	var failed []error
	for after, more := "", true; more; {
		last, first, err := s.removeSome(ctx, now, after)
		if first != nil {
			failed = append(failed, first)
		}
		if err != nil {
			return errors.Join(errors.Join(failed...), err)
		}
		after, more = last, last != ""
	}
	return errors.Join(failed...)
}

// removeSome removes some files that belong to no blob, with keys above after, and returns
// the last key, empty at the end or while the files are held. failed is why a file could not
// be removed.
func (s *Service) removeSome(ctx context.Context, now time.Time, after string) (last string, failed, err error) {
	if !s.kept.TryLock() {
		return "", nil, nil
	}
	defer s.kept.Unlock()
	keys, err := s.Store.Garbage(ctx, now.Add(-abandoned), after, garbageAtOnce)
	if err != nil || len(keys) == 0 {
		return "", nil, err
	}
	last = keys[len(keys)-1]
	removed := keys[:0]
	for _, key := range keys {
		if err := s.Files.Remove(ctx, key); err == nil {
			removed = append(removed, key)
		} else if failed == nil {
			failed = err
		}
	}
	return last, failed, s.Store.Forget(ctx, removed)
}

// HoldFiles keeps the file of every blob that there is, or will be, until release is called:
// a backup copies them after it has chosen its state of the store. Uploads go on, and blobs
// are forgotten, but no file is removed.
func (s *Service) HoldFiles() (release func()) {
	s.kept.RLock()
	return s.kept.RUnlock
}
