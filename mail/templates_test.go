package mail_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"nestbox/mail"
)

var templates = &mail.Templates{Hostname: "pds.example.com", Contact: "help@example.com"}

// every is a message of each kind, by what it is.
func every(t *mail.Templates) map[string]mail.Message {
	const to, handle, code = "alice@example.net", "alice.example.net", "ABCDE-23456"
	all := map[string]mail.Message{
		"confirm": t.ConfirmEmail(to, handle, code), "update": t.UpdateEmail(to, handle, code), "reset": t.ResetPassword(to, handle, code),
		"delete": t.DeleteAccount(to, handle, code), "plc": t.PLCOperation(to, handle, code), "sign in": t.SignInCode(to, handle, code),
		"admin": t.FromAdmin(to, "Hello", "One\n\nTwo"), "test": t.Test(to),
	}
	for _, kind := range []mail.NoticeKind{
		mail.NoticeSignIn, mail.NoticePassword, mail.NoticeEmail, mail.NoticeNewEmail, mail.NoticeHandle, mail.NoticeAppPassword, mail.NoticeFactorOn, mail.NoticeFactorOff, mail.NoticeDeactivated, mail.NoticeDeletion,
	} {
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
		case name == "notice of new-email":
			wants = append(wants, "25 November 2026, 12:00:00 UTC", "the detail", "@alice.example.net", "ignore this message")
		case strings.HasPrefix(name, "notice of "):
			wants = append(wants, "25 November 2026, 12:00:00 UTC", "192.0.2.7", "Firefox on Linux", "the detail", "change your password", "help@example.com", "revoke the app passwords")
		case name == "admin":
			wants = append(wants, "One", "Two")
		case name != "test":
			wants = append(wants, "ABCDE-23456", "15 minutes", "@alice.example.net")
		}
		if name == "test" {
			wants = wants[1:]
		}
		flat := strings.Join(strings.Fields(m.Text), " ")
		for _, want := range wants {
			if !strings.Contains(flat, want) {
				t.Errorf("%s: the text lacks %q:\n%s", name, want, m.Text)
			}
			if !strings.Contains(m.HTML, want) {
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

// TestNoticeReaders: who may not be the owner is not told where the owner is, and
// who lost the address is not sent to where codes go to somebody else.
func TestNoticeReaders(t *testing.T) {
	n := mail.Notice{Kind: mail.NoticePassword, Handle: "alice.example.net", At: start, Network: "192.0.2.7", Client: "Firefox on Linux", Unproven: true}
	m := templates.Notice("a@example.com", n)
	for _, part := range []string{"192.0.2.7", "Firefox", "unknown", "From "} {
		if strings.Contains(m.Text, part) || strings.Contains(m.HTML, part) {
			t.Errorf("%q is in it:\n%s", part, m.Text)
		}
	}
	n.Kind = mail.NoticeEmail
	for _, c := range []struct {
		*mail.Templates

		operator string
	}{{templates, "help@example.com"}, {&mail.Templates{Hostname: "pds.example.com"}, "the operator of this server"}} {
		text := strings.Join(strings.Fields(c.Notice("a@example.com", n).Text), " ")
		back, reset, operator := strings.Index(text, "change the address back"), strings.Index(text, "Forgot password"), strings.Index(text, "write to "+c.operator)
		if back < 0 || reset < back || operator < reset {
			t.Errorf("the old address is told to do otherwise: %s", text)
		}
	}
	n.Kind = mail.NoticeNewEmail
	if text := templates.Notice("a@example.com", n).Text; strings.Contains(text, "password") {
		t.Errorf("the new address is told about passwords: %s", text)
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
