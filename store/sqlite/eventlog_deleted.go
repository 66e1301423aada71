package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/store/sqlite/groupcommit"
)

// logDeleted appends the event that an account is gone. From then on the
// account's earlier events are not read any more; Forget removes them.
func logDeleted(tx *groupcommit.Tx, db *DB, did syntax.DID, at time.Time) error {
	logged, err := appendLog(tx, db, account.DeletedEvent(did, at), at)
	if err != nil {
		return err
	}
	_, err = change(tx.Conn, `INSERT INTO event_deleted (did, before, after) VALUES (?1, ?2, 0)
		ON CONFLICT DO UPDATE SET before = ?2, after = 0`,
		func(s *sqlite.Stmt) { s.BindText(1, did.String()); s.BindInt64(2, logged.Seq) })
	if err != nil {
		return fmt.Errorf("forget events of %s: %w", did, err)
	}
	logged.Ends = true
	tell(tx, db, logged)
	return nil
}

// forgetCount is how many rows one call of Forget reads.
const forgetCount = 2000

// Forget implements firehose.Log. It reads through the log without delaying
// writers. Deletions are rare beside writes, so events have no index by
// account, which each write would pay for.
func (db EventLog) Forget(ctx context.Context) (more bool, err error) {
	var did string
	var before, after int64
	var found []int64
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		err := query(c, "SELECT did, before, after FROM event_deleted LIMIT 1", nil, func(r *sqlite.Stmt) error {
			did, before, after = r.ColumnText(0), r.ColumnInt64(1), r.ColumnInt64(2)
			return nil
		})
		if err != nil || did == "" {
			return err
		}
		rows, bytes := 0, int64(0)
		err = query(c, "SELECT seq, did, length(body) FROM event WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, after); s.BindInt64(2, before); s.BindInt64(3, forgetCount) },
			func(r *sqlite.Stmt) error {
				rows, after = rows+1, r.ColumnInt64(0)
				if r.ColumnText(1) != did {
					return nil
				}
				found = append(found, after)
				if bytes += r.ColumnInt64(2); bytes > pruneBytes {
					return errEnough
				}
				return nil
			})
		if more = rows == forgetCount || errors.Is(err, errEnough); more {
			return nil
		}
		return err
	})
	if err != nil || did == "" {
		return false, wrap(err, "look for events of deleted accounts")
	}
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		scrubSoon(tx, db.DB)
		for _, seq := range found {
			// The row stays, so that a gap in the numbers always means a fault.
			_, err := change(tx.Conn, "UPDATE event SET kind = '', did = '', split = 0, body = x'' WHERE seq = ? AND did = ?",
				func(s *sqlite.Stmt) { s.BindInt64(1, seq); s.BindText(2, did) })
			if err != nil {
				return err
			}
		}
		if more {
			_, err := change(tx.Conn, "UPDATE event_deleted SET after = ? WHERE did = ? AND before = ?",
				func(s *sqlite.Stmt) { s.BindInt64(1, after); s.BindText(2, did); s.BindInt64(3, before) })
			return err
		}
		_, err := change(tx.Conn, "DELETE FROM event_deleted WHERE did = ? AND before = ?",
			func(s *sqlite.Stmt) { s.BindText(1, did); s.BindInt64(2, before) })
		if err != nil {
			return err
		}
		return query(tx.Conn, "SELECT 1 FROM event_deleted LIMIT 1", nil, func(*sqlite.Stmt) error { more = true; return nil })
	})
	return more, wrap(err, "remove events of "+did)
}
