package hosting_test

import (
	"errors"
	"slices"
	"testing"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/plc"
)

// submitChange submits to the directory a change that is signed by the server's
// key.
func (p *place) submitChange(a *account.Account, c plc.Change) {
	p.t.Helper()
	last, err := p.Directory.Last(p.t.Context(), a.DID)
	if err != nil {
		p.t.Fatal(err)
	}
	op, err := plc.Update(last, c, p.RotationKey)
	if err == nil {
		err = p.Directory.Submit(p.t.Context(), a.DID, op)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// differences returns the facts on which the sides differ.
func differences(r hosting.IdentityReport) (what []string) {
	for _, f := range r.Facts {
		if f.Differs() {
			what = append(what, f.What)
		}
	}
	return what
}

func TestRepairIdentity(t *testing.T) {
	p := newPlace(t)
	a := p.mustCreate("alice")
	show := func(what string, want ...string) hosting.IdentityReport {
		t.Helper()
		r, err := p.ShowIdentity(t.Context(), a)
		if err != nil || !slices.Equal(differences(r), want) || !r.Proven {
			t.Errorf("%s: %+v, %v; want differences in %q", what, r, err, want)
		}
		return r
	}
	if r := show("as made"); !r.Control || !slices.Contains(r.RotationKeys, r.Ours) {
		t.Errorf("%+v", r)
	}
	// What the network has beside it must stay.
	const other = "did:key:zQ3shunBKsXixLxKtC5qeSG9E4J5RkGN57im31pcTzbNQnm5w"
	p.submitChange(a, plc.Change{
		AlsoKnownAs: []string{"https://alice.example.com", "at://elsewhere.example.com"}, VerificationMethods: map[string]string{"atproto": other, "label": other},
	})
	show("changed elsewhere", "handle", "signing key")
	before := p.identities(a.DID)
	r, err := p.RepairIdentity(t.Context(), a, false)
	if err != nil || len(differences(r)) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	p.wantHandle("repaired", a.DID, "alice.test")
	last, err := p.Directory.Last(t.Context(), a.DID)
	if err != nil || last.Regular.VerificationMethods["label"] != other || last.Regular.VerificationMethods["atproto"] != a.SigningKey || !slices.Contains(last.Regular.AlsoKnownAs, "https://alice.example.com") {
		t.Errorf("%+v, %v", last.Regular, err)
	}
	if n := p.identities(a.DID) - before; n != 1 {
		t.Errorf("%d events of the identity", n)
	}
	// If nothing differs, the identity is announced all the same.
	if _, err := p.RepairIdentity(t.Context(), a, false); err != nil || p.identities(a.DID)-before != 2 {
		t.Errorf("again: %v, %d events", err, p.identities(a.DID)-before)
	}

	// An account that has moved out is only brought back with force.
	away, err := plc.Amend(last, plc.Data{PDS: "https://pds.example.com"}, p.RotationKey)
	if err == nil {
		err = p.Directory.Submit(t.Context(), a.DID, away)
	}
	if err != nil {
		t.Fatal(err)
	}
	show("moved out", "host")
	if _, err := p.RepairIdentity(t.Context(), a, false); !errors.Is(err, hosting.ErrMovedOut) {
		t.Errorf("moved out: %v", err)
	}
	if r, err := p.RepairIdentity(t.Context(), a, true); err != nil || len(differences(r)) != 0 {
		t.Errorf("brought back: %+v, %v", r, err)
	}

	// Without a rotation key in the DID there is nothing to be done.
	p.submitChange(a, plc.Change{RotationKeys: []string{other}, AlsoKnownAs: []string{"at://elsewhere.example.com"}})
	if r := show("out of control", "handle"); r.Control {
		t.Errorf("%+v", r)
	}
	if _, err := p.RepairIdentity(t.Context(), a, true); !errors.Is(err, hosting.ErrNoControl) {
		t.Errorf("out of control: %v", err)
	}
	p.plc.down.Store(true)
	if _, err := p.RepairIdentity(t.Context(), a, true); err == nil || errors.Is(err, identity.ErrNotRegistered) {
		t.Errorf("no directory: %v", err)
	}
}
