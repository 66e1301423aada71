package repo

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// NextTID returns the TID (https://atproto.com/specs/tid) of the time now, or, if
// that does not come after last, the next one that does: revisions ascend even if a
// clock jumps back, or two commits fall in one microsecond. clock, from 0 to 1023,
// distinguishes processes that make TIDs at the same time; last is empty if there is
// none.
func NextTID(now time.Time, clock uint, last syntax.TID) syntax.TID {
	micros := now.UnixMicro()
	if last != "" {
		micros = max(micros, last.Time().UnixMicro())
	}
	next := syntax.NewTID(micros, clock)
	if last != "" && next <= last {
		next = syntax.NewTID(micros+1, clock)
	}
	return next
}

// nextRev is NextTID for a commit; it fails while the clock cannot be trusted.
func (s *Service) nextRev(now time.Time, last syntax.TID) (syntax.TID, error) {
	if s.Doubt != nil {
		if err := s.Doubt(); err != nil {
			return "", err
		}
	}
	return NextTID(now, s.ClockID, last), nil
}
