package web_test

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/internal/pdstest"
)

// appPassword makes an app password as a client does, and returns it.
func (o *owner) appPassword(name string) string {
	o.t.Helper()
	var made struct{ Password string }
	o.w.Client.Do(o.t, pdstest.Request{
		NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(o.AccessJwt), Body: map[string]string{"name": name},
	}).Decode(o.t, &made)
	return made.Password
}

// opens reports whether a password signs in.
func (o *owner) opens(password string) bool {
	o.t.Helper()
	return o.w.Client.Do(o.t, pdstest.Request{
		NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": o.DID, "password": password},
	}).Status == http.StatusOK
}

// TestExactAppPassword: "Revoke" ends the app password of its row, whatever its name looks
// like, and each name is seen.
func TestExactAppPassword(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t, "PDS_EMAIL_SMTP_URL=none")
	alice := w.owner("alice")
	names := []string{"Phone", "Phone ", " Phone", "\u200b", "  ", "Ph\u200bone", "👩\u200d🚀"}
	passwords := map[string]string{}
	for _, name := range names {
		passwords[name] = alice.appPassword(name)
	}
	page := alice.at(alice.page("app-passwords"), http.StatusOK, "", `Phone\u0020`, `\u0020Phone`, `\u200b`, `\u0020\u0020`, `Ph\u200bone`, "👩\u200d🚀")
	if n := strings.Count(page.body, "<bdi></bdi>"); n != 0 {
		t.Errorf("%d names show nothing", n)
	}
	for i, name := range names {
		ref := "app-password " + base64.RawURLEncoding.EncodeToString([]byte(name))
		asked := alice.at(alice.press(alice.page("app-passwords"), ref), http.StatusOK, "", "Revoke")
		alice.at(alice.press(asked, "confirm"), http.StatusSeeOther, alice.path("app-passwords")+"?done=app-password-ended")
		for j, other := range names {
			if got := alice.opens(passwords[other]); got != (j > i) {
				t.Errorf("%q after %q was revoked: %t", other, name, got)
			}
		}
	}
	for _, junk := range []string{"app-password", "app-password ", "app-password Phone!", "app "} {
		alice.at(alice.postTo(alice.path("app-passwords"), page, "end", junk, "decision", "confirm"), http.StatusSeeOther, alice.path("app-passwords"))
	}
	// Names that are typed on the page are without what nobody sees.
	for _, blank := range []string{" ", "\u200b", "\u3164", "\u2800 \u00a0", "\u200d"} {
		alice.at(alice.press(alice.page("app-passwords"), "make", "name", blank), http.StatusUnprocessableEntity, "", "that can be seen")
	}
	alice.at(alice.press(alice.page("app-passwords"), "make", "name", " My \u200b phone\u202e "), http.StatusOK, "", "My phone")
	if page := alice.page("app-passwords"); !strings.Contains(page.body, "app-password "+base64.RawURLEncoding.EncodeToString([]byte("My phone"))) {
		t.Errorf("the name is not clean: %s", page.body)
	}
}

// confirmedOwner is an owner whose address is confirmed, with their mailbox.
func confirmedOwner(t *testing.T, settings ...string) (*owner, *pdstest.Mailbox) {
	t.Helper()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, append(box.Settings(), settings...)...)
	alice := w.owner("alice")
	alice.press(alice.page("email"), "send")
	alice.press(alice.page("email"), "confirm", "code", box.Code(t, "alice@example.com"))
	return alice, box
}

// TestAlwaysMailed: with notices off, what could cost the account is mailed all the same, and
// on the trail and the security page; the mails say why they come. The end of the account is
// mailed too.
func TestAlwaysMailed(t *testing.T) {
	t.Parallel()
	alice, box := confirmedOwner(t)
	alice.at(alice.press(alice.page("manage"), "notices-off"), http.StatusSeeOther, alice.path("manage"))
	arrives := func(subject string) {
		t.Helper()
		m := box.Wait(t, "alice@example.com")
		if m.Subject != subject || !strings.Contains(strings.Join(strings.Fields(m.Text), " "), "Mails about this are always sent") {
			t.Errorf("%q, want %q:\n%s", m.Subject, subject, m.Text)
		}
	}
	arrives("Notices are off")
	alice.appPassword("phone") // not mailed
	alice.at(alice.provenBothOr(alice.press(alice.page("security"), "email-on"), box), http.StatusSeeOther, alice.path("security"))
	arrives("Sign-in codes are on")
	for range 2 {
		if zip := alice.press(alice.page("data"), "0"); zip.header.Get("Content-Type") != "application/zip" {
			t.Fatalf("%d %s", zip.status, zip.body)
		}
		alice.happened("data-exported")
		arrives("Your data was downloaded")
	}
	alice.at(alice.page("events"), http.StatusOK, "", "All data of the account was downloaded.")
	alice.at(alice.get(alice.w.URL+alice.path("events"), "Accept-Language", "de"), http.StatusOK, "", "Alle Daten des Kontos wurden heruntergeladen.")
	alice.at(alice.page("security"), http.StatusOK, "", "All data of the account was downloaded.")
	alice.press(alice.page("deactivate"), "deactivate", "delete", "yes", "delete_on", alice.w.clock.Now().UTC().AddDate(0, 0, 9).Format(time.DateOnly))
	arrives("Your account will be deleted")
	alice.press(alice.page("delete"), "code")
	code := box.Code(t, "alice@example.com")
	alice.at(alice.press(alice.page("delete"), "delete", "code", code, "handle", "alice.test"), http.StatusSeeOther, "/account/sign-in?done=deleted")
	arrives("Your account was deleted")
}

// TestRecoveryAdds: an owner without the phone removes the authenticator app by a recovery code, and then
// goes on by a mailed code like everybody without a second step.
func TestRecoveryAdds(t *testing.T) {
	t.Parallel()
	alice, box := confirmedOwner(t)
	a, err := account.Find(t.Context(), alice.w.SignIns().Accounts, alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	alice.authenticator()
	codes, err := alice.w.SignIns().NewRecoveryCodes(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	alice.w.clock.Advance(11 * time.Minute)
	asked := alice.press(alice.press(alice.page("security"), "totp-remove"), "confirm")
	asked = alice.proven(asked)
	alice.at(alice.press(asked, "confirm", "code", codes[0]), http.StatusSeeOther, alice.path("security")+"?done=totp-off")
	asked = alice.at(alice.press(alice.page("data"), "0"), http.StatusOK, "", "We have mailed a code to")
	var code string
	for code == "" {
		if m := box.Wait(t, "alice@example.com"); m.Subject == "Confirm that it is you" {
			code = m.Code()
		}
	}
	if zip := alice.press(asked, "confirm", "code", code); zip.header.Get("Content-Type") != "application/zip" {
		t.Errorf("asked once more: %d %s", zip.status, zip.body)
	}
}

// TestNoWay: on a server that sends no mail, what wants an old second step says so, before and
// after trying, and no page promises a mail.
func TestNoWay(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t, "PDS_EMAIL_SMTP_URL=none", "PDS_CONTACT_EMAIL_ADDRESS=help@example.com")
	alice := w.owner("alice")
	const why = "This server sends no mail, so this wants a second step that you set up at least 3 days ago."
	for _, part := range []string{"codes", "delete"} {
		page := alice.at(alice.page(part), http.StatusOK, "", why, "You have none.", "Or ask the operator of this server:", "mailto:help@example.com")
		if strings.Contains(page.body, `value="plc_operation"`) || strings.Contains(page.body, `value="delete"`) {
			t.Errorf("%s has a button that refuses", part)
		}
		alice.at(alice.get(w.URL+alice.path(part), "Accept-Language", "de"), http.StatusOK, "", "Dieser Server verschickt keine Mails.")
	}
	code := alice.authenticator()
	alice.at(alice.page("codes"), http.StatusOK, "", why, "Yours is too new. Come back after")
	for part, never := range map[string][]string{
		"email": {"go to it, and mails"}, "manage": {"You need it to set a new password"}, "deactivate": {"A mail about it goes"},
	} {
		page := alice.at(alice.page(part), http.StatusOK, "")
		for _, text := range never {
			if strings.Contains(page.body, text) {
				t.Errorf("%s says %q", part, text)
			}
		}
	}
	// A form from before is refused in the same words.
	w.clock.Advance(4 * 24 * time.Hour)
	alice = &owner{browser: w.browser(true), Session: alice.Session, t: t}
	a, err := account.Find(t.Context(), w.SignIns().Accounts, alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	asked := alice.press(alice.get(w.URL+"/account/sign-in"), "sign-in", "identifier", "alice.test", "password", flowPassword)
	alice.at(alice.press(asked, "continue", "code", code()), http.StatusSeeOther, "/account")
	before := alice.page("codes")
	w.clock.Advance(11 * time.Minute)
	if err := w.SignIns().RemoveTOTP(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	alice.at(alice.press(before, "plc_operation"), http.StatusConflict, "", why, "You have none.")
}

// TestRefusedFirst: what cannot be done whatever is proven is said before a proof is asked
// for, with the true reason, and has no button.
func TestRefusedFirst(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, box.Settings()...)
	alice := w.owner("alice")
	w.clock.Advance(11 * time.Minute)
	page := alice.at(alice.page("security"), http.StatusOK, "", "set up one of these first", "Nobody has confirmed your e-mail address yet")
	for _, value := range []string{"codes-new", "email-on"} {
		if strings.Contains(page.body, `value="`+value+`"`) {
			t.Errorf("the button %s refuses", value)
		}
	}
	post := func(fields ...string) shown { return alice.postTo(alice.path("security"), page, fields...) }
	alice.at(post("decision", "codes-new"), http.StatusUnprocessableEntity, "", "That needs an authenticator app or a passkey")
	alice.at(post("decision", "email-on"), http.StatusUnprocessableEntity, "", "Nobody has confirmed your e-mail address yet")
	alice.at(post("decision", "on", "switch", "passkey-second"), http.StatusUnprocessableEntity, "", "That needs an authenticator app or a passkey")
	alice.at(post("decision", "on", "switch", "apps-by-password"), http.StatusOK, "", "Confirm that it is you")
	alice.at(alice.page("email"), http.StatusOK, "", "have a code sent to it, and enter it here")
	alice.press(alice.page("email"), "send")
	alice.at(alice.page("email"), http.StatusOK, "", "enter the code that we have mailed to it")
}

// TestStepUpPause: while codes by mail pause, the page does not say that one was mailed.
func TestStepUpPause(t *testing.T) {
	t.Parallel()
	alice, box := confirmedOwner(t)
	alice.w.clock.Advance(11 * time.Minute)
	asked := alice.proven(alice.press(alice.page("data"), "0"))
	box.Code(t, "alice@example.com")
	for range 10 {
		asked = alice.press(asked, "confirm", "code", "ABCDE-23456")
	}
	for _, page := range []shown{asked, alice.press(alice.page("data"), "0")} {
		if page.status != http.StatusTooManyRequests && !strings.Contains(page.body, "That code is not right") {
			t.Errorf("%d %s", page.status, page.body)
		}
	}
	page := alice.at(alice.press(alice.page("data"), "0"), http.StatusTooManyRequests, "", "This way pauses for 15 minutes.")
	for _, text := range []string{"We have mailed", "another way"} {
		if strings.Contains(page.body, text) {
			t.Errorf("the page says %q", text)
		}
	}
}

// TestSuspendedWords: a suspended account is not active again after reactivation, and is not
// deleted on the day that was set.
func TestSuspendedWords(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.owner("alice")
	alice.press(alice.page("deactivate"), "deactivate", "delete", "yes", "delete_on", w.clock.Now().UTC().AddDate(0, 0, 9).Format(time.DateOnly))
	w.run("account.suspend", map[string]string{"account": alice.DID})
	for _, part := range []string{"manage", "reactivate"} {
		page := alice.at(alice.page(part), http.StatusOK, "", "While it is suspended it is not deleted")
		if strings.Contains(page.body, "It will be deleted on") || strings.Contains(page.body, "can be seen again") {
			t.Errorf("%s: %s", part, page.body)
		}
	}
	alice.at(alice.press(alice.page("reactivate"), "reactivate"), http.StatusSeeOther, alice.path("manage")+"?done=reactivated-held")
	alice.at(alice.page("manage?done=reactivated-held"), http.StatusOK, "", "It stays suspended by the operator of this server.")
}

// TestProgramsInGerman: what signed in is named in the page's language.
func TestProgramsInGerman(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.owner("alice")
	for _, agent := range []string{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "something/1"} {
		w.Client.Do(t, pdstest.Request{
			NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": alice.DID, "password": flowPassword},
			Header: http.Header{"User-Agent": {agent}},
		})
	}
	english := regexp.MustCompile(`unknown client|Firefox(</bdi>)? on `)
	for _, part := range []string{"sessions", "devices", "events", "security"} {
		page := alice.get(w.URL+alice.path(part), "Accept-Language", "de")
		if found := english.FindString(page.body); found != "" {
			t.Errorf("%s says %q", part, found)
		}
		if slices.Contains([]string{"sessions", "events"}, part) {
			alice.at(page, http.StatusOK, "", "Firefox unter Linux", "unbekanntes Programm")
		}
	}
	alice.at(alice.page("sessions"), http.StatusOK, "", "Firefox on Linux", "unknown program")
}
