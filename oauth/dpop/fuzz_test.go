package dpop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"nestbox/oauth/dpop"
	"nestbox/oauth/oauthtest"
)

// FuzzProof: whatever comes in the header, the check neither panics nor accepts what
// another library finds wrong, nor anything twice, and its error can be sent.
func FuzzProof(f *testing.F) {
	w := newWorld()
	key := oauthtest.NewSigner("ES256")
	good := key.Proof("GET", origin+path, w.Nonce(), token)
	f.Add(good)
	f.Add(good[:strings.LastIndexByte(good, '.')+1])
	f.Add(oauthtest.NewSigner("ES256").Sign(key.ProofHeader(), oauthtest.Claims("GET", origin+path, w.Nonce(), token)))
	f.Add(oauthtest.NewSigner("ES256K").Proof("GET", origin+path, "", token))
	f.Add("a.b.c")
	f.Add("eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7fX0.e30.")
	f.Fuzz(func(t *testing.T, proof string) {
		_, err := w.call(proof)
		if err == nil {
			verifyES256(t, proof)
			_, err = w.call(proof)
			wants(t, err, dpop.CodeInvalidProof, "replayed")
			return
		}
		var e *dpop.Error
		if !errors.As(err, &e) || e.Code != dpop.CodeInvalidProof && e.Code != dpop.CodeUseNonce {
			t.Fatalf("%q: %v", proof, err)
		}
		wants(t, err, e.Code, "")
	})
}

// verifyES256 fails unless golang-jwt verifies a proof by the key in its header. The key of
// another algorithm it leaves alone.
func verifyES256(t *testing.T, proof string) {
	t.Helper()
	_, err := jwt.Parse(proof, func(token *jwt.Token) (any, error) {
		j, ok := token.Header["jwk"].(map[string]any)
		if !ok || token.Header["alg"] != "ES256" {
			return nil, errors.New("no key")
		}
		point := []byte{4}
		for _, name := range []string{"x", "y"} {
			text, _ := j[name].(string)
			b, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil {
				return nil, err
			}
			point = append(point, b...)
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	}, jwt.WithValidMethods([]string{"ES256"}), jwt.WithoutClaimsValidation())
	if err != nil {
		t.Errorf("accepted %q: %v", proof, err)
	}
}

// FuzzTarget: an htu that is accepted for one path is accepted for no path that differs in
// more than its escapes.
func FuzzTarget(f *testing.F) {
	w := newWorld()
	key := oauthtest.NewSigner("ES256")
	f.Add(origin+"/a", "/a")
	f.Add("HTTPS://PDS.example:443/%61?x", "/a")
	f.Add(origin+"/a%2fb#", "/a%2Fb")
	f.Fuzz(func(t *testing.T, htu, path string) {
		check := func(path string) bool {
			_, err := w.Check(dpop.Request{Headers: []string{key.Proof("GET", htu, w.Nonce(), "")}, Method: "GET", Path: path})
			return err == nil
		}
		if path == "" || path[0] != '/' || strings.ContainsAny(path, "?#") || !check(path) {
			return
		}
		for _, other := range []string{path + "x", "/x" + path, path + "/", path + "%2F"} {
			if check(other) {
				t.Errorf("%q is taken for %q and for %q", htu, path, other)
			}
		}
	})
}
