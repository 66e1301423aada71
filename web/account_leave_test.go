package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"nestbox/account"
	"nestbox/internal/pdstest"
)

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestDeactivatePage: with and without a day of deletion, and back.
func TestDeactivatePage(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.owner("alice")
	w.clock.Advance(11 * time.Minute)
	page := func() shown { return alice.page("deactivate") }
	day := func(days int) string { return w.clock.Now().UTC().AddDate(0, 0, days).Format(time.DateOnly) }
	for typed, says := range map[string]string{"": "Enter a day", "31.1.2027": "Enter a day", day(0): "too soon", day(7): "too soon", "1999-01-01": "too soon"} {
		alice.at(alice.press(page(), "deactivate", "delete", "yes", "delete_on", typed), http.StatusUnprocessableEntity, "", says)
	}
	alice.at(alice.proven(alice.press(page(), "deactivate")), http.StatusSeeOther, alice.path("manage")+"?done=deactivated")
	if got := alice.session(); got.Active || got.Status != "deactivated" {
		t.Errorf("%+v", got)
	}
	manage := alice.at(alice.page("manage"), http.StatusOK, "", "This account is deactivated", "Reactivate your account")
	if strings.Contains(manage.body, "will be deleted") {
		t.Error("nobody asked for a deletion")
	}
	// Once more, with a day; what was asked for again is a success.
	for range 2 {
		alice.at(alice.press(page(), "deactivate", "delete", "yes", "delete_on", day(9)), http.StatusSeeOther, alice.path("manage"))
	}
	alice.at(alice.page("manage"), http.StatusOK, "", "It will be deleted on")
	alice.happened("deactivated")
	alice.at(alice.page("reactivate"), http.StatusOK, "", "It will be deleted on")
	alice.at(alice.press(alice.page("reactivate"), "reactivate"), http.StatusSeeOther, alice.path("manage")+"?done=reactivated")
	if got := alice.session(); !got.Active {
		t.Errorf("%+v", got)
	}
	if page := alice.page("manage"); strings.Contains(page.body, "It will be deleted") {
		t.Error("it is still to be deleted")
	}
}

// TestDeletePage: a fresh proof, the code that was mailed, and the handle.
func TestDeletePage(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, box.Settings()...)
	alice := w.owner("alice")
	page := func() shown { return alice.page("delete") }
	alice.at(alice.press(page(), "delete"), http.StatusUnprocessableEntity, "", "Enter the code from the mail.", "That is not your handle.")
	alice.at(alice.provenBothOr(alice.press(page(), "code"), box), http.StatusSeeOther, alice.path("delete")+"?done=code-sent")
	code := box.Code(t, "alice@example.com")
	alice.at(alice.press(page(), "delete", "code", code, "handle", "bob.test"), http.StatusUnprocessableEntity, "", "That is not your handle.", code)
	alice.at(alice.press(page(), "delete", "code", "ABCDE-23456", "handle", "alice.test"), http.StatusUnprocessableEntity, "", "This code is not right")
	if got := alice.session(); !got.Active {
		t.Fatalf("%+v", got)
	}
	alice.at(alice.press(page(), "delete", "code", code, "handle", "@Alice.test "), http.StatusSeeOther, "/account/sign-in?done=deleted")
	alice.at(alice.get(w.URL+"/account/sign-in?done=deleted"), http.StatusOK, "", "Your account is deleted.")
	var result any
	if err := w.Run(t.Context(), "account.info", map[string]string{"account": alice.DID}, &result); err == nil {
		t.Error("the account is still there")
	}
}

// provenBothOr answers the page that asks for a proof by the code that is mailed, after the
// password if that is asked for.
func (o *owner) provenBothOr(page shown, box *pdstest.Mailbox) shown {
	o.t.Helper()
	if strings.Contains(page.body, `name="password"`) {
		page = o.proven(page)
	}
	o.at(page, http.StatusOK, "", "Confirm that it is you")
	return o.press(page, "confirm", "code", box.Code(o.t, "alice@example.com"))
}

// authenticator sets up an authenticator app, and returns what makes its codes.
func (o *owner) authenticator() func() string {
	o.t.Helper()
	a, err := account.Find(o.t.Context(), o.w.SignIns().Accounts, o.DID)
	if err != nil {
		o.t.Fatal(err)
	}
	setup, err := o.w.SignIns().BeginTOTP(o.t.Context(), a)
	if err != nil {
		o.t.Fatal(err)
	}
	code := func() string {
		o.w.clock.Advance(time.Minute) // each is accepted once
		made, err := totp.GenerateCode(strings.ReplaceAll(setup.Secret, " ", ""), o.w.clock.Now())
		if err != nil {
			o.t.Fatal(err)
		}
		return made
	}
	if _, err := o.w.SignIns().FinishTOTP(o.t.Context(), a, setup.Sealed, code(), "x"); err != nil {
		o.t.Fatal(err)
	}
	return code
}

// TestLeaveWithoutMail: on a server that sends no mail, codes for tools and the deletion
// want a factor that is some days old, or the operator.
func TestLeaveWithoutMail(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t, "PDS_EMAIL_SMTP_URL=none")
	alice := w.owner("alice")
	w.clock.Advance(11 * time.Minute)
	alice.at(alice.page("codes"), http.StatusOK, "", "ask the operator of this server")
	code := alice.authenticator()
	w.clock.Advance(4 * 24 * time.Hour)
	alice.at(alice.press(alice.get(w.URL+"/account/sign-in"), "sign-in", "identifier", "alice.test", "password", flowPassword, "remember", "yes"), http.StatusOK, "")

	second := &owner{browser: w.browser(true), Session: alice.Session, t: t}
	page := second.press(second.get(w.URL+"/account/sign-in"), "sign-in", "identifier", "alice.test", "password", flowPassword)
	second.at(second.press(page, "continue", "code", code()), http.StatusSeeOther, "/account")
	given := second.at(second.press(second.page("codes"), "plc_operation"), http.StatusOK, "", "It is shown once", "Type the six digits of your authenticator app behind it")
	second.happened("code-given")
	if !codeOf(given) {
		t.Errorf("no code in %s", given.body)
	}
	second.at(second.press(second.page("delete"), "delete", "handle", "alice.test"), http.StatusSeeOther, "/account/sign-in?done=deleted")
}

func codeOf(page shown) bool {
	_, after, ok := strings.Cut(page.body, `<code id="code" translate="no">`)
	text, _, _ := strings.Cut(after, "<")
	return ok && account.CleanCode(text) == text && text != ""
}

// TestToolCode: the code of the page is the one that signPlcOperation takes, once.
func TestToolCode(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, box.Settings()...)
	alice := w.owner("alice")
	given := alice.provenBothOr(alice.press(alice.page("codes"), "plc_operation"), box)
	alice.at(given, http.StatusOK, "", "Moving, or changing the identity", "15 minutes")
	_, after, _ := strings.Cut(given.body, `<code id="code" translate="no">`)
	code, _, _ := strings.Cut(after, "<")
	sign := func() pdstest.Answer {
		return w.Client.Do(t, pdstest.Request{
			NSID: "com.atproto.identity.signPlcOperation", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]string{"token": code},
		})
	}
	if a := sign(); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	sign().WantError(t, http.StatusBadRequest, "InvalidToken", "Token is invalid")
	alice.happened("code-given")
}

// TestTakenDownPages: the owner of an account that is taken down signs in, after the right
// password, to read why and to leave, and to nothing else.
func TestTakenDownPages(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.owner("alice")
	var result any
	if err := w.Run(t.Context(), "account.takedown", map[string]string{"account": alice.DID, "ref": "case 7"}, &result); err != nil {
		t.Fatal(err)
	}
	alice.at(alice.page("about"), http.StatusSeeOther, "/account/sign-in")
	wrong := alice.press(alice.get(w.URL+"/account/sign-in"), "sign-in", "identifier", "alice.test", "password", "not it")
	alice.at(wrong, http.StatusUnprocessableEntity, "", "is wrong")
	alice.enter("alice.test")
	for _, part := range append(ownerPages(), "sessions", "apps", "security") {
		if part == "about" || part == "deactivate" || part == "data" {
			continue
		}
		alice.at(alice.page(part), http.StatusSeeOther, alice.path("about"))
	}
	about := alice.at(alice.page("about"), http.StatusOK, "", "case 7", "taken this account down")
	if strings.Contains(about.body, alice.path("security")) {
		t.Error("the navigation leads to pages that are closed")
	}
	alice.at(alice.press(alice.page("deactivate"), "deactivate"), http.StatusSeeOther, alice.path("about")+"?done=deactivated")
	// No app is let in by that sign-in.
	flow := alice.get(w.push(w.public, "login_hint", "alice.test"))
	if strings.Contains(flow.body, `value="allow"`) {
		t.Error("an app can be allowed")
	}
}

// TestHeldDelete: an account that is suspended cannot be deleted by its owner, and the
// page says so.
func TestHeldDelete(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.owner("alice")
	page := alice.page("delete")
	var result any
	if err := w.Run(t.Context(), "account.suspend", map[string]string{"account": alice.DID}, &result); err != nil {
		t.Fatal(err)
	}
	alice.at(alice.page("delete"), http.StatusOK, "", "you cannot delete it, but you can deactivate it")
	alice.at(alice.press(page, "delete", "handle", "alice.test", "code", "ABCDE-23456"), http.StatusConflict, "", "you cannot delete it")
	alice.at(alice.page("manage"), http.StatusOK, "", "has suspended this account")
}

// TestAboutPage: what the server is, and what the account uses.
func TestAboutPage(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t, "PDS_BLOB_QUOTA=1048576", "PDS_CONTACT_EMAIL_ADDRESS=help@example.com", "PDS_SERVICE_NAME=Our Nest")
	alice := w.owner("alice")
	a := w.Client.Do(t, pdstest.Request{
		NSID: "com.atproto.repo.uploadBlob", Auth: pdstest.Bearer(alice.AccessJwt), Body: strings.Repeat("x", 12_800), Header: http.Header{"Content-Type": {"text/plain"}},
	})
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	alice.at(alice.page("about"), http.StatusOK, "", "Our Nest", "did:web:", "help@example.com", "1 file, 12.5\u00a0kB", "Up to 1\u00a0MB", "300\u00a0MB")
	alice.at(alice.get(w.URL+alice.path("about"), "Accept-Language", "de"), http.StatusOK, "", "1 Datei, 12,5\u00a0kB")
}
