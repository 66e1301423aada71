package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"nestbox/config"
	"nestbox/hosting"
	"nestbox/internal/durable"
	"nestbox/internal/seal"
	"nestbox/store/sqlite"
)

// fileNextKEK is the key that will replace fileKEK. While it is there, some keys
// may be sealed with it already: the next start, or the next reseal, completes the
// change.
const fileNextKEK = fileKEK + ".next"

// Resealing changes the key that the private keys of a data directory are encrypted
// with, from the one that the settings name. No server may run on it.
type Resealing struct {
	Config config.Config
	// To is the file with the new key, made if it is missing. If it is "", a fresh key
	// replaces the data directory's own.
	To string
}

// Resealed is the result of Resealing.
type Resealed struct {
	// Keys is how many signing keys there are, File the file of the key that opens them
	// now.
	Keys int    `json:"keys"`
	File string `json:"file"`
}

// Errors of Resealing.
var (
	errNoTarget = errors.New("the key lies in PDS_KEY_ENCRYPTION_KEY_FILE: name another file with --to, which is made where it is missing, and then in the setting")
	errSameKey  = errors.New("both files hold the same key")
)

// Run encrypts every private key again. If it is interrupted, run it again to go on;
// until then both the old and the new key are needed. A wrong old key is errSealed,
// and nothing was changed.
func (r Resealing) Run(ctx context.Context) (_ Resealed, err error) {
	dir, err := servedDir(r.Config.DataDirectory)
	if err != nil {
		return Resealed{}, err
	}
	release, err := lockStopped(dir)
	if err != nil {
		return Resealed{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	db, err := sqlite.Open(ctx, filepath.Join(dir, databaseName), sqlite.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return Resealed{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	keys := db.Stores().Hosting
	if r.To != "" {
		return r.exchange(ctx, dir, keys)
	}
	if !isOwn(dir, r.Config.KeyEncryptionKeyFile) {
		return Resealed{}, errNoTarget
	}
	if !interrupted(dir) {
		// Before the next key is made, the key that opens what is sealed must be here.
		if _, err := openBox(ctx, dir, "", keys); err != nil {
			return Resealed{}, err
		}
		if _, err := makeBox(filepath.Join(dir, fileNextKEK)); err != nil {
			return Resealed{}, err
		}
	}
	n, err := renewKEK(ctx, dir, keys)
	return Resealed{n, keyFile(dir, "")}, err
}

// exchange seals every private key with the key of another file.
func (r Resealing) exchange(ctx context.Context, dir string, keys hosting.Store) (Resealed, error) {
	if isOwn(dir, r.Config.KeyEncryptionKeyFile) && interrupted(dir) {
		if _, err := renewKEK(ctx, dir, keys); err != nil {
			return Resealed{}, err
		}
	}
	from, err := readBox(keyFile(dir, r.Config.KeyEncryptionKeyFile))
	if err != nil {
		return Resealed{}, err
	}
	to, err := makeBox(r.To)
	if err != nil {
		return Resealed{}, err
	}
	if from.Equal(to) {
		return Resealed{}, errSameKey
	}
	n, err := reseal(ctx, dir, keys, from, to)
	return Resealed{n, r.To}, err
}

// interrupted reports that the data directory's own key is being replaced.
func interrupted(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, fileNextKEK))
	return err == nil
}

// renewKEK replaces fileKEK by fileNextKEK, after everything is sealed with it.
func renewKEK(ctx context.Context, dir string, keys hosting.Store) (int, error) {
	from, err := readBox(filepath.Join(dir, fileKEK))
	if err != nil {
		return 0, err
	}
	to, err := readBox(filepath.Join(dir, fileNextKEK))
	if err != nil {
		return 0, err
	}
	n, err := reseal(ctx, dir, keys, from, to)
	if err != nil {
		return 0, err
	}
	if err := os.Rename(filepath.Join(dir, fileNextKEK), filepath.Join(dir, fileKEK)); err != nil {
		return 0, fmt.Errorf("replace key file: %w", err)
	}
	return n, durable.SyncDir(dir)
}

// reseal seals with to everything that from sealed: the signing keys in one
// transaction, then the PLC rotation key. If neither opens a key it returns
// errSealed, before anything is changed.
func reseal(ctx context.Context, dir string, keys hosting.Store, from, to *seal.Box) (int, error) {
	path := filepath.Join(dir, fileRotationKey)
	rotation, err := os.ReadFile(path) //nolint:gosec // a file of the operator's own data directory
	switch {
	case errors.Is(err, fs.ErrNotExist): // it may be in the settings
	case err != nil:
		return 0, fmt.Errorf("read PLC rotation key: %w", err)
	default:
		if rotation, err = seal.Reseal(from, to, rotation, rotationKeyLabel); err != nil {
			return 0, fmt.Errorf("%w: PLC rotation key: %w", errSealed, err)
		}
	}
	n, err := hosting.Reseal(ctx, keys, from, to)
	if errors.Is(err, seal.ErrOpen) {
		return 0, fmt.Errorf("%w: %w", errSealed, err)
	}
	if err != nil || rotation == nil {
		return n, err
	}
	return n, durable.WriteFile(path, rotation, 0o600)
}
