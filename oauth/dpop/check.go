package dpop

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/oauth/jose"
)

// The codes of Error.
const (
	CodeUseNonce     = "use_dpop_nonce"
	CodeInvalidProof = "invalid_dpop_proof"
)

// Error is a proof that is refused.
type Error struct {
	// Code is what the client is answered, CodeUseNonce or CodeInvalidProof.
	Code string
	// Message is printable ASCII without quotation marks.
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func invalid(message string) error { return &Error{CodeInvalidProof, message} }

// The bounds of what a client sends, in bytes.
const (
	MaxProof = 8 << 10
	maxJTI   = 255
)

// AnnouncedAlgs are the algorithms that metadata and challenges name: every client must
// have ES256, and one library uses ES256K wherever it is named, which costs several times
// as much.
const AnnouncedAlgs = "ES256"

// Algs returns the algorithms that are accepted.
func Algs() []string { return []string{"ES256", "ES256K", "ES384", "ES512", "RS256", "PS256"} }

// Checker checks proofs.
type Checker struct {
	Nonces  *Nonces
	Replays *Replays
	// Origin is the server's own, without a slash at the end, as it is announced: what a
	// request's Host says does not count.
	Origin string
	// Dev makes localhost and 127.0.0.1 one host.
	Dev bool
	Now func() time.Time
}

// Request is what a proof is checked against.
type Request struct {
	// Headers are the values of the request's DPoP header, as they came.
	Headers []string
	Method  string
	// Path is the request's path, escaped: url.URL.EscapedPath.
	Path string
	// Token is the access token that the proof must be for; empty on the authorization
	// server, which has none.
	Token string
}

// Nonce returns the nonce for the DPoP-Nonce header of an answer. It is not one that Check
// has just refused.
func (c *Checker) Nonce() string {
	_, given, _ := c.Replays.windows(c.Now())
	return c.Nonces.of(given)
}

// Check verifies a request's proof and returns the thumbprint of its key (RFC 9449 section
// 4.3). A proof that it accepts, it accepts once. Its errors are of type *Error.
func (c *Checker) Check(r Request) (jkt string, err error) {
	token, key, err := open(r.Headers)
	if err != nil {
		return "", err
	}
	var claims struct {
		HTM   string         `json:"htm"`
		HTU   string         `json:"htu"`
		Nonce string         `json:"nonce"`
		IAT   jsontext.Value `json:"iat"`
		ATH   string         `json:"ath"`
		JTI   string         `json:"jti"`
	}
	if json.Unmarshal(token.Payload, &claims) != nil {
		return "", invalid("DPoP proof is malformed")
	}
	if claims.HTM != r.Method {
		return "", invalid("DPoP htm mismatch")
	}
	if !c.isTarget(claims.HTU, r.Path) {
		return "", invalid("DPoP htu mismatch: this server is " + c.Origin)
	}
	now := c.Now()
	first, _, last := c.Replays.windows(now)
	w, ok := c.Nonces.find(claims.Nonce, first, last)
	if !ok {
		return "", errUseNonce(r.Token != "")
	}
	if claims.IAT.Kind() != '0' {
		return "", invalid("DPoP iat is missing or not a number")
	}
	if r.Token != "" {
		hash := sha256.Sum256([]byte(r.Token))
		want := base64.RawURLEncoding.EncodeToString(hash[:])
		if subtle.ConstantTimeCompare([]byte(claims.ATH), []byte(want)) != 1 {
			return "", invalid("DPoP ath mismatch")
		}
	}
	if claims.JTI == "" || len(claims.JTI) > maxJTI {
		return "", invalid("DPoP jti is missing or too long")
	}
	switch err := c.Replays.use(now, w, hashOf(key.Thumbprint, claims.JTI)); {
	case errors.Is(err, errDead):
		return "", errUseNonce(r.Token != "")
	case err != nil:
		return "", invalid("DPoP proof replayed")
	}
	return key.Thumbprint, nil
}

// errUseNonce is worded as the reference's, for each of the two sides.
func errUseNonce(resource bool) error {
	if resource {
		return &Error{CodeUseNonce, "Resource server requires nonce in DPoP proof"}
	}
	return &Error{CodeUseNonce, "Authorization server requires nonce in DPoP proof"}
}

// open checks the form of a proof, and that the key that it carries has signed it.
func open(headers []string) (*jose.Token, *jose.Key, error) {
	switch {
	case len(headers) == 0:
		return nil, nil, invalid("DPoP proof required")
	case len(headers) > 1:
		return nil, nil, invalid("DPoP header must be there once")
	case len(headers[0]) > MaxProof:
		return nil, nil, invalid("DPoP proof is too large")
	}
	token, err := jose.Parse(headers[0])
	if err != nil {
		return nil, nil, invalid("DPoP proof " + err.Error())
	}
	if token.Typ != "dpop+jwt" {
		return nil, nil, invalid("DPoP typ is not dpop+jwt")
	}
	if !slices.Contains(Algs(), token.Alg) {
		return nil, nil, invalid("DPoP alg is not accepted")
	}
	if len(token.JWK) == 0 {
		return nil, nil, invalid("DPoP jwk is missing")
	}
	key, err := jose.ParseKey(token.JWK)
	if err != nil {
		return nil, nil, invalid("DPoP jwk " + err.Error())
	}
	if !key.Fits(token.Alg) {
		return nil, nil, invalid("DPoP jwk is not of the type of alg")
	}
	if !token.VerifiedBy(key) {
		return nil, nil, invalid("DPoP signature is wrong")
	}
	return token, key, nil
}
