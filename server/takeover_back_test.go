package server_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/config"
	"nestbox/server"
	"nestbox/store/reference/referencetest"
	"nestbox/takeover"
)

// alter runs statements on a database below the folder of a source.
func (o *old) alter(path, script string) {
	o.t.Helper()
	if err := o.Change(path, script); err != nil {
		o.t.Fatal(err)
	}
}

// nestboxFile is the path of what was made, for alter.
const nestboxFile = "nestbox/nestbox.sqlite"

// back goes back.
func (o *old) back(dir string) (*takeover.BackReport, error) {
	o.t.Helper()
	c, _, _, err := config.LoadReference(config.Flags{Command: true},
		append([]string{
			"PDS_DEV_MODE=true", "PDS_DATA_DIRECTORY=" + o.Dir, "PDS_PORT=1", rotationKey, "PDS_BLOBSTORE_DISK_LOCATION=" + o.Blobs(),
		}, o.settings...), "", "")
	if err != nil {
		o.t.Fatal(err)
	}
	c.DataDirectory = o.target()
	return server.GoBack(o.t.Context(), &c, dir, time.Now())
}

// rows returns what a query on a database of a new directory for the old server gives.
func rows(t testing.TB, path, sql string) string {
	t.Helper()
	out, err := referencetest.Dump(path, []string{sql})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestBackEnded: what ended here has ended there: sign-ins on browsers, consents, app passwords,
// also where another has its name. What lives goes on. Handles and addresses may have changed
// owners.
func TestBackEnded(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: referencetest.Special, Records: 1})
	alice, bob, carol := o.Accounts[0].DID.String(), o.Accounts[1].DID.String(), o.Accounts[referencetest.WithAppPasswords].DID.String()
	now := referencetest.ISO(time.Now().Add(-time.Minute))
	id := func(c string) string { return strings.Repeat(c, 32) }
	script := ""
	for _, d := range []string{"a", "b"} {
		script += "INSERT INTO device VALUES ('dev-" + id(d) + "', 'ses-" + id(d) + "', 'UA', '127.0.0.1', '" + now + "');\n"
		for _, did := range []string{alice, bob} {
			script += "INSERT INTO account_device VALUES ('" + did + "', 'dev-" + id(d) + "', '" + now + "', '" + now + "');\n"
		}
	}
	for _, client := range []string{"kept", "withdrawn", "narrowed"} {
		script += "INSERT INTO authorized_client VALUES ('" + alice + "', 'https://" + client + ".example/c.json', '" + now + "', '" + now +
			`', '{"authorizedScopes":["atproto","transition:generic"]}');` + "\n"
	}
	o.alter("account.sqlite", script)
	o.must(server.Finish)
	of := func(did string) string { return "(SELECT id FROM account WHERE did = '" + did + "')" }
	o.alter(nestboxFile, `
		DELETE FROM browser_session WHERE account_id = `+of(alice)+` AND device_id = (SELECT min(device_id) FROM legacy_browser);
		DELETE FROM oauth_consent WHERE client_id = 'https://withdrawn.example/c.json';
		UPDATE oauth_consent SET scopes = 'atproto' WHERE client_id = 'https://narrowed.example/c.json';
		DELETE FROM app_password WHERE name = 'phone';
		INSERT INTO app_password (account_id, name, hash, privileged, created_at) VALUES (`+of(carol)+`, 'phone', 'x', 0, 1),
			(`+of(carol)+`, 'tablet', 'y', 0, 2);
		UPDATE app_password SET hash = 'upgraded' WHERE name = 'watch';
		UPDATE account SET handle = 'x.test', email = 'x@x.test', email_key = 'x@x.test' WHERE did = '`+alice+`';
		UPDATE account SET handle = 'user0.test', email = 'user0@example.com', email_key = 'user0@example.com' WHERE did = '`+bob+`';
		UPDATE account SET handle = 'user1.test', email = 'user1@example.com', email_key = 'user1@example.com' WHERE did = '`+alice+`';`)
	dir := filepath.Join(t.TempDir(), "back")
	r, err := o.back(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "account.sqlite")
	for _, c := range []struct{ sql, has, lacks string }{
		{"SELECT clientId FROM authorized_client", "kept", "withdrawn"},
		{"SELECT clientId FROM authorized_client", "kept", "narrowed"},
		{"SELECT name FROM app_password WHERE did = '" + carol + "'", "watch", "phone"},
		{"SELECT handle, email FROM actor JOIN account USING (did) WHERE did = '" + alice + "'", "user1.test", "user0"},
		{"SELECT handle, email FROM actor JOIN account USING (did) WHERE did = '" + bob + "'", "user0@example.com", "user1"},
	} {
		if got := rows(t, path, c.sql); !strings.Contains(got, c.has) || strings.Contains(got, c.lacks) {
			t.Errorf("%s: %s", c.sql, got)
		}
	}
	for sql, want := range map[string]string{alice: "1", bob: "2"} {
		if got := rows(t, path, "SELECT 'n' || count(*) FROM account_device WHERE did = '"+sql+"'"); !strings.Contains(got, "n"+want) {
			t.Errorf("%s is signed in on %s browsers, want %s", sql, got, want)
		}
	}
	if want := []string{carol + " phone", carol + " tablet"}; !slices.Equal(r.AppPasswords, want) {
		t.Errorf("app passwords made here: %q, want %q", r.AppPasswords, want)
	}
}

// TestBackAgain: a way back that failed, or was killed, is made again; a directory that is
// complete, or somebody else's, is left alone.
func TestBackAgain(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 2, Records: 1})
	o.must(server.Finish)
	// The address is one that the old server cannot have twice: it fails at the end.
	second := o.Accounts[1]
	o.alter(nestboxFile, "UPDATE account SET email = '"+strings.ToUpper(o.Accounts[0].Email)+"' WHERE did = '"+second.DID.String()+"'")
	dir := filepath.Join(t.TempDir(), "back")
	if _, err := o.back(dir); err == nil {
		t.Fatal("two accounts have one address")
	}
	o.alter(nestboxFile, "UPDATE account SET email = '"+second.Email+"' WHERE did = '"+second.DID.String()+"'")
	if _, err := o.back(dir); err != nil {
		t.Fatalf("again: %v", err)
	}
	before := sums(t, dir, "")
	for path := range before {
		if strings.Contains(path, "unfinished") {
			t.Errorf("%s is left", path)
		}
	}
	if _, err := o.back(dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("into a complete directory: %v", err)
	}
	if after := sums(t, dir, ""); len(after) != len(before) {
		t.Errorf("%d files, %d before", len(after), len(before))
	}
}

// TestBackState: takedowns of records and blobs, preferences and invite codes go back as they are
// here, and what they were before is no more.
func TestBackState(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: referencetest.Special, Records: 3})
	likes, shown, plain := o.Accounts[referencetest.WithPreferences], o.Accounts[referencetest.Quarantined], o.Accounts[referencetest.Plain]
	if shown.Blob.Defined() {
		hide := "UPDATE blob SET takedownRef = 'old-case' WHERE cid = '" + shown.Blob.String() + "'"
		if err := o.Change(o.Store(shown), hide); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Change(o.Store(shown), "UPDATE record SET takedownRef = 'old-record'"); err != nil {
		t.Fatal(err)
	}
	o.must(server.Finish)
	o.alter(nestboxFile, `
		DELETE FROM takedown WHERE did = '`+shown.DID.String()+`';
		INSERT INTO takedown (did, subject, ref, at, cid) VALUES ('`+plain.DID.String()+`', '`+plain.Keys[0]+`', 'new-case', 1, 'x');
		UPDATE preferences SET list = '[{"$type":"com.example.new","a":1}]';
		INSERT INTO invite_code (code, available, disabled, for_account, created_by, created_at) VALUES ('made-here', 2, 0, 'admin', 'admin', 1);
		INSERT INTO invite_use (code, used_by, used_at) VALUES ('made-here', '`+plain.DID.String()+`', 2);
		UPDATE invite_code SET disabled = 1 WHERE code = 'pds-test-aaaaa-bbbbb';`)
	dir := filepath.Join(t.TempDir(), "back")
	if _, err := o.back(dir); err != nil {
		t.Fatal(err)
	}
	accounts := filepath.Join(dir, "account.sqlite")
	for _, c := range []struct{ path, sql, want string }{
		{filepath.Join(dir, o.Store(plain)), "SELECT collection || '/' || rkey, takedownRef FROM record WHERE takedownRef IS NOT NULL", plain.Keys[0] + "\tnew-case\t\n"},
		{filepath.Join(dir, o.Store(shown)), "SELECT uri FROM record WHERE takedownRef IS NOT NULL", ""},
		{filepath.Join(dir, o.Store(shown)), "SELECT cid FROM blob WHERE takedownRef IS NOT NULL", ""},
		{filepath.Join(dir, o.Store(likes)), "SELECT name, valueJson FROM account_pref", "com.example.new\t" + `{"$type":"com.example.new","a":1}` + "\t\n"},
		{accounts, "SELECT availableUses, disabled, forAccount FROM invite_code WHERE code = 'made-here'", "2\t0\tadmin\t\n"},
		{accounts, "SELECT usedBy FROM invite_code_use WHERE code = 'made-here'", plain.DID.String() + "\t\n"},
		{accounts, "SELECT disabled FROM invite_code WHERE code = 'pds-test-aaaaa-bbbbb'", "1\t\n"},
	} {
		if got := rows(t, c.path, c.sql); got != c.want {
			t.Errorf("%s: %q, want %q", c.sql, got, c.want)
		}
	}
	if shown.Blob.Defined() {
		name := filepath.Join(shown.DID.String(), shown.Blob.String())
		if _, err := os.Stat(filepath.Join(dir, "blocks", name)); err != nil {
			t.Errorf("the file of a blob that is shown again: %v", err)
		}
	}
}

// TestBackMail: the way back names the settings of a server without mail, with which the old server fails.
func TestBackMail(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: referencetest.Special, Records: 1})
	o.must(server.Finish)
	const from = "PDS_EMAIL_FROM_ADDRESS=pds@example.com"
	for want, settings := range map[string][]string{
		"":                        nil,
		"PDS_EMAIL_SMTP_URL=none": {"PDS_EMAIL_SMTP_URL=none"},
		"PDS_EMAIL_SMTP_URL=none PDS_EMAIL_FROM_ADDRESS": {"PDS_EMAIL_SMTP_URL=none", from},
		"PDS_EMAIL_FROM_ADDRESS":                         {from},
	} {
		o.settings = settings
		r, err := o.back(filepath.Join(t.TempDir(), "back"))
		if err != nil || strings.Join(r.Remove, " ") != want {
			t.Errorf("%q: %+v, %v", want, r, err)
		}
	}
	o.settings = []string{"PDS_EMAIL_SMTP_URL=smtps://u:p@mail.example.com:465", from}
	if r, err := o.back(filepath.Join(t.TempDir(), "back")); err != nil || len(r.Remove) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
