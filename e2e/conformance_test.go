package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"nestbox/admin"
	"nestbox/conformance"
	"nestbox/internal/pdstest"
)

// conform runs `nestbox conformance` as a script does.
func conform(t *testing.T, base, handle, password string, args ...string) pdstest.Result {
	t.Helper()
	return pdstest.Exec(t, pdstest.Invocation{
		Args:  append([]string{"conformance", base, "--handle", handle, "--password-stdin"}, args...),
		Stdin: password + "\n",
	})
}

// conformReport returns the report of a run with --json that ends with a status.
func conformReport(t *testing.T, base, handle, password string, code int) (r conformance.Report) {
	t.Helper()
	got := conform(t, base, handle, password, "--json")
	if got.Code != code || got.Stderr != "" {
		t.Errorf("status %d, want %d: %s", got.Code, code, got.Stderr)
	}
	if err := json.Unmarshal([]byte(got.Stdout), &r); err != nil {
		t.Fatalf("%v: %s", err, got.Stdout)
	}
	if strings.Contains(got.Stdout, password) {
		t.Error("the report has the password")
	}
	return r
}

// TestConformance: Nestbox passes every check, with the account's password and an app
// password, and keeps nothing of it.
func TestConformance(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "", "PDS_RATE_LIMITS_ENABLED=true")
	s := subject{p.Client, p.Dir}
	alice := s.SignUp(t, "alice")
	for _, password := range []string{pdstest.Password, s.appPassword(t, alice.AccessJwt, "tester", false)} {
		r := conformReport(t, p.Base, "alice.test", password, 0)
		for _, c := range r.Checks {
			if c.Outcome != conformance.Pass {
				t.Errorf("%s: %s: %s", c.Check, c.Outcome, c.Detail)
			}
		}
		if len(r.Checks) != len(conformance.Names()) || r.Calls > r.MostCalls || r.Left != 0 || r.DID != alice.DID {
			t.Errorf("%d checks, %d of %d calls, %d left, of %s", len(r.Checks), r.Calls, r.MostCalls, r.Left, r.DID)
		}
		var sessions []admin.SessionLine
		s.command(t, "session.list", map[string]string{"account": "alice.test"}, &sessions)
		if len(sessions) != 1 {
			t.Errorf("it left %d sessions", len(sessions)-1)
		}
	}
	s.wantLive(t, alice)
	if n := s.trail(t, alice.DID)["suspected-reuse"]; n != 0 {
		t.Errorf("%d suspicious events", n)
	}
}

// TestConformanceCommand: what a person sees, and what is refused before the first call.
func TestConformanceCommand(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "")
	p.SignUp(t, "alice")
	r := conform(t, p.Base, "alice.test", pdstest.Password)
	if r.Code != 0 || r.Stderr != "" || strings.Contains(r.Stdout, "\x1b") {
		t.Errorf("status %d: %s%q", r.Code, r.Stderr, r.Stdout)
	}
	wantContains(t, r.Stdout, p.Base+": ", " checks, at most ", "\npass     refresh.lost-answer\n", "\nskipped  rate-limits.headers: the server sends none\n",
		" pass, 0 fail, 0 differs, 1 skipped. ", "\nSigned out of every session.\n")

	// Under another name than its own it is not what apps expect.
	front := httptest.NewServer(httputil.NewSingleHostReverseProxy(mustParse(t, p.Base)))
	defer front.Close()
	r = conform(t, front.URL, "alice.test", pdstest.Password)
	if r.Code != 1 || r.Stderr != "" {
		t.Errorf("status %d: %s", r.Code, r.Stderr)
	}
	wantContains(t, r.Stdout, "\nFAIL     oauth.resource\n         expected  ", "\n         found     resource is \""+p.Base+"\"\n         because   ",
		"\ndiffers  sign-in.did-doc\n", " fail, 1 differs, ")

	for _, c := range []struct {
		base, password string
		says           []string
	}{
		{p.Base, "wrong-password", []string{"cannot sign in", "401 AuthenticationRequired"}},
		{"https://pds.example.com", pdstest.Password, []string{"at most", "calls to pds.example.com", "add --yes"}},
		{"http://pds.example.com", pdstest.Password, []string{"unencrypted"}},
		{"pds.example.com", pdstest.Password, []string{"https://pds.example.com"}},
		{p.Base, "", []string{"the password is empty"}},
	} {
		r := conform(t, c.base, "alice.test", c.password)
		if r.Code != 2 || c.password != "" && strings.Contains(r.Stdout+r.Stderr, c.password) {
			t.Errorf("%s: status %d: %s%s", c.base, r.Code, r.Stdout, r.Stderr)
		}
		wantContains(t, r.Stderr, append(c.says, "nestbox: ")...)
	}
	bare := pdstest.Exec(t, pdstest.Invocation{Args: []string{"conformance", p.Base, "--handle", "alice.test"}})
	if bare.Code != 2 || !strings.Contains(bare.Stderr, "--password-stdin") {
		t.Errorf("without a password: %+v", bare)
	}
}

// TestConformanceInterrupted: Ctrl-C in the middle of a call ends every session that was
// opened.
func TestConformanceInterrupted(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "")
	p.SignUp(t, "alice")
	ctx, cancel := context.WithTimeout(t.Context(), streamPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, pdstest.Binary(t))
	started, said := make(chan *os.Process, 1), make(chan string, 1)
	proxy := httputil.NewSingleHostReverseProxy(mustParse(t, p.Base))
	var once sync.Once
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, refreshSession) {
			once.Do(func() { // the new pair is on its way when the signal comes
				_ = (<-started).Signal(os.Interrupt)
				select {
				case <-said:
				case <-ctx.Done():
				}
			})
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	cmd.Args = append(cmd.Args, "conformance", front.URL, "--handle", "alice.test", "--password-stdin", "--json")
	cmd.Stdin = strings.NewReader(pdstest.Password)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started <- cmd.Process
	lines, all := bufio.NewScanner(stderr), ""
	for lines.Scan() {
		all += lines.Text() + "\n"
		if strings.Contains(lines.Text(), "signing out") {
			said <- lines.Text()
		}
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(all, "not all checks were made: interrupted") {
		t.Errorf("status %d: %s", code, all)
	}
	var sessions []admin.SessionLine
	subject{p.Client, p.Dir}.command(t, "session.list", map[string]string{"account": "alice.test"}, &sessions)
	if len(sessions) != 1 {
		t.Errorf("it left %d sessions", len(sessions)-1)
	}
}
