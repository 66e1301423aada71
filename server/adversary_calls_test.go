package server_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"nestbox/internal/pdstest"
	"nestbox/oauth/dpop"
	"nestbox/oauth/oauthtest"
	"nestbox/oauth/scope"
)

// oauthApp is an OAuth client of this computer that an account's owner has signed in to.
type oauthApp struct {
	s *pdstest.InProcess
	t *testing.T
	// id is the client_id.
	id, scope       string
	key             *oauthtest.Signer
	access, refresh string
}

const (
	appRedirect = "http://127.0.0.1/callback"
	appVerifier = "a-verifier-of-more-than-forty-three-characters"
)

// endpointAnswer is what the endpoints of the authorization server say.
type endpointAnswer struct {
	RequestURI   string `json:"request_uri"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
	Error        string `json:"error"`
	Description  string `json:"error_description"`
}

// loopbackID returns the client_id of an app with a scope.
func loopbackID(scope string) string {
	return "http://localhost?" + url.Values{"scope": {scope}, "redirect_uri": {appRedirect}}.Encode()
}

// authorization returns what an app pushes.
func authorization(scope, verifier string) url.Values {
	hash := sha256.Sum256([]byte(verifier))
	return url.Values{
		"response_type": {"code"}, "redirect_uri": {appRedirect}, "scope": {scope}, "state": {"xyz"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(hash[:])}, "code_challenge_method": {"S256"},
	}
}

var ticks = regexp.MustCompile(`name="permission" value="([^"]*)"`)

// newOAuthApp lets an account's owner sign in to an app, and allow all that it asks for.
func newOAuthApp(t *testing.T, s *pdstest.InProcess, identifier, asked string) *oauthApp {
	t.Helper()
	a := &oauthApp{s: s, t: t, id: loopbackID(asked), scope: asked, key: oauthtest.NewSigner("ES256")}
	verifier := rand.Text() + rand.Text()
	must := func(path string, want int, form url.Values) endpointAnswer {
		t.Helper()
		status, answer := a.post(path, a.id, a.key, form)
		if status != want {
			t.Fatalf("%s: %d %s %s", path, status, answer.Error, answer.Description)
		}
		return answer
	}
	pushed := must("/oauth/par", http.StatusCreated, authorization(asked, verifier))
	p := newVisitor(t, s)
	page := p.get("/oauth/authorize?" + url.Values{"client_id": {a.id}, "request_uri": {pushed.RequestURI}}.Encode())
	page = p.post(page, "/oauth/authorize", url.Values{"identifier": {identifier}, "password": {pdstest.Password}, "decision": {"sign-in"}})
	form := url.Values{"decision": {"allow"}, "understood": {"on"}}
	for _, m := range ticks.FindAllStringSubmatch(page.text, -1) {
		form.Add("permission", html.UnescapeString(m[1]))
	}
	back, err := url.Parse(p.post(page, "/oauth/authorize", form).location)
	if err != nil || back.Query().Get("code") == "" {
		t.Fatalf("no code in %v, %v", back, err)
	}
	tokens := must("/oauth/token", http.StatusOK, url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {appRedirect}, "code_verifier": {verifier},
	})
	a.access, a.refresh = tokens.AccessToken, tokens.RefreshToken
	return a
}

// post sends a form to an endpoint, with a proof of a key.
func (a *oauthApp) post(path, clientID string, key *oauthtest.Signer, form url.Values) (int, endpointAnswer) {
	a.t.Helper()
	form.Set("client_id", clientID)
	return a.send(path, key.Proof(http.MethodPost, a.s.URL+path, a.s.Proofs().Nonce(), ""), form)
}

// send sends a form to an endpoint, with a proof as it is.
func (a *oauthApp) send(path, proof string, form url.Values) (int, endpointAnswer) {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, a.s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("DPoP", proof)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	var out endpointAnswer
	if err := json.Unmarshal(body, &out); err != nil {
		a.t.Fatalf("%s: %d %s", path, answer.StatusCode, body)
	}
	return answer.StatusCode, out
}

// refreshed presents the newest refresh token.
func (a *oauthApp) refreshed() (int, endpointAnswer) {
	a.t.Helper()
	status, answer := a.post("/oauth/token", a.id, a.key, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a.refresh}})
	if status == http.StatusOK {
		a.access, a.refresh = answer.AccessToken, answer.RefreshToken
	}
	return status, answer
}

// call makes a query with the app's own credentials.
func (a *oauthApp) call(nsid string) pdstest.Answer {
	a.t.Helper()
	proof := a.key.Proof(http.MethodGet, a.s.URL+"/xrpc/"+nsid, a.s.Proofs().Nonce(), a.access)
	return a.s.Do(a.t, pdstest.Request{NSID: nsid, Auth: "DPoP " + a.access, Header: http.Header{"Dpop": {proof}}})
}

// claims returns those of the access token.
func (a *oauthApp) claims() (c map[string]any) {
	a.t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(a.access, ".")[1])
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// sid names the session.
func (a *oauthApp) sid() string { return fmt.Sprint(a.claims()["sid"]) }

// recordOf returns a record of a collection.
func recordOf(collection, text string) map[string]any {
	const at = "2026-08-01T12:00:00.000Z"
	switch collection {
	case "app.bsky.feed.like":
		return map[string]any{"$type": collection, "createdAt": at, "subject": map[string]any{
			"uri": "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3jui7kd54zh2y", "cid": "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a",
		}}
	case "app.bsky.actor.profile":
		return map[string]any{"$type": collection, "displayName": text}
	default:
		return map[string]any{"$type": collection, "text": text, "createdAt": at}
	}
}

// adversary is the app with one small scope.
type adversary struct {
	*crime

	rt    *rapid.T
	v     *victim
	scope small
	n     int
	// key is one that no token is bound to.
	key *oauthtest.Signer
	// over: its own session was ended, by itself.
	over bool
}

// attempt is a call, and the scope that it needs: as the rows of grants.
type attempt struct {
	nsid   string
	query  url.Values // of a GET; nil for a POST
	body   any
	header http.Header
	need   string
}

// own are the adversary's own credentials; the others are wrong.
const own = "own"

// wrongCredentials are forged, used or copied.
var wrongCredentials = []string{
	"no proof", "another key's proof", "a used proof", "a proof for another URL", "a proof for another method", "a proof for another token",
	"an old nonce", "as Bearer", "changed claims", "unsigned", "a refresh token", "a copied token", "a copied token with its claims changed",
}

// may reports whether the scope suffices for an attempt.
func (a *adversary) may(need string) bool {
	switch need {
	case ignored, anyGrant:
		return true
	case closed, unauthorized:
		return false
	}
	has := scope.Parse("atproto " + a.scope.scope)
	return !slices.ContainsFunc(strings.Fields(need), func(token string) bool { return !has.Allows(needOf(token)) })
}

// needOf returns the need that a scope names.
func needOf(token string) scope.Need {
	p := scope.Parse(token).Permissions(nil)[0]
	switch p.Kind { //nolint:exhaustive // no call needs the others
	case scope.Repo:
		return scope.NeedRepo(p.Collections[0], p.Actions)
	case scope.RPC:
		return scope.NeedRPC(p.Methods[0], p.Audience)
	case scope.Blob:
		return scope.NeedBlob(p.Accept[0])
	case scope.Account:
		return scope.NeedAccount(p.Attr, p.Manage)
	case scope.Identity:
		return scope.NeedIdentity(p.Attr)
	default:
		panic("no call needs " + token)
	}
}

// changed returns a token with other claims, or without a signature.
func changed(token string, claims map[string]any, unsigned bool) string {
	parts := strings.Split(token, ".")
	if raw, err := json.Marshal(claims); err == nil {
		parts[1] = base64.RawURLEncoding.EncodeToString(raw)
	}
	if unsigned {
		parts[0], parts[2] = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"oauth-at+jwt"}`)), ""
	}
	return strings.Join(parts, ".")
}

// try makes a call with credentials of a kind.
func (a *adversary) try(c attempt, with string) pdstest.Answer {
	a.t.Helper()
	method, path := http.MethodPost, "/xrpc/"+c.nsid
	target := c.nsid
	if c.query != nil {
		method, target = http.MethodGet, c.nsid+"?"+c.query.Encode()
	}
	mine, other := a.v.mine, a.v.other
	token, key, nonce, scheme := mine.access, mine.key, a.Proofs().Nonce(), "DPoP "
	switch with {
	case "another key's proof":
		key = a.key
	case "an old nonce":
		nonce = "AAAAAAAAAAAAAAAAAAAAAA"
	case "as Bearer":
		scheme = "Bearer "
	case "changed claims", "unsigned":
		claims := mine.claims()
		claims["sid"], claims["client_id"], claims["jti"] = other.claims()["sid"], other.id, other.claims()["jti"]
		token = changed(mine.access, claims, with == "unsigned")
	case "a refresh token":
		token = mine.refresh
	case "a copied token":
		token = other.access
	case "a copied token with its claims changed":
		claims := other.claims()
		claims["cnf"] = map[string]any{"jkt": mine.key.Thumbprint()}
		token = changed(other.access, claims, false)
	}
	var signed map[string]any
	switch with {
	case "a proof for another URL":
		signed = oauthtest.Claims(method, a.URL+"/xrpc/com.example.other", nonce, token)
	case "a proof for another method":
		signed = oauthtest.Claims(http.MethodPut, a.URL+path, nonce, token)
	case "a proof for another token":
		signed = oauthtest.Claims(method, a.URL+path, nonce, mine.refresh)
	default:
		signed = oauthtest.Claims(method, a.URL+path, nonce, token)
	}
	proof := key.Sign(key.ProofHeader(), signed)
	header := c.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	switch with {
	case "a used proof":
		if _, err := a.Proofs().Check(dpop.Request{Headers: []string{proof}, Method: method, Path: path, Token: token}); err != nil {
			a.t.Fatal(err)
		}
		header.Set("DPoP", proof)
	case "no proof":
	default:
		header.Set("DPoP", proof)
	}
	r := pdstest.Request{Method: method, NSID: target, Auth: scheme + token, Header: header}
	if c.query == nil {
		r.Body = c.body
	}
	return a.Do(a.t, r)
}

// attack makes one call, or one request to the authorization server.
func (a *adversary) attack() {
	a.t.Helper()
	switch rapid.IntRange(0, 9).Draw(a.rt, "door") {
	case 0, 1:
		a.knock()
		return
	case 2, 3:
		a.call(a.anyRoute())
	default:
		a.call(rapid.SampledFrom(a.harms()).Draw(a.rt, "harm"))
	}
}

// call makes one call, with right credentials or wrong ones, and checks that nothing is let
// through that is not allowed.
func (a *adversary) call(c attempt) {
	a.t.Helper()
	with := own
	if rapid.IntRange(0, 2).Draw(a.rt, "wrong") == 0 {
		with = rapid.SampledFrom(wrongCredentials).Draw(a.rt, "with")
	}
	got := a.try(c, with)
	allowed := c.need == ignored || with == own && !a.over && a.may(c.need)
	if got.Status < 300 && !allowed {
		a.rt.Errorf("%s with %q, credentials: %s: %d %.300s", c.nsid, a.scope.scope, with, got.Status, got.Body)
	}
	if got.Status >= http.StatusInternalServerError && got.Status != http.StatusBadGateway && got.Status != http.StatusNotImplemented {
		a.rt.Errorf("%s with %q, credentials: %s: %d %.300s", c.nsid, a.scope.scope, with, got.Status, got.Body)
	}
}

// useScope makes sure that what the scope allows is done.
func (a *adversary) useScope() {
	a.t.Helper()
	for _, c := range a.harms() {
		if c.need != ignored && c.need != anyGrant && a.may(c.need) {
			if got := a.try(c, own); got.Status != http.StatusOK {
				a.rt.Fatalf("%s is allowed by %q: %d %.300s", c.nsid, a.scope.scope, got.Status, got.Body)
			}
			return
		}
	}
	if strings.HasPrefix(a.scope.scope, "account:email") || a.scope.scope == "transition:email" {
		if got := a.v.mine.call("com.atproto.server.getSession"); !strings.Contains(string(got.Body), a.v.email) {
			a.rt.Fatalf("%q does not show the address: %d %s", a.scope.scope, got.Status, got.Body)
		}
	} else if a.scope.scope != "" {
		a.rt.Fatalf("nothing uses %q", a.scope.scope)
	}
}

// anyRoute is any route of the server, with an input that makes no sense to most.
func (a *adversary) anyRoute() attempt {
	nsid := rapid.SampledFrom(a.Routes()).Draw(a.rt, "route")
	q, body, header := genericInput(nsid, a.v.DID)
	c := attempt{nsid: nsid, body: body, header: header, need: grants()[nsid]}
	if rapid.Bool().Draw(a.rt, "get") {
		c.query = q
	}
	return c
}
