package oauth_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/internal/seal"
	"nestbox/lexicon"
	"nestbox/mail"
	"nestbox/oauth"
	"nestbox/oauth/client"
	"nestbox/oauth/dpop"
	"nestbox/oauth/oauthtest"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/schema"
	"nestbox/session"
	"nestbox/store/storetest"
)

const (
	issuer   = "https://pds.test"
	audience = "did:web:pds.test"
	day      = 24 * time.Hour

	publicID       = "https://public.example.com/client.json"
	confidentialID = "https://confidential.example.com/client.json"
	trustedID      = "https://trusted.example.com/client.json"
	loopbackID     = "http://localhost?scope=atproto%20repo%3A*"

	verifier = "a-verifier-of-more-than-forty-three-characters"
)

// network is what clients' documents are fetched from.
type network struct {
	mu        sync.Mutex
	documents map[string]map[string]any
	down      bool
	fetched   int
}

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fetched++
	if n.down {
		return nil, errors.New("the network is down")
	}
	d, ok := n.documents[r.URL.String()]
	if !ok {
		return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
	}
	body, _ := json.Marshal(d)
	return &http.Response{
		StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body)), Request: r,
		Header: http.Header{"Content-Type": {"application/json"}},
	}, nil
}

// set changes a member of a client's document; nil takes it out.
func (n *network) set(id, member string, value any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if value == nil {
		delete(n.documents[id], member)
		return
	}
	n.documents[id][member] = value
}

func (n *network) fail(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

// noNames is a DNS that knows nothing.
type noNames struct{}

func (noNames) LookupTXT(context.Context, string) ([]string, error) {
	return nil, errors.New("no such name")
}

func (noNames) Host(context.Context, syntax.DID, bool) (schema.Host, error) {
	return schema.Host{}, errors.New("no such DID")
}

func (noNames) LexiconRecord(context.Context, syntax.DID, syntax.NSID) (schema.Record, bool, error) {
	return schema.Record{}, false, nil
}

// world is an authorization server on a database of its own, without a network.
type world struct {
	*oauth.Service
	*storetest.World

	t       storetest.Tester
	clock   *storetest.Clock
	network *network
	key     *oauthtest.Signer // of the confidential client
	alice   *account.Account
}

func newWorld(t storetest.Tester, dir string) *world {
	t.Helper()
	w := &world{t: t, World: storetest.NewWorld(t, storetest.Options{Dir: dir}), key: oauthtest.NewSigner("ES256")}
	w.clock = w.Clock
	document := func(id string, more map[string]any) map[string]any {
		d := map[string]any{
			"client_id": id, "redirect_uris": []string{strings.TrimSuffix(id, "client.json") + "back"}, "response_types": []string{"code"},
			"grant_types": []string{"authorization_code", "refresh_token"}, "token_endpoint_auth_method": "none",
			"scope":                    "atproto transition:generic repo:com.example.post repo:com.example.like include:app.bsky.authCreatePosts",
			"dpop_bound_access_tokens": true, "application_type": "web",
		}
		maps.Copy(d, more)
		return d
	}
	jwk := w.key.JWK()
	jwk["kid"], jwk["alg"] = "key-1", "ES256"
	w.network = &network{documents: map[string]map[string]any{
		publicID:  document(publicID, nil),
		trustedID: document(trustedID, nil),
		confidentialID: document(confidentialID, map[string]any{
			"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
			"jwks": map[string]any{"keys": []any{jwk}},
		}),
	}}
	keys, err := auth.OpenKeyring(filepath.Join(dir, "keyring.json"), "", w.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	box, err := seal.NewBox(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	limits := ratelimit.New(10_000, w.clock.Now)
	builtIn, err := schema.BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	w.Service = &oauth.Service{
		Settings: oauth.Settings{Issuer: issuer, Audience: audience, SignUp: true},
		Keyring:  keys, CodeKey: []byte("key of codes"), Box: box, Limits: limits, Now: w.clock.Now, Log: log,
		Sessions: &session.Service{
			Settings: session.Settings{
				Rules:     session.Rules{ReuseWindow: day, RefreshTTL: 90 * day, Policy: session.PolicyReport},
				AccessTTL: 2 * time.Hour, Limit: 200, Audience: audience,
				OAuth: session.GrantRules{Issuer: issuer, AccessTTL: 25 * time.Minute, RefreshTTL: 90 * day, PublicTTL: 14 * day, TTL: 730 * day},
			},
			Keyring: keys, Notices: &account.Notices{Templates: &mail.Templates{Hostname: "pds.test"}, Limits: limits},
			Noted: ratelimit.New(10_000, w.clock.Now), Now: w.clock.Now, Log: log,
		},
		DPoP: &dpop.Checker{
			Nonces: dpop.NewNonces([]byte("secret of nonces")), Replays: dpop.NewReplays(w.clock.Now(), 0), Origin: issuer, Now: w.clock.Now,
		},
	}
	w.Clients = client.New(client.Options{
		Store: w.World.Clients, HTTP: &http.Client{Transport: w.network}, Issuer: issuer, Trusted: []string{trustedID}, Now: w.clock.Now, Log: log,
	})
	w.Schemas = schema.NewService(schema.Options{
		Store: w.World.PermissionSets, DNS: noNames{}, Hosts: noNames{}, Own: noNames{}, HTTP: &http.Client{Transport: w.network},
		BuiltIn: builtIn, Lexicons: lexicon.Known(), Now: w.clock.Now, Log: log,
	})
	w.wire()
	t.Cleanup(w.Clients.Close)
	t.Cleanup(w.Schemas.Close)
	w.alice = w.Account(hosting.Pending{Handle: "alice.test"})
	return w
}

// wire gives the services the stores of the database that is open.
func (w *world) wire() {
	w.Service.Store, w.Service.Accounts, w.Service.Factors = w.World.OAuth, w.World.Accounts, w.World.Factors
	w.Sessions.Store, w.Sessions.Accounts = w.World.Sessions, w.World.Accounts
	w.Clients.Store, w.Schemas.Store = w.World.Clients, w.World.PermissionSets
}

func newTestWorld(t *testing.T) *world {
	t.Helper()
	return newWorld(t, t.TempDir())
}

// app is an OAuth client, with its DPoP key.
type app struct {
	*world

	id    string
	dpop  *oauthtest.Signer
	key   *oauthtest.Signer // nil for a public client
	kid   string
	nonce string
	from  string // address
	agent string
}

func (w *world) app(id string) *app {
	a := &app{world: w, id: id, dpop: oauthtest.NewSigner("ES256"), from: "192.0.2.9", agent: "app/1"}
	if id == confidentialID {
		a.key, a.kid = w.key, "key-1"
	}
	return a
}

// redirect is where the app gets its answers.
func (a *app) redirect() string {
	if a.id == loopbackID {
		return "http://127.0.0.1/"
	}
	return strings.TrimSuffix(a.id, "client.json") + "back"
}

// answer is what an endpoint says.
type answer struct {
	Status      int
	Header      http.Header
	Body        map[string]any
	Error       string
	Description string
}

func (a answer) String() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s: %s", a.Status, a.Error, a.Description))
}

func (a answer) text(member string) string {
	s, _ := a.Body[member].(string)
	return s
}

func challenge(v string) string {
	h := sha256.Sum256([]byte(v))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// asked is what the app asks for by default.
func (a *app) asked() url.Values {
	return url.Values{
		"client_id": {a.id}, "response_type": {"code"}, "redirect_uri": {a.redirect()}, "scope": {"atproto repo:com.example.post"},
		"state": {"xyz"}, "code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"},
	}
}

// handler returns that of an endpoint.
func (a *app) handler(path string) http.HandlerFunc {
	return map[string]http.HandlerFunc{
		oauth.PathPush: a.ServePush, oauth.PathToken: a.ServeToken, oauth.PathRevoke: a.ServeRevoke,
		oauth.PathServer: a.ServeServer, oauth.PathResource: a.ServeResource, oauth.PathKeys: a.ServeKeys,
	}[path]
}

// send sends a request as it is.
func (a *app) send(path, contentType, body, proof string) answer {
	r := httptest.NewRequestWithContext(a.t.Context(), http.MethodPost, issuer+path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", a.agent)
	r.RemoteAddr = a.from + ":1234"
	if proof != "" {
		r.Header.Set("DPoP", proof)
	}
	w := httptest.NewRecorder()
	front := &request.Front{Log: slog.New(slog.DiscardHandler), Now: a.clock.Now}
	front.Handler(a.handler(path)).ServeHTTP(w, r)
	out := answer{Status: w.Code, Header: w.Header()}
	if err := json.Unmarshal(w.Body.Bytes(), &out.Body); err != nil {
		a.t.Errorf("%s: not JSON: %q", path, w.Body)
	}
	out.Error, out.Description = out.text("error"), out.text("error_description")
	if n := w.Header().Get("DPoP-Nonce"); n != "" {
		a.nonce = n
	} else {
		a.t.Errorf("%s: an answer without a nonce", path)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		a.t.Errorf("%s: Content-Type %q", path, got)
	}
	if w.Header().Get("WWW-Authenticate") != "" || w.Header().Get("Cache-Control") != "no-store" {
		a.t.Errorf("%s: headers %v", path, w.Header())
	}
	for _, c := range out.Description {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			a.t.Errorf("%s: description %q", path, out.Description)
		}
	}
	return out
}

// post sends a form with the app's proof and assertion, again if a nonce is wanted.
func (a *app) post(path string, form url.Values) answer {
	if a.key != nil && form.Get("client_assertion") == "" {
		form.Set("client_assertion_type", client.AssertionType)
		form.Set("client_assertion", a.key.Assertion(a.kid, a.id, issuer, a.clock.Now()))
	}
	for range 2 {
		got := a.send(path, "application/x-www-form-urlencoded", form.Encode(), a.dpop.Proof(http.MethodPost, issuer+path, a.nonce, ""))
		if got.Error != "use_dpop_nonce" {
			return got
		}
	}
	a.t.Fatalf("%s: the nonce was refused twice", path)
	return answer{}
}

// push pushes a request, and returns its URI.
func (a *app) push(changes ...string) (string, answer) {
	form := a.asked()
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == "" {
			form.Del(changes[i])
		} else {
			form.Set(changes[i], changes[i+1])
		}
	}
	got := a.post(oauth.PathPush, form)
	return got.text("request_uri"), got
}

// allow lets alice allow a request, all of it or what is granted, and returns what the app gets.
func (a *app) allow(uri, granted string) url.Values {
	a.t.Helper()
	ctx := request.WithClient(a.t.Context(), request.Client{Addr: netip.MustParseAddr("198.51.100.1"), UserAgent: "Mozilla/5.0 Firefox/1"})
	q, err := a.Find(ctx, a.id, uri)
	if err != nil {
		a.t.Fatalf("find %q: %v", uri, err)
	}
	if granted == "" {
		granted = q.Parameters.Scope
	}
	c, err := a.Service.Client(ctx, q)
	if err != nil {
		a.t.Fatal(err)
	}
	q, err = a.Service.Decide(ctx, q, oauth.Choice{Client: c, Decision: oauth.Allow, Who: &oauth.Here{ID: a.alice.ID, DID: a.alice.DID}, Granted: granted})
	if err != nil {
		a.t.Fatalf("allow: %v", err)
	}
	return a.parameters(a.Answer(q))
}

// parameters are those of an answer by redirect.
func (a *app) parameters(of oauth.Answer) url.Values {
	a.t.Helper()
	u, err := url.Parse(of.URL)
	if err != nil {
		a.t.Fatal(err)
	}
	return u.Query()
}

// code pushes a request and has it allowed.
func (a *app) code(changes ...string) string {
	a.t.Helper()
	uri, got := a.push(changes...)
	if got.Status != http.StatusCreated {
		a.t.Fatalf("push: %s", got)
	}
	return a.allow(uri, "").Get("code")
}

func (a *app) redeem(code string, changes ...string) answer {
	form := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {a.id}, "code": {code}, "redirect_uri": {a.redirect()}, "code_verifier": {verifier},
	}
	for i := 0; i+1 < len(changes); i += 2 {
		form.Set(changes[i], changes[i+1])
	}
	return a.post(oauth.PathToken, form)
}

func (a *app) refresh(token string) answer {
	return a.post(oauth.PathToken, url.Values{"grant_type": {"refresh_token"}, "client_id": {a.id}, "refresh_token": {token}})
}

func (a *app) revoke(token string) answer {
	return a.post(oauth.PathRevoke, url.Values{"client_id": {a.id}, "token": {token}})
}

// granted signs the app in.
func (a *app) granted(changes ...string) answer {
	a.t.Helper()
	// Each needs a challenge of its own.
	v := fmt.Sprintf("%s-%d", verifier, a.clock.Now().UnixNano())
	a.clock.Advance(time.Millisecond)
	got := a.redeem(a.code(append([]string{"code_challenge", challenge(v)}, changes...)...), "code_verifier", v)
	if got.Status != http.StatusOK {
		a.t.Fatalf("redeem: %s", got)
	}
	return got
}

// live reports whether an access token's session is live.
func (w *world) live(token string) bool {
	w.t.Helper()
	t, err := w.Keyring.VerifyOAuthAccess(token, issuer, audience, w.clock.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	g, err := w.Sessions.Granted(w.t.Context(), t)
	if err != nil {
		w.t.Fatal(err)
	}
	return g.Live
}

// trail returns how many entries of a kind alice's trail has.
func (w *world) trail(kind account.EntryKind) (n int) {
	w.t.Helper()
	entries, err := w.World.Accounts.Trail(w.t.Context(), w.alice.ID, account.TrailLimit)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// get reads a document.
func (a *app) get(path string) answer {
	a.t.Helper()
	w := httptest.NewRecorder()
	a.handler(path)(w, httptest.NewRequestWithContext(a.t.Context(), http.MethodGet, issuer+path, http.NoBody))
	out := answer{Status: w.Code, Header: w.Header()}
	if err := json.Unmarshal(w.Body.Bytes(), &out.Body); err != nil {
		a.t.Errorf("%s: not JSON: %q", path, w.Body)
	}
	return out
}
