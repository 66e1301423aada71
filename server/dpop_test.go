package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
	"nestbox/oauth/dpop"
	"nestbox/oauth/oauthtest"
)

// TestUsedProofs: a proof that was used passes neither after a clean stop, after which
// nonces go on, nor after a crash, after which they do not; PDS_DPOP_SECRET makes other
// nonces.
func TestUsedProofs(t *testing.T) {
	key := oauthtest.NewSigner("ES256")
	dir := t.TempDir()
	check := func(s *pdstest.InProcess, proof string) string {
		_, err := s.Proofs().Check(dpop.Request{Headers: []string{proof}, Method: "POST", Path: "/oauth/par"})
		if err == nil {
			return ""
		}
		return err.Error()
	}
	start := func(settings ...string) *pdstest.InProcess {
		return pdstest.Start(t, pdstest.Options{Dir: dir, Settings: settings})
	}
	fresh := func(s *pdstest.InProcess) string {
		return key.Proof("POST", "http://localhost/oauth/par", s.Proofs().Nonce(), "")
	}

	s := start()
	s.Proofs().Origin = "http://localhost" // the port differs from start to start
	used, unused := fresh(s), fresh(s)
	if got := check(s, used); got != "" {
		t.Fatal(got)
	}
	running, err := os.ReadFile(filepath.Join(dir, "dpop_replays"))
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()

	s = start()
	s.Proofs().Origin = "http://localhost"
	if got := check(s, used); !strings.Contains(got, "replayed") {
		t.Errorf("used before a clean stop: %q", got)
	}
	if got := check(s, unused); got != "" {
		t.Errorf("a nonce from before a clean stop: %q", got)
	}
	s.Stop()

	if err := os.WriteFile(filepath.Join(dir, "dpop_replays"), running, 0o600); err != nil { // as kill -9 leaves it
		t.Fatal(err)
	}
	s = start()
	s.Proofs().Origin = "http://localhost"
	for _, proof := range []string{used, unused} {
		if got := check(s, proof); !strings.Contains(got, dpop.CodeUseNonce) {
			t.Errorf("after a crash: %q", got)
		}
	}
	last := fresh(s)
	if got := check(s, last); got != "" {
		t.Errorf("after a crash, the nonce that is given out: %q", got)
	}
	unused = fresh(s)
	s.Stop()

	s = start("PDS_DPOP_SECRET=" + strings.Repeat("ab", 32))
	s.Proofs().Origin = "http://localhost"
	if got := check(s, unused); !strings.Contains(got, dpop.CodeUseNonce) {
		t.Errorf("a nonce of another secret: %q", got)
	}
}
