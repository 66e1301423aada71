package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"nestbox/internal/seal"
)

func TestBox(t *testing.T) {
	key := bytes.Repeat([]byte{7}, seal.KeySize)
	box, err := seal.NewBox(key)
	if err != nil {
		t.Fatal(err)
	}
	sealed := box.Seal([]byte("secret"), "did:plc:a")
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("the plain text shows")
	}
	if got, err := box.Open(sealed, "did:plc:a"); err != nil || string(got) != "secret" {
		t.Errorf("Open = %q, %v", got, err)
	}
	if again := box.Seal([]byte("secret"), "did:plc:a"); bytes.Equal(again, sealed) {
		t.Error("two seals are equal: the nonce is not random")
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	other, _ := seal.NewBox(bytes.Repeat([]byte{8}, seal.KeySize))
	for name, open := range map[string]func() ([]byte, error){
		"another label": func() ([]byte, error) { return box.Open(sealed, "did:plc:b") },
		"changed":       func() ([]byte, error) { return box.Open(changed, "did:plc:a") },
		"too short":     func() ([]byte, error) { return box.Open(sealed[:5], "did:plc:a") },
		"another key":   func() ([]byte, error) { return other.Open(sealed, "did:plc:a") },
	} {
		if got, err := open(); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: Open = %q, %v; want ErrOpen", name, got, err)
		}
	}
	if _, err := seal.NewBox([]byte("short")); err == nil {
		t.Error("a short key was accepted")
	}
}
