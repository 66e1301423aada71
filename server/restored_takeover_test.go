package server_test

import (
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/config"
	"nestbox/internal/pdstest"
	"nestbox/server"
	"nestbox/store/reference/referencetest"
)

// TestRestoreTakenOver: a server that was taken over is restored on a new machine with its own settings, by the command
// beside the env file and by PDS_RESTORE_FROM, also from a snapshot without the note of the take-over.
func TestRestoreTakenOver(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: referencetest.Special, Records: 1})
	o.must(server.Finish)
	a := o.Accounts[referencetest.WithPreferences]
	note := filepath.Join(o.target(), "takeover.json")
	blobs := "PDS_BLOBSTORE_DISK_LOCATION=" + o.Blobs()
	for _, noted := range []bool{true, false} {
		store := filepath.Join(t.TempDir(), "store")
		s := pdstest.Start(t, pdstest.Options{Dir: o.Dir, Settings: []string{rotationKey, blobs}})
		if !noted { // as backups were
			if err := os.Remove(note); err != nil {
				t.Fatal(err)
			}
		}
		if made, err := backUp(t, s, server.BackupArgs{To: store}); err != nil || made.Snapshot == nil {
			t.Fatalf("%+v, %v", made, err)
		}
		s.Stop()
		d, err := depot.Open(store, depot.S3Settings{}, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, first := range []bool{false, true} {
			pds := t.TempDir()
			env := filepath.Join(pds, "pds.env")
			text := "PDS_DEV_MODE=true\nPDS_DATA_DIRECTORY=" + pds + "\nPDS_RESTORE_FROM=" + store + "\n" +
				blobs + "\n" + rotationKey + "\n"
			if err := os.WriteFile(env, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			load := func() config.Config {
				c, _, err := config.Load(config.Flags{EnvFile: env, Listen: "127.0.0.1:0"}, nil)
				if err != nil {
					t.Fatalf("noted %t, first %t: %v", noted, first, err)
				}
				return c
			}
			want, log := filepath.Join(pds, "nestbox"), slog.New(slog.DiscardHandler)
			if first {
				want = pds
				c := load()
				out, err := server.RestoreFirst(t.Context(), &c, env, log)
				if err != nil || out == nil || out.Faults != 0 || out.Blobs != "" {
					t.Fatalf("noted %t: %+v, %v", noted, out, err)
				}
			} else {
				out, err := server.Restore(t.Context(), server.RestoreArgs{
					Reader: &backup.Reader{Depot: d}, To: want, EnvFile: env, Log: log,
					Fault: func(line string) { t.Errorf("fault: %s", line) },
				})
				if err != nil || out.Faults != 0 || out.Blobs != "" || out.BlobsElsewhere != "" {
					t.Fatalf("noted %t: %+v, %v", noted, out, err)
				}
			}
			if c := load(); c.DataDirectory != want || c.BlobDiskLocation != "" {
				t.Fatalf("noted %t, first %t: data %s, blobs %s", noted, first, c.DataDirectory, c.BlobDiskLocation)
			}
			again := pdstest.Start(t, pdstest.Options{Dir: pds, Settings: []string{rotationKey, blobs}})
			got := again.Do(t, pdstest.Request{NSID: "com.atproto.sync.getBlob?" +
				url.Values{"did": {a.DID.String()}, "cid": {a.Blob.String()}}.Encode()})
			if got.Status != http.StatusOK || len(got.Body) != 2000 {
				t.Errorf("noted %t, first %t: blob: %d, %d bytes", noted, first, got.Status, len(got.Body))
			}
			again.Stop()
		}
	}
}
