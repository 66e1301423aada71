package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/account"
)

// invariant is a query that finds nothing in a sound database: its columns name
// the culprit.
type invariant struct{ what, sql string }

var invariants = []invariant{
	{"session's generations are out of order", `SELECT id FROM session WHERE head < 0 OR floor < 0 OR floor > head`},
	{"session expires before it was last used", `SELECT id FROM session WHERE expires < rotated_at OR rotated_at < created_at`},
	{"session of an account that does not exist yet", `SELECT s.id FROM session s JOIN account a ON a.id = s.account_id
		WHERE a.pending_operation IS NOT NULL`},
	{"session of another account's app password", `SELECT s.id FROM session s JOIN app_password p ON p.id = s.app_password_id
		WHERE p.account_id <> s.account_id`},
	{"session's scope does not fit its app password", `SELECT s.id FROM session s LEFT JOIN app_password p ON p.id = s.app_password_id
		WHERE s.scope <> CASE WHEN p.id IS NULL THEN 'com.atproto.access' WHEN p.privileged THEN 'com.atproto.appPassPrivileged' ELSE 'com.atproto.appPass' END`},
	{"account without a DID document", `SELECT did FROM account a WHERE pending_operation IS NULL
		AND NOT EXISTS (SELECT 1 FROM identity i WHERE i.account_id = a.id)`},
	{"account's trail is over its limit", `SELECT account_id FROM trail GROUP BY account_id HAVING count(*) > ` + strconv.Itoa(account.TrailLimit)},
	{"invite code was used too often", `SELECT c.code FROM invite_code c
		WHERE c.available < (SELECT count(*) FROM invite_use u WHERE u.code = c.code)`},
	{"measures apart from their account", `SELECT did FROM measure WHERE did IN (SELECT did FROM account)`},
	{"measure that is none", `SELECT did FROM measure WHERE takendown_at IS NULL AND suspended_at IS NULL AND invites_disabled = 0`},
	{"file of a blob is to be removed", `SELECT file FROM blob WHERE file IN (SELECT file FROM blob_garbage)`},
}

// Verify checks a database: SQLite's own structure, foreign keys, and what this
// package and the domains promise of the rows. It returns a line for each
// fault; an error means that it could not check.
func Verify(path string) (faults []string, err error) {
	i, err := Inspect(context.Background(), path)
	if err != nil {
		return nil, err
	}
	err = i.Faults(func(fault string) { faults = append(faults, fault) })
	return faults, errors.Join(err, i.Close())
}

// Intact reports whether SQLite finds the file sound: only then do queries find
// all that is in it.
func (i *Inspection) Intact() (intact bool, err error) {
	intact = true
	err = sqlitex.ExecuteTransient(i.conn, "PRAGMA integrity_check", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		intact = intact && s.ColumnText(0) == "ok"
		return nil
	}})
	if err != nil {
		return false, fmt.Errorf("integrity_check: %w", err)
	}
	return intact, nil
}

// Check is one of the checks of Verify.
type Check struct{ pragma, what, sql string }

// Checks are all of them; they are independent.
func (i *Inspection) Checks() []Check {
	checks := []Check{{pragma: "integrity_check"}, {pragma: "foreign_key_check"}}
	for _, inv := range slices.Concat(invariants, repoInvariants) {
		checks = append(checks, Check{what: inv.what, sql: inv.sql})
	}
	return append(checks, Check{what: "marks"})
}

// Check runs one check.
func (i *Inspection) Check(k Check, tell func(fault string)) error {
	report := func(what string) func(*sqlite.Stmt) error {
		return func(s *sqlite.Stmt) error {
			var row []string
			for i := range s.ColumnCount() {
				row = append(row, s.ColumnText(i))
			}
			if text := strings.Join(row, " "); text != "ok" {
				tell(what + ": " + text)
			}
			return nil
		}
	}
	switch {
	case k.pragma != "":
		err := sqlitex.ExecuteTransient(i.conn, "PRAGMA "+k.pragma, &sqlitex.ExecOptions{ResultFunc: report(k.pragma)})
		return wrap(err, k.pragma)
	case k.sql != "":
		return wrap(query(i.conn, k.sql, nil, report(k.what)), "check that no "+k.what)
	default:
		return query(i.conn, "SELECT id, marks FROM session", nil, func(s *sqlite.Stmt) error {
			if _, err := decodeMarks(columnBytes(s, 1)); err != nil {
				tell(fmt.Sprintf("session %d: %v", s.ColumnInt64(0), err))
			}
			return nil
		})
	}
}

// Faults does what Verify does.
func (i *Inspection) Faults(tell func(fault string)) error {
	for _, k := range i.Checks() {
		if err := i.Check(k, tell); err != nil {
			return err
		}
	}
	return nil
}
