package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/hosting"
	"nestbox/store"
	"nestbox/store/sqlite"
	"nestbox/store/storetest"
)

// undoneState is what the restored state of TestUndone has, besides its accounts. 4e12 is in the
// year 2096.
const undoneState = `
	INSERT INTO app_password (id, account_id, name, hash, privileged, created_at) VALUES (1, 1, 'bot', 'h', 0, 5);
	INSERT INTO session (id, nonce, account_id, app_password_id, scope, created_at, head, rotated_at, marks, floor, expires, network, user_agent)
		VALUES (1, 'n1', 1, NULL, 's', 5, 0, 5, x'', 0, 4000000000000, '', 'phone'), (2, 'n2', 1, NULL, 's', 5, 0, 5, x'', 0, 4000000000000, '', ''),
		(3, 'n3', 1, NULL, 's', 5, 0, 5, x'', 0, 6, '', 'expired');
	INSERT INTO oauth_session (session_id, client_id, auth_method, kid, alg, client_jkt, dpop_jkt, requested_scope, granted_scope, token_scope, set_versions, ends_at)
		VALUES (2, 'https://app.test', '', '', '', '', '', '', '', '', '', 5);
	INSERT INTO oauth_consent (account_id, client_id, scopes, at, used_at) VALUES (1, 'https://app.test', '', 5, 5);
	INSERT INTO device (id, secrets, generation, rotated_at, made_at, seen_at, network, user_agent) VALUES (1, x'', 0, 5, 5, 5, '', 'browser');
	INSERT INTO browser_session (device_id, account_id, generation, signed_in_at, used_at, factors, remember, step_up_level, step_up_factors)
		VALUES (1, 1, 0, 5, 5, '', 0, 0, '');
	INSERT INTO passkey (account_id, credential_id, credential, name, made_at) VALUES (1, x'01', x'', 'key', 5);
	INSERT INTO totp (account_id, secret_sealed, confirmed_at, last_step, last_flow) VALUES (2, x'', 5, 0, '');
	INSERT INTO recovery_key (account_id, key_sealed) VALUES (1, x'');
	INSERT INTO recovery_code (account_id, hash) VALUES (1, x'01'), (1, x'02');
	INSERT INTO admin_role (account_id, role, given_at) VALUES (1, 'admin', 5);
	INSERT INTO invite_code (code, available, for_account, created_by, created_at) VALUES ('invite-1', 1, '', '', 5);
	INSERT INTO takedown (did, subject, ref, at, cid) VALUES ('did:plc:bob', 'com.example/2', '', 5, '');
	UPDATE account SET email_factor = 1 WHERE id = 3;
	UPDATE account SET suspended_at = 5 WHERE id = 4;`

// undoneEntry adds an entry to the trail of an account.
func undoneEntry(account int, kind, more string) string {
	return fmt.Sprintf(`; INSERT INTO trail (account_id, at, kind, actor, session_id, reason, network, user_agent, other_network, other_user_agent)
		VALUES (%d, 9000, '%s', 'owner', %s, '', '', '', '')`, account, kind, more)
}

// execute runs SQL on a database that nobody has open.
func execute(tb testing.TB, path, script string) {
	tb.Helper()
	c, err := zombie.OpenConn(path, zombie.OpenReadWrite)
	if err != nil {
		tb.Fatal(err)
	}
	if err := sqlitex.ExecuteScript(c, script, nil); err != nil {
		tb.Errorf("%s: %v", script, err)
	}
	if err := c.Close(); err != nil {
		tb.Fatal(err)
	}
}

// TestUndone: each change that a restore undoes is found, once, with its account and its time, and
// nothing else is.
func TestUndone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := storetest.Open(t, storetest.Options{Dir: dir})
	for _, name := range []string{"alice", "bob", "carol", "dora"} {
		if _, err := storetest.AddAccount(t.Context(), db.Stores, hosting.Pending{Handle: syntax.Handle(name + ".test"), CreatedAt: time.UnixMilli(5)}); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	restored := filepath.Join(t.TempDir(), "restored.sqlite")
	copyTo(t, db.Path(), restored)
	execute(t, restored, undoneState)
	for _, c := range []struct{ sql, want string }{
		{"DELETE FROM session WHERE id = 1" + undoneEntry(1, "sign-out", "1, ''"), "session-ended did:plc:alice 9 session 1, phone"},
		{"DELETE FROM session WHERE id = 1" + undoneEntry(1, "all-signed-out", "0, ''"), "session-ended did:plc:alice 9 session 1, phone"},
		{"DELETE FROM session WHERE id = 2", "app-access-ended did:plc:alice 0 session 2, https://app.test"},
		{"DELETE FROM session WHERE id = 3", ""},
		{"DELETE FROM browser_session" + undoneEntry(1, "all-signed-out", "0, ''"), "browser-signed-out did:plc:alice 0 browser"},
		{"DELETE FROM browser_session", ""}, // it has expired
		{"DELETE FROM oauth_consent", "app-consent-withdrawn did:plc:alice 0 https://app.test"},
		{"DELETE FROM app_password" + undoneEntry(1, "app-password-revoked", "0, '\"bot\", 1 sessions ended'"), "app-password-revoked did:plc:alice 9 bot"},
		{
			"UPDATE account SET password_hash = 'x', credential_epoch = credential_epoch + 1 WHERE id = 1" + undoneEntry(1, "password-changed", "0, ''"),
			"password-changed did:plc:alice 9",
		},
		{"UPDATE account SET password_hash = 'better' WHERE id = 1", ""},
		{"UPDATE account SET email = 'new@x.test', email_key = 'new@x.test' WHERE id = 2" + undoneEntry(2, "email-changed", "0, ''"), "email-changed did:plc:bob 9 new@x.test"},
		{"DELETE FROM passkey", "passkey-removed did:plc:alice 0 key"},
		{"UPDATE recovery_code SET used_at = 9 WHERE hash = x'01'" + undoneEntry(1, "recovery-code-used", "0, ''"), "recovery-codes-used did:plc:alice 9 1"},
		{
			"INSERT INTO passkey (account_id, credential_id, credential, name, made_at) VALUES (2, x'02', x'', 'new', 9000)",
			"second-factor-turned-on did:plc:bob 9 passkey new",
		},
		{
			"INSERT INTO totp (account_id, secret_sealed, confirmed_at, last_step, last_flow) VALUES (1, x'', 9000, 0, '')",
			"second-factor-turned-on did:plc:alice 9 authenticator app",
		},
		{"UPDATE totp SET last_step = 7, secret_sealed = x'01'", ""},
		{"DELETE FROM totp", "second-factor-turned-off did:plc:bob 0 authenticator app"},
		{"UPDATE account SET email_factor = 1 WHERE id = 1", "second-factor-turned-on did:plc:alice 0 codes by mail"},
		{"UPDATE account SET email_factor = 0 WHERE id = 3", "second-factor-turned-off did:plc:carol 0 codes by mail"},
		{"DELETE FROM account WHERE id = 3", "account-deleted did:plc:carol 0"},
		{"UPDATE account SET takendown_at = 9000, takedown_ref = 'case' WHERE id = 2", "account-taken-down did:plc:bob 9 case"},
		{"UPDATE account SET suspended_at = 9000 WHERE id = 2", "account-suspended did:plc:bob 9"},
		{"UPDATE account SET suspended_at = NULL WHERE id = 4", "takedown-lifted did:plc:dora 0"},
		{"UPDATE account SET deactivated_at = 9000 WHERE id = 2", "account-deactivated did:plc:bob 9"},
		{"INSERT INTO takedown (did, subject, ref, at, cid) VALUES ('did:plc:alice', 'com.example/1', '', 9000, '')", "content-taken-down did:plc:alice 9 com.example/1"},
		{"DELETE FROM takedown", "takedown-lifted did:plc:bob 0 com.example/2"},
		{"UPDATE account SET handle = 'new.test' WHERE id = 1" + undoneEntry(1, "handle-changed", "0, ''"), "handle-changed did:plc:alice 9 new.test"},
		{"UPDATE account SET signing_key = 'did:key:other' WHERE id = 1", "signing-key-changed did:plc:alice 0 did:key:other"},
		{"UPDATE admin_role SET role = 'moderator'", "admin-role-taken did:plc:alice 0 admin"},
		{"UPDATE invite_code SET disabled = 1", "invite-code-disabled  0 invite-1"},
		{"UPDATE account SET did = 'did:plc:new' WHERE id = 3", "account-made did:plc:new 0"},
		{"DELETE FROM account WHERE id = 4; UPDATE sqlite_sequence SET seq = 3 WHERE name = 'account'", ""}, // another line of history
		{"UPDATE app_password SET hash = 'better'", ""},
		{"UPDATE session SET head = 7, rotated_at = 9, expires = 4000000000001 WHERE id = 1", ""},
	} {
		newest := filepath.Join(t.TempDir(), "newest.sqlite")
		copyTo(t, restored, newest)
		execute(t, newest, "PRAGMA foreign_keys=ON; "+c.sql)
		var got []string
		err := sqlite.Undone(t.Context(), restored, newest, time.UnixMilli(7), func(u store.Undone) error {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %d %s", u.Kind, u.DID, max(0, u.At.Unix()), u.What)))
			return nil
		})
		if slices.Sort(got); err != nil || strings.Join(got, ", ") != c.want {
			t.Errorf("%s:\n\t%q, %v, want %q", c.sql, got, err, c.want)
		}
	}
}

// copyTo copies a file.
func copyTo(tb testing.TB, from, to string) {
	tb.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o600); err != nil {
		tb.Fatal(err)
	}
}
