package reference

import (
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/takeover"
)

// dateLayout is that of the source's times.
const dateLayout = "2006-01-02T15:04:05.000Z"

// errEnough ends a query early.
var errEnough = errors.New("enough rows")

// LastEvent implements takeover.EventSource.
func (s *Source) LastEvent() (last int64, at time.Time, err error) {
	err = s.EventDB.each("SELECT seq, sequencedAt FROM repo_seq ORDER BY seq DESC LIMIT 1", nil, func(r *sqlite.Stmt) error {
		last, at = r.ColumnInt64(0), columnDate(r, 1)
		return nil
	})
	if err != nil {
		return 0, at, err
	}
	err = s.EventDB.each("SELECT seq FROM sqlite_sequence WHERE name = 'repo_seq'", nil, func(r *sqlite.Stmt) error {
		last = max(last, r.ColumnInt64(0))
		return nil
	})
	return last, at, err
}

// FirstKept implements takeover.EventSource.
func (s *Source) FirstKept(since time.Time, maxBytes int64) (first int64, err error) {
	err = s.EventDB.each("SELECT coalesce(min(seq), 0) FROM repo_seq WHERE sequencedAt >= ?",
		func(st *sqlite.Stmt) { st.BindText(1, since.UTC().Format(dateLayout)) },
		func(r *sqlite.Stmt) error { first = r.ColumnInt64(0); return nil })
	if err != nil || first == 0 {
		return 0, err
	}
	bytes, least := int64(0), first
	first = 0
	err = s.EventDB.each("SELECT seq, length(event) FROM repo_seq WHERE seq >= ? ORDER BY seq DESC",
		func(st *sqlite.Stmt) { st.BindInt64(1, least) },
		func(r *sqlite.Stmt) error {
			if bytes += r.ColumnInt64(1); bytes > maxBytes {
				return errEnough
			}
			first = r.ColumnInt64(0)
			return nil
		})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return first, err
}

// Numbers implements takeover.EventSource.
func (s *Source) Numbers(from int64, yield func(int64) error) error {
	return s.EventDB.each("SELECT seq FROM repo_seq WHERE seq >= ? ORDER BY seq", func(st *sqlite.Stmt) { st.BindInt64(1, from) },
		func(r *sqlite.Stmt) error { return yield(r.ColumnInt64(0)) })
}

const eventColumns = "seq, did, eventType, event, invalidated, sequencedAt"

func columnEvent(r *sqlite.Stmt) takeover.SourceEvent {
	return takeover.SourceEvent{
		Seq: r.ColumnInt64(0), DID: r.ColumnText(1), Type: r.ColumnText(2), Body: columnBytes(r, 3),
		Invalidated: r.ColumnBool(4), At: r.ColumnText(5),
	}
}

// Events implements takeover.EventSource.
func (s *Source) Events(from int64, yield func(takeover.SourceEvent) error) error {
	return s.EventDB.each("SELECT "+eventColumns+" FROM repo_seq WHERE seq >= ? ORDER BY seq",
		func(st *sqlite.Stmt) { st.BindInt64(1, from) },
		func(r *sqlite.Stmt) error { return yield(columnEvent(r)) })
}

// LatestOf implements takeover.EventSource.
func (s *Source) LatestOf(did syntax.DID) (last takeover.SourceEvent, err error) {
	err = s.EventDB.each("SELECT "+eventColumns+` FROM repo_seq
		WHERE did = ? AND +eventType IN ('append', 'sync') AND invalidated = 0 ORDER BY seq DESC LIMIT 1`,
		func(st *sqlite.Stmt) { st.BindText(1, did.String()) },
		func(r *sqlite.Stmt) error { last = columnEvent(r); return nil })
	return last, err
}

// Statuses implements takeover.EventSource.
func (s *Source) Statuses() (map[syntax.DID]takeover.SourceEvent, error) {
	out := map[syntax.DID]takeover.SourceEvent{}
	// One walk of the index by type: an account's events are mostly commits.
	err := s.EventDB.each("SELECT "+eventColumns+" FROM repo_seq WHERE eventType = 'account' AND invalidated = 0 ORDER BY seq", nil,
		func(r *sqlite.Stmt) error {
			e := columnEvent(r)
			out[syntax.DID(e.DID)] = e
			return nil
		})
	return out, err
}

// Oldest implements takeover.EventSource.
func (s *Source) Oldest() (at time.Time, err error) {
	err = s.EventDB.each("SELECT sequencedAt FROM repo_seq ORDER BY seq LIMIT 1", nil, func(r *sqlite.Stmt) error {
		at = columnDate(r, 0)
		return nil
	})
	return at, err
}
