package oauth_test

import (
	"net/http"
	"testing"

	"nestbox/account"
	"nestbox/oauth/scope"
)

// TestTake: a permission that its owner takes back is gone at once, the session lives on,
// the next refresh names what is left, and the consent has forgotten it.
func TestTake(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.Limits = nil
	a := w.app(confidentialID)
	got := a.granted("scope", "atproto repo:com.example.post repo:com.example.like include:app.bsky.authCreatePosts")
	may := func(token, collection string) bool {
		t.Helper()
		access, err := w.Keyring.VerifyOAuthAccess(token, issuer, audience, w.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		g, err := w.Sessions.Granted(t.Context(), access)
		if err != nil || !g.Live {
			t.Fatalf("live %t, %v", g.Live, err)
		}
		return g.Scope.Allows(scope.NeedRepo(collection, scope.Create))
	}
	take := func(permission string) {
		t.Helper()
		if err := w.Take(t.Context(), w.alice, confidentialID, permission); err != nil {
			t.Fatal(err)
		}
	}
	access := got.text("access_token")
	for _, c := range []struct {
		take             string
		post, like, bsky bool
		consent          string
	}{
		{"", true, true, true, "atproto include:app.bsky.authCreatePosts repo:com.example.like repo:com.example.post"},
		{"repo?collection=com.example.post", false, true, true, "atproto include:app.bsky.authCreatePosts repo:com.example.like"},
		{"repo:com.example.post", false, true, true, "atproto include:app.bsky.authCreatePosts repo:com.example.like"}, // again
		{"atproto", false, true, true, "atproto include:app.bsky.authCreatePosts repo:com.example.like"},               // cannot be taken
		{"include:app.bsky.authCreatePosts", false, true, false, "atproto repo:com.example.like"},
	} {
		if c.take != "" {
			take(c.take)
		}
		check := func(when, token string) {
			t.Helper()
			if post, like, bsky := may(token, "com.example.post"), may(token, "com.example.like"), may(token, "app.bsky.feed.post"); post != c.post || like != c.like || bsky != c.bsky {
				t.Errorf("without %q, %s: post %t, like %t, bsky %t", c.take, when, post, like, bsky)
			}
		}
		check("at once", access)
		got = a.refresh(got.text("refresh_token"))
		if got.Status != http.StatusOK {
			t.Fatalf("without %q the session does not live on: %s", c.take, got)
		}
		access = got.text("access_token")
		check("after a refresh", access)
		answered := scope.Parse(got.text("scope"))
		if answered.Allows(scope.NeedRepo("com.example.post", scope.Create)) != c.post || answered.Allows(scope.NeedRepo("app.bsky.feed.post", scope.Create)) != c.bsky {
			t.Errorf("without %q the refresh names %q", c.take, got.text("scope"))
		}
		k, err := w.World.OAuth.Consent(t.Context(), w.alice.ID, confidentialID)
		if err != nil || k == nil || k.Scopes != c.consent {
			t.Errorf("without %q: consent %+v, %v", c.take, k, err)
		}
	}
	if n := w.trail(account.EntryPermissionTaken); n != 2 {
		t.Errorf("%d entries on the trail, want 2", n)
	}
}
