package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/mail"
	"nestbox/repo"
	"nestbox/store/sqlite/groupcommit"
)

// Hosting implements hosting.Store.
type Hosting struct{ *DB }

var _ hosting.Store = Hosting{}

// Reserve implements hosting.Store.
func (db Hosting) Reserve(ctx context.Context, p hosting.Pending) (id int64, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		id, err = reserve(tx.Conn, p, true)
		return err
	})
	return id, err
}

// reserve claims handle, address, invite code and DID for a new account, and
// inserts it, pending or not.
func reserve(c *sqlite.Conn, p hosting.Pending, pending bool) (id int64, err error) {
	for _, taken := range []struct {
		where, value string
		err          error
	}{
		{"handle = ?", p.Handle.String(), account.ErrHandleTaken},
		{"email_key = ?", account.EmailKey(p.Email), account.ErrEmailTaken},
		{"email_key = ?", account.OlderEmailKey(p.Email), account.ErrEmailTaken},
		{"did = ?", p.DID.String(), account.ErrDIDTaken},
	} {
		exists := false
		err := query(c, "SELECT 1 FROM account WHERE "+taken.where,
			func(s *sqlite.Stmt) { s.BindText(1, taken.value) },
			func(*sqlite.Stmt) error { exists = true; return nil })
		if err != nil {
			return 0, fmt.Errorf("look for account: %w", err)
		}
		if exists {
			return 0, taken.err
		}
	}
	switch being, err := handleBeingTaken(c, p.Handle, 0); {
	case err != nil:
		return 0, err
	case being:
		return 0, account.ErrHandleTaken
	}
	if p.InviteCode != "" {
		if err := useInvite(c, p.InviteCode, p.DID, p.CreatedAt); err != nil {
			return 0, err
		}
	}
	return insertPending(c, p, pending)
}

// MoveIn implements hosting.Store.
func (db Hosting) MoveIn(
	ctx context.Context, p hosting.Pending, document []byte, first repo.Change, e account.Entry,
) (a *account.Account, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		measures, _, err := departed(tx.Conn, p.DID)
		if err != nil {
			return err
		}
		if err := measures.MayMoveIn(); err != nil {
			return err
		}
		id, err := reserve(tx.Conn, p, false)
		if err != nil {
			return err
		}
		if err := putMeasures(tx.Conn, id, measures); err != nil {
			return err
		}
		if err := keepMeasures(tx.Conn, p.DID, account.Measures{}); err != nil {
			return err
		}
		_, err = change(tx.Conn, "UPDATE account SET deactivated_at = ? WHERE id = ?",
			func(s *sqlite.Stmt) { bindTime(s, 1, p.CreatedAt); s.BindInt64(2, id) })
		if err != nil {
			return fmt.Errorf("move account in: %w", err)
		}
		if k, err := reservedKey(tx.Conn, p.DID); err == nil && k.Public != p.SigningKey {
			return hosting.ErrKeyReserved
		} else if err != nil && !errors.Is(err, account.ErrNotFound) {
			return err
		}
		_, err = change(tx.Conn, "DELETE FROM reserved_key WHERE did = ?", func(s *sqlite.Stmt) { s.BindText(1, p.DID.String()) })
		if err != nil {
			return fmt.Errorf("use reserved key: %w", err)
		}
		first.AccountID = id
		if err := saveDocument(tx.Conn, id, document, false, e.At); err != nil {
			return err
		}
		if err := insertEntry(tx.Conn, id, e); err != nil {
			return err
		}
		if _, err := beginRepo(tx.Conn, id, first); err != nil {
			return err
		}
		a, err = findAccount(tx.Conn, "a.id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) })
		forget(tx, db.DB, p.DID)
		return err
	})
	return a, err
}

// insertPending inserts an account. pending_operation, in which earlier versions kept the
// operation, marks one that is pending.
func insertPending(c *sqlite.Conn, p hosting.Pending, pending bool) (id int64, err error) {
	err = query(c, `INSERT INTO account
		(did, handle, email, email_key, password_hash, created_at, invited_with, signing_key, signing_key_sealed, pending_operation, made_by)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, iif(?, x'', NULL), ?) RETURNING id`,
		func(s *sqlite.Stmt) {
			s.BindText(1, p.DID.String())
			s.BindText(2, p.Handle.String())
			s.BindText(3, p.Email)
			s.BindText(4, account.EmailKey(p.Email))
			s.BindText(5, p.PasswordHash)
			bindTime(s, 6, p.CreatedAt)
			s.BindText(7, p.InviteCode)
			s.BindText(8, p.SigningKey)
			s.BindBytes(9, p.SigningKeySealed)
			s.BindBool(10, pending)
			s.BindText(11, p.MadeBy)
		},
		func(r *sqlite.Stmt) error { id = r.ColumnInt64(0); return nil })
	if err != nil {
		return 0, fmt.Errorf("reserve account: %w", err)
	}
	return id, nil
}

// Activate implements hosting.Store.
func (db Hosting) Activate(ctx context.Context, id int64, document []byte, first *repo.Change, e account.Entry) (*account.Account, error) {
	var a *account.Account
	err := db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err := change(tx.Conn, "UPDATE account SET pending_operation = NULL WHERE id = ? AND pending_operation IS NOT NULL",
			func(s *sqlite.Stmt) { s.BindInt64(1, id) })
		if err != nil {
			return fmt.Errorf("activate account: %w", err)
		}
		if n == 0 {
			return account.ErrNotFound
		}
		if err := saveDocument(tx.Conn, id, document, false, e.At); err != nil {
			return err
		}
		if err := insertEntry(tx.Conn, id, e); err != nil {
			return err
		}
		if a, err = findAccount(tx.Conn, "a.id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) }); err != nil {
			return err
		}
		forget(tx, db.DB, a.DID)
		if first != nil {
			if _, err := beginRepo(tx.Conn, id, *first); err != nil {
				return err
			}
		}
		return insertLogs(tx, db.DB, hosting.BirthEvents(a, first, e.At), e.At)
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Abandon implements hosting.Store.
func (db Hosting) Abandon(ctx context.Context, id int64) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, `DELETE FROM invite_use WHERE (used_by, used_at) =
			(SELECT did, created_at FROM account WHERE id = ? AND pending_operation IS NOT NULL)`,
			func(s *sqlite.Stmt) { s.BindInt64(1, id) })
		if err != nil {
			return fmt.Errorf("free invite code: %w", err)
		}
		_, err = change(tx.Conn, "DELETE FROM account WHERE id = ? AND pending_operation IS NOT NULL",
			func(s *sqlite.Stmt) { s.BindInt64(1, id) })
		if err != nil {
			return fmt.Errorf("abandon account: %w", err)
		}
		return nil
	})
}

// Pending implements hosting.Store.
func (db Hosting) Pending(ctx context.Context) ([]hosting.Pending, error) {
	var out []hosting.Pending
	err := db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT id, did, handle, email, signing_key, invited_with, created_at, signing_key_sealed, made_by
			FROM account WHERE pending_operation IS NOT NULL ORDER BY id`, nil,
			func(r *sqlite.Stmt) error {
				out = append(out, hosting.Pending{
					AccountID: r.ColumnInt64(0), DID: syntax.DID(r.ColumnText(1)), Handle: syntax.Handle(r.ColumnText(2)),
					Email: r.ColumnText(3), SigningKey: r.ColumnText(4),
					InviteCode: r.ColumnText(5), CreatedAt: columnTime(r, 6), SigningKeySealed: columnBytes(r, 7), MadeBy: r.ColumnText(8),
				})
				return nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list reservations: %w", err)
	}
	return out, nil
}

// SealedKey implements hosting.Store.
func (db Hosting) SealedKey(ctx context.Context, id int64) (did syntax.DID, sealed []byte, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT did, signing_key_sealed FROM account WHERE id = ? AND pending_operation IS NULL",
			func(s *sqlite.Stmt) { s.BindInt64(1, id) },
			func(r *sqlite.Stmt) error { did, sealed = syntax.DID(r.ColumnText(0)), columnBytes(r, 1); return nil })
	})
	if err != nil {
		return "", nil, fmt.Errorf("read signing key: %w", err)
	}
	if did == "" {
		return "", nil, account.ErrNotFound
	}
	return did, sealed, nil
}

// Hosted implements hosting.Store.
func (db Hosting) Hosted(ctx context.Context) (n int64, err error) {
	err = db.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		return query(c, `SELECT count(*) FROM account WHERE pending_operation IS NULL AND deactivated_at IS NULL
			AND takendown_at IS NULL AND suspended_at IS NULL`, nil,
			func(r *sqlite.Stmt) error { n = r.ColumnInt64(0); return nil })
	})
	return n, wrap(err, "count accounts")
}

// AnyKey implements hosting.Store.
func (db Hosting) AnyKey(ctx context.Context) (did syntax.DID, sealed []byte, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT did, signing_key_sealed FROM account ORDER BY id LIMIT 1", nil,
			func(r *sqlite.Stmt) error { did, sealed = syntax.DID(r.ColumnText(0)), columnBytes(r, 1); return nil })
	})
	if err != nil {
		return "", nil, fmt.Errorf("read a signing key: %w", err)
	}
	if did == "" {
		return "", nil, account.ErrNotFound
	}
	return did, sealed, nil
}

// ReserveKey implements hosting.Store.
func (db Hosting) ReserveKey(
	ctx context.Context, k hosting.ReservedKey, expired time.Time, limit int,
) (kept hosting.ReservedKey, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "DELETE FROM reserved_key WHERE reserved_at < ?", func(s *sqlite.Stmt) { bindTime(s, 1, expired) })
		if err != nil {
			return fmt.Errorf("sweep reserved keys: %w", err)
		}
		if k.DID != "" {
			if kept, err = reservedKey(tx.Conn, k.DID); !errors.Is(err, account.ErrNotFound) {
				return err
			}
		}
		if err := dropSurplusKeys(tx.Conn, limit); err != nil {
			return err
		}
		_, err = change(tx.Conn, "INSERT INTO reserved_key (public_key, did, sealed, reserved_at, sender) VALUES (?, NULLIF(?, ''), ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindText(1, k.Public)
				s.BindText(2, k.DID.String())
				s.BindBytes(3, k.Sealed)
				bindTime(s, 4, k.ReservedAt)
				s.BindBytes(5, k.Sender)
			})
		if err != nil {
			return fmt.Errorf("reserve key: %w", err)
		}
		kept = k
		return nil
	})
	return kept, err
}

// dropSurplusKeys makes room in a full table of reserved keys.
func dropSurplusKeys(c *sqlite.Conn, limit int) error {
	count := 0
	err := query(c, "SELECT count(*) FROM reserved_key", nil, func(r *sqlite.Stmt) error { count = r.ColumnInt(0); return nil })
	if err != nil || count < limit {
		return wrap(err, "count reserved keys")
	}
	held := make([]hosting.HeldKey, 0, count)
	err = query(c, "SELECT public_key, did IS NOT NULL, sender, reserved_at FROM reserved_key", nil, func(r *sqlite.Stmt) error {
		held = append(held, hosting.HeldKey{
			Public: r.ColumnText(0), Named: r.ColumnBool(1), Sender: string(columnBytes(r, 2)), ReservedAt: columnTime(r, 3),
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("read reserved keys: %w", err)
	}
	_, err = change(c, "DELETE FROM reserved_key WHERE public_key IN (SELECT value FROM json_each(?))",
		func(s *sqlite.Stmt) { bindList(s, 1, hosting.SurplusKeys(held, limit)) })
	return wrap(err, "drop reserved keys")
}

// ReservedKey implements hosting.Store.
func (db Hosting) ReservedKey(ctx context.Context, did syntax.DID) (k hosting.ReservedKey, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		k, err = reservedKey(c, did)
		return err
	})
	return k, err
}

func reservedKey(c *sqlite.Conn, did syntax.DID) (k hosting.ReservedKey, err error) {
	err = query(c, "SELECT public_key, sealed, reserved_at FROM reserved_key WHERE did = ?",
		func(s *sqlite.Stmt) { s.BindText(1, did.String()) },
		func(r *sqlite.Stmt) error {
			k = hosting.ReservedKey{Public: r.ColumnText(0), DID: did, Sealed: columnBytes(r, 1), ReservedAt: columnTime(r, 2)}
			return nil
		})
	if err != nil {
		return k, fmt.Errorf("look for reserved key: %w", err)
	}
	if k.Public == "" {
		return k, account.ErrNotFound
	}
	return k, nil
}

// DeleteDue implements hosting.Store.
func (db Hosting) DeleteDue(
	ctx context.Context, now time.Time, farewell func(*account.Account) []mail.Message,
) (a *account.Account, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		a, err = dueAccount(c, now)
		return err
	})
	if err != nil || a == nil { // looked for first on a reader: most often there is none
		return nil, err
	}
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		if a, err = dueAccount(tx.Conn, now); err != nil || a == nil {
			return err
		}
		forget(tx, db.DB, a.DID)
		return deleteAccount(tx, db.DB, a, now, farewell(a)...)
	})
	return a, err
}

// dueAccount returns the account that is hosting.Due for the longest, nil if none is.
func dueAccount(c *sqlite.Conn, now time.Time) (due *account.Account, err error) {
	err = query(c, "SELECT "+accountColumns+accountTables+"WHERE a.pending_operation IS NULL AND a.delete_after <= ? ORDER BY a.delete_after",
		func(s *sqlite.Stmt) { bindTime(s, 1, now) },
		func(r *sqlite.Stmt) error {
			if a := scanAccount(r); due == nil && hosting.Due(a, now) {
				due = a
			}
			return nil
		})
	return due, wrap(err, "look for accounts that are due")
}
