// Package datadir owns the data directory: the names of what is in it, its lock, and the
// files with keys and secrets.
//
// Each of these files is made at first start, mode 0600, if the setting that replaces it
// is not given. Invariant: the private keys of a server are sealed with the key in one
// file, or, while that key is exchanged, each with the key in one of two files; a missing
// or wrong key file is never made again while something is sealed with it.
package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nestbox/internal/durable"
)

// fileClock has the last time at which the clock was right.
const fileClock = "clock"

// The folders of a data directory.
const (
	// BlobsFolder is for blobs, if no setting names another.
	BlobsFolder = "blobs"
	// TransfersFolder is for repositories while they are sent or received.
	TransfersFolder = "transfers"
	// PLCFolder is for the PLC directory of development.
	PLCFolder = "plc"
	// TakeoverFolder is the data directory that a take-over makes, in that of the server that
	// it takes over.
	TakeoverFolder = "nestbox"
)

// TakeoverFile says, in a data directory, that it was made by a take-over, which has ended.
const TakeoverFile = "takeover.json"

// Dir is the full path of a data directory.
type Dir string

// ErrNoDatabase: the folder is not a data directory, or was never served.
var ErrNoDatabase = errors.New("there is no database")

// Open makes a data directory, closed to other users, and locks it until release is
// called. If a server runs on it: durable.ErrLocked.
func Open(path string) (dir Dir, release func() error, err error) {
	if dir, err = full(path); err != nil {
		return "", nil, err
	}
	if err := durable.MakeDir(string(dir)); err != nil {
		return "", nil, fmt.Errorf("create data directory: %w", err)
	}
	release, err = durable.Lock(string(dir))
	return dir, release, err
}

// Find returns a data directory that was served: ErrNoDatabase.
func Find(path string) (Dir, error) {
	dir, err := full(path)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir.Database()); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoDatabase, err)
	}
	return dir, nil
}

func full(path string) (Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find data directory: %w", err)
	}
	return Dir(abs), nil
}

// Lock locks a data directory on which no server may run until release is called:
// durable.ErrLocked.
func (d Dir) Lock() (release func() error, err error) {
	release, err = durable.Lock(string(d))
	if errors.Is(err, durable.ErrLocked) {
		err = fmt.Errorf("%w; stop that server first (systemctl stop, or kill -TERM)", err)
	}
	return release, err
}

func (d Dir) in(name string) string { return filepath.Join(string(d), name) }

// Database returns the path of the database file.
func (d Dir) Database() string { return d.in("nestbox.sqlite") }

// Keyring returns the path of the keys that sign tokens.
func (d Dir) Keyring() string { return d.in("keyring.json") }

// Replays returns the path of the DPoP proofs that the last server accepted.
func (d Dir) Replays() string { return d.in("dpop_replays") }

// Blobs returns the path of BlobsFolder.
func (d Dir) Blobs() string { return d.in(BlobsFolder) }

// Transfers returns the path of TransfersFolder.
func (d Dir) Transfers() string { return d.in(TransfersFolder) }

// Takeover returns the path of TakeoverFile.
func (d Dir) Takeover() string { return d.in(TakeoverFile) }

// PLC returns the path of PLCFolder.
func (d Dir) PLC() string { return d.in(PLCFolder) }

// Backups returns the path of the folder in which is kept what is known of the stores of
// backups.
func (d Dir) Backups() string { return d.in("backups") }

// Small is a small file of a data directory that belongs in a backup.
type Small struct {
	Name, Path string
	// Key: it opens something, or signs.
	Key bool
}

// Smalls returns the small files that belong in a backup; some may be missing. The key that
// seals others is one of them unless the operator keeps it elsewhere, in file.
func (d Dir) Smalls(file string) (all []Small) {
	keys := []string{"keyring.json", fileRotationKey, fileAdmin}
	if (Keys{Dir: d, File: file}).isOwn() {
		keys = append(keys, fileKEK, fileNextKEK)
	}
	for _, name := range keys {
		all = append(all, Small{name, d.in(name), true})
	}
	for _, name := range []string{FileSettings, TakeoverFile, filepath.Join(PLCFolder, "operations.jsonl")} {
		all = append(all, Small{name, d.in(name), false})
	}
	return all
}

// FileSettings has the settings of the last server: see config.Config.Remember.
const FileSettings = "last_settings.json"

// fileSizes has what the server took of its disks on past days.
const fileSizes = "sizes"

// KeepSizes saves lines of text for LastSizes.
func (d Dir) KeepSizes(lines []byte) error { return durable.WriteFile(d.in(fileSizes), lines, 0o600) }

// maxSizes is the most that fileSizes has, in bytes.
const maxSizes = 64 << 10

// LastSizes returns what KeepSizes saved last, nothing if there is none.
func (d Dir) LastSizes() ([]byte, error) {
	raw, err := os.ReadFile(d.in(fileSizes))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the sizes of past days: %w", err)
	}
	return raw[:min(len(raw), maxSizes)], nil
}

// maxClock is the most that a file with a time has, in bytes.
const maxClock = 64

// KeepClock saves a time at which the machine's clock was right.
func (d Dir) KeepClock(at time.Time) error { return d.keepTime(fileClock, at) }

// LastClock returns the time that KeepClock saved last, zero if there is none.
func (d Dir) LastClock() (time.Time, error) { return d.lastTime(fileClock) }

// What KeepSuccess keeps the time of: a backup that was made, and one that was verified. Each is the
// name of a file.
const (
	BackupMade     = "last_backup"
	BackupVerified = "last_verify"
	BackupLog      = "last_log"
)

// KeepSuccess saves when something last succeeded.
func (d Dir) KeepSuccess(what string, at time.Time) error { return d.keepTime(what, at) }

// LastSuccess returns the time that KeepSuccess saved last, zero if there is none.
func (d Dir) LastSuccess(what string) (time.Time, error) { return d.lastTime(what) }

func (d Dir) keepTime(name string, at time.Time) error {
	return durable.WriteFile(d.in(name), []byte(at.UTC().Format(time.RFC3339)+"\n"), 0o600)
}

func (d Dir) lastTime(name string) (time.Time, error) {
	raw, err := os.ReadFile(d.in(name))
	if errors.Is(err, os.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the last time: %w", err)
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(raw[:min(len(raw), maxClock)])))
	if err != nil {
		return time.Time{}, fmt.Errorf("file %s: %w", d.in(name), err)
	}
	return at, nil
}
