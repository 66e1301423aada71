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

// TestReseal: what one key sealed the other opens afterwards, and nothing else does.
func TestReseal(t *testing.T) {
	from, _ := seal.NewBox(bytes.Repeat([]byte{7}, seal.KeySize))
	to, _ := seal.NewBox(bytes.Repeat([]byte{8}, seal.KeySize))
	sealed := from.Seal([]byte("secret"), "did:plc:a")
	again, err := seal.Reseal(from, to, sealed, "did:plc:a")
	if err != nil {
		t.Fatal(err)
	}
	if same, _ := seal.NewBox(bytes.Repeat([]byte{7}, seal.KeySize)); !from.Equal(same) || from.Equal(to) {
		t.Error("Equal is wrong")
	}
	if got, err := to.Open(again, "did:plc:a"); err != nil || string(got) != "secret" {
		t.Errorf("Open = %q, %v", got, err)
	}
	if _, err := from.Open(again, "did:plc:a"); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("the key of before opens it still: %v", err)
	}
	if once, err := seal.Reseal(from, to, again, "did:plc:a"); err != nil || !bytes.Equal(once, again) {
		t.Errorf("repeated: %x, %v; want it as it was", once, err)
	}
	for name, reseal := range map[string]func() ([]byte, error){
		"another label": func() ([]byte, error) { return seal.Reseal(from, to, sealed, "did:plc:b") },
		"another key":   func() ([]byte, error) { return seal.Reseal(to, to, sealed, "did:plc:a") },
	} {
		if got, err := reseal(); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: %x, %v; want ErrOpen", name, got, err)
		}
	}
}

// TestText: a sealed text opens for its label, and anything else is ErrOpen.
func TestText(t *testing.T) {
	t.Parallel()
	box, err := seal.NewBox(make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	text := box.SealText([]byte("plain"), "form")
	if got, err := box.OpenText(text, "form"); string(got) != "plain" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for name, wrong := range map[string][2]string{
		"another label": {text, "another form"}, "not base64url": {text[:len(text)-1] + "=", "form"}, "cut": {text[:20], "form"}, "empty": {"", "form"},
	} {
		if got, err := box.OpenText(wrong[0], wrong[1]); got != nil || !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
