package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/oauth"
	"nestbox/session"
	"nestbox/store/sqlite/groupcommit"
)

// OAuth implements oauth.Store.
type OAuth struct{ *DB }

var _ oauth.Store = OAuth{}

const requestColumns = `id, client_id, auth_method, kid, alg, client_jkt, jkt, parameters, made, opened, expires,
	decision, decided_at, account_id, epoch, granted_scope, device_id, network, user_agent, redeemed_at, session_id,
	(SELECT did FROM account a WHERE a.id = account_id)`

func scanRequest(r *sqlite.Stmt) (oauth.Request, error) {
	q := oauth.Request{
		ID: r.ColumnText(0),
		Holder: session.Holder{
			ClientID: r.ColumnText(1), AuthMethod: r.ColumnText(2), KID: r.ColumnText(3), Alg: r.ColumnText(4),
			ClientJKT: r.ColumnText(5), DPoPJKT: r.ColumnText(6),
		},
		Made: columnTime(r, 8), Opened: columnTime(r, 9), Expires: columnTime(r, 10),
		Decision: oauth.Decision(r.ColumnText(11)), DecidedAt: columnTime(r, 12), AccountID: r.ColumnInt64(13), Epoch: r.ColumnInt64(14),
		Granted: r.ColumnText(15), DeviceID: r.ColumnInt64(16), Network: r.ColumnText(17), UserAgent: r.ColumnText(18),
		RedeemedAt: columnTime(r, 19), SessionID: r.ColumnInt64(20), DID: syntax.DID(r.ColumnText(21)),
	}
	return q, wrap(json.Unmarshal(columnBytes(r, 7), &q.Parameters), "read parameters of a request")
}

// Push implements oauth.Store.
func (db OAuth) Push(ctx context.Context, r oauth.Request, waiting int) error {
	parameters, err := json.Marshal(r.Parameters)
	if err != nil {
		return fmt.Errorf("encode parameters of a request: %w", err)
	}
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, `INSERT INTO oauth_request
			(id, client_id, auth_method, kid, alg, client_jkt, jkt, parameters, made, expires)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			func(s *sqlite.Stmt) {
				s.BindText(1, r.ID)
				s.BindText(2, r.ClientID)
				s.BindText(3, r.AuthMethod)
				s.BindText(4, r.KID)
				s.BindText(5, r.Alg)
				s.BindText(6, r.ClientJKT)
				s.BindText(7, r.DPoPJKT)
				s.BindBytes(8, parameters)
				bindTime(s, 9, r.Made)
				bindTime(s, 10, r.Expires)
			})
		if err != nil {
			return fmt.Errorf("insert request: %w", err)
		}
		return dropSurplus(tx.Conn, int64(waiting))
	})
}

// dropSurplus removes requests beyond a number: of the client that has most, those that end
// first.
func dropSurplus(c *sqlite.Conn, most int64) error {
	var all, surplus int64
	client := ""
	err := query(c, `SELECT client_id, count(*), sum(count(*)) OVER () FROM oauth_request WHERE redeemed_at IS NULL
		GROUP BY client_id ORDER BY count(*) DESC, client_id LIMIT 1`, nil,
		func(r *sqlite.Stmt) error { client, all = r.ColumnText(0), r.ColumnInt64(2); return nil })
	if surplus = all - most; err != nil || surplus <= 0 {
		return wrap(err, "count requests")
	}
	_, err = change(c, `DELETE FROM oauth_request WHERE seq IN
		(SELECT seq FROM oauth_request WHERE redeemed_at IS NULL AND client_id = ? ORDER BY expires LIMIT ?)`,
		func(s *sqlite.Stmt) { s.BindText(1, client); s.BindInt64(2, surplus) })
	return wrap(err, "drop requests")
}

// Request implements oauth.Store.
func (db OAuth) Request(ctx context.Context, id string) (q *oauth.Request, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		q, err = loadRequest(c, id)
		return err
	})
	return q, err
}

func loadRequest(c *sqlite.Conn, id string) (found *oauth.Request, err error) {
	err = query(c, "SELECT "+requestColumns+" FROM oauth_request WHERE id = ?",
		func(s *sqlite.Stmt) { s.BindText(1, id) },
		func(r *sqlite.Stmt) error {
			q, err := scanRequest(r)
			found = &q
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("load request: %w", err)
	}
	if found == nil {
		return nil, oauth.ErrUnknown
	}
	return found, nil
}

// Change implements oauth.Store.
func (db OAuth) Change(ctx context.Context, id string, change func(oauth.Request) (oauth.Request, error)) (*oauth.Request, error) {
	return db.Decide(ctx, id, 0, func(q oauth.Request, _ *oauth.Consent) (oauth.Request, *oauth.Consent, error) {
		next, err := change(q)
		return next, nil, err
	})
}

// Decide implements oauth.Store.
func (db OAuth) Decide(ctx context.Context, id string, accountID int64, decide oauth.Decider) (*oauth.Request, error) {
	var next oauth.Request
	err := db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		was, err := loadRequest(tx.Conn, id)
		if err != nil {
			return err
		}
		before, err := consentOf(tx.Conn, accountID, was.ClientID)
		if err != nil {
			return err
		}
		var consent *oauth.Consent
		if next, consent, err = decide(*was, before); err != nil {
			return err
		}
		_, err = change(tx.Conn, `UPDATE oauth_request SET opened = ?, expires = ?, decision = ?, decided_at = ?, account_id = ?,
			epoch = ?, granted_scope = ?, device_id = ?, network = ?, user_agent = ? WHERE id = ?`,
			func(s *sqlite.Stmt) {
				bindTime(s, 1, next.Opened)
				bindTime(s, 2, next.Expires)
				s.BindText(3, string(next.Decision))
				bindTime(s, 4, next.DecidedAt)
				bindID(s, 5, next.AccountID)
				s.BindInt64(6, next.Epoch)
				s.BindText(7, next.Granted)
				bindID(s, 8, next.DeviceID)
				s.BindText(9, next.Network)
				s.BindText(10, next.UserAgent)
				s.BindText(11, id)
			})
		if sqlite.ErrCode(err) == sqlite.ResultConstraintForeignKey {
			return oauth.ErrUnknown
		}
		if err != nil || consent == nil {
			return wrap(err, "change request")
		}
		return putConsent(tx.Conn, consent)
	})
	if err != nil {
		return nil, err
	}
	return &next, nil
}

// Redeem implements oauth.Store.
func (db OAuth) Redeem(
	ctx context.Context, id string, redeem func(oauth.Request, *oauth.Consent) (oauth.Redemption, error),
) (st *session.State, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		q, err := loadRequest(tx.Conn, id)
		if err != nil {
			return err
		}
		before, err := consentOf(tx.Conn, q.AccountID, q.ClientID)
		if err != nil {
			return err
		}
		r, err := redeem(*q, before)
		if err != nil {
			return err
		}
		if st, err = insertSession(tx, db.DB, r.Session); err != nil {
			return err
		}
		_, err = change(tx.Conn, "UPDATE oauth_request SET redeemed_at = ?, session_id = ?, challenge_hash = ? WHERE id = ?",
			func(s *sqlite.Stmt) {
				bindTime(s, 1, r.At)
				s.BindInt64(2, st.ID)
				s.BindBytes(3, r.Challenge)
				s.BindText(4, id)
			})
		if isUnique(err) {
			return oauth.ErrChallengeUsed
		}
		if err != nil || r.Consent == nil {
			return wrap(err, "redeem request")
		}
		return putConsent(tx.Conn, r.Consent)
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}

func putConsent(c *sqlite.Conn, k *oauth.Consent) error {
	_, err := change(c, `INSERT INTO oauth_consent (account_id, client_id, scopes, at, used_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account_id, client_id) DO UPDATE SET scopes = excluded.scopes, at = excluded.at, used_at = excluded.used_at`,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, k.AccountID)
			s.BindText(2, k.ClientID)
			s.BindText(3, k.Scopes)
			bindTime(s, 4, k.At)
			bindTime(s, 5, k.UsedAt)
		})
	return wrap(err, "remember consent")
}

// Consent implements oauth.Store.
func (db OAuth) Consent(ctx context.Context, accountID int64, clientID string) (k *oauth.Consent, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		k, err = consentOf(c, accountID, clientID)
		return err
	})
	return k, err
}

func consentOf(c *sqlite.Conn, accountID int64, clientID string) (*oauth.Consent, error) {
	all, err := consents(c, "client_id = ?2", accountID, clientID)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// Consents implements oauth.Store.
func (db OAuth) Consents(ctx context.Context, accountID int64) (out []oauth.Consent, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		out, err = consents(c, "?2 = ''", accountID, "")
		return err
	})
	return out, err
}

func consents(c *sqlite.Conn, where string, accountID int64, clientID string) (out []oauth.Consent, err error) {
	err = query(c, `SELECT client_id, scopes, at, used_at FROM oauth_consent
		WHERE account_id = ?1 AND `+where+" ORDER BY used_at DESC, client_id",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindText(2, clientID) },
		func(r *sqlite.Stmt) error {
			out = append(out, oauth.Consent{
				AccountID: accountID, ClientID: r.ColumnText(0), Scopes: r.ColumnText(1), At: columnTime(r, 2), UsedAt: columnTime(r, 3),
			})
			return nil
		})
	return out, wrap(err, "read consents")
}

// Forget implements oauth.Store.
func (db OAuth) Forget(ctx context.Context, accountID int64, clientID string) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "DELETE FROM oauth_consent WHERE account_id = ? AND client_id = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindText(2, clientID) })
		if err != nil {
			return fmt.Errorf("forget consent: %w", err)
		}
		return dropWaiting(tx.Conn, accountID, clientID)
	})
}

// dropWaiting removes the requests that an account's owner has decided and whose code was
// not exchanged: those of a client, or, if it is empty, of all.
func dropWaiting(c *sqlite.Conn, accountID int64, clientID string) error {
	_, err := change(c, "DELETE FROM oauth_request WHERE account_id = ?1 AND ?2 IN ('', client_id) AND redeemed_at IS NULL",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindText(2, clientID) })
	return wrap(err, "end codes that wait")
}

// Narrow implements oauth.Store.
func (db OAuth) Narrow(ctx context.Context, accountID int64, clientID string, n oauth.Narrowing) (changed bool, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		sessions, err := narrowSessions(tx, db.DB, accountID, clientID, n)
		if err != nil {
			return err
		}
		consent, err := narrowConsent(tx.Conn, accountID, clientID, n)
		if err != nil {
			return err
		}
		if err := dropWaiting(tx.Conn, accountID, clientID); err != nil {
			return err
		}
		if changed = sessions || consent; !changed {
			return nil
		}
		return insertEntry(tx.Conn, accountID, n.Entry)
	})
	return changed, err
}

func narrowSessions(tx *groupcommit.Tx, db *DB, accountID int64, clientID string, n oauth.Narrowing) (changed bool, err error) {
	var live []session.State
	err = query(tx.Conn, "SELECT "+sessionColumns+" FROM "+sessionTables+" WHERE s.account_id = ? AND g.client_id = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindText(2, clientID) },
		func(r *sqlite.Stmt) error {
			st, err := scanSession(r)
			live = append(live, st)
			return err
		})
	if err != nil {
		return false, fmt.Errorf("list a client's sessions: %w", err)
	}
	for i := range live {
		next := n.Grant(*live[i].Grant)
		if next.Version == live[i].Grant.Version {
			continue
		}
		changed = true
		if err := updateGrant(tx.Conn, live[i].ID, &next); err != nil {
			return false, err
		}
		tx.AfterCommit(func() { db.sessions.Invalidate(live[i].ID) })
	}
	return changed, nil
}

func narrowConsent(c *sqlite.Conn, accountID int64, clientID string, n oauth.Narrowing) (changed bool, err error) {
	of := func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindText(2, clientID) }
	before, found := "", false
	err = query(c, "SELECT scopes FROM oauth_consent WHERE account_id = ? AND client_id = ?", of,
		func(r *sqlite.Stmt) error { before, found = r.ColumnText(0), true; return nil })
	if err != nil || !found {
		return false, wrap(err, "read consent")
	}
	switch left := n.Scopes(before); left {
	case before:
		return false, nil
	case "":
		_, err = change(c, "DELETE FROM oauth_consent WHERE account_id = ? AND client_id = ?", of)
	default:
		_, err = change(c, "UPDATE oauth_consent SET scopes = ?3 WHERE account_id = ?1 AND client_id = ?2",
			func(s *sqlite.Stmt) { of(s); s.BindText(3, left) })
	}
	return true, wrap(err, "narrow consent")
}

// forgetConsents forgets what an account's owner allowed clients.
func forgetConsents(c *sqlite.Conn, accountID int64) error {
	_, err := change(c, "DELETE FROM oauth_consent WHERE account_id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, accountID) })
	return wrap(err, "forget consents")
}

// Collect implements oauth.Store.
func (db OAuth) Collect(ctx context.Context, requests, consents time.Time) (removed int, err error) {
	const most = 500
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err := change(tx.Conn, `DELETE FROM oauth_request WHERE seq IN
			(SELECT seq FROM oauth_request WHERE expires < ? LIMIT ?)`,
			func(s *sqlite.Stmt) { bindTime(s, 1, requests); s.BindInt64(2, most) })
		if err != nil {
			return fmt.Errorf("collect requests: %w", err)
		}
		m, err := change(tx.Conn, `DELETE FROM oauth_consent WHERE (account_id, client_id) IN
			(SELECT account_id, client_id FROM oauth_consent WHERE used_at < ? LIMIT ?)`,
			func(s *sqlite.Stmt) { bindTime(s, 1, consents); s.BindInt64(2, most) })
		removed = n + m
		return wrap(err, "collect consents")
	})
	return removed, err
}
