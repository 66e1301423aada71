package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// TestFaults: the real server fails on purpose from its start, and by command while it runs; one
// without --dev does neither.
func TestFaults(t *testing.T) {
	dir := pdstest.TempDir(t)
	args := []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--data", dir, "--faults", "expiry:7"}
	p := pdstest.LaunchArgs(t, args)
	p.Dir = dir
	t.Cleanup(func() {
		p.Stop()
		pdstest.Verify(t, dir)
	})
	if !strings.Contains(p.Log(), "Faults on purpose: expiry, seed 7.") {
		t.Errorf("the log does not name the faults:\n%s", p.Log())
	}
	s := p.SignUp(t, "alice")
	dev := func(args ...string) string {
		t.Helper()
		out, err := pdstest.Run(t, "", append([]string{"dev", "faults", "--data", dir}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := dev(); !strings.Contains(out, "expiry, seed 7\n") || !strings.Contains(out, "1 of 1  access-life for 20s at all calls") {
		t.Errorf("said %s", out)
	}
	if out := dev("flaky-host:8"); !strings.Contains(out, "flaky-host, seed 8\n") {
		t.Errorf("said %s", out)
	}
	failed := 0
	for range 12 {
		a, err := p.Try(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.refreshSession", Auth: pdstest.Bearer(s.RefreshJwt)})
		if err != nil || a.Status != http.StatusOK {
			failed++
		}
	}
	if failed < 6 || failed == 12 {
		t.Errorf("%d of 12 refreshes failed", failed)
	}
	for range 2 { // the first may be lost
		_, _ = p.Try(t, pdstest.Request{NSID: "com.atproto.server.getSession", Auth: pdstest.Bearer(s.RefreshJwt)})
	}
	report, err := pdstest.Run(t, "", "dev", "report", "--data", dir, "--since", "1h")
	if err != nil || !strings.Contains(report, "Go-http-client/1.1: ") || !strings.Contains(report, "wrong-token, 2 times: the client sent the wrong one") {
		t.Errorf("reported %s, %v", report, err)
	}
	if _, err := pdstest.Run(t, "", "dev", "report", "--data", dir, "--since", "yesterday"); err == nil || !strings.Contains(err.Error(), "invalid --since") {
		t.Errorf("a time that is none: %v", err)
	}
	if out := dev("off"); !strings.HasPrefix(out, "no faults") {
		t.Errorf("said %s", out)
	}
	p.MustRefresh(t, s.RefreshJwt)
	if out := dev("--list"); strings.Count(out, "\n") != 7 {
		t.Errorf("the presets are %s", out)
	}

	nothing := filepath.Join(t.TempDir(), "nothing.json")
	if err := os.WriteFile(nothing, []byte(`{"faults":[{"fault":"cut","methods":["/nothing"]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := pdstest.Exec(t, pdstest.Invocation{Args: []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--faults", nothing, "--data", t.TempDir()}})
	if refused.Code == 0 || !strings.Contains(refused.Stderr, "no such method or path") || strings.Contains(refused.Stderr, "Faults on purpose") {
		t.Errorf("a plan of nothing: status %d, %s", refused.Code, refused.Stderr)
	}

	production := []string{"PDS_HOSTNAME=pds.example.com", "PDS_EMAIL_SMTP_URL=none"}
	if got := pdstest.Exec(t, pdstest.Invocation{Args: []string{"serve", "--faults", "mobile", "--data", t.TempDir()}}); got.Code == 0 || !strings.Contains(got.Stderr, "so it needs --dev") {
		t.Errorf("without settings: status %d, %s", got.Code, got.Stderr)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"serve", "--faults", "mobile", "--data", t.TempDir()}, "--faults makes a server fail on purpose, so it needs --dev"},
		{[]string{"serve", "--dev", "--faults", "magic", "--data", t.TempDir()}, "neither a preset nor a file"},
		{[]string{"dev", "faults", "mobile", "--data", t.TempDir()}, "start nestbox serve --dev"},
	} {
		if got := pdstest.Exec(t, pdstest.Invocation{Args: c.args, Settings: production}); got.Code == 0 || !strings.Contains(got.Stderr, c.want) {
			t.Errorf("%v: status %d, %s", c.args, got.Code, got.Stderr)
		}
	}
}
