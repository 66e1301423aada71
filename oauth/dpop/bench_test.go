package dpop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"nestbox/oauth/dpop"
	"nestbox/oauth/oauthtest"
)

// BenchmarkCheck is a whole check, of proofs that are made ahead, each used once. The
// contract wants it to cost at most 1.5 times BenchmarkBare.
func BenchmarkCheck(b *testing.B) {
	w := newWorld()
	key := oauthtest.NewSigner("ES256")
	proofs := make([]string, 1000)
	for i := range proofs {
		proofs[i] = key.Proof("GET", origin+path, w.Nonce(), token)
	}
	for i := 0; b.Loop(); i++ {
		if i%len(proofs) == 0 {
			w.Replays = dpop.NewReplays(start.Add(-time.Hour), 0)
		}
		if _, err := w.call(proofs[i%len(proofs)]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBare is the floor below a check: one ES256 verification.
func BenchmarkBare(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	hash := sha256.Sum256([]byte("x"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, hash[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !ecdsa.VerifyASN1(&key.PublicKey, hash[:], sig) {
			b.Fatal("wrong")
		}
	}
}
