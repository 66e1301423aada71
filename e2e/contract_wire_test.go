package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

const (
	onlyGetAndPost = "XRPC requests only supports GET and POST"
	jsonType       = "application/json"
)

// TestContractMethods shows the rows about HTTP methods.
func TestContractMethods(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		for _, c := range []struct{ nsid, method, message string }{
			{refreshSession, "GET", "Incorrect HTTP method (GET) expected POST"},
			{refreshSession, "HEAD", ""},
			{refreshSession, "PUT", onlyGetAndPost},
			{refreshSession, "DELETE", onlyGetAndPost},
			{refreshSession, "PATCH", onlyGetAndPost},
			{deleteSession, "GET", "Incorrect HTTP method (GET) expected POST"},
			{deleteSession, "DELETE", onlyGetAndPost},
			{createSession, "GET", "Incorrect HTTP method (GET) expected POST"},
			{getSession, "POST", "Incorrect HTTP method (POST) expected GET"},
			{getSession, "PUT", onlyGetAndPost},
		} {
			t.Run(c.method+" "+c.nsid, func(t *testing.T) {
				token := made.RefreshJwt
				if c.nsid == getSession {
					token = made.AccessJwt
				}
				a := s.Do(t, pdstest.Request{Method: c.method, NSID: c.nsid, Auth: pdstest.Bearer(token)})
				if c.method == http.MethodHead {
					wantStatus(t, a, http.StatusBadRequest)
					get := s.Do(t, pdstest.Request{NSID: c.nsid})
					wantHeader(t, a, "Content-Length", get.Header.Get("Content-Length"))
					return
				}
				wireError{400, "InvalidRequest", c.message}.want(t, a)
			})
		}
		got := s.GetSession(t, made.AccessJwt)
		head := s.Do(t, pdstest.Request{Method: http.MethodHead, NSID: getSession, Auth: pdstest.Bearer(made.AccessJwt)})
		wantStatus(t, head, http.StatusOK)
		if len(head.Body) > 0 {
			t.Errorf("HEAD has a body: %s", head.Body)
		}
		wantHeader(t, head, "Content-Length", got.Header.Get("Content-Length"))
		wantHeader(t, head, "Content-Type", got.Header.Get("Content-Type"))
		// A wrong method has refreshed and ended nothing.
		if next := s.wantLive(t, made); generation(t, next.RefreshJwt) != 1 {
			t.Errorf("generation %d", generation(t, next.RefreshJwt))
		}
	})
}

// chunked hides a body's length, so that it is sent in chunks.
type chunked struct{ io.Reader }

// TestContractBodies: refreshSession and deleteSession accept what means "no
// body", with any Content-Type, and refuse a body with content.
func TestContractBodies(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		send := func(t *testing.T, nsid, token string, body io.Reader, contentType string) pdstest.Answer {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Base+"/xrpc/"+nsid, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", pdstest.Bearer(token))
			if contentType != "" {
				req.Header.Set("Content-Type", contentType)
			}
			return roundTrip(t, req)
		}
		made := s.SignUp(t, "alice")
		for _, contentType := range []string{"", jsonType, "text/plain", "application/x-www-form-urlencoded", "nonsense"} {
			for _, body := range []string{"", "{}", " \r\n\t", " { \n } "} {
				a := send(t, refreshSession, made.RefreshJwt, strings.NewReader(body), contentType)
				wantStatus(t, a, http.StatusOK)
				a = send(t, refreshSession, made.RefreshJwt, chunked{strings.NewReader(body)}, contentType)
				wantStatus(t, a, http.StatusOK)
			}
			for _, body := range []string{`{"a":1}`, "null", "[]", `""`, "0", "text", "{", "{}{}", "\x00", "a=b"} {
				for _, nsid := range []string{refreshSession, deleteSession} {
					bodyUnexpected.want(t, send(t, nsid, made.RefreshJwt, strings.NewReader(body), contentType))
					bodyUnexpected.want(t, send(t, nsid, made.RefreshJwt, chunked{strings.NewReader(body)}, contentType))
				}
			}
		}
		wantStatus(t, s.GetSession(t, made.AccessJwt), http.StatusOK)
		for _, body := range []string{"", "{}", "  "} {
			other := s.SignIn(t, "alice.test", pdstest.Password)
			wantEmpty(t, send(t, deleteSession, other.RefreshJwt, chunked{strings.NewReader(body)}, jsonType))
			s.wantEnded(t, other)
		}
		// The credential is checked before the body.
		unverified.want(t, send(t, refreshSession, made.AccessJwt, strings.NewReader("text"), ""))
	})
}

func roundTrip(t *testing.T, req *http.Request) pdstest.Answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return pdstest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}
}

// TestContractIgnored: what refreshSession ignores.
func TestContractIgnored(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		for _, query := range []string{"?a=1", "?handle=x&handle=y", "?%zz", "?"} {
			a := s.Do(t, pdstest.Request{
				Method: http.MethodPost, NSID: refreshSession + query, Auth: pdstest.Bearer(made.RefreshJwt),
				Header: http.Header{"Atproto-Proxy": {"did:web:api.example.com#bsky_appview"}},
			})
			wantStatus(t, a, http.StatusOK)
		}
	})
}

// TestContractCORS shows the preflight and what pages of other origins may read.
func TestContractCORS(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		for _, nsid := range []string{refreshSession, createSession, getSession, deleteSession, "com.example.unknown"} {
			a := s.Do(t, pdstest.Request{Method: http.MethodOptions, NSID: nsid, Header: http.Header{
				"Origin": {"https://app.example"}, "Access-Control-Request-Method": {"POST"},
				"Access-Control-Request-Headers": {"authorization, X-Bsky-Topics,bad header"},
			}})
			wantStatus(t, a, http.StatusNoContent)
			wantHeader(t, a, "Access-Control-Allow-Origin", "*")
			allowed := strings.ToLower(a.Header.Get("Access-Control-Allow-Headers"))
			for _, name := range []string{"authorization", "content-type", "atproto-proxy", "atproto-accept-labelers", "dpop", "x-bsky-topics"} {
				if !strings.Contains(", "+allowed+", ", ", "+name+", ") {
					t.Errorf("%s does not allow %s: %s", nsid, name, allowed)
				}
			}
			if strings.Contains(allowed, "bad header") {
				t.Errorf("allowed: %s", allowed)
			}
			for _, method := range []string{"GET", "POST"} {
				if !strings.Contains(a.Header.Get("Access-Control-Allow-Methods"), method) {
					t.Errorf("methods %s", a.Header.Get("Access-Control-Allow-Methods"))
				}
			}
		}
		exposed := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: refreshSession}).Header.Get("Access-Control-Expose-Headers")
		for _, name := range []string{
			"DPoP-Nonce", "WWW-Authenticate", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy",
			"Retry-After", "Atproto-Repo-Rev", "Atproto-Content-Labelers", "Content-Range", "Accept-Ranges", "ETag",
		} {
			if !strings.Contains(", "+exposed+", ", ", "+name+", ") {
				t.Errorf("%s is not exposed: %s", name, exposed)
			}
		}
	})
}

// TestContractStorage: if storage fails, every route answers 503 with
// Retry-After and nobody loses a session; when it is back, all goes on. The
// test removes the tables under the running server, whose caches are cold.
func TestContractStorage(t *testing.T) {
	dir := t.TempDir()
	first := pdstest.Start(t, pdstest.Options{Dir: dir})
	alice := first.SignUp(t, "alice")
	bob := first.SignUp(t, "bob")
	first.Stop()
	unavailable := func(t *testing.T, a pdstest.Answer) {
		t.Helper()
		wireError{503, "ServiceUnavailable", "The service cannot answer right now, please try again"}.want(t, a)
		wantHeader(t, a, "Retry-After", "2")
	}
	for _, table := range []string{"session", "account"} {
		t.Run(table, func(t *testing.T) {
			srv := pdstest.Start(t, pdstest.Options{Dir: dir})
			s := subject{srv.Client, dir}
			alterDatabase(t, dir, "ALTER TABLE "+table+" RENAME TO gone;")
			unavailable(t, s.Refresh(t, alice.RefreshJwt))
			unavailable(t, s.GetSession(t, alice.AccessJwt))
			unavailable(t, s.post(t, deleteSession, alice.RefreshJwt))
			unavailable(t, s.signIn(t, map[string]string{"identifier": "alice.test", "password": pdstest.Password}))
			unavailable(t, s.Do(t, pdstest.Request{NSID: "com.atproto.server.listAppPasswords", Auth: pdstest.Bearer(alice.AccessJwt)}))
			if table == "account" {
				wantStatus(t, s.Do(t, pdstest.Request{NSID: "_health"}), http.StatusServiceUnavailable)
				unavailable(t, s.Do(t, pdstest.Request{NSID: "com.atproto.identity.resolveHandle?handle=alice.test"}))
				unavailable(t, s.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: map[string]string{
					"handle": "carol.test", "email": "carol@example.com", "password": pdstest.Password,
				}}))
			}
			alterDatabase(t, dir, "ALTER TABLE gone RENAME TO "+table+";")
			alice = s.wantLive(t, alice)
			bob = s.wantLive(t, bob)
			// Reads that a cache answers go on; writes cannot.
			alterDatabase(t, dir, "ALTER TABLE session RENAME TO gone;")
			wantStatus(t, s.GetSession(t, alice.AccessJwt), http.StatusOK)
			unavailable(t, s.Refresh(t, alice.RefreshJwt))
			alterDatabase(t, dir, "ALTER TABLE gone RENAME TO session;")
			alice = s.wantLive(t, alice)
			srv.Stop()
		})
	}
}
