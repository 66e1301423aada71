//go:build reference

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
	"nestbox/oauth/oauthtest"
)

// oauthSide is one of the two servers.
type oauthSide struct {
	base  string
	key   *oauthtest.Signer
	nonce string
	// answer is the newest, if it was JSON.
	answer map[string]any
}

// oauthProbe is one request.
type oauthProbe struct {
	name, method, path string
	form               url.Values // a body, if it is set
	header             http.Header
	// proof makes the proof, if it is set, with the newest nonce of the server.
	proof func(s *oauthSide, method, htu string) string
}

// proven, fresh, stale, elsewhere and malformedProof are kinds of proofs.
func proven(s *oauthSide, method, htu string) string { return s.key.Proof(method, htu, s.nonce, "") }
func fresh(s *oauthSide, method, htu string) string  { return s.key.Proof(method, htu, "", "") }
func stale(s *oauthSide, method, htu string) string  { return s.key.Proof(method, htu, "stale", "") }

func elsewhere(s *oauthSide, method, htu string) string {
	return s.key.Proof(method, htu+"/other", s.nonce, "")
}
func malformedProof(*oauthSide, string, string) string { return "garbage" }

// shownHeaders are the headers that clients react to.
func shownHeaders(h http.Header) string {
	said := []string{"other"}
	if kind, _, err := mime.ParseMediaType(h.Get("Content-Type")); err == nil && kind == "application/json" {
		said[0] = "json"
	}
	for _, name := range []string{"Access-Control-Allow-Origin", "Cache-Control", "Pragma", "Allow"} {
		if v := h.Get(name); v != "" {
			said = append(said, name+"="+v)
		}
	}
	if h.Get("DPoP-Nonce") != "" {
		said = append(said, "DPoP-Nonce")
	}
	if exposed := strings.ToLower(h.Get("Access-Control-Expose-Headers")); strings.Contains(exposed, "dpop-nonce") || exposed == "*" {
		said = append(said, "exposed")
	}
	if challenge := h.Get("WWW-Authenticate"); challenge != "" {
		said = append(said, strings.TrimRight(regexp.MustCompile(`(algs|error_description)="[^"]*",? ?`).ReplaceAllString(challenge, ""), ", "))
	}
	return strings.Join(said, " ")
}

// ask returns what a server answers in two lines: status and error, and headers.
func (s *oauthSide) ask(t *testing.T, p oauthProbe) (what, headers, text string) {
	t.Helper()
	var body io.Reader = http.NoBody
	if p.form != nil {
		body = strings.NewReader(p.form.Encode())
	}
	req, err := http.NewRequestWithContext(t.Context(), p.method, s.base+p.path, body)
	if err != nil {
		t.Fatal(err)
	}
	if p.form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Origin", "http://127.0.0.1:9999")
	maps.Copy(req.Header, p.header)
	if p.proof != nil {
		req.Header.Set("DPoP", p.proof(s, p.method, s.base+req.URL.Path))
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if n := resp.Header.Get("DPoP-Nonce"); n != "" {
		s.nonce = n
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.answer = nil
	what = resp.Status[:3]
	if json.Unmarshal(raw, &s.answer) == nil {
		if code, ok := s.answer["error"].(string); ok {
			what += " " + code
			text = fmt.Sprint(s.answer["error_description"], s.answer["message"])
		} else {
			what += " " + strings.Join(slices.Sorted(maps.Keys(s.answer)), ",")
		}
	}
	return what, shownHeaders(resp.Header), text
}

const refRedirect = "http://127.0.0.1/callback"

// loopback is the client_id of an app on this machine.
func loopback(scope, redirect string) string {
	return "http://localhost?" + url.Values{"scope": {scope}, "redirect_uri": {redirect}}.Encode()
}

// with returns a form with changes: an empty value takes a field away.
func with(form url.Values, pairs ...string) url.Values {
	out := maps.Clone(form)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			out.Del(pairs[i])
		} else {
			out[pairs[i]] = []string{pairs[i+1]}
		}
	}
	return out
}

// oauthProbes are what is asked, in an order: the first ones bring a nonce.
func oauthProbes() (all []oauthProbe) {
	const challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	pushed := url.Values{
		"client_id": {loopback("atproto transition:generic", refRedirect)}, "response_type": {"code"}, "redirect_uri": {refRedirect},
		"scope": {"atproto"}, "state": {"s"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	post := func(name, path string, form url.Values, proof func(*oauthSide, string, string) string) {
		all = append(all, oauthProbe{name: name, method: http.MethodPost, path: path, form: form, proof: proof})
	}
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server", "/oauth/jwks", "/.well-known/openid-configuration"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			all = append(all, oauthProbe{name: "metadata " + method + " " + path, method: method, path: path})
		}
	}
	for _, path := range []string{"/oauth/par", "/oauth/token", "/oauth/revoke"} {
		all = append(all,
			oauthProbe{name: "preflight " + path, method: http.MethodOptions, path: path, header: http.Header{
				"Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"dpop,content-type"},
			}},
			oauthProbe{name: "GET " + path, method: http.MethodGet, path: path})
	}
	post("par, a proof without a nonce", "/oauth/par", pushed, fresh)
	post("par, right", "/oauth/par", pushed, proven)
	post("par, without a proof", "/oauth/par", pushed, nil)
	post("par, a stale nonce", "/oauth/par", pushed, stale)
	post("par, a proof for another URL", "/oauth/par", pushed, elsewhere)
	post("par, a malformed proof", "/oauth/par", pushed, malformedProof)
	for _, change := range [][]string{
		{"response_type", ""},
		{"response_type", "token"},
		{"redirect_uri", "http://127.0.0.1/other"},
		{"redirect_uri", ""},
		{"scope", ""},
		{"scope", "transition:generic"},
		{"scope", "atproto transition:email"},
		{"scope", "atproto nonsense:x"},
		{"code_challenge", ""},
		{"code_challenge", "short"},
		{"code_challenge_method", "plain"},
		{"code_challenge_method", ""},
		{"prompt", "nonsense"},
		{"state", ""},
		{"request_uri", "urn:x"},
		{"response_mode", "nonsense"},
		{"dpop_jkt", "short"},
		{"login_hint", "nobody"},
		{"nonce", "n"},
		{"client_id", ""},
		{"client_id", "nonsense"},
		{"client_id", "http://localhost/path"},
		{"client_id", "http://localhost:80"},
		{"client_id", "http://localhost?scope=x"},
		{"client_id", "http://localhost?other=x"},
		{"client_id", "https://127.0.0.1/client.json"},
		{"client_id", "https://app.example.com:8443/client.json"},
		{"client_id", "https://app.example.com"},
		{"client_id", "https://host/client.json"},
		{"client_id", loopback("atproto", "http://localhost/callback")},
		{"client_id", loopback("atproto", "https://app.example.com/")},
		{"client_id", "https://app.invalid/client.json"},
		{"client_id", "http://app.example.com/client.json"},
	} {
		post("par, "+strings.Join(change, "="), "/oauth/par", with(pushed, change...), proven)
	}
	id := pushed.Get("client_id")
	code := url.Values{"grant_type": {"authorization_code"}, "client_id": {id}, "code": {"cod-garbage"}, "redirect_uri": {refRedirect}, "code_verifier": {strings.Repeat("v", 43)}}
	post("token, without a proof", "/oauth/token", code, nil)
	post("token, a proof without a nonce", "/oauth/token", code, fresh)
	post("token, an unknown code", "/oauth/token", code, proven)
	for _, change := range [][]string{{"grant_type", ""}, {"grant_type", "password"}, {"code", ""}, {"client_id", ""}, {"code_verifier", ""}, {"code_verifier", "short"}, {"redirect_uri", ""}} {
		post("token, "+strings.Join(change, "="), "/oauth/token", with(code, change...), proven)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "client_id": {id}, "refresh_token": {"ref-garbage"}}
	post("token, an unknown refresh token", "/oauth/token", refresh, proven)
	post("token, no refresh token", "/oauth/token", with(refresh, "refresh_token", ""), proven)
	revoked := url.Values{"client_id": {id}, "token": {"garbage"}}
	post("revoke, an unknown token", "/oauth/revoke", revoked, nil)
	post("revoke, no token", "/oauth/revoke", with(revoked, "token", ""), nil)
	post("revoke, no client", "/oauth/revoke", with(revoked, "client_id", ""), nil)
	for name, proof := range map[string]func(*oauthSide, string, string) string{
		"none": nil, "fresh": fresh, "right": func(s *oauthSide, method, htu string) string { return s.key.Proof(method, htu, s.nonce, "garbage") },
	} {
		all = append(all, oauthProbe{
			name: "call with garbage, proof " + name, method: http.MethodGet, path: "/xrpc/com.atproto.server.getSession", proof: proof,
			header: http.Header{"Authorization": {"DPoP garbage"}},
		})
	}
	return all
}

// oauthAccepted are the differences on purpose: patterns of the probe's name and of both
// answers, and the row of docs/divergences.md.
var oauthAccepted = []acceptance{
	{"metadata (GET|HEAD) .*, headers", `json .*max-age=300 exposed`, `(json|other) .*`, "OAuth metadata documents"},
	{"metadata HEAD .*, answer", "200", "404", "OAuth metadata documents"},
	{"metadata POST .*, answer", "405", "404", "OAuth metadata documents"},
	{"metadata POST .*, headers", ".*Allow=GET, HEAD, OPTIONS exposed", "other .*", "OAuth metadata documents"},
	{"metadata GET .*authorization-server, answer", "200 .*", "200 .*request_object_encryption_alg_values_supported.*", "OAuth metadata documents"},
	{"(metadata|preflight) .*, headers", "other .* exposed", "other .*", "`Access-Control-Expose-Headers` of OAuth's answers"},
	{"preflight .*, answer", "204", "200", "CORS preflight"},
	{"GET /oauth/.*, answer", "405 invalid_request", "40[45]", "Another method than POST"},
	{"GET /oauth/.*, headers", "json .*Allow=POST, OPTIONS.*", "other.*", "Another method than POST"},
	{"(par|token), .*proof.*, answer", "400 invalid_dpop_proof", "401 invalid_dpop_proof", "A proof that is wrong or missing, at OAuth's endpoints"},
	{"(par|token), .*proof.*, headers", "json .*exposed", `json .*exposed DPoP error="invalid_dpop_proof".*`, "A proof that is wrong or missing, at OAuth's endpoints"},
	{"par, response_type=, answer", "400 unsupported_response_type", "400 invalid_request", "Form of pushed parameters"},
	{"par, (redirect_uri=|code_challenge=short|request_uri=urn:x), answer", "400 invalid_request", "201 expires_in,request_uri", "Form of pushed parameters"},
	{"par, dpop_jkt=short, answer", "400 invalid_request", "401 invalid_token", "Form of pushed parameters"},
	{"par, dpop_jkt=short, headers", "json .*exposed", `json .*exposed DPoP error="invalid_token".*`, "Form of pushed parameters"},
	{"par, scope=atproto nonsense:x, answer", "201 .*", "400 invalid_scope", "Scopes of an unknown form"},
	{"par, login_hint=nobody, answer", "201 .*", "400 invalid_request", "`login_hint` that is neither"},
	{"par, nonce=n, answer", "201 .*", "400 invalid_request", "`nonce`, `claims`, `id_token_hint` in a pushed request"},
	{"par, client_id=, answer", "400 invalid_request", "400 invalid_client", "A `client_id` that breaks a rule"},
	{"par, client_id=.*, answer", "400 invalid_client_id", "400 invalid_client_metadata", "A `client_id` that breaks a rule"},
	{"token, .*, answer", "400 (invalid_request|unsupported_grant_type)", "400 invalid_grant", "A token request that lacks a parameter"},
	{"call with garbage, .*, answer", "401 (invalid_token|invalid_dpop_proof)", "401 .*", "A call with a token that is none"},
	{"call with garbage, .*, headers", `json .* DPoP error="(invalid_token|invalid_dpop_proof)".*`, "json .* DPoP error=.*", "A call with a token that is none"},
}

// oauthComparison compares answers, but for accepted differences.
type oauthComparison struct {
	accepted    []acceptance
	used        []bool
	all, alike  int
	divergences string
}

func newOAuthComparison(t *testing.T, accepted []acceptance) *oauthComparison {
	t.Helper()
	divergences, err := os.ReadFile("../docs/divergences.md")
	if err != nil {
		t.Fatal(err)
	}
	return &oauthComparison{accepted: accepted, used: make([]bool, len(accepted)), divergences: string(divergences)}
}

// compare sends each server its request. Status, error and the headers that clients react to
// must be the same, unless the difference is accepted.
func (c *oauthComparison) compare(t *testing.T, ours, theirs *oauthSide, our, their oauthProbe) {
	t.Helper()
	got, gotHeaders, gotText := ours.ask(t, our)
	want, wantHeaders, wantText := theirs.ask(t, their)
	c.all++
	for _, p := range []struct{ part, got, want string }{{"answer", got, want}, {"headers", gotHeaders, wantHeaders}} {
		if p.got == p.want {
			c.alike++
			continue
		}
		full := func(pattern, text string) bool { return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(text) }
		i := slices.IndexFunc(c.accepted, func(a acceptance) bool {
			return full(a.probe, our.name+", "+p.part) && full(a.ours, p.got) && full(a.theirs, p.want)
		})
		if i < 0 {
			t.Errorf("%s, %s\n  ours:      %s (%s)\n  reference: %s (%s)", our.name, p.part, p.got, gotText, p.want, wantText)
			continue
		}
		c.used[i] = true
	}
}

// done checks that each accepted difference is one, and is in docs/divergences.md.
func (c *oauthComparison) done(t *testing.T) {
	t.Helper()
	for i, a := range c.accepted {
		if !c.used[i] {
			t.Errorf("nothing differs as %q any more (%s)", a.probe, a.row)
		}
		if !strings.Contains(c.divergences, a.row) {
			t.Errorf("docs/divergences.md does not say %q", a.row)
		}
	}
	t.Logf("%d requests: %d answers and headers are the same", c.all, c.alike)
}

// TestReferenceOAuth sends both servers the same OAuth requests.
func TestReferenceOAuth(t *testing.T) {
	plc := startPLC(t)
	ours := &oauthSide{base: pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc).Base, key: oauthtest.NewSigner("ES256")}
	theirs := &oauthSide{base: startReference(t, plc), key: oauthtest.NewSigner("ES256")}
	c := newOAuthComparison(t, oauthAccepted)
	for _, p := range oauthProbes() {
		c.compare(t, ours, theirs, p, p)
	}
	c.done(t)
}
