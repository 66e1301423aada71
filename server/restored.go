package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"nestbox/auth"
	"nestbox/backup"
	"nestbox/blob"
	"nestbox/config"
	"nestbox/datadir"
	"nestbox/internal/seal"
	"nestbox/store/sqlite"
	"nestbox/verify"
)

// CheckBackup implements backup.Verification.Check: everything that nestbox verify checks.
func CheckBackup(progress func(line string)) func(context.Context, string, bool, *backup.Blobs, func(string)) error {
	return func(ctx context.Context, dir string, keys bool, blobs *backup.Blobs, fault func(string)) error {
		d := datadir.Dir(dir)
		if err := migrateOlder(ctx, d.Database()); err != nil {
			return err
		}
		keyFile := ""
		if c, _, err := config.Load(config.Flags{Data: dir, Command: true}, os.Environ()); err == nil {
			keyFile = c.KeyEncryptionKeyFile
		}
		v := verify.Verification{
			Lock:     func() (func() error, error) { return func() error { return nil }, nil }, // a folder of our own
			Database: sqlite.Inspector{Path: d.Database()},
			Keys: func(fault func(string)) *seal.Box {
				if !keys {
					return nil
				}
				if err := auth.CheckKeyring(d.Keyring()); err != nil {
					fault(err.Error())
				}
				return datadir.Keys{Dir: d, File: keyFile}.Check(fault)
			},
			Blobs: storedBlobs{blobs}, Now: time.Now, Fault: fault, Remark: func(string) {}, Progress: progress,
		}
		_, err := v.Run(ctx)
		return err
	}
}

// migrateOlder brings the database of an older version up to this one's schema.
func migrateOlder(ctx context.Context, path string) error {
	db, err := sqlite.Inspector{Path: path}.Open(ctx)
	if err == nil {
		return db.Close()
	}
	if !errors.Is(err, sqlite.ErrOlderSchema) {
		return err
	}
	opened, err := sqlite.Open(ctx, path, sqlite.Options{Log: logQuiet()})
	if err != nil {
		return err
	}
	return opened.Close()
}

// storedBlobs implements blob.Inspector over the blobs of a snapshot.
type storedBlobs struct{ blobs *backup.Blobs }

// Open implements blob.Inspector.
func (s storedBlobs) Open(ctx context.Context, key string) (blob.File, error) {
	in, err := s.blobs.Open(ctx, key)
	if errors.Is(err, backup.ErrMissing) {
		return nil, blob.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return onlyForward{in}, nil
}

// Each implements blob.Inspector.
func (s storedBlobs) Each(ctx context.Context, yield func(path, key string) error) error {
	return s.blobs.Each(ctx, yield)
}

// onlyForward is a blob.File that is read from its beginning to its end.
type onlyForward struct{ io.ReadCloser }

// Seek implements io.Seeker: it is an error.
func (onlyForward) Seek(int64, int) (int64, error) {
	return 0, fmt.Errorf("seek in a blob of a backup: %w", errors.ErrUnsupported)
}

// RestoreArgs are what is restored, and where to.
type RestoreArgs struct {
	Reader *backup.Reader
	// At, if it is set, is the time that the snapshot must not be younger than.
	At time.Time
	// To is the data directory, Keys the file of keys that are not in the store, EnvFile one
	// with the settings of the server.
	To, Keys, EnvFile string
	// Fault is called for each fault that the verification finds.
	Fault func(line string)
}

// Restored is what Restore made.
type Restored struct {
	Snapshot string    `json:"snapshot"`
	Made     time.Time `json:"made"`
	// LastEvent is the number of the last event.
	LastEvent int64 `json:"lastEvent"`
	Faults    int64 `json:"faults"`
}

// Restore makes a data directory of a snapshot and verifies it. No server may be started on
// it before.
func Restore(ctx context.Context, a RestoreArgs) (out Restored, err error) {
	m, err := backup.Pick(ctx, a.Reader.Depot, a.At)
	if err != nil {
		return out, err
	}
	out = Restored{Snapshot: m.Name, Made: m.At, LastEvent: m.LastEvent}
	if err := a.Reader.Restore(ctx, m, backup.Target{Dir: a.To, Keys: a.Keys}); err != nil {
		return out, err
	}
	dir := datadir.Dir(a.To)
	if err := migrateOlder(ctx, dir.Database()); err != nil {
		return out, err
	}
	c, _, err := config.Load(config.Flags{Data: a.To, EnvFile: a.EnvFile, Command: true}, os.Environ())
	if err != nil {
		return out, fmt.Errorf("everything was restored, and not verified: %w", err)
	}
	c.BlobDiskLocation = "" // they are restored into the data directory
	v, err := Verification(&c)
	if err != nil {
		return out, err
	}
	v.Now, v.Fault, v.Remark, v.Progress = time.Now, a.Fault, func(string) {}, func(string) {}
	done, err := v.Run(ctx)
	out.Faults = done.Faults
	return out, err
}
