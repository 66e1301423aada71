package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/admin"
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
