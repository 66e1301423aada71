package admin_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// TestCode: the operator gets the code that a tool of an owner asks for. It works once and
// for 15 minutes, the trail and the audit log name it without the code, and there is none
// for any other purpose.
func TestCode(t *testing.T) {
	o := newOffice(t)
	deletes := func(code string) pdstest.Answer {
		return o.Do(t, pdstest.Request{
			NSID: "com.atproto.server.deleteAccount", Body: map[string]string{"did": o.alice.DID, "password": pdstest.Password, "token": code},
		})
	}
	make1 := func() admin.CodeLine {
		return run[admin.CodeLine](o, "account.code", admin.CodeArgs{Account: "alice.test", Purpose: "delete_account"})
	}
	for _, purpose := range []string{"sign_in", "step_up", "new_email", "", "x"} {
		var result any
		err := o.Run(t.Context(), "account.code", admin.CodeArgs{Account: "alice.test", Purpose: purpose}, &result)
		if err == nil || !strings.Contains(err.Error(), account.ErrPurpose.Error()) {
			t.Errorf("a code for %q: %v", purpose, err)
		}
	}
	first := make1()
	if account.CleanCode(first.Code) != first.Code || first.Code == "" || first.Handle != "alice.test" || first.Minutes != 15 {
		t.Errorf("%+v", first)
	}
	info := run[admin.AccountInfo](o, "account.info", admin.AccountArgs{Account: "alice.test"})
	if last := info.Trail[0]; last.Kind != string(account.EntryCodeGiven) || last.By != "admin" || last.Reason != "delete_account" {
		t.Errorf("the trail ends with %+v", last)
	}
	page := run[admin.AuditPage](o, "audit", admin.AuditArgs{})
	if !slices.ContainsFunc(page.Actions, func(l admin.AuditLine) bool {
		return l.What == string(account.EntryCodeGiven) && l.Account == o.alice.DID && !strings.Contains(l.Details, first.Code)
	}) {
		t.Errorf("the audit log: %+v", page.Actions)
	}
	o.clock.Advance(15 * time.Minute)
	deletes(first.Code).WantError(t, 400, "ExpiredToken", "Token is expired")
	second, third := make1(), make1()
	deletes(second.Code).WantError(t, 400, "InvalidToken", "Token is invalid")
	if a := deletes(third.Code); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// TestCodeWithoutMail: the codes of an owner's address and password work as if a mail had brought
// them; the one that lets an account leave asks twice.
func TestCodeWithoutMail(t *testing.T) {
	o := newOffice(t)
	give := func(purpose string) string {
		t.Helper()
		return run[admin.CodeLine](o, "account.code", admin.CodeArgs{Account: "alice.test", Purpose: purpose}).Code
	}
	post := func(nsid, auth string, body any) {
		t.Helper()
		if a := o.Do(t, pdstest.Request{Method: "POST", NSID: nsid, Auth: auth, Body: body}); a.Status != 200 {
			t.Errorf("%s: %d %s", nsid, a.Status, a.Body)
		}
	}
	alice := pdstest.Bearer(o.alice.AccessJwt)
	post("com.atproto.server.confirmEmail", alice, map[string]string{"email": "alice@example.com", "token": give("confirm_email")})
	post("com.atproto.server.updateEmail", alice, map[string]string{"email": "alice@example.org", "token": give("update_email")})
	post("com.atproto.server.resetPassword", "", map[string]string{"password": "another-horse-1", "token": give("reset_password")})
	o.SignIn(t, "alice.test", "another-horse-1")

	var result any
	err := o.Run(t.Context(), "account.code", admin.CodeArgs{Account: "alice.test", Purpose: "plc_operation"}, &result)
	if err == nil || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("without a second word: %v", err)
	}
	if code := run[admin.CodeLine](o, "account.code", admin.CodeArgs{Account: "alice.test", Purpose: "plc_operation", Sure: true}).Code; code == "" {
		t.Error("no code")
	}
}
