package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"

	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/device"
	"nestbox/signin"
	"nestbox/store/sqlite/groupcommit"
)

// Factors implements signin.Store.
type Factors struct{ *DB }

var _ signin.Store = Factors{}

// Factors implements signin.Store.
func (db Factors) Factors(ctx context.Context, id int64) (f signin.Factors, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		f, err = loadFactors(c, id)
		return err
	})
	return f, err
}

func loadFactors(c *sqlite.Conn, id int64) (f signin.Factors, err error) {
	one := func(s *sqlite.Stmt) { s.BindInt64(1, id) }
	found := false
	err = query(c, `SELECT a.passkey_second, a.dangerous_factor, a.apps_by_password,
			t.secret_sealed, t.confirmed_at, t.last_step, t.last_flow, t.used_at, w.handle, k.key_sealed, k.made_at
		FROM account a LEFT JOIN totp t ON t.account_id = a.id LEFT JOIN webauthn_user w ON w.account_id = a.id
			LEFT JOIN recovery_key k ON k.account_id = a.id
		WHERE a.id = ? AND a.pending_operation IS NULL`, one, func(r *sqlite.Stmt) error {
		found = true
		f.Switches = account.Switches{PasskeySecond: r.ColumnBool(0), DangerousFactor: r.ColumnBool(1), AppsOff: !r.ColumnBool(2)}
		if !r.ColumnIsNull(3) {
			f.TOTP = &signin.Authenticator{
				SecretSealed: columnBytes(r, 3), ConfirmedAt: columnTime(r, 4), LastStep: r.ColumnInt64(5), LastFlow: r.ColumnText(6),
				UsedAt: columnTime(r, 7),
			}
		}
		f.UserHandle, f.RecoveryKey, f.RecoveryMadeAt = columnBytes(r, 8), columnBytes(r, 9), columnTime(r, 10)
		return nil
	})
	if err != nil {
		return f, fmt.Errorf("read second factors: %w", err)
	}
	if !found {
		return f, account.ErrNotFound
	}
	err = query(c, `SELECT id, credential_id, credential, name, made_at, used_at, used_network, warned_at, host
		FROM passkey WHERE account_id = ? ORDER BY id`, one, func(r *sqlite.Stmt) error {
		f.Passkeys = append(f.Passkeys, signin.Passkey{
			ID: r.ColumnInt64(0), CredentialID: columnBytes(r, 1), Credential: columnBytes(r, 2), Name: r.ColumnText(3),
			MadeAt: columnTime(r, 4), UsedAt: columnTime(r, 5), UsedNetwork: r.ColumnText(6), WarnedAt: columnTime(r, 7), Host: r.ColumnText(8),
		})
		return nil
	})
	if err != nil {
		return f, fmt.Errorf("read passkeys: %w", err)
	}
	err = query(c, "SELECT hash, used_at, used_flow FROM recovery_code WHERE account_id = ? ORDER BY hash", one, func(r *sqlite.Stmt) error {
		f.Recovery = append(f.Recovery, signin.RecoveryCode{Hash: columnBytes(r, 0), UsedAt: columnTime(r, 1), UsedFlow: r.ColumnText(2)})
		return nil
	})
	return f, wrap(err, "read recovery codes")
}

// ChangeFactors implements signin.Store.
func (db Factors) ChangeFactors(ctx context.Context, id int64, decide func(account.Account, signin.Factors) (signin.Changed, error)) error {
	return Accounts(db).update(ctx, id, func(tx *groupcommit.Tx, a *account.Account) error {
		was, err := loadFactors(tx.Conn, id)
		if err != nil {
			return err
		}
		c, err := decide(*a, was)
		if err != nil {
			return err
		}
		is := c.Factors
		for _, write := range []func(*sqlite.Conn, int64, signin.Factors, signin.Factors) error{putSwitches, putTOTP, putPasskeys, putRecovery} {
			if err := write(tx.Conn, id, was, is); err != nil {
				return err
			}
		}
		for _, e := range c.Entries {
			if _, err := endBrowsers(tx.Conn, id, 0, device.EndingOf(e.Kind)); err != nil {
				return err
			}
			if err := insertEntry(tx.Conn, id, e); err != nil {
				return err
			}
			if _, err := endBrowsers(tx.Conn, id, 0, device.EndingOf(e.Kind)); err != nil {
				return err
			}
		}
		if len(c.Entries) == 0 {
			return nil
		}
		return queueMails(tx, db.DB, id, c.Entries[0].At, c.Mails)
	})
}

func putSwitches(c *sqlite.Conn, id int64, was, is signin.Factors) error {
	if was.Switches == is.Switches {
		return nil
	}
	_, err := change(c, "UPDATE account SET passkey_second = ?, dangerous_factor = ?, apps_by_password = ? WHERE id = ?",
		func(s *sqlite.Stmt) {
			s.BindBool(1, is.PasskeySecond)
			s.BindBool(2, is.DangerousFactor)
			s.BindBool(3, !is.AppsOff)
			s.BindInt64(4, id)
		})
	return wrap(err, "set switches of second factors")
}

func putTOTP(c *sqlite.Conn, id int64, was, is signin.Factors) error {
	if reflect.DeepEqual(was.TOTP, is.TOTP) {
		return nil
	}
	if is.TOTP == nil {
		_, err := change(c, "DELETE FROM totp WHERE account_id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) })
		return wrap(err, "delete authenticator")
	}
	_, err := change(c, `INSERT OR REPLACE INTO totp (account_id, secret_sealed, confirmed_at, last_step, last_flow, used_at)
		VALUES (?, ?, ?, ?, ?, ?)`, func(s *sqlite.Stmt) {
		s.BindInt64(1, id)
		s.BindBytes(2, is.TOTP.SecretSealed)
		bindTime(s, 3, is.TOTP.ConfirmedAt)
		s.BindInt64(4, is.TOTP.LastStep)
		s.BindText(5, is.TOTP.LastFlow)
		bindTime(s, 6, is.TOTP.UsedAt)
	})
	return wrap(err, "store authenticator")
}

func putPasskeys(c *sqlite.Conn, id int64, was, is signin.Factors) error {
	if len(was.UserHandle) == 0 && len(is.UserHandle) > 0 {
		_, err := change(c, "INSERT INTO webauthn_user (account_id, handle) VALUES (?, ?)",
			func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindBytes(2, is.UserHandle) })
		if err != nil {
			return fmt.Errorf("store user handle: %w", err)
		}
	}
	for _, p := range was.Passkeys {
		if slices.ContainsFunc(is.Passkeys, func(q signin.Passkey) bool { return q.ID == p.ID }) {
			continue
		}
		if _, err := change(c, "DELETE FROM passkey WHERE id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, p.ID) }); err != nil {
			return fmt.Errorf("delete passkey: %w", err)
		}
	}
	for _, p := range is.Passkeys {
		if slices.ContainsFunc(was.Passkeys, func(q signin.Passkey) bool { return reflect.DeepEqual(p, q) }) {
			continue
		}
		if err := putPasskey(c, id, p); err != nil {
			return err
		}
	}
	return nil
}

func putPasskey(c *sqlite.Conn, id int64, p signin.Passkey) error {
	_, err := change(c, `INSERT INTO passkey (id, account_id, credential_id, credential, name, made_at, used_at, used_network, warned_at, host)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
			credential = excluded.credential, name = excluded.name, used_at = excluded.used_at,
			used_network = excluded.used_network, warned_at = excluded.warned_at`,
		func(s *sqlite.Stmt) {
			bindID(s, 1, p.ID)
			s.BindInt64(2, id)
			s.BindBytes(3, p.CredentialID)
			s.BindBytes(4, p.Credential)
			s.BindText(5, p.Name)
			bindTime(s, 6, p.MadeAt)
			bindTime(s, 7, p.UsedAt)
			s.BindText(8, p.UsedNetwork)
			bindTime(s, 9, p.WarnedAt)
			s.BindText(10, p.Host)
		})
	if isUnique(err) {
		return signin.ErrPasskeyTaken
	}
	return wrap(err, "store passkey")
}

func putRecovery(c *sqlite.Conn, id int64, was, is signin.Factors) error {
	one := func(s *sqlite.Stmt) { s.BindInt64(1, id) }
	if !bytes.Equal(was.RecoveryKey, is.RecoveryKey) { // none of the old codes stays with another key
		if _, err := change(c, "DELETE FROM recovery_code WHERE account_id = ?", one); err != nil {
			return fmt.Errorf("delete recovery codes: %w", err)
		}
		if _, err := change(c, "DELETE FROM recovery_key WHERE account_id = ?", one); err != nil {
			return fmt.Errorf("delete the key of recovery codes: %w", err)
		}
		was.Recovery = nil
		if len(is.RecoveryKey) > 0 {
			_, err := change(c, "INSERT INTO recovery_key (account_id, key_sealed, made_at) VALUES (?, ?, ?)",
				func(s *sqlite.Stmt) {
					s.BindInt64(1, id)
					s.BindBytes(2, is.RecoveryKey)
					bindTime(s, 3, is.RecoveryMadeAt)
				})
			if err != nil {
				return fmt.Errorf("store the key of recovery codes: %w", err)
			}
		}
	}
	for _, code := range is.Recovery {
		if slices.ContainsFunc(was.Recovery, func(w signin.RecoveryCode) bool { return reflect.DeepEqual(w, code) }) {
			continue
		}
		_, err := change(c, "INSERT OR REPLACE INTO recovery_code (account_id, hash, used_at, used_flow) VALUES (?, ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindInt64(1, id)
				s.BindBytes(2, code.Hash)
				bindTime(s, 3, code.UsedAt)
				s.BindText(4, code.UsedFlow)
			})
		if err != nil {
			return fmt.Errorf("store recovery code: %w", err)
		}
	}
	return nil
}

// ByUserHandle implements signin.Store.
func (db Factors) ByUserHandle(ctx context.Context, handle []byte) (a *account.Account, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		a, err = findAccount(c, "a.id = (SELECT account_id FROM webauthn_user WHERE handle = ?)", func(s *sqlite.Stmt) { s.BindBytes(1, handle) })
		return err
	})
	return a, err
}

// PasskeysElsewhere implements signin.Store.
func (db Factors) PasskeysElsewhere(ctx context.Context, host string) (n int64, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT count(*) FROM passkey WHERE host <> CAST(? AS TEXT)", func(s *sqlite.Stmt) { s.BindText(1, host) },
			func(r *sqlite.Stmt) error { n = r.ColumnInt64(0); return nil })
	})
	return n, wrap(err, "count passkeys of other hosts")
}
