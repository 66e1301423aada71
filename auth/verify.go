package auth

import (
	"crypto/hmac"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/xrpc"
)

// Token is a verified session token's content.
type Token struct {
	Scope Scope
	DID   syntax.DID
	// SID names the session; empty for a token that another server issued
	// before we took over from it.
	SID string
	// JTI names the generation of a refresh token.
	JTI      string
	IssuedAt time.Time
	Expires  time.Time
}

// Errors that a token can cause, as the session contract words them.
func errAuthMissing() error {
	return xrpc.Unauthorized(xrpc.NameAuthMissing, "Authentication Required")
}

func errInvalidToken(message string) error { return xrpc.BadRequest(xrpc.NameInvalidToken, message) }

func errUnverified() error { return errInvalidToken("Token could not be verified") }

func errMalformed() error { return errInvalidToken("Malformed token") }

func errScope() error { return errInvalidToken("Bad token scope") }

// Expired returns the answer to an expired, and to a revoked, access token. The
// two are the same bytes on purpose: every client knows what to do with them.
func Expired() error { return xrpc.BadRequest(xrpc.NameExpiredToken, "Token has expired") }

// maxToken bounds a token, in bytes.
const maxToken = 8 << 10

// scheme is an Authorization header's kind.
type scheme int

const (
	schemeNone scheme = iota
	schemeBearer
	schemeBasic
	schemeDPoP
)

// parseAuthorization splits the Authorization header. Its errors are the contract's
// rows for headers that are not credentials.
func parseAuthorization(header string) (scheme, string, error) {
	if header == "" {
		return schemeNone, "", nil
	}
	name, rest, found := strings.Cut(header, " ")
	if !found || rest == "" || strings.Contains(rest, " ") {
		return schemeNone, "", errInvalidToken("Malformed authorization header")
	}
	switch strings.ToLower(name) {
	case "bearer":
		return schemeBearer, rest, nil
	case "basic":
		return schemeBasic, rest, nil
	case "dpop":
		return schemeDPoP, rest, nil
	default:
		return schemeNone, "", errInvalidToken("Unsupported authorization type: " + printable(name))
	}
}

func printable(s string) string {
	if len(s) > 32 {
		s = s[:32]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// bearer returns the request's bearer token. wantAccess is set on routes that
// accept access tokens: their error explains what is wrong with Basic.
func bearer(r *http.Request, wantAccess bool) (string, error) {
	kind, value, err := parseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return "", err
	}
	switch kind {
	case schemeBearer:
		return value, nil
	case schemeBasic:
		if wantAccess {
			return "", errInvalidToken("Unexpected authorization type")
		}
	case schemeNone, schemeDPoP:
		// No route accepts an OAuth token here: see Verifier.granted.
	}
	return "", errAuthMissing()
}

type joseHeader struct {
	Typ  jsontext.Value `json:"typ"`
	Alg  jsontext.Value `json:"alg"`
	Kid  jsontext.Value `json:"kid"`
	Crit jsontext.Value `json:"crit"`
}

// verify checks a token of the given kind up to and including its audience:
// signature, algorithm, typ, aud. Time, scope and the rest come after.
func (k *Keyring) verify(token, typ, audience string) (*presented, error) {
	if len(token) > maxToken {
		return nil, errUnverified()
	}
	signed, payload, sig, ok := splitToken(token)
	if !ok {
		return nil, errUnverified()
	}
	by := k.signedBy(signed, typ, sig)
	if by == nil {
		return nil, errUnverified()
	}
	p := presented{by: by}
	if err := json.Unmarshal(payload, &p); err != nil {
		return nil, errUnverified()
	}
	aud, isString := rawString(p.Aud)
	if !isString {
		return nil, errMalformed()
	}
	if aud != audience {
		return nil, errUnverified()
	}
	return &p, nil
}

func splitToken(token string) (signed string, payload, sig []byte, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 || strings.Count(token, ".") != 2 {
		return "", nil, nil, false
	}
	signed = token[:i]
	sig, err := base64.RawURLEncoding.Strict().DecodeString(token[i+1:])
	if err != nil {
		return "", nil, nil, false
	}
	payload, err = base64.RawURLEncoding.DecodeString(signed[strings.IndexByte(signed, '.')+1:])
	return signed, payload, sig, err == nil
}

// parseHeader decodes the JOSE header and checks alg and typ: typ without case
// and with an optional application/ before it (RFC 7515 section 4.1.9). A
// header with crit demands an extension; we have none (section 4.1.11).
func parseHeader(header, typ string) (joseHeader, bool) {
	var h joseHeader
	raw, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil || json.Unmarshal(raw, &h) != nil {
		return h, false
	}
	alg, ok := rawString(h.Alg)
	if !ok || alg != algHS256 || len(h.Crit) > 0 {
		return h, false
	}
	got, ok := rawString(h.Typ)
	got = strings.ToLower(got)
	return h, ok && strings.TrimPrefix(got, "application/") == typ
}

// signedBy returns the ring's key that signed a token of the given kind, nil if
// none did.
func (k *Keyring) signedBy(signed, typ string, sig []byte) *key {
	// A token of ours starts with a header that we wrote, byte for byte; only
	// those of other servers need to be parsed.
	header, raw := signed[:strings.IndexByte(signed, '.')], []byte(signed)
	for _, c := range *k.keys.Load() {
		if header != c.header(typ) {
			continue
		}
		if hmac.Equal(c.mac(raw), sig) {
			return c
		}
		return nil
	}
	h, ok := parseHeader(header, typ)
	if !ok {
		return nil
	}
	kid, isString := rawString(h.Kid)
	if !isString {
		return nil
	}
	for _, c := range k.candidates(kid, len(h.Kid) > 0) {
		if hmac.Equal(c.mac(raw), sig) {
			return c
		}
	}
	return nil
}

// content checks the claims of a token whose signature, typ and aud are right, in the
// contract's order: nbf, exp, form, scope.
func (p *presented) content(now time.Time, allowExpired bool, allowed ...Scope) (Token, error) {
	nbf, hasNbf, nbfOK := rawTime(p.NBF)
	exp, hasExp, expOK := rawTime(p.EXP)
	iat, _, iatOK := rawTime(p.IAT)
	if !nbfOK || !expOK || !hasExp || !iatOK || hasNbf && nbf.After(now) {
		return Token{}, errUnverified()
	}
	if !allowExpired && !now.Before(exp) {
		return Token{}, Expired()
	}
	sub, subOK := rawString(p.Sub)
	jti, jtiOK := rawString(p.JTI)
	sid, sidOK := rawString(p.SID)
	did, err := syntax.ParseDID(sub)
	if !subOK || !jtiOK || !sidOK || err != nil || len(p.LXM) > 0 || len(p.CNF) > 0 {
		return Token{}, errMalformed()
	}
	scope, scopeOK := rawString(p.Scope)
	for _, s := range allowed {
		if scopeOK && scope == string(s) {
			return Token{Scope: s, DID: did, SID: sid, JTI: jti, IssuedAt: iat, Expires: exp}, nil
		}
	}
	return Token{}, errScope()
}

// VerifyRefresh checks a refresh token itself, not the state of its session.
// allowExpired is for ending a session.
func (k *Keyring) VerifyRefresh(token, audience string, now time.Time, allowExpired bool) (Token, error) {
	p, err := k.verify(token, typRefresh, audience)
	if err != nil {
		return Token{}, err
	}
	t, err := p.content(now, allowExpired, ScopeRefresh)
	if err != nil {
		return Token{}, err
	}
	if t.SID == "" && !p.by.Legacy {
		return Token{}, errUnverified() // every token of ours names its session
	}
	if t.JTI == "" {
		return Token{}, xrpc.Unauthorized("MissingTokenId", "Unexpected missing refresh token id")
	}
	return t, nil
}

// VerifyAccess checks an access token itself: its scope must be one of those that the
// route accepts.
func (k *Keyring) VerifyAccess(token, audience string, now time.Time, allowed ...Scope) (Token, error) {
	p, err := k.verify(token, typAccess, audience)
	if err != nil {
		return Token{}, err
	}
	t, err := p.content(now, false, allowed...)
	if err == nil && t.SID == "" && !p.by.inherited(t, foreignLife) {
		return Token{}, errUnverified()
	}
	return t, err
}

// foreignLife is how long an access token of the reference is valid.
const foreignLife = 2 * time.Hour

// inherited reports whether t, which names no session, may be a token that another
// server issued, to live so long, before this one took over its key. Every token that we issue names
// its session: nobody can end one that names none, so a leaked secret must not
// allow making such tokens. Once a legacy key has been here for as long as one lives, none is
// accepted any more.
func (c *key) inherited(t Token, life time.Duration) bool {
	came := c.Created.Truncate(time.Second) // as the time of issue is cut
	return c.Legacy && !t.IssuedAt.IsZero() && t.IssuedAt.Before(came) && t.Expires.Sub(t.IssuedAt) <= life
}

// Pair holds the two tokens that a client gets from a sign-in or a refresh.
type Pair struct {
	Access  string
	Refresh string
}

// Issue describes the two tokens of one generation of a session.
type Issue struct {
	Audience   string
	DID        syntax.DID
	Scope      Scope
	SID        string
	JTI        string
	Now        time.Time
	AccessTTL  time.Duration
	RefreshTTL time.Duration
}

// MintPair signs an access and a refresh token. Their times are cut to whole
// seconds, so that the refresh token never outlives what is stored.
func (k *Keyring) MintPair(i Issue) (Pair, error) {
	signing := k.signing()
	iat := i.Now.Unix()
	access, err := signing.sign(typAccess, &claims{
		Scope: i.Scope, Aud: i.Audience, Sub: i.DID.String(), SID: i.SID,
		IAT: iat, EXP: i.Now.Add(i.AccessTTL).Unix(),
	})
	if err != nil {
		return Pair{}, err
	}
	refresh, err := signing.sign(typRefresh, &claims{
		Scope: ScopeRefresh, Aud: i.Audience, Sub: i.DID.String(), JTI: i.JTI, SID: i.SID,
		IAT: iat, EXP: i.Now.Add(i.RefreshTTL).Unix(),
	})
	if err != nil {
		return Pair{}, err
	}
	return Pair{Access: access, Refresh: refresh}, nil
}
