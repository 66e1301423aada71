package plc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/plc"
)

// TestPublicKey: of what people paste as a rotation key only public keys of both kinds pass;
// whatever may be a private key is called so, and no error holds any of it.
func TestPublicKey(t *testing.T) {
	k256, p256 := newKey(t), newP256Key(t)
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&secret.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	bytes := func(k key) []byte { return k.PrivateKey.(atcrypto.PrivateKeyExportable).Bytes() }
	multibase := func(k key) string { return k.PrivateKey.(atcrypto.PrivateKeyExportable).Multibase() }
	point, err := k256.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	plain := hex.EncodeToString(bytes(k256))
	for name, c := range map[string]struct {
		typed string
		want  error
	}{
		"k256":                       {k256.did, nil},
		"p256":                       {p256.did, nil},
		"with blanks around":         {" \t" + p256.did + "\r\n", nil},
		"nothing":                    {"", plc.ErrKeyForm},
		"a handle":                   {"@alice.example.com", plc.ErrKeyForm},
		"a DID":                      {"did:plc:ewvi7nxzyoun6zhxrhs64oiz", plc.ErrKeyForm},
		"a sentence":                 {"I do not know what to write here", plc.ErrKeyForm},
		"a public multikey":          {strings.TrimPrefix(k256.did, "did:key:"), plc.ErrKeyForm},
		"a public key in hex":        {hex.EncodeToString(point.Bytes()), plc.ErrKeyForm},
		"a public key in PEM":        {string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})), plc.ErrKeyForm},
		"a public JWK":               {`{"kty":"EC","crv":"P-256","x":"AAAA","y":"BBBB"}`, plc.ErrKeyForm},
		"cut off":                    {k256.did[:len(k256.did)-4], plc.ErrKeyForm},
		"ed25519":                    {"did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", plc.ErrKeyKind},
		"private multikey, k256":     {multibase(k256), plc.ErrKeyPrivate},
		"private multikey, p256":     {multibase(p256), plc.ErrKeyPrivate},
		"a private key as a did:key": {"did:key:" + multibase(p256), plc.ErrKeyPrivate},
		"hex":                        {plain, plc.ErrKeyPrivate},
		"hex, in capitals":           {strings.ToUpper(plain), plc.ErrKeyPrivate},
		"hex with 0x":                {"0x" + plain, plc.ErrKeyPrivate},
		"hex in groups":              {plain[:16] + " " + plain[16:32] + " " + plain[32:48] + " " + plain[48:], plc.ErrKeyPrivate},
		"hex as a did:key":           {"did:key:" + plain, plc.ErrKeyPrivate},
		"base64":                     {base64.StdEncoding.EncodeToString(bytes(p256)), plc.ErrKeyPrivate},
		"base64url":                  {base64.RawURLEncoding.EncodeToString(bytes(p256)), plc.ErrKeyPrivate},
		"nsec":                       {"nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5", plc.ErrKeyPrivate},
		"PEM":                        {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), plc.ErrKeyPrivate},
		"PEM in one line":            {"-----BEGIN EC PRIVATE KEY----- MHcCAQEEIA== -----END EC PRIVATE KEY-----", plc.ErrKeyPrivate},
		"PEM without its first line": {base64.StdEncoding.EncodeToString(pkcs8), plc.ErrKeyPrivate},
		"JWK":                        {`{"kty":"EC","crv":"P-256","x":"AAAA","y":"BBBB","d":"CCCC"}`, plc.ErrKeyPrivate},
		"words of a wallet":          {strings.Repeat("abandon ", 11) + "about", plc.ErrKeyPrivate},
		"what is very long":          {"did:key:z" + strings.Repeat("Q", 100_000), plc.ErrKeyPrivate},
	} {
		got, err := plc.PublicKey(c.typed)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || err == nil && got != strings.TrimSpace(c.typed) || err != nil && got != "" {
			t.Errorf("%s: %q, %v, want %v", name, got, err, c.want)
		}
		if err != nil && c.typed != "" && strings.Contains(err.Error(), strings.TrimSpace(c.typed)) {
			t.Errorf("%s: the error holds what was typed: %v", name, err)
		}
	}
}
