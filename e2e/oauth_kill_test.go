package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// TestOAuthKill kills the real binary at random moments while apps refresh, again and again,
// and starts it on what is left. No grant dies, whether its last answer was received or lost,
// and no proof works again after the crash.
func TestOAuthKill(t *testing.T) {
	dir := pdstest.TempDir(t)
	server := launchAt(t, dir, "127.0.0.1:0")
	address := mustParse(t, server.Base).Host
	var grants []*grant
	for i := range killAccounts {
		name := fmt.Sprintf("account%d", i)
		server.SignUp(t, name)
		for range killDevices / 2 {
			grants = append(grants, newGrant(t, server.Client, name+".test"))
		}
	}
	refreshes := make([]int, len(grants))
	for round := range killRounds(t) {
		var workers sync.WaitGroup
		for i, g := range grants {
			g.client = server.Client
			workers.Go(func() {
				for g.refreshOnce(t) == nil {
					refreshes[i]++
					if _, _, err := g.get(t, "com.atproto.server.getSession"); err != nil {
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(20+rand.IntN(180)) * time.Millisecond)
		server.Kill()
		workers.Wait()
		server = launchAt(t, dir, address)
		for _, g := range grants {
			g.client = server.Client
			if g.spent != nil {
				if status, body := g.replay(t); status != http.StatusUnauthorized || !strings.Contains(body, "use_dpop_nonce") {
					t.Errorf("a proof that was used before the crash: %d %s", status, body)
				}
			}
			if err := g.refreshOnce(t); err != nil {
				t.Errorf("after a crash: %v", err)
			}
			if status, body, err := g.get(t, "com.atproto.server.getSession"); err != nil || status != http.StatusOK {
				t.Errorf("after a crash: %d %s, %v", status, body, err)
			}
		}
		if t.Failed() {
			t.Fatalf("in round %d; the server says:\n%s", round, server.Log())
		}
	}
	all := 0
	for _, n := range refreshes {
		all += n
		if n == 0 {
			t.Error("an app never got an answer: it shows nothing")
		}
	}
	t.Logf("%d answered refreshes", all)
	server.Stop()
	pdstest.Verify(t, dir)
}
