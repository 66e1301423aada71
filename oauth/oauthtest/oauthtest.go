// Package oauthtest signs what OAuth clients sign: proofs of possession and assertions. It
// is for tests and benchmarks. It shares no code with the packages that check them.
package oauthtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // ES384, ES512
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// Signer is a client's private key.
type Signer struct {
	Alg  string
	ec   *ecdsa.PrivateKey
	rsa  *rsa.PrivateKey
	k256 *atcrypto.PrivateKeyK256
}

// NewSigner makes a key for an algorithm; an RSA key has 2,048 bits. It panics at an
// algorithm that it does not know.
func NewSigner(alg string) *Signer {
	s := &Signer{Alg: alg}
	switch alg {
	case "ES256":
		s.ec = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case "ES384":
		s.ec = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case "ES512":
		s.ec = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	case "ES256K":
		s.k256 = must(atcrypto.GeneratePrivateKeyK256())
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		s.rsa = must(rsa.GenerateKey(rand.Reader, 2048))
	default:
		panic("unknown algorithm " + alg)
	}
	return s
}

// JWK returns the public key.
func (s *Signer) JWK() map[string]any {
	switch {
	case s.rsa != nil:
		return map[string]any{"kty": "RSA", "n": encode(s.rsa.N.Bytes()), "e": encode(big.NewInt(int64(s.rsa.E)).Bytes())}
	case s.k256 != nil:
		point := must(s.k256.PublicKey()).UncompressedBytes()
		return map[string]any{"kty": "EC", "crv": "secp256k1", "x": encode(point[1:33]), "y": encode(point[33:])}
	default:
		point := must(s.ec.PublicKey.Bytes())[1:]
		return map[string]any{"kty": "EC", "crv": s.ec.Params().Name, "x": encode(point[:len(point)/2]), "y": encode(point[len(point)/2:])}
	}
}

// Thumbprint returns that of the public key (RFC 7638): maps are encoded in the order of
// their keys.
func (s *Signer) Thumbprint() string {
	hash := sha256.Sum256(must(json.Marshal(s.JWK())))
	return encode(hash[:])
}

// Sign returns a JWT. The header's alg is the signer's unless the header has one.
func (s *Signer) Sign(header, claims map[string]any) string {
	h := map[string]any{"alg": s.Alg}
	maps.Copy(h, header)
	return s.SignRaw(string(must(json.Marshal(h))), string(must(json.Marshal(claims))))
}

// SignRaw returns a JWT of a header and claims as they are.
func (s *Signer) SignRaw(header, claims string) string {
	signed := encode([]byte(header)) + "." + encode([]byte(claims))
	return signed + "." + encode(s.signature([]byte(signed)))
}

func (s *Signer) signature(signed []byte) []byte {
	if s.k256 != nil {
		return must(s.k256.HashAndSign(signed))
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[s.Alg[2:5]]
	h := hash.New()
	h.Write(signed)
	digest := h.Sum(nil)
	switch s.Alg[:2] {
	case "PS":
		return must(rsa.SignPSS(rand.Reader, s.rsa, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
	case "RS":
		return must(rsa.SignPKCS1v15(nil, s.rsa, hash, digest))
	default:
		r, v, err := ecdsa.Sign(rand.Reader, s.ec, digest)
		if err != nil {
			panic(err)
		}
		size := (s.ec.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), v.FillBytes(make([]byte, size))...)
	}
}

// Proof returns a DPoP proof; nonce and token may be empty.
func (s *Signer) Proof(method, htu, nonce, token string) string {
	return s.Sign(s.ProofHeader(), Claims(method, htu, nonce, token))
}

// ProofHeader returns the header of a proof.
func (s *Signer) ProofHeader() map[string]any {
	return map[string]any{"typ": "dpop+jwt", "jwk": s.JWK()}
}

// Claims returns those of a proof.
func Claims(method, htu, nonce, token string) map[string]any {
	c := map[string]any{"htm": method, "htu": htu, "iat": time.Now().Unix(), "jti": rand.Text()}
	if nonce != "" {
		c["nonce"] = nonce
	}
	if token != "" {
		hash := sha256.Sum256([]byte(token))
		c["ath"] = encode(hash[:])
	}
	return c
}

// Assertion returns what a confidential client proves itself with.
func (s *Signer) Assertion(kid, clientID, issuer string, now time.Time) string {
	return s.Sign(map[string]any{"kid": kid}, map[string]any{
		"iss": clientID, "sub": clientID, "aud": issuer, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": rand.Text(),
	})
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func must[V any](v V, err error) V {
	if err != nil {
		panic(fmt.Errorf("sign in a test: %w", err))
	}
	return v
}
