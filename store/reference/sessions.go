package reference

import (
	"context"
	"fmt"

	"zombiezen.com/go/sqlite"

	"nestbox/takeover"
)

var (
	_ takeover.SessionSource = (*Source)(nil)
	_ takeover.GrantSource   = (*Source)(nil)
	_ takeover.BrowserSource = (*Source)(nil)
)

// RefreshTokens implements takeover.SessionSource.
func (s *Source) RefreshTokens(_ context.Context, yield func(did string, tokens []takeover.RefreshToken) error) error {
	did, tokens := "", []takeover.RefreshToken(nil)
	give := func() error {
		if len(tokens) == 0 {
			return nil
		}
		return yield(did, tokens)
	}
	err := s.AccountDB.each("SELECT did, id, expiresAt, nextId, appPasswordName FROM refresh_token ORDER BY did, id", nil,
		func(r *sqlite.Stmt) error {
			if of := r.ColumnText(0); of != did {
				if err := give(); err != nil {
					return err
				}
				did, tokens = of, nil
			}
			tokens = append(tokens, takeover.RefreshToken{
				ID: r.ColumnText(1), Expires: columnDate(r, 2), Next: r.ColumnText(3), AppPassword: r.ColumnText(4), OfApp: !r.ColumnIsNull(4),
			})
			return nil
		})
	if err == nil {
		err = give()
	}
	if err != nil {
		return fmt.Errorf("read sessions: %w", err)
	}
	return nil
}
