package proxy

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
)

// tokenLife is how long the token of a call is valid.
const tokenLife = time.Minute

// Accounts finds accounts here: account.ErrNotFound.
type Accounts interface {
	ByDID(ctx context.Context, did syntax.DID) (*account.Account, error)
	ByHandle(ctx context.Context, h syntax.Handle) (*account.Account, error)
}

// Keys are the accounts' signing keys, parsed.
type Keys interface {
	SigningKey(ctx context.Context, accountID int64) (atcrypto.PrivateKey, error)
}

// token returns a service token that speaks for the account, for one call of a method.
// The specification wants the service's id in the audience, but the services in use
// refuse that: it is the DID alone.
func (s *Service) token(ctx context.Context, by *account.Account, to Target, method string) (string, error) {
	key, err := s.Keys.SigningKey(ctx, by.ID)
	if err != nil {
		return "", err
	}
	now := s.Now()
	return auth.NewServiceToken(key, by.DID, to.DID, method, now, now.Add(tokenLife))
}
