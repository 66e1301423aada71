package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// TestAdopt: an account that was made after the backup comes back from a host that has a copy of
// its repository, which the key of its DID must have signed. Its owner goes on with it.
func TestAdopt(t *testing.T) {
	t.Parallel()
	plc := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn").Ready.PLC // of a server that is not destroyed
	dir, store := pdstest.TempDir(t), filepath.Join(t.TempDir(), "store")
	server := pdstest.Launch(t, dir, "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc)
	alice := server.SignUp(t, "alice")
	if out, err := pdstest.Run(t, "", "backup", "--dev", "--data", dir, "--to", store); err != nil {
		t.Fatal(err, out)
	}
	bob := server.SignUp(t, "bob")
	for _, key := range []string{"one", "two"} {
		if !writeOne(t, server.Client, bob, key, key == "two") {
			t.Fatalf("%s was not written\n%s", key, server.Log())
		}
	}
	copies := map[string][]byte{}
	for _, did := range []string{alice.DID, bob.DID} {
		copies[did] = server.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + url.QueryEscape(did)}).Body
	}
	server.Kill()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	r := pdstest.Exec(t, pdstest.Invocation{Args: []string{"restore", store, "--to", dir}, Settings: []string{"PDS_DEV_MODE=true", "PDS_DID_PLC_URL=" + plc}})
	if r.Code != 0 {
		t.Fatalf("restore: %+v", r)
	}
	server.Restart()

	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(copies[r.FormValue("did")]) }))
	t.Cleanup(mirror.Close)
	adopt := func(did string, more ...string) (string, error) {
		t.Helper()
		return pdstest.Run(t, "", append([]string{"account", "adopt", did, "--dev", "--data", dir, "--email", "bob@example.com", "--json"}, more...)...)
	}
	file := filepath.Join(t.TempDir(), "alice.car")
	if err := os.WriteFile(file, copies[alice.DID], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		did, want string
		more      []string
	}{
		{alice.DID, "account exists", []string{"--from", mirror.URL}},
		{bob.DID, "has not signed it", []string{"--car", file}},
		{bob.DID, "status 404", []string{"--from", server.Base + "/nothing"}},
		{"did:plc:ewvi7nxzyoun6zhxrhs64oiz", "is not registered", []string{"--car", file}},
	} {
		out, err := adopt(c.did, c.more...)
		if err == nil {
			t.Errorf("%s %v: %s", c.did, c.more, out)
			continue
		}
		wantContains(t, err.Error(), c.want)
	}

	out, err := adopt(bob.DID, "--from", mirror.URL)
	var got admin.AdoptLine
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || got.Status != "deactivated" || got.Handle != bob.Handle || got.Records != 2 || got.Missing != 1 {
		t.Fatalf("%s, %v\n%s", out, err, server.Log())
	}
	if a := server.Refresh(t, bob.RefreshJwt); a.Status == http.StatusOK {
		t.Error("a session of the account that was lost goes on")
	}
	bob = server.SignIn(t, bob.Handle, got.Password)
	auth := pdstest.Bearer(bob.AccessJwt)
	if a := server.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.activateAccount", Auth: auth}); a.Status != http.StatusOK {
		t.Fatalf("activate: %d %s", a.Status, a.Body)
	}
	record := url.Values{"repo": {bob.DID}, "collection": {"com.example.post"}, "rkey": {"one"}}
	if a := server.Do(t, pdstest.Request{NSID: "com.atproto.repo.getRecord?" + record.Encode()}); a.Status != http.StatusOK {
		t.Errorf("what was written before: %d %s", a.Status, a.Body)
	}
	if !writeOne(t, server.Client, bob, "three", false) {
		t.Errorf("nothing more is written\n%s", server.Log())
	}
	server.Stop()
	pdstest.Verify(t, dir)
}
