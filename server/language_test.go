package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// TestMailLanguage: mails have the language of the account's last page, and until there was
// one that of the page which causes them, as they arrive.
func TestMailLanguage(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Settings: append(box.Settings(), "PDS_SERVICE_NAME=Nest of Ours")})
	const address = "alice@example.com"
	alice := s.SignUp(t, "alice")
	arrives := func(to, language, subject, body string) string {
		t.Helper()
		m := box.Wait(t, to)
		flat := strings.Join(strings.Fields(m.Text), " ")
		if m.Subject != subject || !strings.Contains(flat, body) || !strings.Contains(m.HTML, `<html lang="`+language+`" dir="ltr">`) || !strings.Contains(m.HTML, subject) {
			t.Fatalf("%q, want %q with %q in %s:\n%s\n%s", m.Subject, subject, body, language, m.Text, m.HTML)
		}
		return m.Code()
	}
	call := func(method string, body any) {
		t.Helper()
		if a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server." + method, Auth: pdstest.Bearer(alice.AccessJwt), Body: body}); a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", method, a.Status, a.Body)
		}
	}
	call("requestEmailConfirmation", nil)
	code := arrives(address, "en", "Confirm your email address", "Sent by Nest of Ours (localhost)")
	call("confirmEmail", map[string]any{"email": address, "token": code})

	p := newVisitor(t, s)
	p.header.Set("Accept-Language", "de")
	p.header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0") // a program that is new here
	p.want(p.signIn("alice.test", pdstest.Password), http.StatusSeeOther, inHere)
	arrives(address, "de", "Neue Anmeldung in deinem Konto", "dem Passwort des Kontos")
	p.get("/account/u/" + alice.DID + "/security")
	call("requestEmailUpdate", nil)
	if arrives(address, "de", "Ändere deine E-Mail-Einstellungen", "für @alice") == "" {
		t.Error("the German mail has no code that programs find")
	}
	call("deactivateAccount", map[string]any{})
	arrives(address, "de", "Dein Konto wurde deaktiviert", "Niemand sieht @alice")
	p.header.Set("Accept-Language", "en")
	p.get("/account/u/" + alice.DID + "/security")
	call("requestEmailUpdate", nil)
	arrives(address, "en", "Change your email settings", "enter this code where you asked for it")

	// Nobody has seen a page of bob's; carol signs up on one.
	s.SignUp(t, "bob")
	q := newVisitor(t, s)
	q.header.Set("Accept-Language", "de")
	q.want(q.post(q.get("/account/reset-password"), "/account/reset-password", url.Values{"email": {"bob@example.com"}}),
		http.StatusSeeOther, "/account/reset-password?done=sent")
	arrives("bob@example.com", "de", "Setze dein Passwort zurück", "für dein Konto")
	q.post(q.get("/account/sign-up"), "/account/sign-up", url.Values{
		"handle": {"carol"}, "domain": {".test"}, "email": {"carol@example.com"}, "password": {"a good password"}, "decision": {"sign-up"},
	})
	arrives("carol@example.com", "de", "Bestätige deine E-Mail-Adresse", "Gesendet von Nest of Ours (localhost)")
}
