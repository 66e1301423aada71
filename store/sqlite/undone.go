package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/store"
)

// undone are the differences that Undone looks for: n is the later database, main the one that
// was restored. Each returns the account's DID and handle, a time, and what it concerns. ?1 is the
// number of the last entry on the trail that was restored, ?2 the present time.
//
// Numbers of rows are never used twice, but after an earlier restore two lines of history may
// have used the same: so rows are also compared by what no two of them share.
var undone = []struct {
	kind store.UndoneKind
	sql  string
}{
	{store.UndoneSession, endedSessions + " AND g.session_id IS NULL"},
	{store.UndoneGrant, endedSessions + " AND g.session_id IS NOT NULL"},
	{store.UndoneBrowser, `SELECT a.did, a.handle, ` + entryAt("t.browser_id = b.device_id") + `, d.user_agent
		FROM main.browser_session b JOIN main.device d ON d.id = b.device_id ` + bothAccounts("b.account_id") + `
		WHERE NOT EXISTS (SELECT 1 FROM n.browser_session x JOIN n.device y ON y.id = x.device_id
			WHERE x.device_id = b.device_id AND x.account_id = m.id AND y.made_at = d.made_at)
		AND EXISTS (SELECT 1 FROM n.trail t WHERE t.account_id = m.id AND t.id > ?1
			AND (t.browser_id = b.device_id OR t.kind IN ('all-signed-out', 'password-changed')))`},
	{store.UndoneConsent, `SELECT a.did, a.handle, NULL, c.client_id FROM main.oauth_consent c ` + bothAccounts("c.account_id") + `
		WHERE NOT EXISTS (SELECT 1 FROM n.oauth_consent x WHERE x.account_id = m.id AND x.client_id = c.client_id)`},
	{store.UndoneAppPassword, `SELECT a.did, a.handle, ` +
		entryAt(`t.kind = 'app-password-revoked' AND instr(t.reason, '"' || p.name || '"') = 1`) + `, p.name
		FROM main.app_password p ` + bothAccounts("p.account_id") + `
		WHERE NOT EXISTS (SELECT 1 FROM n.app_password x WHERE x.account_id = m.id AND x.name = p.name AND x.created_at = p.created_at)`},
	// A hash also changes when it is replaced by a better one of the same password.
	{store.UndonePassword, changedAccounts(entryAt("t.kind = 'password-changed'"), "''",
		"m.password_hash <> a.password_hash AND m.credential_epoch <> a.credential_epoch")},
	{store.UndoneEmail, changedAccounts(entryAt("t.kind = 'email-changed'"), "m.email", "m.email_key <> a.email_key")},
	{store.UndonePasskey, `SELECT a.did, a.handle, ` + entryAt("t.kind = 'passkey-removed' AND instr(t.reason, p.name) > 0") + `, p.name
		FROM main.passkey p ` + bothAccounts("p.account_id") + `
		WHERE NOT EXISTS (SELECT 1 FROM n.passkey x WHERE x.account_id = m.id AND x.credential_id = p.credential_id)`},
	{store.UndoneRecovery, `SELECT a.did, a.handle, ` + entryAt("t.kind IN ('recovery-code-used', 'recovery-codes-made')") + `, count(*) || ''
		FROM main.recovery_code r ` + bothAccounts("r.account_id") + ` WHERE r.used_at IS NULL AND NOT EXISTS
			(SELECT 1 FROM n.recovery_code x WHERE x.account_id = m.id AND x.hash = r.hash AND x.used_at IS NULL)
		GROUP BY a.id`},
	{store.UndoneFactorOn, `SELECT a.did, a.handle, p.made_at, 'passkey ' || p.name
		FROM n.passkey p JOIN n.account m ON m.id = p.account_id JOIN main.account a ON a.did = m.did
		WHERE NOT EXISTS (SELECT 1 FROM main.passkey x WHERE x.account_id = a.id AND x.credential_id = p.credential_id)`},
	{store.UndoneFactorOn, changedAccounts("(SELECT confirmed_at FROM n.totp x WHERE x.account_id = m.id)", "'authenticator app'",
		"EXISTS (SELECT 1 FROM n.totp x WHERE x.account_id = m.id) AND NOT "+sameAuthenticator)},
	{store.UndoneFactorOn, changedAccounts(entryAt("t.kind = 'sign-in-codes-on'"), "'codes by mail'", "m.email_factor > a.email_factor")},
	{store.UndoneFactorOff, changedAccounts(entryAt("t.kind IN ('authenticator-off', 'authenticator-on')"), "'authenticator app'",
		"EXISTS (SELECT 1 FROM main.totp x WHERE x.account_id = a.id) AND NOT "+sameAuthenticator)},
	{store.UndoneFactorOff, changedAccounts(entryAt("t.kind = 'sign-in-codes-off'"), "'codes by mail'", "m.email_factor < a.email_factor")},
	// An account that the later line of history never had was not deleted by it.
	{store.UndoneDeleted, `SELECT a.did, a.handle, (SELECT max(at) FROM n.audit x WHERE x.did = a.did AND x.what = 'account-deleted'), ''
		FROM main.account a WHERE a.pending_operation IS NULL AND NOT EXISTS (SELECT 1 FROM n.account m WHERE m.did = a.did OR m.id = a.id)
		AND a.id <= (SELECT seq FROM n.sqlite_sequence WHERE name = 'account')`},
	{store.UndoneTakedown, changedAccounts("m.takendown_at", "m.takedown_ref", "m.takendown_at IS NOT NULL AND a.takendown_at IS NULL")},
	{store.UndoneSuspension, changedAccounts("m.suspended_at", "''", "m.suspended_at IS NOT NULL AND a.suspended_at IS NULL")},
	{store.UndoneDeactivation, changedAccounts("m.deactivated_at", "''", "m.deactivated_at IS NOT NULL AND a.deactivated_at IS NULL")},
	{store.UndoneContentTakedown, `SELECT x.did, (SELECT handle FROM main.account a WHERE a.did = x.did), x.at, x.subject FROM n.takedown x
		WHERE NOT EXISTS (SELECT 1 FROM main.takedown y WHERE y.did = x.did AND y.subject = x.subject)`},
	{store.UndoneTakedownLifted, changedAccounts(entryAt("t.kind IN ('takedown-lifted', 'suspension-lifted')"), "''",
		"(a.takendown_at IS NOT NULL AND m.takendown_at IS NULL OR a.suspended_at IS NOT NULL AND m.suspended_at IS NULL)")},
	{store.UndoneTakedownLifted, `SELECT x.did, a.handle, NULL, x.subject FROM main.takedown x JOIN main.account a ON a.did = x.did
		WHERE NOT EXISTS (SELECT 1 FROM n.takedown y WHERE y.did = x.did AND y.subject = x.subject)
		AND EXISTS (SELECT 1 FROM n.account m WHERE m.did = x.did)`},
	{store.UndoneHandle, changedAccounts(entryAt("t.kind = 'handle-changed'"), "m.handle", "m.handle <> a.handle")},
	{store.UndoneSigningKey, changedAccounts(entryAt("t.kind = 'signing-key-changed'"), "m.signing_key", "m.signing_key <> a.signing_key")},
	{store.UndoneRole, `SELECT a.did, a.handle, NULL, r.role FROM main.admin_role r ` + bothAccounts("r.account_id") + `
		WHERE NOT EXISTS (SELECT 1 FROM n.admin_role x WHERE x.account_id = m.id AND x.role = r.role)`},
	{store.UndoneInvite, `SELECT '', '', NULL, c.code FROM main.invite_code c JOIN n.invite_code x ON x.code = c.code
		WHERE x.disabled > c.disabled`},
	{store.UndoneMade, `SELECT m.did, m.handle, m.created_at, '' FROM n.account m
		WHERE m.pending_operation IS NULL AND NOT EXISTS (SELECT 1 FROM main.account a WHERE a.did = m.did AND a.pending_operation IS NULL)`},
}

// endedSessions are the sessions that are not there any more and would still be good. What ends
// all sessions of an account has one entry for them together.
var endedSessions = `SELECT a.did, a.handle, coalesce(` + entryAt("t.session_id = s.id") + `,
		(SELECT min(t.at) FROM n.trail t WHERE t.account_id = m.id AND t.id > ?1
			AND (t.kind IN ('all-signed-out', 'password-changed', 'takedown')
				OR t.kind = 'app-password-revoked' AND instr(t.reason, '"' || p.name || '"') = 1))),
		'session ' || s.id || coalesce(', ' || nullif(coalesce(g.client_id, p.name, s.user_agent), ''), '')
	FROM main.session s ` + bothAccounts("s.account_id") + ` LEFT JOIN main.oauth_session g ON g.session_id = s.id
	LEFT JOIN main.app_password p ON p.id = s.app_password_id
	WHERE s.expires > ?2 AND NOT EXISTS (SELECT 1 FROM n.session x WHERE x.id = s.id AND x.nonce = s.nonce)`

// sameAuthenticator is a condition: both states of an account have the same authenticator app.
const sameAuthenticator = `EXISTS (SELECT 1 FROM main.totp x JOIN n.totp y
	WHERE x.account_id = a.id AND y.account_id = m.id AND x.confirmed_at = y.confirmed_at)`

// bothAccounts joins the account of a row that was restored, a, with its later state, m.
func bothAccounts(column string) string {
	return "JOIN main.account a ON a.id = " + column + " JOIN n.account m ON m.did = a.did"
}

// changedAccounts returns the query of the accounts that have changed in one respect.
func changedAccounts(at, what, where string) string {
	return "SELECT a.did, a.handle, " + at + ", " + what + ` FROM main.account a JOIN n.account m ON m.did = a.did
		WHERE a.pending_operation IS NULL AND m.pending_operation IS NULL AND ` + where
}

// entryAt returns when the later trail of the account m had the last entry of some that are new.
func entryAt(where string) string {
	return "(SELECT max(t.at) FROM n.trail t WHERE t.account_id = m.id AND t.id > ?1 AND " + where + ")"
}

// Undone calls yield for what the database at newest has ended or changed since the one at
// restored, which is an earlier state of it. Nobody has either open, and both have the schema of
// this binary.
func Undone(ctx context.Context, restored, newest string, now time.Time, yield func(store.Undone) error) (err error) {
	c, err := sqlite.OpenConn(unchanging(restored), sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return fmt.Errorf("open database %s: %w", restored, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	c.SetInterrupt(ctx.Done())
	if err := sqlitex.ExecuteTransient(c, "ATTACH ? AS n", &sqlitex.ExecOptions{Args: []any{unchanging(newest)}}); err != nil {
		return fmt.Errorf("open database %s: %w", newest, err)
	}
	last := int64(0)
	err = query(c, "SELECT seq FROM main.sqlite_sequence WHERE name = 'trail'", nil,
		func(r *sqlite.Stmt) error { last = r.ColumnInt64(0); return nil })
	if err != nil {
		return fmt.Errorf("read the trail: %w", err)
	}
	for _, u := range undone {
		err := query(c, u.sql, func(s *sqlite.Stmt) {
			for i := 1; i <= s.BindParamCount(); i++ {
				s.BindInt64(i, map[int]int64{1: last, 2: now.UnixMilli()}[i])
			}
		}, func(r *sqlite.Stmt) error {
			return yield(store.Undone{
				Kind: u.kind, DID: syntax.DID(r.ColumnText(0)), Handle: r.ColumnText(1), At: columnTime(r, 2), What: r.ColumnText(3),
			})
		})
		if err != nil {
			return fmt.Errorf("look for %s: %w", u.kind, err)
		}
	}
	return nil
}

// unchanging names a database file that nobody changes.
func unchanging(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?immutable=1"
}
