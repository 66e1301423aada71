// Package seal encrypts small secrets at rest with the key of the data
// directory's key file. Invariant: what was sealed for one purpose and owner
// (the label) opens for no other.
package seal

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the length of a key in bytes.
const KeySize = chacha20poly1305.KeySize

// ErrOpen: the data was changed, or sealed with another key or label.
var ErrOpen = errors.New("sealed secret does not open: wrong key file?")

// Box seals and opens with one key (XChaCha20-Poly1305). It is safe for
// concurrent use.
type Box struct {
	aead cipher.AEAD
	key  []byte
}

// NewBox returns a Box with a key of KeySize bytes.
func NewBox(key []byte) (*Box, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return &Box{aead, slices.Clone(key)}, nil
}

// Equal reports whether two boxes have the same key.
func (b *Box) Equal(other *Box) bool { return hmac.Equal(b.key, other.key) }

// Derive returns a secret of 32 bytes derived from the key, a different one for
// each label.
func (b *Box) Derive(label string) []byte {
	mac := hmac.New(sha256.New, b.key)
	mac.Write([]byte("nestbox derived secret\x00" + label))
	return mac.Sum(nil)
}

// Seal encrypts plain for label; the result begins with its random nonce.
func (b *Box) Seal(plain []byte, label string) []byte {
	nonce := make([]byte, b.aead.NonceSize(), b.aead.NonceSize()+len(plain)+b.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	return b.aead.Seal(nonce, nonce, plain, []byte(label))
}

// Open decrypts what Seal made for the same label, or returns ErrOpen.
func (b *Box) Open(sealed []byte, label string) ([]byte, error) {
	if len(sealed) < b.aead.NonceSize() {
		return nil, ErrOpen
	}
	nonce, text := sealed[:b.aead.NonceSize()], sealed[b.aead.NonceSize():]
	plain, err := b.aead.Open(nil, nonce, text, []byte(label))
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// SealText is Seal in base64url, for a hidden field of a form.
func (b *Box) SealText(plain []byte, label string) string {
	return base64.RawURLEncoding.EncodeToString(b.Seal(plain, label))
}

// OpenText decrypts what SealText made for the same label, or returns ErrOpen.
func (b *Box) OpenText(text, label string) ([]byte, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, ErrOpen
	}
	return b.Open(sealed, label)
}

// Reseal returns data that from sealed for label, sealed by to instead. Data
// that to sealed already stays as it is, so that a call may be repeated;
// otherwise it returns ErrOpen.
func Reseal(from, to *Box, sealed []byte, label string) ([]byte, error) {
	if _, err := to.Open(sealed, label); err == nil {
		return sealed, nil
	}
	plain, err := from.Open(sealed, label)
	if err != nil {
		return nil, err
	}
	return to.Seal(plain, label), nil
}
