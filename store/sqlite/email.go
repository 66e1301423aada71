package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/device"
	"nestbox/mail"
	"nestbox/store/sqlite/groupcommit"
)

// Codes implements account.CodeStore.
type Codes struct{ *DB }

var _ account.CodeStore = Codes{}

// SetCode implements account.CodeStore.
func (db Codes) SetCode(ctx context.Context, id int64, code account.Code, m mail.Message) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		if _, err := findAccount(tx.Conn, "a.id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) }); err != nil {
			return err
		}
		_, err := change(tx.Conn, `INSERT OR REPLACE INTO email_code (account_id, purpose, hash, made_at, expires, tries)
			VALUES (?, ?, ?, ?, ?, 0)`,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, id)
				s.BindText(2, string(code.Purpose))
				s.BindBytes(3, code.Hash)
				bindTime(s, 4, code.MadeAt)
				bindTime(s, 5, code.Expires)
			})
		if err != nil {
			return fmt.Errorf("store e-mail code: %w", err)
		}
		if err := queueMail(tx.Conn, id, code.MadeAt, m, mail.MaxWaiting); err != nil {
			return err
		}
		wakeOutbox(tx, db.DB)
		return nil
	})
}

// Decoy implements account.CodeStore.
func (db Codes) Decoy(ctx context.Context, at time.Time) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		if err := outboxHasRoom(tx.Conn, at, mail.MaxWaiting); err != nil {
			return err
		}
		_, err := change(tx.Conn, "INSERT OR REPLACE INTO email_code_decoy (id, at) VALUES (1, ?)", func(s *sqlite.Stmt) { bindTime(s, 1, at) })
		if err != nil {
			return fmt.Errorf("write decoy: %w", err)
		}
		return nil
	})
}

const codeColumns = "purpose, hash, made_at, expires, used_flow, used_at"

// oneCode runs a statement that returns codeColumns of at most one row.
func oneCode(c *sqlite.Conn, sql string, b bind) (code account.Code, err error) {
	found := false
	err = query(c, sql, b, func(r *sqlite.Stmt) error {
		found = true
		code = account.Code{
			Purpose: account.Purpose(r.ColumnText(0)), Hash: columnBytes(r, 1),
			MadeAt: columnTime(r, 2), Expires: columnTime(r, 3), UsedFlow: r.ColumnText(4), UsedAt: columnTime(r, 5),
		}
		return nil
	})
	if err != nil {
		return account.Code{}, fmt.Errorf("look for e-mail code: %w", err)
	}
	if !found {
		return account.Code{}, account.ErrCodeInvalid
	}
	return code, nil
}

// Code implements account.CodeStore.
func (db Codes) Code(ctx context.Context, id int64, p account.Purpose) (code account.Code, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		code, err = oneCode(c, "SELECT "+codeColumns+" FROM email_code WHERE account_id = ? AND purpose = ? AND used_at IS NULL",
			func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindText(2, string(p)) })
		return err
	})
	return code, err
}

// TryCode implements account.CodeStore.
func (db Codes) TryCode(ctx context.Context, id int64, p account.Purpose) (code account.Code, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		code, err = oneCode(tx.Conn, `UPDATE email_code SET tries = tries + 1
			WHERE account_id = ? AND purpose = ? AND tries < ? RETURNING `+codeColumns,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, id)
				s.BindText(2, string(p))
				s.BindInt64(3, account.MaxCodeTries)
			})
		if errors.Is(err, account.ErrCodeInvalid) {
			if _, gone := findAccount(tx.Conn, "a.id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) }); gone != nil {
				return gone
			}
		}
		return err
	})
	return code, err
}

// UseCode implements account.CodeStore.
func (db Codes) UseCode(ctx context.Context, p account.Proof) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error { return useCode(tx.Conn, p) })
}

// UseCodeIn implements account.CodeStore.
func (db Codes) UseCodeIn(ctx context.Context, p account.Proof, flow string, at time.Time) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err := change(tx.Conn, `UPDATE email_code SET used_at = ifnull(used_at, ?1), used_flow = ?2
			WHERE account_id = ?3 AND purpose = ?4 AND hash = ?5 AND used_flow IN ('', ?2)`,
			func(s *sqlite.Stmt) {
				bindTime(s, 1, at)
				s.BindText(2, flow)
				s.BindInt64(3, p.AccountID)
				s.BindText(4, string(p.Purpose))
				s.BindBytes(5, p.Hash)
			})
		if err == nil && n == 0 {
			return account.ErrCodeInvalid
		}
		return wrap(err, "use up e-mail code")
	})
}

// FindCode implements account.CodeStore.
func (db Codes) FindCode(ctx context.Context, p account.Purpose, hash []byte) (a *account.Account, code account.Code, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		where := func(s *sqlite.Stmt) { s.BindText(1, string(p)); s.BindBytes(2, hash) }
		if code, err = oneCode(c, "SELECT "+codeColumns+" FROM email_code WHERE purpose = ? AND hash = ? AND used_at IS NULL",
			where); err != nil {
			return err
		}
		a, err = findAccount(c, "a.id = (SELECT account_id FROM email_code WHERE purpose = ? AND hash = ?)", where)
		return err
	})
	if errors.Is(err, account.ErrNotFound) {
		err = account.ErrCodeInvalid
	}
	return a, code, err
}

// useCode uses up the code that allowed a change. It returns
// account.ErrCodeInvalid if another request was quicker, or a newer code
// replaced it.
func useCode(c *sqlite.Conn, p account.Proof) error {
	n, err := change(c, "DELETE FROM email_code WHERE account_id = ? AND purpose = ? AND hash = ? AND used_at IS NULL",
		func(s *sqlite.Stmt) {
			s.BindInt64(1, p.AccountID)
			s.BindText(2, string(p.Purpose))
			s.BindBytes(3, p.Hash)
		})
	if err != nil {
		return fmt.Errorf("use up e-mail code: %w", err)
	}
	if n == 0 {
		return account.ErrCodeInvalid
	}
	return nil
}

// dropCodes removes an account's codes for the given purposes, for all purposes
// if none is given.
func dropCodes(c *sqlite.Conn, id int64, purposes ...account.Purpose) error {
	if len(purposes) == 0 {
		if _, err := change(c, "DELETE FROM email_code WHERE account_id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) }); err != nil {
			return fmt.Errorf("drop e-mail codes: %w", err)
		}
	}
	for _, p := range purposes {
		_, err := change(c, "DELETE FROM email_code WHERE account_id = ? AND purpose = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindText(2, string(p)) })
		if err != nil {
			return fmt.Errorf("drop e-mail codes: %w", err)
		}
	}
	return nil
}

// ResetPassword implements account.Store.
func (db Accounts) ResetPassword(ctx context.Context, p account.Proof, hash string, e account.Entry, mails ...mail.Message) error {
	return db.update(ctx, p.AccountID, func(tx *groupcommit.Tx, _ *account.Account) error {
		if err := useCode(tx.Conn, p); err != nil {
			return err
		}
		return setPassword(tx, db.DB, p.AccountID, hash, 0, e, mails)
	})
}

// ConfirmEmail implements account.Store.
func (db Accounts) ConfirmEmail(ctx context.Context, p account.Proof, e account.Entry) error {
	return db.update(ctx, p.AccountID, func(tx *groupcommit.Tx, _ *account.Account) error {
		if err := useCode(tx.Conn, p); err != nil {
			return err
		}
		_, err := change(tx.Conn, "UPDATE account SET email_confirmed_at = ? WHERE id = ?",
			func(s *sqlite.Stmt) { bindTime(s, 1, e.At); s.BindInt64(2, p.AccountID) })
		if err != nil {
			return fmt.Errorf("confirm e-mail address: %w", err)
		}
		return insertEntry(tx.Conn, p.AccountID, e)
	})
}

// SetEmail implements account.Store.
func (db Accounts) SetEmail(ctx context.Context, id int64, c account.EmailChange, e account.Entry, mails ...mail.Message) error {
	return db.update(ctx, id, func(tx *groupcommit.Tx, a *account.Account) error {
		next, endCodes, err := a.WithEmail(c)
		if err != nil {
			return err
		}
		if c.Proof != nil {
			if err := useCode(tx.Conn, *c.Proof); err != nil {
				return err
			}
		}
		if endCodes {
			if err := dropCodes(tx.Conn, id); err != nil {
				return err
			}
		}
		taken := false
		err = query(tx.Conn, "SELECT 1 FROM account WHERE email_key = ? AND id <> ?",
			func(s *sqlite.Stmt) { s.BindText(1, account.OlderEmailKey(next.Email)); s.BindInt64(2, id) },
			func(*sqlite.Stmt) error { taken = true; return nil })
		if err != nil {
			return fmt.Errorf("look for e-mail address: %w", err)
		}
		if taken {
			return account.ErrEmailTaken
		}
		_, err = change(tx.Conn, "UPDATE account SET email = ?, email_key = ?, email_confirmed_at = ?, email_factor = ? WHERE id = ?",
			func(s *sqlite.Stmt) {
				s.BindText(1, next.Email)
				s.BindText(2, account.EmailKey(next.Email))
				bindTime(s, 3, next.EmailConfirmedAt)
				s.BindBool(4, next.EmailFactor)
				s.BindInt64(5, id)
			})
		if isUnique(err) {
			return account.ErrEmailTaken
		}
		if err != nil {
			return fmt.Errorf("set e-mail address: %w", err)
		}
		if _, err := endBrowsers(tx.Conn, id, 0, device.EndingOf(e.Kind)); err != nil {
			return err
		}
		return noteAndTell(tx, db.DB, id, e, mails)
	})
}

// SetLanguage implements account.Store.
func (db Accounts) SetLanguage(ctx context.Context, id int64, tag string) error {
	return db.update(ctx, id, func(tx *groupcommit.Tx, _ *account.Account) error {
		_, err := change(tx.Conn, "UPDATE account SET language = ? WHERE id = ?", func(s *sqlite.Stmt) { s.BindText(1, tag); s.BindInt64(2, id) })
		if err != nil {
			return fmt.Errorf("set language: %w", err)
		}
		return nil
	})
}

// SetNotices implements account.Store.
func (db Accounts) SetNotices(ctx context.Context, id int64, on bool) error {
	return db.update(ctx, id, func(tx *groupcommit.Tx, _ *account.Account) error {
		_, err := change(tx.Conn, "UPDATE account SET notices = ? WHERE id = ?", func(s *sqlite.Stmt) { s.BindBool(1, on); s.BindInt64(2, id) })
		if err != nil {
			return fmt.Errorf("set notices: %w", err)
		}
		return nil
	})
}
