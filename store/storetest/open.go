package storetest

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"nestbox/store"
	"nestbox/store/sqlite"
)

// Tester is what *testing.T, *testing.B and *rapid.T with a context have in common.
type Tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
	Cleanup(f func())
}

// Options of a Database; the zero value is usable.
type Options struct {
	// Dir is where the database is kept; if empty, in a directory of its own.
	Dir string
	// Log gets the database's log; nil discards it.
	Log *slog.Logger
	// Before is called ahead of each write: see Interleave.
	Before func()
}

// Database is a database of a test.
type Database struct {
	store.Stores

	t      Tester
	opts   Options
	db     *sqlite.DB
	path   string
	closed bool
}

// Open opens an empty database, or the one that is in Options.Dir. It is closed at the end
// of the test, and everything in it verified.
func Open(t interface {
	Tester
	TempDir() string
}, opts ...Options,
) *Database {
	t.Helper()
	o := Options{}
	if len(opts) > 0 {
		o = opts[0]
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	return OpenIn(t, o)
}

// OpenIn is Open for a test that has no directory of its own: o.Dir is required.
func OpenIn(t Tester, o Options) *Database {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Database{t: t, opts: o, path: filepath.Join(o.Dir, "nestbox.sqlite")}
	d.open()
	t.Cleanup(func() {
		d.Close()
		d.Verify()
	})
	return d
}

func (d *Database) open() {
	d.t.Helper()
	db, err := sqlite.Open(context.WithoutCancel(d.t.Context()), d.path, sqlite.Options{
		Log: d.opts.Log, Before: d.opts.Before,
		Fatal: func(err error) { d.t.Errorf("the outcome of a commit is unknown: %v", err) },
	})
	if err != nil {
		d.t.Fatalf("open database: %v", err)
	}
	d.db, d.Stores, d.closed = db, db.Stores(), false
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

// OpenAt opens the database that is kept at path, after Close: a copy of what there was, as
// a restored backup is.
func (d *Database) OpenAt(path string) {
	d.t.Helper()
	d.path = path
	d.open()
}

// Verify fails the test for each fault of the database, which must be closed.
func (d *Database) Verify() {
	d.t.Helper()
	for _, fault := range d.Faults() {
		d.t.Errorf("verify: %s", fault)
	}
}

// Faults returns what is wrong with the database, which must be closed.
func (d *Database) Faults() []string {
	d.t.Helper()
	faults, err := sqlite.Verify(d.path)
	if err != nil {
		d.t.Errorf("verify: %v", errors.Join(err))
	}
	return faults
}

// Path returns where the database is kept, for tests of its file's content.
func (d *Database) Path() string { return d.path }
