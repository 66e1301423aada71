package reference

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/dagcbor"
	"nestbox/takeover"
)

var _ takeover.Source = (*Source)(nil)

// Accounts implements takeover.Source.
func (s *Source) Accounts() (out []takeover.Account, bad []takeover.Fault, err error) {
	err = s.AccountDB.each(`SELECT a.did, a.handle, a.createdAt, a.takedownRef, a.deactivatedAt, a.deleteAfter,
			c.did IS NOT NULL, c.email, c.passwordScrypt, c.emailConfirmedAt, c.invitesDisabled, r.cid, r.rev
		FROM actor a LEFT JOIN account c ON c.did = a.did LEFT JOIN repo_root r ON r.did = a.did ORDER BY a.createdAt, a.did`, nil,
		func(r *sqlite.Stmt) error {
			did, err := syntax.ParseDID(r.ColumnText(0))
			if name := did.String(); err != nil || !filepath.IsLocal(name) || filepath.Base(name) != name {
				bad = append(bad, takeover.Fault{
					DID: syntax.DID(r.ColumnText(0)), What: "it is not a DID of atproto",
					Do: "remove its rows from the old server, or leave it out with --skip " + r.ColumnText(0),
				})
				return nil //nolint:nilerr // it is a fault of the source
			}
			a := takeover.Account{
				DID: did, Handle: r.ColumnText(1), CreatedAt: columnDate(r, 2), TakenDown: !r.ColumnIsNull(3), TakedownRef: r.ColumnText(3),
				DeactivatedAt: columnDate(r, 4), DeleteAfter: columnDate(r, 5), HasAccount: r.ColumnBool(6),
				Email: r.ColumnText(7), PasswordHash: r.ColumnText(8), EmailConfirmedAt: columnDate(r, 9), InvitesDisabled: r.ColumnBool(10),
			}
			a.Root.Rev = syntax.TID(r.ColumnText(12))
			if a.Root.CID, err = dagcbor.ParseCID(r.ColumnText(11)); err != nil && !r.ColumnIsNull(11) {
				return fmt.Errorf("repo_root of %s: %w", did, err)
			}
			out = append(out, a)
			return nil
		})
	return out, bad, err
}

// Registered implements takeover.Source.
func (s *Source) Registered(ctx context.Context, did syntax.DID) (there bool, err error) {
	db, err := Open(ctx, s.Places.Accounts, s.scratch)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.each("SELECT 1 FROM actor WHERE did = ?", func(st *sqlite.Stmt) { st.BindText(1, did.String()) },
		func(*sqlite.Stmt) error { there = true; return nil })
	return there, err
}

// AppPasswords implements takeover.Source.
func (s *Source) AppPasswords() (out []takeover.AppPassword, err error) {
	err = s.AccountDB.each("SELECT did, name, passwordScrypt, createdAt, privileged FROM app_password ORDER BY createdAt, did, name", nil,
		func(r *sqlite.Stmt) error {
			out = append(out, takeover.AppPassword{
				DID: syntax.DID(r.ColumnText(0)), Name: r.ColumnText(1), Hash: r.ColumnText(2),
				CreatedAt: columnDate(r, 3), Privileged: r.ColumnBool(4),
			})
			return nil
		})
	return out, err
}

// Invites implements takeover.Source.
func (s *Source) Invites() (codes []takeover.Invite, uses []takeover.InviteUse, err error) {
	err = s.AccountDB.each(`SELECT code, availableUses, disabled, forAccount, createdBy, createdAt
		FROM invite_code ORDER BY createdAt, code`, nil,
		func(r *sqlite.Stmt) error {
			codes = append(codes, takeover.Invite{
				Code: r.ColumnText(0), Available: r.ColumnInt64(1), Disabled: r.ColumnBool(2),
				ForAccount: r.ColumnText(3), CreatedBy: r.ColumnText(4), CreatedAt: columnDate(r, 5),
			})
			return nil
		})
	if err != nil {
		return nil, nil, err
	}
	err = s.AccountDB.each("SELECT code, usedBy, usedAt FROM invite_code_use ORDER BY usedAt, code, usedBy", nil, func(r *sqlite.Stmt) error {
		uses = append(uses, takeover.InviteUse{Code: r.ColumnText(0), UsedBy: r.ColumnText(1), UsedAt: columnDate(r, 2)})
		return nil
	})
	return codes, uses, err
}

// EmailCodes implements takeover.Source.
func (s *Source) EmailCodes() (out []takeover.EmailCode, err error) {
	err = s.AccountDB.each("SELECT did, purpose, token, requestedAt FROM email_token", nil, func(r *sqlite.Stmt) error {
		out = append(out, takeover.EmailCode{
			DID: syntax.DID(r.ColumnText(0)), Purpose: r.ColumnText(1), Code: r.ColumnText(2), RequestedAt: columnDate(r, 3),
		})
		return nil
	})
	return out, err
}

// Documents implements takeover.Source.
func (s *Source) Documents(yield func(did string, document []byte) error) error {
	if s.DocumentDB == nil {
		return nil
	}
	return s.DocumentDB.each("SELECT did, doc FROM did_doc", nil, func(r *sqlite.Stmt) error {
		return yield(r.ColumnText(0), columnBytes(r, 1))
	})
}

// reservedFolder is the folder of reserved keys beside those of actors.
const reservedFolder = "reserved_keys"

// keySize is that of a private key, in bytes.
const keySize = 32

// ReservedKeys implements takeover.Source.
func (s *Source) ReservedKeys() (keys []takeover.ReservedKey, odd []string, err error) {
	dir := filepath.Join(s.Places.Actors, reservedFolder)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list reserved keys: %w", err)
	}
	for _, e := range entries {
		raw, err := readSmall(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, nil, fmt.Errorf("reserved key: %w", err)
		}
		info, err := e.Info()
		if err != nil {
			return nil, nil, fmt.Errorf("reserved key: %w", err)
		}
		_, derr := syntax.ParseDID(e.Name())
		if len(raw) != keySize || derr != nil {
			odd = append(odd, e.Name())
			continue
		}
		keys = append(keys, takeover.ReservedKey{Name: e.Name(), Private: raw, ReservedAt: info.ModTime()})
	}
	return keys, odd, nil
}

// readSmall reads the file of a key; nothing of a folder.
func readSmall(path string) (raw []byte, err error) {
	f, err := os.Open(path) //nolint:gosec // below the source's folders
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, keySize+1))
}

// Strays implements takeover.Source.
func (s *Source) Strays(known map[syntax.DID]bool) (names []string, err error) {
	shards, err := os.ReadDir(s.Places.Actors)
	if err != nil {
		return nil, fmt.Errorf("list actors: %w", err)
	}
	for _, shard := range shards {
		if !shard.IsDir() || len(shard.Name()) != 2 {
			continue
		}
		actors, err := os.ReadDir(filepath.Join(s.Places.Actors, shard.Name()))
		if err != nil {
			return nil, fmt.Errorf("list actors: %w", err)
		}
		for _, a := range actors {
			if strings.HasPrefix(a.Name(), "did:") && !known[syntax.DID(a.Name())] {
				names = append(names, a.Name())
			}
		}
	}
	return names, nil
}
