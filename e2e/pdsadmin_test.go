package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// pdsadmin returns what runs commands of pdsadmin on a data directory, under that name, with
// answers to its questions.
func pdsadmin(t *testing.T, dir, more string) func(answers string, args ...string) pdstest.Result {
	t.Helper()
	folder := pdstest.TempDir(t)
	link, env := filepath.Join(folder, "pdsadmin"), filepath.Join(folder, "pds.env")
	binary, err := filepath.Abs(pdstest.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	text := "PDS_DEV_MODE=true\nPDS_HOSTNAME=localhost\nPDS_DATA_DIRECTORY=" + dir + "\nLOG_ENABLED=true\n" + more
	if err := os.WriteFile(env, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(answers string, args ...string) pdstest.Result {
		t.Helper()
		var out, errs strings.Builder
		cmd := exec.CommandContext(t.Context(), link, args...)
		cmd.Env = append(os.Environ(), "PDS_ENV_FILE="+env)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(answers), &out, &errs
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return pdstest.Result{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
	}
}

// TestPDSAdmin: each command of the official tool does and says here what it does and says there.
func TestPDSAdmin(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "")
	run := pdsadmin(t, p.Dir, "")
	said := func(r pdstest.Result, code int, out, errs string) {
		t.Helper()
		if r.Code != code || !regexp.MustCompile(`^(?:`+out+`)$`).MatchString(r.Stdout) || !regexp.MustCompile(`^(?:`+errs+`)$`).MatchString(r.Stderr) {
			t.Errorf("%+v, want status %d and\n%s\n%s", r, code, out, errs)
		}
	}
	const created = "\nAccount created successfully!\n-----------------------------\nHandle   : %s\nDID      : (did:plc:[a-z2-7]{24})\n" +
		"Password : ([A-Za-z0-9]{24})\n-----------------------------\nSave this password, it will not be displayed again.\n\n"
	r := run("", "account", "create", "alice@example.com", "alice.test")
	said(r, 0, fmt.Sprintf(created, "alice.test"), "")
	found := regexp.MustCompile(`DID +: (\S+)\nPassword : (\S+)`).FindStringSubmatch(r.Stdout)
	if found == nil {
		t.Fatal(r.Stdout)
	}
	did := found[1]
	p.SignIn(t, "alice.test", found[2])
	said(run("bob@example.com\nbob.test\n", "account", "create"), 0, fmt.Sprintf(created, "bob.test"), "")
	said(run("", "account", "create"), 1, "", "ERROR: missing EMAIL and/or HANDLE parameters.\nUsage: .*pdsadmin account create <EMAIL> <HANDLE>\n")
	said(run("", "account", "create", "c@example.com", "alice.test"), 1, "", "ERROR: .*handle.*\nUsage: .*pdsadmin account create <EMAIL> <HANDLE>\n")
	said(run("", "account", "list"), 0, `Handle +Email +DID\nalice\.test +alice@example\.com +did:plc:\S+\nbob\.test +bob@example\.com +did:plc:\S+\n`, "")

	for _, what := range []string{"delete", "takedown", "untakedown", "reset-password"} {
		usage := "Usage: .*pdsadmin account " + what + " <DID>\n"
		said(run("", "account", what), 1, "", "ERROR: missing DID parameter.\n"+usage)
		said(run("", "account", what, "alice.test"), 1, "", `ERROR: DID parameter must start with "did:".`+"\n"+usage)
		r := run("y\n", "account", what, "did:plc:ewvi7nxzyoun6zhxrhs64oiz")
		if r.Code != 1 || !strings.HasPrefix(r.Stderr, "ERROR: ") {
			t.Errorf("%s of nobody: %+v", what, r)
		}
	}
	said(run("", "account", "takedown", did), 0, did+" taken down\n", "")
	if got := p.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepoStatus?did=" + did}); !strings.Contains(string(got.Body), "takendown") {
		t.Errorf("after the takedown: %s", got.Body)
	}
	said(run("", "account", "untakedown", did), 0, did+" untaken down\n", "")
	r = run("", "account", "reset-password", did)
	said(r, 0, "\nPassword reset for "+did+"\nNew password: ([A-Za-z0-9]{24})\n\n", "")
	p.SignIn(t, "alice.test", regexp.MustCompile(`password: (\S+)`).FindStringSubmatch(r.Stdout)[1])

	r = run("", "create-invite-code")
	said(r, 0, `localhost-[a-z0-9]{5}-[a-z0-9]{5}\n`, "")
	const sure = "This action is permanent.\n"
	said(run("n\n", "account", "delete", did), 0, sure, "")
	said(run("", "account", "delete", did), 0, sure, "")
	if got := p.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepoStatus?did=" + did}); got.Status != http.StatusOK {
		t.Errorf("deleted without a yes: %s", got.Body)
	}
	said(run("YES\n", "account", "delete", did), 0, sure+did+" deleted\n", "")
	if got := p.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepoStatus?did=" + did}); got.Status != http.StatusBadRequest {
		t.Errorf("after the deletion: %d %s", got.Status, got.Body)
	}

	said(run("", "account"), 1, "", "Unknown subcommand: \n")
	said(run("", "account", "enable"), 1, "", "Unknown subcommand: enable\n")
	said(run("", "nonsense"), 2, "ERROR: nonsense not found\n", "")
	if r := run("", "update"); r.Code != 1 || !strings.Contains(r.Stderr, "Nestbox") {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{}, {"help"}} {
		r := run("", args...)
		if r.Code != 0 {
			t.Errorf("%+v", r)
		}
		wantContains(t, r.Stdout, "pdsadmin help", "create <EMAIL> <HANDLE>", "reset-password <DID>", "request-crawl", "create-invite-code")
	}
	if out, err := pdstest.Run(t, "", "pdsadmin", "help"); err != nil || !strings.HasPrefix(out, "pdsadmin help") {
		t.Errorf("nestbox pdsadmin help: %q, %v", out, err)
	}
}

// TestPDSAdminCrawl: relays are asked by host or URL, all of PDS_CRAWLERS if none is named.
func TestPDSAdminCrawl(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 200)
		n, _ := r.Body.Read(body)
		asked <- r.URL.Path + " " + string(body[:n])
		if strings.HasPrefix(r.URL.Path, "/no/") {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer relay.Close()
	run := pdsadmin(t, pdstest.TempDir(t), "PDS_CRAWLERS="+relay.URL+"\n")
	want := "/xrpc/com.atproto.sync.requestCrawl {\"hostname\":\"localhost\"}"
	for _, args := range [][]string{{"request-crawl"}, {"request-crawl", relay.URL}} {
		r := run("", args...)
		if r.Code != 0 || r.Stdout != "Requesting crawl from "+relay.URL+"\ndone\n" {
			t.Errorf("%v: %+v", args, r)
		}
		if got := <-asked; got != want {
			t.Errorf("asked %s", got)
		}
	}
	if r := run("", "request-crawl", relay.URL+"/no"); r.Code != 1 || !strings.HasPrefix(r.Stderr, "ERROR: ") || strings.Contains(r.Stdout, "done") {
		t.Errorf("a relay that refuses: %+v", r)
	}
}
