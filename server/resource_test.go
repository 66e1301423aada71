package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"nestbox/admin"
	"nestbox/internal/pdstest"
	"nestbox/oauth/oauthtest"
	"nestbox/store/storetest"
)

// TestResourceServer: the rows of the contract's table "Resource server", and that every
// answer to a request that speaks of DPoP gives the next nonce.
func TestResourceServer(t *testing.T) {
	clock := storetest.NewClock(time.Now())
	s := pdstest.Start(t, pdstest.Options{Now: clock.Now})
	alice := s.SignUp(t, "alice")
	g := &grantee{InProcess: s, t: t, did: alice.DID, key: oauthtest.NewSigner("ES256")}
	token := g.token("atproto transition:email")
	const nsid = "com.atproto.server.getSession"
	url, other := s.URL+"/xrpc/"+nsid, oauthtest.NewSigner("ES256")
	good := func() string { return g.key.Proof("GET", url, s.Proofs().Nonce(), token) }
	used := good()
	proofs := func(p ...string) http.Header { return http.Header{"Dpop": p} }
	const challenge = `DPoP algs="ES256", error="`
	for _, c := range []struct {
		name, auth  string
		header      http.Header
		status      int
		error, text string
	}{
		{"good", "DPoP " + token, proofs(used), 200, "", ""},
		{"the scheme in another case", "dpop " + token, proofs(good()), 200, "", ""},
		{"no proof", "DPoP " + token, nil, 401, "invalid_dpop_proof", "DPoP proof required"},
		{"two proofs", "DPoP " + token, proofs(good(), good()), 401, "invalid_dpop_proof", ""},
		{"no JWT", "DPoP " + token, proofs("x"), 401, "invalid_dpop_proof", ""},
		{"replayed", "DPoP " + token, proofs(used), 401, "invalid_dpop_proof", "DPoP proof replayed"},
		{"another method", "DPoP " + token, proofs(g.key.Proof("POST", url, s.Proofs().Nonce(), token)), 401, "invalid_dpop_proof", "DPoP htm mismatch"},
		{"another token's", "DPoP " + token, proofs(g.key.Proof("GET", url, s.Proofs().Nonce(), "x")), 401, "invalid_dpop_proof", "DPoP ath mismatch"},
		{"no nonce", "DPoP " + token, proofs(g.key.Proof("GET", url, "", token)), 401, "use_dpop_nonce", "Resource server requires nonce in DPoP proof"},
		{"a foreign nonce", "DPoP " + token, proofs(g.key.Proof("GET", url, "abc", token)), 401, "use_dpop_nonce", ""},
		{"another key", "DPoP " + token, proofs(other.Proof("GET", url, s.Proofs().Nonce(), token)), 401, "invalid_token", "Invalid DPoP key binding"},
		{"no token of ours", "DPoP x.y.z", proofs(g.key.Proof("GET", url, s.Proofs().Nonce(), "x.y.z")), 401, "invalid_token", "Invalid token"},
		{"a legacy token", "DPoP " + alice.AccessJwt, proofs(g.key.Proof("GET", url, s.Proofs().Nonce(), alice.AccessJwt)), 401, "invalid_token", "Invalid token"},
		{"as Bearer", "Bearer " + token, nil, 400, "InvalidToken", "Token could not be verified"},
		{"no token", "DPoP", proofs(good()), 400, "InvalidToken", ""},
		{"a proof beside a legacy token", "Bearer " + alice.AccessJwt, proofs(good()), 200, "", ""},
	} {
		a := s.Do(t, pdstest.Request{NSID: nsid, Auth: c.auth, Header: c.header})
		if a.Status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, a.Status, a.Body, c.status)
			continue
		}
		speaks := len(c.header) > 0 || strings.HasPrefix(strings.ToLower(c.auth), "dpop ")
		if got := a.Header.Get("Dpop-Nonce"); speaks != (got != "") {
			t.Errorf("%s: the nonce is %q", c.name, got)
		}
		if c.error == "" {
			continue
		}
		name, message := a.Error(t)
		if name != c.error || c.text != "" && message != c.text {
			t.Errorf("%s: %s: %s, want %s: %s", c.name, name, message, c.error, c.text)
		}
		want := ""
		if c.status == http.StatusUnauthorized {
			want = challenge + c.error + `"`
		}
		if got := a.Header.Get("Www-Authenticate"); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: challenge %q, want %q", c.name, got, want)
		}
	}
	a := s.Do(t, pdstest.Request{NSID: "com.example.not.here", Header: proofs("x")})
	if a.Header.Get("Dpop-Nonce") == "" || !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "DPoP-Nonce") {
		t.Errorf("a refusal without a nonce that pages can read: %v", a.Header)
	}

	g.email(nsid, "atproto transition:email", true)
	g.email(nsid, "atproto account:email", true)
	g.email(nsid, "atproto transition:generic", false)

	clock.Advance(25*time.Minute + time.Hour)
	a = s.Do(t, pdstest.Request{NSID: nsid, Auth: "DPoP " + token, Header: proofs(good())})
	a.WantError(t, http.StatusUnauthorized, "invalid_token", "Token has expired")
}

// email checks whether getSession shows the address with a scope.
func (g *grantee) email(nsid, scope string, shown bool) {
	g.t.Helper()
	var out map[string]any
	g.call(scope, nsid).Decode(g.t, &out)
	_, email := out["email"]
	_, confirmed := out["emailConfirmed"]
	_, factor := out["emailAuthFactor"]
	if email != shown || confirmed != shown || factor != shown || out["did"] != g.did {
		g.t.Errorf("with %q: %v", scope, out)
	}
}

// TestEndedGrant: what ends a session ends its access tokens at once, and a takedown is
// reported as such.
func TestEndedGrant(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	const nsid = "com.atproto.server.checkAccountStatus"
	for _, c := range []struct {
		name  string
		end   func(did string) error
		error string
	}{
		{"revoked", func(did string) error {
			return s.Run(t.Context(), "account.signout", admin.SignOutArgs{Account: did}, &admin.Ended{})
		}, "invalid_token"},
		{"takedown", func(did string) error {
			var line admin.AccountLine
			return s.Run(t.Context(), "account.takedown", admin.TakedownArgs{Account: did}, &line)
		}, "AccountTakedown"},
	} {
		alice := s.SignUp(t, c.name)
		g := &grantee{InProcess: s, t: t, did: alice.DID, key: oauthtest.NewSigner("ES256")}
		if a := g.call("atproto", nsid); a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		if err := c.end(alice.DID); err != nil {
			t.Fatal(err)
		}
		if name, _ := g.call("atproto", nsid).Error(t); name != c.error {
			t.Errorf("%s: %s, want %s", c.name, name, c.error)
		}
	}
}
