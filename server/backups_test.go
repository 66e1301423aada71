package server_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/admin"
	"nestbox/auth"
	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/internal/pdstest"
	"nestbox/internal/s3test"
)

// finding returns the doctor's line about backups.
func finding(t *testing.T, s *pdstest.InProcess) admin.Finding {
	t.Helper()
	var out admin.Diagnosis
	if err := s.Run(t.Context(), string(admin.CmdDoctor), admin.Done{}, &out); err != nil {
		t.Fatal(err)
	}
	for _, f := range out.Findings {
		if f.What == "backups" {
			return f
		}
	}
	t.Fatal("the doctor does not look at backups")
	return admin.Finding{}
}

// await waits until the doctor's line about backups has a text.
func await(t *testing.T, s *pdstest.InProcess, ok bool, text string) {
	t.Helper()
	last := admin.Finding{}
	for range 600 {
		if last = finding(t, s); last.OK == ok && strings.Contains(last.Says, text) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the doctor says %+v, want %q", last, text)
}

// TestOwnBackups: a server that is set to it backs itself up at its start, proves by a
// restore that the backup is whole, and says so. One that is damaged it calls damaged.
func TestOwnBackups(t *testing.T) {
	t.Parallel()
	dir, data := filepath.Join(t.TempDir(), "store"), t.TempDir()
	settings := []string{"PDS_BACKUP_TO=" + dir, "PDS_BACKUP_KEEP=daily=2"}
	s := pdstest.Start(t, pdstest.Options{Dir: data, Settings: settings})
	alice := s.SignUp(t, "alice")
	await(t, s, true, "was restored and verified")
	if _, err := os.Stat(filepath.Join(data, "last_backup")); err != nil {
		t.Errorf("metrics do not know of it: %v", err)
	}
	store, err := depot.Open(dir, depot.S3Settings{}, false)
	if err != nil {
		t.Fatal(err)
	}
	names, err := backup.Names(t.Context(), store)
	if err != nil || len(names) != 1 {
		t.Fatalf("%q, %v", names, err)
	}
	s.Stop()

	// A day later the next one is due, in the seventh night the next proof.
	later := func(d time.Duration) pdstest.Options {
		return pdstest.Options{Dir: data, Settings: settings, Now: func() time.Time { return time.Now().Add(d) }}
	}
	s = pdstest.Start(t, later(25*time.Hour))
	await(t, s, true, time.Now().UTC().Add(25*time.Hour).Format("2006-01-02T"))
	s.MustRefresh(t, alice.RefreshJwt)
	s.Stop()
	if names, err = backup.Names(t.Context(), store); err != nil || len(names) != 2 {
		t.Fatalf("%q, %v", names, err)
	}
	damaged := 0
	err = store.List(t.Context(), "packs/", func(o backup.Object) error {
		damaged++
		content, err := os.ReadFile(filepath.Join(dir, o.Name))
		content[len(content)/2] ^= 1
		return errors.Join(err, os.WriteFile(filepath.Join(dir, o.Name), content, 0o600))
	})
	if err != nil || damaged == 0 {
		t.Fatalf("%d damaged, %v", damaged, err)
	}
	s = pdstest.Start(t, later(8*24*time.Hour))
	await(t, s, false, "is damaged")
	s.Stop()
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	s = pdstest.Start(t, later(9*24*time.Hour))
	await(t, s, false, "cannot be reached")
}

// TestWriteOnlyBackups: a server that may only write to its bucket and list it makes backups, and
// says that it cannot verify them, and that another server writes there.
func TestWriteOnlyBackups(t *testing.T) {
	t.Parallel()
	url := s3test.Start(t)
	s := pdstest.Start(t, pdstest.Options{Settings: []string{
		"PDS_BACKUP_TO=s3://" + s3test.Bucket + "/nest", "PDS_BACKUP_RECIPIENT=age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
		"PDS_BACKUP_S3_ENDPOINT=" + url, "PDS_BACKUP_S3_FORCE_PATH_STYLE=true", "PDS_BACKUP_S3_REGION=us-east-1",
		"PDS_BACKUP_S3_ACCESS_KEY_ID=" + s3test.WriteOnly, "PDS_BACKUP_S3_SECRET_ACCESS_KEY=secret", "PDS_BACKUP_LOG_EVERY=1s",
	}})
	await(t, s, true, "may not read it")
	await(t, s, true, "what is written is there within 1s")
	store, err := depot.Open("s3://"+s3test.Bucket+"/nest", depot.S3Settings{
		Endpoint: url, Region: "us-east-1", AccessKey: s3test.WriteOnly, SecretKey: "secret", PathStyle: true,
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	name := "snapshots/" + time.Now().UTC().Format("20060102T150405.000Z") + "-" + strings.Repeat("ab", 32) + ".json"
	if err := store.Put(t.Context(), name, 2, strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	await(t, s, false, "has a snapshot that this server has not made, "+name)
}

// TestDamageFound: a server that finds damage in its backups makes another one at once, which mends
// it, and says so.
func TestDamageFound(t *testing.T) {
	t.Parallel()
	dir, data := filepath.Join(t.TempDir(), "store"), t.TempDir()
	start := func(later time.Duration) *pdstest.InProcess {
		return pdstest.Start(t, pdstest.Options{
			Dir: data, Settings: []string{"PDS_BACKUP_TO=" + dir}, Now: func() time.Time { return time.Now().Add(later) },
		})
	}
	s := start(0)
	await(t, s, true, "was restored and verified")
	s.SignUp(t, "alice")
	s.Stop()
	packs, err := filepath.Glob(filepath.Join(dir, "packs", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("%q, %v", packs, err)
	}
	content, err := os.ReadFile(packs[0])
	content[len(content)/2] ^= 1
	if err := errors.Join(err, os.WriteFile(packs[0], content, 0o600)); err != nil {
		t.Fatal(err)
	}
	s = start(8 * 24 * time.Hour)
	await(t, s, false, "is damaged")
	s.Stop()
	s = start(8*24*time.Hour + time.Minute) // it would look again in a minute
	await(t, s, true, "was restored and verified")
}

// TestKeysBackedUp: a change of the session keys makes a snapshot due, so that a restore of the newest
// state has the new key, and not the one that was retired.
func TestKeysBackedUp(t *testing.T) {
	t.Parallel()
	dir, data, to := filepath.Join(t.TempDir(), "store"), t.TempDir(), filepath.Join(t.TempDir(), "restored")
	s := pdstest.Start(t, pdstest.Options{Dir: data, Settings: []string{"PDS_BACKUP_TO=" + dir}})
	await(t, s, true, "was restored and verified")
	var keys []admin.Key
	if err := s.Run(t.Context(), string(admin.CmdKeysList), admin.Done{}, &keys); err != nil || keys[0].Purpose != admin.PurposeSession {
		t.Fatalf("%+v, %v", keys, err)
	}
	var fresh auth.KeyInfo
	if err := s.Run(t.Context(), string(admin.CmdKeysRotate), admin.Done{}, &fresh); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), string(admin.CmdKeysRetire), admin.KeyArgs{ID: keys[0].ID}, &admin.Done{}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing has changed
		if err := s.BackUpIfDue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	store, err := depot.Open(dir, depot.S3Settings{}, false)
	if err != nil {
		t.Fatal(err)
	}
	if names, err := backup.Names(t.Context(), store); err != nil || len(names) != 2 {
		t.Errorf("%q, %v", names, err)
	}
	if _, err := restoreTo(t, dir, to, "", time.Time{}); err != nil {
		t.Fatal(err)
	}
	ring, err := os.ReadFile(filepath.Join(to, "keyring.json"))
	if err != nil || strings.Contains(string(ring), keys[0].ID) || !strings.Contains(string(ring), fresh.ID) {
		t.Errorf("the restored key ring has not %s for %s: %v", fresh.ID, keys[0].ID, err)
	}
}

// dark is a store whose packs cannot be read.
type dark struct{ backup.Depot }

var errDark = errors.New("the network is away")

// Get implements backup.Depot.
func (d dark) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if strings.HasPrefix(name, "packs/") {
		return nil, errDark
	}
	return d.Depot.Get(ctx, name)
}

// TestProofAway: a store that cannot be read when it is time to verify it is not damaged. The doctor
// shows if it was not verified for long.
func TestProofAway(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := pdstest.Start(t, pdstest.Options{Dir: data, Settings: []string{"PDS_BACKUP_TO=" + filepath.Join(t.TempDir(), "store")}})
	await(t, s, true, "was restored and verified")
	if err := s.Prove(t.Context(), func(d backup.Depot) backup.Depot { return dark{d} }); !errors.Is(err, errDark) {
		t.Errorf("%v", err)
	}
	if f := finding(t, s); !f.OK || !strings.Contains(f.Says, "was restored and verified") {
		t.Errorf("%+v", f)
	}
	proofs, err := filepath.Glob(filepath.Join(data, "backups", "*", "verified.json"))
	if err != nil || len(proofs) != 1 {
		t.Fatalf("%q, %v", proofs, err)
	}
	old := `{"at": "` + time.Now().Add(-15*24*time.Hour).Format(time.RFC3339) + `"}`
	if err := os.WriteFile(proofs[0], []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := finding(t, s); f.OK || !strings.Contains(f.Says, "was verified last on") {
		t.Errorf("%+v", f)
	}
}

// failing is a store with a damaged pack, and from then on the network is away.
type failing struct {
	backup.Depot

	failed atomic.Bool
}

// Get implements backup.Depot.
func (f *failing) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	switch {
	case strings.HasPrefix(name, "packs/") && !f.failed.Swap(true):
		return io.NopCloser(strings.NewReader("damaged")), nil
	case f.failed.Load():
		return nil, errDark
	}
	return f.Depot.Get(ctx, name)
}

// TestProofBroken: what a verification found counts, also if the store could not be read to the end.
func TestProofBroken(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "store")
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_BACKUP_TO=" + store}})
	await(t, s, true, "was restored and verified")
	if err := s.Prove(t.Context(), func(d backup.Depot) backup.Depot { return &failing{Depot: d} }); !errors.Is(err, errDark) {
		t.Errorf("%v", err)
	}
	if f := finding(t, s); f.OK || !strings.Contains(f.Says, "is damaged, 1 faults") {
		t.Errorf("%+v", f)
	}
	if marks, err := os.ReadDir(filepath.Join(store, "damaged")); err != nil || len(marks) != 1 {
		t.Errorf("%v, %v", marks, err)
	}
}

// TestProofParts: where a verification finds that the log has a gap behind the newest snapshot, the log
// ends, and the next snapshot, which is due at once, begins another one.
func TestProofParts(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "store")
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_BACKUP_TO=" + store, "PDS_BACKUP_LOG_EVERY=1s"}})
	await(t, s, true, "was restored and verified; what is written")
	segments := awaitSegments(t, store, 0)
	for _, name := range []string{"alice", "bob", "eve"} {
		s.SignUp(t, name)
		segments = awaitSegments(t, store, len(segments)+1)
	}
	for _, path := range segments[:len(segments)-1] {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Prove(t.Context(), func(d backup.Depot) backup.Depot { return d }); err != nil {
		t.Fatal(err)
	}
	await(t, s, false, "is damaged")
	if err := s.BackUpIfDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, true, "what is written is there within 1s")
	s.SignUp(t, "carol")
	s.Stop() // it sends the rest
	if chains, err := os.ReadDir(filepath.Join(store, "log")); err != nil || len(chains) != 2 {
		t.Errorf("%v, %v", chains, err)
	}
	if out, err := restoreTo(t, store, filepath.Join(t.TempDir(), "data"), "", time.Time{}); err != nil || out.Gap != "" || out.Segments == 0 {
		t.Errorf("%+v, %v", out, err)
	}
}
