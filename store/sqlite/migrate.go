package sqlite

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// migrationFiles are applied in the order of their numbers, each in one
// transaction. They are only added to, never changed.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

// applicationID marks a database file as ours ("nest"): another program's
// database is refused rather than migrated.
const applicationID = 0x6e657374

// readerTable is the first schema that says which programs may read it: see minReader.
const readerTable = 31

// Errors of Open.
var (
	ErrNewerSchema = errors.New("the database was written by a newer nestbox; run that version, or restore a backup from before the upgrade")
	ErrNotOurs     = errors.New("the file is a database of another program")
)

// migrate brings the database at path up to this binary's schema, after a copy of it was kept. One
// with a newer schema stays as it is, if that schema lets this binary work on it.
func migrate(ctx context.Context, c *sqlite.Conn, path string, opts Options) error {
	have, app, known, err := schemaOf(c)
	if err != nil {
		return err
	}
	if app != applicationID && (app != 0 || have != 0) {
		return ErrNotOurs
	}
	if to := newest(known); have > to {
		return admitted(c, path, have, to)
	} else if have > 0 && have < to && !opts.NoSafetyCopy {
		if err := keepCopy(ctx, c, path, have, to, opts); err != nil {
			return err
		}
	}
	for _, m := range known {
		if m.number <= have {
			continue
		}
		script, err := migrationFiles.ReadFile(m.name)
		if err != nil {
			return fmt.Errorf("read migration: %w", err)
		}
		if err := applyMigration(c, string(script), m.number); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
	}
	return nil
}

// admitted returns nil if a database with a newer schema than this binary knows lets it read and
// write.
func admitted(c *sqlite.Conn, path string, have, newest int) error {
	reader, err := minReader(c)
	if err != nil {
		return errors.Join(newerSchema(path, have, newest), err)
	}
	if reader > newest {
		return newerSchema(path, have, newest)
	}
	return nil
}

// minReader returns the schema that a program must know at least to read and write a database that
// has the schema readerTable or a later one.
func minReader(c *sqlite.Conn) (n int, err error) {
	err = query(c, "SELECT min_reader FROM standing WHERE id = 1", nil, func(r *sqlite.Stmt) error { n = r.ColumnInt(0); return nil })
	if err == nil && n == 0 {
		err = errors.New("its row is missing")
	}
	return n, wrap(err, "read which programs may use the database")
}

// readerMark begins the line of a migration that says which schema a program must know at least to
// go on with the database afterwards. Without that line it is the migration's own.
const readerMark = "-- min_reader: "

// readerOf returns what a migration says.
func readerOf(script string, number int) (int, error) {
	for line := range strings.Lines(script) {
		if text, ok := strings.CutPrefix(line, readerMark); ok {
			n, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil || n < readerTable || n > number {
				return 0, fmt.Errorf("%s%s: no schema before this one", readerMark, strings.TrimSpace(text))
			}
			return n, nil
		}
	}
	return number, nil
}

// migration is one file; the schema has its number once it was applied.
type migration struct {
	name   string
	number int
}

// newest is the number of the schema that this binary works on.
func newest(known []migration) int { return known[len(known)-1].number }

// schemaOf returns the number of a database's schema, whose it is, and the
// migrations that this binary knows, in their order. A number may be left out,
// but not used twice.
func schemaOf(c *sqlite.Conn) (have, app int, known []migration, err error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return 0, 0, nil, fmt.Errorf("list migrations: %w", err)
	}
	last := 0
	for _, name := range names { // Glob sorts them
		n, err := strconv.Atoi(strings.TrimPrefix(name, "migrations/")[:4])
		if err != nil || n <= last {
			return 0, 0, nil, fmt.Errorf("migration %s comes after number %d", name, last)
		}
		known, last = append(known, migration{name, n}), n
	}
	if have, err = pragmaInt(c, "user_version"); err != nil {
		return 0, 0, nil, err
	}
	app, err = pragmaInt(c, "application_id")
	return have, app, known, err
}

func applyMigration(c *sqlite.Conn, script string, version int) (err error) {
	end, err := sqlitex.ImmediateTransaction(c)
	if err != nil {
		return err
	}
	defer end(&err)
	reader, err := readerOf(script, version)
	if err != nil {
		return err
	}
	if err := sqlitex.ExecuteScript(c, script, nil); err != nil {
		return err
	}
	if version >= readerTable {
		err := query(c, "UPDATE standing SET min_reader = max(min_reader, ?) WHERE id = 1",
			func(s *sqlite.Stmt) { s.BindInt64(1, int64(reader)) }, nil)
		if err != nil {
			return err
		}
	}
	set := fmt.Sprintf("PRAGMA user_version=%d; PRAGMA application_id=%d;", version, applicationID)
	return sqlitex.ExecuteScript(c, set, nil)
}

func pragmaInt(c *sqlite.Conn, name string) (int, error) {
	var n int
	err := sqlitex.ExecuteTransient(c, "PRAGMA "+name, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		n = s.ColumnInt(0)
		return nil
	}})
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return n, nil
}
