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
	have, app, names, err := schemaOf(c)
	if err != nil {
		return err
	}
	if app != applicationID && (app != 0 || have != 0) {
		return ErrNotOurs
	}
	if have > len(names) {
		return fmt.Errorf("%w (schema %d, this binary knows %d)", ErrNewerSchema, have, len(names))
	}
	for i, name := range names[have:] {
		version := have + i + 1
		if n, err := strconv.Atoi(strings.TrimPrefix(name, "migrations/")[:4]); err != nil || n != version {
			return fmt.Errorf("migration %s is not number %d", name, version)
		}
		script, err := migrationFiles.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read migration: %w", err)
		}
		if err := applyMigration(c, string(script), version); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return nil
}

// schemaOf returns the number of a database's schema, whose it is, and the
// migrations that this binary knows.
func schemaOf(c *sqlite.Conn) (have, app int, names []string, err error) {
	if names, err = fs.Glob(migrationFiles, "migrations/*.sql"); err != nil {
		return 0, 0, nil, fmt.Errorf("list migrations: %w", err)
	}
	if have, err = pragmaInt(c, "user_version"); err != nil {
		return 0, 0, nil, err
	}
	app, err = pragmaInt(c, "application_id")
	return have, app, names, err
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
