package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/schema"
	"nestbox/store/sqlite/groupcommit"
)

// PermissionSets implements schema.Store.
type PermissionSets struct{ *DB }

var _ schema.Store = PermissionSets{}

// Lexicon implements schema.Store.
func (db PermissionSets) Lexicon(ctx context.Context, nsid syntax.NSID) (l *schema.Lexicon, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT did, cid, document, found_at, checked_at, failure, used_at, granted FROM permission_set WHERE nsid = ?`,
			func(s *sqlite.Stmt) { s.BindText(1, nsid.String()) },
			func(r *sqlite.Stmt) error {
				l = &schema.Lexicon{
					NSID: nsid, DID: syntax.DID(r.ColumnText(0)), CID: r.ColumnText(1), Document: columnBytes(r, 2),
					FoundAt: columnTime(r, 3), CheckedAt: columnTime(r, 4), Failure: r.ColumnText(5),
					UsedAt: columnTime(r, 6), Granted: r.ColumnBool(7),
				}
				return nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("read permission set: %w", err)
	}
	if l == nil {
		return nil, schema.ErrUnknown
	}
	return l, nil
}

// SaveLexicon implements schema.Store.
func (db PermissionSets) SaveLexicon(ctx context.Context, l schema.Lexicon) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, `INSERT INTO permission_set (nsid, did, cid, document, found_at, checked_at, failure, used_at, granted)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
			ON CONFLICT (nsid) DO UPDATE SET did = ?2, cid = ?3, document = ?4, found_at = ?5, checked_at = ?6, failure = ?7,
			used_at = max(used_at, ?8), granted = max(granted, ?9) WHERE found_at <= ?5`,
			func(s *sqlite.Stmt) {
				s.BindText(1, l.NSID.String())
				s.BindText(2, l.DID.String())
				s.BindText(3, l.CID)
				s.BindText(4, string(l.Document))
				bindTime(s, 5, l.FoundAt)
				bindTime(s, 6, l.CheckedAt)
				s.BindText(7, l.Failure)
				bindTime(s, 8, l.UsedAt)
				s.BindBool(9, l.Granted)
			})
		return wrap(err, "save permission set")
	})
}

// SaveFailure implements schema.Store.
func (db PermissionSets) SaveFailure(ctx context.Context, nsid syntax.NSID, failure string, at time.Time) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "UPDATE permission_set SET checked_at = ?3, failure = ?2 WHERE nsid = ?1 AND checked_at <= ?3",
			func(s *sqlite.Stmt) { s.BindText(1, nsid.String()); s.BindText(2, failure); bindTime(s, 3, at) })
		return wrap(err, "note that a permission set was not found")
	})
}

// Use implements schema.Store.
func (db PermissionSets) Use(ctx context.Context, nsids []syntax.NSID, granted bool, at time.Time) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, `UPDATE permission_set SET used_at = max(used_at, ?2), granted = max(granted, ?3)
			WHERE nsid IN (SELECT value FROM json_each(?1))`,
			func(s *sqlite.Stmt) { bindList(s, 1, nsids); bindTime(s, 2, at); s.BindBool(3, granted) })
		return wrap(err, "note the use of permission sets")
	})
}

// DueLexicons implements schema.Store.
func (db PermissionSets) DueLexicons(ctx context.Context, checkedBefore time.Time, limit int) (due []syntax.NSID, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT nsid FROM permission_set WHERE granted = 1 AND checked_at < ? ORDER BY checked_at LIMIT ?",
			func(s *sqlite.Stmt) { bindTime(s, 1, checkedBefore); s.BindInt64(2, int64(limit)) },
			func(r *sqlite.Stmt) error { due = append(due, syntax.NSID(r.ColumnText(0))); return nil })
	})
	if err != nil {
		return nil, fmt.Errorf("list permission sets to renew: %w", err)
	}
	return due, nil
}

// CollectLexicons implements schema.Store.
func (db PermissionSets) CollectLexicons(ctx context.Context, granted, others time.Time, keep, limit int) (n int, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err = change(tx.Conn, `DELETE FROM permission_set WHERE nsid IN (
			SELECT nsid FROM permission_set WHERE granted = 1 AND used_at < ?1
			UNION SELECT nsid FROM permission_set WHERE granted = 0 AND used_at < ?2
			UNION SELECT nsid FROM (SELECT nsid FROM permission_set WHERE granted = 0 ORDER BY used_at DESC, nsid LIMIT -1 OFFSET ?3)
			LIMIT ?4)`,
			func(s *sqlite.Stmt) {
				bindTime(s, 1, granted)
				bindTime(s, 2, others)
				s.BindInt64(3, int64(keep))
				s.BindInt64(4, int64(limit))
			})
		return wrap(err, "delete permission sets")
	})
	return n, err
}
