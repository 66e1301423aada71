package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"strconv"
	"strings"
)

// bareProof is the name of the least that can answer a call with a proof: it verifies the
// signature by the key that the proof carries, and gives a fixed answer.
const bareProof = "bare proof"

// proofHandler is the bare proof. It compares no claim, remembers no proof, and knows no
// session.
func proofHandler() http.Handler {
	body := []byte(`{"did":"` + strings.Repeat("x", 400) + `"}`) // about as long as the answer of getSession
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := verifyProof(r.Header.Get("DPoP")); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		w.Header()["Content-Type"] = []string{"application/json"}
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
		_, _ = w.Write(body) // a client that has gone needs no answer
	})
}

// verifyProof checks that the key in a proof's header signed it, by ES256.
func verifyProof(proof string) error {
	signed, sig64, ok := cutLast(proof, ".")
	head64, _, ok2 := strings.Cut(signed, ".")
	if !ok || !ok2 {
		return errors.New("no proof")
	}
	head, err := base64.RawURLEncoding.DecodeString(head64)
	if err != nil {
		return err
	}
	var h struct {
		JWK struct{ X, Y string } `json:"jwk"`
	}
	if err := json.Unmarshal(head, &h); err != nil {
		return err
	}
	x, err := base64.RawURLEncoding.DecodeString(h.JWK.X)
	if err != nil {
		return err
	}
	y, err := base64.RawURLEncoding.DecodeString(h.JWK.Y)
	if err != nil {
		return err
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return err
	}
	sig, err := base64.RawURLEncoding.DecodeString(sig64)
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(signed))
	if len(sig) != 64 || !ecdsa.Verify(key, hash[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return errors.New("the signature is wrong")
	}
	return nil
}

func cutLast(text, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(text, sep)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(sep):], true
}
