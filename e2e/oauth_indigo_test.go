package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/auth/oauth"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/pdstest"
	"nestbox/oauth/client"
	"nestbox/store/storetest"
)

// publicHost is the name of the server in this test: indigo's client speaks to https hosts
// without a port only.
const publicHost = "pds.nestbox-test.net"

// toServer is the way to a server behind its public name, as a reverse proxy makes it.
type toServer struct{ listen string }

// RoundTrip implements http.RoundTripper.
func (s toServer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.URL.Scheme == "https" && r.URL.Host == publicHost {
		r.Host = publicHost
		r.URL.Scheme, r.URL.Host = "http", s.listen
	}
	return http.DefaultTransport.RoundTrip(r)
}

// launchNamed starts a server that is not in development, and returns it and its directory.
func launchNamed(t *testing.T, settings ...string) *pdstest.Process {
	t.Helper()
	plc := pdstest.Launch(t, "").Ready.PLC
	dir := pdstest.TempDir(t)
	server := pdstest.LaunchArgs(t, []string{"serve", "--listen", "127.0.0.1:0", "--data", dir}, append([]string{
		"PDS_HOSTNAME=" + publicHost, "PDS_DID_PLC_URL=" + plc, "PDS_EMAIL_SMTP_URL=none", "PDS_INVITE_REQUIRED=false", "PDS_RATE_LIMITS_ENABLED=false",
		"PDS_ADMIN_PASSWORD=" + pdstest.Password,
	}, settings...)...)
	server.Dir = dir
	t.Cleanup(func() {
		server.Stop()
		pdstest.Verify(t, dir)
	})
	server.Base, server.HTTP = "https://"+publicHost, &http.Client{Transport: toServer{server.Ready.Listen}}
	return server
}

// indigoApp is an app on indigo's client for one server, on this machine.
func indigoApp(server *pdstest.Process) (*oauth.ClientApp, *oauth.MemStore) {
	config := oauth.NewLocalhostConfig("http://127.0.0.1/callback", indigoScopes)
	return indigoAppOf(server, &config)
}

var indigoScopes = []string{"atproto", "transition:generic"}

// indigoConfidential is an app with a key of its own. A server that is not in development
// fetches documents from the internet alone, so this one has the document already.
func indigoConfidential(t *testing.T, server *pdstest.Process) (*oauth.ClientApp, *oauth.MemStore) {
	t.Helper()
	config := oauth.NewPublicConfig("https://app.nestbox-test.net/client.json", "https://app.nestbox-test.net/callback", indigoScopes)
	key, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	if err := config.SetClientSecret(key, "key-1"); err != nil {
		t.Fatal(err)
	}
	metadata, set := config.ClientMetadata(), config.PublicJWKS()
	metadata.JWKS = &set
	document, err := json.Marshal(metadata)
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	db := storetest.Open(t, storetest.Options{Dir: server.Dir})
	now := time.Now()
	kept := client.Kept{ID: config.ClientID, Document: document, Fetched: now, Fresh: now.Add(time.Hour)}
	if err := db.Clients.Keep(t.Context(), kept, nil, nil); err != nil {
		t.Fatal(err)
	}
	db.Close()
	server.Restart()
	return indigoAppOf(server, &config)
}

func indigoAppOf(server *pdstest.Process, config *oauth.ClientConfig) (*oauth.ClientApp, *oauth.MemStore) {
	store := oauth.NewMemStore()
	app := oauth.NewClientApp(config, store)
	app.Client, app.Resolver.Client = server.HTTP, server.HTTP
	app.Dir = &identity.BaseDirectory{PLCURL: server.Ready.PLC, SkipHandleVerification: true}
	return app, store
}

// TestOAuthIndigo is oauth.mjs for the Go client, against a server that is not in development
// and is reached by its public name. The client keeps a nonce until it is refused, and
// repeats once.
func TestOAuthIndigo(t *testing.T) {
	for _, name := range []string{"loopback", "confidential"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := launchNamed(t)
			app, store := indigoApp(server)
			if name == "confidential" {
				app, store = indigoConfidential(t, server)
			}
			tellIndigo(t, server, app, store)
		})
	}
}

func tellIndigo(t *testing.T, server *pdstest.Process, app *oauth.ClientApp, store *oauth.MemStore) {
	t.Helper()
	owner := newOwner(t, server, "alice")
	link, err := app.StartAuthFlow(t.Context(), owner.DID)
	if err != nil {
		t.Fatal(err)
	}
	p := person{identifier: owner.Handle, password: pdstest.Password, transport: toServer{server.Ready.Listen}}
	callback, err := url.Parse(p.mustAnswer(t, link))
	if err != nil {
		t.Fatal(err)
	}
	data, err := app.ProcessCallback(t.Context(), callback.Query())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(data.Scopes, " "); data.AccountDID.String() != owner.DID || got != "atproto transition:generic" {
		t.Errorf("%s got %q", data.AccountDID, got)
	}
	resume := func() *oauth.ClientSession {
		t.Helper()
		s, err := app.ResumeSession(t.Context(), data.AccountDID, data.SessionID)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	works := func(s *oauth.ClientSession) error {
		var out struct {
			DID syntax.DID `json:"did"`
		}
		return s.APIClient().Get(t.Context(), nsidGetSession, nil, &out)
	}
	session := resume()
	if err := works(session); err != nil {
		t.Errorf("call: %v", err)
	}
	for range 3 {
		if _, err := session.RefreshTokens(t.Context()); err != nil {
			t.Fatalf("refresh: %v", err)
		}
		if err := works(session); err != nil {
			t.Errorf("call after a refresh: %v", err)
		}
	}

	// Eight workers that know nothing of each other have the same tokens.
	var workers sync.WaitGroup
	for range 8 {
		s := resume()
		workers.Go(func() {
			if _, err := s.RefreshTokens(t.Context()); err != nil {
				t.Errorf("refresh of a worker: %v", err)
			}
			if err := works(s); err != nil {
				t.Errorf("call of a worker: %v", err)
			}
		})
	}
	workers.Wait()

	for _, end := range []func(){server.Stop, server.Kill} {
		end()
		server.Restart()
		s := resume()
		if err := works(s); err != nil {
			t.Errorf("call after a restart: %v", err)
		}
		if _, err := s.RefreshTokens(t.Context()); err != nil {
			t.Errorf("refresh after a restart: %v", err)
		}
	}

	last := resume()
	if err := app.Logout(t.Context(), data.AccountDID, data.SessionID); err != nil {
		t.Errorf("sign out: %v", err)
	}
	if _, err := store.GetSession(t.Context(), data.AccountDID, data.SessionID); err == nil {
		t.Error("the app keeps the session")
	}
	if err := works(last); err == nil {
		t.Error("the access token works after the sign-out")
	}
	if _, err := last.RefreshTokens(t.Context()); err == nil || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("refresh after the sign-out: %v", err)
	}
}
