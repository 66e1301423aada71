package browser

import (
	"encoding/json"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// TestOAuth signs in to an app on @atproto/oauth-client-browser, in a page that oauth.mjs
// serves, and uses it.
func TestOAuth(t *testing.T) {
	t.Parallel()
	const life = 3 * time.Second
	server := pdstest.Launch(t, "", "PDS_OAUTH_ACCESS_TOKEN_TTL="+life.String())
	alice := server.SignUp(t, "alice")
	task, err := json.Marshal(map[string]any{
		"service": server.Base, "plc": server.Ready.PLC, "chromium": chromium(t), "life": life.Milliseconds(),
		"did": alice.DID, "handle": alice.Handle, "password": pdstest.Password,
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := play(t, "oauth.mjs", task)
	if len(seen) != 5 {
		t.Errorf("the steps were %v", seen)
	}
	if t.Failed() {
		t.Logf("the server's log:\n%s", server.Log())
	}
}
