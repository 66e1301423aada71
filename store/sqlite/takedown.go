package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/store/sqlite/groupcommit"
)

// takendown finds one row of a small table by its primary key.
const takendown = "SELECT 1 FROM takedown WHERE did = (SELECT did FROM account WHERE id = ?) AND subject = ?"

// isTakenDown reports whether a record, by its key, or a blob, by its CID, was
// taken down.
func isTakenDown(c *sqlite.Conn, accountID int64, subject string) (down bool, err error) {
	err = query(c, takendown,
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindText(2, subject) },
		func(*sqlite.Stmt) error { down = true; return nil })
	if err != nil {
		return false, fmt.Errorf("look for takedown: %w", err)
	}
	return down, nil
}

// SetTakedown implements admin.Store.
func (db Admin) SetTakedown(ctx context.Context, did syntax.DID, t admin.Takedown, applied bool, a admin.Action) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		if _, err := accountOf(tx.Conn, did); errors.Is(err, account.ErrNotFound) {
			if _, known, err := departed(tx.Conn, did); err != nil || !known {
				return cmp.Or(err, account.ErrNotFound)
			}
		} else if err != nil {
			return err
		}
		var err error
		if applied {
			_, err = change(tx.Conn, `INSERT INTO takedown (did, subject, ref, at, cid) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET ref = excluded.ref, cid = excluded.cid`,
				func(s *sqlite.Stmt) {
					s.BindText(1, did.String())
					s.BindText(2, t.Subject)
					s.BindText(3, t.Ref)
					bindTime(s, 4, a.At)
					s.BindText(5, t.CID)
				})
		} else {
			_, err = change(tx.Conn, "DELETE FROM takedown WHERE did = ? AND subject = ?",
				func(s *sqlite.Stmt) { s.BindText(1, did.String()); s.BindText(2, t.Subject) })
		}
		if err != nil {
			return fmt.Errorf("set takedown: %w", err)
		}
		return insertAudit(tx.Conn, a)
	})
}

// Content implements admin.Store.
func (db Admin) Content(ctx context.Context, did syntax.DID, subject string) (out admin.Content, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		err := query(c, "SELECT ref, at, cid FROM takedown WHERE did = ? AND subject = ?",
			func(s *sqlite.Stmt) { s.BindText(1, did.String()); s.BindText(2, subject) },
			func(r *sqlite.Stmt) error {
				out.Takedown = &admin.Takedown{Subject: subject, CID: r.ColumnText(2), Ref: r.ColumnText(0), At: columnTime(r, 1)}
				return nil
			})
		if err != nil {
			return err
		}
		a, err := accountOf(c, did)
		if errors.Is(err, account.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		at := func(s *sqlite.Stmt) { s.BindInt64(1, a.ID); s.BindText(2, subject) }
		err = query(c, "SELECT cid FROM record WHERE repo_id = "+currentRepo+" AND key = ?2", at,
			func(r *sqlite.Stmt) (err error) { out.CID, err = columnCID(r, 0); return err })
		if err != nil {
			return err
		}
		return query(c, "SELECT cid FROM blob WHERE account_id = ? AND cid = ?", at,
			func(r *sqlite.Stmt) (err error) { out.CID, err = columnBlobCID(r, 0); return err })
	})
	if err != nil {
		return admin.Content{}, fmt.Errorf("look for what was taken down: %w", err)
	}
	return out, nil
}

// Takedowns implements admin.Store.
func (db Admin) Takedowns(ctx context.Context, did syntax.DID, after string, limit int) (out []admin.Takedown, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT subject, ref, at, cid FROM takedown WHERE did = ? AND subject > ? ORDER BY subject LIMIT ?",
			func(s *sqlite.Stmt) {
				s.BindText(1, did.String())
				s.BindText(2, after)
				s.BindInt64(3, max(0, int64(limit)))
			},
			func(r *sqlite.Stmt) error {
				out = append(out, admin.Takedown{Subject: r.ColumnText(0), CID: r.ColumnText(3), Ref: r.ColumnText(1), At: columnTime(r, 2)})
				return nil
			})
	})
	return out, wrap(err, "list takedowns")
}

// insertAudit appends to the audit log and drops entries beyond its limit.
func insertAudit(c *sqlite.Conn, a admin.Action) error {
	_, err := change(c, "INSERT INTO audit (at, who, what, did, subject, details, network, user_agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		func(s *sqlite.Stmt) {
			bindTime(s, 1, a.At)
			s.BindText(2, a.Who)
			s.BindText(3, a.What)
			s.BindText(4, a.DID.String())
			s.BindText(5, a.Subject)
			s.BindText(6, a.Details)
			s.BindText(7, a.Network)
			s.BindText(8, a.UserAgent)
		})
	if err != nil {
		return fmt.Errorf("append to audit log: %w", err)
	}
	return trimAudit(c)
}

// auditEntry writes an entry of an account's trail into the audit log, if it has a
// place there.
func auditEntry(c *sqlite.Conn, did syntax.DID, e account.Entry) error {
	a, ok := admin.OfEntry(did, e)
	if !ok {
		return nil
	}
	return insertAudit(c, a)
}

// trimAudit drops entries beyond the limit; it counts by number, since numbers
// have no gaps.
func trimAudit(c *sqlite.Conn) error {
	_, err := change(c, "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, admin.AuditLimit) })
	return wrap(err, "trim audit log")
}

// forgetNames removes from the audit log what names a deleted account, except its
// DID, and removes the keys that were promised to it.
func forgetNames(c *sqlite.Conn, did syntax.DID) error {
	_, err := change(c, "UPDATE audit SET details = '' WHERE did = ? AND what IN (SELECT value FROM json_each(?))",
		func(s *sqlite.Stmt) { s.BindText(1, did.String()); bindList(s, 2, admin.Naming()) })
	if err != nil {
		return fmt.Errorf("forget names: %w", err)
	}
	_, err = change(c, "DELETE FROM reserved_key WHERE did = ?", func(s *sqlite.Stmt) { s.BindText(1, did.String()) })
	return wrap(err, "forget reserved key")
}
