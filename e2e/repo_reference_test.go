//go:build reference

package e2e

import (
	"bytes"
	"encoding/base64"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/ipfs/go-cid"

	"nestbox/internal/pdstest"
)

// TestReference moves a repository to the reference PDS under the same DID and
// back. PDS_REFERENCE is the folder where bench/run has installed it.
func TestReference(t *testing.T) {
	plc := startPLC(t)
	server := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc)
	runScript(t, []string{"reference.mjs"}, []string{"SERVICE=" + server.Base, "REFERENCE=" + startReference(t, plc), "PLC=" + plc}, handlers{
		"compare": func(cars string) any { compareExports(t, strings.Fields(cars)); return nil },
	})
	if t.Failed() {
		t.Logf("the server's log:\n%s", server.Log())
	}
}

// compareExports fails the test unless tree and records are the same in each.
func compareExports(t *testing.T, cars []string) {
	var root cid.Cid
	var want map[string]cid.Cid
	for i, text := range cars {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Error(err)
			return
		}
		commit, tree, err := indigorepo.LoadRepoFromCAR(t.Context(), bytes.NewReader(raw))
		if err != nil {
			t.Errorf("export %d: %v", i, err)
			return
		}
		records := map[string]cid.Cid{}
		if err := tree.MST.WriteToMap(records); err != nil {
			t.Error(err)
		}
		if i == 0 {
			root, want = commit.Data, records
		}
		if commit.Data != root || !maps.Equal(records, want) {
			t.Errorf("export %d has the root %s, the first %s:\n%s", i, commit.Data, root, difference(want, records))
		}
	}
	t.Logf("%d exports of %d records with the root %s", len(cars), len(want), root)
}

// startReference runs the reference PDS until the end of the test.
func startReference(t *testing.T, plc string, settings ...string) string {
	t.Helper()
	folder := os.Getenv("PDS_REFERENCE")
	if folder == "" {
		t.Fatal("PDS_REFERENCE names no folder")
	}
	if _, err := os.Stat(filepath.Join(folder, "node22")); err != nil {
		t.Fatalf("the reference is not installed: make bench does it (%v)", err)
	}
	dir := t.TempDir()
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(folder, "node22"), "start.mjs", "pds")
	cmd.Dir = folder
	cmd.Env = append(os.Environ(),
		"NODE_ENV=production", "PDS_DEV_MODE=true", "PDS_HOSTNAME=localhost", "PDS_PORT="+port, "PDS_DATA_DIRECTORY="+dir,
		"PDS_BLOBSTORE_DISK_LOCATION="+filepath.Join(dir, "blocks"), "PDS_DID_PLC_URL="+plc, "PDS_JWT_SECRET=jwt-secret",
		"PDS_ADMIN_PASSWORD=admin-pass", "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX="+strings.Repeat("5d", 32),
		"PDS_SERVICE_HANDLE_DOMAINS=.test", "PDS_INVITE_REQUIRED=false", "PDS_RATE_LIMITS_ENABLED=false",
		"PDS_DISABLE_SSRF_PROTECTION=true", "PDS_BSKY_APP_VIEW_URL=http://127.0.0.1:9", "PDS_BSKY_APP_VIEW_DID=did:web:appview.invalid",
		"LOG_ENABLED=false")
	cmd.Env = append(cmd.Env, settings...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // killed with the test's context
	base := "http://localhost:" + port
	// It prints nothing when it is ready.
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	late := time.After(streamPatience)
	for {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/xrpc/_health", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return base
			}
		}
		select {
		case <-ticks.C:
		case <-late:
			t.Fatalf("the reference is not ready:\n%s", stderr.String())
		}
	}
}
