package sqlite

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"nestbox/oauth/client"
	"nestbox/store/sqlite/groupcommit"
)

// Clients implements client.Store.
type Clients struct{ *DB }

var _ client.Store = Clients{}

// Client implements client.Store.
func (db Clients) Client(ctx context.Context, id string) (k client.Kept, err error) {
	found := false
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT document, jwks, fetched_at, fresh_until, failed_at, error FROM oauth_client WHERE client_id = ?",
			func(s *sqlite.Stmt) { s.BindText(1, id) },
			func(r *sqlite.Stmt) error {
				found = true
				k = client.Kept{
					ID: id, Document: columnBytes(r, 0), KeySet: columnBytes(r, 1), Fetched: columnTime(r, 2), Fresh: columnTime(r, 3),
					Failed: columnTime(r, 4), Error: r.ColumnText(5),
				}
				return nil
			})
	})
	if err != nil {
		return client.Kept{}, fmt.Errorf("read OAuth client: %w", err)
	}
	if !found {
		return client.Kept{}, client.ErrNotFound
	}
	return k, nil
}

// Keep implements client.Store.
func (db Clients) Keep(ctx context.Context, k client.Kept, present, removed []string) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, `INSERT INTO oauth_client (client_id, document, jwks, fetched_at, fresh_until, failed_at, error)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
			ON CONFLICT DO UPDATE SET document = ?2, jwks = ?3, fetched_at = ?4, fresh_until = ?5, failed_at = ?6, error = ?7`,
			func(s *sqlite.Stmt) {
				s.BindText(1, k.ID)
				bindBytes(s, 2, k.Document)
				bindBytes(s, 3, k.KeySet)
				bindTime(s, 4, k.Fetched)
				bindTime(s, 5, k.Fresh)
				bindTime(s, 6, k.Failed)
				s.BindText(7, k.Error)
			})
		if err != nil {
			return fmt.Errorf("keep OAuth client: %w", err)
		}
		for _, thumbprint := range present {
			if _, err := change(tx.Conn, "DELETE FROM oauth_client_removed_key WHERE client_id = ? AND thumbprint = ?",
				func(s *sqlite.Stmt) { s.BindText(1, k.ID); s.BindText(2, thumbprint) }); err != nil {
				return fmt.Errorf("keep key of OAuth client: %w", err)
			}
		}
		for _, thumbprint := range removed {
			if err := removeKey(tx.Conn, client.RemovedKey{ClientID: k.ID, Thumbprint: thumbprint, Since: k.Fetched}); err != nil {
				return err
			}
		}
		return nil
	})
}

func removeKey(c *sqlite.Conn, k client.RemovedKey) error {
	_, err := change(c, "INSERT INTO oauth_client_removed_key (client_id, thumbprint, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
		func(s *sqlite.Stmt) { s.BindText(1, k.ClientID); s.BindText(2, k.Thumbprint); bindTime(s, 3, k.Since) })
	if err != nil {
		return fmt.Errorf("note removed key of OAuth client: %w", err)
	}
	return nil
}

// Remove implements client.Store.
func (db Clients) Remove(ctx context.Context, k client.RemovedKey) (since time.Time, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		known := false
		if err := query(tx.Conn, "SELECT 1 FROM oauth_client WHERE client_id = ?", func(s *sqlite.Stmt) { s.BindText(1, k.ClientID) },
			func(*sqlite.Stmt) error { known = true; return nil }); err != nil {
			return fmt.Errorf("look for OAuth client: %w", err)
		}
		if !known {
			return client.ErrNotFound
		}
		if err := removeKey(tx.Conn, k); err != nil {
			return err
		}
		return query(tx.Conn, "SELECT since FROM oauth_client_removed_key WHERE client_id = ? AND thumbprint = ?",
			func(s *sqlite.Stmt) { s.BindText(1, k.ClientID); s.BindText(2, k.Thumbprint) },
			func(r *sqlite.Stmt) error { since = columnTime(r, 0); return nil })
	})
	return since, err
}

// Removed implements client.Store.
func (db Clients) Removed(ctx context.Context, before time.Time, after client.RemovedKey, limit int) (out []client.RemovedKey, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT client_id, thumbprint, since FROM oauth_client_removed_key
			WHERE since < ? AND (client_id, thumbprint) > (?, ?) ORDER BY client_id, thumbprint LIMIT ?`,
			func(s *sqlite.Stmt) {
				bindTime(s, 1, before)
				s.BindText(2, after.ClientID)
				s.BindText(3, after.Thumbprint)
				s.BindInt64(4, int64(limit))
			},
			func(r *sqlite.Stmt) error {
				out = append(out, client.RemovedKey{ClientID: r.ColumnText(0), Thumbprint: r.ColumnText(1), Since: columnTime(r, 2)})
				return nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list removed keys of OAuth clients: %w", err)
	}
	return out, nil
}

// Forget implements client.Store.
func (db Clients) Forget(ctx context.Context, before time.Time, keep, limit int) (n int, err error) {
	const used = "max(coalesce(fetched_at, 0), coalesce(failed_at, 0))"
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) (err error) {
		n, err = change(tx.Conn, `DELETE FROM oauth_client WHERE client_id IN (
			SELECT client_id FROM oauth_client WHERE `+used+` < max(?1, coalesce(
				(SELECT `+used+` FROM oauth_client ORDER BY `+used+` DESC LIMIT 1 OFFSET ?2), 0))
			ORDER BY `+used+` LIMIT ?3)`,
			func(s *sqlite.Stmt) {
				bindTime(s, 1, before)
				s.BindInt64(2, int64(keep-1))
				s.BindInt64(3, int64(limit))
			})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("forget OAuth clients: %w", err)
	}
	return n, nil
}
