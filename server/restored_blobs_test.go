package server_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nestbox/admin"
	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/blob/disk"
	"nestbox/config"
	"nestbox/internal/durable"
	"nestbox/internal/pdstest"
	"nestbox/server"
)

// lostServer is a server that was backed up to a store with blobs that a record refers to.
type lostServer struct {
	store, plc, did string
	cids            []string
}

func loseServer(t *testing.T, texts ...string) (l lostServer) {
	t.Helper()
	l.store = filepath.Join(t.TempDir(), "store")
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	l.plc, l.did = s.PLC, alice.DID
	for _, text := range texts {
		var up struct{ Blob map[string]any }
		s.Do(t, pdstest.Request{
			NSID: "com.atproto.repo.uploadBlob", Auth: pdstest.Bearer(alice.AccessJwt), Body: text,
			Header: http.Header{"Content-Type": {"text/plain"}},
		}).Decode(t, &up)
		raw, err := json.Marshal(map[string]any{
			"repo": alice.DID, "collection": "com.example.file", "record": map[string]any{"$type": "com.example.file", "file": up.Blob},
		})
		if err != nil {
			t.Fatal(err)
		}
		var made struct{ URI string }
		s.Do(t, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(alice.AccessJwt), Body: string(raw)}).Decode(t, &made)
		ref, _ := up.Blob["ref"].(map[string]any)
		link, _ := ref["$link"].(string)
		l.cids = append(l.cids, link)
	}
	if made, err := backUp(t, s, server.BackupArgs{To: l.store}); err != nil || made.Snapshot == nil {
		t.Fatalf("%+v, %v", made, err)
	}
	return l
}

// first is RestoreFirst to dir of a server with settings.
func (l *lostServer) first(t *testing.T, dir string, settings ...string) (*server.Restored, error) {
	t.Helper()
	env := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(env, []byte("PDS_DEV_MODE=true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(config.Flags{Data: dir, Dev: true}, append(settings, "PDS_RESTORE_FROM="+l.store))
	if err != nil {
		t.Fatal(err)
	}
	return server.RestoreFirst(t.Context(), &c, env, slog.New(slog.DiscardHandler))
}

// served starts a server on dir, and returns what it answers for each blob.
func (l *lostServer) served(t *testing.T, dir string, settings ...string) (answers []string) {
	t.Helper()
	s := pdstest.Start(t, pdstest.Options{Dir: dir, Settings: append(settings, "PDS_DID_PLC_URL="+l.plc)})
	defer s.Stop()
	for _, cid := range l.cids {
		got := s.Do(t, pdstest.Request{NSID: "com.atproto.sync.getBlob?" + url.Values{"did": {l.did}, "cid": {cid}}.Encode()})
		answers = append(answers, string(got.Body))
	}
	return answers
}

// filesOf returns the files of blobs in a folder.
func filesOf(t *testing.T, dir string) (paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "??", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// TestRestoreFirstBlobs: the blobs are restored to where the server looks for them, outside of the data directory
// or in it, beside what is there, which stays as it is.
func TestRestoreFirstBlobs(t *testing.T) {
	t.Parallel()
	lost := loseServer(t, "one", "two")
	base := t.TempDir()
	for name, c := range map[string]struct{ data, blobs, log string }{
		"elsewhere":             {filepath.Join(base, "a", "data"), filepath.Join(base, "a", "files"), ""},
		"in the data directory": {filepath.Join(base, "b"), filepath.Join(base, "b", "files"), filepath.Join(base, "b", "pds.log")},
		"below its own folder":  {filepath.Join(base, "c"), filepath.Join(base, "c", "blobs", "of", "mine"), ""},
	} {
		if c.log != "" { // it is open when the restore begins
			if err := errors.Join(os.MkdirAll(c.data, 0o700), os.WriteFile(c.log, []byte("{}\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		settings := []string{"PDS_BLOBSTORE_DISK_LOCATION=" + c.blobs, "PDS_LOG_DESTINATION=" + c.log}
		out, err := lost.first(t, c.data, settings...)
		if err != nil || out == nil || out.Faults != 0 || out.Blobs != c.blobs || out.BlobsElsewhere != "" {
			t.Fatalf("%s: %+v, %v", name, out, err)
		}
		if got := lost.served(t, c.data, settings...); strings.Join(got, " ") != "one two" {
			t.Errorf("%s: it serves %q", name, got)
		}
		if raw, err := os.ReadFile(c.log); c.log != "" && !strings.HasPrefix(string(raw), "{}") {
			t.Errorf("%s: the log was %q, %v", name, raw, err)
		}
	}

	// A folder that survived the machine: what is there is used, and only what it lacks is restored.
	blobs := filepath.Join(base, "a", "files")
	files := filesOf(t, blobs)
	if len(files) != 2 {
		t.Fatalf("%q", files)
	}
	other := filepath.Join(blobs, "of mine")
	if err := errors.Join(os.Remove(files[0]), os.WriteFile(files[1], []byte("its own"), 0o600), os.WriteFile(other, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := lost.first(t, filepath.Join(base, "again"), "PDS_BLOBSTORE_DISK_LOCATION="+blobs)
	if err != nil || out == nil || out.Faults != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	kept, err := os.ReadFile(files[1])
	_, otherErr := os.Stat(other)
	_, backErr := os.Stat(files[0])
	if err := errors.Join(err, otherErr, backErr); err != nil || string(kept) != "its own" {
		t.Errorf("%q, %v", kept, err)
	}
}

// TestRestoreFirstRefuses: where the server could not serve what is restored it does not start, and says why: another
// server has the folder of blobs, uploads are on another disk, the data directory has something and no database.
func TestRestoreFirstRefuses(t *testing.T) {
	t.Parallel()
	lost := loseServer(t, "one")
	blobs, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	held, err := disk.Open(blobs, "")
	if err != nil {
		t.Fatal(err)
	}
	out, err := lost.first(t, data, "PDS_BLOBSTORE_DISK_LOCATION="+blobs)
	if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), "PDS_BLOBSTORE_DISK_LOCATION") || !backup.Unfinished(data) {
		t.Errorf("%+v, %v", out, err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := lost.first(t, data, "PDS_BLOBSTORE_DISK_LOCATION="+blobs); err != nil || out == nil || out.Blobs != blobs {
		t.Errorf("again: %+v, %v", out, err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "compose.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := lost.first(t, full); !errors.Is(err, backup.ErrNotEmpty) || !strings.Contains(err.Error(), "compose.yaml") {
		t.Errorf("it would serve an empty server: %+v, %v", out, err)
	}
}

// TestRestoreBlobs: the command restores blobs to the folder that its settings name, unless a server has it.
func TestRestoreBlobs(t *testing.T) {
	t.Parallel()
	lost := loseServer(t, "one")
	restore := func(dir, env string) server.Restored {
		t.Helper()
		d, err := depot.Open(lost.store, depot.S3Settings{}, false)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "pds.env")
		if err := os.WriteFile(path, []byte("PDS_DEV_MODE=true\n"+env), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := server.Restore(t.Context(), server.RestoreArgs{
			Reader: &backup.Reader{Depot: d}, To: dir, EnvFile: path, Log: slog.New(slog.DiscardHandler),
			Fault: func(line string) { t.Errorf("fault: %s", line) },
		})
		if err != nil || out.Faults != 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		return out
	}
	dir, blobs := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "files")
	setting := "PDS_BLOBSTORE_DISK_LOCATION=" + blobs
	if out := restore(dir, setting+"\n"); out.Blobs != blobs || out.BlobsElsewhere != "" || len(filesOf(t, blobs)) != 1 {
		t.Errorf("%+v", out)
	}
	if got := lost.served(t, dir, setting); got[0] != "one" {
		t.Errorf("it serves %q", got)
	}
	held, err := disk.Open(blobs, "")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	dir = filepath.Join(t.TempDir(), "data")
	if out := restore(dir, setting+"\n"); out.Blobs != "" || out.BlobsElsewhere != blobs || len(filesOf(t, filepath.Join(dir, "blobs"))) != 1 {
		t.Errorf("a server has the folder: %+v", out)
	}
}

// TestRestoreFirstLost: a server starts from a store that has lost a blob, which restored.json and the doctor name until
// it is there again.
func TestRestoreFirstLost(t *testing.T) {
	t.Parallel()
	lost := loseServer(t, "one")
	if err := os.RemoveAll(filepath.Join(lost.store, "blobs")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	out, err := lost.first(t, dir)
	if err != nil || out == nil || out.Faults != 1 || out.LostBlobs != 1 || len(out.Lost) != 1 || out.Lost[0].CID != lost.cids[0] {
		t.Fatalf("%+v, %v", out, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "restored.json"))
	if err != nil || !strings.Contains(string(raw), lost.cids[0]) {
		t.Errorf("%s, %v", raw, err)
	}
	s := pdstest.Start(t, pdstest.Options{Dir: dir, Settings: []string{"PDS_DID_PLC_URL=" + lost.plc}})
	finding := func() (f admin.Finding) {
		var all admin.Diagnosis
		if err := s.Run(t.Context(), string(admin.CmdDoctor), admin.Done{}, &all); err != nil {
			t.Fatal(err)
		}
		for _, f := range all.Findings {
			if f.What == "restored blobs" {
				return f
			}
		}
		t.Fatalf("%+v", all)
		return f
	}
	if f := finding(); f.OK || !strings.Contains(f.Says, lost.cids[0]) {
		t.Errorf("%+v", f)
	}
	alice := s.SignIn(t, lost.did, pdstest.Password)
	s.Do(t, pdstest.Request{
		NSID: "com.atproto.repo.uploadBlob", Auth: pdstest.Bearer(alice.AccessJwt), Body: "one", Header: http.Header{"Content-Type": {"text/plain"}},
	})
	if f := finding(); !f.OK {
		t.Errorf("it was uploaded again: %+v", f)
	}
}
