package pdstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"
)

// Authenticator is a passkey in software: it answers what navigator.credentials is asked
// (WebAuthn level 3). Its fields may be changed between answers.
type Authenticator struct {
	// Host is the host name that pages belong to, Origin theirs.
	Host, Origin string
	// Flags of the authenticator data, without those that an answer must have: user present
	// 1, user verified 4, backup eligible 8, backed up 16.
	Flags byte
	// Counter is that of the next answer.
	Counter uint32

	ID         []byte
	UserHandle []byte
	key        *ecdsa.PrivateKey
}

// Flags of Authenticator.
const (
	UserPresent    = 1
	UserVerified   = 4
	BackupEligible = 8
	BackedUp       = 16
	attested       = 64
)

// NewAuthenticator returns an authenticator without a passkey, whose user is verified.
func NewAuthenticator(host, origin string) *Authenticator {
	return &Authenticator{Host: host, Origin: origin, Flags: UserPresent | UserVerified}
}

// question is what both kinds of options have in common.
type question struct {
	PublicKey struct {
		Challenge string
		User      struct{ ID string }
	}
}

func ask(tb testing.TB, options string) (q question) {
	tb.Helper()
	if err := json.Unmarshal([]byte(options), &q); err != nil || q.PublicKey.Challenge == "" {
		tb.Fatalf("options %s: %v", options, err)
	}
	return q
}

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func (a *Authenticator) client(kind, challenge string) []byte {
	raw, _ := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": a.Origin, "crossOrigin": false}) // cannot fail
	return raw
}

func (a *Authenticator) data(flags byte) []byte {
	host := sha256.Sum256([]byte(a.Host))
	return binary.BigEndian.AppendUint32(append(host[:], flags), a.Counter)
}

// Make answers navigator.credentials.create with a new passkey.
func (a *Authenticator) Make(tb testing.TB, options string) string {
	tb.Helper()
	q := ask(tb, options)
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		tb.Fatal(err)
	}
	if a.UserHandle, err = base64.RawURLEncoding.DecodeString(q.PublicKey.User.ID); err != nil {
		tb.Fatal(err)
	}
	a.ID = make([]byte, 32)
	_, _ = rand.Read(a.ID) // never fails: crypto/rand ends the process instead
	point, err := a.key.PublicKey.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	data := append(a.data(a.Flags|attested), make([]byte, 16)...) // no AAGUID
	data = append(binary.BigEndian.AppendUint16(data, uint16(len(a.ID))), a.ID...)
	// CBOR: {1: 2, 3: -7, -1: 1, -2: x, -3: y}, a COSE key for ES256.
	data = append(data, 0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20)
	data = append(append(data, point[1:33]...), 0x22, 0x58, 0x20)
	data = append(data, point[33:]...)
	// CBOR: {"fmt": "none", "attStmt": {}, "authData": data}.
	object := []byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59")
	object = append(binary.BigEndian.AppendUint16(object, uint16(len(data))), data...)
	return a.answer(map[string]any{"clientDataJSON": b64(a.client("webauthn.create", q.PublicKey.Challenge)), "attestationObject": b64(object)})
}

// Answer answers navigator.credentials.get.
func (a *Authenticator) Answer(tb testing.TB, options string) string {
	tb.Helper()
	client, data := a.client("webauthn.get", ask(tb, options).PublicKey.Challenge), a.data(a.Flags)
	hash := sha256.Sum256(client)
	signed := sha256.Sum256(append(slices.Clip(data), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, signed[:])
	if err != nil {
		tb.Fatal(err)
	}
	return a.answer(map[string]any{
		"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(signature), "userHandle": b64(a.UserHandle),
	})
}

func (a *Authenticator) answer(response map[string]any) string {
	raw, _ := json.Marshal(map[string]any{ // cannot fail
		"type": "public-key", "id": b64(a.ID), "rawId": b64(a.ID), "response": response, "clientExtensionResults": map[string]any{},
	})
	return string(raw)
}
