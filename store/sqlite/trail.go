package sqlite

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/mail"
	"nestbox/store/sqlite/groupcommit"
)

// insertEntry appends to an account's trail and drops an entry beyond its limit.
// The audit log gets the entry that admin.OfEntry makes of it.
func insertEntry(c *sqlite.Conn, accountID int64, e account.Entry) error {
	_, err := change(c, `INSERT INTO trail
		(account_id, at, kind, actor, session_id, reason, network, user_agent, other_network, other_user_agent, browser_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, accountID)
			bindTime(s, 2, e.At)
			s.BindText(3, string(e.Kind))
			s.BindText(4, string(e.By))
			s.BindInt64(5, e.Session)
			s.BindText(6, e.Reason)
			s.BindText(7, e.Network)
			s.BindText(8, e.UserAgent)
			s.BindText(9, e.OtherNetwork)
			s.BindText(10, e.OtherUserAgent)
			s.BindInt64(11, e.Browser)
		})
	if sqlite.ErrCode(err) == sqlite.ResultConstraintForeignKey {
		return account.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("append to trail: %w", err)
	}
	if err := trimTrail(c, accountID); err != nil {
		return fmt.Errorf("trim trail: %w", err)
	}
	a, ok := admin.OfEntry("", e)
	if !ok {
		return nil // most have no place in the audit log, and need no account to be looked for
	}
	err = query(c, "SELECT did FROM account WHERE id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
		func(r *sqlite.Stmt) error { a.DID = syntax.DID(r.ColumnText(0)); return nil })
	if err != nil {
		return fmt.Errorf("look for the account of an entry: %w", err)
	}
	return insertAudit(c, a)
}

// trimTrail drops what account.Dropped says of a trail that is over its limit.
func trimTrail(c *sqlite.Conn, accountID int64) error {
	bind := func(s *sqlite.Stmt) { s.BindInt64(1, accountID) }
	n := 0
	err := query(c, "SELECT count(*) FROM trail WHERE account_id = ?", bind, func(r *sqlite.Stmt) error { n = r.ColumnInt(0); return nil })
	if err != nil || n <= account.TrailLimit {
		return err
	}
	var ids []int64
	var trail []account.Entry
	err = query(c, "SELECT id, kind, reason FROM trail WHERE account_id = ? ORDER BY id", bind, func(r *sqlite.Stmt) error {
		ids = append(ids, r.ColumnInt64(0))
		trail = append(trail, account.Entry{Kind: account.EntryKind(r.ColumnText(1)), Reason: r.ColumnText(2)})
		return nil
	})
	if err == nil {
		_, err = change(c, "DELETE FROM trail WHERE id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, ids[account.Dropped(trail)]) })
	}
	return err
}

// insertEntries calls insertEntry for several entries, in their order.
func insertEntries(c *sqlite.Conn, accountID int64, entries []account.Entry) error {
	for _, e := range entries {
		if err := insertEntry(c, accountID, e); err != nil {
			return err
		}
	}
	return nil
}

// AddEntry implements account.Store.
func (db Accounts) AddEntry(ctx context.Context, id int64, e account.Entry, mails ...mail.Message) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error { return noteAndTell(tx, db.DB, id, e, mails) })
}

// Trail implements account.Store.
func (db Accounts) Trail(ctx context.Context, id int64, limit int) ([]account.Entry, error) {
	var out []account.Entry
	err := db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT at, kind, actor, session_id, reason, network, user_agent, other_network, other_user_agent, browser_id
			FROM trail WHERE account_id = ? ORDER BY id DESC LIMIT ?`,
			func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindInt64(2, int64(limit)) },
			func(r *sqlite.Stmt) error {
				out = append(out, account.Entry{
					At: columnTime(r, 0), Kind: account.EntryKind(r.ColumnText(1)), By: account.Actor(r.ColumnText(2)),
					Session: r.ColumnInt64(3), Reason: r.ColumnText(4), Network: r.ColumnText(5), UserAgent: r.ColumnText(6),
					OtherNetwork: r.ColumnText(7), OtherUserAgent: r.ColumnText(8), Browser: r.ColumnInt64(9),
				})
				return nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("read trail: %w", err)
	}
	return out, nil
}
