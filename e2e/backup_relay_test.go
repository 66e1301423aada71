package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	comatproto "github.com/bluesky-social/indigo/api/atproto"

	"nestbox/internal/pdstest"
)

// TestBackupRelay destroys a server that indigo's relay follows, and restores it from a
// backup that is older than what the relay has seen: with one command the relay accepts the
// next write, and a session that was refreshed after the backup goes on.
func TestBackupRelay(t *testing.T) {
	t.Parallel()
	binary := indigoBinary(t, "relay")
	plc := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn").Ready.PLC // of a server that is not destroyed
	dir, store := pdstest.TempDir(t), filepath.Join(t.TempDir(), "store")
	server := pdstest.Launch(t, dir, "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc)
	alice := server.SignUp(t, "alice")
	host := mustParse(t, server.Base).Host
	relay := startRelay(t, binary, plc, host, lastEvent(t, server))
	post := func(key string) {
		t.Helper()
		if !writeOne(t, server.Client, alice, key, false) {
			t.Fatalf("%s was not written\n%s", key, server.Log())
		}
	}
	// arrives waits until the relay has passed a record on.
	arrives := func(key string) {
		t.Helper()
		if err := subscribe(t.Context(), relay.base, 0, func(frame []byte) bool {
			_, _, m := digest(t, frame)
			c, ok := m.(*comatproto.SyncSubscribeRepos_Commit)
			return !ok || len(c.Ops) != 1 || c.Ops[0].Path != "com.example.post/"+key
		}); err != nil {
			t.Fatalf("%s did not come through: %v\n%s", key, err, relay.complaints())
		}
	}
	post("kept")
	arrives("kept")
	if out, err := pdstest.Run(t, "", "backup", "--dev", "--data", dir, "--to", store); err != nil {
		t.Fatal(err, out)
	}
	for n := range 20 {
		post(fmt.Sprintf("lost-%d", n))
	}
	arrives("lost-19")
	alice = server.MustRefresh(t, alice.RefreshJwt)
	server.Kill()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}

	// The relay knows the server by its port, too, and the server itself not: on the network
	// it has none.
	target := mustParse(t, relay.base)
	asked := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.URL.RawQuery = url.Values{"hostname": {host}}.Encode()
	}})
	t.Cleanup(asked.Close)
	result := pdstest.Exec(t, pdstest.Invocation{
		Args: []string{"restore", store, "--to", dir}, Settings: []string{"PDS_DEV_MODE=true", "PDS_CRAWLERS=" + asked.URL, "PDS_DID_PLC_URL=" + plc},
	})
	if result.Code != 0 {
		t.Fatalf("restore: %s%s", result.Stdout, result.Stderr)
	}
	t.Log(result.Stdout)
	server.Restart()
	alice = server.MustRefresh(t, alice.RefreshJwt)
	post("after")
	arrives("after")
	got := server.Do(t, pdstest.Request{
		NSID: "com.atproto.repo.getRecord?" + url.Values{"repo": {alice.DID}, "collection": {"com.example.post"}, "rkey": {"kept"}}.Encode(),
	})
	if got.Status != http.StatusOK {
		t.Errorf("what was backed up: %d %s", got.Status, got.Body)
	}
	relay.stop()
}
