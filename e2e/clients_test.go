package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"path"
	"sync/atomic"
	"testing"

	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// shortTTL is the life of an access token in tests that wait for its end.
const shortTTL = "PDS_ACCESS_TOKEN_TTL=3s"

// TestClients makes the JavaScript clients do what people do with them.
func TestClients(t *testing.T) {
	for _, client := range []string{"atproto-api", "lex-password-session", "atcute"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			server, short := pdstest.Launch(t, ""), pdstest.Launch(t, "", shortTTL)
			proxy := newLossyProxy(t, server.Base)
			runScript(t, []string{"scenario.mjs", client}, []string{"SERVICE=" + proxy.URL, "SHORT=" + short.Base}, handlers{
				"sessions": func(who string) any { return sessionsOf(t, server, who) },
				"lose":     func(string) any { proxy.loseNext(); return nil },
				"lost":     func(string) any { return proxy.lost.Load() },
				"kill":     func(string) any { server.Kill(); return nil },
				"restart":  func(string) any { server.Restart(); return nil },
			})
			if t.Failed() {
				t.Logf("the server's log:\n%s", server.Log())
			}
		})
	}
}

// sessionsOf asks the running server as its operator does.
func sessionsOf(t *testing.T, server *pdstest.Process, who string) []admin.SessionLine {
	t.Helper()
	out, err := pdstest.Run(t, "", "session", "list", "--json", "--data", server.Dir, who)
	if err != nil {
		t.Fatal(err)
	}
	var list []admin.SessionLine
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return list
}

// lossyProxy is a proxy before a server that can lose the answer to a completed
// refresh, as a network does.
type lossyProxy struct {
	*httptest.Server

	armed atomic.Bool
	lost  atomic.Int64
}

var errLost = errors.New("the answer is lost")

func newLossyProxy(t *testing.T, target string) *lossyProxy {
	t.Helper()
	p := &lossyProxy{}
	p.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(mustParse(t, target)) },
		ModifyResponse: func(r *http.Response) error {
			if path.Base(r.Request.URL.Path) != "com.atproto.server.refreshSession" || !p.armed.CompareAndSwap(true, false) {
				return nil
			}
			_, err := io.Copy(io.Discard, r.Body)
			p.lost.Add(1)
			return errors.Join(errLost, err)
		},
		// Whatever went wrong: the client sees a connection that broke.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	t.Cleanup(p.Close)
	return p
}

func (p *lossyProxy) loseNext() { p.armed.Store(true) }
