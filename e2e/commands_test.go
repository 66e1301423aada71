package e2e

import (
	"archive/zip"
	"net/http"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// command runs a command on a data directory and returns what it printed.
func command(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := pdstest.Run(t, "", append(args, "--data", dir)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCLIIdentity: the operator sees an account's identity in the network, and
// announces it again; the audit log has the action.
func TestCLIIdentity(t *testing.T) {
	p := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn")
	alice := p.SignUp(t, "alice")
	shown := command(t, p.Dir, "identity", "show", "alice.test")
	for _, want := range []string{"alice.test", p.Base, "as here", "this server's", "The handle leads to the account."} {
		if !strings.Contains(shown, want) {
			t.Errorf("identity show lacks %q:\n%s", want, shown)
		}
	}
	if out := command(t, p.Dir, "identity", "repair", "alice.test", "--json"); !strings.Contains(out, `"control": true`) {
		t.Errorf("identity repair: %s", out)
	}
	before := erasureNumber(t, p.Dir, "SELECT signing_key FROM account")
	if out := command(t, p.Dir, "identity", "rotate-key", "alice.test"); strings.Contains(out, before) || strings.Contains(out, "differs") {
		t.Errorf("identity rotate-key: %s", out)
	}
	note := map[string]any{"repo": alice.DID, "collection": "com.example.note", "record": map[string]string{"text": "signed by the new key"}}
	a := p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(alice.AccessJwt), Body: note})
	if a.Status != http.StatusOK {
		t.Errorf("a write with the new key: %d %s", a.Status, a.Body)
	}
	if out := command(t, p.Dir, "audit", "alice.test"); !strings.Contains(out, "identity-repaired") || !strings.Contains(out, "signing-key-changed") {
		t.Errorf("audit: %s", out)
	}
	if out, err := pdstest.Run(t, "", "identity", "show", "nobody.test", "--data", p.Dir); err == nil || !strings.Contains(err.Error(), "no such account") {
		t.Errorf("nobody: %s, %v", out, err)
	}
}

// TestCLIInvites: codes that commands make admit sign-ups until they are disabled.
func TestCLIInvites(t *testing.T) {
	p := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn", "PDS_SIGNUP=invite")
	codes := strings.Fields(command(t, p.Dir, "invite", "create", "--codes", "2", "--uses", "3"))
	if len(codes) != 2 {
		t.Fatalf("codes %q", codes)
	}
	join := func(name, code string) int {
		t.Helper()
		return p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.createAccount", Body: map[string]string{
			"handle": name + ".test", "email": name + "@example.com", "password": pdstest.Password, "inviteCode": code,
		}}).Status
	}
	if status := join("alice", codes[0]); status != http.StatusOK {
		t.Errorf("with a code: %d", status)
	}
	hers := strings.TrimSpace(command(t, p.Dir, "invite", "create", "--account", "alice.test"))
	if out := command(t, p.Dir, "invite", "disable", codes[0]); !strings.HasPrefix(out, "1 codes") {
		t.Errorf("invite disable: %s", out)
	}
	if status := join("bob", codes[0]); status != http.StatusBadRequest {
		t.Errorf("with a disabled code: %d", status)
	}
	if out := command(t, p.Dir, "invite", "disable", "--account", "alice.test"); !strings.HasPrefix(out, "1 codes") {
		t.Errorf("invite disable --account: %s", out)
	}
	listed := command(t, p.Dir, "invite", "list")
	for _, want := range []string{codes[0] + "  1     3   true", codes[1] + "  0     3   false", hers + "  0     1   true"} {
		if !strings.Contains(listed, want) {
			t.Errorf("invite list lacks %q:\n%s", want, listed)
		}
	}
	for _, want := range []string{"invite-codes-made", "invite-codes-disabled"} {
		if out := command(t, p.Dir, "audit"); !strings.Contains(out, want) {
			t.Errorf("audit lacks %s:\n%s", want, out)
		}
	}
}

// TestCLIStats: what there is is counted, by collection too if it is asked for.
func TestCLIStats(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn")
	alice := p.SignUp(t, "alice")
	for _, collection := range []string{"com.example.note", "com.example.note", "com.example.like"} {
		a := p.Do(t, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]any{
			"repo": alice.DID, "collection": collection, "record": map[string]string{"text": "x"},
		}})
		if a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	wantContains(t, command(t, p.Dir, "stats"), "accounts, active  1", "records           3", "last event")
	wantContains(t, command(t, p.Dir, "stats", "--collections"), "com.example.note  2        1", "com.example.like  1        1")
	wantContains(t, command(t, p.Dir, "stats", "--collections", "--json"), `"active": 1`, `"collection": "com.example.note"`, `"collectionsInAll": 2`)
	p.Stop()
	wantContains(t, command(t, p.Dir, "stats", "--dev"), "records           3")
}

// TestCLIExport: the operator gets the archive that the owner gets; the audit log and the trail have
// it.
func TestCLIExport(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn")
	alice := p.SignUp(t, "alice")
	for range 2 {
		raw := command(t, p.Dir, "account", "export", "alice.test")
		z, err := zip.NewReader(strings.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range z.File {
			names = append(names, f.Name)
		}
		wantContains(t, strings.Join(names, "\n"), "repo.car", "manifest.json")
	}
	wantContains(t, command(t, p.Dir, "audit", alice.DID), "repo-export", "everything")
	wantContains(t, command(t, p.Dir, "account", "info", "alice.test"), "data-exported")
	for args, want := range map[string]string{"nobody.test": "no such account", "alice.test --part 7": "no such part"} {
		if out, err := pdstest.Run(t, "", append(append([]string{"account", "export"}, strings.Fields(args)...), "--data", p.Dir)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", args, out, err)
		}
	}
	wantContains(t, command(t, p.Dir, "account", "change-handle", "alice.test", "alicia.test"), "alicia.test", "handle changed")
}
