package plc

import (
	"errors"
	"regexp"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// Errors of PublicKey. None holds what was typed.
var (
	// ErrKeyForm: it is no did:key.
	ErrKeyForm = errors.New("not a did:key")
	// ErrKeyKind: it is a did:key of a kind that no rotation key may have.
	ErrKeyKind = errors.New("a did:key of another kind than P-256 and K-256")
	// ErrKeyPrivate: it may be a private key, which nobody else may see.
	ErrKeyPrivate = errors.New("this may be a private key")
)

// PublicKey returns what a person typed as a rotation key (did:key of P-256 or K-256) in its
// one form: ErrKeyForm, ErrKeyKind, ErrKeyPrivate.
func PublicKey(typed string) (string, error) {
	typed = strings.TrimSpace(typed)
	text, ok := strings.CutPrefix(typed, keyPrefix)
	if ok && len(typed) <= maxKeyText {
		if key, err := atcrypto.ParsePublicDIDKey(typed); err == nil {
			return key.DIDKey(), nil
		}
	}
	switch {
	case mayBePrivate(text):
		return "", ErrKeyPrivate
	case ok && otherKind.MatchString(text):
		return "", ErrKeyKind
	default:
		return "", ErrKeyForm
	}
}

// The forms of what is no private key for certain: public keys, names, and what is too short
// for one. otherKind are public multikeys of kinds that no rotation key may have (Ed25519,
// X25519, P-384, P-521).
var (
	otherKind  = regexp.MustCompile(`^z(6Mk|6LS|82L|2J9)[1-9A-HJ-NP-Za-km-z]{40,}$`)
	publicForm = regexp.MustCompile(`^(z(Q3s|Dn)[1-9A-HJ-NP-Za-km-z]{40,}$|(0x)?0[23][0-9a-f]{64}$|(0x)?04[0-9a-f]{128}$|did:(plc|web):)`)
	wordlike   = regexp.MustCompile(`^[@a-zA-Z0-9._:/-]{0,31}$`)
)

// How private keys are written that a rule about their length would miss: words of a
// wallet, bech32, PEM, JWK.
var (
	seedWords  = regexp.MustCompile(`^([a-zA-Z]+\s+){11,}[a-zA-Z]+$`)
	jwkPrivate = regexp.MustCompile(`"(d|p|q|dp|dq|qi|k)"\s*:`)
)

// mayBePrivate reports whether a text may be a private key, in whatever form: all that is
// long enough for one and is nothing else.
func mayBePrivate(text string) bool {
	switch {
	case strings.HasPrefix(strings.ToLower(text), "nsec1"), seedWords.MatchString(text), strings.Contains(text, "PRIVATE KEY"):
		return true
	case strings.Contains(text, `"kty"`):
		return jwkPrivate.MatchString(text)
	case publicForm.MatchString(text), otherKind.MatchString(text), wordlike.MatchString(text), strings.Contains(text, "PUBLIC KEY"):
		return false
	default:
		// A key in groups of letters is long without its blanks; a sentence has few digits.
		bare := strings.Join(strings.Fields(text), "")
		return bare == text || strings.ContainsAny(bare, "0123456789")
	}
}
