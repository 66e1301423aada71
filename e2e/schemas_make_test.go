//go:build schemas

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/internal/pdstest"
)

// TestMakeSchemas writes testdata/schemas from schema NESTBOX_MAKE_SCHEMAS up to released: a
// database of each schema, filled with what a server has written for people, and the files that
// belong to it. It is a tool, with a build tag of its own:
//
//	NESTBOX_MAKE_SCHEMAS=34 go test -tags schemas ./e2e -run TestMakeSchemas
func TestMakeSchemas(t *testing.T) {
	from, err := strconv.Atoi(os.Getenv("NESTBOX_MAKE_SCHEMAS"))
	if err != nil {
		t.Fatalf("NESTBOX_MAKE_SCHEMAS: %v", err)
	}
	var dir string
	if made, err := filepath.Glob("testdata/schemas/*.sqlite.gz"); err != nil || len(made) == 0 {
		dir = liveData(t)
		pack(t, dir, schemaFiles)
	} else {
		// The people of a new database are those of the files that are there.
		last, err := strconv.Atoi(filepath.Base(made[len(made)-1])[:4])
		if err != nil {
			t.Fatal(err)
		}
		dir = dataOf(t, last)
		p := pdstest.Launch(t, dir)
		p.Stop()
	}
	source := filepath.Join(dir, "nestbox.sqlite")
	scripts, err := filepath.Glob("../store/sqlite/migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range scripts {
		n, err := strconv.Atoi(filepath.Base(name)[:4])
		if err != nil || n < from || n > released {
			continue
		}
		made := filepath.Join(t.TempDir(), "made.sqlite")
		makeSchema(t, made, source, scripts[:i+1], n)
		raw, err := os.ReadFile(made)
		if err != nil {
			t.Fatal(err)
		}
		var small bytes.Buffer
		w, err := gzip.NewWriterLevel(&small, gzip.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(raw); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(schemaDatabase(n), small.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// liveData returns the data directory of a server that people used, and that has stopped.
func liveData(t *testing.T) string {
	t.Helper()
	dir := pdstest.TempDir(t)
	p := pdstest.LaunchArgs(t, []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--data", dir}, "PDS_EMAIL_SMTP_URL=smtp://127.0.0.1:9")
	alice, bob, carol := p.SignUp(t, "alice"), p.SignUp(t, "bob"), p.SignUp(t, "carol")
	call := func(s pdstest.Session, nsid string, body any) pdstest.Answer {
		t.Helper()
		a := p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: pdstest.Bearer(s.AccessJwt), Body: body})
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", nsid, a.Status, a.Body)
		}
		return a
	}
	var up struct{ Blob any }
	p.Do(t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.repo.uploadBlob", Auth: pdstest.Bearer(alice.AccessJwt), Body: "a picture of the old days",
		Header: http.Header{"Content-Type": {"image/png"}},
	}).Decode(t, &up)
	for i := range 12 {
		call(alice, "com.atproto.repo.createRecord", map[string]any{
			"repo": alice.DID, "collection": "com.example.note", "rkey": fmt.Sprintf("note%02d", i),
			"record": map[string]any{"$type": "com.example.note", "text": fmt.Sprint("note ", i)},
		})
	}
	call(alice, "com.atproto.repo.createRecord", map[string]any{
		"repo": alice.DID, "collection": "com.example.picture", "rkey": "one", "record": map[string]any{"$type": "com.example.picture", "file": up.Blob},
	})
	call(bob, "com.atproto.repo.createRecord", map[string]any{
		"repo": bob.DID, "collection": "app.bsky.graph.follow",
		"record": map[string]any{"$type": "app.bsky.graph.follow", "subject": alice.DID, "createdAt": "2026-11-29T00:00:00Z"},
	})
	call(alice, "com.atproto.server.createAppPassword", map[string]any{"name": "an app"})
	call(alice, "app.bsky.actor.putPreferences", map[string]any{"preferences": []any{map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": false}}})
	call(alice, "com.atproto.server.requestEmailConfirmation", nil)
	call(carol, "com.atproto.server.deactivateAccount", map[string]any{})
	p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.reserveSigningKey", Body: map[string]any{"did": "did:plc:ewvi7nxzyoun6zhxrhs64oiz"}})
	p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.requestPasswordReset", Body: map[string]any{"email": "nobody@example.com"}})
	p.MustRefresh(t, bob.RefreshJwt)
	for _, args := range [][]string{
		{"invite", "create"},
		{"admin", "add", "alice.test", "--role=admin"},
		{"takedown", "at://" + alice.DID + "/com.example.note/note03"},
		{"account", "suspend", "bob.test"},
		{"account", "unsuspend", "bob.test"},
	} {
		if out, err := pdstest.Run(t, "", append(args, "--data", dir)...); err != nil {
			t.Logf("%v: %v %s", args, err, out)
		}
	}
	p.Signal(syscall.SIGTERM)
	p.Wait()
	return dir
}

// pack writes all files of a data directory but the database.
func pack(t *testing.T, dir, to string) {
	t.Helper()
	var small bytes.Buffer
	zip := gzip.NewWriter(&small)
	w := tar.NewWriter(zip)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(name, "nestbox.") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(raw))}); err != nil {
			return err
		}
		_, err = w.Write(raw)
		return err
	})
	if err != nil || w.Close() != nil || zip.Close() != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, small.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// unfilled are tables that get no row of this program's making: their rows are sealed, belong to
// others that are not there, or make the server go on with something that never began.
var unfilled = []string{"totp", "recovery_key", "recovery_code", "key_change", "handle_change", "announce", "record_block", "blob_orphaned", "blob_garbage", "event_deleted", "webauthn_user", "passkey", "oauth_session"}

// makeSchema makes a database of a schema from the migrations up to it, with the rows of a database
// of today: what both have of each table. Tables that stay empty get a row of plain values.
func makeSchema(t *testing.T, path, source string, scripts []string, n int) {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	run := func(sql string) {
		t.Helper()
		if err := sqlitex.ExecuteScript(c, sql, nil); err != nil {
			t.Fatalf("schema %d: %v\n%s", n, err, sql)
		}
	}
	list := func(sql string, args ...any) (out [][]string) {
		t.Helper()
		err := sqlitex.Execute(c, sql, &sqlitex.ExecOptions{Args: args, ResultFunc: func(s *sqlite.Stmt) error {
			row := make([]string, s.ColumnCount())
			for i := range row {
				row[i] = s.ColumnText(i)
			}
			out = append(out, row)
			return nil
		}})
		if err != nil {
			t.Fatalf("schema %d: %v\n%s", n, err, sql)
		}
		return out
	}
	for _, name := range scripts {
		script, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		run(string(script))
	}
	run(fmt.Sprintf("PRAGMA user_version=%d; PRAGMA application_id=%d; PRAGMA foreign_keys=OFF; ATTACH '%s' AS today;", n, 0x6e657374, source))
	for _, table := range list("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'") {
		name := table[0]
		if name == "standing" {
			continue
		}
		var both, all, values []string
		for _, column := range list("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?)", name) {
			all = append(all, `"`+column[0]+`"`)
			values = append(values, plain(name, column))
			if len(list("SELECT 1 FROM pragma_table_info(?, 'today') WHERE name = ?", name, column[0])) > 0 {
				both = append(both, `"`+column[0]+`"`)
			}
		}
		if columns := strings.Join(both, ", "); columns != "" {
			run(fmt.Sprintf("INSERT OR IGNORE INTO main.%s (%s) SELECT %s FROM today.%s;", name, columns, columns, name))
		}
		if list("SELECT count(*) FROM main." + name)[0][0] == "0" && !slices.Contains(unfilled, name) {
			run(fmt.Sprintf("INSERT INTO main.%s (%s) VALUES (%s);", name, strings.Join(all, ", "), strings.Join(values, ", ")))
		}
	}
	run("DELETE FROM main.sqlite_sequence; INSERT INTO main.sqlite_sequence SELECT * FROM today.sqlite_sequence;")
	for _, fault := range list("PRAGMA main.foreign_key_check") {
		t.Errorf("schema %d: %q", n, fault)
	}
	for _, sql := range []string{"DETACH today", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"} {
		list(sql)
	}
	for _, table := range list("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'") {
		if list("SELECT count(*) FROM " + table[0])[0][0] == "0" && !slices.Contains(unfilled, table[0]) {
			t.Errorf("schema %d: no row in %s", n, table[0])
		}
	}
}

// plain returns a value, as SQL, for a column of a table that is empty otherwise.
func plain(table string, column []string) string {
	name, kind, required, key := column[0], column[1], column[2] == "1", column[3] != "0"
	switch {
	case table == "takeover" && name == "finished_at": // else nothing starts on it
		return "1790000000000"
	case !required && !key:
		return "NULL"
	case table == "measure" && name == "did":
		return "'did:plc:ewvi7nxzyoun6zhxrhs64oiz'" // whose account is gone
	case name == "account_id":
		return "(SELECT min(id) FROM main.account)"
	case name == "session_id":
		return "(SELECT min(id) FROM main.session)"
	case table == "invite_use" && name == "code":
		return "(SELECT min(code) FROM main.invite_code)"
	case name == "device_id":
		return "1"
	case name == "did", name == "used_by", name == "for_account":
		return "(SELECT min(did) FROM main.account)"
	case table == "device" && name == "secrets":
		return "zeroblob(64)" // the hash of one, and its salt
	case table == "takedown" && name == "subject":
		return "'com.example.note/note03'"
	case table == "job" && name == "state":
		return "'done'"
	case strings.HasSuffix(name, "_at") || name == "at" || name == "expires" || name == "made" || strings.HasSuffix(name, "_until"):
		return "1790000000000"
	case kind == "TEXT" && strings.Contains(name, "document"):
		return "'{}'"
	case kind == "TEXT":
		return "'x'"
	case kind == "BLOB":
		return "x'78'"
	default:
		return "1"
	}
}
