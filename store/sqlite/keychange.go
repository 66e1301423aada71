package sqlite

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/repo"
	"nestbox/store/sqlite/groupcommit"
)

var _ hosting.KeyStore = Hosting{}

// BeginKey implements hosting.KeyStore.
func (db Hosting) BeginKey(ctx context.Context, c hosting.KeyChange) error {
	return Accounts(db).update(ctx, c.AccountID, func(tx *groupcommit.Tx, _ *account.Account) error {
		n, err := change(tx.Conn, `INSERT INTO key_change (account_id, public, sealed, begun_at, who) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (account_id) DO UPDATE SET begun_at = excluded.begun_at, who = excluded.who WHERE public = excluded.public`,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, c.AccountID)
				s.BindText(2, c.Public)
				s.BindBytes(3, c.Sealed)
				bindTime(s, 4, c.BegunAt)
				s.BindText(5, c.Who)
			})
		if err != nil {
			return fmt.Errorf("begin change of signing key: %w", err)
		}
		if n == 0 {
			return account.ErrStatusConflict
		}
		return nil
	})
}

// FinishKey implements hosting.KeyStore.
func (db Hosting) FinishKey(ctx context.Context, c hosting.KeyChange, document []byte, resigned *repo.Change, e account.Entry) error {
	return Accounts(db).update(ctx, c.AccountID, func(tx *groupcommit.Tx, a *account.Account) error {
		names := func(s *sqlite.Stmt) { s.BindInt64(1, c.AccountID); s.BindText(2, c.Public) }
		n, err := change(tx.Conn, `UPDATE account SET signing_key = k.public, signing_key_sealed = k.sealed
			FROM key_change k WHERE k.account_id = ?1 AND k.public = ?2 AND account.id = ?1`, names)
		if err != nil {
			return fmt.Errorf("set signing key: %w", err)
		}
		if n == 0 {
			return account.ErrNotFound
		}
		if _, err := change(tx.Conn, "DELETE FROM key_change WHERE account_id = ? AND public = ?", names); err != nil {
			return fmt.Errorf("finish change of signing key: %w", err)
		}
		if err := saveDocument(tx.Conn, c.AccountID, document, a.HandleInvalid, e.At); err != nil {
			return err
		}
		if err := insertEntry(tx.Conn, c.AccountID, e); err != nil {
			return err
		}
		if resigned != nil {
			if err := replaceHead(tx.Conn, *resigned); err != nil {
				return err
			}
		}
		return insertLogs(tx, db.DB, hosting.KeyEvents(a, resigned, e.At), e.At)
	})
}

// replaceHead replaces the latest commit by another one of the same tree.
func replaceHead(c *sqlite.Conn, next repo.Change) error {
	was, err := loadOwner(c, next.AccountID)
	switch {
	case err != nil:
		return err
	case was.head.Number != next.Next.Number || !was.head.CID.Equals(next.Was):
		return repo.ErrConflict
	case next.Next.Rev <= was.head.Rev:
		return fmt.Errorf("revision %s does not follow %s", next.Next.Rev, was.head.Rev)
	}
	return storeHead(c, next.Next)
}

// DropKey implements hosting.KeyStore.
func (db Hosting) DropKey(ctx context.Context, c hosting.KeyChange) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "DELETE FROM key_change WHERE account_id = ? AND public = ? AND begun_at = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, c.AccountID); s.BindText(2, c.Public); bindTime(s, 3, c.BegunAt) })
		return wrap(err, "drop change of signing key")
	})
}

// KeyChanges implements hosting.KeyStore.
func (db Hosting) KeyChanges(ctx context.Context) (out []hosting.KeyChange, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		const begun = `SELECT k.account_id, a.did, k.public, k.sealed, k.begun_at, k.who
			FROM key_change k JOIN account a ON a.id = k.account_id ORDER BY k.account_id`
		return query(c, begun, nil, func(r *sqlite.Stmt) error {
			out = append(out, hosting.KeyChange{
				AccountID: r.ColumnInt64(0), DID: syntax.DID(r.ColumnText(1)), Public: r.ColumnText(2),
				Sealed: columnBytes(r, 3), BegunAt: columnTime(r, 4), Who: r.ColumnText(5),
			})
			return nil
		})
	})
	return out, wrap(err, "list changes of signing keys")
}
