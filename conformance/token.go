package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"strings"
	"time"
)

// jwt is a token as a client sees it: nothing of it is verified.
type jwt struct{ header, claims map[string]any }

// readJWT returns what is in a JWT; false if the text is not one.
func readJWT(token string) (jwt, bool) {
	var t jwt
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return t, false
	}
	for i, into := range []*map[string]any{&t.header, &t.claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(raw, into) != nil || *into == nil {
			return t, false
		}
	}
	return t, true
}

func (t jwt) text(claim string) string {
	s, _ := t.claims[claim].(string)
	return s
}

// seconds returns a claim that is a whole number of seconds.
func (t jwt) seconds(claim string) (time.Duration, bool) {
	f, ok := t.claims[claim].(float64)
	return time.Duration(f) * time.Second, ok && f == math.Trunc(f) && f > 0 && f < math.MaxInt32*2
}

// tokenID returns the name of a refresh token: the same for each copy that a server makes of
// it. Without a jti it is the token itself.
func tokenID(token string) string {
	t, _ := readJWT(token)
	if id := t.text("jti"); id != "" {
		return id
	}
	return token
}

// forgery is a token that no server must accept.
type forgery struct{ what, token string }

// strangersDID is an account that no server has: a did:plc of the right form.
const strangersDID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

// forgeries returns tokens like a real one that the server has not signed.
func forgeries(token string) []forgery {
	all := []forgery{{"garbage", "garbage"}, {"three parts of garbage", "a.b.c"}}
	t, ok := readJWT(token)
	if !ok {
		return all
	}
	parts := strings.Split(token, ".")
	change := func(m map[string]any, name string, value any) map[string]any {
		m = maps.Clone(m)
		m[name] = value
		return m
	}
	unsigned := part(change(t.header, "alg", "none")) + "." + parts[1]
	own := part(change(t.header, "alg", "HS256")) + "." + part(change(t.claims, "aud", "did:web:elsewhere.example"))
	mac := hmac.New(sha256.New, []byte("a key of a stranger, of 32 bytes"))
	mac.Write([]byte(own))
	return append(all,
		forgery{"a changed signature", parts[0] + "." + parts[1] + "." + strings.Repeat("A", max(len(parts[2]), 4))},
		forgery{"alg none", unsigned + "."},
		forgery{"another account's DID under the old signature", parts[0] + "." + part(change(t.claims, "sub", strangersDID)) + "." + parts[2]},
		forgery{"another audience, signed by a stranger", own + "." + encode(mac.Sum(nil))},
	)
}

// part returns a part of a JWT.
func part(m map[string]any) string {
	raw, _ := json.Marshal(m)
	return encode(raw)
}

func encode(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// prover makes proofs of possession (RFC 9449).
type prover struct {
	key   *ecdsa.PrivateKey
	nonce string // the newest that the server gave
}

func newProver() (*prover, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &prover{key: key}, err
}

// proof returns a proof for a request; token is the access token, if there is one.
func (p *prover) proof(method, target, token string) (string, error) {
	public, err := p.key.PublicKey.Bytes()
	if err != nil {
		return "", err
	}
	const size = 32 // of a coordinate, in bytes
	claims := map[string]any{"htm": method, "htu": target, "iat": time.Now().Unix(), "jti": rand.Text()}
	if p.nonce != "" {
		claims["nonce"] = p.nonce
	}
	if token != "" {
		hash := sha256.Sum256([]byte(token))
		claims["ath"] = encode(hash[:])
	}
	signed := part(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": map[string]any{
		"kty": "EC", "crv": "P-256", "x": encode(public[1 : 1+size]), "y": encode(public[1+size:]),
	}}) + "." + part(claims)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, digest[:])
	if err != nil {
		return "", err
	}
	return signed + "." + encode(append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)), nil
}
