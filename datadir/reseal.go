package datadir

import (
	"context"
	"errors"
	"fmt"
	"os"

	"nestbox/internal/durable"
	"nestbox/internal/seal"
)

// fileNextKEK is the key that will replace fileKEK. While it is there, some keys
// may be sealed with it already: the next start, or the next reseal, completes the
// change.
const fileNextKEK = fileKEK + ".next"

// Resealed is the result of Keys.Reseal.
type Resealed struct {
	// Keys is how many signing keys there are, File the file of the key that opens them
	// now.
	Keys int    `json:"keys"`
	File string `json:"file"`
}

// Errors of Keys.Reseal.
var (
	errNoTarget = errors.New("the key lies in PDS_KEY_ENCRYPTION_KEY_FILE: " +
		"name another file with --to, which is made where it is missing, and then in the setting")
	errSameKey = errors.New("both files hold the same key")
)

// Reseal encrypts every private key again, with the key in the file to, which is made if
// it is missing, or, if to is empty, with a fresh key that replaces the data directory's
// own. No server may run on the data directory. If it is interrupted, run it again to go
// on; until then both the old and the new key are needed. A wrong old key is an error,
// and nothing was changed.
func (k Keys) Reseal(ctx context.Context, to string) (Resealed, error) {
	if to != "" {
		return k.exchange(ctx, to)
	}
	if !k.isOwn() {
		return Resealed{}, errNoTarget
	}
	if !k.interrupted() {
		// Before the next key is made, the key that opens what is sealed must be here.
		if _, err := (Keys{Dir: k.Dir, Sealed: k.Sealed}).Box(ctx); err != nil {
			return Resealed{}, err
		}
		if _, err := makeBox(k.Dir.in(fileNextKEK)); err != nil {
			return Resealed{}, err
		}
	}
	n, err := k.renew(ctx)
	return Resealed{n, k.own()}, err
}

// exchange seals every private key with the key of another file.
func (k Keys) exchange(ctx context.Context, file string) (Resealed, error) {
	if k.isOwn() && k.interrupted() {
		if _, err := k.renew(ctx); err != nil {
			return Resealed{}, err
		}
	}
	from, err := readBox(k.file())
	if err != nil {
		return Resealed{}, err
	}
	to, err := makeBox(file)
	if err != nil {
		return Resealed{}, err
	}
	if from.Equal(to) {
		return Resealed{}, errSameKey
	}
	n, err := k.reseal(ctx, from, to)
	return Resealed{n, file}, err
}

// interrupted reports that the data directory's own key is being replaced.
func (k Keys) interrupted() bool {
	_, err := os.Stat(k.Dir.in(fileNextKEK))
	return err == nil
}

// renew replaces fileKEK by fileNextKEK, after everything is sealed with it.
func (k Keys) renew(ctx context.Context) (int, error) {
	next := k.Dir.in(fileNextKEK)
	from, err := readBox(k.own())
	if err != nil {
		return 0, err
	}
	to, err := readBox(next)
	if err != nil {
		return 0, err
	}
	n, err := k.reseal(ctx, from, to)
	if err != nil {
		return 0, err
	}
	if err := os.Rename(next, k.own()); err != nil {
		return 0, fmt.Errorf("replace key file: %w", err)
	}
	return n, durable.SyncDir(string(k.Dir))
}

// reseal seals with to everything that from sealed: the signing keys in one
// transaction, then the PLC rotation key. If neither opens a key it returns
// errSealed, before anything is changed.
func (k Keys) reseal(ctx context.Context, from, to *seal.Box) (int, error) {
	rotation, err := k.readRotation()
	if err != nil {
		return 0, err
	}
	if rotation != nil {
		if rotation, err = seal.Reseal(from, to, rotation, rotationKeyLabel); err != nil {
			return 0, fmt.Errorf("%w: PLC rotation key: %w", errSealed, err)
		}
	}
	n, err := k.Sealed.Reseal(ctx, from, to)
	if errors.Is(err, seal.ErrOpen) {
		return 0, fmt.Errorf("%w: %w", errSealed, err)
	}
	if err != nil || rotation == nil {
		return n, err
	}
	return n, durable.WriteFile(k.rotationFile(), rotation, 0o600)
}
