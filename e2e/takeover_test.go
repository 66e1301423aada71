package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"nestbox/internal/pdstest"
	"nestbox/repo/car"
	"nestbox/store/reference/referencetest"
	"nestbox/takeover"
)

// oldServer is a data directory of the reference and its env file.
type oldServer struct {
	*referencetest.Source

	t       *testing.T
	envFile string
}

func newOldServer(t *testing.T, o referencetest.Options) *oldServer {
	t.Helper()
	dir := t.TempDir()
	o.Now = time.Now()
	s := &oldServer{Source: referencetest.Make(t, filepath.Join(dir, "pds"), o), t: t, envFile: filepath.Join(dir, "pds.env")}
	env := "PDS_DEV_MODE=true\nPDS_HOSTNAME=localhost\nPDS_JWT_SECRET=0123456789abcdef0123456789abcdef\n" +
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + strings.Repeat("11", 32) + "\n" +
		"PDS_DATA_DIRECTORY=" + s.Dir + "\nPDS_BLOBSTORE_DISK_LOCATION=" + s.Blobs() + "\nPDS_REPO_BACKFILL_LIMIT_MS=604800000\n" +
		"PDS_PORT=1\nLOG_ENABLED=true\n"
	if err := os.WriteFile(s.envFile, []byte(env), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs nestbox takeover.
func (s *oldServer) run(args ...string) pdstest.Result {
	return pdstest.Exec(s.t, pdstest.Invocation{Args: append([]string{"takeover", "--env-file", s.envFile}, args...)})
}

// sums returns the SHA-256 of all files of the source, as text.
func (s *oldServer) sums() string {
	s.t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(s.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && path == filepath.Join(s.Dir, "nestbox") {
			return filepath.SkipDir
		}
		if d.IsDir() {
			return nil
		}
		raw, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%x %s\n", sha256.Sum256(raw), path)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.String()
}

// TestTakeover: the real binary takes a data directory over, killed at many moments, and
// serves it with the same env file; passwords, repositories and the event stream go on, and
// the source is as it was.
func TestTakeover(t *testing.T) {
	t.Parallel()
	s := newOldServer(t, referencetest.Options{Accounts: 40, Records: 60, LeaveLogs: true})
	before := s.sums()
	if r := pdstest.Exec(t, pdstest.Invocation{Args: []string{"serve", "--env-file", s.envFile}}); r.Code == 0 || !strings.Contains(r.Stderr, "nestbox takeover --env-file") {
		t.Errorf("a server on the source: %+v", r)
	}
	r := s.run("--dry-run")
	if r.Code != 0 || !strings.Contains(r.Stdout, "will take") || !strings.Contains(r.Stdout, "2400 records") {
		t.Errorf("dry run: %+v", r)
	}
	for i := range 12 {
		s.killed(time.Duration(i*15) * time.Millisecond)
	}
	r = s.run("--json")
	var report takeover.Report
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil || r.Code != 0 {
		t.Fatalf("%v, %+v", err, r)
	}
	if !report.Done {
		t.Errorf("%s", r.Stdout)
	}
	if r := s.run(); r.Code != 0 { // once more
		t.Errorf("repeated: %+v", r)
	}
	if after := s.sums(); after != before {
		t.Error("the source changed")
	}
	p := pdstest.LaunchArgs(t, []string{"serve", "--env-file", s.envFile, "--listen", "127.0.0.1:0"})
	t.Cleanup(func() { p.Stop(); pdstest.Verify(t, s.Dir) })
	a := s.Accounts[referencetest.WithPreferences]
	p.SignIn(t, a.Handle, a.Password)
	app := s.Accounts[referencetest.WithAppPasswords]
	p.SignIn(t, app.Handle, app.AppPassword)
	exported := p.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + a.DID.String()})
	file, err := car.NewReader(bytes.NewReader(exported.Body))
	if err != nil || exported.Status != http.StatusOK || !file.Roots()[0].Equals(a.Head) {
		t.Errorf("export: %d, %v, want root %s", exported.Status, err, a.Head)
	}
	s.stream(p)
	if r := s.run("--check"); r.Code != 0 || !strings.Contains(r.Stdout, "compared") {
		t.Errorf("check: %+v", r)
	}
	if r := s.run("--finish"); r.Code != 0 || !strings.Contains(r.Stdout, filepath.Join(s.Dir, "actors")) {
		t.Errorf("what may be removed: %+v", r)
	}
}

// killed runs the take-over and kills it after a time; no server starts on what is left.
func (s *oldServer) killed(after time.Duration) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), pdstest.Binary(s.t), "takeover", "--env-file", s.envFile)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(after)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := os.Stat(filepath.Join(s.Dir, "nestbox", "takeover.json")); err == nil {
		return // it was quicker
	}
	r := pdstest.Exec(s.t, pdstest.Invocation{Args: []string{"serve", "--env-file", s.envFile}})
	if r.Code == 0 || !strings.Contains(r.Stderr, "nestbox takeover --env-file") {
		s.t.Errorf("a server on what was killed after %s: %+v", after, r)
	}
}

// stream compares the event stream with what the old server sent.
func (s *oldServer) stream(p *pdstest.Process) {
	t := s.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(p.Base, "http")+"/xrpc/com.atproto.sync.subscribeRepos?cursor=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer conn.Close()
	for i, want := range s.Frames {
		_, got, err := conn.ReadMessage()
		if err != nil {
			t.Fatalf("frame %d of %d: %v", i, len(s.Frames), err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("frame %d differs:\n%x\n%x", i, got, want)
		}
	}
	session := p.SignIn(t, s.Accounts[0].Handle, s.Accounts[0].Password)
	written := p.Do(t, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(session.AccessJwt), Body: map[string]any{
		"repo": session.DID, "collection": "app.bsky.feed.post",
		"record": map[string]any{"$type": "app.bsky.feed.post", "text": "on", "createdAt": "2026-11-30T00:00:00Z"},
	}})
	if written.Status != http.StatusOK {
		t.Fatalf("write: %d %s", written.Status, written.Body)
	}
	_, got, err := conn.ReadMessage()
	if err != nil || !bytes.Contains(got, referencetest.SeqField(s.Last+1)) {
		t.Errorf("the next event does not have number %d: %v, %x", s.Last+1, err, got)
	}
}
