package signin_test

import (
	"testing"
	"time"

	"nestbox/account"
	"nestbox/signin"
)

// TestLosing: what goes with a factor is what makes no sense without it.
func TestLosing(t *testing.T) {
	codes := []signin.RecoveryCode{{Hash: []byte("a")}}
	totp, key := &signin.Authenticator{ConfirmedAt: time.Now()}, []signin.Passkey{{ID: 1}}
	noTOTP := func(f *signin.Factors, _ *bool) { f.TOTP = nil }
	noKeys := func(f *signin.Factors, _ *bool) { f.Passkeys = nil }
	noMail := func(_ *signin.Factors, email *bool) { *email = false }
	noSecond := func(f *signin.Factors, _ *bool) { f.PasskeySecond = false }
	for name, c := range map[string]struct {
		factors signin.Factors
		email   bool
		change  func(*signin.Factors, *bool)
		want    signin.Loss
	}{
		"the only one":             {signin.Factors{TOTP: totp, Recovery: codes}, false, noTOTP, signin.Loss{Recovery: true, Second: true}},
		"with the switch":          {signin.Factors{TOTP: totp, Switches: account.Switches{DangerousFactor: true}}, true, noTOTP, signin.Loss{Dangerous: true}},
		"beside a passkey":         {signin.Factors{TOTP: totp, Passkeys: key, Recovery: codes}, false, noTOTP, signin.Loss{Second: true}},
		"a passkey beside TOTP":    {signin.Factors{TOTP: totp, Passkeys: key, Recovery: codes}, false, noKeys, signin.Loss{}},
		"a passkey after password": {signin.Factors{Passkeys: key, Recovery: codes, Switches: account.Switches{PasskeySecond: true}}, false, noKeys, signin.Loss{Recovery: true, Second: true, PasskeySecond: true}},
		"a passkey by itself":      {signin.Factors{Passkeys: key, Recovery: codes}, false, noKeys, signin.Loss{Recovery: true}},
		"only after the password":  {signin.Factors{Passkeys: key, Recovery: codes, Switches: account.Switches{PasskeySecond: true}}, false, noSecond, signin.Loss{Second: true}},
		"codes by e-mail":          {signin.Factors{}, true, noMail, signin.Loss{Second: true}},
		"codes by e-mail and TOTP": {signin.Factors{TOTP: totp}, true, noMail, signin.Loss{}},
	} {
		o := signin.Overview{Factors: c.factors, Needed: c.factors.TOTP != nil || c.email || c.factors.PasskeySecond}
		if c.email {
			o.Methods = []signin.Method{signin.Email}
		}
		if got := o.Losing(c.change); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
