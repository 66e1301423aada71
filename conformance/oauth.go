package conformance

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// authorization is what is known of a server's OAuth.
type authorization struct {
	none   string // why there is nothing to look at, if there is not
	server answer // its metadata
	key    *prover
}

const (
	resourcePath = "/.well-known/oauth-protected-resource"
	serverPath   = "/.well-known/oauth-authorization-server"
	// callback is where the made-up app gets its answers, elsewhereURL is not registered.
	callback     = "http://127.0.0.1/callback"
	elsewhereURL = "http://127.0.0.1/elsewhere"
	// challenge is of RFC 7636, appendix B.
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

var oauthChecks = []check{
	{
		name: "oauth.resource", expects: "the resource's metadata name its own origin and one authorization server, to scripts as well",
		why:   "the OAuth profile of AT Protocol: apps find the authorization server by them",
		calls: 1, run: oauthResource,
	},
	{
		name:    "oauth.server",
		expects: "the authorization server's metadata have issuer, PAR, DPoP with ES256, PKCE with S256, client metadata and iss",
		why:     "the OAuth profile of AT Protocol; two SDKs refuse a server that lacks one",
		calls:   1, run: oauthServer,
	},
	{
		name: "oauth.nonce", expects: "a pushed request with a proof without nonce is 400 use_dpop_nonce, with a nonce that scripts can read",
		why:   "the profile makes nonces mandatory; clients repeat the request with it, once",
		calls: 1, run: oauthNonce,
	},
	{
		name: "oauth.call", expects: "a call with an unknown token and a proof is 401 with WWW-Authenticate: DPoP and an error",
		why:   "RFC 9449, section 7.1; SDKs refresh by that header",
		calls: 1, run: oauthCall,
	},
	{
		name: "oauth.push", expects: "with the nonce it is 201 with request_uri and expires_in, and Cache-Control: no-store",
		why:   "RFC 9126, section 2.2; one strict library insists on 201",
		calls: 2, run: oauthPush,
	},
	{
		name: "oauth.redirect", expects: "a redirect URI that is not registered is 400 when it is pushed",
		why:   "codes must not go to strangers",
		calls: 2, run: oauthRedirect,
	},
	{
		name: "oauth.pkce", expects: "a pushed request without code_challenge, or with the method plain, is 400",
		why:   "the profile makes PKCE with S256 mandatory",
		calls: 4, run: oauthPKCE,
	},
	{
		name: "oauth.proof", expects: "a proof for another URL is 400 invalid_dpop_proof, without WWW-Authenticate",
		why:   "RFC 9449, section 5; one library throws on the header before it reads the body",
		calls: 2, run: oauthProof,
	},
	{
		name: "oauth.authorize", expects: "the authorization endpoint does not redirect a request that was not pushed",
		why:   "the profile makes PAR mandatory, and nothing proves where the answer may go",
		calls: 1, run: oauthAuthorize,
	},
	{
		name: "oauth.token", expects: "an unknown code and an unknown refresh token are 400 invalid_grant",
		why:   "SDKs drop a grant at that name, and keep it at others",
		calls: 4, run: oauthToken,
	},
	{
		name: "oauth.revoke", expects: "revoking an unknown token is 200",
		why:   "RFC 7009, section 2.2: a sign-out is repeated",
		calls: 2, run: oauthRevoke,
	},
}

func oauthResource(ctx context.Context, r *runner) verdict {
	a := r.do(ctx, call{path: resourcePath})
	if v, none := a.unanswered(); none {
		r.oauth.none = "the resource's metadata could not be read"
		return v
	}
	if a.status == http.StatusNotFound {
		r.oauth.none = "the server has no OAuth"
		return skipped("%s", r.oauth.none)
	}
	servers := a.texts("authorization_servers")
	switch {
	case a.status != statusOK || !a.isJSON():
		r.oauth.none = "the resource's metadata cannot be used"
		return failed("%s with Content-Type %q", a.said(), a.header.Get("Content-Type"))
	case len(servers) != 1 || originOf(servers[0]) != servers[0]:
		r.oauth.none = "the resource names no authorization server"
		return failed("authorization_servers is %v", a.object["authorization_servers"])
	case servers[0] != r.origin:
		r.oauth.none = "its authorization server is " + servers[0] + ", another host"
	}
	v := a.readable()
	if got := a.text("resource"); got != r.origin {
		return worst(v, failed("resource is %q", got))
	}
	return v
}

// texts returns a member that is an array of texts.
func (a answer) texts(name string) (all []string) {
	items, _ := a.object[name].([]any)
	for _, item := range items {
		s, _ := item.(string)
		all = append(all, s)
	}
	return all
}

func oauthServer(ctx context.Context, r *runner) verdict {
	if r.oauth.none != "" {
		return skipped("%s", r.oauth.none)
	}
	a := r.do(ctx, call{path: serverPath})
	if v, none := a.unanswered(); none {
		r.oauth.none = "the authorization server's metadata could not be read"
		return v
	}
	key, err := newProver()
	if a.status != statusOK || !a.isJSON() || err != nil {
		r.oauth.none = "the authorization server's metadata cannot be used"
		return failed("%s with Content-Type %q", a.said(), a.header.Get("Content-Type"))
	}
	r.oauth.server, r.oauth.key = a, key
	parts := []verdict{a.readable()}
	if got := a.text("issuer"); got != r.origin {
		parts = append(parts, failed("issuer is %q", got))
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "pushed_authorization_request_endpoint"} {
		if originOf(a.text(name)) == "" {
			parts = append(parts, failed("%s is %q", name, a.text(name)))
		}
	}
	for _, name := range []string{
		"authorization_response_iss_parameter_supported", "require_pushed_authorization_requests", "client_id_metadata_document_supported",
	} {
		if a.object[name] != true {
			parts = append(parts, failed("%s is not true", name))
		}
	}
	for _, want := range []struct{ name, value string }{
		{"response_types_supported", "code"},
		{"grant_types_supported", "authorization_code"},
		{"grant_types_supported", "refresh_token"},
		{"code_challenge_methods_supported", "S256"},
		{"token_endpoint_auth_methods_supported", "none"},
		{"token_endpoint_auth_methods_supported", "private_key_jwt"},
		{"token_endpoint_auth_signing_alg_values_supported", "ES256"},
		{"scopes_supported", "atproto"},
		{"dpop_signing_alg_values_supported", "ES256"},
	} {
		if !slices.Contains(a.texts(want.name), want.value) {
			parts = append(parts, failed("%s lacks %s", want.name, want.value))
		}
	}
	for _, name := range []string{"token_endpoint_auth_signing_alg_values_supported", "dpop_signing_alg_values_supported"} {
		if slices.Contains(a.texts(name), "none") {
			parts = append(parts, failed("%s has none", name))
		}
	}
	return worst(parts...)
}

// endpoint returns the path of an endpoint in the metadata; a verdict if it cannot be called.
func (r *runner) endpoint(name string) (path string, v verdict) {
	if r.oauth.none != "" {
		return "", skipped("%s", r.oauth.none)
	}
	target := r.oauth.server.text(name)
	path, ok := strings.CutPrefix(target, r.origin)
	switch {
	case target == "":
		return "", skipped("no %s", name)
	case !ok || !strings.HasPrefix(path, "/"):
		return "", skipped("%s is on another host: %s", name, target)
	}
	return path, passed()
}

// pushed returns what an app on this machine pushes, with changes: an empty value takes a
// parameter away.
func pushed(changes ...string) url.Values {
	form := url.Values{
		"client_id": {clientID()}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"atproto"},
		"state": {"conformance"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(changes); i += 2 {
		form.Set(changes[i], changes[i+1])
		if changes[i+1] == "" {
			form.Del(changes[i])
		}
	}
	return form
}

// clientID is that of an app on this machine, which needs no document.
func clientID() string {
	return "http://localhost?" + url.Values{"redirect_uri": {callback}, "scope": {"atproto"}}.Encode()
}

// post sends a form to an endpoint once, with a proof for htu.
func (r *runner) post(ctx context.Context, path, htu string, form url.Values) answer {
	proof, err := r.oauth.key.proof(http.MethodPost, htu, "")
	if err != nil {
		return answer{err: err}
	}
	a := r.do(ctx, call{
		method: http.MethodPost, path: path, body: form.Encode(), kind: "application/x-www-form-urlencoded",
		header: map[string]string{"DPoP": proof},
	})
	if nonce := a.header.Get("DPoP-Nonce"); nonce != "" {
		r.oauth.key.nonce = nonce
	}
	return a
}

// proven sends a form with a right proof, again if the nonce was refused.
func (r *runner) proven(ctx context.Context, path string, form url.Values) answer {
	a := r.post(ctx, path, r.origin+path, form)
	if a.text("error") == "use_dpop_nonce" {
		a = r.post(ctx, path, r.origin+path, form)
	}
	return a
}

// want returns Fail unless an answer is an error of OAuth with that status and one of the
// names, any name if there are none.
func (a answer) want(status int, names ...string) verdict {
	if v, none := a.unanswered(); none {
		return v
	}
	name := a.text("error")
	if a.status != status || name == "" || len(names) > 0 && !slices.Contains(names, name) {
		return failed("%s instead of %d %s", a.said(), status, strings.Join(names, " or "))
	}
	return passed()
}

const parEndpoint = "pushed_authorization_request_endpoint"

func oauthNonce(ctx context.Context, r *runner) verdict {
	path, v := r.endpoint(parEndpoint)
	if v.outcome != Pass {
		return v
	}
	a := r.post(ctx, path, r.origin+path, pushed())
	if v, unknown := r.unknownApp(a); unknown {
		return v
	}
	v = worst(a.want(http.StatusBadRequest, "use_dpop_nonce"), a.readable())
	switch {
	case v.outcome != Pass:
		return v
	case a.header.Get("DPoP-Nonce") == "":
		return failed("no DPoP-Nonce")
	case !lists(a.header, "Access-Control-Expose-Headers", "DPoP-Nonce") && !lists(a.header, "Access-Control-Expose-Headers", "*"):
		return failed("Access-Control-Expose-Headers lacks DPoP-Nonce")
	}
	return passed()
}

// unknownApp returns the verdict if a server does not accept apps without a document: the
// rest cannot be tried then.
func (r *runner) unknownApp(a answer) (verdict, bool) {
	if !strings.HasPrefix(a.text("error"), "invalid_client") {
		return verdict{}, false
	}
	r.oauth.none = "the server accepts no app of this machine (http://localhost): " + a.said()
	return skipped("%s", r.oauth.none), true
}

func oauthPush(ctx context.Context, r *runner) verdict {
	path, v := r.endpoint(parEndpoint)
	if v.outcome != Pass {
		return v
	}
	a := r.proven(ctx, path, pushed())
	if v, none := a.unanswered(); none {
		return v
	}
	if v, unknown := r.unknownApp(a); unknown {
		return v
	}
	lives, _ := a.object["expires_in"].(float64)
	switch {
	case a.status != http.StatusCreated && a.status != statusOK:
		return failed("%s instead of 201", a.said())
	case a.text("request_uri") == "" || lives <= 0:
		return failed("request_uri is %q, expires_in %v", a.text("request_uri"), a.object["expires_in"])
	case a.status == statusOK:
		return differs("200 instead of 201")
	case !lists(a.header, "Cache-Control", "no-store"):
		return differs("Cache-Control is %q", a.header.Get("Cache-Control"))
	}
	return passed()
}

func oauthRedirect(ctx context.Context, r *runner) verdict {
	path, v := r.endpoint(parEndpoint)
	if v.outcome != Pass {
		return v
	}
	a := r.proven(ctx, path, pushed("redirect_uri", elsewhereURL))
	return a.want(http.StatusBadRequest)
}

func oauthPKCE(ctx context.Context, r *runner) verdict {
	path, v := r.endpoint(parEndpoint)
	if v.outcome != Pass {
		return v
	}
	without := r.proven(ctx, path, pushed("code_challenge", "", "code_challenge_method", ""))
	plain := r.proven(ctx, path, pushed("code_challenge_method", "plain"))
	return worst(without.want(http.StatusBadRequest).about("without code_challenge"), plain.want(http.StatusBadRequest).about("plain"))
}

func oauthProof(ctx context.Context, r *runner) verdict {
	path, v := r.endpoint(parEndpoint)
	if v.outcome != Pass {
		return v
	}
	a := r.post(ctx, path, r.origin+path+"/elsewhere", pushed())
	if a.text("error") == "use_dpop_nonce" {
		a = r.post(ctx, path, r.origin+path+"/elsewhere", pushed())
	}
	if v, none := a.unanswered(); none {
		return v
	}
	challenged := a.header.Get("WWW-Authenticate") != ""
	switch {
	case a.status != http.StatusBadRequest && a.status != http.StatusUnauthorized || a.text("error") != "invalid_dpop_proof":
		return failed("%s instead of 400 invalid_dpop_proof", a.said())
	case a.status == http.StatusUnauthorized || challenged:
		return differs("%s, with WWW-Authenticate: %t", a.said(), challenged)
	}
	return passed()
}

func oauthAuthorize(ctx context.Context, r *runner) verdict {
	path, v := r.endpoint("authorization_endpoint")
	if v.outcome != Pass {
		return v
	}
	a := r.do(ctx, call{path: path + "?" + pushed("redirect_uri", elsewhereURL).Encode(), page: true})
	if v, none := a.unanswered(); none {
		return v
	}
	where := a.header.Get("Location")
	switch {
	case strings.HasPrefix(where, elsewhereURL):
		return failed("%d to a redirect URI that is not registered", a.status)
	case a.status >= http.StatusInternalServerError:
		return failed("%s", a.said())
	case a.status < http.StatusBadRequest:
		return differs("%d instead of 400", a.status)
	}
	return passed()
}

func oauthToken(ctx context.Context, r *runner) verdict {
	path, v := r.endpoint("token_endpoint")
	if v.outcome != Pass {
		return v
	}
	code := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {clientID()}, "code": {"conformance"},
		"redirect_uri": {callback}, "code_verifier": {strings.Repeat("v", 43)},
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "client_id": {clientID()}, "refresh_token": {"conformance"}}
	return worst(
		r.proven(ctx, path, code).want(http.StatusBadRequest, "invalid_grant").about("a code"),
		r.proven(ctx, path, refresh).want(http.StatusBadRequest, "invalid_grant").about("a refresh token"))
}

func oauthRevoke(ctx context.Context, r *runner) verdict {
	path, v := r.endpoint("revocation_endpoint")
	if v.outcome != Pass {
		return v
	}
	a := r.proven(ctx, path, url.Values{"client_id": {clientID()}, "token": {"conformance"}})
	return a.is(statusOK)
}

func oauthCall(ctx context.Context, r *runner) verdict {
	if r.oauth.none != "" {
		return skipped("%s", r.oauth.none)
	}
	q := xrpc(http.MethodGet, getSession, "DPoP conformance")
	proof, err := r.oauth.key.proof(http.MethodGet, r.origin+q.path, "conformance")
	if err != nil {
		return failed("make a proof: %v", err)
	}
	q.header = map[string]string{"DPoP": proof}
	a := r.do(ctx, q)
	if v, none := a.unanswered(); none {
		return v
	}
	offered := a.header.Get("WWW-Authenticate")
	if a.status != http.StatusUnauthorized || !strings.HasPrefix(offered, "DPoP ") || !strings.Contains(offered, `error="`) {
		return failed("%s, WWW-Authenticate: %q", a.said(), offered)
	}
	return passed()
}
