package hosting

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/identity"
)

// An orphan is an account that this server has lost, as one that was made after the backup that
// the server was restored from: its DID still names the server, and nobody has its signing key
// any more. The server's rotation key gives it another.

// errForeign: see Orphan.
var errForeign = errors.New("its DID names another server")

// Orphan returns the DID document of an account that is not here although its DID names this
// server, which may change the DID. Errors: account.ErrDIDTaken, ErrNotPLC, ErrNoControl,
// identity.ErrNotRegistered.
func (s *Service) Orphan(ctx context.Context, did syntax.DID) (*identity.Document, error) {
	switch _, err := s.Accounts.ByDID(ctx, did); {
	case err == nil:
		return nil, account.ErrDIDTaken
	case !errors.Is(err, account.ErrNotFound):
		return nil, err
	case did.Method() != "plc":
		return nil, ErrNotPLC
	}
	d, err := s.Resolver.Fresh(ctx, did)
	if err != nil {
		return nil, err
	}
	if d.PDS() != s.URL {
		return nil, fmt.Errorf("%w, %q", errForeign, d.PDS())
	}
	data, err := s.registered(ctx, did)
	if err != nil {
		return nil, err
	}
	ours, err := s.serverKey()
	if err == nil && !slices.Contains(data.RotationKeys, ours) {
		err = fmt.Errorf("%w; the owner can move the account to another server, or add %s to its rotation keys", ErrNoControl, ours)
	}
	return d, err
}
