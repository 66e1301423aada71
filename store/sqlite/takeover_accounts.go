package sqlite

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/takeover"
)

// SetAccounts implements takeover.Store.
func (t *Takeover) SetAccounts(ctx context.Context, a takeover.Accounts) error {
	return t.atOnce(ctx, func(c *sqlite.Conn) error {
		for _, table := range []string{
			"session", "device", "oauth_consent", "app_password", "invite_code", "email_code", "reserved_key",
		} {
			if _, err := change(c, "DELETE FROM "+table, nil); err != nil {
				return fmt.Errorf("empty table %s: %w", table, err)
			}
		}
		if err := removeOthers(c, a.Rows); err != nil {
			return err
		}
		ids := make(map[syntax.DID]int64, len(a.Rows))
		for _, row := range a.Rows {
			id, err := setAccount(c, row)
			if err != nil {
				return fmt.Errorf("account %s: %w", row.DID, err)
			}
			ids[row.DID] = id
		}
		return besideAccounts(c, a, ids)
	})
}

// removeOthers removes the accounts that are not among rows, and makes the names of the rest
// free: two may have exchanged theirs.
func removeOthers(c *sqlite.Conn, rows []takeover.AccountRow) error {
	keep := make(map[string]bool, len(rows))
	for _, row := range rows {
		keep[row.DID.String()] = true
	}
	var gone []string
	err := query(c, "SELECT did FROM account", nil, func(r *sqlite.Stmt) error {
		if did := r.ColumnText(0); !keep[did] {
			gone = append(gone, did)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list accounts: %w", err)
	}
	for _, did := range gone {
		if err := dropActor(c, syntax.DID(did)); err != nil {
			return err
		}
		if _, err := change(c, "DELETE FROM account WHERE did = ?", func(s *sqlite.Stmt) { s.BindText(1, did) }); err != nil {
			return fmt.Errorf("remove account %s: %w", did, err)
		}
	}
	_, err = change(c, "UPDATE account SET handle = 'of ' || id, email_key = 'of ' || id", nil)
	return wrap(err, "free the names of accounts")
}

// setAccount inserts an account, or updates all but its number and its key.
func setAccount(c *sqlite.Conn, row takeover.AccountRow) (id int64, err error) {
	err = query(c, `INSERT INTO account (did, handle, email, email_key, password_hash, created_at, email_confirmed_at, deactivated_at,
			delete_after, takendown_at, takedown_ref, invites_disabled, invited_with, signing_key, signing_key_sealed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', x'')
		ON CONFLICT (did) DO UPDATE SET handle = excluded.handle, email = excluded.email, email_key = excluded.email_key,
			password_hash = excluded.password_hash, created_at = excluded.created_at, email_confirmed_at = excluded.email_confirmed_at,
			deactivated_at = excluded.deactivated_at, delete_after = excluded.delete_after, takendown_at = excluded.takendown_at,
			takedown_ref = excluded.takedown_ref, invites_disabled = excluded.invites_disabled, invited_with = excluded.invited_with
		RETURNING id`,
		func(s *sqlite.Stmt) {
			s.BindText(1, row.DID.String())
			s.BindText(2, row.Handle.String())
			s.BindText(3, row.Email)
			s.BindText(4, account.EmailKey(row.Email))
			s.BindText(5, row.PasswordHash)
			bindTime(s, 6, row.CreatedAt)
			bindTime(s, 7, row.EmailConfirmedAt)
			bindTime(s, 8, row.DeactivatedAt)
			bindTime(s, 9, row.DeleteAfter)
			bindTime(s, 10, row.TakenDownAt)
			s.BindText(11, row.TakedownRef)
			s.BindBool(12, row.InvitesDisabled)
			s.BindText(13, row.InvitedWith)
		},
		func(r *sqlite.Stmt) error { id = r.ColumnInt64(0); return nil })
	if err != nil || len(row.Document) == 0 {
		return id, err
	}
	return id, setDocument(c, id, row.Document, "UPDATE SET document = excluded.document, checked_at = NULL")
}

// setDocument stores a DID document that has yet to be checked; otherwise is what to do if
// there is one.
func setDocument(c *sqlite.Conn, id int64, document []byte, otherwise string) error {
	_, err := change(c, "INSERT INTO identity (account_id, document) VALUES (?, ?) ON CONFLICT DO "+otherwise,
		func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindBytes(2, document) })
	return wrap(err, "store DID document")
}

// besideAccounts stores what the accounts have; ids are their numbers.
func besideAccounts(c *sqlite.Conn, a takeover.Accounts, ids map[syntax.DID]int64) error {
	for _, p := range a.AppPasswords {
		_, err := change(c, "INSERT INTO app_password (account_id, name, hash, privileged, created_at) VALUES (?, ?, ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindInt64(1, ids[p.DID])
				s.BindText(2, p.Name)
				s.BindText(3, p.Hash)
				s.BindBool(4, p.Privileged)
				s.BindInt64(5, p.CreatedAt.UnixMilli())
			})
		if err != nil {
			return fmt.Errorf("app password of %s: %w", p.DID, err)
		}
	}
	if err := setInvites(c, a); err != nil {
		return err
	}
	for _, code := range a.Codes {
		_, err := change(c, "INSERT INTO email_code (account_id, purpose, hash, made_at, expires) VALUES (?, ?, ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindInt64(1, ids[code.DID])
				s.BindText(2, string(code.Purpose))
				s.BindBytes(3, code.Hash)
				bindTime(s, 4, code.MadeAt)
				bindTime(s, 5, code.Expires)
			})
		if err != nil {
			return fmt.Errorf("e-mail code of %s: %w", code.DID, err)
		}
	}
	for _, k := range a.Keys {
		_, err := change(c, "INSERT INTO reserved_key (public_key, did, sealed, reserved_at) VALUES (?, nullif(?, ''), ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindText(1, k.Public)
				s.BindText(2, k.DID.String())
				s.BindBytes(3, k.Sealed)
				s.BindInt64(4, k.ReservedAt.UnixMilli())
			})
		if err != nil {
			return fmt.Errorf("reserved key %s: %w", k.Public, err)
		}
	}
	return nil
}

func setInvites(c *sqlite.Conn, a takeover.Accounts) error {
	for _, v := range a.Invites {
		_, err := change(c, "INSERT INTO invite_code (code, available, disabled, for_account, created_by, created_at) VALUES (?, ?, ?, ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindText(1, v.Code)
				s.BindInt64(2, v.Available)
				s.BindBool(3, v.Disabled)
				s.BindText(4, v.ForAccount)
				s.BindText(5, v.CreatedBy)
				s.BindInt64(6, v.CreatedAt.UnixMilli())
			})
		if err != nil {
			return fmt.Errorf("invite code: %w", err)
		}
	}
	for _, u := range a.InviteUses {
		_, err := change(c, "INSERT INTO invite_use (code, used_by, used_at) VALUES (?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindText(1, u.Code)
				s.BindText(2, u.UsedBy)
				s.BindInt64(3, u.UsedAt.UnixMilli())
			})
		if err != nil {
			return fmt.Errorf("use of an invite code: %w", err)
		}
	}
	return nil
}

// AnyKey returns an account's sealed signing key; did is empty if there is none yet.
func (t *Takeover) AnyKey(ctx context.Context) (did syntax.DID, sealed []byte, err error) {
	err = t.within(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT did, signing_key_sealed FROM account WHERE signing_key <> '' LIMIT 1", nil, func(r *sqlite.Stmt) error {
			did, sealed = syntax.DID(r.ColumnText(0)), columnBytes(r, 1)
			return nil
		})
	})
	return did, sealed, wrap(err, "look for sealed keys")
}
