package server

import (
	"context"
	"errors"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/internal/seal"
)

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
