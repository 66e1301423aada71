package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// backupRounds is how many times the server is killed while it is backed up.
const backupRounds = 8

// TestBackupKill kills the real binary while it is backed up under load, again and again.
// Each snapshot that is listed then can be restored, and on the last one a server runs:
// sessions that were refreshed after the backup go on.
func TestBackupKill(t *testing.T) {
	t.Parallel()
	dir, store := pdstest.TempDir(t), filepath.Join(t.TempDir(), "store")
	server := pdstest.Launch(t, dir, "PDS_LOG_LEVEL=warn")
	alice := server.SignUp(t, "alice")
	for round := range backupRounds {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			// Its outcome is not known: the server may be gone before it.
			pdstest.Exec(t, pdstest.Invocation{Args: []string{"backup", "--dev", "--data", dir, "--to", store, "--json"}})
		}()
		stop := writeAll(t, server, alice, round)
		time.Sleep(time.Duration(20+rand.IntN(300)) * time.Millisecond)
		server.Kill()
		stop()
		<-ended
		server.Restart()
		alice = server.SignIn(t, alice.DID, pdstest.Password)
	}
	stop := writeAll(t, server, alice, backupRounds)
	if out, err := pdstest.Run(t, "", "backup", "--dev", "--data", dir, "--to", store, "--json"); err != nil {
		t.Fatal(err, out)
	}
	if n := stop(); n == 0 {
		t.Error("nothing was written during the backup")
	}
	out, err := pdstest.Run(t, "", "backup", "verify", store, "--full", "--json")
	if err != nil {
		t.Fatal(err, out)
	}
	if out, err = pdstest.Run(t, "", "backup", "prune", store, "--keep", "daily=1", "--json"); err != nil || strings.Contains(out, `"snapshots": 0`) {
		t.Errorf("prune: %v\n%s", err, out)
	}
	if left, err := os.ReadDir(filepath.Join(store, "snapshots")); err != nil || len(left) > 2 { // at midnight there are two
		t.Errorf("%d snapshots are left, %v", len(left), err)
	}
	if out, err = pdstest.Run(t, "", "backup", "verify", store, "--full", "--json"); err != nil {
		t.Fatal(err, out)
	}
	// The folder of a disk that is not mounted.
	if out, err = pdstest.Run(t, "", "backup", "--dev", "--data", t.TempDir(), "--to", store); err == nil || !strings.Contains(err.Error(), "nothing to back up") {
		t.Errorf("an empty folder: %v\n%s", err, out)
	}
	later := server.MustRefresh(t, alice.RefreshJwt)
	if out, err = pdstest.Run(t, "", "audit", "--dev", "--data", dir, "--json"); err != nil || !strings.Contains(out, `"backup"`) {
		t.Errorf("the audit log: %v\n%s", err, out)
	}
	server.Stop()
	alone := filepath.Join(t.TempDir(), "alone")
	if out, err := pdstest.Run(t, "", "backup", "--dev", "--data", dir, "--to", alone, "--json"); err != nil {
		t.Fatalf("with no server: %v\n%s", err, out)
	}

	restored := filepath.Join(pdstest.TempDir(t), "restored")
	result := pdstest.Exec(t, pdstest.Invocation{
		Args: []string{"restore", store, "--to", restored, "--json"}, Settings: []string{"PDS_DEV_MODE=true"},
	})
	if result.Code != 0 {
		t.Fatalf("restore: %s%s", result.Stdout, result.Stderr)
	}
	again := pdstest.Launch(t, restored, "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL=embedded")
	again.MustRefresh(t, later.RefreshJwt)
}

// writeAll writes records and blobs until the function that it returns is called, which
// returns how many were accepted. The server may end meanwhile.
func writeAll(t *testing.T, server *pdstest.Process, s pdstest.Session, round int) (stop func() int64) {
	var done atomic.Bool
	var accepted atomic.Int64
	var writers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			for i := 0; !done.Load(); i++ {
				if writeOne(t, server.Client, s, fmt.Sprintf("r%d-%d-%d", round, n, i), n == 0) {
					accepted.Add(1)
				}
			}
		})
	}
	return func() int64 { done.Store(true); writers.Wait(); return accepted.Load() }
}

// writeOne makes a record, with a file if it is asked to, and reports whether the server
// accepted it.
func writeOne(t *testing.T, client pdstest.Client, s pdstest.Session, key string, file bool) bool {
	record := map[string]any{"$type": "com.example.post", "text": strings.Repeat(key, 50)}
	if file {
		got, err := client.Try(t, pdstest.Request{
			NSID: "com.atproto.repo.uploadBlob", Auth: pdstest.Bearer(s.AccessJwt), Body: strings.Repeat(key, 1000),
			Header: http.Header{"Content-Type": {"text/plain"}},
		})
		var made struct{ Blob any }
		if err != nil || got.Status != http.StatusOK || json.Unmarshal(got.Body, &made) != nil {
			return false
		}
		record["file"] = made.Blob
	}
	body := map[string]any{"repo": s.DID, "collection": "com.example.post", "rkey": key, "record": record}
	got, err := client.Try(t, pdstest.Request{
		NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(s.AccessJwt), Body: body,
	})
	return err == nil && got.Status == http.StatusOK
}
