package oauth_test

import (
	"errors"
	"testing"
	"time"

	"nestbox/auth"
	"nestbox/session"
)

// TestFamilies: even a token of the other family that names an OAuth session, which nobody can
// make without the keyring, does nothing with it.
func TestFamilies(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	got := w.app(publicID).granted()
	grant, err := w.Keyring.VerifyOAuthRefresh(got.text("refresh_token"), issuer, w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	legacy := auth.Token{Scope: auth.ScopeRefresh, DID: grant.DID, SID: grant.SID, JTI: grant.JTI, IssuedAt: grant.IssuedAt, Expires: grant.Expires}
	if st, err := w.Sessions.Standing(t.Context(), legacy); err != nil || st.Live {
		t.Errorf("it is live as a session of a password: %+v, %v", st, err)
	}
	if _, err := w.Sessions.Refresh(t.Context(), legacy); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("refreshSession: %v", err)
	}
	if err := w.Sessions.SignOut(t.Context(), legacy); err != nil || !w.live(got.text("access_token")) {
		t.Errorf("deleteSession: %v", err)
	}
	// And the reverse.
	pair, err := w.Sessions.OpenFirst(t.Context(), w.alice)
	if err != nil {
		t.Fatal(err)
	}
	old, err := w.Keyring.VerifyRefresh(pair.Refresh, audience, w.clock.Now(), false)
	if err != nil {
		t.Fatal(err)
	}
	token := auth.OAuthToken{DID: old.DID, ClientID: publicID, SID: old.SID, JTI: old.JTI, Expires: w.clock.Now().Add(time.Hour)}
	if g, err := w.Sessions.Granted(t.Context(), token); err != nil || g.Live {
		t.Errorf("it is live as a grant: %+v, %v", g, err)
	}
	if _, _, err := w.Sessions.FindGrant(t.Context(), token); !errors.Is(err, session.ErrUnknown) {
		t.Errorf("a refresh as a grant: %v", err)
	}
	if err := w.Sessions.SignOutGrant(t.Context(), token, publicID); err != nil {
		t.Error(err)
	}
	if n := w.liveSessions(); n != 2 {
		t.Errorf("%d sessions, want both", n)
	}
	if got := w.app(publicID).refresh(pair.Refresh); got.String() != "400 invalid_grant: Invalid refresh token" {
		t.Errorf("a refresh token of a password at the token endpoint: %s", got)
	}
}
