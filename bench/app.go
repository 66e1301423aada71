package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// What the users' programs are and ask for: public clients on this computer, for which no
// document is fetched (https://atproto.com/specs/oauth#localhost-client-development), with
// the scope that most apps have.
const (
	appID       = "http://localhost?scope=atproto%20transition%3Ageneric"
	appScope    = "atproto transition:generic"
	appRedirect = "http://127.0.0.1/"
)

// The paths of an authorization server that a program calls itself. Both have the same.
const (
	pathPush  = "/oauth/par"
	pathToken = "/oauth/token"
)

// getSessionPath is that of the call which is measured with a proof.
const getSessionPath = "/xrpc/com.atproto.server.getSession"

// app is a user's program: its key, and the server as the key's proofs name it.
type app struct {
	origin string
	key    *ecdsa.PrivateKey
	// head is the first part of each proof, jkt the thumbprint of the key (RFC 7638).
	head, jkt string
}

// encoded is the base64 of all parts of a proof.
func encoded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func newApp(origin string) (*app, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	jwk := fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, encoded(point[1:33]), encoded(point[33:]))
	hash := sha256.Sum256(jwk)
	head := fmt.Appendf(nil, `{"typ":"dpop+jwt","alg":"ES256","jwk":%s}`, jwk)
	return &app{origin: origin, key: key, head: encoded(head) + ".", jkt: encoded(hash[:])}, nil
}

// proof signs a DPoP proof (RFC 9449 section 4.2); nonce and token may be empty.
func (a *app) proof(method, path, nonce, token string) (string, error) {
	claims := fmt.Appendf(nil, `{"jti":"%s","htm":"%s","htu":"%s%s","iat":%d`, rand.Text(), method, a.origin, path, time.Now().Unix())
	if nonce != "" {
		claims = fmt.Appendf(claims, `,"nonce":"%s"`, nonce)
	}
	if token != "" {
		hash := sha256.Sum256([]byte(token))
		claims = fmt.Appendf(claims, `,"ath":"%s"`, encoded(hash[:]))
	}
	signed := a.head + encoded(append(claims, '}'))
	hash := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, a.key, hash[:])
	if err != nil {
		return "", err
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + encoded(sig[:]), nil
}

// call makes a request with a proof, and repeats it once if the server wants another nonce:
// on a connection's first request.
func (a *app) call(c *conn, method, path, token string, form url.Values) (status int, answer []byte, err error) {
	var body []byte
	if form != nil {
		body = []byte(form.Encode())
	}
	for range 2 {
		proof, err := a.proof(method, path, c.nonce, token)
		if err != nil {
			return 0, nil, err
		}
		header := "DPoP: " + proof + "\r\n"
		if token != "" {
			header += "Authorization: DPoP " + token + "\r\n"
		}
		if err := c.write(method, path, header, typeForm, body); err != nil {
			return 0, nil, err
		}
		if status, answer, err = c.reply(); err != nil {
			return 0, nil, err
		}
		if status < http.StatusBadRequest || !bytes.Contains(answer, []byte(`"use_dpop_nonce"`)) {
			break
		}
	}
	return status, answer, nil
}

// token calls the token endpoint, and keeps the user's new pair.
func (a *app) token(c *conn, u *user, form url.Values) error {
	form.Set("client_id", appID)
	status, body, err := a.call(c, http.MethodPost, pathToken, "", form)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return &answerError{status, string(body)}
	}
	access, refresh := field(body, "access_token"), field(body, "refresh_token")
	if access == "" || refresh == "" || refresh == u.refresh {
		return fmt.Errorf("an answer without a new pair of tokens: %.200q", body)
	}
	u.access, u.refresh = access, refresh
	return nil
}

// push pushes an authorization request (RFC 9126) and returns the path of the page that it
// leads to.
func (a *app) push(c *conn, challenge, hint string) (page string, err error) {
	form := url.Values{
		"client_id": {appID}, "redirect_uri": {appRedirect}, "response_type": {"code"}, "scope": {appScope}, "state": {rand.Text()},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	if hint != "" {
		form.Set("login_hint", hint)
	}
	status, body, err := a.call(c, http.MethodPost, pathPush, "", form)
	if err != nil {
		return "", err
	}
	uri := field(body, "request_uri")
	if status != http.StatusCreated || uri == "" {
		return "", &answerError{status, string(body)}
	}
	return pathAuthorize + "?" + url.Values{"client_id": {appID}, "request_uri": {uri}}.Encode(), nil
}

// signIn gives a user's program a new key and a grant: the request, the pages as a browser
// passes them, the exchange of the code. The pages' pictures, scripts and styles are not
// loaded.
func (s *site) signIn(c *conn, u *user) error {
	a, err := newApp(s.origin)
	if err != nil {
		return err
	}
	verifier := rand.Text() + rand.Text()
	hash := sha256.Sum256([]byte(verifier))
	page, err := a.push(c, encoded(hash[:]), "")
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	location, err := s.allow(newBrowser(c, s.origin), u, page)
	if err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	back, err := url.Parse(location)
	if err != nil {
		return err
	}
	code := back.Query().Get("code")
	if code == "" {
		return errors.New("a redirect without a code: " + location)
	}
	u.app = a
	if err := a.token(c, u, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {appRedirect}, "code_verifier": {verifier},
	}); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	return nil
}

// The operations of a program.
var (
	wholeFlow = operation{"OAuth: PAR, pages, code, token", func(c *conn, u *user) error {
		return u.site.signIn(c, u)
	}}
	refreshGrant = operation{"OAuth: token refresh", func(c *conn, u *user) error {
		return u.app.token(c, u, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {u.refresh}})
	}}
	boundSession = operation{"OAuth: getSession", func(c *conn, u *user) error {
		status, body, err := u.app.call(c, http.MethodGet, getSessionPath, u.access, nil)
		if err == nil && status != http.StatusOK {
			err = &answerError{status, string(body)}
		}
		return err
	}}
)
