package sqlite

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"nestbox/firehose"
	"nestbox/firehose/event"
)

// SetEvents implements takeover.Store.
func (t *Takeover) SetEvents(ctx context.Context, last int64, next func() (firehose.Logged, bool, error)) error {
	err := t.atOnce(ctx, func(c *sqlite.Conn) error {
		for _, sql := range []string{
			"DELETE FROM event", "DELETE FROM event_deleted", "DELETE FROM announce", "DELETE FROM sqlite_sequence WHERE name = 'event'",
		} {
			if _, err := change(c, sql, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("empty event log: %w", err)
	}
	total := int64(0)
	for more := true; more; {
		err := t.within(ctx, func(c *sqlite.Conn) error {
			const atOnce = 500
			for range atOnce {
				var e firehose.Logged
				var err error
				if e, more, err = next(); err != nil || !more {
					return err
				}
				total += int64(len(e.Body))
				t.bytes += int64(len(e.Body))
				if err := insertEvent(c, e, total); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return t.atOnce(ctx, func(c *sqlite.Conn) error {
		if _, err := change(c, "DELETE FROM sqlite_sequence WHERE name = 'event'", nil); err != nil {
			return fmt.Errorf("set next number: %w", err)
		}
		_, err := change(c, "INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?)", func(s *sqlite.Stmt) { s.BindInt64(1, last) })
		if err != nil {
			return fmt.Errorf("set next number: %w", err)
		}
		_, err = change(c, "UPDATE takeover SET last_event = ?", func(s *sqlite.Stmt) { s.BindInt64(1, last) })
		return wrap(err, "note the last number of the source")
	})
}

// insertEvent inserts an event with its number; total is the size of all bodies with it.
func insertEvent(c *sqlite.Conn, e firehose.Logged, total int64) error {
	_, err := change(c, "INSERT INTO event (seq, at, kind, did, split, total, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
		func(s *sqlite.Stmt) {
			s.BindInt64(1, e.Seq)
			s.BindInt64(2, e.At.UnixMilli())
			s.BindText(3, string(e.Kind))
			s.BindText(4, e.DID.String())
			s.BindInt64(5, int64(e.Split))
			s.BindInt64(6, total)
			if len(e.Body) == 0 {
				s.BindZeroBlob(7, 0) // nil would be NULL
			} else {
				s.BindBytes(7, e.Body)
			}
		})
	return wrap(err, "insert event")
}

// Announce implements takeover.Store.
func (t *Takeover) Announce(ctx context.Context, events []event.Event, at time.Time) error {
	return t.atOnce(ctx, func(c *sqlite.Conn) error {
		for _, e := range events {
			total := int64(0)
			last, err := lastSeq(c)
			if err != nil {
				return err
			}
			err = query(c, "SELECT total FROM event ORDER BY seq DESC LIMIT 1", nil,
				func(r *sqlite.Stmt) error { total = r.ColumnInt64(0); return nil })
			if err != nil {
				return err
			}
			if err := insertEvent(c, firehose.Logged{Seq: last + 1, At: at, Event: e}, total+int64(len(e.Body))); err != nil {
				return err
			}
		}
		return nil
	})
}
