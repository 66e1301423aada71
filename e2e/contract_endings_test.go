package e2e

import (
	"net/http"
	"testing"

	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// household is an account with a session of each kind.
type household struct {
	owner, second, app, otherApp pdstest.Session
	appPassword                  string
}

func newHousehold(t *testing.T, s subject, name string) household {
	t.Helper()
	h := household{owner: s.SignUp(t, name)}
	h.second = s.SignIn(t, name+".test", pdstest.Password)
	h.appPassword = s.appPassword(t, h.owner.AccessJwt, "app", false)
	h.app = s.SignIn(t, name+".test", h.appPassword)
	h.otherApp = s.SignIn(t, name+".test", s.appPassword(t, h.owner.AccessJwt, "other", false))
	return h
}

// TestContractEndings shows the table of what ends sessions. The access tokens
// are checked right after the answer: at once, not within a second.
func TestContractEndings(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		bystander := s.SignUp(t, "bystander")
		t.Run("deleteSession", func(t *testing.T) {
			h := newHousehold(t, s, "deleter")
			next := s.MustRefresh(t, h.second.RefreshJwt)
			newest := s.MustRefresh(t, next.RefreshJwt)
			// Any generation ends all of them.
			wantEmpty(t, s.post(t, deleteSession, h.second.RefreshJwt))
			for _, gone := range []pdstest.Session{h.second, next, newest} {
				s.wantEnded(t, gone)
			}
			s.wantLive(t, h.owner)
			s.wantLive(t, h.app)
		})
		t.Run("revoke in the list", func(t *testing.T) {
			h := newHousehold(t, s, "lister")
			var list []admin.SessionLine
			s.command(t, "session.list", map[string]string{"account": "lister.test"}, &list)
			if len(list) != 4 || list[0].AppPassword != "other" || list[1].AppPassword != "app" || list[2].AppPassword != "" {
				t.Fatalf("%+v", list)
			}
			s.command(t, "session.revoke", map[string]any{"account": "lister.test", "id": list[1].ID}, nil)
			s.wantEnded(t, h.app)
			s.wantLive(t, h.otherApp)
			s.wantLive(t, h.owner)
			s.SignIn(t, "lister.test", h.appPassword)
		})
		t.Run("revokeAppPassword", func(t *testing.T) {
			h := newHousehold(t, s, "revoker")
			a := s.Do(t, pdstest.Request{
				NSID: "com.atproto.server.revokeAppPassword", Auth: pdstest.Bearer(h.owner.AccessJwt), Body: map[string]string{"name": "app"},
			})
			wantStatus(t, a, http.StatusOK)
			s.wantEnded(t, h.app)
			s.wantLive(t, h.otherApp)
			s.wantLive(t, h.owner)
			s.wantLive(t, h.second)
			wrongPassword.want(t, s.signIn(t, map[string]string{"identifier": "revoker.test", "password": h.appPassword}))
		})
		t.Run("password change", func(t *testing.T) {
			h := newHousehold(t, s, "changer")
			s.admin(t, "com.atproto.admin.updateAccountPassword", map[string]string{"did": h.owner.DID, "password": "another-password"})
			for _, gone := range []pdstest.Session{h.owner, h.second, h.app, h.otherApp} {
				s.wantEnded(t, gone)
			}
			wrongPassword.want(t, s.signIn(t, map[string]string{"identifier": "changer.test", "password": pdstest.Password}))
			s.SignIn(t, "changer.test", "another-password")
			s.SignIn(t, "changer.test", h.appPassword) // the app passwords themselves stay
		})
		t.Run("signout", func(t *testing.T) {
			h := newHousehold(t, s, "leaver")
			var ended admin.Ended
			s.command(t, "account.signout", map[string]any{"account": "leaver.test"}, &ended)
			if ended.Sessions != 4 {
				t.Errorf("%d sessions", ended.Sessions)
			}
			for _, gone := range []pdstest.Session{h.owner, h.second, h.app, h.otherApp} {
				s.wantEnded(t, gone)
			}
			again := s.SignIn(t, "leaver.test", h.appPassword)
			s.command(t, "account.signout", map[string]any{"account": "leaver.test", "appPasswords": true}, &ended)
			s.wantEnded(t, again)
			wrongPassword.want(t, s.signIn(t, map[string]string{"identifier": "leaver.test", "password": h.appPassword}))
		})
		t.Run("takedown", func(t *testing.T) {
			h := newHousehold(t, s, "culprit")
			s.takedown(t, h.owner.DID, true)
			s.takedown(t, h.owner.DID, false)
			for _, gone := range []pdstest.Session{h.owner, h.second, h.app, h.otherApp} {
				s.wantEnded(t, gone)
			}
		})
		t.Run("deletion", func(t *testing.T) {
			h := newHousehold(t, s, "goner")
			s.admin(t, "com.atproto.admin.deleteAccount", map[string]string{"did": h.owner.DID})
			for _, gone := range []pdstest.Session{h.owner, h.second, h.app, h.otherApp} {
				s.wantEnded(t, gone)
				wantEmpty(t, s.post(t, deleteSession, gone.RefreshJwt))
			}
		})
		t.Run("deactivation", func(t *testing.T) {
			h := newHousehold(t, s, "sleeper")
			a := s.Do(t, pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Auth: pdstest.Bearer(h.owner.AccessJwt), Body: "{}"})
			wantStatus(t, a, http.StatusOK)
			for _, lives := range []pdstest.Session{h.owner, h.second, h.app, h.otherApp} {
				s.wantLive(t, lives)
			}
		})
		s.wantLive(t, bystander)
	})
}

// TestContractCap: live sessions are capped per account, the longest unused go.
func TestContractCap(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		first := s.SignUp(t, "alice")
		second := s.SignIn(t, "alice.test", pdstest.Password)
		third := s.SignIn(t, "alice.test", pdstest.Password)
		first = s.MustRefresh(t, first.RefreshJwt) // used later than the second
		fourth := s.SignIn(t, "alice.test", pdstest.Password)
		s.wantEnded(t, second)
		for _, lives := range []pdstest.Session{first, third, fourth} {
			s.wantLive(t, lives)
		}
	}, "PDS_SESSION_LIMIT=3")
}

// TestContractRestart: ended sessions stay ended, live ones go on.
func TestContractRestart(t *testing.T) {
	dir := pdstest.TempDir(t)
	first := pdstest.Launch(t, dir)
	s := subject{first.Client, dir}
	lives, ended := s.SignUp(t, "alice"), s.SignIn(t, "alice.test", pdstest.Password)
	wantEmpty(t, s.post(t, deleteSession, ended.RefreshJwt))
	first.Stop()
	second := pdstest.Launch(t, dir)
	s = subject{second.Client, dir}
	s.wantEnded(t, ended)
	s.wantLive(t, lives)
}
