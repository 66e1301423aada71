package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/store/sqlite/groupcommit"
)

// Outbox implements mail.Store.
type Outbox struct{ *DB }

var _ mail.Store = Outbox{}

// Watch implements mail.Store.
func (db Outbox) Watch(f func()) { db.mailed = f }

// queueMail puts a message about an account, or about none (0), into an outbox with
// fewer than room messages: mail.ErrTooLarge, mail.ErrFull. If too many wait for its
// recipient, it replaces the oldest.
func queueMail(c *sqlite.Conn, accountID int64, at time.Time, m mail.Message, room int) error {
	if err := m.Check(); err != nil {
		return err
	}
	key := account.EmailKey(m.To)
	replaced, err := change(c, `DELETE FROM outbox WHERE recipient_key = ?1 AND id <=
		(SELECT id FROM outbox WHERE recipient_key = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`,
		func(s *sqlite.Stmt) { s.BindText(1, key); s.BindInt64(2, mail.MaxPerRecipient-1) })
	if err != nil {
		return fmt.Errorf("make room in the outbox: %w", err)
	}
	if replaced == 0 {
		if err := outboxHasRoom(c, at, room); err != nil {
			return err
		}
	}
	_, err = change(c, `INSERT INTO outbox (recipient, recipient_key, subject, text, html, queued_at, until, due, account_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		func(s *sqlite.Stmt) {
			s.BindText(1, m.To)
			s.BindText(2, key)
			s.BindText(3, m.Subject)
			s.BindText(4, m.Text)
			s.BindText(5, m.HTML)
			bindTime(s, 6, at)
			bindTime(s, 7, m.Until)
			bindTime(s, 8, at)
			bindID(s, 9, accountID)
		})
	if err != nil {
		return fmt.Errorf("put into the outbox: %w", err)
	}
	return nil
}

// outboxHasRoom returns mail.ErrFull when room messages or more wait. Before that it
// removes expired ones: while the mail server is down the outbox itself does not check
// them.
func outboxHasRoom(c *sqlite.Conn, at time.Time, room int) error {
	waiting, err := outboxWaiting(c)
	if err != nil || waiting < room {
		return err
	}
	expired, err := change(c, "DELETE FROM outbox WHERE until <= ? OR queued_at <= ?",
		func(s *sqlite.Stmt) { bindTime(s, 1, at); bindTime(s, 2, at.Add(-mail.GiveUpAfter)) })
	if err != nil {
		return fmt.Errorf("drop what has expired in the outbox: %w", err)
	}
	if waiting-expired >= room {
		return mail.ErrFull
	}
	return nil
}

func outboxWaiting(c *sqlite.Conn) (n int, err error) {
	err = query(c, "SELECT count(*) FROM outbox", nil, func(r *sqlite.Stmt) error { n = r.ColumnInt(0); return nil })
	return n, wrap(err, "count the outbox")
}

// queueMails queues the messages about a change. A lack of room does not stop the
// change; it is logged.
func queueMails(tx *groupcommit.Tx, db *DB, accountID int64, at time.Time, mails []mail.Message) error {
	for _, m := range mails {
		err := queueMail(tx.Conn, accountID, at, m, mail.MaxBeforeNotices)
		if errors.Is(err, mail.ErrFull) || errors.Is(err, mail.ErrTooLarge) {
			tx.AfterCommit(func() { db.log.Error("a mail was not queued", slog.String("cause", err.Error())) })
			continue
		}
		if err != nil {
			return err
		}
	}
	if len(mails) > 0 {
		wakeOutbox(tx, db)
	}
	return nil
}

// noteAndTell writes a change into the account's trail, then queues the messages
// about it. It stops after the first error: if the first ends the transaction, as a
// full disk does, the other would be a transaction of its own.
func noteAndTell(tx *groupcommit.Tx, db *DB, id int64, e account.Entry, mails []mail.Message) error {
	if err := insertEntry(tx.Conn, id, e); err != nil {
		return err
	}
	return queueMails(tx, db, id, e.At, mails)
}

// dropMails removes the messages that wait for an account's address, and those about
// the account that wait for another address.
func dropMails(c *sqlite.Conn, a *account.Account) error {
	_, err := change(c, "DELETE FROM outbox WHERE recipient_key = ? OR account_id = ?",
		func(s *sqlite.Stmt) { s.BindText(1, account.EmailKey(a.Email)); s.BindInt64(2, a.ID) })
	if err != nil {
		return fmt.Errorf("drop mails: %w", err)
	}
	return nil
}

// wakeOutbox wakes the outbox after the transaction is committed.
func wakeOutbox(tx *groupcommit.Tx, db *DB) {
	if db.mailed != nil {
		tx.AfterCommit(db.mailed)
	}
}

// Waiting implements mail.Store.
func (db Outbox) Waiting(ctx context.Context) (n int, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error { n, err = outboxWaiting(c); return err })
	return n, err
}

// Queue implements mail.Store.
func (db Outbox) Queue(ctx context.Context, at time.Time, mails ...mail.Message) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		for _, m := range mails {
			if err := queueMail(tx.Conn, 0, at, m, mail.MaxWaiting); err != nil {
				return err
			}
		}
		wakeOutbox(tx, db.DB)
		return nil
	})
}

// Due implements mail.Store.
func (db Outbox) Due(ctx context.Context, now time.Time, limit int) (out []mail.Queued, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT id, recipient, subject, text, html, queued_at, until, attempts FROM outbox
			WHERE due <= ?1 OR due > ?3 ORDER BY due, id LIMIT ?2`,
			func(s *sqlite.Stmt) {
				bindTime(s, 1, now)
				s.BindInt64(2, int64(limit))
				bindTime(s, 3, now.Add(mail.LongestPause))
			},
			func(r *sqlite.Stmt) error {
				out = append(out, mail.Queued{
					ID: r.ColumnInt64(0), QueuedAt: columnTime(r, 5), Attempts: r.ColumnInt(7),
					Message: mail.Message{
						To: r.ColumnText(1), Subject: r.ColumnText(2), Text: r.ColumnText(3), HTML: r.ColumnText(4), Until: columnTime(r, 6),
					},
				})
				return nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	return out, nil
}

// Done implements mail.Store.
func (db Outbox) Done(ctx context.Context, id int64) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		bind := func(s *sqlite.Stmt) { s.BindInt64(1, id) }
		err := query(tx.Conn, "SELECT 1 FROM outbox WHERE id = ? AND account_id IS NULL", bind, func(*sqlite.Stmt) error {
			scrubSoon(tx, db.DB) // it may be the last trace of an account that was deleted
			return nil
		})
		if err == nil {
			_, err = change(tx.Conn, "DELETE FROM outbox WHERE id = ?", bind)
		}
		return wrap(err, "remove from the outbox")
	})
}

// Retry implements mail.Store.
func (db Outbox) Retry(ctx context.Context, id int64, attempts int, due time.Time) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "UPDATE outbox SET attempts = ?, due = ? WHERE id = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, int64(attempts)); bindTime(s, 2, due); s.BindInt64(3, id) })
		if err != nil {
			return fmt.Errorf("put off in the outbox: %w", err)
		}
		return nil
	})
}
