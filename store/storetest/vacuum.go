package storetest

import (
	"errors"
	"fmt"
	"strings"

	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Vacuum rewrites the whole file of a database, which a server may have open, as another program
// does. copies: it also copies the write-ahead log into the file.
func Vacuum(path string, copies bool) error {
	sql := "PRAGMA wal_autocheckpoint=0; VACUUM"
	if copies {
		sql = "VACUUM; PRAGMA wal_checkpoint(PASSIVE)"
	}
	_, err := ask(path, sql)
	return err
}

// PageCount returns the size of a database, in pages.
func PageCount(path string) (int, error) { return ask(path, "PRAGMA page_count") }

func ask(path, sql string) (n int, err error) {
	c, err := zombie.OpenConn(path, zombie.OpenReadWrite)
	if err != nil {
		return 0, fmt.Errorf("open database: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for one := range strings.SplitSeq(sql, ";") {
		err := sqlitex.ExecuteTransient(c, one, &sqlitex.ExecOptions{
			ResultFunc: func(s *zombie.Stmt) error { n = s.ColumnInt(0); return nil },
		})
		if err != nil {
			return 0, fmt.Errorf("%s: %w", one, err)
		}
	}
	return n, nil
}
