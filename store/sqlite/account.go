package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/dagcbor"
	"nestbox/mail"
	"nestbox/repo/car"
	"nestbox/store/sqlite/groupcommit"
)

// Accounts implements account.Store.
type Accounts struct{ *DB }

var _ account.Store = Accounts{}

const accountColumns = `a.id, a.did, a.handle, a.email, a.created_at, a.email_confirmed_at, a.deactivated_at,
	a.delete_after, a.takendown_at, a.takedown_ref, a.suspended_at, a.invited_with, a.signing_key, a.tokens_valid_after,
	i.document, i.handle_invalid, i.checked_at, a.email_factor, a.notices, a.invites_disabled,
	a.passkey_second, a.dangerous_factor, a.apps_by_password, a.language`

const accountTables = ` FROM account a LEFT JOIN identity i ON i.account_id = a.id `

func scanAccount(r *sqlite.Stmt) *account.Account {
	return &account.Account{
		ID: r.ColumnInt64(0), DID: syntax.DID(r.ColumnText(1)), Handle: syntax.Handle(r.ColumnText(2)), Email: r.ColumnText(3),
		CreatedAt: columnTime(r, 4), EmailConfirmedAt: columnTime(r, 5), DeactivatedAt: columnTime(r, 6),
		DeleteAfter: columnTime(r, 7),
		Measures: account.Measures{
			TakenDownAt: columnTime(r, 8), TakedownRef: r.ColumnText(9), SuspendedAt: columnTime(r, 10), InvitesDisabled: r.ColumnBool(19),
		},
		InvitedWith: r.ColumnText(11), SigningKey: r.ColumnText(12), TokensValidAfter: columnTime(r, 13),
		Document: columnBytes(r, 14), HandleInvalid: r.ColumnBool(15), IdentityCheckedAt: columnTime(r, 16),
		EmailFactor: r.ColumnBool(17), NoticesOff: !r.ColumnBool(18),
		Switches: account.Switches{PasskeySecond: r.ColumnBool(20), DangerousFactor: r.ColumnBool(21), AppsOff: !r.ColumnBool(22)},
		Language: r.ColumnText(23),
	}
}

// findAccount returns the account that where selects, account.ErrNotFound if
// there is none, or only one whose DID is still being registered.
func findAccount(c *sqlite.Conn, where string, b bind) (*account.Account, error) {
	var found *account.Account
	err := query(c, "SELECT "+accountColumns+accountTables+"WHERE a.pending_operation IS NULL AND "+where, b,
		func(r *sqlite.Stmt) error { found = scanAccount(r); return nil })
	if err != nil {
		return nil, fmt.Errorf("look for account: %w", err)
	}
	if found == nil {
		return nil, account.ErrNotFound
	}
	return found, nil
}

// ByDID implements account.Store. Every request calls it, so it is cached.
func (db Accounts) ByDID(ctx context.Context, did syntax.DID) (*account.Account, error) {
	if a, ok := db.accounts.GetIfPresent(did.String()); ok {
		return a, nil
	}
	var err error
	a, ok := db.accounts.ComputeIfAbsent(did.String(), func() (loaded *account.Account, cancel bool) {
		loaded, err = db.find(ctx, "a.did", did.String())
		return loaded, err != nil
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, account.ErrNotFound
	}
	return a, nil
}

// ByHandle implements account.Store.
func (db Accounts) ByHandle(ctx context.Context, h syntax.Handle) (*account.Account, error) {
	return db.find(ctx, "a.handle", h.String())
}

// ByEmail implements account.Store.
func (db Accounts) ByEmail(ctx context.Context, email string) (*account.Account, error) {
	a, err := db.find(ctx, "a.email_key", account.EmailKey(email))
	if older := account.OlderEmailKey(email); errors.Is(err, account.ErrNotFound) && older != account.EmailKey(email) {
		return db.find(ctx, "a.email_key", older)
	}
	return a, err
}

// find looks in a unique column. SQLite would compile a join again for each
// value of a bare parameter, to find a better plan; a cast hides the value.
func (db Accounts) find(ctx context.Context, column, value string) (found *account.Account, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		found, err = findAccount(c, column+" = CAST(? AS TEXT)", func(s *sqlite.Stmt) { s.BindText(1, value) })
		return err
	})
	return found, err
}

// List implements account.Store.
func (db Accounts) List(ctx context.Context, after int64, limit int) (out []*account.Account, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		out, err = listAccounts(c, after, limit)
		return err
	})
	return out, err
}

// listAccounts returns up to limit accounts with an ID above after, by ID.
func listAccounts(c *sqlite.Conn, after int64, limit int) (out []*account.Account, err error) {
	err = query(c, "SELECT "+accountColumns+accountTables+"WHERE a.pending_operation IS NULL AND a.id > ? ORDER BY a.id LIMIT ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, after); s.BindInt64(2, int64(limit)) },
		func(r *sqlite.Stmt) error { out = append(out, scanAccount(r)); return nil })
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return out, nil
}

// Credentials implements account.Store.
func (db Accounts) Credentials(ctx context.Context, id int64) (cred account.Credentials, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		found := false
		err := query(c, `SELECT password_hash, credential_epoch, takendown_at IS NOT NULL FROM account
			WHERE id = ? AND pending_operation IS NULL`,
			func(s *sqlite.Stmt) { s.BindInt64(1, id) },
			func(r *sqlite.Stmt) error {
				found = true
				cred.PasswordHash, cred.Epoch, cred.TakenDown = r.ColumnText(0), r.ColumnInt64(1), r.ColumnBool(2)
				return nil
			})
		if err != nil {
			return fmt.Errorf("read credentials: %w", err)
		}
		if !found {
			return account.ErrNotFound
		}
		err = query(c, `SELECT id, name, hash, privileged, created_at, used_at, used_network FROM app_password
			WHERE account_id = ? ORDER BY created_at, id`,
			func(s *sqlite.Stmt) { s.BindInt64(1, id) },
			func(r *sqlite.Stmt) error {
				cred.AppPasswords = append(cred.AppPasswords, account.AppPassword{
					ID: r.ColumnInt64(0), Name: r.ColumnText(1), Hash: r.ColumnText(2), Privileged: r.ColumnBool(3), CreatedAt: columnTime(r, 4),
					UsedAt: columnTime(r, 5), UsedNetwork: r.ColumnText(6),
				})
				return nil
			})
		if err != nil {
			return fmt.Errorf("read app passwords: %w", err)
		}
		return nil
	})
	return cred, err
}

// credentialEpoch returns Credentials.Epoch of an account, 0 if there is none.
func credentialEpoch(c *sqlite.Conn, id int64) (epoch int64, err error) {
	err = query(c, "SELECT credential_epoch FROM account WHERE id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) },
		func(r *sqlite.Stmt) error { epoch = r.ColumnInt64(0); return nil })
	return epoch, wrap(err, "read credentials")
}

// UpgradeHash implements account.Store.
func (db Accounts) UpgradeHash(ctx context.Context, id int64, old, better string) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err := change(tx.Conn, "UPDATE account SET password_hash = ? WHERE id = ? AND password_hash = ? AND pending_operation IS NULL",
			func(s *sqlite.Stmt) { s.BindText(1, better); s.BindInt64(2, id); s.BindText(3, old) })
		if err != nil {
			return fmt.Errorf("upgrade password hash: %w", err)
		}
		if n == 0 {
			return account.ErrPasswordChanged
		}
		return nil
	})
}

// UpgradeAppPassword implements account.Store.
func (db Accounts) UpgradeAppPassword(ctx context.Context, id int64, old, better string) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err := change(tx.Conn, "UPDATE app_password SET hash = ? WHERE id = ? AND hash = ?",
			func(s *sqlite.Stmt) { s.BindText(1, better); s.BindInt64(2, id); s.BindText(3, old) })
		if err != nil {
			return fmt.Errorf("upgrade hash of an app password: %w", err)
		}
		if n == 0 {
			return account.ErrPasswordChanged
		}
		return nil
	})
}

// SetPassword implements account.Store.
func (db Accounts) SetPassword(ctx context.Context, id int64, hash string, keep int64, e account.Entry, mails ...mail.Message) error {
	return db.update(ctx, id, func(tx *groupcommit.Tx, _ *account.Account) error {
		return setPassword(tx, db.DB, id, hash, keep, e, mails)
	})
}

// setPassword also ends the sessions that the old password opened, and the
// codes that could replace it.
func setPassword(tx *groupcommit.Tx, db *DB, id int64, hash string, keep int64, e account.Entry, mails []mail.Message) error {
	_, err := change(tx.Conn, "UPDATE account SET password_hash = ? WHERE id = ?",
		func(s *sqlite.Stmt) { s.BindText(1, hash); s.BindInt64(2, id) })
	if err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	ids, err := endAll(tx, db, id, keep, e)
	if err != nil {
		return err
	}
	if err := dropCodes(tx.Conn, id, account.CodesOfPassword()...); err != nil {
		return err
	}
	if err := forgetConsents(tx.Conn, id); err != nil {
		return err
	}
	return noteAndTell(tx, db, id, e.Ending(len(ids)), mails)
}

// update runs a write on an existing account, as read in the transaction, and drops it
// from the cache after the commit.
func (db Accounts) update(ctx context.Context, id int64, fn func(*groupcommit.Tx, *account.Account) error) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		a, err := findAccount(tx.Conn, "a.id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) })
		if err != nil {
			return err
		}
		forget(tx, db.DB, a.DID)
		return fn(tx, a)
	})
}

func forget(tx *groupcommit.Tx, db *DB, did syntax.DID) {
	tx.AfterCommit(func() { db.accounts.Invalidate(did.String()) })
}

// expireForeignTokens ends access tokens that another server issued, since they
// have no session here.
func expireForeignTokens(tx *groupcommit.Tx, db *DB, id int64, at time.Time) error {
	var did syntax.DID
	err := query(tx.Conn, "UPDATE account SET tokens_valid_after = ? WHERE id = ? RETURNING did",
		func(s *sqlite.Stmt) { bindTime(s, 1, at); s.BindInt64(2, id) },
		func(r *sqlite.Stmt) error { did = syntax.DID(r.ColumnText(0)); return nil })
	if err != nil {
		return fmt.Errorf("expire older tokens: %w", err)
	}
	forget(tx, db, did)
	return nil
}

// AddAppPassword implements account.Store.
func (db Accounts) AddAppPassword(ctx context.Context, id int64, p account.AppPassword, e account.Entry, mails ...mail.Message) error {
	return db.update(ctx, id, func(tx *groupcommit.Tx, _ *account.Account) error {
		n := 0
		err := query(tx.Conn, "SELECT count(*) FROM app_password WHERE account_id = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, id) },
			func(r *sqlite.Stmt) error { n = r.ColumnInt(0); return nil })
		if err != nil {
			return fmt.Errorf("count app passwords: %w", err)
		}
		if err := account.RoomForAppPassword(n); err != nil {
			return err
		}
		_, err = change(tx.Conn, "INSERT INTO app_password (account_id, name, hash, privileged, created_at) VALUES (?, ?, ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindInt64(1, id)
				s.BindText(2, p.Name)
				s.BindText(3, p.Hash)
				s.BindBool(4, p.Privileged)
				bindTime(s, 5, p.CreatedAt)
			})
		if isUnique(err) {
			return account.ErrNameTaken
		}
		if err != nil {
			return fmt.Errorf("insert app password: %w", err)
		}
		return noteAndTell(tx, db.DB, id, e, mails)
	})
}

// RevokeAppPassword implements account.Store.
func (db Accounts) RevokeAppPassword(ctx context.Context, id int64, name string, e account.Entry) error {
	return db.update(ctx, id, func(tx *groupcommit.Tx, _ *account.Account) error {
		ended, err := deleteSessions(tx, db.DB, "app_password_id = (SELECT id FROM app_password WHERE account_id = ? AND name = ?)",
			func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindText(2, name) })
		if err != nil {
			return err
		}
		n, err := change(tx.Conn, "DELETE FROM app_password WHERE account_id = ? AND name = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindText(2, name) })
		if err != nil {
			return fmt.Errorf("delete app password: %w", err)
		}
		if n == 0 {
			return nil
		}
		if err := expireForeignTokens(tx, db.DB, id, e.At); err != nil {
			return err
		}
		return insertEntry(tx.Conn, id, e.Revoking(name, len(ended)))
	})
}

// SetStatus implements account.Store.
func (db Accounts) SetStatus(
	ctx context.Context, id int64, c account.StatusChange, e account.Entry, mails ...mail.Message,
) (*account.Account, error) {
	var now *account.Account
	err := db.update(ctx, id, func(tx *groupcommit.Tx, a *account.Account) error {
		next, endSessions, err := a.With(c, e.At)
		if err != nil {
			return err
		}
		if err := putMeasures(tx.Conn, id, next.Measures); err != nil {
			return err
		}
		_, err = change(tx.Conn, "UPDATE account SET deactivated_at = ?, delete_after = ? WHERE id = ?",
			func(s *sqlite.Stmt) {
				bindTime(s, 1, next.DeactivatedAt)
				bindTime(s, 2, next.DeleteAfter)
				s.BindInt64(3, id)
			})
		if err == nil && next.Status() != account.Active {
			err = endPresences(tx.Conn, id)
		}
		if err != nil {
			return fmt.Errorf("set status: %w", err)
		}
		if endSessions {
			ids, err := endAll(tx, db.DB, id, 0, e)
			if err != nil {
				return err
			}
			e = e.Ending(len(ids))
		}
		if account.Reappears(a, &next) {
			if err := doubt(tx.Conn, id); err != nil {
				return err
			}
		}
		if now, err = findAccount(tx.Conn, "a.id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) }); err != nil {
			return err
		}
		if err := announceStatus(tx, db.DB, a, now, e.At); err != nil {
			return err
		}
		return noteAndTell(tx, db.DB, id, e, mails)
	})
	if err != nil {
		return nil, err
	}
	return now, nil
}

// announceStatus announces that an account's status changed. What is urgent while no number is
// given is announced with all accounts, once there is one.
func announceStatus(tx *groupcommit.Tx, db *DB, was, now *account.Account, at time.Time) error {
	if account.Urgent(was, now) {
		if held, err := numbersHeld(tx.Conn, db); err != nil {
			return err
		} else if held {
			tx.AfterCommit(func() {
				db.log.Warn("a takedown or a suspension is in force, and the network hears of it after nestbox firehose jump: "+
					"until then relays ignore what this server announces", "did", now.DID.String())
			})
			return beginToAnnounce(tx.Conn)
		}
	}
	head, err := accountHead(tx.Conn, now.ID)
	if err != nil {
		return err
	}
	return insertLogs(tx, db, account.StatusEvents(was, now, head, at), at)
}

// accountHead returns the latest commit of an account's repository, nil if it has none.
func accountHead(c *sqlite.Conn, accountID int64) (head *account.Head, err error) {
	err = query(c, "SELECT rev, commit_block FROM repo WHERE account_id = ? AND current = 1",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
		func(r *sqlite.Stmt) error {
			commit := columnBytes(r, 1)
			head = &account.Head{Rev: syntax.TID(r.ColumnText(0)), Commit: car.Block{CID: dagcbor.CID(commit), Data: commit}}
			return nil
		})
	return head, wrap(err, "look for repository")
}

// RepeatStatus implements account.Store.
func (db Accounts) RepeatStatus(ctx context.Context, id int64, at time.Time) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		a, err := findAccount(tx.Conn, "a.id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) })
		if err != nil {
			return err
		}
		return insertLog(tx, db.DB, account.StatusEvent(a, at), at)
	})
}

// Delete implements account.Store.
func (db Accounts) Delete(ctx context.Context, id int64, at time.Time) error {
	return db.update(ctx, id, func(tx *groupcommit.Tx, a *account.Account) error { return deleteAccount(tx, db.DB, a, at) })
}

// Leave implements account.Store.
func (db Accounts) Leave(ctx context.Context, id int64, l account.Leaving, at time.Time, mails ...mail.Message) error {
	return db.update(ctx, id, func(tx *groupcommit.Tx, a *account.Account) error {
		epoch, err := credentialEpoch(tx.Conn, id)
		if err == nil {
			err = l.Check(a.Measures, epoch)
		}
		if err == nil {
			err = useCode(tx.Conn, l.Code)
		}
		if err != nil {
			return err
		}
		return deleteAccount(tx, db.DB, a, at, mails...)
	})
}

// deleteAccount deletes an account and all mails to it, and queues others, which outlive it.
func deleteAccount(tx *groupcommit.Tx, db *DB, a *account.Account, at time.Time, mails ...mail.Message) error {
	scrubSoon(tx, db)
	if err := keepMeasures(tx.Conn, a.DID, a.Measures); err != nil {
		return err
	}
	if _, err := deleteSessions(tx, db, "account_id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, a.ID) }); err != nil {
		return err
	}
	if err := dropMails(tx.Conn, a); err != nil {
		return err
	}
	if err := forgetNames(tx.Conn, a.DID); err != nil {
		return err
	}
	if _, err := change(tx.Conn, "DELETE FROM account WHERE id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, a.ID) }); err != nil {
		return fmt.Errorf("delete account: %w", err)
	}
	if err := queueMails(tx, db, 0, at, mails); err != nil {
		return err
	}
	return logDeleted(tx, db, a.DID, at)
}
