package e2e

import (
	"bufio"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/internal/pdstest"
)

// TestDirectory signs up with the embedded PLC directory and with the real one:
// both have the same content for an account.
func TestDirectory(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *pdstest.Process{
		"embedded": func(t *testing.T) *pdstest.Process { t.Helper(); return pdstest.Launch(t, "") },
		"did-plc": func(t *testing.T) *pdstest.Process {
			t.Helper()
			url := startPLC(t)
			server := pdstest.Launch(t, "", "PDS_DID_PLC_URL="+url)
			if server.Ready.PLC != url {
				t.Errorf("the server uses %s, not %s", server.Ready.PLC, url)
			}
			return server
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			runScript(t, []string{"directory.mjs"}, []string{
				"SERVICE=" + server.Base, "PDS=" + server.Base, "PLC=" + server.Ready.PLC, "RECOVERY_KEY=" + newDIDKey(t),
			}, nil)
		})
	}
}

func newDIDKey(t *testing.T) string {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public.DIDKey()
}

// startPLC runs @did-plc/server until the end of the test.
func startPLC(t *testing.T) string {
	t.Helper()
	cmd := node(t.Context(), t, "plc.mjs")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	t.Cleanup(func() {
		reading.Wait()
		_ = cmd.Wait() // killed with the test's context
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "READY "); ok {
			reading.Go(func() {
				for lines.Scan() { // its log, until it ends
				}
			})
			return url
		}
	}
	t.Fatal("the PLC directory did not start")
	return ""
}
