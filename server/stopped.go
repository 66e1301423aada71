package server

import (
	"context"
	"errors"
	"log/slog"

	"nestbox/auth"
	"nestbox/blob/disk"
	"nestbox/config"
	"nestbox/datadir"
	"nestbox/internal/seal"
	"nestbox/store/sqlite"
	"nestbox/verify"
)

// Verification returns the verification of the data directory that the settings
// name, with Lock, Database, Keys and Blobs: datadir.ErrNoDatabase.
func Verification(c *config.Config) (verify.Verification, error) {
	dir, err := findDir(c.DataDirectory)
	if err != nil {
		return verify.Verification{}, err
	}
	return verificationOf(dir, c)
}

// verificationOf returns what verifies a data directory.
func verificationOf(dir datadir.Dir, c *config.Config) (verify.Verification, error) {
	return verify.Verification{
		Lock:     dir.Lock,
		Database: sqlite.Inspector{Path: dir.Database()},
		Keys: func(fault func(string)) *seal.Box {
			if err := auth.CheckKeyring(dir.Keyring()); err != nil {
				fault(err.Error())
			}
			return datadir.Keys{Dir: dir, File: c.KeyEncryptionKeyFile}.Check(fault)
		},
		Blobs: disk.Look(blobFolders(dir, c)),
	}, nil
}

// Reseal changes the key that the private keys of the data directory are encrypted with,
// from the one that the settings name: see datadir.Keys.Reseal.
func Reseal(ctx context.Context, c *config.Config, to string) (_ datadir.Resealed, err error) {
	dir, err := findDir(c.DataDirectory)
	if err != nil {
		return datadir.Resealed{}, err
	}
	release, err := dir.Lock()
	if err != nil {
		return datadir.Resealed{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	db, err := sqlite.Open(ctx, dir.Database(), sqlite.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return datadir.Resealed{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return datadir.Keys{Dir: dir, File: c.KeyEncryptionKeyFile, Sealed: sealedKeys{db.Stores().Hosting}}.Reseal(ctx, to)
}
