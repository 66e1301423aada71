package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/oauth"
	"nestbox/session"
	"nestbox/store/sqlite/groupcommit"
	"nestbox/takeover"
)

// Legacy implements takeover.LegacyStore, on a database that a server has open or on one that
// a take-over makes. Each write is one transaction.
type Legacy struct {
	read, write func(ctx context.Context, fn func(*sqlite.Conn) error) error
}

var _ takeover.LegacyStore = Legacy{}

// Legacy returns what is kept of another server's sessions.
func (db *DB) Legacy() Legacy {
	return Legacy{read: db.read, write: func(ctx context.Context, fn func(*sqlite.Conn) error) error {
		return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
			tx.AfterCommit(db.sessions.InvalidateAll)
			return fn(tx.Conn)
		})
	}}
}

// Legacy returns the same of the database that a take-over makes. What is written is durable
// with what follows.
func (t *Takeover) Legacy() Legacy { return Legacy{read: t.within, write: t.within} }

// BeginSessions implements takeover.SessionStore.
func (db Legacy) BeginSessions(ctx context.Context, at time.Time) error {
	return db.write(ctx, func(c *sqlite.Conn) error {
		for _, table := range []string{"session", "device", "oauth_consent", "legacy_since"} {
			if _, err := change(c, "DELETE FROM "+table, nil); err != nil {
				return fmt.Errorf("forget what was brought before: %w", err)
			}
		}
		_, err := change(c, "INSERT INTO legacy_since (id, at) VALUES (1, ?)", func(s *sqlite.Stmt) { bindTime(s, 1, at) })
		return wrap(err, "note the time of the take-over")
	})
}

// Holder implements takeover.SessionStore.
func (db Legacy) Holder(ctx context.Context, did syntax.DID) (h takeover.Holder, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		a, err := findAccount(c, "a.did = ?", func(s *sqlite.Stmt) { s.BindText(1, did.String()) })
		if err != nil {
			return err
		}
		h = takeover.Holder{AccountID: a.ID, AppPasswords: map[string]takeover.HeldAppPassword{}}
		return query(c, "SELECT name, id, privileged FROM app_password WHERE account_id = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, a.ID) },
			func(r *sqlite.Stmt) error {
				h.AppPasswords[r.ColumnText(0)] = takeover.HeldAppPassword{ID: r.ColumnInt64(1), Privileged: r.ColumnBool(2)}
				return nil
			})
	})
	if errors.Is(err, account.ErrNotFound) {
		return h, takeover.ErrNoAccount
	}
	return h, wrap(err, "look for the holder of sessions")
}

// PutSessions implements takeover.SessionStore.
func (db Legacy) PutSessions(ctx context.Context, sessions []takeover.Brought) error {
	return db.write(ctx, func(c *sqlite.Conn) error {
		for i := range sessions {
			id, err := insertState(c, &sessions[i].State)
			if err != nil {
				return err
			}
			for _, t := range sessions[i].Tokens {
				_, err := change(c, "INSERT OR REPLACE INTO legacy_token (hash, session_id, generation) VALUES (?, ?, ?)",
					func(s *sqlite.Stmt) {
						s.BindBytes(1, t.Hash[:])
						s.BindInt64(2, id)
						s.BindInt64(3, t.Generation)
					})
				if err != nil {
					return fmt.Errorf("insert token of another server: %w", err)
				}
			}
		}
		return nil
	})
}

// insertState adds a session as it is, and returns its number.
func insertState(c *sqlite.Conn, st *session.State) (id int64, err error) {
	err = query(c, `INSERT INTO session
		(nonce, account_id, app_password_id, scope, created_at, head, rotated_at, marks, floor, expires, network, user_agent)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
		func(s *sqlite.Stmt) {
			s.BindText(1, st.Nonce)
			s.BindInt64(2, st.AccountID)
			bindID(s, 3, st.AppPasswordID)
			s.BindText(4, string(st.Scope))
			bindTime(s, 5, st.CreatedAt)
			s.BindInt64(6, st.Head)
			bindTime(s, 7, st.RotatedAt)
			s.BindBytes(8, encodeMarks(st.Marks))
			s.BindInt64(9, st.Floor)
			bindTime(s, 10, st.Expires)
			s.BindText(11, st.Network)
			s.BindText(12, st.UserAgent)
		},
		func(r *sqlite.Stmt) error { id = r.ColumnInt64(0); return nil })
	if err == nil && st.Grant != nil {
		err = insertGrant(c, id, st.Grant)
	}
	return id, wrap(err, "insert session of another server")
}

// PutConsents implements takeover.GrantStore.
func (db Legacy) PutConsents(ctx context.Context, consents []oauth.Consent) error {
	return db.write(ctx, func(c *sqlite.Conn) error {
		for i := range consents {
			if err := putConsent(c, &consents[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// GrantsLeft implements takeover.LegacyStore.
func (db Legacy) GrantsLeft(ctx context.Context) (left bool, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT 1 FROM legacy_since l JOIN session s ON s.created_at < l.at
			JOIN oauth_session g ON g.session_id = s.id LIMIT 1`, nil,
			func(*sqlite.Stmt) error { left = true; return nil })
	})
	return left, wrap(err, "look for grants of another server")
}

// PutBrowser implements takeover.BrowserStore.
func (db Legacy) PutBrowser(ctx context.Context, b takeover.BroughtBrowser) (id int64, err error) {
	err = db.write(ctx, func(c *sqlite.Conn) error {
		err := query(c, `INSERT INTO device (secrets, generation, rotated_at, made_at, seen_at, network, user_agent)
			VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id`,
			func(s *sqlite.Stmt) {
				s.BindBytes(1, encodeSecrets(b.Browser.Secrets))
				s.BindInt64(2, b.Browser.Generation)
				bindTime(s, 3, b.Browser.RotatedAt)
				bindTime(s, 4, b.Browser.MadeAt)
				bindTime(s, 5, b.Browser.SeenAt)
				s.BindText(6, b.Browser.Network)
				s.BindText(7, b.Browser.UserAgent)
			},
			func(r *sqlite.Stmt) error { id = r.ColumnInt64(0); return nil })
		if err != nil {
			return fmt.Errorf("insert browser of another server: %w", err)
		}
		for _, in := range b.Browser.SignIns {
			if err := putSignIn(c, id, in); err != nil {
				return err
			}
		}
		_, err = change(c, "INSERT OR REPLACE INTO legacy_browser (hash, device_id) VALUES (?, ?)",
			func(s *sqlite.Stmt) { s.BindBytes(1, b.Hash[:]); s.BindInt64(2, id) })
		return wrap(err, "insert browser of another server")
	})
	return id, err
}
