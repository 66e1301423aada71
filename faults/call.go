package faults

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// call is what is known of a request before the server sees it.
type call struct {
	// method is the NSID, or else the path.
	method string
	// kind is Refresh, SignIn or empty.
	kind string
	// account is the DID that the token names, or the identifier that the request signs in with.
	account string
	// raw is the token that is presented: as a credential, or to be exchanged; token is what it says, nil for
	// none.
	raw   string
	token *claims
	proof *proof
	// body is the request's, if it was read; texts are the texts in it.
	body  []byte
	texts map[string]string
	// oauth: errors have the form of OAuth's endpoints.
	oauth bool
	// upgrade: the connection becomes a stream. head: the answer has no body.
	upgrade, head bool
}

// claims are the contents of one of the server's own tokens, which only the server verifies.
type claims struct {
	Typ      string `json:"-"`
	Scope    string `json:"scope"`
	Iss      string `json:"iss"`
	Aud      string `json:"aud"`
	Sub      string `json:"sub"`
	SID      string `json:"sid"`
	JTI      string `json:"jti"`
	ClientID string `json:"client_id"`
	IAT      int64  `json:"iat"`
	EXP      int64  `json:"exp"`
	CNF      struct {
		JKT string `json:"jkt"`
	} `json:"cnf"`
}

// generation returns the number of a refresh token; false if the token has none.
func (c *claims) generation() (int64, bool) {
	text, ok := strings.CutPrefix(c.JTI, c.SID+".")
	if c.SID == "" || !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// life returns how long the token lives from its issue.
func (c *claims) life() time.Duration { return time.Duration(c.EXP-c.IAT) * time.Second }

// sessionID returns the number of the session, as commands know it.
func (c *claims) sessionID() (int64, bool) { return numberOf(c.SID) }

// numberOf returns the number of the session that a token names so.
func numberOf(sid string) (int64, bool) {
	text, _, ok := strings.Cut(sid, "-")
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseInt(text, 36, 64)
	return id, err == nil
}

// readToken reads a JWT without a look at its signature; nil if it is not one.
func readToken(token string) *claims {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	var header struct {
		Typ string `json:"typ"`
	}
	var c claims
	if !decodePart(parts[0], &header) || !decodePart(parts[1], &c) {
		return nil
	}
	c.Typ = header.Typ
	return &c
}

func decodePart(part string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(raw, into) == nil
}

// proof is what a DPoP header has: the key as it came, and the nonce.
type proof struct{ key, nonce string }

func readProof(header string) *proof {
	parts := strings.Split(header, ".")
	var head struct {
		JWK json.RawMessage `json:"jwk"`
	}
	var body struct {
		Nonce string `json:"nonce"`
	}
	if len(parts) != 3 || !decodePart(parts[0], &head) || !decodePart(parts[1], &body) || len(head.JWK) == 0 {
		return nil
	}
	return &proof{string(head.JWK), body.Nonce}
}

// The methods that begin a session, or move one on.
const (
	createAccount  = "com.atproto.server.createAccount"
	createSession  = "com.atproto.server.createSession"
	refreshSession = "com.atproto.server.refreshSession"
	updateHandle   = "com.atproto.identity.updateHandle"
	deleteSession  = "com.atproto.server.deleteSession"
	oauthToken     = "/oauth/token" //nolint:gosec // a path
	oauthPush      = "/oauth/par"
	oauthRevoke    = "/oauth/revoke"
)

// look returns what a request is. It reads a body of JSON or a form, and puts it back.
func look(r *http.Request) *call {
	c := &call{method: r.URL.Path, upgrade: strings.EqualFold(r.Header.Get("Upgrade"), "websocket"), head: r.Method == http.MethodHead}
	if nsid, ok := strings.CutPrefix(r.URL.Path, "/xrpc/"); ok {
		c.method = nsid
	}
	if proofs := r.Header.Values("DPoP"); len(proofs) == 1 {
		c.proof = readProof(proofs[0])
	}
	if _, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
		c.present(token)
	}
	if r.Method == http.MethodPost && r.ContentLength <= maxMembers {
		c.body, c.texts = members(r)
	}
	switch c.method {
	case refreshSession:
		c.kind = Refresh
	case createSession, createAccount:
		c.kind, c.account = SignIn, c.texts["identifier"]
	case oauthToken:
		c.oauth, c.kind = true, SignIn
		if c.texts["grant_type"] == "refresh_token" {
			c.kind = Refresh
			c.present(c.texts["refresh_token"])
		}
	case oauthPush:
		c.oauth = true
	case oauthRevoke:
		c.oauth = true
		c.present(c.texts["token"])
	}
	if c.token != nil && c.token.Sub != "" {
		c.account = c.token.Sub
	}
	return c
}

// present notes the token of a call.
func (c *call) present(token string) { c.raw, c.token = token, readToken(token) }

// maxMembers bounds the body that is looked at, in bytes: the server takes no larger one of JSON.
const maxMembers = 1 << 20

// members returns a request's body, and the texts in it, a form or JSON, and puts the body back. It leaves
// other types alone, and what is too large.
func members(r *http.Request) ([]byte, map[string]string) {
	kind := r.Header.Get("Content-Type")
	isForm := strings.HasPrefix(kind, "application/x-www-form-urlencoded")
	if r.Body == nil || !isForm && !strings.HasPrefix(kind, "application/json") {
		return nil, nil
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxMembers+1))
	rest := r.Body
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(raw), rest), rest}
	texts := map[string]string{}
	if err != nil || len(raw) > maxMembers {
		return nil, texts
	}
	if isForm {
		if form, err := url.ParseQuery(string(raw)); err == nil {
			for name := range form {
				texts[name] = form.Get(name)
			}
		}
		return raw, texts
	}
	var all map[string]any
	if json.Unmarshal(raw, &all) != nil {
		return raw, texts
	}
	for name, value := range all {
		if text, ok := value.(string); ok {
			texts[name] = text
		}
	}
	return raw, texts
}

// isOf reports whether a fault names the call's method.
func (f Fault) isOf(c *call) bool {
	if len(f.Methods) == 0 {
		return c.oauth || !strings.HasPrefix(c.method, "/") && c.method != health
	}
	return slices.ContainsFunc(f.Methods, func(name string) bool {
		begin, star := strings.CutSuffix(name, "*")
		return name == c.method || star && strings.HasPrefix(c.method, begin) || c.kind != "" && name == c.kind
	})
}
