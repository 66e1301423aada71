package reference

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"nestbox/internal/durable"
	"nestbox/internal/pause"
)

// Errors of Open.
var (
	// ErrMissing: there is no such database.
	ErrMissing = errors.New("there is no such file")
	// ErrMoving: a server wrote the database each time that it was copied.
	ErrMoving = errors.New("the database changed during each of several copies: try again when the old server has less to do, or stop it")
)

const (
	// copies is how often a database that changes meanwhile is copied, copyPause the time
	// between.
	copies    = 6
	copyPause = 100 * time.Millisecond
)

// DB is an opened database of the source. One goroutine may use it.
type DB struct {
	// Path is that of the source, State its state before it was read.
	Path  string
	State State

	conn *sqlite.Conn
	dir  string // of the copy; empty if there is none
}

// State is what tells whether a database was written since: the size of the file and of its
// log, in bytes, and the time of its last change. The zero value is that of no database.
type State struct {
	Size, WAL int64
	// Changed is the later change of the two, in Unix nanoseconds.
	Changed int64
}

// StateOf returns the state of the database at path: ErrMissing.
func StateOf(path string) (s State, err error) {
	for _, name := range []string{path, path + "-wal"} {
		fi, err := os.Stat(name)
		switch {
		case errors.Is(err, os.ErrNotExist) && name != path:
			continue
		case errors.Is(err, os.ErrNotExist):
			return State{}, fmt.Errorf("%s: %w", path, ErrMissing)
		case err != nil:
			return State{}, fmt.Errorf("look at database: %w", err)
		case !fi.Mode().IsRegular():
			return State{}, fmt.Errorf("%s is not a file", name)
		case name == path:
			s.Size = fi.Size()
		default:
			s.WAL = fi.Size()
		}
		if name == path || fi.Size() > 0 {
			s.Changed = max(s.Changed, fi.ModTime().UnixNano())
		}
	}
	return s, nil
}

// Open opens the database at path for reading. Copies go below the folder scratch, which
// exists. ErrMissing, ErrMoving; ctx ends its queries.
func Open(ctx context.Context, path, scratch string) (*DB, error) {
	state, err := StateOf(path)
	if err != nil {
		return nil, err
	}
	running, err := Running(path)
	if err != nil {
		return nil, err
	}
	db := &DB{Path: path, State: state}
	uri := "file:" + escape(path) + "?immutable=1"
	if state.WAL > 0 || running {
		if err := db.copy(ctx, scratch); err != nil {
			return nil, errors.Join(err, db.Close())
		}
		uri = "file:" + escape(db.copied())
	}
	if db.conn, err = sqlite.OpenConn(uri, sqlite.OpenReadOnly, sqlite.OpenURI); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	db.conn.SetInterrupt(ctx.Done())
	return db, nil
}

// escape makes a path the path of a URI, as SQLite reads one.
func escape(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

func (db *DB) copied() string { return filepath.Join(db.dir, "copy.sqlite") }

// copy copies the database, then its log, until the log was not put into the database
// meanwhile and has not begun again: what is appended to it does no harm.
func (db *DB) copy(ctx context.Context, scratch string) (err error) {
	if db.dir, err = os.MkdirTemp(scratch, "nestbox-takeover-"); err != nil {
		return fmt.Errorf("make folder for a copy of %s: %w", db.Path, err)
	}
	for range copies {
		before, err := stillOf(db.Path)
		if err != nil {
			return err
		}
		for _, suffix := range []string{"", "-wal"} {
			if err := durable.CopyFile(db.Path+suffix, db.copied()+suffix); err != nil && (suffix == "" || !errors.Is(err, os.ErrNotExist)) {
				return fmt.Errorf("copy %s: %w", db.Path, err)
			}
		}
		after, err := stillOf(db.Path)
		if err != nil {
			return err
		}
		if before == after {
			return nil
		}
		if !pause.For(ctx, copyPause) {
			return ctx.Err()
		}
		if db.State, err = StateOf(db.Path); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", db.Path, ErrMoving)
}

// still is what stays as it is while a database's log only grows.
type still struct {
	size, changed int64
	// log is the head of the log, with numbers that are others once it begins again.
	log [walHead]byte
}

// walHead is the size of the head of a log, in bytes.
const walHead = 32

func stillOf(path string) (s still, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return s, fmt.Errorf("look at database: %w", err)
	}
	s.size, s.changed = fi.Size(), fi.ModTime().UnixNano()
	f, err := os.Open(path + "-wal") //nolint:gosec // beside a database of the source
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("look at the log of a database: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.ReadFull(f, s.log[:]); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return s, fmt.Errorf("look at the log of a database: %w", err)
	}
	return s, nil
}

// Moved reports whether the database was written since it was opened. What was read of it
// may then be a part of an earlier state and a part of a later one.
func (db *DB) Moved() (bool, error) {
	now, err := StateOf(db.Path)
	if err != nil {
		return true, err
	}
	return now != db.State, nil
}

// Close closes the database, and removes its copy.
func (db *DB) Close() error {
	var errs []error
	if db.conn != nil {
		errs = append(errs, db.conn.Close())
	}
	if db.dir != "" {
		errs = append(errs, os.RemoveAll(db.dir))
	}
	return errors.Join(errs...)
}

// each runs one statement, and calls row for each row of the result.
func (db *DB) each(sql string, bind func(*sqlite.Stmt), row func(*sqlite.Stmt) error) (err error) {
	stmt, err := db.conn.Prepare(sql)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(db.Path), err)
	}
	defer func() { err = errors.Join(err, stmt.Reset()) }()
	if bind != nil {
		bind(stmt)
	}
	for {
		more, err := stmt.Step()
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(db.Path), err)
		}
		if !more {
			return nil
		}
		if err := row(stmt); err != nil {
			return err
		}
	}
}

// has reports whether the database has the table, and the table the column if one is named:
// older versions lack some.
func (db *DB) has(table, column string) (has bool, err error) {
	err = db.each("SELECT 1 FROM pragma_table_info(?1) WHERE ?2 = '' OR name = ?2 LIMIT 1",
		func(s *sqlite.Stmt) { s.BindText(1, table); s.BindText(2, column) },
		func(*sqlite.Stmt) error { has = true; return nil })
	return has, err
}

// columnDate reads a time, which the source keeps as ISO 8601 text; zero for NULL and for
// text that is not a time.
func columnDate(s *sqlite.Stmt, col int) time.Time {
	at, err := time.Parse(time.RFC3339Nano, s.ColumnText(col))
	if err != nil {
		return time.Time{}
	}
	return at.UTC().Truncate(time.Millisecond)
}

// columnBytes reads a blob; the bytes are the caller's.
func columnBytes(s *sqlite.Stmt, col int) []byte {
	b := make([]byte, s.ColumnLen(col))
	s.ColumnBytes(col, b)
	return b
}

// Intact returns why the database is damaged, nil if SQLite finds nothing.
func (db *DB) Intact() error {
	var found []string
	err := db.each("PRAGMA quick_check(3)", nil, func(s *sqlite.Stmt) error {
		if text := s.ColumnText(0); text != "ok" {
			found = append(found, strings.Join(strings.Fields(text), " "))
		}
		return nil
	})
	if err == nil && len(found) > 0 {
		err = errors.New(strings.Join(found, "; "))
	}
	return err
}
