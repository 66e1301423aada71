package sqlite

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/store/sqlite/groupcommit"
)

// putMeasures stores the measures of an account that is here.
func putMeasures(c *sqlite.Conn, accountID int64, m account.Measures) error {
	_, err := change(c, "UPDATE account SET takendown_at = ?, takedown_ref = ?, suspended_at = ?, invites_disabled = ? WHERE id = ?",
		func(s *sqlite.Stmt) {
			bindTime(s, 1, m.TakenDownAt)
			s.BindText(2, m.TakedownRef)
			bindTime(s, 3, m.SuspendedAt)
			s.BindBool(4, m.InvitesDisabled)
			s.BindInt64(5, accountID)
		})
	return wrap(err, "set measures of an account")
}

// keepMeasures stores the measures against a DID that has no account here.
func keepMeasures(c *sqlite.Conn, did syntax.DID, m account.Measures) error {
	if !m.Any() {
		_, err := change(c, "DELETE FROM measure WHERE did = ?", func(s *sqlite.Stmt) { s.BindText(1, did.String()) })
		return wrap(err, "forget measures that were lifted")
	}
	_, err := change(c, `INSERT OR REPLACE INTO measure (did, takendown_at, takedown_ref, suspended_at, invites_disabled)
		VALUES (?, ?, ?, ?, ?)`,
		func(s *sqlite.Stmt) {
			s.BindText(1, did.String())
			bindTime(s, 2, m.TakenDownAt)
			s.BindText(3, m.TakedownRef)
			bindTime(s, 4, m.SuspendedAt)
			s.BindBool(5, m.InvitesDisabled)
		})
	return wrap(err, "keep measures")
}

// departed returns the measures against a DID that has no account here. It also reports
// whether the DID is known: it has measures, or something of it was taken down.
func departed(c *sqlite.Conn, did syntax.DID) (m account.Measures, known bool, err error) {
	b := func(s *sqlite.Stmt) { s.BindText(1, did.String()) }
	err = query(c, "SELECT takendown_at, takedown_ref, suspended_at, invites_disabled FROM measure WHERE did = ?", b,
		func(r *sqlite.Stmt) error {
			known = true
			m = account.Measures{
				TakenDownAt: columnTime(r, 0), TakedownRef: r.ColumnText(1),
				SuspendedAt: columnTime(r, 2), InvitesDisabled: r.ColumnBool(3),
			}
			return nil
		})
	if err == nil && !known {
		err = query(c, "SELECT 1 FROM takedown WHERE did = ? LIMIT 1", b, func(*sqlite.Stmt) error { known = true; return nil })
	}
	return m, known, wrap(err, "look for measures")
}

// accountOf returns the account of a DID, account.ErrNotFound if it has none.
func accountOf(c *sqlite.Conn, did syntax.DID) (*account.Account, error) {
	return findAccount(c, "a.did = CAST(? AS TEXT)", func(s *sqlite.Stmt) { s.BindText(1, did.String()) })
}

// MeasuresOf implements account.Store.
func (db Accounts) MeasuresOf(ctx context.Context, did syntax.DID) (m account.Measures, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		var known bool
		if m, known, err = measuresOf(c, did); err == nil && !known {
			err = account.ErrNotFound
		}
		return err
	})
	return m, err
}

// measuresOf returns the measures against a DID, whether it has an account here or had
// one. It also reports whether the DID is known.
func measuresOf(c *sqlite.Conn, did syntax.DID) (m account.Measures, known bool, err error) {
	a, err := accountOf(c, did)
	switch {
	case err == nil:
		return a.Measures, true, nil
	case errors.Is(err, account.ErrNotFound):
		return departed(c, did)
	default:
		return m, false, err
	}
}

// SetMeasures implements account.Store.
func (db Accounts) SetMeasures(
	ctx context.Context, did syntax.DID, c account.StatusChange, e account.Entry,
) (m account.Measures, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		switch _, err := accountOf(tx.Conn, did); {
		case err == nil:
			return account.ErrNotFound
		case !errors.Is(err, account.ErrNotFound):
			return err
		}
		was, known, err := departed(tx.Conn, did)
		switch {
		case err != nil:
			return err
		case !known:
			return account.ErrNotFound
		}
		m = was.With(c, e.At)
		if err := keepMeasures(tx.Conn, did, m); err != nil {
			return err
		}
		return auditEntry(tx.Conn, did, e)
	})
	return m, err
}
