package hosting

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/maypok86/otter/v2"

	"nestbox/internal/seal"
	"nestbox/signin"
)

// cachedKeys bounds how many accounts' keys are kept opened and parsed: opening one
// takes as long as signing with it.
const cachedKeys = 10_000

// Keys opens the signing keys of accounts.
type Keys struct {
	store  Store
	box    *seal.Box
	opened *otter.Cache[int64, atcrypto.PrivateKey]
}

// NewKeys returns the keys that were sealed with box.
func NewKeys(store Store, box *seal.Box) *Keys {
	return &Keys{store, box, otter.Must(&otter.Options[int64, atcrypto.PrivateKey]{MaximumSize: cachedKeys})}
}

// SigningKey returns the key that signs an account's repository. Errors:
// account.ErrNotFound, seal.ErrOpen.
func (k *Keys) SigningKey(ctx context.Context, accountID int64) (atcrypto.PrivateKey, error) {
	if key, ok := k.opened.GetIfPresent(accountID); ok {
		return key, nil
	}
	var err error
	// Under the cache's lock on the account: what was read before Drop is dropped.
	key, _ := k.opened.ComputeIfAbsent(accountID, func() (key atcrypto.PrivateKey, cancel bool) {
		var did syntax.DID
		var sealed []byte
		if did, sealed, err = k.store.SealedKey(ctx, accountID); err == nil {
			key, err = OpenKey(k.box, did, sealed)
		}
		return key, err != nil
	})
	return key, err
}

// Drop forgets an account's key. It is called once the store has another.
func (k *Keys) Drop(accountID int64) { k.opened.Invalidate(accountID) }

// SealKey seals the signing key of an account, or one that is reserved for a DID: empty if
// it was promised to nobody.
func SealKey(box *seal.Box, did syntax.DID, key *atcrypto.PrivateKeyK256) []byte {
	return box.Seal(key.Bytes(), signingKeyLabel(did))
}

// OpenKey opens an account's sealed signing key.
func OpenKey(box *seal.Box, did syntax.DID, sealed []byte) (atcrypto.PrivateKey, error) {
	raw, err := box.Open(sealed, signingKeyLabel(did))
	if err != nil {
		return nil, fmt.Errorf("signing key of %s: %w", did, err)
	}
	key, err := atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		return nil, fmt.Errorf("signing key of %s: %w", did, err)
	}
	return key, nil
}

// SealedKind is the kind of a secret that the stores keep sealed.
type SealedKind string

// The kinds.
const (
	SealedSigningKey  SealedKind = "signing key"
	SealedTOTP                   = SealedKind(signin.SealTOTP)
	SealedRecoveryKey            = SealedKind(signin.SealRecovery)
)

func (k SealedKind) label(did syntax.DID) string {
	if k == SealedSigningKey {
		return signingKeyLabel(did)
	}
	return signin.SealLabel(signin.SealKind(k), did)
}

// Opens returns why a sealed secret does not open, nil if it does.
func (k SealedKind) Opens(box *seal.Box, did syntax.DID, sealed []byte) error {
	if _, err := box.Open(sealed, k.label(did)); err != nil {
		return fmt.Errorf("%s of %s: %w", k, did, err)
	}
	return nil
}

// Reseal seals every signing key, including those that are reserved or being
// changed to, and every secret of a second factor with another key than the one that
// sealed them, all or none, and returns how many there are. It may be repeated. If
// neither opens a key: seal.ErrOpen.
func Reseal(ctx context.Context, store Store, from, to *seal.Box) (int, error) {
	return store.Reseal(ctx, func(kind SealedKind, did syntax.DID, sealed []byte) ([]byte, error) {
		again, err := seal.Reseal(from, to, sealed, kind.label(did))
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", kind, did, err)
		}
		return again, nil
	})
}
