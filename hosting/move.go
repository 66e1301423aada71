package hosting

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/plc"
	"nestbox/request"
)

// Moving in: an account that exists elsewhere is made here, deactivated, under the
// DID that it has; its repository, blobs and preferences are uploaded; its DID
// document is pointed here; then it is activated
// (https://atproto.com/guides/account-migration).

// Errors of moving in.
var (
	errNotOwner    = errors.New("the DID is not proven to be the caller's")
	ErrHandleProof = errors.New("handle does not resolve to the DID")
)

// MoveIn makes a deactivated account with a DID that in.Owner has proven to own. If
// it returns an error, nothing is left behind.
func (s *Service) MoveIn(ctx context.Context, did syntax.DID, in NewAccount) (*account.Account, error) {
	p, err := s.check(ctx, did, in)
	if err != nil {
		return nil, err
	}
	p.DID = did
	if in.Owner != did {
		return nil, errNotOwner
	}
	switch _, err := s.Accounts.ByDID(ctx, did); {
	case err == nil:
		return nil, account.ErrDIDTaken
	case !errors.Is(err, account.ErrNotFound):
		return nil, err
	}
	// The store's MoveIn decides; this spares us the work before it for a DID that is
	// taken down.
	switch m, err := s.Accounts.MeasuresOf(ctx, did); {
	case err == nil && m.MayMoveIn() != nil:
		return nil, m.MayMoveIn()
	case err != nil && !errors.Is(err, account.ErrNotFound):
		return nil, err
	}
	document, err := s.Resolver.Fresh(ctx, did)
	if err != nil {
		return nil, fmt.Errorf("document of the account that moves in: %w", err)
	}
	kept, err := identity.Kept(did, document.Raw)
	if err != nil {
		return nil, err
	}
	if p.PasswordHash, err = s.Hasher.Hash(ctx, in.Password); err != nil {
		return nil, err
	}
	for {
		a, err := s.moveIn(ctx, p, kept)
		if !errors.Is(err, ErrKeyReserved) { // it was reserved after we looked
			return a, err
		}
	}
}

// moveIn makes the account that moves in, with its signing key and first repository.
func (s *Service) moveIn(ctx context.Context, p Pending, document []byte) (*account.Account, error) {
	key, err := s.keyFor(ctx, &p)
	if err != nil {
		return nil, err
	}
	p.CreatedAt = s.now()
	first, err := s.Repos.Genesis(p.DID, key, p.CreatedAt)
	if err != nil {
		return nil, err
	}
	by := account.ActorOwner
	if p.MadeBy != "" {
		by = account.ActorAdmin
	}
	e := account.NewEntry(ctx, p.CreatedAt, account.EntryMovedIn, by)
	a, err := s.Store.MoveIn(ctx, p, document, first, e)
	if err != nil {
		return nil, err
	}
	request.SetMark(ctx, request.AccountCreated|request.Arrived)
	return a, nil
}

// keyFor returns the signing key that was reserved for a DID that moves in, or a
// new one.
func (s *Service) keyFor(ctx context.Context, p *Pending) (atcrypto.PrivateKey, error) {
	k, err := s.Store.ReservedKey(ctx, p.DID)
	if errors.Is(err, account.ErrNotFound) {
		k, err = s.newKey(p.DID)
	}
	if err != nil {
		return nil, err
	}
	p.SigningKey, p.SigningKeySealed = k.Public, k.Sealed
	return OpenKey(s.Box, p.DID, k.Sealed)
}

// newKey makes a signing key, sealed for a DID.
func (s *Service) newKey(did syntax.DID) (ReservedKey, error) {
	private, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return ReservedKey{}, fmt.Errorf("make signing key: %w", err)
	}
	public, err := private.PublicKey()
	if err != nil {
		return ReservedKey{}, fmt.Errorf("make signing key: %w", err)
	}
	return ReservedKey{
		Public: public.DIDKey(), DID: did, Sealed: SealKey(s.Box, did, private), ReservedAt: s.now(),
	}, nil
}

const (
	// reservedFor is how long a signing key is reserved at least, unless SurplusKeys
	// drops it.
	reservedFor = 7 * 24 * time.Hour
	// reservedKeys is how many are reserved at most if Settings does not say.
	reservedKeys = 100_000
)

// ReserveKey promises a signing key to an account that will move in: the same key
// to the same DID, until it has moved in. It returns the key as did:key.
func (s *Service) ReserveKey(ctx context.Context, did syntax.DID) (string, error) {
	k, err := s.newKey(did)
	if err != nil {
		return "", err
	}
	k.Sender = s.sender(request.ClientOf(ctx).Network())
	expired := s.now().Add(-reservedFor)
	if !s.sure() {
		expired = time.Time{} // none
	}
	k, err = s.Store.ReserveKey(ctx, k, expired, cmp.Or(s.ReservedKeys, reservedKeys))
	return k.Public, err
}

// sender returns what ReservedKey.Sender is for a network.
func (s *Service) sender(n request.Network) []byte {
	h := hmac.New(sha256.New, s.Box.Derive("networks that reserve keys"))
	h.Write([]byte(n.Widest()))
	return h.Sum(nil)[:8]
}

// Why a DID document cannot be that of an account here, as the reference words it.
var (
	errNotRegistered = errors.New("Could not resolve DID")                                                   //nolint:staticcheck // for people
	errRotationKey   = errors.New("Server rotation key not included in PLC DID data")                        //nolint:staticcheck // for people
	errEndpoint      = errors.New("DID document atproto_pds service endpoint does not match PDS public url") //nolint:staticcheck // for people
	errSigningKey    = errors.New("DID document verification method does not match expected signing key")
)

// Elsewhere reports whether err says that an account's DID document does not name this
// server, its key, or a key of this server's that may change it: the owner must do that
// first.
func Elsewhere(err error) bool {
	for _, why := range []error{errNotRegistered, errRotationKey, errEndpoint, errSigningKey} {
		if errors.Is(err, why) {
			return true
		}
	}
	return false
}

// pointsHere asks the network whether an account's DID document names this server
// and the key that it signs with, and returns the document. For did:plc this server
// must also be able to change it.
func (s *Service) pointsHere(ctx context.Context, a *account.Account) (*identity.Document, error) {
	if a.DID.Method() == "plc" {
		data, err := s.registered(ctx, a.DID)
		if err != nil {
			return nil, err
		}
		server, err := s.serverKey()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(data.RotationKeys, server) {
			return nil, errRotationKey
		}
	}
	d, err := s.Resolver.Fresh(ctx, a.DID)
	switch {
	case errors.Is(err, identity.ErrNotRegistered), errors.Is(err, identity.ErrMalformed):
		return nil, errNotRegistered
	case err != nil:
		return nil, err
	case d.PDS() != s.URL:
		return nil, errEndpoint
	case d.SigningKey() != a.SigningKey:
		return nil, errSigningKey
	}
	return d, nil
}

// registered returns what the PLC directory says about a DID now.
func (s *Service) registered(ctx context.Context, did syntax.DID) (plc.Data, error) {
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	last, err := s.Directory.Last(ctx, did)
	if errors.Is(err, identity.ErrNotRegistered) {
		return plc.Data{}, errNotRegistered
	}
	if err != nil {
		return plc.Data{}, err
	}
	data, ok := plc.DataOf(last)
	if !ok {
		return plc.Data{}, errNotRegistered // it was tombstoned
	}
	return data, nil
}
