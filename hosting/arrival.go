package hosting

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/repo"
	"nestbox/request"
)

// Arrival is how completely an account has moved in.
type Arrival struct {
	// HasRepo: it has a repository, which is so large.
	HasRepo bool
	Repo    repo.Summary
	// Expected is how many blobs records refer to, There how many of them are here.
	Expected, There int64
	Preferences     int
}

// Arrival looks at what of an account is here.
func (s *Service) Arrival(ctx context.Context, a *account.Account) (out Arrival, err error) {
	out.Repo, err = s.Repos.Summary(ctx, a.ID)
	out.HasRepo = err == nil
	if err != nil && !errors.Is(err, repo.ErrNoRepo) {
		return out, err
	}
	if out.Expected, out.There, err = s.Blobs.Count(ctx, a.ID); err != nil {
		return out, err
	}
	set, err := s.Prefs.Preferences(ctx, a.DID)
	out.Preferences = len(set)
	return out, err
}

// Pointing is what an account's identity says now, beside what it should say here.
type Pointing struct {
	// Server is the URL of the account's server, empty if it names none. Here: it is this one.
	Server string
	Here   bool
	// Handle is the one that it names. HandleHere: it is the account's.
	Handle     syntax.Handle
	HandleHere bool
	// KeyHere: the key that signs the repository is the account's here.
	KeyHere bool
	// Rotates: this server may change the identity, as Activate demands of did:plc. Others is
	// how many other keys may.
	Rotates bool
	Others  int
}

// Valid reports whether the identity is as Activate demands it.
func (p *Pointing) Valid() bool { return p.Here && p.KeyHere && p.Rotates }

// Pointing asks the network what an account's identity says. Errors: identity.ErrNotRegistered,
// request.ErrTooMany, those of a network that fails.
func (s *Service) Pointing(ctx context.Context, a *account.Account) (out Pointing, err error) {
	if err := request.Admit(ctx, s.Limits, a.DID.String(), 1, identityLooks); err != nil {
		return out, err
	}
	d, err := s.Resolver.Fresh(ctx, a.DID)
	if err != nil {
		return out, err
	}
	out = Pointing{
		Server: d.PDS(), Here: d.PDS() == s.URL, Handle: d.Handle(), HandleHere: d.Handle() == a.Handle,
		KeyHere: d.SigningKey() == a.SigningKey, Rotates: true,
	}
	if a.DID.Method() != "plc" {
		return out, nil
	}
	data, err := s.registered(ctx, a.DID)
	if errors.Is(err, errNotRegistered) {
		return out, identity.ErrNotRegistered
	}
	if err != nil {
		return out, err
	}
	server, err := s.RotationKey.PublicKey()
	if err != nil {
		return out, fmt.Errorf("read rotation key: %w", err)
	}
	out.Rotates = slices.Contains(data.RotationKeys, server.DIDKey())
	out.Others = len(data.RotationKeys)
	if out.Rotates {
		out.Others--
	}
	return out, nil
}
