//go:build network

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// network is the rest of the network around a server, run by network/start.mjs.
type network struct {
	AppView, AppViewDID, AnotherDID, ClosedDID string
	Moderation, ModerationDID                  string
	FeedDID, Control                           string

	plc  string
	line string // of READY, for scripts
}

// networkStop is how long the network may take to end.
const networkStop = 30 * time.Second

// startNetwork runs a PLC directory, the AppView, a moderation service and a feed generator
// until the end of the test.
func startNetwork(t *testing.T) *network {
	t.Helper()
	for what, file := range map[string]string{"the clients are": "node_modules", "the AppView is": "network/node_modules"} {
		if _, err := os.Stat(filepath.Join(file, ".package-lock.json")); err != nil {
			t.Fatalf("%s not installed: make test-network does it, with npm", what)
		}
	}
	n := &network{plc: startPLC(t)}
	program := "node"
	if own, err := filepath.Glob("network/node_modules/node-*/bin/node"); err == nil && len(own) > 0 {
		program = own[0]
	}
	cmd := exec.Command(program, "network/start.mjs") //nolint:noctx // it must end by itself, to end what it started
	cmd.Env = append(os.Environ(), "PLC="+n.plc, "LOG_ENABLED=false")
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("node is missing: %v", err)
	}
	lines := bufio.NewScanner(out)
	t.Cleanup(func() {
		late := time.AfterFunc(networkStop, func() {
			t.Errorf("the network did not end within %s", networkStop)
			_ = cmd.Process.Kill()
		})
		defer late.Stop()
		_ = in.Close()
		for lines.Scan() { // it may still print
		}
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("the network ended: %v\n%s", err, stderr.String())
		}
	})
	for lines.Scan() {
		if line, ok := strings.CutPrefix(lines.Text(), "READY "); ok {
			n.line = line
			if err := json.Unmarshal([]byte(line), n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the network did not start: the reason is below")
	return nil
}

// settings are those of a server in the network.
func (n *network) settings() []string {
	return []string{
		"PDS_DID_PLC_URL=" + n.plc,
		"PDS_BSKY_APP_VIEW_URL=" + n.AppView, "PDS_BSKY_APP_VIEW_DID=" + n.AppViewDID,
		"PDS_BSKY_APP_VIEW_CDN_URL_PATTERN=" + n.AppView + "/img/%s/plain/%s/%s",
		"PDS_MOD_SERVICE_URL=" + n.Moderation, "PDS_MOD_SERVICE_DID=" + n.ModerationDID,
	}
}

// follow makes the AppView read a server's events.
func (n *network) follow(t *testing.T, pds string) { t.Helper(); n.tell(t, "/follow", pds) }

// leave makes it read them no more.
func (n *network) leave(t *testing.T, pds string) { t.Helper(); n.tell(t, "/leave", pds) }

func (n *network) tell(t *testing.T, what, pds string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.Control+what+"?pds="+url.QueryEscape(pds), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v", what, pds, resp.Status, err)
	}
}

// run runs a script against a server in the network.
func (n *network) run(t *testing.T, server string, h handlers, args ...string) {
	t.Helper()
	runScript(t, args, []string{"SERVICE=" + server, "NETWORK=" + n.line}, h)
}

// TestNetwork is what people do in their first minutes with an app, with the real AppView
// and the real moderation service; and what they see while the AppView does not yet know
// what they wrote.
func TestNetwork(t *testing.T) {
	n := startNetwork(t)
	p := pdstest.Launch(t, "", append(n.settings(), "PDS_LOG_LEVEL=warn")...)
	n.follow(t, p.Base)
	for _, script := range []string{"network-first.mjs", "network-ahead.mjs"} {
		t.Run(script, func(t *testing.T) { n.run(t, p.Base, nil, script) })
	}
	if t.Failed() {
		t.Logf("the server's log:\n%s", p.Log())
	}
}
