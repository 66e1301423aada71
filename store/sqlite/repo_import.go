package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"zombiezen.com/go/sqlite"

	"nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/repo/mst"
	"nestbox/store/sqlite/groupcommit"
)

// Stage implements repo.Store.
func (db Repos) Stage(ctx context.Context, accountID int64) (number int64, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		number = 0
		_, err := change(tx.Conn, "UPDATE repo SET account_id = NULL WHERE account_id = ? AND current = 0",
			func(s *sqlite.Stmt) { s.BindInt64(1, accountID) })
		if err != nil {
			return fmt.Errorf("drop what was staged before: %w", err)
		}
		err = query(tx.Conn, `INSERT INTO repo (account_id, current)
			SELECT id, 0 FROM account WHERE id = ? AND pending_operation IS NULL RETURNING id`,
			func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
			func(r *sqlite.Stmt) error { number = r.ColumnInt64(0); return nil })
		if err != nil {
			return fmt.Errorf("stage repository: %w", err)
		}
		if number == 0 {
			return repo.ErrNoRepo
		}
		return nil
	})
	return number, err
}

// Fill implements repo.Store.
func (db Repos) Fill(ctx context.Context, number int64, rev syntax.TID, nodes []mst.Changed, records []repo.Write) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err := change(tx.Conn, "UPDATE repo SET records = records + ? WHERE id = ? AND current = 0 AND account_id IS NOT NULL",
			func(s *sqlite.Stmt) { s.BindInt64(1, int64(len(records))); s.BindInt64(2, number) })
		if err != nil {
			return fmt.Errorf("count staged records: %w", err)
		}
		if n == 0 {
			return repo.ErrConflict
		}
		if err := storeNodes(tx.Conn, number, rev, nodes, nil); err != nil {
			return err
		}
		blobs := int64(0)
		for _, w := range records {
			if w.Block == nil {
				return fmt.Errorf("record %s without a block", w.Key)
			}
			created, err := insertRecord(tx.Conn, number, rev, w)
			if err != nil {
				return err
			}
			if !created {
				return fmt.Errorf("record %s is there already", w.Key)
			}
			more, err := insertReferences(tx.Conn, number, rev, w)
			if err != nil {
				return err
			}
			blobs += more
		}
		return countBlobs(tx.Conn, number, blobs)
	})
}

// Switch implements repo.Store.
func (db Repos) Switch(ctx context.Context, accountID int64, was cid.Cid, next repo.Head, ev event.Event, at time.Time) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		old, err := loadOwner(tx.Conn, accountID)
		if err != nil {
			return err
		}
		staged, records := false, int64(0)
		err = query(tx.Conn, "SELECT records FROM repo WHERE id = ? AND account_id = ? AND current = 0",
			func(s *sqlite.Stmt) { s.BindInt64(1, next.Number); s.BindInt64(2, accountID) },
			func(r *sqlite.Stmt) error { staged, records = true, r.ColumnInt64(0); return nil })
		switch {
		case err != nil:
			return fmt.Errorf("look for staged repository: %w", err)
		case !staged || !old.head.CID.Equals(was):
			return repo.ErrConflict
		case next.Rev <= old.head.Rev:
			return fmt.Errorf("revision %s does not follow %s", next.Rev, old.head.Rev)
		case records != next.Records:
			return fmt.Errorf("commit %s counts %d records, but %d were staged", next.CID, next.Records, records)
		}
		_, err = change(tx.Conn, "UPDATE repo SET account_id = NULL WHERE id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, old.head.Number) })
		if err != nil {
			return fmt.Errorf("replace repository: %w", err)
		}
		_, err = change(tx.Conn, "UPDATE repo SET current = 1 WHERE id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, next.Number) })
		if err != nil {
			return fmt.Errorf("switch repository: %w", err)
		}
		if err := storeHead(tx.Conn, next); err != nil {
			return err
		}
		if _, err := markAllBlobs(tx.Conn, accountID, next.Number, at); err != nil {
			return err
		}
		return insertLogs(tx, db.DB, repo.ChangeEvents(old.active, ev), at)
	})
}

// markAllBlobs is markBlobs for every blob of the account. It returns how many
// were marked otherwise before.
func markAllBlobs(c *sqlite.Conn, accountID, number int64, at time.Time) (changed int, err error) {
	const used = "EXISTS (SELECT 1 FROM blob_ref r WHERE r.repo_id = ?2 AND r.cid = blob.cid)"
	isUsed, err := change(c, `UPDATE blob SET unused_since = NULL, was_used = 1
		WHERE account_id = ?1 AND (unused_since IS NOT NULL OR was_used <> 1) AND `+used,
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindInt64(2, number) })
	if err != nil {
		return 0, fmt.Errorf("mark blobs as used: %w", err)
	}
	isNot, err := change(c, "UPDATE blob SET unused_since = ?3 WHERE account_id = ?1 AND unused_since IS NULL AND NOT "+used,
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindInt64(2, number); bindTime(s, 3, at) })
	if err != nil {
		return 0, fmt.Errorf("mark blobs as unused: %w", err)
	}
	return isUsed + isNot, nil
}

// Drop implements repo.Store.
func (db Repos) Drop(ctx context.Context, number int64) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		// All of them are looked for in an index: each row holds a commit.
		where, b := "account_id IS NOT NULL", bind(nil)
		if number != 0 {
			where, b = "id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, number) }
		}
		if _, err := change(tx.Conn, "UPDATE repo SET account_id = NULL WHERE current = 0 AND "+where, b); err != nil {
			return fmt.Errorf("drop what was staged: %w", err)
		}
		return nil
	})
}

// One call of Sweep removes up to sweepRows rows, and rows until they have held
// sweepBytes: as much as writers wait for in one step of an import.
const (
	sweepRows  = 2000
	sweepBytes = 1 << 20
)

// sweeps are the tables of a repository, in the order in which they are emptied:
// how its rows are listed by key, with their bytes and what names them, and how
// those up to one are removed.
var sweeps = []struct{ list, remove string }{
	{
		"SELECT length(block), id FROM node WHERE id BETWEEN ?1 << 32 AND ?1 << 32 | 0xffffffff ORDER BY id LIMIT ?2",
		"DELETE FROM node WHERE id BETWEEN ?1 << 32 AND CAST(?2 AS INTEGER)",
	},
	{
		"SELECT " + blockLength + ", key FROM record WHERE repo_id = ?1 ORDER BY key LIMIT ?2",
		"DELETE FROM record WHERE repo_id = ?1 AND key <= ?2",
	},
	{
		"SELECT 0, cid, key FROM blob_ref WHERE repo_id = ?1 ORDER BY cid, key LIMIT ?2",
		"DELETE FROM blob_ref WHERE repo_id = ?1 AND (cid, key) <= (?2, ?3)",
	},
}

// sweep is one step: what it removes of a repository.
type sweep struct {
	number int64
	// upTo names the last row of each table, in the order of sweeps; the last
	// table that is in it may have more rows.
	upTo [][]string
	// all: nothing is left then.
	all bool
}

// nextSweep finds the rows of one step, in order, and reads no further.
func nextSweep(c *sqlite.Conn) (s sweep, err error) {
	if s.number, err = removedRepo(c); err != nil || s.number == 0 {
		return s, err
	}
	rows, bytes := sweepRows, int64(sweepBytes)
	for _, table := range sweeps {
		var last []string
		err := query(c, table.list, func(st *sqlite.Stmt) { st.BindInt64(1, s.number); st.BindInt64(2, int64(rows)) },
			func(r *sqlite.Stmt) error {
				last = last[:0]
				for i := range r.ColumnCount() - 1 {
					last = append(last, r.ColumnText(i+1))
				}
				rows--
				if bytes -= r.ColumnInt64(0); rows <= 0 || bytes <= 0 {
					return errEnough
				}
				return nil
			})
		s.upTo = append(s.upTo, last)
		if errors.Is(err, errEnough) {
			return s, nil
		}
		if err != nil {
			return sweep{}, fmt.Errorf("look at removed repository: %w", err)
		}
	}
	s.all = true
	return s, nil
}

// Sweep implements repo.Store. It searches on a read connection and uses the
// writer only to remove rows: nothing is added to a repository that has no
// account.
func (db Repos) Sweep(ctx context.Context) (more bool, err error) {
	var s sweep
	err = db.readTx(ctx, func(c *sqlite.Conn) (err error) {
		s, err = nextSweep(c)
		return err
	})
	if err != nil || s.number == 0 {
		return false, err
	}
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		scrubSoon(tx, db.DB)
		for i, last := range s.upTo {
			if last == nil {
				continue
			}
			_, err := change(tx.Conn, sweeps[i].remove, func(st *sqlite.Stmt) {
				st.BindInt64(1, s.number)
				for i, value := range last {
					st.BindText(2+i, value)
				}
			})
			if err != nil {
				return fmt.Errorf("remove repository %d: %w", s.number, err)
			}
		}
		if more = !s.all; more {
			return nil
		}
		_, err := change(tx.Conn, "DELETE FROM repo WHERE id = ? AND account_id IS NULL",
			func(st *sqlite.Stmt) { st.BindInt64(1, s.number) })
		if err != nil {
			return fmt.Errorf("remove repository %d: %w", s.number, err)
		}
		next, err := removedRepo(tx.Conn)
		more = next != 0
		return err
	})
	return more && err == nil, err
}

// removedRepo returns the number of a repository that is to be removed, 0 if
// there is none.
func removedRepo(c *sqlite.Conn) (number int64, err error) {
	err = query(c, "SELECT id FROM repo WHERE account_id IS NULL ORDER BY id LIMIT 1", nil,
		func(r *sqlite.Stmt) error { number = r.ColumnInt64(0); return nil })
	if err != nil {
		return 0, fmt.Errorf("look for removed repositories: %w", err)
	}
	return number, nil
}
