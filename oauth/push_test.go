package oauth_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"nestbox/oauth"
	"nestbox/oauth/dpop"
	"nestbox/oauth/oauthtest"
)

// TestPush is the contract's table of parameters.
func TestPush(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.Limits = nil
	const ok = "201 :"
	for _, c := range []struct {
		name, id string
		changes  []string
		want     string
	}{
		{"as it should be", publicID, nil, ok},
		{"confidential", confidentialID, nil, ok},
		{"loopback", loopbackID, []string{"scope", "atproto repo:*"}, ok},
		{"loopback, any port", loopbackID, []string{"redirect_uri", "http://127.0.0.1:8080/", "scope", "atproto"}, ok},
		{"request object", publicID, []string{"request", "x"}, "400 invalid_request: request is not supported"},
		{"request_uri", publicID, []string{"request_uri", "x"}, "400 invalid_request: request_uri must not be in a pushed request"},
		{"response_type", publicID, []string{"response_type", "token"}, "400 unsupported_response_type: response_type must be code"},
		{"no response_type", publicID, []string{"response_type", ""}, "400 unsupported_response_type: response_type must be code"},
		{"another redirect_uri", publicID, []string{"redirect_uri", "https://evil.example.com/back"}, "400 invalid_request: Invalid redirect_uri: https://evil.example.com/back is not in the client metadata"},
		{"no redirect_uri, there is one", publicID, []string{"redirect_uri", ""}, ok},
		{"no redirect_uri, its port is free", loopbackID, []string{"redirect_uri", "", "scope", "atproto"}, "400 invalid_request: Invalid redirect_uri: it is missing, and the client has several"},
		{"no scope", publicID, []string{"scope", ""}, "400 invalid_scope: scope is missing"},
		{"scope without atproto", publicID, []string{"scope", "repo:com.example.post"}, "400 invalid_scope: scope must hold atproto"},
		{"openid", publicID, []string{"scope", "atproto openid"}, "400 invalid_scope: openid is not supported"},
		{"scope that is not in the document", publicID, []string{"scope", "atproto repo:com.example.other"}, "400 invalid_scope: Scope repo:com.example.other is not in the scope of the client metadata"},
		{"scope in another form", publicID, []string{"scope", "repo?collection=com.example.post atproto"}, ok},
		{"scope that nobody knows", publicID, []string{"scope", "atproto future:thing"}, ok},
		{"permission set that is built in", publicID, []string{"scope", "atproto include:app.bsky.authCreatePosts"}, ok},
		{"state too large", publicID, []string{"state", strings.Repeat("s", 4097)}, "400 invalid_request: state is larger than 4 KiB"},
		{"state with a line break", publicID, []string{"state", "a\nb"}, "400 invalid_request: state has a control character"},
		{"state with NUL", publicID, []string{"state", "a\x00b"}, "400 invalid_request: state has a NUL character, U+0000"},
		{"state with a control character of Latin-1", publicID, []string{"state", "a\u0085b"}, "400 invalid_request: state has a control character"},
		{"state of any text", publicID, []string{"state", "{\"a\": \"é\u202e\U0001F600<>&+%\"}"}, ok},
		{"no state", publicID, []string{"state", ""}, ok},
		{"no challenge", publicID, []string{"code_challenge", ""}, "400 invalid_request: code_challenge is missing or not 43 characters of base64url"},
		{"short challenge", publicID, []string{"code_challenge", "abc"}, "400 invalid_request: code_challenge is missing or not 43 characters of base64url"},
		{"method plain", publicID, []string{"code_challenge_method", "plain"}, "400 invalid_request: code_challenge_method must be S256"},
		{"no method", publicID, []string{"code_challenge_method", ""}, "400 invalid_request: code_challenge_method must be S256"},
		{"fragment", publicID, []string{"response_mode", "fragment"}, ok},
		{"form_post", publicID, []string{"response_mode", "form_post"}, ok},
		{"another mode", publicID, []string{"response_mode", "jwt"}, "400 invalid_request: response_mode must be query, fragment or form_post"},
		{"prompts", publicID, []string{"prompt", "login consent"}, ok},
		{"prompt none", publicID, []string{"prompt", "none"}, ok},
		{"prompt none and another", publicID, []string{"prompt", "none login"}, "400 invalid_request: prompt none must be alone"},
		{"another prompt", publicID, []string{"prompt", "dance"}, "400 invalid_request: prompt must be none, login, consent, select_account or create"},
		{"hints", publicID, []string{"login_hint", "@Alice.test"}, ok},
		{"hint that is none", publicID, []string{"login_hint", "what?"}, ok},
		{"max_age", publicID, []string{"max_age", "60"}, ok},
		{"max_age that is none", publicID, []string{"max_age", "-1"}, "400 invalid_request: max_age is not a number of seconds"},
		{"preferences of nonsense", publicID, []string{"ui_locales", "d\x00e\n", "display", "\xff", "login_hint", "\x00\xff\u202ea\nlice@example.com"}, ok},
		{"preferences", publicID, []string{"ui_locales", "de", "display", "popup"}, ok},
		{"dpop_jkt that is none", publicID, []string{"dpop_jkt", "abc"}, "400 invalid_request: dpop_jkt is not a thumbprint (43 characters of base64url)"},
		{"dpop_jkt of another key", publicID, []string{"dpop_jkt", oauthtest.NewSigner("ES256").Thumbprint()}, "400 invalid_dpop_proof: dpop_jkt is not the key of the DPoP proof"},
		{"ignored", publicID, []string{"nonce", "n", "claims", "{}", "id_token_hint", "x", "authorization_details", "[]", "resource", "r", "audience", "a"}, ok},
		{"no client_id", publicID, []string{"client_id", ""}, "400 invalid_request: client_id is missing"},
		{"confidential without an assertion", confidentialID, []string{"client_assertion", "x", "client_assertion_type", ""}, "400 invalid_request: client_assertion and client_assertion_type are required"},
		{"a client that is none", publicID, []string{"client_id", "https://nobody.example.com/x.json"}, "400 invalid_client_metadata: Unable to obtain client metadata for 'https://nobody.example.com/x.json': status 404"},
	} {
		w.clock.Advance(15 * time.Second) // else documents are too new to be fetched again
		if _, got := w.app(c.id).push(c.changes...); got.String() != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestPushForms: forms and JSON, and what is neither.
func TestPushForms(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a := w.app(publicID)
	form := a.asked().Encode()
	asJSON := `{"client_id":"` + publicID + `","response_type":"code","scope":"atproto","code_challenge":"` + challenge(verifier) +
		`","code_challenge_method":"S256","max_age":60,"state":null,"nested":{"a":[1]}}`
	for _, c := range []struct{ name, kind, body, want string }{
		{"a form", "application/x-www-form-urlencoded; charset=utf-8", form, "201 :"},
		{"JSON", "application/json", asJSON, "201 :"},
		{"JSON behind a byte order mark", "application/json", "\xEF\xBB\xBF" + asJSON, "201 :"},
		{"empty values", "application/x-www-form-urlencoded", form + "&prompt=&login_hint=", "201 :"},
		{"no kind", "", form, "400 invalid_request: Content-Type must be application/x-www-form-urlencoded or application/json"},
		{"text", "text/plain", form, "400 invalid_request: Content-Type must be application/x-www-form-urlencoded or application/json"},
		{"twice", "application/x-www-form-urlencoded", form + "&state=2", "400 invalid_request: state is there twice"},
		{"JSON twice", "application/json", `{"state":"1","state":"2"}`, "400 invalid_request: A parameter is there twice"},
		{"no object", "application/json", `[]`, "400 invalid_request: The body is not a JSON object"},
		{"null", "application/json", `null`, "400 invalid_request: The body is not a JSON object"},
		{"a list", "application/json", `{"scope":["atproto"]}`, "400 invalid_request: scope must be a string"},
		{"malformed", "application/x-www-form-urlencoded", "a=%zz", "400 invalid_request: The form is malformed"},
		{"no UTF-8", "application/x-www-form-urlencoded", form + "&dpop_jkt=%ff", "400 invalid_request: dpop_jkt is not text in UTF-8"},
		{"large", "application/x-www-form-urlencoded", "a=" + strings.Repeat("x", 64<<10), "413 invalid_request: The body is larger than 64 KiB"},
	} {
		if got := a.send(oauth.PathPush, c.kind, c.body, ""); got.String() != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestPushProof: a proof may be left out, but one that is there must be right.
func TestPushProof(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a := w.app(publicID)
	const form = "application/x-www-form-urlencoded"
	body := a.asked().Encode()
	got := a.send(oauth.PathPush, form, body, "")
	if got.Status != http.StatusCreated || got.Body["expires_in"] != 600.0 || !strings.HasPrefix(got.text("request_uri"), "urn:ietf:params:oauth:request_uri:") {
		t.Errorf("without a proof: %+v", got)
	}
	if got := a.send(oauth.PathPush, form, body, "x"); got.Error != "invalid_dpop_proof" || got.Status != http.StatusBadRequest {
		t.Errorf("a proof that is none: %s", got)
	}
	got = a.send(oauth.PathPush, form, body, a.dpop.Proof(http.MethodPost, issuer+oauth.PathPush, "", ""))
	if got.String() != "400 use_dpop_nonce: Authorization server requires nonce in DPoP proof" {
		t.Errorf("without a nonce: %s", got)
	}
	// A request that is bound to a key by name alone works with it alone.
	named := w.app(publicID)
	form2 := named.asked()
	form2.Set("dpop_jkt", named.dpop.Thumbprint())
	uri := named.send(oauth.PathPush, form, form2.Encode(), "").text("request_uri")
	code := named.allow(uri, "").Get("code")
	if got := w.app(publicID).redeem(code); got.String() != "400 invalid_grant: The request was bound to another DPoP key" {
		t.Errorf("another key: %s", got)
	}
	if got := named.redeem(code); got.Status != http.StatusOK {
		t.Errorf("its key: %s", got)
	}
}

// TestPushLimits: networks are limited, and clients that prove who they are by themselves.
func TestPushLimits(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a, confidential := w.app(publicID), w.app(confidentialID)
	for i := range 100 {
		if _, got := a.push(); got.Status != http.StatusCreated {
			t.Fatalf("push %d: %s", i, got)
		}
	}
	_, got := a.push()
	if got.String() != "429 temporarily_unavailable: Too many requests" || got.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %s, %v", got, got.Header)
	}
	if _, got := confidential.push(); got.Status != http.StatusCreated {
		t.Errorf("a client that proves itself: %s", got)
	}
	other := w.app(publicID)
	other.from = "203.0.113.1"
	if _, got := other.push(); got.Status != http.StatusCreated {
		t.Errorf("another network: %s", got)
	}
}

// TestPushFresh: a refusal is never based on an old document, and a client's host that is down
// refuses nobody it has introduced.
func TestPushFresh(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a := w.app(publicID)
	if _, got := a.push(); got.Status != http.StatusCreated {
		t.Fatal(got)
	}
	w.network.set(publicID, "scope", "atproto repo:com.example.new")
	if _, got := a.push("scope", "atproto repo:com.example.new"); got.Error != "invalid_scope" {
		t.Errorf("a document of just now: %s", got)
	}
	w.clock.Advance(11 * time.Second)
	if _, got := a.push("scope", "atproto repo:com.example.new"); got.Status != http.StatusCreated {
		t.Errorf("a document of ten seconds ago: %s", got)
	}
	w.network.fail(true)
	w.clock.Advance(23 * time.Hour)
	if _, got := a.push("scope", "atproto repo:com.example.new"); got.Status != http.StatusCreated {
		t.Errorf("its host is down: %s", got)
	}
	w.clock.Advance(2 * time.Hour)
	_, got := a.push("scope", "atproto")
	if got.Status != http.StatusServiceUnavailable || got.Error != "temporarily_unavailable" || got.Header.Get("Retry-After") == "" {
		t.Errorf("its host is down for more than a day: %s", got)
	}
}

// TestMetadata: what clients look for.
func TestMetadata(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a := w.app(publicID)
	for path, want := range map[string]map[string]string{
		oauth.PathResource: {
			"resource": issuer, "authorization_servers": "[" + issuer + "]", "scopes_supported": "[]",
			"bearer_methods_supported": "[header]", "resource_documentation": "https://atproto.com",
		},
		oauth.PathServer: {
			"issuer": issuer, "authorization_endpoint": issuer + "/oauth/authorize", "token_endpoint": issuer + "/oauth/token",
			"pushed_authorization_request_endpoint": issuer + "/oauth/par", "revocation_endpoint": issuer + "/oauth/revoke", "jwks_uri": issuer + "/oauth/jwks",
			"scopes_supported":         "[atproto transition:email transition:generic transition:chat.bsky]",
			"response_types_supported": "[code]", "response_modes_supported": "[query fragment form_post]",
			"grant_types_supported": "[authorization_code refresh_token]", "code_challenge_methods_supported": "[S256]",
			"token_endpoint_auth_methods_supported":            "[none private_key_jwt]",
			"token_endpoint_auth_signing_alg_values_supported": "[ES256 ES256K ES384 ES512 RS256 RS384 RS512 PS256 PS384 PS512]",
			"dpop_signing_alg_values_supported":                "[ES256]", "authorization_response_iss_parameter_supported": "true",
			"require_pushed_authorization_requests": "true", "require_request_uri_registration": "true", "request_uri_parameter_supported": "true",
			"client_id_metadata_document_supported": "true", "request_parameter_supported": "false",
			"prompt_values_supported": "[none login consent select_account create]", "protected_resources": "[" + issuer + "]",
			"subject_types_supported": "[public]", "display_values_supported": "[page popup touch]",
		},
		oauth.PathKeys: {"keys": "[]"},
	} {
		got := a.get(path)
		if len(got.Body) != len(want) {
			t.Errorf("%s has %d members, want %d: %v", path, len(got.Body), len(want), got.Body)
		}
		for member, value := range want {
			if s := fmt.Sprint(got.Body[member]); s != value {
				t.Errorf("%s: %s is %s, want %s", path, member, s, value)
			}
		}
		if h := got.Header; h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "public, max-age=300" {
			t.Errorf("%s: %v", path, h)
		}
	}
	w.Inherited = true
	if got := fmt.Sprint(a.get(oauth.PathServer).Body["dpop_signing_alg_values_supported"]); got != fmt.Sprint(dpop.Algs()) {
		t.Errorf("where grants were taken over: %s", got)
	}
	w.SignUp = false
	if got := fmt.Sprint(a.get(oauth.PathServer).Body["prompt_values_supported"]); got != "[none login consent select_account]" {
		t.Errorf("where nobody can sign up: %s", got)
	}
}
