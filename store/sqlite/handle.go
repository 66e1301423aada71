package sqlite

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/mail"
	"nestbox/store/sqlite/groupcommit"
)

var _ hosting.HandleStore = Hosting{}

// handleBeingTaken reports whether an account other than id is getting a
// handle.
func handleBeingTaken(c *sqlite.Conn, h syntax.Handle, id int64) (taken bool, err error) {
	err = query(c, "SELECT 1 FROM handle_change WHERE handle = ? AND account_id <> ?",
		func(s *sqlite.Stmt) { s.BindText(1, h.String()); s.BindInt64(2, id) },
		func(*sqlite.Stmt) error { taken = true; return nil })
	if err != nil {
		return false, fmt.Errorf("look for handle: %w", err)
	}
	return taken, nil
}

// BeginHandle implements hosting.HandleStore.
func (db Hosting) BeginHandle(ctx context.Context, c hosting.HandleChange) error {
	return Accounts(db).update(ctx, c.AccountID, func(tx *groupcommit.Tx, _ *account.Account) error {
		taken, err := handleBeingTaken(tx.Conn, c.Handle, c.AccountID)
		if err != nil {
			return err
		}
		err = query(tx.Conn, "SELECT 1 FROM account WHERE handle = ? AND id <> ?",
			func(s *sqlite.Stmt) { s.BindText(1, c.Handle.String()); s.BindInt64(2, c.AccountID) },
			func(*sqlite.Stmt) error { taken = true; return nil })
		if err != nil {
			return fmt.Errorf("look for handle: %w", err)
		}
		if taken {
			return account.ErrHandleTaken
		}
		n, err := change(tx.Conn, `INSERT INTO handle_change (account_id, handle, by, begun_at, who)
			VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, c.AccountID)
				s.BindText(2, c.Handle.String())
				s.BindText(3, string(c.By))
				bindTime(s, 4, c.BegunAt)
				s.BindText(5, c.Who)
			})
		if err != nil {
			return fmt.Errorf("begin change of handle: %w", err)
		}
		if n == 0 {
			return account.ErrStatusConflict
		}
		return nil
	})
}

// FinishHandle implements hosting.HandleStore.
func (db Hosting) FinishHandle(
	ctx context.Context, accountID int64, h syntax.Handle, document []byte, e account.Entry, mails ...mail.Message,
) error {
	return Accounts(db).update(ctx, accountID, func(tx *groupcommit.Tx, a *account.Account) error {
		names := func(s *sqlite.Stmt) { s.BindText(1, h.String()); s.BindInt64(2, accountID) }
		n, err := change(tx.Conn, "DELETE FROM handle_change WHERE handle = ? AND account_id = ?", names)
		if err != nil {
			return fmt.Errorf("finish change of handle: %w", err)
		}
		if n == 0 {
			return account.ErrNotFound
		}
		_, err = change(tx.Conn, "UPDATE account SET handle = ? WHERE id = ?", names)
		if err != nil {
			return fmt.Errorf("set handle: %w", err)
		}
		next, events := hosting.Renamed(a, h, document, e.At)
		if err := saveDocument(tx.Conn, accountID, next.Document, next.HandleInvalid, e.At); err != nil {
			return err
		}
		if err := insertLogs(tx, db.DB, events, e.At); err != nil {
			return err
		}
		return noteAndTell(tx, db.DB, accountID, e, mails)
	})
}

// DropHandle implements hosting.HandleStore.
func (db Hosting) DropHandle(ctx context.Context, accountID int64, h syntax.Handle) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "DELETE FROM handle_change WHERE account_id = ? AND handle = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindText(2, h.String()) })
		if err != nil {
			return fmt.Errorf("drop change of handle: %w", err)
		}
		return nil
	})
}

// HandleChanges implements hosting.HandleStore.
func (db Hosting) HandleChanges(ctx context.Context) (out []hosting.HandleChange, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		const begun = `SELECT h.account_id, a.did, h.handle, h.by, h.begun_at, h.who
			FROM handle_change h JOIN account a ON a.id = h.account_id ORDER BY h.account_id`
		return query(c, begun, nil, func(r *sqlite.Stmt) error {
			out = append(out, hosting.HandleChange{
				AccountID: r.ColumnInt64(0), DID: syntax.DID(r.ColumnText(1)), Handle: syntax.Handle(r.ColumnText(2)),
				By: account.Actor(r.ColumnText(3)), BegunAt: columnTime(r, 4), Who: r.ColumnText(5),
			})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list changes of handles: %w", err)
	}
	return out, nil
}
