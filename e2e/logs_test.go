package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// TestLogFile: under load the file is turned over by itself, and by somebody who moves it and sends
// SIGHUP; no line is lost or torn, and no secret is in any.
func TestLogFile(t *testing.T) {
	t.Parallel()
	dir := pdstest.TempDir(t)
	path := filepath.Join(dir, "log")
	p := pdstest.Launch(t, "", "LOG_DESTINATION="+path, "PDS_LOG_FORMAT=json", "PDS_LOG_MAX_SIZE=40000", "PDS_LOG_KEEP=900")
	alice := p.SignUp(t, "alice")
	const workers, each = 4, 250
	var load sync.WaitGroup
	for w := range workers {
		load.Go(func() {
			for i := range each {
				p.Do(t, pdstest.Request{NSID: fmt.Sprintf("com.example.worker%d.call%d", w, i), Auth: pdstest.Bearer(alice.AccessJwt)})
			}
		})
	}
	for n := range 4 {
		time.Sleep(50 * time.Millisecond)
		if err := os.Rename(path, filepath.Join(dir, fmt.Sprintf("moved-%d", n))); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		p.Signal(syscall.SIGHUP)
	}
	load.Wait()
	if got := p.Do(t, pdstest.Request{NSID: "com.atproto.server.describeServer"}); got.Status != http.StatusOK {
		t.Errorf("%d", got.Status)
	}
	p.Stop()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 4 {
		t.Errorf("%d files, %v", len(files), err)
	}
	calls := map[string]int{}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > 41_000 {
			t.Errorf("%s has %d bytes", name, len(raw))
		}
		for line := range strings.Lines(string(raw)) {
			var entry struct{ Msg, NSID string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Msg == "" {
				t.Errorf("%s: %v: %q", name, err, line)
			}
			if strings.HasPrefix(entry.NSID, "com.example.worker") {
				calls[entry.NSID]++
			}
			for _, secret := range []string{alice.AccessJwt, alice.RefreshJwt, pdstest.Password} {
				if strings.Contains(line, secret) {
					t.Errorf("%s has a secret: %s", name, line)
				}
			}
		}
	}
	if len(calls) != workers*each {
		t.Errorf("%d of %d requests are logged", len(calls), workers*each)
	}
	for nsid, n := range calls {
		if n != 1 {
			t.Errorf("%s is logged %d times", nsid, n)
		}
	}
	if log := p.Log(); strings.Contains(log, "com.example.worker") {
		t.Error("standard error has the log, too")
	}
}
