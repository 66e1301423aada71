package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/firehose"
	"nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/store/sqlite/groupcommit"
)

// EventLog implements firehose.Log and repo.Announcements.
type EventLog struct{ *DB }

var (
	_ firehose.Log       = EventLog{}
	_ repo.Announcements = EventLog{}
)

// insertLog gives an event the next number of the log, in the transaction of
// the change that it announces. The watcher gets it after the commit.
func insertLog(tx *groupcommit.Tx, db *DB, ev event.Event, at time.Time) error {
	logged, err := appendLog(tx, db, ev, at)
	if err != nil {
		return err
	}
	tell(tx, db, logged)
	return nil
}

// insertLogs calls insertLog for several events, in their order.
func insertLogs(tx *groupcommit.Tx, db *DB, events []event.Event, at time.Time) error {
	for _, ev := range events {
		if err := insertLog(tx, db, ev, at); err != nil {
			return err
		}
	}
	return nil
}

func appendLog(tx *groupcommit.Tx, db *DB, ev event.Event, at time.Time) (firehose.Logged, error) {
	logged := firehose.Logged{At: at, Event: ev}
	err := query(tx.Conn, `INSERT INTO event (at, kind, did, split, total, body)
		VALUES (?1, ?2, ?3, ?4, ifnull((SELECT total FROM event ORDER BY seq DESC LIMIT 1), 0) + length(?5), ?5) RETURNING seq`,
		func(s *sqlite.Stmt) {
			bindTime(s, 1, at)
			s.BindText(2, string(ev.Kind))
			s.BindText(3, ev.DID.String())
			s.BindInt64(4, int64(ev.Split))
			s.BindBytes(5, ev.Body)
		},
		func(r *sqlite.Stmt) error { logged.Seq = r.ColumnInt64(0); return nil })
	if err != nil || db.number == nil {
		return logged, wrap(err, "append to event log")
	}
	return logged, db.number(logged.Seq)
}

// tell calls the watcher after the commit.
func tell(tx *groupcommit.Tx, db *DB, logged firehose.Logged) {
	if db.watch != nil {
		tx.AfterCommit(func() { db.watch(logged) })
	}
}

// Watch implements firehose.Log.
func (db EventLog) Watch(f func(firehose.Logged)) { db.watch = f }

// Bounds implements firehose.Log.
func (db EventLog) Bounds(ctx context.Context) (b firehose.Bounds, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		if b.Last, err = lastSeq(c); err != nil {
			return err
		}
		b.Oldest = b.Last + 1
		err := query(c, `SELECT seq, at, total - length(body), (SELECT total FROM event ORDER BY seq DESC LIMIT 1)
			FROM event ORDER BY seq LIMIT 1`, nil,
			func(r *sqlite.Stmt) error {
				b.Oldest, b.OldestAt, b.Bytes = r.ColumnInt64(0), columnTime(r, 1), r.ColumnInt64(3)-r.ColumnInt64(2)
				return nil
			})
		if err != nil {
			return err
		}
		return query(c, "SELECT 1 FROM announce", nil, func(*sqlite.Stmt) error { b.Announcing = true; return nil })
	})
	if err != nil {
		return firehose.Bounds{}, fmt.Errorf("read bounds of event log: %w", err)
	}
	return b, nil
}

// lastSeq reads the number that AUTOINCREMENT gave last.
func lastSeq(c *sqlite.Conn) (last int64, err error) {
	err = query(c, "SELECT seq FROM sqlite_sequence WHERE name = 'event'", nil,
		func(r *sqlite.Stmt) error { last = r.ColumnInt64(0); return nil })
	return last, err
}

// errEnough ends a query early.
var errEnough = errors.New("enough rows")

const loggedColumns = "seq, at, kind, did, split, body"

func scanLogged(r *sqlite.Stmt) firehose.Logged {
	return firehose.Logged{
		Seq: r.ColumnInt64(0), At: columnTime(r, 1),
		Event: event.Event{
			Kind: event.Kind(r.ColumnText(2)), DID: syntax.DID(r.ColumnText(3)),
			Split: r.ColumnInt(4), Body: columnBytes(r, 5),
		},
	}
}

// Read implements firehose.Log.
func (db EventLog) Read(ctx context.Context, after int64, count, bytes int) ([]firehose.Logged, error) {
	var out []firehose.Logged
	err := db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT "+loggedColumns+`, EXISTS (SELECT 1 FROM event_deleted d WHERE d.did = event.did AND d.before > event.seq)
			FROM event WHERE seq > ? ORDER BY seq LIMIT ?`,
			func(s *sqlite.Stmt) { s.BindInt64(1, after); s.BindInt64(2, int64(count)) },
			func(r *sqlite.Stmt) error {
				e := scanLogged(r)
				if r.ColumnBool(6) {
					e.Event = event.Event{} // as it will be
				}
				out = append(out, e)
				if bytes -= len(e.Body); bytes <= 0 {
					return errEnough
				}
				return nil
			})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	return out, nil
}

// Bounds of one transaction of Prune, which writers wait for.
const (
	pruneCount = 1000
	pruneBytes = 8 << 20
)

// Prune implements firehose.Log.
func (db EventLog) Prune(ctx context.Context, keep time.Time, maxBytes int64) (int, error) {
	upTo := int64(0)
	err := db.readTx(ctx, func(c *sqlite.Conn) error {
		all := int64(0)
		err := query(c, "SELECT total FROM event ORDER BY seq DESC LIMIT 1", nil,
			func(r *sqlite.Stmt) error { all = r.ColumnInt64(0); return nil })
		if err != nil {
			return err
		}
		enough := int64(-1) // the total at which this call ends
		return query(c, "SELECT seq, at, total, length(body) FROM event ORDER BY seq LIMIT ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, pruneCount) },
			func(r *sqlite.Stmt) error {
				total := r.ColumnInt64(2)
				if enough < 0 {
					enough = total + pruneBytes
				}
				kept := all - total + r.ColumnInt64(3) // with this one
				if total > enough || kept <= maxBytes && !columnTime(r, 1).Before(keep) {
					return errEnough
				}
				upTo = r.ColumnInt64(0)
				return nil
			})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return 0, fmt.Errorf("look for old events: %w", err)
	}
	if upTo == 0 {
		return 0, nil
	}
	removed := 0
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		removed, err = change(tx.Conn, "DELETE FROM event WHERE seq <= ?", func(s *sqlite.Stmt) { s.BindInt64(1, upTo) })
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("remove old events: %w", err)
	}
	return removed, nil
}

// Jump implements firehose.Log. It is one transaction: nobody would learn of a
// log that was dropped without a new number. Writers wait for it, some seconds
// if the log is large.
func (db EventLog) Jump(ctx context.Context, to int64) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		last, err := lastSeq(tx.Conn)
		if err != nil {
			return fmt.Errorf("read last number: %w", err)
		}
		if to < last {
			return fmt.Errorf("%w: it is at %d", firehose.ErrBackwards, last)
		}
		// Without a condition SQLite frees the table's pages, not its rows.
		if _, err := change(tx.Conn, "DELETE FROM event", nil); err != nil {
			return fmt.Errorf("drop event log: %w", err)
		}
		// An AUTOINCREMENT that gave no number yet has no row; the table has no
		// key by which it could be replaced.
		if _, err := change(tx.Conn, "DELETE FROM sqlite_sequence WHERE name = 'event'", nil); err != nil {
			return fmt.Errorf("reset numbers: %w", err)
		}
		_, err = change(tx.Conn, "INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?)", func(s *sqlite.Stmt) { s.BindInt64(1, to) })
		if err != nil {
			return fmt.Errorf("set next number: %w", err)
		}
		return beginToAnnounce(tx.Conn)
	})
}

// beginToAnnounce makes every account be announced again: see EventLog.Unannounced.
func beginToAnnounce(c *sqlite.Conn) error {
	_, err := change(c, "INSERT INTO announce (one, after) VALUES (1, 0) ON CONFLICT DO UPDATE SET after = 0", nil)
	return wrap(err, "begin to announce")
}

// numbersHeld reports whether the next event would be refused its number.
func numbersHeld(c *sqlite.Conn, db *DB) (bool, error) {
	if db.number == nil {
		return false, nil
	}
	last, err := lastSeq(c)
	return err == nil && db.number(last+1) != nil, wrap(err, "read last number")
}

// Unannounced implements repo.Announcements.
func (db EventLog) Unannounced(ctx context.Context, limit int) (a repo.Announcement, ok bool, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT after FROM announce", nil, func(r *sqlite.Stmt) error { a.After, ok = r.ColumnInt64(0), true; return nil })
	})
	if err != nil || !ok {
		return repo.Announcement{}, false, wrap(err, "see how far announcing is")
	}
	a.Accounts, err = Repos(db).heads(ctx, `SELECT a.id, a.did, r.cid, ifnull(r.rev, ''), `+statusColumns+`
		FROM account a LEFT JOIN repo r ON r.account_id = a.id AND r.current = 1
		WHERE a.id > ? AND a.pending_operation IS NULL ORDER BY a.id LIMIT ?`,
		func(s *sqlite.Stmt) { s.BindInt64(1, a.After); s.BindInt64(2, int64(limit)) })
	a.Last = len(a.Accounts) < limit
	return a, true, err
}

// Announce implements repo.Announcements.
func (db EventLog) Announce(ctx context.Context, a repo.Announcement, renewed []repo.Change, at time.Time) error {
	commits := make(map[int64]*repo.Change, len(renewed))
	for i := range renewed {
		commits[renewed[i].AccountID] = &renewed[i]
	}
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		after := int64(-1) // nothing is under way
		err := query(tx.Conn, "SELECT after FROM announce", nil, func(r *sqlite.Stmt) error { after = r.ColumnInt64(0); return nil })
		switch {
		case err != nil:
			return fmt.Errorf("see how far announcing is: %w", err)
		case after != a.After:
			return repo.ErrConflict
		}
		for _, of := range a.Accounts {
			after = of.AccountID
			if err := announceAccount(tx, db.DB, of.AccountID, commits[of.AccountID], at); err != nil {
				return err
			}
		}
		if a.Last {
			_, err = change(tx.Conn, "DELETE FROM announce", nil)
		} else {
			_, err = change(tx.Conn, "UPDATE announce SET after = ?", func(s *sqlite.Stmt) { s.BindInt64(1, after) })
		}
		return wrap(err, "note how far announcing is")
	})
}

// announceAccount appends the events that announce one account, after those of
// its new commit, if there is one.
func announceAccount(tx *groupcommit.Tx, db *DB, accountID int64, c *repo.Change, at time.Time) error {
	a, err := findAccount(tx.Conn, "a.id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, accountID) })
	if errors.Is(err, account.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if c != nil {
		if err := replaceHead(tx.Conn, *c); err != nil {
			return err
		}
	}
	head, err := accountHead(tx.Conn, accountID)
	if err != nil {
		return err
	}
	of := repo.AccountHead{DID: a.DID, Status: string(a.Status())}
	var commit []byte
	if head != nil {
		of.Rev, commit = head.Rev, head.Commit.Data
	}
	return insertLogs(tx, db, repo.AnnounceEvents(of, commit, c, at), at)
}

// wrap adds what failed to an error; nil stays nil.
func wrap(err error, what string) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return err
}
