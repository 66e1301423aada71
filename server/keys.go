package server

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/config"
	"nestbox/datadir"
	"nestbox/hosting"
	"nestbox/internal/seal"
)

// secrets are what the settings or the data directory keep secret.
type secrets struct {
	box      *seal.Box // of the signing keys
	rotation atcrypto.PrivateKey
	admin    string
	keyring  *auth.Keyring
}

// openSecrets reads the secrets, and makes what is missing, if it may be made.
func openSecrets(ctx context.Context, dir datadir.Dir, c *config.Config, store hosting.Store, now func() time.Time) (s secrets, err error) {
	keys := datadir.Keys{Dir: dir, File: c.KeyEncryptionKeyFile, Sealed: sealedKeys{store}}
	if s.box, err = keys.Box(ctx); err != nil {
		return s, err
	}
	if s.rotation, err = keys.Rotation(ctx, c.PLCRotationKey.Reveal(), s.box); err != nil {
		return s, err
	}
	if s.admin, err = dir.AdminPassword(c.AdminPassword.Reveal()); err != nil {
		return s, err
	}
	s.keyring, err = auth.OpenKeyring(dir.Keyring(), c.JWTSecret.Reveal(), now)
	return s, err
}

// sealedKeys are the accounts' signing keys as datadir.Sealed.
type sealedKeys struct{ store hosting.Store }

// Any implements datadir.Sealed.
func (k sealedKeys) Any(ctx context.Context) (bool, error) {
	_, _, err := k.store.AnyKey(ctx)
	if errors.Is(err, account.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// TryOpen implements datadir.Sealed.
func (k sealedKeys) TryOpen(ctx context.Context, box *seal.Box) error {
	did, sealed, err := k.store.AnyKey(ctx)
	if errors.Is(err, account.ErrNotFound) {
		return nil
	}
	if err == nil {
		_, err = hosting.OpenKey(box, did, sealed)
	}
	return err
}

// Reseal implements datadir.Sealed.
func (k sealedKeys) Reseal(ctx context.Context, from, to *seal.Box) (int, error) {
	return hosting.Reseal(ctx, k.store, from, to)
}
