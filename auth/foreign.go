package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
)

// Errors of CheckForeign.
var (
	// ErrNotForeign: the text is not a session token of another server.
	ErrNotForeign = errors.New("it is not a token of a session of the old server")
	// ErrForeignSecret: the token was signed with another secret.
	ErrForeignSecret = errors.New("it was signed with another secret")
	// ErrForeignAudience: the token is one of a server with another DID.
	ErrForeignAudience = errors.New("it was issued by a server with another DID")
)

// CheckForeign checks that another server, whose DID is audience, signed a token with secret
// (its PDS_JWT_SECRET). An expired token proves that as well as a fresh one. Errors:
// ErrNotForeign, ErrForeignSecret, ErrForeignAudience.
func CheckForeign(token, secret, audience string) error {
	signed, payload, sig, ok := splitToken(token)
	if !ok || len(token) > maxToken {
		return ErrNotForeign
	}
	header := signed[:strings.IndexByte(signed, '.')]
	h, ok := parseHeader(header, typAccess)
	if !ok {
		h, ok = parseHeader(header, typRefresh)
	}
	if !ok || len(h.Kid) > 0 { // it names no key, as it has one
		return ErrNotForeign
	}
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte(signed)) // never fails: hash.Hash says so
	if !hmac.Equal(mac.Sum(nil), sig) {
		return ErrForeignSecret
	}
	var claims struct {
		Aud string `json:"aud"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return ErrNotForeign
	}
	if claims.Aud != audience {
		return ErrForeignAudience
	}
	return nil
}
