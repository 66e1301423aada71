package sqlite

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/admin"
)

// Clients implements admin.ClientStore.
func (db Admin) Clients(ctx context.Context, limit int) (out []admin.ClientUse, err error) {
	err = db.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		return query(c, `SELECT o.client_id, count(*), count(DISTINCT s.account_id), max(max(s.rotated_at, coalesce(o.last_call_at, 0))),
			k.fetched_at, k.failed_at, coalesce(k.error, '')
			FROM oauth_session o JOIN session s ON s.id = o.session_id LEFT JOIN oauth_client k ON k.client_id = o.client_id
			GROUP BY o.client_id ORDER BY count(*) DESC, o.client_id LIMIT ?`,
			func(s *sqlite.Stmt) { s.BindInt64(1, int64(limit)) },
			func(r *sqlite.Stmt) error {
				out = append(out, admin.ClientUse{
					ID: r.ColumnText(0), Sessions: r.ColumnInt64(1), Accounts: r.ColumnInt64(2), UsedAt: columnTime(r, 3), FetchedAt: columnTime(r, 4),
					FailedAt: columnTime(r, 5), Error: r.ColumnText(6),
				})
				return nil
			})
	})
	return out, wrap(err, "list clients")
}

// Programs implements admin.ClientStore.
func (db Admin) Programs(ctx context.Context, limit int) (out []admin.Program, err error) {
	err = db.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		return query(c, `SELECT s.user_agent, count(*) FROM session s LEFT JOIN oauth_session o ON o.session_id = s.id
			WHERE o.session_id IS NULL GROUP BY s.user_agent ORDER BY count(*) DESC, s.user_agent LIMIT ?`,
			func(s *sqlite.Stmt) { s.BindInt64(1, int64(limit)) },
			func(r *sqlite.Stmt) error {
				out = append(out, admin.Program{UserAgent: r.ColumnText(0), Sessions: r.ColumnInt64(1)})
				return nil
			})
	})
	return out, wrap(err, "list programs")
}

// ClientSessions implements admin.ClientStore.
func (db Admin) ClientSessions(ctx context.Context, clientID string, after int64, limit int) (out []admin.HeldSession, err error) {
	err = db.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		return query(c, `SELECT o.session_id, a.did FROM oauth_session o
			JOIN session s ON s.id = o.session_id JOIN account a ON a.id = s.account_id
			WHERE o.client_id = ? AND o.session_id > ? ORDER BY o.session_id LIMIT ?`,
			func(s *sqlite.Stmt) {
				s.BindText(1, clientID)
				s.BindInt64(2, after)
				s.BindInt64(3, int64(limit))
			},
			func(r *sqlite.Stmt) error {
				out = append(out, admin.HeldSession{ID: r.ColumnInt64(0), DID: syntax.DID(r.ColumnText(1))})
				return nil
			})
	})
	return out, wrap(err, "list sessions of a client")
}
