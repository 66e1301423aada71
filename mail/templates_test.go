package mail_test

import (
	"html"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"nestbox/mail"
)

var templates = &mail.Templates{Hostname: "pds.example.com", Contact: "help@example.com"}

// noticeKinds returns all kinds of notices.
func noticeKinds() []mail.NoticeKind {
	return []mail.NoticeKind{
		mail.NoticeSignIn, mail.NoticePassword, mail.NoticeEmail, mail.NoticeHandle, mail.NoticeAppPassword, mail.NoticeFactorOn, mail.NoticeFactorOff,
		mail.NoticeTOTPOn, mail.NoticeTOTPOff, mail.NoticePasskeyAdded, mail.NoticePasskeyRenamed, mail.NoticePasskeyRemoved, mail.NoticePasskeyCloned,
		mail.NoticeRecoveryMade, mail.NoticeRecoveryUsed, mail.NoticeSwitched, mail.NoticeFactorsOff, mail.NoticeNewEmail, mail.NoticeNoticesOff, mail.NoticeCodeGiven, mail.NoticeRotationKeys, mail.NoticeApp, mail.NoticeTheft, mail.NoticeReplay, mail.NoticeDeactivated, mail.NoticeDeletion, mail.NoticeDeletionResumed,
		mail.NoticeExported, mail.NoticeImported, mail.NoticeDeleted,
	}
}

// every returns a message of each kind, by name.
func every(t *mail.Templates, language string) map[string]mail.Message {
	const code = "ABCDE-23456"
	to := mail.Reader{To: "alice@example.net", Handle: "alice.example.net", Language: language}
	all := map[string]mail.Message{
		"confirm": t.ConfirmEmail(to, code), "update": t.UpdateEmail(to, code), "reset": t.ResetPassword(to, code),
		"delete": t.DeleteAccount(to, code, false), "plc": t.PLCOperation(to, code, false), "sign in": t.SignInCode(to, code),
		"step up": t.StepUpCode(to, code),
		"admin":   t.FromAdmin(to, "Hello", "One\n\nTwo"), "test": t.Test(to.To),
	}
	for _, kind := range noticeKinds() {
		all["notice of "+string(kind)] = t.Notice(to, mail.Notice{Kind: kind, At: start, Network: "192.0.2.7", Client: "Firefox", System: "Linux", Detail: "the detail"})
	}
	return all
}

// TestTemplates: the text says all that the HTML says, and the HTML fetches
// nothing.
func TestTemplates(t *testing.T) {
	subjects := map[string]string{}
	for name, m := range every(templates, "en") {
		if m.To != "alice@example.net" || m.Subject == "" || strings.ContainsAny(m.Subject, "\r\n") || !utf8.ValidString(m.Text+m.HTML) {
			t.Errorf("%s: %q to %q", name, m.Subject, m.To)
		}
		if other, taken := subjects[m.Subject]; taken {
			t.Errorf("%s and %s have one subject", name, other)
		}
		subjects[m.Subject] = name
		wants := []string{m.Subject, "pds.example.com"}
		switch {
		case strings.HasPrefix(name, "notice of "):
			wants = append(wants, "25 November 2026, 12:00:00 UTC", "192.0.2.7", "Firefox on Linux", "help@example.com")
			if name != "notice of deleted" { // what is gone needs no new password
				wants = append(wants, "change your password", "revoke the app passwords")
			}
			switch name {
			case "notice of sign-in", "notice of email", "notice of handle", "notice of deletion", "notice of passkey-added", "notice of passkey-renamed",
				"notice of passkey-removed", "notice of passkey-cloned", "notice of recovery-used", "notice of switched":
				wants = append(wants, "the detail")
			}
		case name == "admin":
			wants = append(wants, "One", "Two")
		case name != "test":
			wants = append(wants, "ABCDE-23456", "15 minutes", "@alice.example.net")
		}
		if name == "test" {
			wants = wants[1:]
		}
		flat, rich := seen(strings.Join(strings.Fields(m.Text), " ")), seen(html.UnescapeString(m.HTML))
		for _, want := range wants {
			if !strings.Contains(flat, want) {
				t.Errorf("%s: the text lacks %q:\n%s", name, want, m.Text)
			}
			if !strings.Contains(rich, want) {
				t.Errorf("%s: the HTML lacks %q", name, want)
			}
		}
		for line := range strings.Lines(m.Text) {
			if len(line) > 100 {
				t.Errorf("%s: a line of %d bytes: %s", name, len(line), line)
			}
		}
		if external := regexp.MustCompile(`(?i)<img|<script|<link|url\(|src=|https?://`).FindString(m.HTML); external != "" {
			t.Errorf("%s: the HTML has %q", name, external)
		}
	}
}

// TestLanguages: a reader gets the mail in their language, the parts alike, with the code
// where clients and programs look for it; a text that is in no catalogue is in the
// pseudo-language outside of its brackets.
func TestLanguages(t *testing.T) {
	all := &mail.Templates{Hostname: "pds.example.com", Contact: "help@example.com", Pseudo: true}
	english := every(all, "en")
	ours := regexp.MustCompile(`(?s)⟦[^⟦⟧]*⟧`)
	theirs := strings.NewReplacer("alice.example.net", "", "pds.example.com", "", "ABCDE-23456", "", "Firefox", "", "Linux", "", "the detail", "", "192.0.2.7", "", "Hello", "", "One", "", "Two", "")
	inBody := regexp.MustCompile(`(?s)<(head|style)>.*</(head|style)>|<[^>]*>|&#?\w+;`)
	for name, m := range every(all, "en-XA") {
		text, rich := seen(m.Text), inBody.ReplaceAllString(seen(m.HTML), " ")
		for _, part := range []string{m.Subject, text, rich} {
			for ours.MatchString(part) { // a text in a text
				part = ours.ReplaceAllString(part, "")
			}
			if name != "test" && regexp.MustCompile(`\pL`).MatchString(theirs.Replace(part)) {
				t.Errorf("%s: %q is in no catalogue", name, strings.Join(strings.Fields(part), " "))
			}
		}
	}
	subjects := map[string]string{}
	for name, m := range every(all, "de") {
		if name == "test" || name == "admin" {
			continue // the operator's
		}
		if other, taken := subjects[m.Subject]; taken || m.Subject == english[name].Subject {
			t.Errorf("%s has the subject %q of %s", name, m.Subject, other)
		}
		subjects[m.Subject] = name
		flat := strings.Join(strings.Fields(seen(m.Text)), " ")
		wants := []string{m.Subject, "Gesendet von pds.example.com"}
		if strings.HasPrefix(name, "notice of ") {
			wants = append(wants, "25. November 2026, 12:00:00 UTC", "192.0.2.7", "Firefox unter Linux", "help@example.com")
			if name != "notice of deleted" {
				wants = append(wants, "App-Passwörter")
			}
		} else {
			wants = append(wants, "gilt einmal und 15 Minuten", "@alice.example.net")
			if !regexp.MustCompile(`(?m)^    ABCDE-23456$`).MatchString(m.Text) {
				t.Errorf("%s: the code has no line of its own:\n%s", name, m.Text)
			}
		}
		for _, want := range wants {
			if !strings.Contains(flat, want) || !strings.Contains(strings.Join(strings.Fields(seen(html.UnescapeString(m.HTML))), " "), want) {
				t.Errorf("%s lacks %q:\n%s", name, want, m.Text)
			}
		}
		if !strings.Contains(m.HTML, `<html lang="de" dir="ltr">`) {
			t.Errorf("%s: the HTML is of another language", name)
		}
	}
	for _, unknown := range []string{"", "fr", "nonsense!"} {
		if m := all.SignInCode(mail.Reader{To: "a@example.com", Language: unknown}, "ABCDE-23456"); m.Subject != "Your sign-in code" {
			t.Errorf("%q: %s", unknown, m.Subject)
		}
	}
}

// TestDetails: what a notice adds is in the reader's words, where it is ours.
func TestDetails(t *testing.T) {
	for _, c := range []struct {
		kind               mail.NoticeKind
		detail, want, deut string
	}{
		{mail.NoticeSignIn, mail.UsedPassword, "the account's password", "dem Passwort des Kontos"},
		{mail.NoticeSignIn, mail.UsedAppPassword, "an app password", "einem App-Passwort"},
		{mail.NoticeSwitched, mail.Switched("apps-by-password", false), "sign-in by apps with the password: off", "Anmeldung von Apps mit dem Passwort: aus"},
		{mail.NoticeSwitched, mail.Switched("passkey-second", true), "passkey after the password: on", "Passkey nach dem Passwort: an"},
		{mail.NoticeSwitched, mail.Switched("dangerous-factor", true), "authenticator code for deletion and identity changes by apps: on", "Authenticator-Code, wenn Apps löschen oder die Identität ändern: an"},
		{mail.NoticeSwitched, "unknown=on", "unknown=on", "unknown=on"},
		{mail.NoticeRecoveryUsed, "3", "3 left", "noch 3"},
		{mail.NoticeDeletion, "2026-12-24T18:00:00Z", "24 December 2026, 18:00:00 UTC", "24. Dezember 2026, 18:00:00 UTC"},
	} {
		for language, want := range map[string]string{"en": c.want, "de": c.deut} {
			m := templates.Notice(mail.Reader{To: "a@example.com", Language: language}, mail.Notice{Kind: c.kind, At: start, Detail: c.detail})
			if !strings.Contains(m.Text, "  "+want+"\n") || !strings.Contains(html.UnescapeString(m.HTML), ">"+want+"<") {
				t.Errorf("%s in %s lacks %q:\n%s", c.kind, language, want, m.Text)
			}
		}
	}
}

// TestService: the sender is named as people know it, and by what they can check.
func TestService(t *testing.T) {
	named := &mail.Templates{Hostname: "pds.example.com", Service: "Example Nest"}
	if m := named.SignInCode(mail.Reader{To: "a@example.com"}, "ABCDE-23456"); !strings.Contains(m.Text, "Sent by Example Nest (pds.example.com), the server") {
		t.Error(m.Text)
	}
}

// TestDigits: the mail to an owner who wants a code of the authenticator app behind the
// mailed one names the way to type both.
func TestDigits(t *testing.T) {
	const code = "ABCDE-23456"
	to := mail.Reader{To: "alice@example.net", Handle: "alice.example.net"}
	for name, make := range map[string]func(r mail.Reader, code string, digits bool) mail.Message{"delete": templates.DeleteAccount, "plc": templates.PLCOperation} {
		for _, digits := range []bool{false, true} {
			m := make(to, code, digits)
			for _, text := range []string{m.Text, m.HTML} {
				if got := strings.Contains(strings.Join(strings.Fields(text), " "), "six digits of your authenticator app behind it"); got != digits {
					t.Errorf("%s, digits %v: %s", name, digits, text)
				}
			}
		}
	}
}

// seen returns a text as people see it: without what breaks links.
func seen(text string) string { return strings.ReplaceAll(text, "\u200b", "") }

// TestNoLinks: no text that a person chose is a link in a mail, or anything that a mail
// program turns into one. Every method that makes a message has a row.
func TestNoLinks(t *testing.T) {
	const evil, code = "click.evil.example", "ABCDE-23456"
	to := mail.Reader{To: "alice@example.net", Handle: evil}
	all := map[string]mail.Message{
		"ConfirmEmail": templates.ConfirmEmail(to, code), "UpdateEmail": templates.UpdateEmail(to, code), "ResetPassword": templates.ResetPassword(to, code),
		"DeleteAccount": templates.DeleteAccount(to, code, true), "PLCOperation": templates.PLCOperation(to, code, true), "SignInCode": templates.SignInCode(to, code),
		"StepUpCode": templates.StepUpCode(to, code), "NewEmail": templates.NewEmail(to, code),
	}
	// What the operator and the moderators write may have links.
	ours := []string{"FromAdmin", "FromModerator", "Test", "Notice"}
	for method := range reflect.TypeFor[*mail.Templates]().Methods() {
		name := method.Name
		if _, ok := all[name]; !ok && !slices.Contains(ours, name) {
			t.Errorf("%s has no row", name)
		}
	}
	for _, kind := range noticeKinds() {
		for _, detail := range []string{evil, "https://click.evil.example/x", "someone@click.evil.example", `<a href="https://click.evil.example">x</a>`} {
			all[string(kind)+" "+detail] = templates.Notice(to, mail.Notice{Kind: kind, At: start, Network: "192.0.2.7", Client: "https://click.evil.example", Detail: detail})
		}
	}
	for name, m := range all {
		for _, text := range []string{m.Subject, m.Text, m.HTML} {
			if found := regexp.MustCompile(`(?i)evil\.example|https?://`).FindString(text); found != "" {
				t.Errorf("%s: %q in\n%s", name, found, text)
			}
		}
		if strings.Contains(m.HTML, "<a ") {
			t.Errorf("%s has a link:\n%s", name, m.HTML)
		}
	}
}

// TestResetLink: the code is in the link's fragment, which browsers send to no server.
func TestResetLink(t *testing.T) {
	const link = "https://pds.example.com/account/reset-password?step=code#code=ABCDE-23456"
	linked := &mail.Templates{Hostname: "pds.example.com", ResetLink: "https://pds.example.com/account/reset-password?step=code#code="}
	m := linked.ResetPassword(mail.Reader{To: "alice@example.net", Handle: "alice.example.net"}, "ABCDE-23456")
	if !strings.Contains(m.Text, "\n"+link+"\n") || !strings.Contains(m.HTML, `<a href="`+link+`"`) {
		t.Errorf("%s\n%s", m.Text, m.HTML)
	}
}

// TestNoticeReaders: an owner whose address was changed is advised to take it back
// before asking for a code, which would go to somebody else.
func TestNoticeReaders(t *testing.T) {
	n := mail.Notice{Kind: mail.NoticeEmail, At: start, Network: "192.0.2.7", Client: "Firefox on Linux"}
	for _, c := range []struct {
		*mail.Templates

		operator string
	}{{templates, "help@example.com"}, {&mail.Templates{Hostname: "pds.example.com"}, "the operator of this server"}} {
		text := strings.Join(strings.Fields(c.Notice(mail.Reader{To: "a@example.com", Handle: "alice.example.net"}, n).Text), " ")
		back, reset, operator := strings.Index(text, "change the address back"), strings.Index(text, "Forgot password"), strings.Index(text, "write to "+c.operator)
		if back < 0 || reset < back || operator < reset {
			t.Errorf("the old address is advised to do otherwise: %s", text)
		}
	}
}

// TestForeignText: what others chose is text, and short.
func TestForeignText(t *testing.T) {
	m := templates.Notice(mail.Reader{To: "alice@example.net", Handle: "alice.example.net"}, mail.Notice{
		Kind: mail.NoticeAppPassword, At: start,
		Network: "192.0.2.7", Client: "<b>x</b>\r\n\x1b[31m" + strings.Repeat("y", 500), Detail: `<a href="https://evil.example">click</a>`,
	})
	if strings.Contains(m.HTML, "<a href") || strings.Contains(m.HTML, "<b>") || strings.ContainsAny(m.Text, "\x1b\r") || strings.Contains(m.Text, strings.Repeat("y", 200)) {
		t.Errorf("%s\n%s", m.Text, m.HTML)
	}
	if m = templates.FromAdmin(mail.Reader{To: "a@example.com"}, "Hi\r\nBcc: x@example.com", "<script>1</script>\r\n\r\nNext\nline"); strings.ContainsAny(m.Subject, "\r\n") || strings.Contains(m.HTML, "<script>") || !strings.Contains(m.Text, "\nNext\nline\n") {
		t.Errorf("%q\n%s\n%s", m.Subject, m.Text, m.HTML)
	}
	if m = templates.FromAdmin(mail.Reader{To: "a@example.com"}, " ", "x"); m.Subject != "Message from pds.example.com" {
		t.Errorf("subject %q", m.Subject)
	}
	byOperator := templates.Notice(mail.Reader{To: "a@example.com"}, mail.Notice{Kind: mail.NoticePassword, At: start, ByOperator: true})
	if !strings.Contains(byOperator.Text, "the operator") || strings.Contains(byOperator.Text, "unknown") {
		t.Errorf("%s", byOperator.Text)
	}
}
