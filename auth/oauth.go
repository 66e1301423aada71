package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/oauth/scope"
)

// ScopeOAuth marks the session of an OAuth grant. No token has it: what a grant allows
// is with its session.
const ScopeOAuth Scope = "oauth"

// The kinds of OAuth tokens. Each of the four kinds of token that a keyring signs has a
// typ of its own, so that none verifies as another.
const (
	typOAuthAccess  = "oauth-at+jwt"
	typOAuthRefresh = "oauth-refresh+jwt"
)

// Errors of an OAuth token itself. The authorization server and the resource server word
// them differently.
var (
	// ErrOAuthExpired: it was right, and its time is over.
	ErrOAuthExpired = errors.New("token has expired")
	// ErrOAuthInvalid: not a token of this kind that this server issued.
	ErrOAuthInvalid = errors.New("invalid token")
)

// OAuthToken is a verified OAuth token's content.
type OAuthToken struct {
	DID      syntax.DID
	ClientID string
	// SID names the session; empty for an access token that another server issued before we
	// took over from it, whose JTI names it.
	SID string
	// JTI names the generation of a refresh token; of an access token it is random.
	JTI string
	// JKT is the thumbprint of the DPoP key that an access token is bound to. A refresh
	// token has none: its session says which key it is.
	JKT      string
	IssuedAt time.Time
	Expires  time.Time
}

// Granted is what the server knows of an OAuth access token's account and session.
type Granted struct {
	// Status is the account's hosting status, empty if it is active. It is reported
	// before any fault of the session.
	Status string
	// Live means that the account exists and the session has not ended.
	Live bool
	// ClientID and JKT are those of the session: the client, and the thumbprint of its
	// DPoP key.
	ClientID string
	JKT      string
	// Scope is what the session allows now, with permission sets replaced by what they
	// expand to.
	Scope *scope.Set
}

// Grants looks up the account and session of an OAuth access token. Like Sessions, it is
// never older than the last committed change by this server.
type Grants interface {
	Granted(ctx context.Context, t OAuthToken) (Granted, error)
}

// OAuthIssue describes the tokens of one generation of an OAuth session. Times are cut to
// whole seconds.
type OAuthIssue struct {
	// Issuer is the origin; Audience is the server's DID.
	Issuer   string
	Audience string
	DID      syntax.DID
	ClientID string
	SID      string
	JTI      string
	// JKT is the thumbprint of the session's DPoP key.
	JKT            string
	Now            time.Time
	AccessExpires  time.Time
	RefreshExpires time.Time
}

// oauthClaims are the members of both OAuth tokens as we write them.
type oauthClaims struct {
	Iss      string        `json:"iss,omitempty"`
	Aud      string        `json:"aud"`
	Sub      string        `json:"sub"`
	ClientID string        `json:"client_id"`
	SID      string        `json:"sid"`
	JTI      string        `json:"jti"`
	IAT      int64         `json:"iat"`
	EXP      int64         `json:"exp"`
	CNF      *confirmation `json:"cnf,omitempty"`

	inherited bool // another server issued it
}

// confirmation is the claim cnf of RFC 9449 section 6.1.
type confirmation struct {
	JKT string `json:"jkt"`
}

// MintOAuth signs an access and a refresh token of an OAuth session.
func (k *Keyring) MintOAuth(i OAuthIssue) (Pair, error) {
	signing, iat := k.signing(), i.Now.Unix()
	id := make([]byte, 12)
	_, _ = rand.Read(id) // never fails: crypto/rand ends the process instead
	access, err := signing.sign(typOAuthAccess, &oauthClaims{
		Iss: i.Issuer, Aud: i.Audience, Sub: i.DID.String(), ClientID: i.ClientID, SID: i.SID,
		JTI: base64.RawURLEncoding.EncodeToString(id), IAT: iat, EXP: i.AccessExpires.Unix(), CNF: &confirmation{i.JKT},
	})
	if err != nil {
		return Pair{}, err
	}
	refresh, err := signing.sign(typOAuthRefresh, &oauthClaims{
		Aud: i.Issuer, Sub: i.DID.String(), ClientID: i.ClientID, SID: i.SID, JTI: i.JTI, IAT: iat, EXP: i.RefreshExpires.Unix(),
	})
	if err != nil {
		return Pair{}, err
	}
	return Pair{Access: access, Refresh: refresh}, nil
}

// VerifyOAuthAccess checks an OAuth access token itself, not its session and not the key
// that it is bound to. Errors: ErrOAuthExpired, ErrOAuthInvalid.
func (k *Keyring) VerifyOAuthAccess(token, issuer, audience string, now time.Time) (OAuthToken, error) {
	c, err := k.verifyOAuthAccess(token)
	if err != nil || c.Iss != issuer || c.Aud != audience || c.CNF == nil || c.CNF.JKT == "" {
		return OAuthToken{}, ErrOAuthInvalid
	}
	return c.content(now, false)
}

// VerifyOAuthRefresh checks an OAuth refresh token itself, not the state of its session.
// Errors: as VerifyOAuthAccess.
func (k *Keyring) VerifyOAuthRefresh(token, issuer string, now time.Time) (OAuthToken, error) {
	c, err := k.verifyOAuth(token, typOAuthRefresh)
	if err != nil || c.Aud != issuer || c.CNF != nil {
		return OAuthToken{}, ErrOAuthInvalid
	}
	return c.content(now, false)
}

// VerifyOAuthEnding returns the content of an access or refresh token, expired or not:
// this allows ending the session that it belongs to, and nothing else. ErrOAuthInvalid if it is
// neither.
func (k *Keyring) VerifyOAuthEnding(token, issuer, audience string) (OAuthToken, error) {
	if c, err := k.verifyOAuth(token, typOAuthRefresh); err == nil && c.Aud == issuer {
		return c.content(time.Time{}, true)
	}
	if c, err := k.verifyOAuthAccess(token); err == nil && c.Aud == audience && c.Iss == issuer {
		return c.content(time.Time{}, true)
	}
	return OAuthToken{}, ErrOAuthInvalid
}

// foreignOAuthLife is how long an OAuth access token of the reference is valid.
const foreignOAuthLife = time.Hour

// verifyOAuthAccess is verifyOAuth for access tokens, also for those that another server issued
// before this one took over its key: they have the typ of a session's, and name a client and a
// key as none of those does.
func (k *Keyring) verifyOAuthAccess(token string) (*oauthClaims, error) {
	if c, err := k.verifyOAuth(token, typOAuthAccess); err == nil {
		return c, nil
	}
	signed, payload, sig, ok := splitToken(token)
	if !ok || len(token) > maxToken {
		return nil, ErrOAuthInvalid
	}
	by := k.signedBy(signed, typAccess, sig)
	var c oauthClaims
	if by == nil || json.Unmarshal(payload, &c) != nil || c.SID != "" || c.CNF == nil || c.ClientID == "" {
		return nil, ErrOAuthInvalid
	}
	if !by.inherited(Token{IssuedAt: time.Unix(c.IAT, 0), Expires: time.Unix(c.EXP, 0)}, foreignOAuthLife) {
		return nil, ErrOAuthInvalid
	}
	c.inherited = true
	return &c, nil
}

// verifyOAuth checks that a key of the ring signed a token of the given kind. No other
// server ever signed one, so its header must be one that we write, byte for byte.
func (k *Keyring) verifyOAuth(token, typ string) (*oauthClaims, error) {
	if len(token) > maxToken {
		return nil, ErrOAuthInvalid
	}
	signed, payload, sig, ok := splitToken(token)
	if !ok {
		return nil, ErrOAuthInvalid
	}
	header, _, _ := strings.Cut(signed, ".")
	for _, key := range *k.keys.Load() {
		if header != key.header(typ) {
			continue
		}
		var c oauthClaims
		if !hmac.Equal(key.mac([]byte(signed)), sig) || json.Unmarshal(payload, &c) != nil {
			return nil, ErrOAuthInvalid
		}
		return &c, nil
	}
	return nil, ErrOAuthInvalid
}

// content checks the claims of a token whose signature, typ and audience are right.
func (c *oauthClaims) content(now time.Time, allowExpired bool) (OAuthToken, error) {
	did, err := syntax.ParseDID(c.Sub)
	if err != nil || c.ClientID == "" || (c.SID == "") != c.inherited || c.JTI == "" || c.IAT <= 0 || c.EXP <= 0 {
		return OAuthToken{}, ErrOAuthInvalid
	}
	t := OAuthToken{
		DID: did, ClientID: c.ClientID, SID: c.SID, JTI: c.JTI, IssuedAt: time.Unix(c.IAT, 0), Expires: time.Unix(c.EXP, 0),
	}
	if c.CNF != nil {
		t.JKT = c.CNF.JKT
	}
	if !allowExpired && !now.Before(t.Expires) {
		return OAuthToken{}, ErrOAuthExpired
	}
	return t, nil
}

// IsOAuth reports whether a token says that it is an OAuth access token of this server. It
// proves nothing.
func IsOAuth(token string) bool {
	header, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(header)
	var h struct {
		Typ jsontext.Value `json:"typ"`
	}
	if err != nil || len(raw) > 512 || json.Unmarshal(raw, &h) != nil {
		return false
	}
	typ, _ := rawString(h.Typ)
	return typ == typOAuthAccess
}
