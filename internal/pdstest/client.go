package pdstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// Client calls XRPC without any library: for tests that compare bytes.
type Client struct {
	// Base is the server's URL.
	Base string
	// HTTP is the client to use; http.DefaultClient if nil.
	HTTP *http.Client
}

// Answer is a response, read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Request is one call. Method, unless set, is POST if there is a body, else
// GET.
type Request struct {
	Method string
	NSID   string // with its query, if any
	// Auth is the whole Authorization header.
	Auth   string
	Header http.Header
	// Body is sent as JSON: a string as it is, anything else encoded.
	Body any
}

// Do makes a call.
func (c Client) Do(tb testing.TB, r Request) Answer {
	tb.Helper()
	a, err := c.Try(tb, r)
	if err != nil {
		tb.Fatalf("%s: %v", r.NSID, err)
	}
	return a
}

// Try is Do for a call that may fail on its way.
func (c Client) Try(tb testing.TB, r Request) (Answer, error) {
	tb.Helper()
	var body io.Reader
	if r.Body != nil {
		text, ok := r.Body.(string)
		if !ok {
			raw, err := json.Marshal(r.Body)
			if err != nil {
				tb.Fatal(err)
			}
			text = string(raw)
		}
		body = strings.NewReader(text)
	}
	if r.Method == "" {
		r.Method = http.MethodGet
		if r.Body != nil {
			r.Method = http.MethodPost
		}
	}
	req, err := http.NewRequestWithContext(tb.Context(), r.Method, c.Base+"/xrpc/"+r.NSID, body)
	if err != nil {
		tb.Fatal(err)
	}
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(req.Header, r.Header)
	if r.Auth != "" {
		req.Header.Set("Authorization", r.Auth)
	}
	httpClient := c.HTTP
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: raw}, err
}

// Decode reads a JSON answer into v.
func (a Answer) Decode(tb testing.TB, v any) {
	tb.Helper()
	if err := json.Unmarshal(a.Body, v); err != nil {
		tb.Fatalf("status %d, body %q: %v", a.Status, a.Body, err)
	}
}

// Error returns the name and message of an error answer.
func (a Answer) Error(tb testing.TB) (name, message string) {
	tb.Helper()
	var e struct{ Error, Message string }
	a.Decode(tb, &e)
	return e.Error, e.Message
}

// WantError fails the test unless the answer is that error.
func (a Answer) WantError(tb testing.TB, status int, name, message string) {
	tb.Helper()
	got := fmt.Sprintf("%d %s", a.Status, bytes.TrimSpace(a.Body))
	want, err := json.Marshal(struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}{name, message})
	if err != nil {
		tb.Fatal(err)
	}
	if got != fmt.Sprintf("%d %s", status, want) {
		tb.Errorf("got  %s\nwant %d %s", got, status, want)
	}
}

// Session is what createAccount, createSession and refreshSession answer.
type Session struct {
	DID             string          `json:"did"`
	Handle          string          `json:"handle"`
	AccessJwt       string          `json:"accessJwt"`
	RefreshJwt      string          `json:"refreshJwt"`
	DIDDoc          json.RawMessage `json:"didDoc"`
	Email           string          `json:"email"`
	EmailConfirmed  *bool           `json:"emailConfirmed"`
	EmailAuthFactor *bool           `json:"emailAuthFactor"`
	Active          *bool           `json:"active"`
	Status          string          `json:"status"`
}

// Bearer is the Authorization header of a token.
func Bearer(token string) string { return "Bearer " + token }

// Password is that of every account that SignUp makes.
const Password = "correct-horse-battery"

// SignUp makes the account NAME.test and returns its first session.
func (c Client) SignUp(tb testing.TB, name string) Session {
	tb.Helper()
	a := c.Do(tb, Request{NSID: "com.atproto.server.createAccount", Body: map[string]string{
		"handle": name + ".test", "email": name + "@example.com", "password": Password,
	}})
	return a.session(tb)
}

// SignIn starts a session.
func (c Client) SignIn(tb testing.TB, identifier, password string) Session {
	tb.Helper()
	a := c.Do(tb, Request{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": identifier, "password": password}})
	return a.session(tb)
}

// Refresh makes one refreshSession with a refresh token.
func (c Client) Refresh(tb testing.TB, token string) Answer {
	tb.Helper()
	return c.Do(tb, Request{Method: http.MethodPost, NSID: "com.atproto.server.refreshSession", Auth: Bearer(token)})
}

// MustRefresh is Refresh that succeeds.
func (c Client) MustRefresh(tb testing.TB, token string) Session {
	tb.Helper()
	return c.Refresh(tb, token).session(tb)
}

// GetSession makes one getSession with an access token.
func (c Client) GetSession(tb testing.TB, token string) Answer {
	tb.Helper()
	return c.Do(tb, Request{NSID: "com.atproto.server.getSession", Auth: Bearer(token)})
}

func (a Answer) session(tb testing.TB) Session {
	tb.Helper()
	if a.Status != http.StatusOK {
		tb.Fatalf("status %d: %s", a.Status, a.Body)
	}
	var s Session
	a.Decode(tb, &s)
	return s
}
