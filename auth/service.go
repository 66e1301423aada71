package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/request"
	"nestbox/xrpc"
)

// Service tokens let servers speak for accounts, and for themselves, to each other
// (https://atproto.com/specs/xrpc#inter-service-authentication-jwt): JWTs that the
// issuer's signing key signs, for one audience, and for one method.

// maxServiceLife is how far in the future a service token may expire: a day. The
// reference makes none for longer than an hour.
const maxServiceLife = 24 * time.Hour

// The keys of a DID document that sign service tokens.
const (
	keyAtproto = "atproto"
	// labeler is the service, and labelerKey the key, of a moderation service.
	labeler    = "atproto_labeler"
	labelerKey = "atproto_label"
)

// ErrNoKey: the issuer's DID document has no usable key.
var ErrNoKey = errors.New("missing or bad key in DID document")

// ErrBusy: too many issuers are being looked up.
var ErrBusy = errors.New("issuers cannot be looked up right now")

// Issuers finds the keys that sign service tokens.
type Issuers interface {
	// SigningKey returns the key (did:key) of that name in a DID's document; fresh
	// asks the network even if the key is known. Errors: ErrNoKey, ErrBusy. Any other
	// error means that the document could not be fetched.
	SigningKey(ctx context.Context, did syntax.DID, name string, fresh bool) (string, error)
}

// ServiceToken is a verified service token's content.
type ServiceToken struct {
	// Issuer is the DID that the token speaks for, Service the fragment behind it, if
	// any.
	Issuer  syntax.DID
	Service string
	// Method is the method that it is for.
	Method string
}

// NewServiceToken makes a service token that key signs. method is "" for one that
// is valid for every method.
func NewServiceToken(key atcrypto.PrivateKey, iss syntax.DID, aud, method string, now, expires time.Time) (string, error) {
	alg := "ES256K"
	if _, ok := key.(*atcrypto.PrivateKeyP256); ok {
		alg = "ES256"
	}
	jti := make([]byte, 16)
	_, _ = rand.Read(jti) // never fails: crypto/rand ends the process instead
	header, err := json.Marshal(struct {
		Typ string `json:"typ"`
		Alg string `json:"alg"`
	}{"JWT", alg})
	if err != nil {
		return "", fmt.Errorf("encode service token: %w", err)
	}
	payload, err := json.Marshal(struct {
		IAT int64  `json:"iat"`
		ISS string `json:"iss"`
		AUD string `json:"aud"`
		EXP int64  `json:"exp"`
		LXM string `json:"lxm,omitempty"`
		JTI string `json:"jti"`
	}{now.Unix(), iss.String(), aud, expires.Unix(), method, hex.EncodeToString(jti)})
	if err != nil {
		return "", fmt.Errorf("encode service token: %w", err)
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sig, err := key.HashAndSign([]byte(signed))
	if err != nil {
		return "", fmt.Errorf("sign service token: %w", err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

func errBadJWT(name, format string, args ...any) error {
	return xrpc.Unauthorized(name, fmt.Sprintf(format, args...))
}

// service verifies the service token of a request. from, unless it is empty, are
// the issuers that are trusted, with their services. The errors are the
// reference's.
func (v *Verifier) service(ctx context.Context, r *http.Request, from ...string) (ServiceToken, error) {
	token, err := bearer(r, true)
	if err != nil {
		return ServiceToken{}, err
	}
	c, err := parseServiceToken(token)
	if err != nil {
		return ServiceToken{}, err
	}
	method := strings.TrimPrefix(r.URL.Path, "/xrpc/")
	now := v.Now()
	switch {
	case !now.Before(c.expires):
		return ServiceToken{}, errBadJWT("JwtExpired", "jwt expired")
	case c.expires.Sub(now) > maxServiceLife:
		return ServiceToken{}, errBadJWT("BadJwt", "jwt expires later than in %v", maxServiceLife)
	case c.method == "":
		return ServiceToken{}, errBadJWT("BadJwtLexiconMethod", `missing jwt lexicon method ("lxm"). must match: %s`, method)
	case c.method != method:
		return ServiceToken{}, errBadJWT("BadJwtLexiconMethod", `bad jwt lexicon method ("lxm"). must match: %s`, method)
	}
	iss, fragment, hasFragment := strings.Cut(c.issuer, "#")
	did, err := syntax.ParseDID(iss)
	if err != nil || hasFragment && (fragment == "" || strings.Contains(fragment, "#")) {
		return ServiceToken{}, errBadJWT("BadJwtIss", "jwt iss is not a valid did")
	}
	if len(from) > 0 && !slices.Contains(from, c.issuer) {
		return ServiceToken{}, errBadJWT("UntrustedIss", "Untrusted issuer")
	}
	if err := v.checkSignature(ctx, c, did, fragment); err != nil {
		return ServiceToken{}, err
	}
	if c.audience != v.Audience && (!v.byHost || c.audience != v.HostDID) {
		return ServiceToken{}, errBadJWT("BadJwtAudience", "jwt audience does not match service did")
	}
	request.SetAccount(ctx, did.String())
	return ServiceToken{Issuer: did, Service: fragment, Method: method}, nil
}

// serviceClaims are the claims of a service token that is not verified yet.
type serviceClaims struct {
	signed                   string
	sig                      []byte
	alg                      string
	issuer, audience, method string
	expires                  time.Time
}

func parseServiceToken(token string) (c serviceClaims, err error) {
	bad := errBadJWT("BadJwt", "poorly formatted jwt")
	if len(token) > maxToken {
		return c, bad
	}
	signed, payload, sig, ok := splitToken(token)
	if !ok {
		return c, bad
	}
	var h joseHeader
	raw, err := base64.RawURLEncoding.DecodeString(signed[:strings.IndexByte(signed, '.')])
	if err != nil || json.Unmarshal(raw, &h) != nil {
		return c, bad
	}
	typ, typOK := rawString(h.Typ)
	alg, algOK := rawString(h.Alg)
	if !typOK || !algOK || alg == "" || len(h.Crit) > 0 {
		return c, bad
	}
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case typAccess, typRefresh, "dpop+jwt":
		return c, errBadJWT("BadJwtType", "Invalid jwt type %q", printable(typ))
	}
	var p struct {
		presented

		ISS jsontext.Value `json:"iss"`
	}
	if json.Unmarshal(payload, &p) != nil {
		return c, bad
	}
	iss, issOK := rawString(p.ISS)
	aud, audOK := rawString(p.Aud)
	lxm, lxmOK := rawString(p.LXM)
	exp, hasExp, expOK := rawTime(p.EXP)
	if !issOK || !audOK || !lxmOK || !expOK || !hasExp || iss == "" || aud == "" {
		return c, bad
	}
	return serviceClaims{signed, sig, alg, iss, aud, lxm, exp}, nil
}

// checkSignature tries the issuer's key that we know, and then asks the network for
// the key: the issuer may have changed it.
func (v *Verifier) checkSignature(ctx context.Context, c serviceClaims, did syntax.DID, fragment string) error {
	name := keyAtproto
	if fragment == labeler {
		name = labelerKey
	}
	tried := ""
	for _, fresh := range []bool{false, true} {
		key, err := v.Issuers.SigningKey(ctx, did, name, fresh)
		switch {
		case errors.Is(err, ErrNoKey):
			return errBadJWT(xrpc.NameAuthRequired, "missing or bad key in did doc")
		case errors.Is(err, ErrBusy):
			return xrpc.Unavailable(err)
		case err != nil:
			e := xrpc.Unauthorized(xrpc.NameAuthRequired, "could not resolve iss did")
			e.Cause = err
			return e
		case key == tried:
			return errBadJWT("BadJwtSignature", "jwt signature does not match jwt issuer")
		}
		tried = key
		public, err := atcrypto.ParsePublicDIDKey(key)
		if err != nil {
			return errBadJWT(xrpc.NameAuthRequired, "missing or bad key in did doc")
		}
		if algOf(public) == c.alg && public.HashAndVerifyLenient([]byte(c.signed), c.sig) == nil {
			return nil
		}
	}
	return errBadJWT("BadJwtSignature", "jwt signature does not match jwt issuer")
}

func algOf(key atcrypto.PublicKey) string {
	switch key.(type) {
	case *atcrypto.PublicKeyK256:
		return "ES256K"
	case *atcrypto.PublicKeyP256:
		return "ES256"
	default:
		return ""
	}
}

// isServiceToken reports whether an unverified bearer token looks like a service token:
// it names a method.
func isServiceToken(token string) bool {
	c, err := parseServiceToken(token)
	return err == nil && c.method != ""
}
