package sqlite

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/device"
	"nestbox/session"
	"nestbox/store/sqlite/groupcommit"
)

// Inherited implements session.Store.
func (db Sessions) Inherited(ctx context.Context, hash [sha256.Size]byte) (in session.Inherited, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT a.did, t.session_id, t.generation FROM legacy_token t
			JOIN session s ON s.id = t.session_id JOIN account a ON a.id = s.account_id WHERE t.hash = ?`,
			func(s *sqlite.Stmt) { s.BindBytes(1, hash[:]) },
			func(r *sqlite.Stmt) error {
				in = session.Inherited{DID: syntax.DID(r.ColumnText(0)), ID: r.ColumnInt64(1), Generation: r.ColumnInt64(2)}
				return nil
			})
	})
	switch {
	case err != nil:
		return in, fmt.Errorf("look for a token of another server: %w", err)
	case in.ID == 0:
		return in, session.ErrUnknown
	}
	return in, nil
}

// forgetStep is how many tokens one call of ForgetInherited removes.
const forgetStep = 2000

// ForgetInherited implements session.Store. It uses the writer only if there is something
// to remove.
func (db Sessions) ForgetInherited(ctx context.Context, before time.Time) (n int, err error) {
	const due = "EXISTS (SELECT 1 FROM legacy_since WHERE at < ?1)"
	old := false
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT 1 FROM legacy_token WHERE "+due+" LIMIT 1",
			func(s *sqlite.Stmt) { bindTime(s, 1, before) },
			func(*sqlite.Stmt) error { old = true; return nil })
	})
	if err != nil || !old {
		return 0, wrap(err, "look for old tokens of another server")
	}
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) (err error) {
		n, err = change(tx.Conn, "DELETE FROM legacy_token WHERE "+due+" AND hash IN (SELECT hash FROM legacy_token LIMIT ?2)",
			func(s *sqlite.Stmt) { bindTime(s, 1, before); s.BindInt64(2, forgetStep) })
		return wrap(err, "forget tokens of another server")
	})
	return n, err
}

// endForeign ends the access tokens that another server issued to the account of a session
// that is about to end, if session.EndsForeign says so.
func endForeign(tx *groupcommit.Tx, db *DB, id int64, at time.Time) error {
	var accountID int64
	err := query(tx.Conn, `SELECT s.account_id, l.at FROM legacy_since l JOIN session s ON s.id = ?
		WHERE s.scope <> 'oauth' AND EXISTS (SELECT 1 FROM legacy_token t WHERE t.session_id = s.id)`,
		func(s *sqlite.Stmt) { s.BindInt64(1, id) },
		func(r *sqlite.Stmt) error {
			if session.EndsForeign(columnTime(r, 1), at) {
				accountID = r.ColumnInt64(0)
			}
			return nil
		})
	if err != nil || accountID == 0 {
		return wrap(err, "look for tokens of another server")
	}
	return expireForeignTokens(tx, db, accountID, at)
}

// Inherited implements device.Store.
func (db Devices) Inherited(ctx context.Context, hash [device.HashSize]byte) (id int64, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT device_id FROM legacy_browser WHERE hash = ?",
			func(s *sqlite.Stmt) { s.BindBytes(1, hash[:]) },
			func(r *sqlite.Stmt) error { id = r.ColumnInt64(0); return nil })
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("look for a browser of another server: %w", err)
	case id == 0:
		return 0, device.ErrUnknown
	}
	return id, nil
}

// ForgetInherited implements device.Store. It uses the writer only if there is something to
// remove.
func (db Devices) ForgetInherited(ctx context.Context, before time.Time) error {
	const due = "FROM legacy_browser WHERE EXISTS (SELECT 1 FROM legacy_since WHERE at < ?)"
	old := false
	err := db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT 1 "+due+" LIMIT 1", func(s *sqlite.Stmt) { bindTime(s, 1, before) },
			func(*sqlite.Stmt) error { old = true; return nil })
	})
	if err != nil || !old {
		return wrap(err, "look for old browsers of another server")
	}
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "DELETE "+due, func(s *sqlite.Stmt) { bindTime(s, 1, before) })
		return wrap(err, "forget browsers of another server")
	})
}
