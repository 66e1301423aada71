package pdstest_test

import (
	"net/http"
	"testing"

	"nestbox/internal/pdstest"
)

// TestServers shows that both kinds of server come up, serve and go down.
func TestServers(t *testing.T) {
	for name, client := range map[string]pdstest.Client{
		"in process": pdstest.Start(t, pdstest.Options{}).Client,
		"binary":     pdstest.Launch(t, "").Client,
	} {
		t.Run(name, func(t *testing.T) {
			made := client.SignUp(t, "alice")
			again := client.MustRefresh(t, made.RefreshJwt)
			if again.DID != made.DID || again.RefreshJwt == made.RefreshJwt {
				t.Errorf("refresh gave %+v after %+v", again, made)
			}
			if a := client.GetSession(t, again.AccessJwt); a.Status != http.StatusOK {
				t.Errorf("getSession: %d %s", a.Status, a.Body)
			}
		})
	}
}
