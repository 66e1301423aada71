package conformance_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The account of a good server.
const (
	aliceDID      = "did:plc:ragtjsm2j2vknwkz3zp4oxrd"
	aliceHandle   = "alice.example.com"
	aliceEmail    = "alice@example.com"
	alicePassword = "correct-horse-battery"
	serverDID     = "did:web:localhost"
)

type object = map[string]any

// good is a server that keeps the contract, in memory, for one account. spoil changes its
// answers on their way out.
type good struct {
	base  string
	spoil func(q *query, a *reply)

	mu       sync.Mutex
	calls    int
	sessions []*life
}

// life is a session: its generation, and whether it was ended.
type life struct {
	head  int
	ended bool
}

// query is a request as the test looks at it.
type query struct {
	*http.Request

	name string // the NSID's last part, or the path
	body string
}

func (q *query) token() string {
	_, token, _ := strings.Cut(q.Header.Get("Authorization"), " ")
	return token
}

// reply is an answer. The body is object unless raw is set.
type reply struct {
	status int
	header http.Header
	object object
	raw    string
}

func refusal(status int, name, message string) *reply {
	return &reply{status: status, header: http.Header{"Content-Type": {"application/json"}}, object: object{"error": name, "message": message}}
}

func success(o object) *reply {
	return &reply{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}, object: o}
}

func newGood(t *testing.T) *good {
	t.Helper()
	g := &good{}
	srv := httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(srv.Close)
	g.base = srv.URL
	return g
}

func (g *good) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	q := &query{r, r.URL.Path[strings.LastIndexAny(r.URL.Path, "./")+1:], string(body)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	before := len(g.sessions)
	a := g.answer(q)
	h := http.Header{
		"Access-Control-Allow-Origin": {"*"}, "Access-Control-Expose-Headers": {"DPoP-Nonce, WWW-Authenticate, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After"},
		"Cache-Control": {"private"}, "Ratelimit-Limit": {"3000"}, "Ratelimit-Remaining": {"2999"}, "Ratelimit-Reset": {strconv.FormatInt(time.Now().Unix()+300, 10)},
	}
	maps.Copy(h, a.header)
	a.header = h
	if g.spoil != nil {
		g.spoil(q, a)
	}
	if a.status != http.StatusOK { // as a server that opens nothing then
		g.sessions = g.sessions[:before]
	}
	out := []byte(a.raw)
	if a.object != nil {
		if out, err = json.Marshal(a.object); err != nil {
			panic(err)
		}
	}
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(out)
}

// open counts the sessions that are not ended.
func (g *good) open() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sessions {
		if !s.ended {
			n++
		}
	}
	return n
}

func (g *good) answer(q *query) *reply {
	wants := map[string]string{"createSession": "POST", "refreshSession": "POST", "deleteSession": "POST", "getSession": "GET"}[q.name]
	switch {
	case strings.HasPrefix(q.URL.Path, "/oauth/"), strings.HasPrefix(q.URL.Path, "/.well-known/"):
		return g.oauth(q)
	case q.Method == http.MethodOptions:
		return &reply{status: http.StatusNoContent, header: http.Header{"Access-Control-Allow-Headers": {"authorization, content-type, atproto-proxy"}}}
	case wants != "" && q.Method != wants && (wants != "GET" || q.Method != http.MethodHead):
		return refusal(400, "InvalidRequest", "Incorrect HTTP method")
	}
	switch q.name {
	case "describeServer":
		return success(object{"did": serverDID, "availableUserDomains": []string{".example.com"}})
	case "resolveHandle":
		return success(object{"did": aliceDID})
	case "createSession":
		return g.signIn(q)
	}
	if strings.HasPrefix(q.Header.Get("Authorization"), "DPoP ") {
		a := refusal(401, "invalid_token", "Invalid token")
		a.header.Set("WWW-Authenticate", `DPoP algs="ES256", error="invalid_token"`)
		return a
	}
	if q.Header.Get("Authorization") == "" {
		return refusal(401, "AuthMissing", "Authentication Required")
	}
	claims, ok := g.verified(q)
	if !ok {
		return refusal(400, "InvalidToken", "Token could not be verified")
	}
	var id, generation int
	if _, err := fmt.Sscanf(claims["sid"].(string), "%d.%d", &id, &generation); err != nil {
		panic(err)
	}
	s := g.sessions[id]
	if refreshes := claims["scope"] == "com.atproto.refresh"; refreshes != (q.name != "getSession") {
		return refusal(400, "InvalidToken", "Token could not be verified")
	}
	switch {
	case q.name == "deleteSession":
		s.ended = true
		return &reply{status: http.StatusOK}
	case s.ended && q.name == "getSession":
		return refusal(400, "ExpiredToken", "Token has expired")
	case s.ended:
		return refusal(400, "ExpiredToken", "Token has been revoked")
	case q.name == "getSession":
		return success(g.account(nil))
	}
	if generation == s.head {
		s.head++
	}
	return success(g.account(g.pair(id, s.head)))
}

func (g *good) signIn(q *query) *reply {
	var in struct{ Identifier, Password string }
	if json.Unmarshal([]byte(q.body), &in) != nil || in.Password == "" {
		return refusal(400, "InvalidRequest", "Missing a field")
	}
	switch strings.ToLower(in.Identifier) {
	case aliceDID, aliceHandle, aliceEmail:
		if in.Password == alicePassword {
			g.sessions = append(g.sessions, &life{})
			return success(g.account(g.pair(len(g.sessions)-1, 0)))
		}
	}
	return refusal(401, "AuthenticationRequired", "Invalid identifier or password")
}

// account returns the members of an answer, with a pair of tokens if there is one.
func (g *good) account(pair object) object {
	out := object{
		"did": aliceDID, "handle": aliceHandle, "email": aliceEmail, "emailConfirmed": true, "emailAuthFactor": false, "active": true,
		"didDoc": object{"id": aliceDID, "alsoKnownAs": []any{"at://" + aliceHandle}, "service": []any{
			object{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": g.base},
		}},
	}
	maps.Copy(out, pair)
	return out
}

func (g *good) pair(id, generation int) object {
	now, sid := time.Now().Unix(), fmt.Sprintf("%d.%d", id, generation)
	return object{
		"accessJwt": sign(object{"typ": "at+jwt", "alg": "HS256"}, object{
			"scope": "com.atproto.access", "aud": serverDID, "sub": aliceDID, "sid": sid, "iat": now, "exp": now + 7200,
		}),
		"refreshJwt": sign(object{"typ": "refresh+jwt", "alg": "HS256"}, object{
			"scope": "com.atproto.refresh", "aud": serverDID, "sub": aliceDID, "sid": sid, "jti": sid, "iat": now, "exp": now + 90*86400,
		}),
	}
}

// verified returns the claims of a token that is signed by the server.
func (g *good) verified(q *query) (object, bool) {
	parts := strings.Split(q.token(), ".")
	if len(parts) != 3 || !strings.HasPrefix(q.Header.Get("Authorization"), "Bearer ") || parts[2] != mac(parts[0]+"."+parts[1]) {
		return nil, false
	}
	return decode(parts[1]), true
}

// sign returns a token of the server's.
func sign(header, claims object) string {
	signed := encode(header) + "." + encode(claims)
	return signed + "." + mac(signed)
}

func mac(signed string) string {
	m := hmac.New(sha256.New, []byte("the server's secret"))
	m.Write([]byte(signed))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func encode(o object) string {
	raw, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func decode(part string) (o object) {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		panic(err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&o); err != nil {
		panic(err)
	}
	return o
}

// goodNonce is the nonce of the good server.
const goodNonce = "the-nonce"

func (g *good) oauth(q *query) *reply {
	form, err := url.ParseQuery(q.body)
	if err != nil {
		panic(err)
	}
	var proof object
	if parts := strings.Split(q.Header.Get("DPoP"), "."); len(parts) == 3 {
		proof = decode(parts[1])
	}
	bad := func(name string) *reply {
		return &reply{status: 400, header: http.Header{"Content-Type": {"application/json"}, "Dpop-Nonce": {goodNonce}}, object: object{"error": name, "error_description": "no"}}
	}
	switch {
	case q.name == "oauth-protected-resource":
		return success(object{"resource": g.base, "authorization_servers": []any{g.base}})
	case q.name == "oauth-authorization-server":
		return success(g.metadata())
	case q.name == "authorize":
		return &reply{status: 400, header: http.Header{"Content-Type": {"text/html"}}, raw: "This link is not valid"}
	case proof["nonce"] != goodNonce:
		return bad("use_dpop_nonce")
	case proof["htu"] != g.base+q.URL.Path:
		return bad("invalid_dpop_proof")
	case q.name == "token":
		return bad("invalid_grant")
	case q.name == "revoke":
		return success(object{})
	case form.Get("redirect_uri") != "http://127.0.0.1/callback" || form.Get("code_challenge") == "" || form.Get("code_challenge_method") != "S256":
		return bad("invalid_request")
	}
	a := success(object{"request_uri": "urn:x", "expires_in": 600})
	a.status = http.StatusCreated
	a.header.Set("Cache-Control", "no-store")
	return a
}

func (g *good) metadata() object {
	return object{
		"issuer": g.base, "authorization_endpoint": g.base + "/oauth/authorize", "token_endpoint": g.base + "/oauth/token",
		"pushed_authorization_request_endpoint": g.base + "/oauth/par", "revocation_endpoint": g.base + "/oauth/revoke",
		"response_types_supported": []any{"code"}, "grant_types_supported": []any{"authorization_code", "refresh_token"},
		"code_challenge_methods_supported":                 []any{"S256"},
		"token_endpoint_auth_methods_supported":            []any{"none", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []any{"ES256"},
		"scopes_supported":                                 []any{"atproto"}, "dpop_signing_alg_values_supported": []any{"ES256"},
		"authorization_response_iss_parameter_supported": true, "require_pushed_authorization_requests": true, "client_id_metadata_document_supported": true,
	}
}
