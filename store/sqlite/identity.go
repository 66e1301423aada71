package sqlite

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/store/sqlite/groupcommit"
)

// Identities implements identity.Store.
type Identities struct{ *DB }

var _ identity.Store = Identities{}

// Due implements identity.Store.
func (db Identities) Due(ctx context.Context, before time.Time, limit int) ([]identity.Subject, error) {
	var out []identity.Subject
	err := db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT "+accountColumns+` FROM identity i JOIN account a ON a.id = i.account_id
			WHERE i.checked_at < ? OR i.checked_at IS NULL ORDER BY i.checked_at LIMIT ?`,
			func(s *sqlite.Stmt) { bindTime(s, 1, before); s.BindInt64(2, int64(limit)) },
			func(r *sqlite.Stmt) error { out = append(out, subjectOf(scanAccount(r))); return nil })
	})
	if err != nil {
		return nil, fmt.Errorf("list identities to check: %w", err)
	}
	return out, nil
}

// SaveDocument implements identity.Store.
func (db Identities) SaveDocument(ctx context.Context, accountID int64, document []byte, handleInvalid bool, at time.Time) error {
	return Accounts(db).update(ctx, accountID, func(tx *groupcommit.Tx, a *account.Account) error {
		return save(tx, db.DB, a, document, handleInvalid, at, false)
	})
}

// SaveCheck implements identity.Store.
func (db Identities) SaveCheck(ctx context.Context, s identity.Subject, document []byte, handleInvalid bool, at time.Time) error {
	return Accounts(db).update(ctx, s.AccountID, func(tx *groupcommit.Tx, a *account.Account) error {
		if !s.Same(subjectOf(a)) {
			return nil
		}
		return save(tx, db.DB, a, document, handleInvalid, at, false)
	})
}

// Doubt implements identity.Store.
func (db Identities) Doubt(ctx context.Context, accountID int64) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error { return doubt(tx.Conn, accountID) })
}

func doubt(c *sqlite.Conn, accountID int64) error {
	_, err := change(c, "UPDATE identity SET checked_at = NULL WHERE account_id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, accountID) })
	if err != nil {
		return fmt.Errorf("doubt DID document: %w", err)
	}
	return nil
}

// Announce implements identity.Store.
func (db Identities) Announce(ctx context.Context, s identity.Subject, document []byte, handleInvalid bool, at time.Time) error {
	return db.saveSeen(ctx, s, document, handleInvalid, at, true)
}

// SaveSeen implements identity.Store.
func (db Identities) SaveSeen(ctx context.Context, s identity.Subject, document []byte, handleInvalid bool, at time.Time) error {
	return db.saveSeen(ctx, s, document, handleInvalid, at, false)
}

func (db Identities) saveSeen(
	ctx context.Context, s identity.Subject, document []byte, handleInvalid bool, at time.Time, always bool,
) error {
	return Accounts(db).update(ctx, s.AccountID, func(tx *groupcommit.Tx, a *account.Account) error {
		if !s.Outdated(subjectOf(a)) {
			return save(tx, db.DB, a, document, handleInvalid, at, always)
		}
		if err := doubt(tx.Conn, a.ID); err != nil || !always {
			return err
		}
		return insertLog(tx, db.DB, account.IdentityEvent(a, at), at)
	})
}

// save stores a document, and announces the account's identity if that is news, or in any
// case with always.
func save(tx *groupcommit.Tx, db *DB, a *account.Account, document []byte, handleInvalid bool, at time.Time, always bool) error {
	news := always || subjectOf(a).News(document, handleInvalid)
	a.HandleInvalid = handleInvalid
	if err := saveDocument(tx.Conn, a.ID, document, handleInvalid, at); err != nil || !news {
		return err
	}
	return insertLog(tx, db, account.IdentityEvent(a, at), at)
}

// subjectOf is an account as its identity's domain sees it.
func subjectOf(a *account.Account) identity.Subject {
	return identity.Subject{
		AccountID: a.ID, DID: a.DID, Handle: a.Handle, SigningKey: a.SigningKey, Document: a.Document,
		HandleInvalid: a.HandleInvalid, CheckedAt: a.IdentityCheckedAt, Hidden: a.Hidden(),
	}
}

func saveDocument(c *sqlite.Conn, accountID int64, document []byte, handleInvalid bool, at time.Time) error {
	_, err := change(c, `INSERT INTO identity (account_id, document, handle_invalid, checked_at) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (account_id) DO UPDATE SET document = ?2, handle_invalid = ?3, checked_at = ?4`,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, accountID)
			s.BindBytes(2, document)
			s.BindBool(3, handleInvalid)
			bindTime(s, 4, at)
		})
	if err != nil {
		return fmt.Errorf("save DID document: %w", err)
	}
	return nil
}
