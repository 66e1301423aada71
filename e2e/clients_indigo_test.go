package e2e

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atclient"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/pdstest"
)

const nsidGetSession = syntax.NSID("com.atproto.server.getSession")

// indigoTab is a client of indigo with the arguments of its refresh callback.
type indigoTab struct {
	*atclient.APIClient

	mu    sync.Mutex
	saved []atclient.PasswordSessionData
}

func (tab *indigoTab) save(_ context.Context, data atclient.PasswordSessionData) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.saved = append(tab.saved, data)
}

func (tab *indigoTab) refreshes() int {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return len(tab.saved)
}

// auth is the client's session.
func (tab *indigoTab) auth(t *testing.T) *atclient.PasswordAuth {
	t.Helper()
	auth, ok := tab.Auth.(*atclient.PasswordAuth)
	if !ok {
		t.Fatalf("the client has no password session but %T", tab.Auth)
	}
	return auth
}

func (tab *indigoTab) stored(t *testing.T) atclient.PasswordSessionData {
	t.Helper()
	access, refresh := tab.auth(t).GetTokens()
	return atclient.PasswordSessionData{AccessToken: access, RefreshToken: refresh, AccountDID: *tab.AccountDID, Host: tab.Host}
}

func (tab *indigoTab) refresh(t *testing.T) error {
	t.Helper()
	_, token := tab.auth(t).GetTokens()
	return tab.auth(t).Refresh(t.Context(), tab.Client, token)
}

func (tab *indigoTab) getSession(t *testing.T) error {
	t.Helper()
	return tab.Get(t.Context(), nsidGetSession, nil, nil)
}

// mustGetSession fails the test unless the client is signed in.
func (tab *indigoTab) mustGetSession(t *testing.T) {
	t.Helper()
	if err := tab.getSession(t); err != nil {
		t.Errorf("getSession: %v", err)
	}
}

// indigoLogin finds the account's server in the PLC directory, as goat does.
func indigoLogin(t *testing.T, server *pdstest.Process, did, password string) *indigoTab {
	t.Helper()
	tab := &indigoTab{}
	dir := &identity.BaseDirectory{PLCURL: server.Ready.PLC, SkipHandleVerification: true}
	c, err := atclient.LoginWithPassword(t.Context(), dir, syntax.DID(did).AtIdentifier(), password, "", tab.save)
	if err != nil {
		t.Fatal(err)
	}
	tab.APIClient = c
	return tab
}

func indigoResume(data atclient.PasswordSessionData) *indigoTab {
	tab := &indigoTab{}
	tab.APIClient = atclient.ResumePasswordSession(data, tab.save)
	return tab
}

// wantAPIError fails the test unless err is the server's answer of that kind.
func wantAPIError(t *testing.T, err error, status int, name string) {
	t.Helper()
	var api *atclient.APIError
	if !errors.As(err, &api) || api.StatusCode != status || api.Name != name {
		t.Errorf("got %v, want %d %s", err, status, name)
	}
}

// TestClientsIndigo is scenario.mjs for the Go client. It never drops a session
// by itself, and refreshes only on an expired access token.
func TestClientsIndigo(t *testing.T) {
	t.Parallel()
	server, short := pdstest.Launch(t, ""), pdstest.Launch(t, "", shortTTL)

	t.Run("sign in", func(t *testing.T) {
		owner := server.SignUp(t, "alice")
		indigoLogin(t, server, owner.DID, pdstest.Password).mustGetSession(t)
		for _, identifier := range []string{"alice.test", "alice@example.com"} {
			c, err := atclient.LoginWithPasswordHost(t.Context(), server.Base, identifier, pdstest.Password, "", nil)
			if err != nil || c.AccountDID.String() != owner.DID {
				t.Errorf("%s: %+v, %v", identifier, c, err)
			}
		}
		_, err := atclient.LoginWithPasswordHost(t.Context(), server.Base, "alice.test", "wrong", "", nil)
		wantAPIError(t, err, http.StatusUnauthorized, "AuthenticationRequired")
	})

	t.Run("eight tabs", func(t *testing.T) {
		owner := server.SignUp(t, "bob")
		data := atclient.PasswordSessionData{AccessToken: owner.AccessJwt, RefreshToken: owner.RefreshJwt, AccountDID: syntax.DID(owner.DID), Host: server.Base}
		var refreshing sync.WaitGroup
		tabs := make([]*indigoTab, 8)
		for i := range tabs {
			tabs[i] = indigoResume(data)
			refreshing.Go(func() {
				if err := tabs[i].refresh(t); err != nil {
					t.Errorf("refresh: %v", err)
				}
			})
		}
		refreshing.Wait()
		for _, tab := range tabs {
			tab.mustGetSession(t)
			if n := generation(t, tab.stored(t).RefreshToken); n != 1 {
				t.Errorf("a tab is at generation %d", n)
			}
		}
		if list := sessionsOf(t, server, owner.DID); len(list) != 1 || list[0].Refreshes != 1 {
			t.Errorf("sessions: %+v", list)
		}
	})

	t.Run("lost answer", func(t *testing.T) {
		proxy := newLossyProxy(t, server.Base)
		owner := server.SignUp(t, "carol")
		tab := indigoResume(atclient.PasswordSessionData{AccessToken: owner.AccessJwt, RefreshToken: owner.RefreshJwt, AccountDID: syntax.DID(owner.DID), Host: proxy.URL})
		proxy.loseNext()
		if err := tab.refresh(t); err == nil || proxy.lost.Load() != 1 {
			t.Errorf("refresh: %v with %d lost answers", err, proxy.lost.Load())
		}
		if err := tab.refresh(t); err != nil {
			t.Errorf("refresh after a lost answer: %v", err)
		}
		tab.mustGetSession(t)
		if list := sessionsOf(t, server, owner.DID); len(list) != 1 || list[0].Refreshes != 1 {
			t.Errorf("sessions: %+v", list)
		}
	})

	t.Run("refresh on expiry", func(t *testing.T) {
		tab := indigoLogin(t, short, short.SignUp(t, "dave").DID, pdstest.Password)
		<-time.After(3100 * time.Millisecond) // the token's own life, shortTTL
		tab.mustGetSession(t)
		if n := tab.refreshes(); n != 1 {
			t.Errorf("the callback was called %d times", n)
		}
	})

	t.Run("app password", func(t *testing.T) {
		owner := server.SignUp(t, "erin")
		tab := indigoLogin(t, server, owner.DID, newAppPassword(t, server.Client, owner))
		tab.mustGetSession(t)
		err := tab.Post(t.Context(), "com.atproto.server.createAppPassword", map[string]string{"name": "another"}, nil)
		wantAPIError(t, err, http.StatusBadRequest, "InvalidToken")
		a := server.Do(t, pdstest.Request{NSID: "com.atproto.server.revokeAppPassword", Auth: pdstest.Bearer(owner.AccessJwt), Body: map[string]string{"name": "load"}})
		if a.Status != http.StatusOK {
			t.Fatalf("revoke: %d %s", a.Status, a.Body)
		}
		wantAPIError(t, tab.getSession(t), http.StatusBadRequest, "ExpiredToken")
	})

	t.Run("taken down while signed in", func(t *testing.T) {
		owner := server.SignUp(t, "frank")
		tab := indigoLogin(t, server, owner.DID, pdstest.Password)
		operator := atclient.NewAdminClient(server.Base, "admin")
		for _, applied := range []bool{true, false} {
			err := operator.Post(t.Context(), "com.atproto.admin.updateSubjectStatus", map[string]any{
				"subject": map[string]string{"$type": "com.atproto.admin.defs#repoRef", "did": owner.DID}, "takedown": map[string]bool{"applied": applied},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if applied {
				wantAPIError(t, tab.getSession(t), http.StatusUnauthorized, "AccountTakedown")
				wantAPIError(t, tab.refresh(t), http.StatusUnauthorized, "AccountTakedown")
			}
		}
		wantAPIError(t, tab.getSession(t), http.StatusBadRequest, "ExpiredToken") // a takedown ends sessions for good
		indigoLogin(t, server, owner.DID, pdstest.Password).mustGetSession(t)
	})

	t.Run("server restarted in the middle", func(t *testing.T) {
		tab := indigoLogin(t, server, server.SignUp(t, "grace").DID, pdstest.Password)
		server.Kill()
		if err := tab.refresh(t); err == nil {
			t.Error("a killed server answered")
		}
		server.Restart()
		tab.mustGetSession(t)
		if err := tab.refresh(t); err != nil {
			t.Errorf("refresh: %v", err)
		}
		tab.mustGetSession(t)
	})

	t.Run("sign out", func(t *testing.T) {
		owner := server.SignUp(t, "heidi")
		tab := indigoLogin(t, server, owner.DID, pdstest.Password)
		if err := tab.auth(t).Logout(t.Context(), tab.Client); err != nil {
			t.Fatal(err)
		}
		last := tab.stored(t)
		server.GetSession(t, last.AccessToken).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has expired")
		server.Refresh(t, last.RefreshToken).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
		if list := sessionsOf(t, server, owner.DID); len(list) != 1 {
			t.Errorf("sessions: %+v", list)
		}
	})
}
