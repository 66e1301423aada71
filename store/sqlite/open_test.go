package sqlite_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/session"
	"nestbox/store/sqlite"
	"nestbox/store/storetest"
)

// script runs SQL on a database that no process has open.
func script(tb testing.TB, path, sql string) {
	tb.Helper()
	c, err := zombie.OpenConn(path, zombie.OpenReadWrite|zombie.OpenCreate)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	if err := sqlitex.ExecuteScript(c, sql, nil); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		sql  string
		want error
	}{
		"newer schema":            {"PRAGMA application_id=0x6e657374; PRAGMA user_version=999;", sqlite.ErrNewerSchema},
		"another program's":       {"PRAGMA application_id=7; CREATE TABLE t (x);", sqlite.ErrNotOurs},
		"another's with versions": {"PRAGMA user_version=3; CREATE TABLE t (x);", sqlite.ErrNotOurs},
	} {
		path := filepath.Join(t.TempDir(), "nestbox.sqlite")
		script(t, path, c.sql)
		if db, err := sqlite.Open(t.Context(), path, sqlite.Options{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, db, err, c.want)
		}
		if _, err := storetest.Faults(t.Context(), sqlite.Inspector{Path: path}); err == nil {
			t.Errorf("%s: tables of ours were made in it", name)
		}
	}
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	if err := os.WriteFile(path, []byte(strings.Repeat("This is no database. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), path, sqlite.Options{}); zombie.ErrCode(err) != zombie.ResultNotADB {
		t.Errorf("no database: %v", err)
	}
}

// TestOpenTwice: the schema is made once, the file is for its owner alone, also
// when it was restored with another mode.
func TestOpenTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	for range 2 {
		if err := openDB(t, path, sqlite.Options{}).Close(); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", fi.Mode(), err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	verify(t, path)
}

// TestMigrations are numbered without a gap, and make STRICT tables only.
func TestMigrations(t *testing.T) {
	files, err := fs.Glob(os.DirFS("migrations"), "*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	form := regexp.MustCompile(`^[0-9]{4}_[a-z0-9_]+\.sql$`)
	for _, name := range files {
		if !form.MatchString(name) {
			t.Errorf("migration %q", name)
		}
	}
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	if err := openDB(t, path, sqlite.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	c, err := zombie.OpenConn(path, zombie.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tables := 0
	err = sqlitex.Execute(c, "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'",
		&sqlitex.ExecOptions{ResultFunc: func(s *zombie.Stmt) error {
			tables++
			if !s.ColumnBool(1) {
				t.Errorf("table %s is not STRICT", s.ColumnText(0))
			}
			return nil
		}})
	if err != nil || tables < 5 {
		t.Errorf("%d tables, %v", tables, err)
	}
	version := 0
	err = sqlitex.Execute(c, "PRAGMA user_version", &sqlitex.ExecOptions{ResultFunc: func(s *zombie.Stmt) error { version = s.ColumnInt(0); return nil }})
	if want, aerr := strconv.Atoi(files[len(files)-1][:4]); err != nil || aerr != nil || version != want {
		t.Errorf("schema %d after %q, %v", version, files, err)
	}
}

// filled makes a database with an account, a session, and one of an app
// password.
func filled(t *testing.T, path string) {
	t.Helper()
	db := openDB(t, path, sqlite.Options{})
	a := addAccount(t, db, "alice")
	if err := (sqlite.Accounts{DB: db}).AddAppPassword(t.Context(), a.ID, account.AppPassword{Name: "app", Hash: "x", CreatedAt: start}, account.Entry{At: start}); err != nil {
		t.Fatal(err)
	}
	if err := (sqlite.Accounts{DB: db}).AddInviteCodes(t.Context(), []account.InviteCode{{Code: "code", Available: 1, CreatedAt: start}}); err != nil {
		t.Fatal(err)
	}
	if _, err := (sqlite.Sessions{DB: db}).Create(t.Context(), newSession(a.ID)); err != nil {
		t.Fatal(err)
	}
	app := newSession(a.ID)
	app.AppPasswordID, app.Scope = 1, "com.atproto.appPass"
	if _, err := (sqlite.Sessions{DB: db}).Create(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestVerify plants one fault at a time, and expects Verify to find each.
func TestVerify(t *testing.T) {
	clean := filepath.Join(t.TempDir(), "clean.sqlite")
	filled(t, clean)
	verify(t, clean)
	content, err := os.ReadFile(clean)
	if err != nil {
		t.Fatal(err)
	}
	const trail = `INSERT INTO trail (account_id, at, kind, actor, session_id, reason, network, user_agent, other_network, other_user_agent)
		SELECT 1, 0, 'x', 'x', 0, '', '', '', '', '' FROM generate_series(1, 201)`
	for sql, want := range map[string]string{
		"UPDATE session SET head = -1":                                           "generations are out of order",
		"UPDATE session SET floor = head + 1":                                    "generations are out of order",
		"UPDATE session SET expires = rotated_at - 1":                            "expires before",
		"UPDATE session SET rotated_at = created_at - 1":                         "expires before",
		"UPDATE account SET pending_operation = x'00'":                           "does not exist yet",
		"UPDATE session SET scope = 'com.atproto.appPass'":                       "scope does not fit",
		"UPDATE session SET app_password_id = NULL":                              "scope does not fit",
		"UPDATE session SET marks = x'ff'":                                       "marks are damaged",
		"DELETE FROM identity":                                                   "without a DID document",
		"PRAGMA foreign_keys=OFF; DELETE FROM account":                           "foreign_key_check",
		"INSERT INTO invite_use SELECT 'code', value, 0 FROM json_each('[1,2]')": "used too often",
		"PRAGMA foreign_keys=OFF; UPDATE app_password SET account_id = 2":        "another account's app password",
		strings.ReplaceAll(trail, "generate_series(1, 201)", "(WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 201) SELECT i FROM n)"):    "over its limit",
		"PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql, 'trail (account_id, id)', 'trail (account_id, at)') WHERE name = 'trail_account'": "integrity_check",
	} {
		path := filepath.Join(t.TempDir(), "nestbox.sqlite")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		script(t, path, sql+";")
		faults, err := storetest.Faults(t.Context(), sqlite.Inspector{Path: path})
		if err != nil || !strings.Contains(strings.Join(faults, "\n"), want) {
			t.Errorf("%s: faults %q, %v; want %q", sql, faults, err, want)
		}
	}
}

// The smallest inputs of the stores, for tests that are not about them.

func addAccount(tb testing.TB, db *sqlite.DB, name string) *account.Account {
	tb.Helper()
	h := sqlite.Hosting{DB: db}
	id, err := h.Reserve(tb.Context(), pendingAccount(name))
	if err != nil {
		tb.Fatal(err)
	}
	a, err := h.Activate(tb.Context(), id, []byte("{}"), nil, account.Entry{At: start, Kind: account.EntrySignUp})
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func pendingAccount(name string) hosting.Pending {
	return hosting.Pending{
		DID: "did:plc:" + didOf(name), Handle: handleOf(name), Email: name + "@example.com", PasswordHash: "x", SigningKey: "x",
		SigningKeySealed: []byte("x"), CreatedAt: start,
	}
}

func newSession(account int64) session.New {
	return session.New{AccountID: account, Scope: "com.atproto.access", At: start, Expires: start.AddDate(0, 3, 0), Nonce: "n", Limit: 1 << 20, Entry: accountEntry()}
}
