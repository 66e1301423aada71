package repo

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// NextTID returns the TID (https://atproto.com/specs/tid) of now, or, where that
// does not come after last, the next one that does: a clock that jumps back, or
// two commits in one microsecond, make no revision that descends. clock tells
// processes apart that make TIDs at the same time, from 0 to 1023; last is empty
// where there is none.
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

// nextRev is NextTID for a commit, unless the clock is not to be trusted.
func (s *Service) nextRev(now time.Time, last syntax.TID) (syntax.TID, error) {
	if s.Clock != nil {
		if err := s.Clock(); err != nil {
			return "", err
		}
	}
	return NextTID(now, s.ClockID, last), nil
}
