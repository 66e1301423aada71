//go:build reference

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
	"nestbox/oauth/oauthtest"
)

// oauthGrant is a grant at one of the two servers.
type oauthGrant struct {
	*oauthSide

	id, did, scope  string
	code, verifier  string
	access, refresh string
}

// referencePerson answers a request on the reference's page, as its script does.
func referencePerson(t *testing.T, base, link, name, did, scope string) (callback string) {
	t.Helper()
	cookies := map[string]string{}
	do := func(method, target string, body any, header http.Header) []byte {
		t.Helper()
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		for name, value := range cookies {
			req.AddCookie(&http.Cookie{Name: name, Value: value})
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		for _, c := range resp.Cookies() { // marked Secure, though the page is on http
			cookies[c.Name] = c.Value
		}
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %.2000s, %v", target, resp.StatusCode, answer, err)
		}
		return answer
	}
	do(http.MethodGet, link, nil, http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}})
	api := func(endpoint string, in any) []byte {
		t.Helper()
		return do(http.MethodPost, base+"/@atproto/oauth-provider/~api"+endpoint, in, http.Header{
			"Content-Type": {"application/json"}, "Origin": {base}, "Referer": {link}, "X-Csrf-Token": {cookies["csrf-token"]},
			"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Mode": {"same-origin"}, "Sec-Fetch-Dest": {"empty"},
		})
	}
	api("/sign-in", map[string]any{"locale": "en", "username": name, "password": pdstest.Password, "remember": true})
	var out struct{ URL string }
	if err := json.Unmarshal(api("/consent", map[string]any{"did": did, "scope": scope}), &out); err != nil {
		t.Fatal(err)
	}
	return out.URL
}

// newOAuthGrant lets an account's owner allow an app, up to the code.
func newOAuthGrant(t *testing.T, s *oauthSide, reference bool, who pdstest.Session, name, scope string) *oauthGrant {
	t.Helper()
	g := &oauthGrant{oauthSide: s, id: loopback(scope, refRedirect), did: who.DID, scope: scope, verifier: rand.Text() + rand.Text()}
	challenge := sha256.Sum256([]byte(g.verifier))
	form := url.Values{
		"client_id": {g.id}, "response_type": {"code"}, "redirect_uri": {refRedirect}, "scope": {scope}, "state": {"s"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	what := ""
	for range 2 { // the first may bring the nonce alone
		if what, _, _ = s.ask(t, oauthProbe{method: http.MethodPost, path: "/oauth/par", form: form, proof: proven}); strings.HasPrefix(what, "201") {
			break
		}
	}
	uri, _ := s.answer["request_uri"].(string)
	link := s.base + "/oauth/authorize?" + url.Values{"client_id": {g.id}, "request_uri": {uri}}.Encode()
	callback := ""
	if reference {
		callback = referencePerson(t, s.base, link, name, who.DID, scope)
	} else {
		p := person{identifier: name, password: pdstest.Password}
		callback = p.mustAnswer(t, link)
	}
	back, err := url.Parse(callback)
	if err != nil || back.Query().Get("code") == "" {
		t.Fatalf("%s: no code in %q (%s), %v", s.base, callback, what, err)
	}
	g.code = back.Query().Get("code")
	return g
}

// exchange, renew and call are requests of a grant.
func (g *oauthGrant) exchange(changes ...string) oauthProbe {
	return oauthProbe{method: http.MethodPost, path: "/oauth/token", proof: proven, form: with(url.Values{
		"grant_type": {"authorization_code"}, "client_id": {g.id}, "code": {g.code}, "redirect_uri": {refRedirect}, "code_verifier": {g.verifier},
	}, changes...)}
}

func (g *oauthGrant) renew(token string) oauthProbe {
	return oauthProbe{method: http.MethodPost, path: "/oauth/token", proof: proven, form: url.Values{
		"grant_type": {"refresh_token"}, "client_id": {g.id}, "refresh_token": {token},
	}}
}

func (g *oauthGrant) call(nsid, scheme string, proof func(s *oauthSide, method, htu string) string) oauthProbe {
	return oauthProbe{method: http.MethodGet, path: "/xrpc/" + nsid, proof: proof, header: http.Header{"Authorization": {scheme + " " + g.access}}}
}

// bound is a right proof of a call, foreign one of another key.
func (g *oauthGrant) bound(s *oauthSide, method, htu string) string {
	return s.key.Proof(method, htu, s.nonce, g.access)
}

func (g *oauthGrant) foreign(s *oauthSide, method, htu string) string {
	return oauthtest.NewSigner("ES256").Proof(method, htu, s.nonce, g.access)
}

// keep takes the tokens of the newest answer, and returns what of it both servers must say
// alike.
func (g *oauthGrant) keep() string {
	g.access, _ = g.answer["access_token"].(string)
	g.refresh, _ = g.answer["refresh_token"].(string)
	seconds, _ := g.answer["expires_in"].(float64)
	return fmt.Sprint(g.answer["token_type"], " ", g.answer["scope"], " own: ", g.answer["sub"] == g.did, " lives: ", seconds > 0 && seconds <= 3600)
}

// oauthFlowAccepted are the differences of grants on purpose.
var oauthFlowAccepted = []acceptance{
	{"(flow|small), call.*, answer", "200 active,did,didDoc,handle", "200 active,did,handle", "`getSession` by OAuth"},
	{"flow, call as Bearer, headers", "json .* exposed", "json .*", "`Access-Control-Expose-Headers` of OAuth's answers"},
	{"bare, call after the end, answer", "401 invalid_token", "200 .*", "`/oauth/revoke` without a proof"},
	{"bare, call after the end, headers", `json .* DPoP error="invalid_token"`, "json .*", "`/oauth/revoke` without a proof"},
	{"small, service token, headers", `json .* DPoP error="insufficient_scope", scope=.*`, "json .*", "A call whose scope is missing"},
	{"small, the same refresh token again, answer", "200 .*", "400 invalid_grant", "A refresh token that is presented again"},
	{"small, refresh after that, answer", "200 .*", "400 invalid_grant", "A refresh token that is presented again"},
	{"again, call after that, answer", "200 .*", "401 invalid_token", "A code that is exchanged twice within a minute by the same key"},
	{"again, call after that, headers", "json .*", `json .* DPoP error="invalid_token"`, "A code that is exchanged twice within a minute by the same key"},
}

// oauthTale tells both servers the same.
type oauthTale struct {
	*oauthComparison

	t     *testing.T
	sides [2]*oauthSide
	who   [2]pdstest.Session
}

// proofOf makes the proofs of a grant's requests, nil for none.
type proofOf func(*oauthGrant) func(s *oauthSide, method, htu string) string

func withOwn(g *oauthGrant) func(*oauthSide, string, string) string { return g.bound }
func withNone(*oauthGrant) func(*oauthSide, string, string) string  { return nil }

// grants lets an account at each server allow an app.
func (o *oauthTale) grants(scope string) (g [2]*oauthGrant) {
	o.t.Helper()
	for i, name := range []string{"ours.test", "theirs.test"} {
		g[i] = newOAuthGrant(o.t, o.sides[i], i == 1, o.who[i], name, scope)
	}
	return g
}

// same compares what both answer to the request that probe makes of each grant.
func (o *oauthTale) same(name string, g [2]*oauthGrant, probe func(*oauthGrant) oauthProbe) {
	o.t.Helper()
	ours, theirs := probe(g[0]), probe(g[1])
	ours.name, theirs.name = name, name
	o.compare(o.t, o.sides[0], o.sides[1], ours, theirs)
}

// tokens is same for requests that tokens are the answer to.
func (o *oauthTale) tokens(name string, g [2]*oauthGrant, probe func(*oauthGrant) oauthProbe) {
	o.t.Helper()
	o.same(name, g, probe)
	if ours, theirs := g[0].keep(), g[1].keep(); ours != theirs || g[0].refresh == "" || g[1].refresh == "" {
		o.t.Errorf("%s: tokens\n  ours:      %s\n  reference: %s", name, ours, theirs)
	}
}

// askSession calls with the grant's access token.
func askSession(scheme string, proof proofOf) func(*oauthGrant) oauthProbe {
	return func(g *oauthGrant) oauthProbe { return g.call("com.atproto.server.getSession", scheme, proof(g)) }
}

func askTokens(g *oauthGrant) oauthProbe  { return g.exchange() }
func askRenewal(g *oauthGrant) oauthProbe { return g.renew(g.refresh) }

func askEnd(proof func(*oauthSide, string, string) string) func(*oauthGrant) oauthProbe {
	return func(g *oauthGrant) oauthProbe {
		return oauthProbe{method: http.MethodPost, path: "/oauth/revoke", proof: proof, form: url.Values{"client_id": {g.id}, "token": {g.refresh}}}
	}
}

// TestReferenceOAuthFlow takes grants at both servers from the code to their end, and
// compares the answers as TestReferenceOAuth does.
func TestReferenceOAuthFlow(t *testing.T) {
	plc := startPLC(t)
	o := &oauthTale{oauthComparison: newOAuthComparison(t, oauthFlowAccepted), t: t, sides: [2]*oauthSide{
		{base: pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc).Base, key: oauthtest.NewSigner("ES256")},
		{base: startReference(t, plc), key: oauthtest.NewSigner("ES256")},
	}}
	for i, name := range []string{"ours", "theirs"} {
		o.who[i] = pdstest.Client{Base: o.sides[i].base}.SignUp(t, name)
	}
	first := o.calls()
	o.ends(first)
	o.done(t)
}

// calls is the life of a grant, with the calls of a client that errs. It returns the refresh
// tokens of its first generation.
func (o *oauthTale) calls() (first [2]string) {
	g := o.grants("atproto transition:generic")
	o.tokens("flow, code", g, askTokens)
	o.same("flow, call", g, askSession("DPoP", withOwn))
	o.same("flow, call without a proof", g, askSession("DPoP", withNone))
	o.same("flow, call without a nonce", g, askSession("DPoP", func(g *oauthGrant) func(*oauthSide, string, string) string {
		return func(s *oauthSide, method, htu string) string { return s.key.Proof(method, htu, "", g.access) }
	}))
	o.same("flow, call with another key", g, askSession("DPoP", func(g *oauthGrant) func(*oauthSide, string, string) string { return g.foreign }))
	o.same("flow, call without ath", g, askSession("DPoP", func(*oauthGrant) func(*oauthSide, string, string) string { return proven }))
	o.same("flow, call as Bearer", g, askSession("Bearer", withNone))
	o.same("flow, legacy token as DPoP", g, func(g *oauthGrant) oauthProbe {
		legacy := *g
		legacy.access = o.who[0].AccessJwt
		if g.did == o.who[1].DID {
			legacy.access = o.who[1].AccessJwt
		}
		return legacy.call("com.atproto.server.getSession", "DPoP", legacy.bound)
	})
	o.same("flow, call that is closed", g, func(g *oauthGrant) oauthProbe {
		return g.call("com.atproto.server.listAppPasswords", "DPoP", g.bound)
	})
	first = [2]string{g[0].refresh, g[1].refresh}
	o.tokens("flow, refresh", g, askRenewal)
	o.same("flow, call after a refresh", g, askSession("DPoP", withOwn))
	o.same("flow, revoke", g, askEnd(proven))
	o.same("flow, call after the end", g, askSession("DPoP", withOwn))
	o.same("flow, refresh after the end", g, askRenewal)
	return first
}

// ends are the ways in which grants end at one server or at both.
func (o *oauthTale) ends(foreign [2]string) {
	o.same("small, a wrong verifier", o.grants("atproto"), func(g *oauthGrant) oauthProbe {
		return g.exchange("code_verifier", strings.Repeat("w", 43))
	})
	small := o.grants("atproto")
	o.tokens("small, code", small, askTokens)
	o.same("small, call", small, askSession("DPoP", withOwn))
	o.same("small, service token", small, func(g *oauthGrant) oauthProbe {
		return g.call("com.atproto.server.getServiceAuth?aud=did:web:x.example&lxm=app.bsky.feed.getTimeline", "DPoP", g.bound)
	})
	o.same("small, refresh", small, askRenewal)
	o.same("small, the same refresh token again", small, askRenewal)
	o.same("small, refresh after that", small, askRenewal)
	o.same("small, a foreign refresh token", small, func(g *oauthGrant) oauthProbe {
		if g == small[0] {
			return g.renew(foreign[0])
		}
		return g.renew(foreign[1])
	})
	again := o.grants("atproto")
	o.tokens("again, code", again, askTokens)
	o.same("again, the same code again", again, askTokens)
	o.same("again, call after that", again, askSession("DPoP", withOwn))

	bare := o.grants("atproto")
	o.tokens("bare, code", bare, askTokens)
	o.same("bare, revoke without a proof", bare, askEnd(nil))
	o.same("bare, call after the end", bare, askSession("DPoP", withOwn))
}
