package server_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"nestbox/backup"
	"nestbox/internal/pdstest"
	"nestbox/internal/s3test"
	"nestbox/server"
)

// backUp makes a backup and returns its last line.
func backUp(t *testing.T, s *pdstest.InProcess, args server.BackupArgs) (last server.BackupLine, err error) {
	t.Helper()
	var out bytes.Buffer
	if err := s.RunFile(t.Context(), server.BackupCommand, args, strings.NewReader(""), &out); err != nil {
		return last, err
	}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		last = server.BackupLine{}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatal(err)
		}
	}
	return last, nil
}

// TestBackupSteps: the last line of each step says that all of it is done.
func TestBackupSteps(t *testing.T) {
	t.Parallel()
	s := pdstest.Start(t, pdstest.Options{})
	s.SignUp(t, "alice")
	var out bytes.Buffer
	args := server.BackupArgs{To: filepath.Join(t.TempDir(), "store")}
	if err := s.RunFile(t.Context(), server.BackupCommand, args, strings.NewReader(""), &out); err != nil {
		t.Fatal(err)
	}
	last := map[string]backup.Step{}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var line server.BackupLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.Step != nil {
			last[line.Step.Step] = *line.Step
		}
	}
	for name, step := range last {
		if step.Done != step.Total {
			t.Errorf("%s ends with %d of %d", name, step.Done, step.Total)
		}
	}
	if last["database"].Total == 0 || last["keys"].Total == 0 {
		t.Errorf("%+v", last)
	}
}

// TestBackupRefused: a backup that would be lost with the server, or that would show the keys
// to strangers, is refused before anything is sent.
func TestBackupRefused(t *testing.T) {
	t.Parallel()
	s := pdstest.Start(t, pdstest.Options{Settings: []string{
		"PDS_BACKUP_S3_ENDPOINT=" + s3test.Start(t), "PDS_BACKUP_S3_FORCE_PATH_STYLE=true", "PDS_BACKUP_S3_REGION=us-east-1",
		"PDS_BACKUP_S3_ACCESS_KEY_ID=key", "PDS_BACKUP_S3_SECRET_ACCESS_KEY=secret",
	}})
	bucket := "s3://" + s3test.Bucket + "/nest"
	for want, args := range map[string]server.BackupArgs{
		"--recipient":   {To: bucket},
		"--to":          {},
		"outside of it": {To: filepath.Join(s.DataDir, "store")},
		"age-keygen":    {To: bucket, Recipients: []string{"age1nonsense"}},
		"daily=7":       {To: bucket, Plain: true, Keep: "7"},
		"s3://bucket":   {To: "s3://", Plain: true},
	} {
		if last, err := backUp(t, s, args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %+v, %v, want %q", args, last, err, want)
		}
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for encrypted, args := range map[bool]server.BackupArgs{
		true:  {To: bucket, Recipients: []string{id.Recipient().String()}},
		false: {To: bucket + "/plain", Plain: true},
	} {
		last, err := backUp(t, s, args)
		if err != nil || last.Snapshot == nil || last.Snapshot.Encrypted != encrypted || last.Snapshot.Sent == 0 {
			t.Errorf("%+v: %+v, %v", args, last, err)
		}
	}
	if last, err := backUp(t, s, server.BackupArgs{To: "s3://elsewhere/x", Plain: true}); err != nil || !strings.Contains(last.Error, "no bucket elsewhere") {
		t.Errorf("%+v, %v", last, err)
	}
}
