package sqlite

import (
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

// Errors of Open.
var (
	ErrNewerSchema = errors.New("the database was written by a newer nestbox; run that version, or restore a backup from before the upgrade")
	ErrNotOurs     = errors.New("the file is a database of another program")
)

func migrate(c *sqlite.Conn) error {
	have, app, known, err := schemaOf(c)
	if err != nil {
		return err
	}
	if app != applicationID && (app != 0 || have != 0) {
		return ErrNotOurs
	}
	if newest := newest(known); have > newest {
		return fmt.Errorf("%w (schema %d, this binary knows %d)", ErrNewerSchema, have, newest)
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
	if err := sqlitex.ExecuteScript(c, script, nil); err != nil {
		return err
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
