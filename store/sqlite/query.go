package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// bind sets the parameters of a statement, in order.
type bind func(*sqlite.Stmt)

// errNoTransaction: an earlier failure has ended the transaction, as a full disk
// does; a write now would be kept by itself.
var errNoTransaction = errors.New("no transaction is open")

// query runs one cached statement; row is called for each row of the result. One
// that writes needs a transaction.
//
// SQLite plans with the value of a parameter that is a LIMIT, or equal to a column of a
// sorted result: it prepares the statement again each time that one is set. What reads do
// often has +? there, which is no parameter to the planner.
func query(c *sqlite.Conn, sql string, b bind, row func(*sqlite.Stmt) error) (err error) {
	if c.AutocommitEnabled() && writes(sql) {
		return errNoTransaction
	}
	stmt, err := c.Prepare(sql)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	defer func() { err = errors.Join(err, stmt.Reset()) }()
	if b != nil {
		b(stmt)
	}
	for {
		more, err := stmt.Step()
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
		if row == nil {
			continue
		}
		if err := row(stmt); err != nil {
			return err
		}
	}
}

func writes(sql string) bool {
	return strings.HasPrefix(sql, "INSERT") || strings.HasPrefix(sql, "UPDATE") || strings.HasPrefix(sql, "DELETE")
}

// change runs one cached statement without result and returns how many rows it
// changed.
func change(c *sqlite.Conn, sql string, b bind) (int, error) {
	if err := query(c, sql, b, nil); err != nil {
		return 0, err
	}
	return c.Changes(), nil
}

// bindTime binds a time in Unix milliseconds, the zero time as NULL.
func bindTime(s *sqlite.Stmt, param int, t time.Time) {
	if t.IsZero() {
		s.BindNull(param)
		return
	}
	s.BindInt64(param, t.UnixMilli())
}

func columnTime(s *sqlite.Stmt, col int) time.Time {
	if s.ColumnIsNull(col) {
		return time.Time{}
	}
	return time.UnixMilli(s.ColumnInt64(col)).UTC()
}

// bindID binds a row number, 0 as NULL.
func bindID(s *sqlite.Stmt, param int, id int64) {
	if id == 0 {
		s.BindNull(param)
		return
	}
	s.BindInt64(param, id)
}

// bindList binds texts as the JSON array that json_each reads.
func bindList[T ~string](s *sqlite.Stmt, param int, list []T) {
	text, _ := json.Marshal(list) // an array of strings cannot fail
	s.BindText(param, string(text))
}

// bindBytes binds bytes, none as NULL.
func bindBytes(s *sqlite.Stmt, param int, b []byte) {
	if len(b) == 0 {
		s.BindNull(param)
		return
	}
	s.BindBytes(param, b)
}

func columnBytes(s *sqlite.Stmt, col int) []byte {
	n := s.ColumnLen(col)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	s.ColumnBytes(col, b)
	return b
}

// isUnique reports whether err is a violated uniqueness.
func isUnique(err error) bool {
	code := sqlite.ErrCode(err)
	return code == sqlite.ResultConstraintUnique || code == sqlite.ResultConstraintPrimaryKey
}
