package sqlite_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/store/sqlite"
	"nestbox/store/sqlite/groupcommit"
)

// schema changes that of a database, by another connection.
func schema(t *testing.T, path, script string) {
	t.Helper()
	conn, err := zombie.OpenConn(path, zombie.OpenReadWrite|zombie.OpenWAL)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sqlitex.ExecuteScript(conn, script, nil), conn.Close()); err != nil {
		t.Fatalf("%v in %s", err, script)
	}
}

// touch is a kind of statement.
type touch struct{ op, table string }

// touches returns the kinds of statements that a change runs on tables, each
// once.
func touches(t *testing.T, c change) (out []touch) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	w := openWorld(t, path, sqlite.Options{})
	conn, err := zombie.OpenConn(path, zombie.OpenReadWrite|zombie.OpenWAL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(conn.Close(), w.Close()); err != nil {
			t.Error(err)
		}
	}()
	read := func(sql string, row func(*zombie.Stmt) error) {
		t.Helper()
		if err := sqlitex.ExecuteTransient(conn, sql, &sqlitex.ExecOptions{ResultFunc: row}); err != nil {
			t.Fatal(err)
		}
	}
	var script strings.Builder
	script.WriteString("CREATE TABLE touched (op TEXT, tbl TEXT);\n")
	read("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'", func(s *zombie.Stmt) error {
		for _, op := range []string{"INSERT", "UPDATE", "DELETE"} {
			table := s.ColumnText(0)
			fmt.Fprintf(&script, "CREATE TRIGGER touch_%[1]s_%[2]s AFTER %[1]s ON %[2]s BEGIN INSERT INTO touched VALUES ('%[1]s', '%[2]s'); END;\n", op, table)
		}
		return nil
	})
	schema(t, path, script.String())
	if err := c.do(t, w); err != nil {
		t.Fatal(err)
	}
	read("SELECT DISTINCT op, tbl FROM touched", func(s *zombie.Stmt) error {
		out = append(out, touch{s.ColumnText(0), s.ColumnText(1)})
		return nil
	})
	return out
}

// TestFailedStatement: whichever statement of a change fails in a way that ends the
// transaction, as a full disk does, nothing of the change is kept, also not what its
// later statements would have written, and the store goes on.
func TestFailedStatement(t *testing.T) {
	for name, c := range changes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := touches(t, c)
			if len(all) == 0 {
				t.Fatal("it changes nothing")
			}
			path := filepath.Join(t.TempDir(), "nestbox.sqlite")
			w := openWorld(t, path, sqlite.Options{})
			for _, at := range all {
				schema(t, path, fmt.Sprintf("CREATE TRIGGER fails BEFORE %s ON %s BEGIN SELECT RAISE(ROLLBACK, 'the disk is full'); END;", at.op, at.table))
				err := c.do(t, w)
				schema(t, path, "DROP TRIGGER fails;")
				if !errors.Is(err, groupcommit.ErrRolledBack) {
					t.Errorf("%s of %s fails: %v, want ErrRolledBack", at.op, at.table, err)
				}
				if c.done(t, w) {
					t.Fatalf("%s of %s fails: it is seen all the same", at.op, at.table)
				}
			}
			if err := c.do(t, w); err != nil {
				t.Errorf("tried again: %v", err)
			}
			if !c.done(t, w) {
				t.Error("not seen, though it was saved")
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			verify(t, path)
		})
	}
}
