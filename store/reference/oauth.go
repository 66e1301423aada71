package reference

import (
	"context"
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"

	"nestbox/takeover"
)

// Grants implements takeover.GrantSource.
func (s *Source) Grants(
	_ context.Context, yield func(did string, tokens []takeover.OAuthToken, allowed []takeover.Allowed) error,
) error {
	grants, err := s.AccountDB.has("token", "")
	if err != nil {
		return err
	}
	consents, err := s.AccountDB.has("authorized_client", "")
	if err != nil {
		return err
	}
	var dids []string
	for _, table := range []struct {
		there bool
		sql   string
	}{{grants, "SELECT DISTINCT did FROM token"}, {consents, "SELECT DISTINCT did FROM authorized_client"}} {
		if !table.there {
			continue
		}
		err := s.AccountDB.each(table.sql, nil, func(r *sqlite.Stmt) error { dids = append(dids, r.ColumnText(0)); return nil })
		if err != nil {
			return fmt.Errorf("look for grants of OAuth clients: %w", err)
		}
	}
	slices.Sort(dids)
	for _, did := range slices.Compact(dids) {
		var tokens []takeover.OAuthToken
		var allowed []takeover.Allowed
		if grants {
			if tokens, err = s.grantsOf(did); err != nil {
				return err
			}
		}
		if consents {
			if allowed, err = s.allowedBy(did); err != nil {
				return err
			}
		}
		if err := yield(did, tokens, allowed); err != nil {
			return err
		}
	}
	return nil
}

// grantsOf returns what an account's OAuth clients were granted.
func (s *Source) grantsOf(did string) (tokens []takeover.OAuthToken, err error) {
	scope := "NULL"
	if has, err := s.AccountDB.has("token", "scope"); err != nil {
		return nil, err
	} else if has {
		scope = "scope"
	}
	var ids []int64
	err = s.AccountDB.each(`SELECT id, tokenId, currentRefreshToken, createdAt, updatedAt, expiresAt, clientId, deviceId, clientAuth,
		parameters, `+scope+" FROM token WHERE did = ? ORDER BY id",
		func(st *sqlite.Stmt) { st.BindText(1, did) },
		func(r *sqlite.Stmt) error {
			ids = append(ids, r.ColumnInt64(0))
			tokens = append(tokens, takeover.OAuthToken{
				ID: r.ColumnText(1), Refresh: r.ColumnText(2), Created: columnDate(r, 3), Updated: columnDate(r, 4), Expires: columnDate(r, 5),
				ClientID: r.ColumnText(6), DeviceID: r.ColumnText(7), Auth: []byte(r.ColumnText(8)), Parameters: []byte(r.ColumnText(9)),
				Scope: r.ColumnText(10),
			})
			return nil
		})
	for i := range tokens {
		if err != nil {
			break
		}
		err = s.AccountDB.each("SELECT refreshToken FROM used_refresh_token WHERE tokenId = ? ORDER BY rowid",
			func(st *sqlite.Stmt) { st.BindInt64(1, ids[i]) },
			func(r *sqlite.Stmt) error { tokens[i].Used = append(tokens[i].Used, r.ColumnText(0)); return nil })
	}
	if err != nil {
		return nil, fmt.Errorf("read grants of OAuth clients: %w", err)
	}
	return tokens, nil
}

// allowedBy returns what an account's owner need not allow again.
func (s *Source) allowedBy(did string) (allowed []takeover.Allowed, err error) {
	err = s.AccountDB.each("SELECT clientId, updatedAt, data FROM authorized_client WHERE did = ? ORDER BY clientId",
		func(st *sqlite.Stmt) { st.BindText(1, did) },
		func(r *sqlite.Stmt) error {
			allowed = append(allowed, takeover.Allowed{ClientID: r.ColumnText(0), Updated: columnDate(r, 1), Data: []byte(r.ColumnText(2))})
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read consents: %w", err)
	}
	return allowed, nil
}

// Browsers implements takeover.BrowserSource.
func (s *Source) Browsers(_ context.Context, yield func(takeover.Browser) error) error {
	there, err := s.AccountDB.has("account_device", "")
	if err != nil || !there {
		return err
	}
	var b takeover.Browser
	give := func() error {
		if b.ID == "" {
			return nil
		}
		return yield(b)
	}
	err = s.AccountDB.each(`SELECT d.id, d.sessionId, d.userAgent, d.ipAddress, d.lastSeenAt, a.did, a.updatedAt
		FROM account_device a JOIN device d ON d.id = a.deviceId ORDER BY d.id, a.did`, nil,
		func(r *sqlite.Stmt) error {
			if id := r.ColumnText(0); id != b.ID {
				if err := give(); err != nil {
					return err
				}
				b = takeover.Browser{
					ID: id, Session: r.ColumnText(1), UserAgent: r.ColumnText(2), Address: r.ColumnText(3), Seen: columnDate(r, 4),
				}
			}
			b.SignIns = append(b.SignIns, takeover.BrowserSignIn{DID: r.ColumnText(5), At: columnDate(r, 6)})
			return nil
		})
	if err == nil {
		err = give()
	}
	if err != nil {
		return fmt.Errorf("read browsers: %w", err)
	}
	return nil
}
