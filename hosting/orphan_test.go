package hosting_test

import (
	"errors"
	"strings"
	"testing"

	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/plc"
)

// TestOrphan: an account is one that was lost if its DID names this server, and this server can
// give it another key.
func TestOrphan(t *testing.T) {
	p := newPlace(t)
	lost, there, gone := p.mustCreate("alice"), p.mustCreate("bob"), p.mustCreate("carol")
	p.submitChange(gone, plc.Change{Services: map[string]didplc.OpService{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: "https://elsewhere.example.com"}}})
	for _, a := range []*account.Account{lost, gone} {
		if err := p.Accounts.Delete(t.Context(), a.ID, p.clock()); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := p.Orphan(t.Context(), lost.DID); err != nil || d.SigningKey() != lost.SigningKey || d.Handle() != "alice.test" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := p.Orphan(t.Context(), there.DID); !errors.Is(err, account.ErrDIDTaken) {
		t.Errorf("an account that is here: %v", err)
	}
	if _, err := p.Orphan(t.Context(), "did:web:alice.example.com"); !errors.Is(err, hosting.ErrNotPLC) {
		t.Errorf("a did:web: %v", err)
	}
	if _, err := p.Orphan(t.Context(), gone.DID); err == nil || !strings.Contains(err.Error(), "names another server, \"https://elsewhere.example.com\"") {
		t.Errorf("an account that has moved out: %v", err)
	}
	server, err := p.RotationKey.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	p.submitChange(lost, plc.Change{RotationKeys: []string{there.SigningKey}}) // any key but the server's
	if _, err := p.Orphan(t.Context(), lost.DID); !errors.Is(err, hosting.ErrNoControl) || !strings.Contains(err.Error(), server.DIDKey()) {
		t.Errorf("a DID that this server cannot change: %v", err)
	}
}
