package mail_test

import (
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
		mail.NoticeRecoveryMade, mail.NoticeRecoveryUsed, mail.NoticeSwitched, mail.NoticeFactorsOff, mail.NoticeApp, mail.NoticeTheft, mail.NoticeReplay, mail.NoticeDeactivated, mail.NoticeDeletion,
	}
}

// every returns a message of each kind, by name.
func every(t *mail.Templates) map[string]mail.Message {
	const to, handle, code = "alice@example.net", "alice.example.net", "ABCDE-23456"
	all := map[string]mail.Message{
		"confirm": t.ConfirmEmail(to, handle, code), "update": t.UpdateEmail(to, handle, code), "reset": t.ResetPassword(to, handle, code),
		"delete": t.DeleteAccount(to, handle, code, false), "plc": t.PLCOperation(to, handle, code, false), "sign in": t.SignInCode(to, handle, code),
		"step up": t.StepUpCode(to, handle, code),
		"admin":   t.FromAdmin(to, "Hello", "One\n\nTwo"), "test": t.Test(to),
	}
	for _, kind := range noticeKinds() {
		all["notice of "+string(kind)] = t.Notice(to, mail.Notice{Kind: kind, Handle: handle, At: start, Network: "192.0.2.7", Client: "Firefox on Linux", Detail: "the detail"})
	}
	return all
}

// TestTemplates: the text says all that the HTML says, and the HTML fetches
// nothing.
func TestTemplates(t *testing.T) {
	subjects := map[string]string{}
	for name, m := range every(templates) {
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
			wants = append(wants, "25 November 2026, 12:00:00 UTC", "192.0.2.7", "Firefox on Linux", "change your password", "help@example.com", "revoke the app passwords")
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
		flat, html := seen(strings.Join(strings.Fields(m.Text), " ")), seen(m.HTML)
		for _, want := range wants {
			if !strings.Contains(flat, want) {
				t.Errorf("%s: the text lacks %q:\n%s", name, want, m.Text)
			}
			if !strings.Contains(html, want) {
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

// TestDigits: the mail to an owner who wants a code of the authenticator app behind the
// mailed one names the way to type both.
func TestDigits(t *testing.T) {
	const to, handle, code = "alice@example.net", "alice.example.net", "ABCDE-23456"
	for name, make := range map[string]func(to, handle, code string, digits bool) mail.Message{"delete": templates.DeleteAccount, "plc": templates.PLCOperation} {
		for _, digits := range []bool{false, true} {
			m := make(to, handle, code, digits)
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
	const to, evil, code = "alice@example.net", "click.evil.example", "ABCDE-23456"
	all := map[string]mail.Message{
		"ConfirmEmail": templates.ConfirmEmail(to, evil, code), "UpdateEmail": templates.UpdateEmail(to, evil, code), "ResetPassword": templates.ResetPassword(to, evil, code),
		"DeleteAccount": templates.DeleteAccount(to, evil, code, true), "PLCOperation": templates.PLCOperation(to, evil, code, true), "SignInCode": templates.SignInCode(to, evil, code),
		"StepUpCode": templates.StepUpCode(to, evil, code),
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
			all[string(kind)+" "+detail] = templates.Notice(to, mail.Notice{Kind: kind, Handle: evil, At: start, Network: "192.0.2.7", Client: "https://click.evil.example", Detail: detail})
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
	m := linked.ResetPassword("alice@example.net", "alice.example.net", "ABCDE-23456")
	if !strings.Contains(m.Text, "\n"+link+"\n") || !strings.Contains(m.HTML, `<a href="`+link+`"`) {
		t.Errorf("%s\n%s", m.Text, m.HTML)
	}
}

// TestNoticeReaders: an owner whose address was changed is advised to take it back
// before asking for a code, which would go to somebody else.
func TestNoticeReaders(t *testing.T) {
	n := mail.Notice{Kind: mail.NoticeEmail, Handle: "alice.example.net", At: start, Network: "192.0.2.7", Client: "Firefox on Linux"}
	for _, c := range []struct {
		*mail.Templates

		operator string
	}{{templates, "help@example.com"}, {&mail.Templates{Hostname: "pds.example.com"}, "the operator of this server"}} {
		text := strings.Join(strings.Fields(c.Notice("a@example.com", n).Text), " ")
		back, reset, operator := strings.Index(text, "change the address back"), strings.Index(text, "Forgot password"), strings.Index(text, "write to "+c.operator)
		if back < 0 || reset < back || operator < reset {
			t.Errorf("the old address is advised to do otherwise: %s", text)
		}
	}
}

// TestForeignText: what others chose is text, and short.
func TestForeignText(t *testing.T) {
	m := templates.Notice("alice@example.net", mail.Notice{
		Kind: mail.NoticeAppPassword, Handle: "alice.example.net", At: start,
		Network: "192.0.2.7", Client: "<b>x</b>\r\n\x1b[31m" + strings.Repeat("y", 500), Detail: `<a href="https://evil.example">click</a>`,
	})
	if strings.Contains(m.HTML, "<a href") || strings.Contains(m.HTML, "<b>") || strings.ContainsAny(m.Text, "\x1b\r") || strings.Contains(m.Text, strings.Repeat("y", 200)) {
		t.Errorf("%s\n%s", m.Text, m.HTML)
	}
	if m = templates.FromAdmin("a@example.com", "Hi\r\nBcc: x@example.com", "<script>1</script>\r\n\r\nNext\nline"); strings.ContainsAny(m.Subject, "\r\n") || strings.Contains(m.HTML, "<script>") || !strings.Contains(m.Text, "\nNext\nline\n") {
		t.Errorf("%q\n%s\n%s", m.Subject, m.Text, m.HTML)
	}
	if m = templates.FromAdmin("a@example.com", " ", "x"); m.Subject != "Message from pds.example.com" {
		t.Errorf("subject %q", m.Subject)
	}
	byOperator := templates.Notice("a@example.com", mail.Notice{Kind: mail.NoticePassword, At: start, ByOperator: true})
	if !strings.Contains(byOperator.Text, "the operator") || strings.Contains(byOperator.Text, "unknown") {
		t.Errorf("%s", byOperator.Text)
	}
}
