package sqlite

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"zombiezen.com/go/sqlite"

	"nestbox/prefs"
	"nestbox/store/sqlite/groupcommit"
)

// Prefs implements prefs.Store.
type Prefs struct{ *DB }

var _ prefs.Store = Prefs{}

// loadPrefs returns an account's number and preferences.
func loadPrefs(c *sqlite.Conn, did syntax.DID) (id int64, list []jsontext.Value, err error) {
	var raw []byte
	err = query(c, `SELECT a.id, p.list FROM account a LEFT JOIN preferences p ON p.account_id = a.id
		WHERE a.did = ? AND a.pending_operation IS NULL`,
		func(s *sqlite.Stmt) { s.BindText(1, did.String()) },
		func(r *sqlite.Stmt) error { id, raw = r.ColumnInt64(0), columnBytes(r, 1); return nil })
	if err != nil {
		return 0, nil, fmt.Errorf("read preferences: %w", err)
	}
	if id == 0 {
		return 0, nil, prefs.ErrNoAccount
	}
	if raw != nil {
		if err := json.Unmarshal(raw, &list); err != nil {
			return 0, nil, fmt.Errorf("stored preferences of %s: %w", did, err)
		}
	}
	return id, list, nil
}

// Preferences implements prefs.Store.
func (db Prefs) Preferences(ctx context.Context, did syntax.DID) (list []jsontext.Value, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) (err error) {
		_, list, err = loadPrefs(c, did)
		return err
	})
	return list, err
}

// ReplacePreferences implements prefs.Store.
func (db Prefs) ReplacePreferences(ctx context.Context, did syntax.DID, decide func([]jsontext.Value) ([]jsontext.Value, error)) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		id, now, err := loadPrefs(tx.Conn, did)
		if err != nil {
			return err
		}
		next, err := decide(now)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("encode preferences: %w", err)
		}
		_, err = change(tx.Conn, "INSERT INTO preferences (account_id, list) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET list = ?2",
			func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindText(2, string(raw)) })
		if err != nil {
			return fmt.Errorf("replace preferences: %w", err)
		}
		return nil
	})
}
