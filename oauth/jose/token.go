package jose

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Token is a JWT that is not verified yet.
type Token struct {
	// Alg is the algorithm, Typ the kind in lower case and without "application/" (RFC 7515
	// section 4.1.9), KeyID the kid, JWK the key that the header carries; all but Alg may be
	// empty.
	Alg, Typ, KeyID string
	JWK             jsontext.Value
	// Payload is what is signed, not decoded.
	Payload []byte

	signed string
	sig    []byte
}

type header struct {
	Typ  string         `json:"typ"`
	Alg  string         `json:"alg"`
	Kid  string         `json:"kid"`
	JWK  jsontext.Value `json:"jwk"`
	Crit jsontext.Value `json:"crit"`
}

// errForm: the text is not a JWT.
var errForm = errors.New("is not a JWT")

// Parse reads a compact JWS. A header with crit demands an extension; we have none (RFC
// 7515 section 4.1.11).
func Parse(compact string) (*Token, error) {
	head, rest, ok := strings.Cut(compact, ".")
	body, tail, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return nil, errForm
	}
	strict := base64.RawURLEncoding.Strict()
	rawHead, err := strict.DecodeString(head)
	if err != nil {
		return nil, errForm
	}
	t := &Token{signed: compact[:len(head)+1+len(body)]}
	if t.Payload, err = strict.DecodeString(body); err != nil {
		return nil, errForm
	}
	if t.sig, err = strict.DecodeString(tail); err != nil {
		return nil, errForm
	}
	var h header
	if json.Unmarshal(rawHead, &h) != nil {
		return nil, errForm
	}
	if len(h.Crit) > 0 {
		return nil, errors.New("demands an extension that this server does not have")
	}
	t.Alg, t.KeyID, t.JWK = h.Alg, h.Kid, h.JWK
	t.Typ = strings.TrimPrefix(strings.ToLower(h.Typ), "application/")
	return t, nil
}

// VerifiedBy reports whether the token is signed by key, with the algorithm that its
// header names.
func (t *Token) VerifiedBy(key *Key) bool { return key.verify(t.Alg, []byte(t.signed), t.sig) }
