package oauth_test

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"nestbox/auth"
	"nestbox/takeover"
)

// oldGrants are what a take-over reads, all of one account.
type oldGrants struct {
	did     string
	tokens  []takeover.OAuthToken
	allowed []takeover.Allowed
}

func (o oldGrants) RefreshTokens(context.Context, func(string, []takeover.RefreshToken) error) error {
	return nil
}

func (o oldGrants) Grants(_ context.Context, yield func(string, []takeover.OAuthToken, []takeover.Allowed) error) error {
	return yield(o.did, o.tokens, o.allowed)
}

func oldRefresh(n int) string { return fmt.Sprintf("ref-%064x", n) }

// oldToken is a row of the reference's table token for an app: it was refreshed twice, last
// an hour ago.
func (a *app) oldToken(scope string) takeover.OAuthToken {
	a.t.Helper()
	by := map[string]any{"method": "none"}
	if a.key != nil {
		by = map[string]any{"method": "private_key_jwt", "alg": "ES256", "kid": a.kid, "jkt": longThumbprint(a.key.JWK()), "jti": "x", "exp": 1}
	}
	encode := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			a.t.Fatal(err)
		}
		return text
	}
	now := a.clock.Now()
	return takeover.OAuthToken{
		ID: "tok-" + strings.Repeat("a", 32), Refresh: oldRefresh(3), Used: []string{oldRefresh(1), oldRefresh(2)},
		Created: now.Add(-3 * day), Updated: now.Add(-time.Hour), Expires: now, ClientID: a.id, DeviceID: "dev-1",
		Auth: encode(by), Parameters: encode(map[string]any{"scope": scope, "dpop_jkt": a.dpop.Thumbprint(), "client_id": a.id}),
		Scope: scope,
	}
}

// longThumbprint is that of RFC 7638 with SHA-512, as the reference has it.
func longThumbprint(jwk map[string]any) string {
	members, err := json.Marshal(map[string]any{"crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"], "y": jwk["y"]}) // in order
	if err != nil {
		panic(err)
	}
	sum := sha512.Sum512(members)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// bring takes a grant over.
func (w *world) bring(tokens ...takeover.OAuthToken) takeover.GrantCounts {
	w.t.Helper()
	src := oldGrants{did: w.alice.DID.String(), tokens: tokens}
	if _, err := takeover.BringSessions(w.t.Context(), src, w.World.Legacy, w.clock.Now()); err != nil {
		w.t.Fatal(err)
	}
	if left, err := w.World.Legacy.GrantsLeft(w.t.Context()); err != nil || left {
		w.t.Errorf("grants of another server, before they come: %t, %v", left, err)
	}
	counts, err := takeover.BringGrants(w.t.Context(), src, w.World.Legacy, takeover.GrantRules{Trusted: []string{trustedID}}, w.clock.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return counts
}

// TestInheritedRefresh: a client of the old server refreshes with what it has, its newest
// token, one whose answer it lost, or one that another worker has used, and goes on with ours.
func TestInheritedRefresh(t *testing.T) {
	t.Parallel()
	for _, id := range []string{publicID, confidentialID, trustedID, loopbackID} {
		w := newTestWorld(t)
		w.Limits = nil
		a := w.app(id)
		const scope = "atproto repo:com.example.post"
		if counts := w.bring(a.oldToken(scope)); counts != (takeover.GrantCounts{Sessions: 1, Tokens: 4}) {
			t.Fatalf("%s: %+v", id, counts)
		}
		if left, err := w.World.Legacy.GrantsLeft(t.Context()); err != nil || !left {
			t.Errorf("%s: grants left: %t, %v", id, left, err)
		}
		lost := a.refresh(oldRefresh(2)) // its answer was the newest
		next := a.refresh(oldRefresh(3))
		again := a.refresh(oldRefresh(3))
		early := a.refresh(oldRefresh(1))
		for what, got := range map[string]answer{"lost": lost, "next": next, "again": again, "early": early} {
			if got.Status != 200 || got.text("scope") != scope || got.text("sub") != w.alice.DID.String() {
				t.Fatalf("%s, %s: %s %v", id, what, got, got.Body)
			}
			if !w.live(got.text("access_token")) {
				t.Errorf("%s, %s: the access token is dead", id, what)
			}
		}
		if got := a.refresh(next.text("refresh_token")); got.Status != 200 {
			t.Errorf("%s: ours: %s", id, got)
		}
		if n := w.liveSessions(); n != 1 {
			t.Errorf("%s: %d sessions", id, n)
		}
		if got := a.refresh(oldRefresh(9)); got.String() != "400 invalid_grant: Invalid refresh token" {
			t.Errorf("%s: one that nobody issued: %s", id, got)
		}
	}
}

// TestInheritedBinding: a grant is bound to the client, its key and its DPoP key, as it was.
func TestInheritedBinding(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.Limits = nil
	a := w.app(confidentialID)
	good := a.oldToken("atproto")
	theft := "400 invalid_grant: Refresh token does not match the client or its key"
	w.bring(good)
	if got := w.app(confidentialID).refresh(oldRefresh(3)); got.String() != theft { // another DPoP key
		t.Errorf("another DPoP key: %s", got)
	}
	if got := w.app(publicID).refresh(oldRefresh(3)); got.String() != theft {
		t.Errorf("another client: %s", got)
	}
	other := good
	other.Auth = []byte(strings.ReplaceAll(string(good.Auth), longThumbprint(a.key.JWK())[:8], "AAAAAAAA"))
	w.bring(other)
	if got := a.refresh(oldRefresh(3)); got.String() != theft {
		t.Errorf("another client key: %s", got)
	}
	old := good
	old.Auth = []byte(strings.Replace(string(good.Auth), "private_key_jwt", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", 1))
	w.bring(old)
	if got := a.refresh(oldRefresh(3)); got.Status != 200 {
		t.Errorf("as an older version names it: %s", got)
	}
}

// TestInheritedLives: a grant ends when it would have ended there.
func TestInheritedLives(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id       string
		made     time.Duration // ago
		used     time.Duration
		wait     time.Duration
		sessions int
		want     int
	}{
		{publicID, 13 * day, day, 12 * time.Hour, 1, 200},
		{publicID, 13 * day, day, 25 * time.Hour, 1, 400},
		{publicID, 15 * day, day, 0, 0, 400},
		{confidentialID, 700 * day, 80 * day, day, 1, 200},
		{confidentialID, 700 * day, 80 * day, 12 * day, 1, 400},
		{confidentialID, 700 * day, 92 * day, 0, 0, 400},
		{trustedID, 100 * day, 20 * day, 0, 1, 200},
	} {
		w := newTestWorld(t)
		a := w.app(c.id)
		row := a.oldToken("atproto")
		row.Created, row.Updated = w.clock.Now().Add(-c.made), w.clock.Now().Add(-c.used)
		counts := w.bring(row)
		w.clock.Advance(c.wait)
		if got := a.refresh(oldRefresh(3)); counts.Sessions != c.sessions || got.Status != c.want {
			t.Errorf("%+v: %+v, %s", c, counts, got)
		}
	}
}

// TestInheritedDamaged: what cannot be read is counted, and the client signs in again.
func TestInheritedDamaged(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	good := w.app(publicID).oldToken("atproto")
	for name, damage := range map[string]func(*takeover.OAuthToken){
		"no JSON":       func(r *takeover.OAuthToken) { r.Auth = []byte("{") },
		"no method":     func(r *takeover.OAuthToken) { r.Auth = []byte("null") },
		"another way":   func(r *takeover.OAuthToken) { r.Auth = []byte(`{"method":"client_secret"}`) },
		"no key":        func(r *takeover.OAuthToken) { r.Auth = []byte(`{"method":"private_key_jwt","alg":"ES256","kid":"k"}`) },
		"no DPoP key":   func(r *takeover.OAuthToken) { r.Parameters = []byte(`{"scope":"atproto"}`) },
		"no parameters": func(r *takeover.OAuthToken) { r.Parameters = nil },
		"no scope":      func(r *takeover.OAuthToken) { r.Scope = "repo:*" },
		"no client":     func(r *takeover.OAuthToken) { r.ClientID = "" },
		"no time":       func(r *takeover.OAuthToken) { r.Created = time.Time{} },
	} {
		row := good
		damage(&row)
		if counts := w.bring(row); counts != (takeover.GrantCounts{Damaged: 1}) || w.liveSessions() != 0 {
			t.Errorf("%s: %+v", name, counts)
		}
	}
}

// TestInheritedEnds: revoking by either of the old server's tokens ends the session, and with
// it all that the old server issued.
func TestInheritedEnds(t *testing.T) {
	t.Parallel()
	for _, token := range []string{oldRefresh(3), oldRefresh(1), "ours"} {
		w := newTestWorld(t)
		a := w.app(publicID)
		row := a.oldToken("atproto")
		w.bring(row)
		access := auth.OAuthToken{DID: w.alice.DID, ClientID: publicID, JTI: row.ID, JKT: a.dpop.Thumbprint()}
		granted := func() bool {
			g, err := w.Sessions.Granted(t.Context(), access)
			if err != nil {
				t.Fatal(err)
			}
			return g.Live && g.JKT == access.JKT && g.ClientID == publicID
		}
		if !granted() {
			t.Fatal("the old server's access token is dead")
		}
		other := access
		other.ClientID = trustedID
		if g, err := w.Sessions.Granted(t.Context(), other); err != nil || g.Live {
			t.Errorf("another client's: %+v, %v", g, err)
		}
		if token == "ours" {
			token = a.refresh(oldRefresh(3)).text("access_token")
			if !granted() {
				t.Error("a refresh ended the old access token: other tabs still use it")
			}
		}
		if got := w.app(trustedID).revoke(token); got.Status != 200 || !granted() {
			t.Errorf("another client revokes: %s", got)
		}
		if got := a.revoke(token); got.Status != 200 || granted() || w.liveSessions() != 0 {
			t.Errorf("revoke %q: %s", token, got)
		}
		if got := a.refresh(oldRefresh(3)); got.String() != "400 invalid_grant: Invalid refresh token" {
			t.Errorf("afterwards: %s", got)
		}
	}
}

// TestInheritedConsent: what people allowed there they are not asked for again.
func TestInheritedConsent(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	src := oldGrants{did: w.alice.DID.String(), allowed: []takeover.Allowed{
		{ClientID: confidentialID, Updated: w.clock.Now().Add(-400 * day), Data: []byte(`{"authorizedScopes":["atproto","repo:com.example.post"]}`)},
		{ClientID: loopbackID, Updated: w.clock.Now(), Data: []byte(`{"authorizedScopes":["atproto"]}`)},
		{ClientID: publicID, Updated: w.clock.Now(), Data: []byte(`{"authorizedScopes":[]}`)},
		{ClientID: trustedID, Updated: w.clock.Now(), Data: []byte(`[`)},
	}}
	counts, err := takeover.BringGrants(t.Context(), src, w.World.Legacy, takeover.GrantRules{}, w.clock.Now())
	if err != nil || counts != (takeover.GrantCounts{Consents: 1}) {
		t.Fatalf("%+v, %v", counts, err)
	}
	k, err := w.World.OAuth.Consent(t.Context(), w.alice.ID, confidentialID)
	if err != nil || k == nil || k.Scopes != "atproto repo:com.example.post" || !k.UsedAt.Equal(w.clock.Now()) {
		t.Errorf("%+v, %v", k, err)
	}
	if all, err := w.World.OAuth.Consents(t.Context(), w.alice.ID); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}
