package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nestbox/auth"
	"nestbox/blob/disk"
	"nestbox/config"
	"nestbox/internal/durable"
	"nestbox/internal/seal"
	"nestbox/store/sqlite"
	"nestbox/verify"
)

// databaseName is the database's file in the data directory.
const databaseName = "nestbox.sqlite"

// ErrNoDatabase: the folder is not a data directory, or was never served.
var ErrNoDatabase = errors.New("there is no database")

// Verification returns the verification of the data directory that the settings
// name, with Lock, Database, Keys and Blobs: ErrNoDatabase.
func Verification(c *config.Config) (verify.Verification, error) {
	dir, err := servedDir(c.DataDirectory)
	if err != nil {
		return verify.Verification{}, err
	}
	return verify.Verification{
		Lock:     func() (func() error, error) { return lockStopped(dir) },
		Database: sqlite.Inspector{Path: filepath.Join(dir, databaseName)},
		Keys:     func(fault func(string)) *seal.Box { return checkKeyFiles(dir, c.KeyEncryptionKeyFile, fault) },
		Blobs:    disk.Look(blobFolders(dir, c)),
	}, nil
}

// servedDir returns the full path of a data directory that was served: ErrNoDatabase.
func servedDir(dir string) (full string, err error) {
	if full, err = filepath.Abs(dir); err != nil {
		return "", fmt.Errorf("find data directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(full, databaseName)); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoDatabase, err)
	}
	return full, nil
}

// lockStopped locks a data directory. If a server runs on it: durable.ErrLocked.
func lockStopped(dir string) (release func() error, err error) {
	release, err = durable.Lock(dir)
	if errors.Is(err, durable.ErrLocked) {
		err = fmt.Errorf("%w; stop that server first (systemctl stop, or kill -TERM)", err)
	}
	return release, err
}

// checkKeyFiles checks the files with keys, and opens the one that seals others. It
// must not make a lost key again.
func checkKeyFiles(dir, setting string, fault func(string)) *seal.Box {
	if err := auth.CheckKeyring(filepath.Join(dir, fileKeyring)); err != nil {
		fault(err.Error())
	}
	box, err := readBox(keyFile(dir, setting))
	if err != nil {
		fault(err.Error())
		return nil
	}
	if interrupted(dir) {
		fault("a change of the key encryption key was interrupted: start the server, or run nestbox keys reseal, to finish it")
	}
	sealed, err := os.ReadFile(filepath.Join(dir, fileRotationKey)) //nolint:gosec // a file of the operator's own data directory
	if errors.Is(err, os.ErrNotExist) {                             // it may be in the settings
		return box
	}
	if err == nil {
		_, err = openRotationKey(sealed, box)
	}
	if err != nil {
		fault("key file " + fileRotationKey + ": " + err.Error())
	}
	return box
}
