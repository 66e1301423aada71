package sqlite

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/session"
	"nestbox/store/sqlite/groupcommit"
)

// grantColumns are those of a session's companion, all NULL if it has none.
const grantColumns = `g.client_id, g.auth_method, g.kid, g.alg, g.client_jkt, g.dpop_jkt,
	g.requested_scope, g.granted_scope, g.token_scope, g.set_versions, g.ends_at, g.device_id, g.last_call_at, g.theft_at,
	g.version`

// scanGrant reads grantColumns, of which the first is col.
func scanGrant(r *sqlite.Stmt, col int) *session.Grant {
	if r.ColumnIsNull(col) {
		return nil
	}
	return &session.Grant{
		Holder: session.Holder{
			ClientID: r.ColumnText(col), AuthMethod: r.ColumnText(col + 1), KID: r.ColumnText(col + 2), Alg: r.ColumnText(col + 3),
			ClientJKT: r.ColumnText(col + 4), DPoPJKT: r.ColumnText(col + 5),
		},
		Requested: r.ColumnText(col + 6), Granted: r.ColumnText(col + 7), Effective: r.ColumnText(col + 8), Sets: r.ColumnText(col + 9),
		EndsAt: columnTime(r, col+10), DeviceID: r.ColumnInt64(col + 11), LastCallAt: columnTime(r, col+12), TheftAt: columnTime(r, col+13),
		Version: r.ColumnInt64(col + 14),
	}
}

// grantVersion returns the version of a session's companion, -1 if it has none.
func grantVersion(g *session.Grant) int64 {
	if g == nil {
		return -1
	}
	return g.Version
}

func insertGrant(c *sqlite.Conn, sessionID int64, g *session.Grant) error {
	_, err := change(c, `INSERT INTO oauth_session (session_id, client_id, auth_method, kid, alg, client_jkt, dpop_jkt,
		requested_scope, granted_scope, token_scope, set_versions, ends_at, device_id, last_call_at, theft_at, version)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, sessionID)
			s.BindText(2, g.ClientID)
			s.BindText(3, g.AuthMethod)
			s.BindText(4, g.KID)
			s.BindText(5, g.Alg)
			s.BindText(6, g.ClientJKT)
			s.BindText(7, g.DPoPJKT)
			s.BindText(8, g.Requested)
			s.BindText(9, g.Granted)
			s.BindText(10, g.Effective)
			s.BindText(11, g.Sets)
			bindTime(s, 12, g.EndsAt)
			bindID(s, 13, g.DeviceID)
			bindTime(s, 14, g.LastCallAt)
			bindTime(s, 15, g.TheftAt)
			s.BindInt64(16, g.Version)
		})
	return wrap(err, "insert grant")
}

// updateGrant writes what a refresh, or the owner, may change.
func updateGrant(c *sqlite.Conn, sessionID int64, g *session.Grant) error {
	_, err := change(c, `UPDATE oauth_session SET granted_scope = ?, token_scope = ?, set_versions = ?, theft_at = ?, version = ?
		WHERE session_id = ?`,
		func(s *sqlite.Stmt) {
			s.BindText(1, g.Granted)
			s.BindText(2, g.Effective)
			s.BindText(3, g.Sets)
			bindTime(s, 4, g.TheftAt)
			s.BindInt64(5, g.Version)
			s.BindInt64(6, sessionID)
		})
	return wrap(err, "update grant")
}

// EndKey implements session.Store.
func (db Sessions) EndKey(ctx context.Context, clientID, jkt string, e account.Entry) (ended int, err error) {
	const most = 500
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		var bound []session.State
		err := query(tx.Conn, `SELECT s.id, s.account_id FROM oauth_session g JOIN session s ON s.id = g.session_id
			WHERE g.client_id = ? AND g.client_jkt = ? LIMIT ?`,
			func(s *sqlite.Stmt) { s.BindText(1, clientID); s.BindText(2, jkt); s.BindInt64(3, most) },
			func(r *sqlite.Stmt) error {
				bound = append(bound, session.State{ID: r.ColumnInt64(0), AccountID: r.ColumnInt64(1)})
				return nil
			})
		if err != nil {
			return fmt.Errorf("look for sessions of a key: %w", err)
		}
		for _, st := range bound {
			if _, err := deleteSessions(tx, db.DB, "id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, st.ID) }); err != nil {
				return err
			}
			e.Session = st.ID
			if err := insertEntry(tx.Conn, st.AccountID, e); err != nil {
				return err
			}
		}
		ended = len(bound)
		return nil
	})
	return ended, err
}

// Called implements session.Store.
func (db Sessions) Called(ctx context.Context, id int64, at time.Time) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "UPDATE oauth_session SET last_call_at = ?, version = version + 1 WHERE session_id = ?",
			func(s *sqlite.Stmt) { bindTime(s, 1, at); s.BindInt64(2, id) })
		tx.AfterCommit(func() { db.sessions.Invalidate(id) })
		return wrap(err, "note last call")
	})
}

// Authorized implements session.Store.
func (db Sessions) Authorized(ctx context.Context, accountID int64, reason, network string) (found bool, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT 1 FROM trail WHERE account_id = ? AND kind = ? AND reason = ? AND network = ? LIMIT 1",
			func(s *sqlite.Stmt) {
				s.BindInt64(1, accountID)
				s.BindText(2, string(account.EntryAppAuthorized))
				s.BindText(3, reason)
				s.BindText(4, network)
			},
			func(*sqlite.Stmt) error { found = true; return nil })
	})
	return found, wrap(err, "look for earlier authorizations")
}
