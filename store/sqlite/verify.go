package sqlite

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/account"
	"nestbox/device"
)

// secretSize is that of a browser's secret, hash and salt, in bytes.
const secretSize = 2 * device.HashSize

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
		WHERE s.scope <> CASE WHEN s.id IN (SELECT session_id FROM oauth_session) THEN 'oauth' WHEN p.id IS NULL THEN 'com.atproto.access'
		WHEN p.privileged THEN 'com.atproto.appPassPrivileged' ELSE 'com.atproto.appPass' END`},
	{"session outlives its grant", `SELECT s.id FROM session s JOIN oauth_session g ON g.session_id = s.id WHERE s.expires > g.ends_at`},
	{"redeemed request that nobody allowed", `SELECT seq FROM oauth_request
		WHERE (redeemed_at IS NULL) <> (session_id IS NULL) OR redeemed_at IS NOT NULL AND decision <> 'allow'`},
	{"browser's secrets are damaged", `SELECT id FROM device
		WHERE length(secrets) % ` + strconv.Itoa(secretSize) + ` <> 0 OR length(secrets) / ` + strconv.Itoa(secretSize) + `
		NOT BETWEEN 1 AND ` + strconv.Itoa(device.MaxSecrets)},
	{"sign-in on a browser that is newer than the browser's secret", `SELECT device_id, account_id FROM browser_session b
		JOIN device d ON d.id = b.device_id WHERE b.generation > d.generation`},
	{"account without a DID document", `SELECT did FROM account a WHERE pending_operation IS NULL
		AND NOT EXISTS (SELECT 1 FROM identity i WHERE i.account_id = a.id)`},
	{"account's trail is over its limit", `SELECT account_id FROM trail GROUP BY account_id
		HAVING count(*) > ` + strconv.Itoa(account.TrailLimit)},
	{"invite code was used too often", `SELECT c.code FROM invite_code c
		WHERE c.available < (SELECT count(*) FROM invite_use u WHERE u.code = c.code)`},
	{"measures apart from their account", `SELECT did FROM measure WHERE did IN (SELECT did FROM account)`},
	{"measure that is none", `SELECT did FROM measure WHERE takendown_at IS NULL AND suspended_at IS NULL AND invites_disabled = 0`},
	{"file of a blob is to be removed", `SELECT file FROM blob WHERE file IN (SELECT file FROM blob_garbage)`},
}

// Intact implements store.Inspection.
func (i *inspection) Intact() (intact bool, err error) {
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

// check is one of an inspection's checks.
type check struct{ pragma, what, sql string }

// checks returns all of them.
func checks() []check {
	all := []check{{pragma: "integrity_check"}, {pragma: "foreign_key_check"}}
	for _, inv := range slices.Concat(invariants, repoInvariants) {
		all = append(all, check{what: inv.what, sql: inv.sql})
	}
	return append(all, check{what: "marks"})
}

// Checks implements store.Inspection.
func (i *inspection) Checks() int { return len(checks()) }

// Check implements store.Inspection.
func (i *inspection) Check(n int, tell func(fault string)) error {
	k := checks()[n]
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
