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

// sight is what a server knows of the chain that it follows, and what the store has of it.
type sight struct {
	kept   kept
	own    *Manifest // the snapshot that the server made last, nil if that is not known
	newest string    // names the store's newest snapshot, empty if it has none
	there  chainLog  // of the chain, with what waits to be sent
}

// look lists what the store has. Without a chain the result is empty. It needs no permission to read.
func (s *Segments) look(ctx context.Context) (out sight, err error) {
	// In this order: more may be sent, and a snapshot made, while the store is listed.
	own, err := s.service.remembered()
	if err == nil {
		out.own = own
	}
	s.mu.Lock()
	out.kept = s.kept
	queue := slices.Clone(s.queue)
	s.mu.Unlock()
	if out.kept.Chain == "" {
		return sight{}, nil
	}
	if out.there, err = readChain(ctx, s.service.Depot, out.kept.Chain); err != nil {
		return sight{}, err
	}
	names, err := Names(ctx, s.service.Depot)
	if err != nil {
		return sight{}, err
	}
	if len(names) > 0 {
		out.newest = names[latest(names, s.service.Now())]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.kept.Chain != out.kept.Chain:
		return sight{}, nil
	case s.kept.Segment != out.kept.Segment: // those that are newer are our own
		out.there.segments = slices.DeleteFunc(out.there.segments, func(o Segment) bool { return o.Index > out.kept.Segment })
	}
	for _, seg := range queue {
		if seg.Chain == out.kept.Chain && !slices.ContainsFunc(out.there.segments, func(o Segment) bool { return o.Name == seg.Name }) {
			out.there.segments = append(out.there.segments, seg)
		}
	}
	out.there.sort()
	return out, nil
}

// leads compares the store's part of the chain with what was sent, from the snapshot on: ErrParted.
// What is older may have been removed because of its age.
func (o *sight) leads() error {
	from := int64(0)
	switch {
	case o.own != nil && o.own.Chain == o.kept.Chain:
		from = o.own.Segment
	case len(o.there.segments) > 0:
		from = o.there.segments[0].Index - 1
	}
	return o.kept.match(&o.there, from)
}

// compare compares the store's part of the chain with the mark: ErrParted. No snapshot may be made meanwhile.
func (s *Segments) compare(ctx context.Context) error {
	seen, err := s.look(ctx)
	if err != nil || seen.kept.Chain == "" {
		return err
	}
	if seen.kept.Based && (seen.own == nil || seen.newest != seen.own.Name) {
		return fmt.Errorf("%w: its newest snapshot is not the one that this server made last", ErrParted)
	}
	return seen.leads()
}

// Check reports whether the store still has the log up to the mark: ErrParted if something is missing
// behind the newest snapshot. hole names what is missing before it, if that is between what the store has.
func (s *Segments) Check(ctx context.Context) (hole string, err error) {
	seen, err := s.look(ctx)
	switch {
	case err != nil, !seen.kept.Based:
		return "", err
	case seen.own != nil && seen.newest < seen.own.Name: // a newer one may have been made meanwhile
		return "", fmt.Errorf("%w: the snapshot that this server made last is missing", ErrParted)
	}
	if err := seen.leads(); err != nil {
		return "", err
	}
	if all := seen.there.segments; len(all) > 0 {
		_, hole = seen.there.after(all[0].Index - 1)
	}
	return hole, nil
}

// Mend is Check, and ends a chain that has parted: the next snapshot, which is due at once, begins
// another one.
func (s *Segments) Mend(ctx context.Context) (hole string, err error) {
	chain := s.chain()
	if hole, err = s.Check(ctx); errors.Is(err, ErrParted) {
		err = errors.Join(err, s.Part(ctx, chain, err))
	}
	return hole, err
}

// chain names the chain that is followed, empty if none is.
func (s *Segments) chain() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept.Chain
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
	chain := s.chain()
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
	if chain == "" || s.chain() != chain {
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
