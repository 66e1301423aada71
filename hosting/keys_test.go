package hosting_test

import (
	"errors"
	"testing"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/internal/seal"
)

// TestKeys: the key that signs for an account is the one that its document
// names, after a restart too, and no other key file opens it.
func TestKeys(t *testing.T) {
	p := newPlace(t)
	a, err := p.create("alice", "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		keys := hosting.NewKeys(p.Store, p.Box)
		for range 2 { // the second is from the cache
			key, err := keys.SigningKey(t.Context(), a.ID)
			if err != nil {
				t.Fatal(err)
			}
			if public, err := key.PublicKey(); err != nil || public.DIDKey() != a.SigningKey {
				t.Errorf("key %v, %v; want %s", public, err, a.SigningKey)
			}
		}
		if _, err := keys.SigningKey(t.Context(), a.ID+1); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("unknown account: %v", err)
		}
		p.restart()
	}
	other, err := seal.NewBox([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hosting.NewKeys(p.Store, other).SigningKey(t.Context(), a.ID); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("another key file: %v", err)
	}
}
