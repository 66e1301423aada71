package sqlite

import (
	"bytes"
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/hosting"
	"nestbox/store/sqlite/groupcommit"
)

// sealedKeys are the places of sealed keys: the statement that lists them, each
// with its owner, and the one that replaces one. The first is that of accounts' keys.
var sealedKeys = []struct {
	kind          hosting.SealedKind
	list, replace string
}{
	{hosting.SealedSigningKey, "SELECT id, did, signing_key_sealed FROM account", "UPDATE account SET signing_key_sealed = ? WHERE id = ?"},
	{
		hosting.SealedSigningKey, "SELECT public_key, ifnull(did, ''), sealed FROM reserved_key",
		"UPDATE reserved_key SET sealed = ? WHERE public_key = ?",
	},
	{
		hosting.SealedSigningKey, "SELECT k.account_id, a.did, k.sealed FROM key_change k JOIN account a ON a.id = k.account_id",
		"UPDATE key_change SET sealed = ? WHERE account_id = ?",
	},
	{
		hosting.SealedTOTP, "SELECT t.account_id, a.did, t.secret_sealed FROM totp t JOIN account a ON a.id = t.account_id",
		"UPDATE totp SET secret_sealed = ? WHERE account_id = ?",
	},
	{
		hosting.SealedRecoveryKey, "SELECT k.account_id, a.did, k.key_sealed FROM recovery_key k JOIN account a ON a.id = k.account_id",
		"UPDATE recovery_key SET key_sealed = ? WHERE account_id = ?",
	},
}

// Reseal implements hosting.Store.
func (db Hosting) Reseal(ctx context.Context, reseal func(hosting.SealedKind, syntax.DID, []byte) ([]byte, error)) (n int, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n = 0
		for _, place := range sealedKeys {
			keys, err := listSealed(tx.Conn, place.list)
			if err != nil {
				return err
			}
			for _, k := range keys {
				again, err := reseal(place.kind, k.of, k.sealed)
				if err != nil {
					return err
				}
				n++
				if bytes.Equal(again, k.sealed) {
					continue
				}
				_, err = change(tx.Conn, place.replace, func(s *sqlite.Stmt) { s.BindBytes(1, again); s.BindText(2, k.key) })
				if err != nil {
					return fmt.Errorf("replace sealed key: %w", err)
				}
			}
		}
		return nil
	})
	return n, err
}

// sealedKey is a key of one of those places. SQLite compares the text of a number
// with a column of numbers as a number.
type sealedKey struct {
	key    string
	of     syntax.DID
	sealed []byte
}

func listSealed(c *sqlite.Conn, list string) (out []sealedKey, err error) {
	err = query(c, list, nil, func(r *sqlite.Stmt) error {
		out = append(out, sealedKey{r.ColumnText(0), syntax.DID(r.ColumnText(1)), columnBytes(r, 2)})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list sealed keys: %w", err)
	}
	return out, nil
}
