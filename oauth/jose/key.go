package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The bounds of an RSA key, in bits.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// maxExponent is the largest public exponent that crypto/rsa accepts.
const maxExponent = 1<<31 - 1

// Key is a public key.
type Key struct {
	// ID is the key's kid, empty if it has none.
	ID string
	// Thumbprint is that of RFC 7638 with SHA-256, in base64url.
	Thumbprint string

	members []string // of the JWK that the thumbprint is made of, in its form, in pieces

	alg  string // the only one that it is for, if the JWK says so
	crv  string
	ec   *ecdsa.PublicKey
	rsa  *rsa.PublicKey
	k256 *atcrypto.PublicKeyK256
}

// jwk is a JSON Web Key, as far as a signature key needs it.
type jwk struct {
	Kty     string         `json:"kty"`
	Crv     string         `json:"crv"`
	X       string         `json:"x"`
	Y       string         `json:"y"`
	N       string         `json:"n"`
	E       string         `json:"e"`
	Kid     string         `json:"kid"`
	Alg     string         `json:"alg"`
	Use     string         `json:"use"`
	KeyOps  []string       `json:"key_ops"`
	Revoked jsontext.Value `json:"revoked"`

	D   jsontext.Value `json:"d"`
	P   jsontext.Value `json:"p"`
	Q   jsontext.Value `json:"q"`
	DP  jsontext.Value `json:"dp"`
	DQ  jsontext.Value `json:"dq"`
	QI  jsontext.Value `json:"qi"`
	Oth jsontext.Value `json:"oth"`
	K   jsontext.Value `json:"k"`
}

// ParseKey reads a JWK that may verify signatures. Its error says which rule the key
// breaks.
func ParseKey(raw []byte) (*Key, error) {
	var j jwk
	if err := json.Unmarshal(raw, &j); err != nil {
		return nil, errors.New("is not a JSON Web Key")
	}
	if err := j.check(); err != nil {
		return nil, err
	}
	k := &Key{ID: j.Kid, alg: j.Alg, crv: j.Crv}
	switch j.Kty {
	case "EC":
		return k, k.readEC(&j)
	case "RSA":
		return k, k.readRSA(&j)
	default:
		return nil, errors.New("kty is neither EC nor RSA")
	}
}

// check reports whether a key is for verifying signatures, and nothing but public.
func (j *jwk) check() error {
	for _, secret := range []jsontext.Value{j.D, j.P, j.Q, j.DP, j.DQ, j.QI, j.Oth, j.K} {
		if len(secret) > 0 {
			return errors.New("has private members")
		}
	}
	if j.Use != "" && j.Use != "sig" {
		return errors.New("use is not sig")
	}
	for _, op := range j.KeyOps {
		if op != "verify" && op != "encrypt" && op != "wrapKey" { // the public uses of RFC 7517 section 4.3
			return errors.New("key_ops has private uses")
		}
	}
	if j.KeyOps != nil && !slices.Contains(j.KeyOps, "verify") {
		return errors.New("key_ops lacks verify")
	}
	if len(j.Revoked) > 0 && j.Revoked.Kind() != 'n' && j.Revoked.Kind() != 'f' {
		return errors.New("is revoked")
	}
	return nil
}

// curve returns a curve of RFC 7518 section 6.2.1.1, nil for that of RFC 8812, and the
// size of a coordinate in bytes, 0 for any other name.
func curve(crv string) (c elliptic.Curve, size int) {
	switch crv {
	case "P-256":
		return elliptic.P256(), 32
	case "P-384":
		return elliptic.P384(), 48
	case "P-521":
		return elliptic.P521(), 66
	case "secp256k1":
		return nil, 32
	default:
		return nil, 0
	}
}

func (k *Key) readEC(j *jwk) error {
	c, size := curve(j.Crv)
	if size == 0 {
		return errors.New("crv is not one of P-256, P-384, P-521, secp256k1")
	}
	point := make([]byte, 1, 1+2*66)
	point[0] = 4 // uncompressed, SEC 1 section 2.3.3
	for _, text := range []string{j.X, j.Y} {
		b, err := decode(text)
		if err != nil {
			return fmt.Errorf("a coordinate %w", err)
		}
		// Section 6.2.1.2 wants its full length; indigo leaves leading zeros out, as its keys
		// then are in one of 128, and the reference reads it.
		if len(b) == 0 || len(b) > size {
			return errors.New("a coordinate is missing or too long")
		}
		point = append(append(point, make([]byte, size-len(b))...), b...)
	}
	var err error
	if c != nil {
		k.ec, err = ecdsa.ParseUncompressedPublicKey(c, point)
	} else {
		k.k256, err = atcrypto.ParsePublicUncompressedBytesK256(point)
	}
	if err != nil {
		return errors.New("is not a point of its curve")
	}
	k.members = []string{`{"crv":"`, j.Crv, `","kty":"EC","x":"`, j.X, `","y":"`, j.Y, `"}`}
	k.Thumbprint = thumbprint(k.members...)
	return nil
}

func (k *Key) readRSA(j *jwk) error {
	n, errN := decode(j.N)
	e, errE := decode(j.E)
	if errN != nil || errE != nil || len(n) == 0 || len(e) == 0 || n[0] == 0 || e[0] == 0 {
		return errors.New("n or e is not the base64url of a number without leading zeros")
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if bits := modulus.BitLen(); bits < minRSABits || bits > maxRSABits {
		return fmt.Errorf("has %d bits, and not %d to %d", bits, minRSABits, maxRSABits)
	}
	if !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > maxExponent || exponent.Bit(0) == 0 || modulus.Bit(0) == 0 {
		return errors.New("n or e is not that of an RSA key")
	}
	k.rsa = &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}
	k.members = []string{`{"e":"`, j.E, `","kty":"RSA","n":"`, j.N, `"}`}
	k.Thumbprint = thumbprint(k.members...)
	return nil
}

// Is reports whether a thumbprint is the key's: Thumbprint, or the one with SHA-512 by which
// the reference knows the keys of clients.
func (k *Key) Is(thumbprint string) bool {
	if len(thumbprint) != base64.RawURLEncoding.EncodedLen(sha512.Size) {
		return k.Thumbprint == thumbprint
	}
	sum := sha512.Sum512([]byte(strings.Join(k.members, "")))
	return base64.RawURLEncoding.EncodeToString(sum[:]) == thumbprint
}

// decode reads base64url of which there is one form only: a thumbprint hashes the text.
func decode(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || base64.RawURLEncoding.EncodedLen(len(b)) != len(text) { // line breaks are skipped
		return nil, errors.New("is not base64url")
	}
	return b, nil
}

// thumbprint hashes the required members of a key, in their order (RFC 7638 section 3).
func thumbprint(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// algorithm is a way to sign.
type algorithm struct {
	hash crypto.Hash
	crv  string // of the one curve; empty for RSA
	pss  bool
}

func algorithmOf(name string) (a algorithm, ok bool) {
	switch name {
	case "ES256":
		return algorithm{hash: crypto.SHA256, crv: "P-256"}, true
	case "ES256K":
		return algorithm{hash: crypto.SHA256, crv: "secp256k1"}, true
	case "ES384":
		return algorithm{hash: crypto.SHA384, crv: "P-384"}, true
	case "ES512":
		return algorithm{hash: crypto.SHA512, crv: "P-521"}, true
	case "RS256":
		return algorithm{hash: crypto.SHA256}, true
	case "RS384":
		return algorithm{hash: crypto.SHA384}, true
	case "RS512":
		return algorithm{hash: crypto.SHA512}, true
	case "PS256":
		return algorithm{hash: crypto.SHA256, pss: true}, true
	case "PS384":
		return algorithm{hash: crypto.SHA384, pss: true}, true
	case "PS512":
		return algorithm{hash: crypto.SHA512, pss: true}, true
	default:
		return algorithm{}, false
	}
}

// Fits reports whether a signature by alg can be of this key.
func (k *Key) Fits(alg string) bool {
	a, ok := algorithmOf(alg)
	if !ok || k.alg != "" && k.alg != alg {
		return false
	}
	if a.crv != "" {
		return k.rsa == nil && a.crv == k.crv
	}
	return k.rsa != nil
}

// verify reports whether sig is this key's signature of signed by alg.
func (k *Key) verify(alg string, signed, sig []byte) bool {
	if !k.Fits(alg) {
		return false
	}
	if k.k256 != nil {
		return k.k256.HashAndVerifyLenient(signed, sig) == nil
	}
	a, _ := algorithmOf(alg)
	h := a.hash.New()
	h.Write(signed)
	digest := h.Sum(make([]byte, 0, 64))
	switch {
	case k.ec != nil:
		size := (k.ec.Params().BitSize + 7) / 8
		if len(sig) != 2*size { // R and S, each of full length: RFC 7518 section 3.4
			return false
		}
		return ecdsa.Verify(k.ec, digest, new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:]))
	case a.pss:
		return rsa.VerifyPSS(k.rsa, a.hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	default:
		return rsa.VerifyPKCS1v15(k.rsa, a.hash, digest, sig) == nil
	}
}
