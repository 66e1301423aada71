package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/admin"
	"nestbox/store/sqlite/groupcommit"
)

var _ admin.EntranceStore = Admin{}

// SetRole implements admin.EntranceStore.
func (db Admin) SetRole(ctx context.Context, id int64, role admin.Role, a admin.Action) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		of := func(s *sqlite.Stmt) { s.BindInt64(1, id) }
		if _, err := findAccount(tx.Conn, "a.id = ?", of); err != nil {
			return err
		}
		var err error
		if role == "" {
			if err = endPresences(tx.Conn, id); err == nil {
				_, err = change(tx.Conn, "DELETE FROM admin_role WHERE account_id = ?", of)
			}
		} else {
			_, err = change(tx.Conn, "INSERT OR REPLACE INTO admin_role (account_id, role, given_at) VALUES (?, ?, ?)",
				func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindText(2, string(role)); bindTime(s, 3, a.At) })
		}
		if err != nil {
			return fmt.Errorf("store role: %w", err)
		}
		return insertAudit(tx.Conn, a)
	})
}

// endPresences ends an account's sessions on the admin page.
func endPresences(c *sqlite.Conn, accountID int64) error {
	_, err := change(c, "DELETE FROM admin_session WHERE account_id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, accountID) })
	return wrap(err, "end sessions on the admin page")
}

// Roles implements admin.EntranceStore.
func (db Admin) Roles(ctx context.Context) (out []admin.Holder, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT a.did, a.handle, r.role, r.given_at FROM admin_role r JOIN account a ON a.id = r.account_id
			ORDER BY a.handle, a.id`, nil,
			func(r *sqlite.Stmt) error {
				out = append(out, admin.Holder{
					DID: syntax.DID(r.ColumnText(0)), Handle: syntax.Handle(r.ColumnText(1)), Role: admin.Role(r.ColumnText(2)), At: columnTime(r, 3),
				})
				return nil
			})
	})
	return out, wrap(err, "list roles")
}

// Enter implements admin.EntranceStore.
func (db Admin) Enter(ctx context.Context, p admin.Presence, a admin.Action) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		if err := sweepPresences(tx.Conn, a.At); err != nil {
			return err
		}
		_, err := change(tx.Conn, `INSERT INTO admin_session (hash, account_id, password, epoch, made_at, seen_at, network)
			VALUES (?, nullif(?, 0), ?, ?, ?, ?, ?)`, func(s *sqlite.Stmt) {
			s.BindBytes(1, p.Hash[:])
			s.BindInt64(2, p.AccountID)
			s.BindBytes(3, append([]byte{}, p.Password...))
			s.BindInt64(4, p.Epoch)
			bindTime(s, 5, p.MadeAt)
			bindTime(s, 6, p.SeenAt)
			s.BindText(7, p.Network)
		})
		if err != nil {
			return fmt.Errorf("store session of the admin page: %w", err)
		}
		return insertAudit(tx.Conn, a)
	})
}

// sweepPresences removes the sessions that are over. There are few: those of some hours.
func sweepPresences(c *sqlite.Conn, now time.Time) error {
	var over [][]byte
	err := query(c, "SELECT hash, made_at, seen_at FROM admin_session", nil, func(r *sqlite.Stmt) error {
		if admin.Expired(columnTime(r, 1), columnTime(r, 2), now) {
			over = append(over, columnBytes(r, 0))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for sessions of the admin page: %w", err)
	}
	for _, hash := range over {
		if err := dropPresence(c, hash); err != nil {
			return err
		}
	}
	return nil
}

func dropPresence(c *sqlite.Conn, hash []byte) error {
	_, err := change(c, "DELETE FROM admin_session WHERE hash = ?", func(s *sqlite.Stmt) { s.BindBytes(1, hash) })
	return wrap(err, "remove session of the admin page")
}

// Present implements admin.EntranceStore.
func (db Admin) Present(ctx context.Context, hash [admin.HashSize]byte) (p admin.Presence, err error) {
	found := false
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		err := query(c, `SELECT s.account_id, s.password, s.epoch, s.made_at, s.seen_at, s.network, r.role, a.credential_epoch
			FROM admin_session s LEFT JOIN admin_role r ON r.account_id = s.account_id LEFT JOIN account a ON a.id = s.account_id
			WHERE s.hash = ?`,
			func(s *sqlite.Stmt) { s.BindBytes(1, hash[:]) },
			func(r *sqlite.Stmt) error {
				found = true
				p = admin.Presence{
					Hash: hash, AccountID: r.ColumnInt64(0), Password: columnBytes(r, 1), Epoch: r.ColumnInt64(2), MadeAt: columnTime(r, 3),
					SeenAt: columnTime(r, 4), Network: r.ColumnText(5), Role: admin.Role(r.ColumnText(6)), Now: r.ColumnInt64(7),
				}
				return nil
			})
		if err != nil || p.AccountID == 0 {
			return err
		}
		p.Account, err = findAccount(c, "a.id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, p.AccountID) })
		return err
	})
	if err == nil && !found {
		err = admin.ErrSignedOut
	}
	if err != nil {
		return admin.Presence{}, fmt.Errorf("find session of the admin page: %w", err)
	}
	return p, nil
}

// Seen implements admin.EntranceStore.
func (db Admin) Seen(ctx context.Context, hash [admin.HashSize]byte, at time.Time, network string) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "UPDATE admin_session SET seen_at = ?, network = ? WHERE hash = ?", func(s *sqlite.Stmt) {
			bindTime(s, 1, at)
			s.BindText(2, network)
			s.BindBytes(3, hash[:])
		})
		return wrap(err, "note a visit of the admin page")
	})
}

// Exit implements admin.EntranceStore.
func (db Admin) Exit(ctx context.Context, hash [admin.HashSize]byte, a admin.Action) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err := change(tx.Conn, "DELETE FROM admin_session WHERE hash = ?", func(s *sqlite.Stmt) { s.BindBytes(1, hash[:]) })
		if err != nil {
			return fmt.Errorf("remove session of the admin page: %w", err)
		}
		if n == 0 {
			return nil
		}
		return insertAudit(tx.Conn, a)
	})
}
