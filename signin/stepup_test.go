package signin_test

import (
	"errors"
	"slices"
	"testing"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/signin"
)

// TestStepUp: what a form asks for, and what suffices, by what the account has.
func TestStepUp(t *testing.T) {
	d := newDoor(t)
	step := func(a signin.Action, before signin.Proofs, password, code string) (signin.Proofs, error) {
		return d.StepUp(t.Context(), signin.Stepping{DID: d.alice.DID, Action: a, Flow: "f", Before: before, Password: password, Code: code})
	}
	if by, err := step(signin.ChangeHandle, 0, password, ""); err != nil || by != signin.ByPassword {
		t.Errorf("level 1: %v, %v", by, err)
	}
	if _, err := step(signin.ChangeHandle, 0, "wrong", ""); !errors.Is(err, signin.ErrWrong) {
		t.Errorf("a wrong password: %v", err)
	}
	by, err := step(signin.ChangeEmail, 0, password, "")
	needed, ok := errors.AsType[*signin.FactorNeeded](err)
	if !ok || by != signin.ByPassword || !needed.Mailed || !slices.Equal(needed.Methods, []signin.Method{signin.Email}) {
		t.Fatalf("level 2 without a factor: %v, %v", by, err)
	}
	code := d.lastCode()
	if by, err = step(signin.ChangeEmail, by, "", code); err != nil || by != signin.ByPassword|signin.ByEmail {
		t.Errorf("with the mailed code: %v, %v", by, err)
	}
	secret, recovery := d.totp()
	by, err = step(signin.Export, signin.ByPassword, "", "")
	if needed, ok = errors.AsType[*signin.FactorNeeded](err); !ok || by != signin.ByPassword || needed.Mailed || !slices.Equal(needed.Methods, []signin.Method{signin.TOTP}) {
		t.Errorf("level 2 with an authenticator app: %v, %+v", err, needed)
	}
	if _, err := step(signin.Export, 0, password, recovery[0]); !signin.WrongCode(err) {
		t.Errorf("a recovery code for an export: %v", err)
	}
	if by, err = step(signin.ChangeFactors, 0, password, recovery[0]); err != nil || by != signin.ByPassword|signin.ByRecovery {
		t.Errorf("a recovery code for the factors: %v, %v", by, err)
	}
	if by, err = step(signin.Export, by, "", d.six(secret)); err != nil || !by.Has(signin.ByTOTP) {
		t.Errorf("%v, %v", by, err)
	}
	key, _ := d.passkey()
	by, err = d.StepUp(t.Context(), signin.Stepping{DID: d.alice.DID, Action: signin.DeleteAccount, Flow: "k", Passkey: d.assertion(key, "k")})
	if err != nil || by != signin.ByPasskey {
		t.Errorf("a passkey: %v, %v", by, err)
	}
	bob := d.Account(hosting.Pending{Handle: "bob.test"})
	_, err = d.StepUp(t.Context(), signin.Stepping{DID: bob.DID, Action: signin.DeleteAccount, Flow: "k", Passkey: d.assertion(key, "k")})
	if !errors.Is(err, signin.ErrNotYours) {
		t.Errorf("alice's passkey for bob: %v", err)
	}
	d.Service.Codes.Templates = nil // a server that sends no mail
	by, err = d.StepUp(t.Context(), signin.Stepping{DID: d.alice.DID, Action: signin.DeleteAccount, Flow: "n", Passkey: d.assertion(key, "n")})
	if needed, ok = errors.AsType[*signin.FactorNeeded](err); !ok || by != signin.ByPasskey || len(needed.Methods) != 0 {
		t.Errorf("a new passkey, without mail: %v, %v", by, err)
	}
	_, err = step(signin.RotationKeys, signin.ByPassword|signin.ByTOTP, "", "")
	if _, ok = errors.AsType[*signin.FactorNeeded](err); !ok {
		t.Errorf("a new factor, without mail: %v", err)
	}
	d.Clock.Advance(signin.MinFactorAge)
	if by, err = step(signin.RotationKeys, 0, password, d.six(secret)); err != nil || !by.Has(signin.ByAged) {
		t.Errorf("a factor of three days, without mail: %v, %v", by, err)
	}
}

// TestOff: the operator removes what an owner has lost.
func TestOff(t *testing.T) {
	d := newDoor(t)
	d.confirmed()
	d.totp()
	d.passkey()
	for range 2 {
		if err := d.Off(t.Context(), d.alice); err != nil {
			t.Fatal(err)
		}
	}
	if f := d.factors(); f.Strong() || len(f.Recovery) > 0 || f.DangerousFactor {
		t.Errorf("%+v", f)
	}
	if _, err := d.try(signin.Session, password, ""); err != nil {
		t.Errorf("the password alone: %v", err)
	}
	if got := d.kinds(2); !slices.Equal(got, []account.EntryKind{account.EntryFactorsOff, account.EntryPasskeyAdded}) {
		t.Errorf("the trail: %v", got)
	}
	if got := d.mailed(); got[len(got)-1] != "Second factors are off" {
		t.Errorf("mails: %q", got)
	}
}

// TestRenewed: an old proof goes where the new ones are worth as much alone, so that it does
// not decide how long they count.
func TestRenewed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		before, by, want signin.Proofs
		renewed          bool
	}{
		{0, signin.ByPassword, signin.ByPassword, true},
		{0, signin.ByPassword | signin.ByTOTP, signin.ByPassword | signin.ByTOTP, true},
		{signin.ByPassword, signin.ByPassword | signin.ByTOTP, signin.ByPassword | signin.ByTOTP, false},
		{signin.ByPassword | signin.ByEmail, signin.ByPassword | signin.ByEmail | signin.ByTOTP, signin.ByPassword | signin.ByEmail | signin.ByTOTP, false},
		{signin.ByPassword, signin.ByPassword | signin.ByPasskey | signin.ByAged, signin.ByPasskey | signin.ByAged, true},
		{signin.ByPasskey, signin.ByPasskey | signin.ByPassword, signin.ByPasskey | signin.ByPassword, false},
	} {
		if got, renewed := c.by.Renewed(c.before); got != c.want || renewed != c.renewed {
			t.Errorf("%s after %s: %s, %t", c.by, c.before, got, renewed)
		}
	}
}
