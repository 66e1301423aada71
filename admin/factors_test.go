package admin_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// TestFactors: the operator sees what second factors an account has, and removes those of
// an owner who has lost them; it is audited, and sessions go on.
func TestFactors(t *testing.T) {
	o := newOffice(t)
	a, err := account.Find(t.Context(), o.SignIns().Accounts, o.alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	setup, err := o.SignIns().BeginTOTP(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.ReplaceAll(setup.Secret, " ", "")
	code, err := totp.GenerateCode(secret, o.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.SignIns().FinishTOTP(t.Context(), a, setup.Sealed, code, "x"); err != nil {
		t.Fatal(err)
	}
	line := run[admin.FactorsLine](o, "account.factors", admin.FactorsArgs{Account: "alice.test"})
	if line.Authenticator == "" || line.RecoveryCodes != 10 || len(line.Passkeys) != 0 || !line.AppsByPassword || line.Handle != "alice.test" {
		t.Errorf("%+v", line)
	}
	o.clock.Advance(time.Minute)
	line = run[admin.FactorsLine](o, "account.factors", admin.FactorsArgs{Account: "alice.test", Off: true})
	if line.Authenticator != "" || line.RecoveryCodes != 0 {
		t.Errorf("off: %+v", line)
	}
	o.SignIn(t, "alice.test", pdstest.Password)
	o.MustRefresh(t, o.alice.RefreshJwt)
	info := run[admin.AccountInfo](o, "account.info", admin.AccountArgs{Account: "alice.test"})
	if !slices.ContainsFunc(info.Trail, func(e admin.EntryLine) bool { return e.Kind == string(account.EntryFactorsOff) && e.By == "admin" }) {
		t.Errorf("the trail: %+v", info.Trail)
	}
	page := run[admin.AuditPage](o, "audit", admin.AuditArgs{})
	if !slices.ContainsFunc(page.Actions, func(l admin.AuditLine) bool {
		return l.What == string(account.EntryFactorsOff) && l.Account == o.alice.DID
	}) {
		t.Errorf("the audit log: %+v", page.Actions)
	}
}
