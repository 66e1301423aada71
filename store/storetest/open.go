package storetest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"nestbox/backup"
	"nestbox/store"
	"nestbox/store/sqlite"
)

// SQLite names the store on SQLite.
const SQLite = "sqlite"

// EnvStore is the environment variable that names the store below the tests of the
// domains; if it is empty, SQLite.
const EnvStore = "NESTBOX_TEST_STORE"

// Tester is what *testing.T, *testing.B and *rapid.T have in common.
type Tester interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
	Cleanup(f func())
}

// Options of a Database; the zero value is usable if the test has a TempDir.
type Options struct {
	// Store names the store; if empty, EnvStore does.
	Store string
	// Dir is where the database is kept; if empty, in a directory of its own.
	Dir string
	// Log gets the database's log; nil discards it.
	Log *slog.Logger
	// Before is called ahead of each write: see Interleave.
	Before func()
}

// Database is a database of a test. Its stores are others after Reopen.
type Database struct {
	store.Stores

	t    Tester
	opts Options
	db   interface {
		Stores() store.Stores
		Close() error
		backup.Database
		backup.Followed
	}
	closed bool
}

// Open opens an empty database, or the one that is in Options.Dir. It is closed at the end
// of the test, and everything in it verified.
func Open(t Tester, opts ...Options) *Database {
	t.Helper()
	d := &Database{t: t}
	if len(opts) > 0 {
		d.opts = opts[0]
	}
	if d.opts.Dir == "" {
		dirs, ok := t.(interface{ TempDir() string })
		if !ok {
			t.Fatalf("a test without a TempDir must name the directory of its database")
		}
		d.opts.Dir = dirs.TempDir()
	}
	if d.opts.Log == nil {
		d.opts.Log = slog.New(slog.DiscardHandler)
	}
	d.open()
	t.Cleanup(func() {
		d.Close()
		d.Verify()
	})
	return d
}

func (d *Database) open() {
	d.t.Helper()
	switch name := cmp.Or(d.opts.Store, os.Getenv(EnvStore), SQLite); name {
	case SQLite:
		db, err := sqlite.Open(context.WithoutCancel(d.t.Context()), d.Path(), sqlite.Options{
			Log: d.opts.Log, Before: d.opts.Before,
			Fatal: func(err error) { d.t.Errorf("the outcome of a commit is unknown: %v", err) },
		})
		if err != nil {
			d.t.Fatalf("open database: %v", err)
		}
		d.db = db
	default:
		d.t.Fatalf("%s: there is no store %q, only %q", EnvStore, name, SQLite)
	}
	d.Stores, d.closed = d.db.Stores(), false
}

// Hold implements backup.Database.
func (d *Database) Hold(ctx context.Context) (backup.Held, error) { return d.db.Hold(ctx) }

// Follow implements backup.Followed.
func (d *Database) Follow(ctx context.Context, to backup.Follower, from *backup.Mark) (goesOn bool, err error) {
	return d.db.Follow(ctx, to, from)
}

// Cut implements backup.Followed.
func (d *Database) Cut(ctx context.Context) error { return d.db.Cut(ctx) }

// Unfollow implements backup.Followed.
func (d *Database) Unfollow(ctx context.Context, cause error) error { return d.db.Unfollow(ctx, cause) }

// Path returns where the database is kept, for tests of its content on the disk.
func (d *Database) Path() string { return filepath.Join(d.opts.Dir, "nestbox.sqlite") }

// BlobFiles calls yield with the key of each blob's file that the database at a path knows.
func BlobFiles(ctx context.Context, path string, yield func(key string) error) error {
	return sqlite.BlobFiles(ctx, path, yield)
}

// Inspector returns an inspector of the database in a directory.
func Inspector(dir string) store.Inspector {
	return sqlite.Inspector{Path: (&Database{opts: Options{Dir: dir}}).Path()}
}

// Close closes the database before the end of the test; the stores must not be used
// after that.
func (d *Database) Close() {
	d.t.Helper()
	if d.closed {
		return
	}
	d.closed = true
	if err := d.db.Close(); err != nil {
		d.t.Errorf("close database: %v", err)
	}
}

// Reopen closes the database and opens it again, as a new process does: Stores then
// return what was durable.
func (d *Database) Reopen() {
	d.t.Helper()
	d.Close()
	d.open()
}

// CopyTo copies what lies on the disk, which is what a kill at this moment would leave,
// to a directory, for OpenCopy.
func (d *Database) CopyTo(dir string) {
	d.t.Helper()
	to := &Database{opts: Options{Dir: dir}}
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(d.Path() + suffix)
		if suffix != "" && errors.Is(err, os.ErrNotExist) {
			continue // it was closed
		}
		if err == nil {
			err = os.WriteFile(to.Path()+suffix, data, 0o600)
		}
		if err != nil {
			d.t.Fatalf("copy database: %v", err)
		}
	}
}

// OpenCopy closes the database and opens the copy in a directory instead, as after a
// crash or a restore.
func (d *Database) OpenCopy(dir string) {
	d.t.Helper()
	d.Close()
	d.opts.Dir = dir
	d.open()
}

// Verify fails the test for each fault of the database, which must be closed.
func (d *Database) Verify() {
	d.t.Helper()
	faults, err := Faults(context.WithoutCancel(d.t.Context()), d.Inspect)
	if err != nil {
		d.t.Errorf("verify: %v", err)
	}
	for _, fault := range faults {
		d.t.Errorf("verify: %s", fault)
	}
}

// Faults runs all checks of a database as a whole, and returns what is wrong with it. An
// error means that it could not check.
func Faults(ctx context.Context, database store.Inspector) (faults []string, err error) {
	i, err := database.Open(ctx)
	if err != nil {
		return nil, err
	}
	for n := range i.Checks() {
		err = errors.Join(err, i.Check(n, func(fault string) { faults = append(faults, fault) }))
	}
	return faults, errors.Join(err, i.Close())
}
