package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// compareWait bounds how long a start waits for the list of a chain. If that is not enough, the
// chain is compared ahead of the first segment that is sent.
const compareWait = 5 * time.Second

// ErrParted: the store's part of a chain differs from what was sent. The data directory was put back to
// an earlier state, or the store is another one, or lost something.
var ErrParted = errors.New("the log in the store is not the one that this server has sent")

// compare compares the store's part of the chain with what was sent: ErrParted. It only lists, so
// it needs no permission to read. Nothing may be sent meanwhile.
func (s *Segments) compare(ctx context.Context) error {
	s.mu.Lock()
	chain := s.kept.Chain
	s.mu.Unlock()
	if chain == "" {
		return nil
	}
	there, err := readChain(ctx, s.service.Depot, chain)
	if err != nil {
		return err
	}
	names, err := Names(ctx, s.service.Depot)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept.Chain != chain {
		return nil
	}
	own, err := s.service.remembered()
	if s.kept.Based && (err != nil || len(names) == 0 || names[latest(names, s.service.Now())] != own.Name) {
		return fmt.Errorf("%w: its newest snapshot is not the one that this server made last", ErrParted)
	}
	for _, seg := range s.queue {
		if seg.Chain == chain && !slices.ContainsFunc(there.segments, func(o Segment) bool { return o.Name == seg.Name }) {
			there.segments = append(there.segments, seg)
		}
	}
	there.sort()
	from := int64(0) // what is older may have been removed because of its age
	switch {
	case err == nil && own.Chain == chain:
		from = own.Segment
	case len(there.segments) > 0:
		from = there.segments[0].Index - 1
	}
	return s.kept.match(&there, from)
}

// match returns ErrParted unless the segments behind one of an index lead to the mark.
func (k *kept) match(there *chainLog, from int64) error {
	run, gap := there.after(from)
	last, sum := from, k.Prev
	if n := len(run); n > 0 {
		last, sum = run[n-1].Index, run[n-1].sum
	} else if i := slices.IndexFunc(there.segments, func(s Segment) bool { return s.Index == from }); i >= 0 {
		sum = there.segments[i].sum
	}
	switch {
	case gap != "":
		return fmt.Errorf("%w: %s", ErrParted, gap)
	case last < k.Segment:
		return fmt.Errorf("%w: segment %d of the log %s is missing", ErrParted, last+1, k.Chain)
	case last > k.Segment || !strings.HasPrefix(sum, k.Prev):
		return fmt.Errorf("%w: another one has written segment %d of the log %s", ErrParted, last, k.Chain)
	}
	return nil
}

// compareFirst compares the chain at the start, and forgets it if nothing may follow it.
func (s *Segments) compareFirst(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, compareWait)
	defer cancel()
	switch err := s.compare(ctx); {
	case errors.Is(err, ErrParted):
		s.log().LogAttrs(ctx, slog.LevelWarn, "the log is not followed where it was left: a snapshot is made, from which it goes on",
			slog.String("cause", err.Error()))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(s.kept.Chain)
		s.kept = kept{}
	case err != nil:
		s.log().LogAttrs(ctx, slog.LevelWarn, "the log was not compared with the store yet: it is before more of it is sent",
			slog.String("cause", err.Error()))
		s.unsure = true
	}
}

// compareLate compares the chain if the start could not, and ends it if nothing may follow it. The
// caller has locked sending.
func (s *Segments) compareLate(ctx context.Context) error {
	if !s.unsure {
		return nil
	}
	s.mu.Lock()
	chain := s.kept.Chain
	s.mu.Unlock()
	switch err := s.compare(ctx); {
	case errors.Is(err, ErrParted):
		if err := s.Part(ctx, chain, err); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	s.unsure = false
	return nil
}

// Part ends a chain, if it is followed, because what the store has of it leads nowhere: the next
// snapshot begins another one.
func (s *Segments) Part(ctx context.Context, chain string, cause error) error {
	s.mu.Lock()
	follows := chain != "" && s.kept.Chain == chain
	s.mu.Unlock()
	if !follows {
		return nil
	}
	if err := s.db.Unfollow(ctx, cause); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(chain)
	return nil
}
