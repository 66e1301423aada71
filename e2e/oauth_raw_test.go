package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
	"nestbox/oauth/oauthtest"
)

// grant is an app's session, without any library: for tests that count every answer. One
// goroutine uses it at a time.
type grant struct {
	client pdstest.Client
	id     string // client_id
	key    *oauthtest.Signer
	nonce  string

	access, refresh string
	// spent is the last call that was answered, with its proof.
	spent *http.Request
}

const rawScope = "atproto transition:generic"

// newGrant lets an account's owner sign in to an app with a key of its own.
func newGrant(t *testing.T, c pdstest.Client, identifier string) *grant {
	t.Helper()
	const redirect = "http://127.0.0.1/callback"
	g := &grant{client: c, key: oauthtest.NewSigner("ES256")}
	g.id = "http://localhost?" + url.Values{"scope": {rawScope}, "redirect_uri": {redirect}}.Encode()
	verifier := rand.Text() + rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	pushed := g.mustPost(t, "/oauth/par", http.StatusCreated, url.Values{
		"response_type": {"code"}, "redirect_uri": {redirect}, "scope": {rawScope}, "state": {rand.Text()},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	})
	p := person{identifier: identifier, password: pdstest.Password}
	link := c.Base + "/oauth/authorize?" + url.Values{"client_id": {g.id}, "request_uri": {pushed.RequestURI}}.Encode()
	callback, err := url.Parse(p.mustAnswer(t, link))
	if err != nil {
		t.Fatal(err)
	}
	tokens := g.mustPost(t, "/oauth/token", http.StatusOK, url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")}, "redirect_uri": {redirect}, "code_verifier": {verifier},
	})
	g.access, g.refresh = tokens.AccessToken, tokens.RefreshToken
	return g
}

// oauthAnswer is what the endpoints answer.
type oauthAnswer struct {
	RequestURI       string `json:"request_uri"`
	AccessToken      string `json:"access_token"`
	RefreshToken     string `json:"refresh_token"`
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description"`
}

// post sends a form with a proof, and again if the nonce was refused. An error means that
// the answer was lost.
func (g *grant) post(t *testing.T, path string, form url.Values) (int, oauthAnswer, error) {
	form.Set("client_id", g.id)
	status, answer, err := g.postOnce(t, path, form)
	if err == nil && answer.Error == "use_dpop_nonce" {
		status, answer, err = g.postOnce(t, path, form)
	}
	return status, answer, err
}

func (g *grant) postOnce(t *testing.T, path string, form url.Values) (int, oauthAnswer, error) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.client.Base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, oauthAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer oauthAnswer
	status, body, err := g.do(req, "")
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	return status, answer, err
}

func (g *grant) mustPost(t *testing.T, path string, want int, form url.Values) oauthAnswer {
	t.Helper()
	status, answer, err := g.post(t, path, form)
	if err != nil || status != want {
		t.Fatalf("%s: %d %+v, %v", path, status, answer, err)
	}
	return answer
}

// do makes a request with a proof.
func (g *grant) do(req *http.Request, token string) (int, []byte, error) {
	req.Header.Set("DPoP", g.key.Proof(req.Method, g.client.Base+req.URL.Path, g.nonce, token))
	if token != "" {
		req.Header.Set("Authorization", "DPoP "+token)
	}
	client := g.client.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if nonce := resp.Header.Get("DPoP-Nonce"); nonce != "" {
		g.nonce = nonce
	}
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// errSignedOut: the server has refused a grant that is alive.
var errSignedOut = errors.New("signed out")

// refreshOnce presents the newest refresh token that the app was given.
func (g *grant) refreshOnce(t *testing.T) error {
	status, answer, err := g.post(t, "/oauth/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.refresh}})
	switch {
	case err != nil:
		return err
	case status != http.StatusOK:
		t.Errorf("refresh: %d %s %s", status, answer.Error, answer.ErrorDescription)
		return errSignedOut
	}
	if had, got := generation(t, g.refresh), generation(t, answer.RefreshToken); got != had+1 {
		t.Errorf("generation %d was answered with %d", had, got)
		return errSignedOut
	}
	g.access, g.refresh = answer.AccessToken, answer.RefreshToken
	return nil
}

// get calls a method with the access token, again if the nonce was refused. An error means
// that the answer was lost.
func (g *grant) get(t *testing.T, nsid string) (status int, body string, err error) {
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.client.Base+"/xrpc/"+nsid, http.NoBody)
		if err != nil {
			return 0, "", err
		}
		s, b, err := g.do(req, g.access)
		if err != nil {
			return 0, "", err
		}
		status, body = s, string(b)
		if status == http.StatusOK {
			g.spent = req
		}
		if !strings.Contains(body, "use_dpop_nonce") {
			break
		}
	}
	return status, body, nil
}

// replay sends the last call that was answered again, as somebody who has seen it.
func (g *grant) replay(t *testing.T) (status int, body string) {
	t.Helper()
	resp, err := g.client.HTTP.Do(g.spent.Clone(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
