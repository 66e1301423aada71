package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/conformance"
)

// ask runs all checks against a good server, and returns the outcomes by name. during is
// called with the check that begins, under the server's lock.
func (g *good) ask(ctx context.Context, t *testing.T, during func(check string)) (conformance.Report, error) {
	t.Helper()
	target, err := conformance.ParseTarget(g.base)
	if err != nil {
		t.Fatal(err)
	}
	names, next := conformance.Names(), 1
	return conformance.Run(ctx, conformance.Options{
		Target: target, Identifier: aliceHandle, Password: alicePassword, Version: "test",
		Progress: func(r conformance.Result) {
			g.mu.Lock()
			defer g.mu.Unlock()
			switch {
			case next < len(names):
				during(names[next])
			default:
				during("the end")
			}
			next++
		},
	})
}

// signInStep is what runs before the first check.
const signInStep = "the first sign-in"

// TestGoodServer: a server that keeps the contract passes every check. It is left as it was.
func TestGoodServer(t *testing.T) {
	t.Parallel()
	g := newGood(t)
	r, err := g.ask(t.Context(), t, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if c.Outcome != conformance.Pass {
			t.Errorf("%s: %s: %s", c.Check, c.Outcome, c.Detail)
		}
	}
	if n := g.open(); n != 0 || r.Left != 0 {
		t.Errorf("%d of %d sessions are open, the report has %d", n, len(g.sessions), r.Left)
	}
	if r.Calls != g.calls || r.Calls > r.MostCalls || r.MostCalls != conformance.MostCalls() {
		t.Errorf("%d calls were made, the report has %d of %d", g.calls, r.Calls, r.MostCalls)
	}
	if len(r.Checks) != len(conformance.Names()) || r.Counts[conformance.Pass] != len(r.Checks) || r.DID != aliceDID || r.Server != g.base {
		t.Errorf("%+v", r)
	}
	t.Logf("%d checks, %d of at most %d calls, %d sessions", len(r.Checks), r.Calls, r.MostCalls, len(g.sessions))
}

// spoiled is a fault of a server: what it does to answers while one check runs, the check
// that finds it, and what that says.
type spoiled struct {
	what    string
	during  string // the check that finds it if empty
	check   string
	outcome conformance.Outcome
	detail  string // a part of it
	spoil   func(s *scene, q *query, a *reply)
}

// scene is what a fault may remember.
type scene struct {
	*good

	seen map[string]int
}

// again counts how often a text came, the first time with 1.
func (s *scene) again(text string) int {
	s.seen[text]++
	return s.seen[text]
}

func on(name string, change func(a *reply)) func(*scene, *query, *reply) {
	return func(_ *scene, q *query, a *reply) {
		if q.name == name {
			change(a)
		}
	}
}

func set(name, member string, value any) func(*scene, *query, *reply) {
	return on(name, func(a *reply) { a.object[member] = value })
}

func without(name, member string) func(*scene, *query, *reply) {
	return on(name, func(a *reply) { delete(a.object, member) })
}

func header(name, field, value string) func(*scene, *query, *reply) {
	return on(name, func(a *reply) {
		a.header.Del(field)
		if value != "" {
			a.header.Set(field, value)
		}
	})
}

func becomes(name string, with *reply) func(*scene, *query, *reply) {
	return on(name, func(a *reply) {
		h := maps.Clone(a.header)
		maps.Copy(h, with.header)
		*a = reply{status: with.status, header: h, object: maps.Clone(with.object), raw: with.raw}
	})
}

// resign changes claims of a token in createSession's answer, under the server's own key.
func resign(token string, header object, claims object) func(*scene, *query, *reply) {
	return on("createSession", func(a *reply) {
		text, _ := a.object[token].(string)
		parts := strings.Split(text, ".")
		h, c := decode(parts[0]), decode(parts[1])
		maps.Copy(h, header)
		maps.Copy(c, claims)
		a.object[token] = sign(h, c)
	})
}

// once lets each refresh token refresh once, as a server without a grace period does.
func once(s *scene, q *query, a *reply) {
	if q.name == "refreshSession" && s.again(q.token()) > 1 {
		becomes(q.name, refusal(400, "ExpiredToken", "Token has been revoked"))(s, q, a)
	}
}

// forged changes the answers to tokens whose parts are those of a forgery.
func forged(holds func(parts []string) bool, with *reply) func(*scene, *query, *reply) {
	return func(s *scene, q *query, a *reply) {
		if parts := strings.Split(q.token(), "."); q.token() != "" && holds(parts) {
			becomes(q.name, with)(s, q, a)
		}
	}
}

func algNone(parts []string) bool {
	return len(parts) == 3 && parts[2] == "" && decode(parts[0])["alg"] == "none"
}

// TestSpoiledServers: each check finds the fault that it is for, and no other check does.
func TestSpoiledServers(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, c := range slices.Concat(spoiledSessions, spoiledOAuth) {
		found[c.check] = true
		t.Run(c.check+", "+c.what, func(t *testing.T) {
			t.Parallel()
			g := newGood(t)
			s, now := &scene{g, map[string]int{}}, signInStep
			when := c.during
			if when == "" {
				when = c.check
			}
			g.spoil = func(q *query, a *reply) {
				if now == when {
					c.spoil(s, q, a)
				}
			}
			first := conformance.Names()[0]
			if when == first {
				now = first
			}
			r, err := g.ask(t.Context(), t, func(check string) { now = check })
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range r.Checks {
				switch {
				case got.Check != c.check && got.Outcome == conformance.Skipped && c.outcome == conformance.Fail: // needs what failed
				case got.Check != c.check && got.Outcome != conformance.Pass:
					t.Errorf("%s: %s: %s", got.Check, got.Outcome, got.Detail)
				case got.Check == c.check && (got.Outcome != c.outcome || !strings.Contains(got.Detail, c.detail)):
					t.Errorf("%s: %s: %q, want %s with %q", got.Check, got.Outcome, got.Detail, c.outcome, c.detail)
				}
			}
			if n := g.open(); n != 0 {
				t.Errorf("%d sessions are open", n)
			}
			if g.calls > r.MostCalls {
				t.Errorf("%d calls, announced were %d", g.calls, r.MostCalls)
			}
		})
	}
	for _, name := range conformance.Names() {
		if !found[name] {
			t.Errorf("no fault shows that %s can fail", name)
		}
	}
}

var spoiledSessions = []spoiled{
	{"no domains", "", "server.describe", conformance.Fail, "availableUserDomains", without("describeServer", "availableUserDomains")},
	{"a huge answer", "", "server.describe", conformance.Fail, "too large", becomes("describeServer", &reply{status: 200, raw: strings.Repeat("x", 600<<10)})},
	{"another DID", "", "server.resolve-handle", conformance.Fail, "resolves to", set("resolveHandle", "did", "did:web:x.example.com")},
	{"not JSON", signInStep, "sign-in.answer", conformance.Fail, "text/plain", header("createSession", "Content-Type", "text/plain")},
	{"another's document", signInStep, "sign-in.did-doc", conformance.Fail, "id is", set("createSession", "didDoc", object{"id": "did:web:x.example.com"})},
	{"another handle in it", signInStep, "sign-in.did-doc", conformance.Fail, "at://", set("createSession", "didDoc", object{"id": aliceDID})},
	{"another host in it", signInStep, "sign-in.did-doc", conformance.Differs, "clients go on at", func(_ *scene, q *query, a *reply) {
		if q.name == "createSession" {
			a.object["didDoc"] = object{"id": aliceDID, "alsoKnownAs": []any{"at://" + aliceHandle}, "service": []any{
				object{"id": "#atproto_pds", "serviceEndpoint": "https://elsewhere.example.com"},
			}}
		}
	}},
	{"no document", signInStep, "sign-in.did-doc", conformance.Skipped, "no didDoc", func(_ *scene, q *query, a *reply) {
		if q.name == "createSession" {
			a.object["didDoc"] = "none" // is there, for answers.members
		}
	}},
	{"handles with case", "", "sign-in.identifiers", conformance.Fail, "capitals", func(_ *scene, q *query, a *reply) {
		if strings.Contains(q.body, strings.ToUpper(aliceHandle)) {
			becomes(q.name, refusal(401, "AuthenticationRequired", "no"))(nil, q, a)
		}
	}},
	{"no addresses", "", "sign-in.email", conformance.Differs, "401", becomes("createSession", refusal(401, "AuthenticationRequired", "no"))},
	{"strict members", "", "sign-in.unknown-members", conformance.Fail, "400", becomes("createSession", refusal(400, "InvalidRequest", "no"))},
	{"400 for a password", "", "sign-in.wrong-password", conformance.Fail, "400", func(s *scene, q *query, a *reply) {
		becomes("createSession", refusal(400, "AuthenticationRequired", "Invalid identifier or password"))(s, q, a)
	}},
	{"tells who has an account", "", "sign-in.unknown-account", conformance.Differs, "No such account", becomes("createSession", refusal(401, "AuthenticationRequired", "No such account"))},
	{"422", "", "sign-in.malformed", conformance.Fail, "422", becomes("createSession", refusal(422, "InvalidRequest", "no"))},
	{"a fraction in exp", signInStep, "tokens.form", conformance.Fail, "exp is", resign("accessJwt", nil, object{"exp": float64(time.Now().Unix()) + 7200.5})},
	{"alg none", signInStep, "tokens.claims", conformance.Fail, "alg", resign("accessJwt", object{"alg": "none"}, nil)},
	{"another scope", signInStep, "tokens.claims", conformance.Differs, "scope", resign("accessJwt", nil, object{"scope": "com.example.all"})},
	{"another audience", signInStep, "tokens.claims", conformance.Differs, "aud", resign("accessJwt", nil, object{"aud": "did:web:x.example.com"})},
	{"no typ", signInStep, "tokens.claims", conformance.Differs, "typ", resign("refreshJwt", object{"typ": "JWT"}, nil)},
	{"no jti", signInStep, "tokens.claims", conformance.Differs, "jti", resign("refreshJwt", nil, object{"jti": ""})},
	{"a clock that is ahead", signInStep, "tokens.lives", conformance.Differs, "clock", resign("accessJwt", nil, object{"iat": int64(4e9), "exp": int64(4e9) + 7200})},
	{"a minute", signInStep, "tokens.lives", conformance.Differs, "an access token lives", resign("accessJwt", nil, object{"exp": time.Now().Unix() + 60})},
	{"a refresh token of a minute", signInStep, "tokens.lives", conformance.Fail, "no longer", resign("refreshJwt", nil, object{"exp": time.Now().Unix() + 60})},
	{"another handle", "", "get-session.answer", conformance.Fail, "bob", set("getSession", "handle", "bob.example.com")},
	{"no HEAD", "", "get-session.head", conformance.Differs, "404", becomes("getSession", refusal(404, "NotFound", "no"))},
	{"GET refreshes", "", "get-session.method", conformance.Fail, "200", func(s *scene, q *query, a *reply) {
		if q.Method == http.MethodGet && q.name == "refreshSession" {
			becomes(q.name, success(s.account(s.pair(0, 0))))(s, q, a)
		}
	}},
	{"403", "", "access.missing", conformance.Fail, "403", becomes("getSession", refusal(403, "AuthMissing", "no"))},
	{"another name", "", "access.missing", conformance.Differs, "NoAuth", becomes("getSession", refusal(401, "NoAuth", "no"))},
	{"ExpiredToken", "", "access.missing", conformance.Fail, "ExpiredToken", becomes("getSession", refusal(401, "ExpiredToken", "no"))},
	{"404", "", "access.scheme", conformance.Fail, "404", becomes("getSession", refusal(404, "NotFound", "no"))},
	{"accepts alg none", "", "access.forged", conformance.Fail, "alg none", forged(algNone, success(object{}))},
	{"ExpiredToken", "", "access.forged", conformance.Fail, "garbage", becomes("getSession", refusal(400, "ExpiredToken", "no"))},
	{"another name", "", "access.forged", conformance.Differs, "BadToken", becomes("getSession", refusal(401, "BadToken", "no"))},
	{"accepts it", "", "access.refresh-token", conformance.Fail, "200", becomes("getSession", success(object{}))},

	{"another account", "", "refresh.answer", conformance.Fail, "did:web:x", func(s *scene, q *query, a *reply) {
		if q.name == "refreshSession" {
			a.object["did"] = "did:web:x.example.com"
		}
	}},
	{"the same token", "refresh.answer", "refresh.rotates", conformance.Differs, "same", func(_ *scene, q *query, a *reply) {
		if q.name == "refreshSession" {
			a.object["refreshJwt"] = q.token()
		}
	}},
	{"no grace", "", "refresh.lost-answer", conformance.Fail, "same token again: 400 ExpiredToken", once},
	{"a dead answer", "", "refresh.lost-answer", conformance.Fail, "second answer's access token", func(s *scene, q *query, a *reply) {
		if q.name == "getSession" && s.again(q.name) == 1 {
			becomes(q.name, refusal(400, "ExpiredToken", "no"))(s, q, a)
		}
	}},
	{"one of eight", "", "refresh.at-once", conformance.Fail, "400 ExpiredToken", once},
	{"a chain for each", "", "refresh.at-once", conformance.Differs, "8 refresh tokens", func(s *scene, q *query, a *reply) {
		if text, ok := a.object["refreshJwt"].(string); ok && s.again(q.name) <= 8 {
			parts := strings.Split(text, ".")
			c := decode(parts[1])
			c["jti"] = strings.Repeat("x", s.seen[q.name])
			a.object["refreshJwt"] = sign(decode(parts[0]), c)
		}
	}},
	{"a refused tab", "", "refresh.stale-tab", conformance.Differs, "stale tab is refused", once},
	{"a family that is ended", "", "refresh.stale-tab", conformance.Fail, "newest token", func(s *scene, q *query, a *reply) {
		if q.name == "refreshSession" && s.again(q.name) >= 3 {
			becomes(q.name, refusal(400, "ExpiredToken", "Token has been revoked"))(s, q, a)
		}
	}},
	{"400", "", "refresh.missing", conformance.Fail, "400", becomes("refreshSession", refusal(400, "AuthMissing", "no"))},
	{"ExpiredToken", "", "refresh.access-token", conformance.Fail, "ExpiredToken", becomes("refreshSession", refusal(400, "ExpiredToken", "no"))},
	{"accepts it", "", "refresh.access-token", conformance.Fail, "200", becomes("refreshSession", success(object{}))},
	{"accepts alg none", "", "refresh.forged", conformance.Fail, "alg none", forged(algNone, success(object{}))},
	{"refuses {}", "", "refresh.no-input", conformance.Differs, "{}: 400", func(s *scene, q *query, a *reply) {
		if q.body == "{}" {
			becomes(q.name, refusal(400, "InvalidRequest", "no"))(s, q, a)
		}
	}},
	{"passes it on", "", "refresh.ignored", conformance.Differs, "400", becomes("refreshSession", refusal(400, "InvalidRequest", "no"))},
	{"false without status", signInStep, "answers.active", conformance.Fail, "without status", set("createSession", "active", false)},
	{"one less", signInStep, "answers.members", conformance.Differs, "createSession: no emailAuthFactor", without("createSession", "emailAuthFactor")},
	{"public", "get-session.answer", "answers.private", conformance.Differs, "getSession", header("getSession", "Cache-Control", "public")},

	{"accepts it", "", "sign-out.access-token", conformance.Fail, "200", becomes("deleteSession", success(object{}))},
	{"404", "", "sign-out.answer", conformance.Fail, "404", func(s *scene, q *query, a *reply) {
		if q.name == "deleteSession" {
			s.sessions[len(s.sessions)-1].ended = false
			becomes(q.name, refusal(404, "NotFound", "no"))(s, q, a)
		}
	}},
	{"once only", "", "sign-out.answer", conformance.Differs, "ended already", func(s *scene, q *query, a *reply) {
		if q.name == "deleteSession" && s.again(q.name) == 2 {
			becomes(q.name, refusal(400, "ExpiredToken", "no"))(s, q, a)
		}
	}},
	{"still refreshes", "", "sign-out.refresh", conformance.Fail, "200", becomes("refreshSession", success(object{}))},
	{"a name that keeps it", "", "sign-out.refresh", conformance.Fail, "InvalidRequest", becomes("refreshSession", refusal(400, "InvalidRequest", "no"))},
	{"still works", "", "sign-out.access", conformance.Differs, "until it expires", becomes("getSession", success(object{}))},
	{"401", "", "sign-out.access", conformance.Fail, "401", becomes("getSession", refusal(401, "ExpiredToken", "no"))},
	{"a long answer", "", "sign-out.access", conformance.Differs, "bytes", becomes("getSession", refusal(400, "ExpiredToken", strings.Repeat("x", 81)))},
	{"comes back", "", "sign-out.predecessor", conformance.Differs, "opens the session again", becomes("refreshSession", success(object{}))},
	{"all are ended", "", "sign-out.others", conformance.Fail, "another session", becomes("getSession", refusal(400, "ExpiredToken", "no"))},

	{"no Authorization", "", "cors.preflight", conformance.Fail, "authorization", header("refreshSession", "Access-Control-Allow-Headers", "*")},
	{"404", "", "cors.preflight", conformance.Fail, "404", becomes("refreshSession", refusal(404, "NotFound", "no"))},
	{"not on errors", "access.forged", "cors.answers", conformance.Fail, "getSession 400", header("getSession", "Access-Control-Allow-Origin", "")},
	{"nothing", signInStep, "cors.exposed", conformance.Differs, "Retry-After", header("createSession", "Access-Control-Expose-Headers", "")},
	{"no message", "access.missing", "errors.form", conformance.Fail, "message", without("getSession", "message")},
	{"charset", "access.missing", "errors.content-type", conformance.Differs, "charset", header("getSession", "Content-Type", "application/json; charset=utf-8")},
	{"a word", "get-session.answer", "rate-limits.headers", conformance.Fail, "soon", header("getSession", "RateLimit-Reset", "soon")},
	{"from now", "get-session.answer", "rate-limits.headers", conformance.Differs, "60", header("getSession", "RateLimit-Reset", "60")},
	{"a date", "get-session.answer", "rate-limits.headers", conformance.Differs, "GMT", header("getSession", "Retry-After", "Mon, 30 Nov 2026 09:50:00 GMT")},
}

var spoiledOAuth = []spoiled{
	{"another origin", "", "oauth.resource", conformance.Fail, "resource is", set("oauth-protected-resource", "resource", "https://x.example.com")},
	{"no scripts", "", "oauth.resource", conformance.Fail, "Access-Control-Allow-Origin", header("oauth-protected-resource", "Access-Control-Allow-Origin", "")},
	{"another issuer", "", "oauth.server", conformance.Fail, "issuer", set("oauth-authorization-server", "issuer", "https://x.example.com")},
	{"no PAR", "", "oauth.server", conformance.Fail, "require_pushed", set("oauth-authorization-server", "require_pushed_authorization_requests", false)},
	{"no ES256", "", "oauth.server", conformance.Fail, "dpop_signing", set("oauth-authorization-server", "dpop_signing_alg_values_supported", []any{"RS256"})},
	{"alg none", "", "oauth.server", conformance.Fail, "has none", set("oauth-authorization-server", "dpop_signing_alg_values_supported", []any{"ES256", "none"})},
	{"no nonce", "", "oauth.nonce", conformance.Fail, "DPoP-Nonce", header("par", "DPoP-Nonce", "")},
	{"hidden nonce", "", "oauth.nonce", conformance.Fail, "Expose", header("par", "Access-Control-Expose-Headers", "Retry-After")},
	{"no challenge", "", "oauth.call", conformance.Fail, "WWW-Authenticate", header("getSession", "WWW-Authenticate", "")},
	{"200", "", "oauth.push", conformance.Differs, "201", on("par", func(a *reply) { a.status = 200 })},
	{"no request_uri", "", "oauth.push", conformance.Fail, "request_uri", without("par", "request_uri")},
	{"stored", "", "oauth.push", conformance.Differs, "Cache-Control", header("par", "Cache-Control", "")},
	{"accepts it", "", "oauth.redirect", conformance.Fail, "201", becomes("par", &reply{status: 201, object: object{"request_uri": "urn:x", "expires_in": 1}})},
	{"plain", "", "oauth.pkce", conformance.Fail, "plain", func(s *scene, q *query, a *reply) {
		if strings.Contains(q.body, "plain") {
			becomes(q.name, &reply{status: 201, object: object{"request_uri": "urn:x", "expires_in": 1}})(s, q, a)
		}
	}},
	{"401", "", "oauth.proof", conformance.Differs, "401", on("par", func(a *reply) { a.status = 401 })},
	{"accepts it", "", "oauth.proof", conformance.Fail, "201", becomes("par", &reply{status: 201, object: object{"request_uri": "urn:x"}})},
	{"redirects", "", "oauth.authorize", conformance.Fail, "303", func(_ *scene, q *query, a *reply) {
		a.status = http.StatusSeeOther
		a.header.Set("Location", q.URL.Query().Get("redirect_uri")+"?code=x")
	}},
	{"a page of status 200", "", "oauth.authorize", conformance.Differs, "200", on("authorize", func(a *reply) { a.status = 200 })},
	{"another name", "", "oauth.token", conformance.Fail, "invalid_request", set("token", "error", "invalid_request")},
	{"400", "", "oauth.revoke", conformance.Fail, "400", becomes("revoke", refusal(400, "invalid_token", "no"))},
}

// TestNoOAuth: what a server lacks is skipped, and says so.
func TestNoOAuth(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*scene, *query, *reply){
		"the server has no OAuth": becomes("oauth-protected-resource", &reply{status: 404}),
		"another host":            set("oauth-protected-resource", "authorization_servers", []any{"https://bsky.example.com"}),
		"http://localhost":        becomes("par", refusal(400, "invalid_client_metadata", "no")),
	} {
		g := newGood(t)
		g.spoil = func(q *query, a *reply) { spoil(nil, q, a) }
		r, err := g.ask(t.Context(), t, func(string) {})
		if err != nil || r.Counts[conformance.Fail]+r.Counts[conformance.Differs] != 0 || r.Counts[conformance.Skipped] < 8 {
			t.Errorf("%s: %v, %v", name, r.Counts, err)
		}
		for _, c := range r.Checks {
			if c.Outcome == conformance.Skipped && !strings.Contains(c.Detail, name) {
				t.Errorf("%s: skipped because %q", c.Check, c.Detail)
			}
		}
	}
}

// TestSignsOut: a run that is interrupted, or that the server limits, ends what it opened and
// makes no other call.
func TestSignsOut(t *testing.T) {
	t.Parallel()
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		g := newGood(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := g.ask(ctx, t, func(check string) {
			if check == "refresh.at-once" {
				cancel()
			}
		})
		if !errors.Is(err, conformance.ErrIncomplete) || !strings.Contains(err.Error(), "interrupted") || r.Left != 0 || g.open() != 0 || len(g.sessions) < 4 {
			t.Errorf("%v: %d of %d sessions are open", err, g.open(), len(g.sessions))
		}
		if len(r.Checks) != len(conformance.Names()) || r.Checks[len(r.Checks)-1].Outcome != conformance.Skipped {
			t.Errorf("%d checks", len(r.Checks))
		}
	})
	t.Run("limited", func(t *testing.T) {
		t.Parallel()
		g := newGood(t)
		limits := false
		g.spoil = func(q *query, a *reply) {
			if limits && q.name != "deleteSession" {
				becomes(q.name, refusal(429, "RateLimitExceeded", "no"))(nil, q, a)
				a.header.Set("Retry-After", "77")
			}
		}
		before := 0
		r, err := g.ask(t.Context(), t, func(check string) {
			if check == "access.forged" {
				limits, before = true, g.calls
			}
		})
		for _, c := range r.Checks {
			if c.Outcome == conformance.Fail {
				t.Errorf("%s: %s", c.Check, c.Detail)
			}
		}
		if !errors.Is(err, conformance.ErrIncomplete) || !strings.Contains(err.Error(), "77") || r.Left != 0 || g.open() != 0 || r.Counts[conformance.Fail] != 0 {
			t.Errorf("%v: %v, %d sessions are open", err, r.Counts, g.open())
		}
		if n := g.calls - before; n > 1+len(g.sessions)+2 {
			t.Errorf("%d calls after the limit", n)
		}
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		g := newGood(t)
		end := false
		g.spoil = func(q *query, a *reply) {
			if end {
				becomes("deleteSession", refusal(500, "InternalServerError", "no"))(nil, q, a)
			}
		}
		r, err := g.ask(t.Context(), t, func(check string) { end = check == "the end" })
		if err != nil || r.Left == 0 {
			t.Errorf("%d are left, %v", r.Left, err)
		}
	})
}

// TestLostAnswers: sign-ins and sign-outs whose answer was lost are counted, and sign-outs are tried
// once more.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	g := newGood(t)
	now, lost := "", false
	outs := 0
	g.spoil = func(q *query, a *reply) {
		switch {
		case q.name == "createSession" && now == "sign-in.unknown-members" && !lost:
			lost = true
			a.object, a.raw = nil, "{"
			a.header.Set("Content-Length", "100") // more than comes
		case q.name == "deleteSession" && now == "the end":
			if outs++; outs == 1 {
				becomes(q.name, refusal(502, "UpstreamFailure", "no"))(nil, q, a)
			}
		}
	}
	r, err := g.ask(t.Context(), t, func(check string) { now = check })
	if err != nil || r.Unseen != 1 || r.Left != 0 || r.Unanswered != 0 || g.open() != 1 {
		t.Errorf("%d sign-ins are unseen, %d tokens refused, %d unanswered, %d sessions open, %v", r.Unseen, r.Left, r.Unanswered, g.open(), err)
	}
}

// TestNoPDS: a web server that answers everything with a page is none.
func TestNoPDS(t *testing.T) {
	t.Parallel()
	g := newGood(t)
	g.spoil = func(_ *query, a *reply) {
		*a = reply{status: 200, header: http.Header{"Content-Type": {"text/html"}}, raw: "<html></html>"}
	}
	if r, err := g.ask(t.Context(), t, func(string) {}); !errors.Is(err, conformance.ErrSignIn) || len(r.Checks) != 0 {
		t.Errorf("%v, %d checks", err, len(r.Checks))
	}
}

// TestCannotSignIn: without a first session nothing is checked.
func TestCannotSignIn(t *testing.T) {
	t.Parallel()
	g := newGood(t)
	g.spoil = func(q *query, a *reply) {
		becomes(q.name, refusal(401, "AuthFactorTokenRequired", "A sign in code has been sent"))(nil, q, a)
	}
	r, err := g.ask(t.Context(), t, func(string) {})
	if !errors.Is(err, conformance.ErrSignIn) || !strings.Contains(err.Error(), "AuthFactorTokenRequired") || len(r.Checks) != 0 || g.calls != 1 {
		t.Errorf("%v, %d checks, %d calls", err, len(r.Checks), g.calls)
	}
}

// TestNoRedirect: no credential goes to another host, wherever the server points.
func TestNoRedirect(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was called", r.URL) }))
	defer elsewhere.Close()
	g := newGood(t)
	g.spoil = func(_ *query, a *reply) {
		a.status = http.StatusTemporaryRedirect
		a.header.Set("Location", elsewhere.URL)
	}
	if _, err := g.ask(t.Context(), t, func(string) {}); !errors.Is(err, conformance.ErrSignIn) {
		t.Error(err)
	}
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]conformance.Target{
		"https://pds.example.com":      {Origin: "https://pds.example.com"},
		"https://pds.example.com/":     {Origin: "https://pds.example.com"},
		"https://pds.example.com:8443": {Origin: "https://pds.example.com:8443"},
		"HTTPS://PDS.Example.com:443/": {Origin: "https://pds.example.com"},
		"https://pds.example.com:":     {Origin: "https://pds.example.com"},
		"https://pds.example.com:80":   {Origin: "https://pds.example.com:80"},
		"http://LocalHost:80":          {Origin: "http://localhost", Loopback: true},
		"http://[::1]:80":              {Origin: "http://[::1]", Loopback: true},
		"http://localhost:2583":        {Origin: "http://localhost:2583", Loopback: true},
		"http://pds.localhost":         {Origin: "http://pds.localhost", Loopback: true},
		"http://127.0.0.1:2583/":       {Origin: "http://127.0.0.1:2583", Loopback: true},
		"http://[::1]:2583":            {Origin: "http://[::1]:2583", Loopback: true},
	} {
		if got, err := conformance.ParseTarget(raw); got != want || err != nil {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
	for raw, says := range map[string]string{
		"":                              "https://",
		"pds.example.com":               "https://pds.example.com",
		"https://":                      "has no host",
		"http://pds.example.com":        "unencrypted",
		"http://192.168.1.5:2583":       "unencrypted",
		"ftp://pds.example.com":         "use https",
		"https://alice@pds.example.com": "scheme and host alone",
		"https://pds.example.com/xrpc":  "scheme and host alone",
		"https://pds.example.com?a=b":   "scheme and host alone",
		"https://pds example.com":       "read the server's URL",
	} {
		if _, err := conformance.ParseTarget(raw); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", raw, err, says)
		}
	}
}

// TestDocumented: docs/clients.md has the table of the checks, word for word.
func TestDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	r, err := newGood(t).ask(t.Context(), t, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	names := map[string]bool{}
	for _, c := range r.Checks {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", c.Check, c.Expects, c.Why)
		names[c.Check] = true
	}
	_, got, _ := strings.Cut(string(text), "| check | expects | because |\n|---|---|---|\n")
	got, _, _ = strings.Cut(got, "\n\n")
	if strings.TrimSpace(got) != strings.TrimSpace(table.String()) {
		t.Errorf("the table of docs/clients.md is to be\n%s", &table)
	}
	if len(names) != len(r.Checks) {
		t.Error("two checks have one name")
	}
}
