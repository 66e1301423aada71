package server_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"nestbox/config"
	"nestbox/internal/durable"
	"nestbox/internal/pdstest"
	"nestbox/server"
	"nestbox/store/reference/referencetest"
	"nestbox/takeover"
)

// signIn adds live sessions of an account to the source, by the names of their last tokens.
func (o *old) signIn(a *referencetest.Account, tokens ...string) {
	o.t.Helper()
	for _, id := range tokens {
		err := o.Change("account.sqlite", fmt.Sprintf("INSERT INTO refresh_token (id, did, expiresAt) VALUES ('%s', '%s', '%s')",
			id, a.DID, referencetest.ISO(time.Now().Add(80*24*time.Hour))))
		if err != nil {
			o.t.Fatal(err)
		}
	}
}

// check compares what was taken over, after a time.
func (o *old) check(after time.Duration) server.CheckedTakeover {
	o.t.Helper()
	c, err := server.CheckTakeover(o.t.Context(), &config.Config{DataDirectory: o.target()}, config.Reference{}, time.Now().Add(after))
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

// alterTarget runs SQL on the database that was made, as an edit by hand would.
func (o *old) alterTarget(sql string) {
	o.t.Helper()
	rel, err := filepath.Rel(o.Dir, filepath.Join(o.target(), "nestbox.sqlite"))
	if err == nil {
		err = o.Change(rel, sql)
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

// TestCheckTakeover: blobs and sessions are compared; what is lost is named, what has ended
// since is counted.
func TestCheckTakeover(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 10, Records: 8})
	plain, noFile := o.Accounts[referencetest.Plain], o.Accounts[5]
	o.signIn(plain, "phone", "watch")
	o.signIn(noFile, "desk")
	if err := os.Remove(filepath.Join(o.Blobs(), noFile.DID.String(), noFile.Blob.String())); err != nil {
		t.Fatal(err)
	}
	o.must(server.Finish)
	c := o.check(0)
	if len(c.Differences) > 0 || c.Same != 10 || c.Sessions.Old != 13 || c.Sessions.Here != 13 {
		t.Errorf("%+v", c)
	}
	if b := c.Blobs; b.Missing != 1 || b.Old != b.Here+1 || b.Gone != 0 {
		t.Errorf("%+v", b)
	}

	// What is not here though nothing was written since: the database's dates are those of the
	// end, as after a restore.
	database := filepath.Join(o.target(), "nestbox.sqlite")
	fi, err := os.Stat(database)
	if err != nil {
		t.Fatal(err)
	}
	o.alterTarget(fmt.Sprintf(`UPDATE blob SET account_id = (SELECT id FROM account WHERE did = '%s') WHERE cid = '%s';
		DELETE FROM session WHERE id = (SELECT max(id) FROM session)`, noFile.DID, plain.Blob))
	c = o.check(0)
	if text := strings.Join(c.Differences, "\n"); !strings.Contains(text, plain.Blob.String()+", which the record") || c.Sessions.Ended != 1 {
		t.Errorf("%q, %+v", text, c.Sessions)
	}
	if err := os.Chtimes(database, time.Time{}, fi.ModTime()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Stat(database); err == nil && got.Size() == fi.Size() {
		if text := strings.Join(o.check(0).Differences, "\n"); !strings.Contains(text, "1 of its sessions are not here") {
			t.Errorf("%q", text)
		}
	}
}

// grant adds what an OAuth client was granted to the source; the last change was some time ago.
func (o *old) grant(a *referencetest.Account, id, jkt string, ago time.Duration) {
	o.t.Helper()
	at := referencetest.ISO(time.Now().Add(-ago))
	o.alter("account.sqlite", fmt.Sprintf(`INSERT INTO token (did, tokenId, createdAt, updatedAt, expiresAt, clientId, clientAuth, parameters,
		currentRefreshToken, scope) VALUES ('%s', 'tok-%s', '%s', '%[3]s', '%[3]s', 'https://%[2]s.example/c.json', '{"method":"none"}',
		'{"scope":"atproto","dpop_jkt":"%[4]s"}', 'ref-%[2]s', 'atproto')`, a.DID, id, at, jkt))
}

// TestCheckTakeoverGrants: what OAuth clients were granted is compared: account, client, and the
// key that the client proves.
func TestCheckTakeoverGrants(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 8, Records: 2})
	plain, other := o.Accounts[referencetest.Plain], o.Accounts[5]
	o.grant(plain, "phone", "key-1", time.Hour)
	o.grant(plain, "watch", "key-2", time.Hour)
	o.grant(other, "desk", "key-3", time.Hour)
	o.grant(other, "forgotten", "key-4", 20*24*time.Hour)
	o.must(server.Finish)
	if c := o.check(0); len(c.Differences) > 0 || c.Grants != (server.CheckedGrants{Old: 3, Here: 3}) {
		t.Errorf("%q, %+v", c.Differences, c.Grants)
	}
	database := filepath.Join(o.target(), "nestbox.sqlite")
	fi, err := os.Stat(database)
	if err != nil {
		t.Fatal(err)
	}
	o.alterTarget(fmt.Sprintf(`UPDATE oauth_session SET dpop_jkt = 'key-9' WHERE client_id LIKE '%%phone%%';
		UPDATE session SET account_id = (SELECT id FROM account WHERE did = '%s')
			WHERE id = (SELECT session_id FROM oauth_session WHERE client_id LIKE '%%desk%%');
		DELETE FROM session WHERE id = (SELECT session_id FROM oauth_session WHERE client_id LIKE '%%watch%%')`, plain.DID))
	c := o.check(0)
	text := strings.Join(c.Differences, "\n")
	for _, want := range []string{
		plain.DID.String() + ": what it granted to https://phone.example/c.json belongs to",
		other.DID.String() + ": what it granted to https://desk.example/c.json belongs to",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
	if c.Grants != (server.CheckedGrants{Old: 3, Ended: 1}) {
		t.Errorf("%+v", c.Grants)
	}
	// Nothing was written since, as the dates say: what is not here did not end by itself.
	if err := os.Chtimes(database, time.Time{}, fi.ModTime()); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(o.check(0).Differences, "\n"); !strings.Contains(text, "what it granted to https://watch.example/c.json is not here") {
		t.Errorf("%q", text)
	}
}

// TestCheckTakeoverSecret: sessions that nobody goes on with, while people sign in again, look
// like a wrong secret.
func TestCheckTakeoverSecret(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 8, Records: 2})
	plain := o.Accounts[referencetest.Plain]
	o.signIn(plain, "phone", "watch")
	o.must(server.Finish)
	s := pdstest.Start(t, pdstest.Options{Dir: o.Dir, Settings: []string{rotationKey}})
	if c := o.check(time.Hour); len(c.Warnings) > 0 {
		t.Errorf("nobody has signed in: %q", c.Warnings)
	}
	s.SignIn(t, plain.Handle, plain.Password)
	if c := o.check(time.Minute); len(c.Warnings) > 0 {
		t.Errorf("within the first minutes: %q", c.Warnings)
	}
	if c := o.check(time.Hour); len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "PDS_JWT_SECRET") || c.Sessions.Opened != 1 {
		t.Errorf("%+v", c)
	}
	o.alterTarget("UPDATE session SET rotated_at = rotated_at + 864000000000 WHERE created_at < (SELECT at FROM legacy_since)")
	if c := o.check(time.Hour); len(c.Warnings) > 0 || c.Sessions.Refreshed == 0 {
		t.Errorf("somebody goes on: %+v", c)
	}
	o.alterTarget("UPDATE session SET rotated_at = rotated_at - 864000000000 WHERE created_at < (SELECT at FROM legacy_since)")
}

// TestTakeoverToken: a token of the source proves that the settings have its secret.
func TestTakeoverToken(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 8, Records: 2})
	const secret = "the secret of the old server, long enough"
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"scope": "com.atproto.refresh", "aud": "did:web:localhost", "exp": 1})
	token.Header["typ"] = "refresh+jwt"
	text, err := token.SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	o.options.Token = text
	for _, c := range []struct{ setting, want string }{
		{"PDS_LOG_LEVEL=warn", "PDS_JWT_SECRET is not set"},
		{"PDS_JWT_SECRET=" + secret + "er", "signed with another secret: set PDS_JWT_SECRET"},
	} {
		o.settings = []string{c.setting}
		for _, pass := range []server.Pass{server.DryRun, server.Finish} {
			o.refused(pass, c.want)
		}
	}
	if _, err := os.Stat(o.target()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a target was left: %v", err)
	}
	o.settings = []string{"PDS_JWT_SECRET=" + secret}
	o.must(server.Finish)
}

// TestTakeoverLastSecond: an access token that the old server has issued in the second of the
// take-over goes on.
func TestTakeoverLastSecond(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 8, Records: 2})
	const secret = "the secret of the old server, long enough"
	now := time.Now()
	o.options.Now, o.settings = func() time.Time { return now }, []string{"PDS_JWT_SECRET=" + secret}
	o.must(server.Finish)
	s := pdstest.Start(t, pdstest.Options{Dir: o.Dir, Settings: append(o.settings, rotationKey)})
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"scope": "com.atproto.access", "aud": "did:web:localhost", "sub": o.Accounts[referencetest.Plain].DID.String(),
		"iat": now.Unix(), "exp": now.Add(2 * time.Hour).Unix(),
	})
	token.Header["typ"] = "at+jwt"
	text, err := token.SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	if a := s.GetSession(t, text); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// TestDryRunBlobs: a dry run names the blobs whose files are missing or have another size, and
// with HashBlobs those whose content is another.
func TestDryRunBlobs(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 8, Records: 4})
	missing, short, spoilt := o.Accounts[0], o.Accounts[5], o.Accounts[6]
	path := func(a *referencetest.Account) string {
		return filepath.Join(o.Blobs(), a.DID.String(), a.Blob.String())
	}
	raw, err := os.ReadFile(path(spoilt))
	if err != nil {
		t.Fatal(err)
	}
	raw[0]++
	if err := errors.Join(os.Remove(path(missing)), os.Truncate(path(short), 3), os.WriteFile(path(spoilt), raw, 0o600)); err != nil {
		t.Fatal(err)
	}
	bad := func(r *takeover.Report) (names []string) {
		for _, b := range r.Blobs.Bad {
			names = append(names, b.DID.String())
		}
		return names
	}
	want := fmt.Sprint([]string{missing.DID.String(), short.DID.String()})
	if r := o.must(server.DryRun); len(bad(r)) != 2 || len(r.Faults) > 0 {
		t.Errorf("%v, want %s", r.Blobs.Bad, want)
	}
	o.options.HashBlobs = true
	if r := o.must(server.DryRun); len(bad(r)) != 3 || len(r.Faults) > 0 {
		t.Errorf("%v, want also %s", r.Blobs.Bad, spoilt.DID)
	}
	if r := o.must(server.Finish); len(bad(r)) != 3 {
		t.Errorf("taken over: %v", r.Blobs.Bad)
	}
}

// TestTakeoverElsewhere: a container has the old data directory under another path. The server
// there still notices the old one.
func TestTakeoverElsewhere(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 9, Records: 2})
	o.must(server.Finish)
	mounted := filepath.Join(t.TempDir(), "mounted")
	if err := os.Rename(o.Dir, mounted); err != nil {
		t.Fatal(err)
	}
	o.Dir = mounted
	release := o.hold("sequencer.sqlite")
	if err := o.open(); err == nil || !strings.Contains(err.Error(), filepath.Join(mounted, "sequencer.sqlite")+" open") {
		t.Errorf("served beside the old server: %v", err)
	}
	release()
	if err := o.open(); err != nil {
		t.Errorf("an old server that does not run: %v", err)
	}
	if c := o.check(0); len(c.Differences) > 0 || c.Accounts != 9 {
		t.Errorf("%+v", c)
	}
	o.write(true)
	if err := o.open(); err == nil || !strings.Contains(err.Error(), "is not out of use") {
		t.Errorf("the old server has written: %v", err)
	}
}

// TestTakeoverMovedOut: the new data directory is moved out of the old one, which can be deleted
// then.
func TestTakeoverMovedOut(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 8, Records: 2})
	c := &config.Config{DataDirectory: o.target()}
	to := filepath.Join(filepath.Dir(o.Dir), "moved")
	if _, err := server.MoveTakeover(c, to); !errors.Is(err, server.ErrNotTaken) {
		t.Errorf("before the take-over: %v", err)
	}
	o.must(server.Finish)
	for _, c := range []struct{ to, want string }{
		{filepath.Join(o.Dir, "new"), "below the old data directory"},
		{filepath.Dir(o.Dir), "not an empty folder"},
	} {
		if _, err := server.MoveTakeover(&config.Config{DataDirectory: o.target()}, c.to); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("to %s: %v, want %q", c.to, err, c.want)
		}
	}
	s := pdstest.Start(t, pdstest.Options{Dir: o.Dir, Settings: []string{rotationKey}})
	if _, err := server.MoveTakeover(c, to); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("below a running server: %v", err)
	}
	s.Stop()
	over, err := server.MoveTakeover(c, to)
	if err != nil || over.Moved != to || len(over.Removable) < 4 || len(over.Keep) != 1 || over.Keep[0] != to {
		t.Fatalf("%+v, %v", over, err)
	}
	if err := os.RemoveAll(o.Dir); err != nil {
		t.Fatal(err)
	}
	plain := o.Accounts[referencetest.Plain]
	s = pdstest.Start(t, pdstest.Options{Dir: to, Settings: []string{rotationKey}})
	s.SignIn(t, plain.Handle, plain.Password)
	got := s.Do(t, pdstest.Request{NSID: "com.atproto.sync.getBlob?did=" + plain.DID.String() + "&cid=" + plain.Blob.String()})
	if got.Status != 200 {
		t.Errorf("a blob: %d %s", got.Status, got.Body)
	}
}
