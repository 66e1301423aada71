//go:build reference

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/internal/s3test"
	"nestbox/server"
)

// checked is what takeover --check finds: no difference.
func (s *switching) checked() (c server.CheckedTakeover) {
	s.t.Helper()
	out, err := s.run("--check")
	if err == nil {
		err = json.Unmarshal([]byte(out), &c)
	}
	if err != nil || len(c.Differences)+len(c.Warnings) > 0 {
		s.t.Errorf("check: %v\n%s", err, out)
	}
	return c
}

// actorStore is the database of an account's repository on the old server.
func (s *switching) actorStore(did string) string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.old.dir, "actors", "*", did, "store.sqlite"))
	if err != nil || len(found) != 1 {
		s.t.Fatal(found, err)
	}
	return found[0]
}

// kidOf is the key that has signed a token, empty for one that names none.
func kidOf(t *testing.T, token string) (kid string) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(token[:strings.IndexByte(token, '.')])
	var header struct{ Kid string }
	if err == nil {
		err = json.Unmarshal(raw, &header)
	}
	if err != nil {
		t.Fatal(err)
	}
	return header.Kid
}

// TestReferenceTakeOverShortSecret: tokens of an old server with a secret that is too short go on,
// and none is signed by it any more. A token proves the secret beforehand.
func TestReferenceTakeOverShortSecret(t *testing.T) {
	old := newReferencePDS(t, startPLC(t))
	old.secret = "jwt-secret"
	s := newSwitchOf(t, old, syscall.SIGTERM)
	alice := s.old.SignIn(t, "alice.test", pdstest.Password)
	token := filepath.Join(pdstest.TempDir(t), "token")
	write := func(text string) {
		if err := os.WriteFile(token, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.old.stop(t, s.signal)
	write(alice.RefreshJwt[:len(alice.RefreshJwt)-4] + "AAAA")
	if out, err := s.run("--token", token); err == nil || !strings.Contains(out, "PDS_JWT_SECRET") {
		t.Errorf("a token of another secret: %v\n%s", err, out)
	}
	write(alice.AccessJwt)
	s.take("--token", token)
	s.serve()
	for range 2 { // the second time with a keyring that is on disk
		if a := s.nestbox.GetSession(t, alice.AccessJwt); a.Status != http.StatusOK {
			t.Errorf("an access token of the old server: %d %s", a.Status, a.Body)
		}
		fresh, refreshed := s.nestbox.SignIn(t, "alice.test", pdstest.Password), s.nestbox.MustRefresh(t, alice.RefreshJwt)
		for _, token := range []string{fresh.AccessJwt, fresh.RefreshJwt, refreshed.AccessJwt, refreshed.RefreshJwt} {
			if kidOf(t, token) == "" || kidOf(t, token) != kidOf(t, fresh.AccessJwt) {
				t.Errorf("a token of the key %q", kidOf(t, token))
			}
		}
		s.nestbox.Stop()
		s.nestbox.Restart()
	}
	out, err := pdstest.Run(t, "", "keys", "list", "--json", "--env-file", s.envFile)
	var keys []struct {
		Signing, Configured bool
		Purpose             string
	}
	if err != nil || json.Unmarshal([]byte(out), &keys) != nil || len(keys) < 2 {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, k := range keys {
		if k.Purpose == "session" && k.Signing == k.Configured {
			t.Errorf("keys %s", out)
		}
	}
}

// TestReferenceTakeOverBucket: the old server's blobs are in a bucket.
func TestReferenceTakeOverBucket(t *testing.T) {
	old := newReferencePDS(t, startPLC(t))
	old.blobs = []string{
		"PDS_BLOBSTORE_S3_BUCKET=" + s3test.Bucket, "PDS_BLOBSTORE_S3_REGION=us-east-1", "PDS_BLOBSTORE_S3_ENDPOINT=" + s3test.Start(t),
		"PDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true", "PDS_BLOBSTORE_S3_ACCESS_KEY_ID=key", "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=secret",
	}
	s := newSwitchOf(t, old, syscall.SIGTERM)
	before := snapshot(t, s.old.Client, s.facts)
	if r := s.pass("--prepare"); r.Blobs.By["copy"] < 3 || len(r.Blobs.Bad) > 0 {
		t.Errorf("first pass: %+v", r.Blobs)
	}
	s.old.stop(t, s.signal)
	if r := s.take(); r.Blobs.By["copy"] > 0 || len(r.Blobs.Bad) > 0 {
		t.Errorf("last pass: %+v", r.Blobs)
	}
	s.checked()
	s.serve()
	same(t, "what the server shows", snapshot(t, s.nestbox.Client, s.facts), before)
	s.checkStatuses()
}

// TestReferenceTakeOverFlags: damage that another host's copy mends, deletions that are carried
// out, a new data directory that leaves the old one.
func TestReferenceTakeOverFlags(t *testing.T) {
	s := newSwitch(t, syscall.SIGTERM)
	heidi, frank, alice := s.facts.sessions["heidi"], s.facts.sessions["frank"], s.facts.sessions["alice"]
	mustCall(t, s.old.Client, pdstest.Bearer(frank.AccessJwt), "com.atproto.server.deactivateAccount",
		map[string]any{"deleteAfter": time.Now().Add(30 * 24 * time.Hour).UTC().Format("2006-01-02T15:04:05.000Z")})
	picture := uploadRandom(t, s.old.Client, pdstest.Bearer(heidi.AccessJwt))
	writePost(t, s.old.Client, pdstest.Bearer(heidi.AccessJwt), heidi.DID, pictured(picture))
	shown := func(c pdstest.Client) map[string]string {
		all := snapshot(t, c, s.facts)
		delete(all, "heidi getRepo since") // which revision wrote what is not in a copy
		delete(all, "alice listBlobs")
		return all
	}
	before := shown(s.old.Client)
	s.old.stop(t, s.signal)

	// Another host has what is lost here.
	elsewhere := filepath.Join(pdstest.TempDir(t), "elsewhere")
	s.take("--to", elsewhere)
	host := pdstest.LaunchArgs(t, []string{"serve", "--env-file", s.envFile, "--data", elsewhere, "--listen", "127.0.0.1:0"}, "PDS_LOG_LEVEL=warn")
	t.Cleanup(host.Stop)
	if err := os.WriteFile(s.actorStore(heidi.DID), []byte(strings.Repeat("nothing", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	blobs, err := filepath.Glob(filepath.Join(s.old.dir, "blocks", alice.DID, "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatal(blobs, err)
	}
	spoilt, err := os.ReadFile(blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range spoilt {
		spoilt[i]++
	}
	if err := os.WriteFile(blobs[0], spoilt, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := s.run("--dry-run"); err == nil || !strings.Contains(out, "--from-relay URL") || strings.Contains(out, filepath.Base(blobs[0])) {
		t.Errorf("dry run: %v\n%s", err, out)
	}
	if out, err := s.run("--dry-run", "--hash-blobs"); err == nil || !strings.Contains(out, filepath.Base(blobs[0])) {
		t.Errorf("dry run that reads the blobs: %v\n%s", err, out)
	}
	r := s.take("--from-relay", host.Base, "--keep-delete-after")
	if len(r.FromRelay) != 1 || len(r.Blobs.Bad) != 1 || len(r.DeleteAfter.Kept) != 1 {
		t.Errorf("from the relay %v, bad blobs %v, to be deleted %v", r.FromRelay, r.Blobs.Bad, r.DeleteAfter)
	}
	host.Stop()
	s.serve()
	same(t, "what the server shows", shown(s.nestbox.Client), before)
	s.nestbox.Stop()

	moved := filepath.Join(filepath.Dir(s.old.dir), "moved")
	out, err := s.run("--finish", "--move-to", moved)
	if err != nil || !strings.Contains(out, filepath.Join(s.old.dir, "actors")) {
		t.Fatalf("move: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = os.RemoveAll(moved) })
	if err := os.RemoveAll(s.old.dir); err != nil {
		t.Fatal(err)
	}
	s.nestbox = pdstest.LaunchArgs(t, []string{"serve", "--env-file", s.envFile, "--data", moved, "--listen", "127.0.0.1:" + s.old.port})
	t.Cleanup(s.nestbox.Stop)
	same(t, "what the server shows after the move", shown(s.nestbox.Client), before)
	blob := "com.atproto.sync.getBlob?did=" + heidi.DID + "&cid=" + linkOf(t, picture)
	if got := s.nestbox.Do(t, pdstest.Request{NSID: blob}); got.Status != http.StatusOK {
		t.Errorf("a blob after the move: %d %s", got.Status, got.Body)
	}
}
