package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"nestbox/internal/pdstest"
)

const mailAddress = "alice@example.com"

// postTo makes one call that succeeds.
func postTo(t *testing.T, c pdstest.Client, nsid, token string, in any) {
	t.Helper()
	r := pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server." + nsid, Body: in}
	if token != "" {
		r.Auth = pdstest.Bearer(token)
	}
	if a := c.Do(t, r); a.Status != http.StatusOK {
		t.Fatalf("%s: %d %s", nsid, a.Status, a.Body)
	}
}

// TestMailKill: a promised mail survives kill -9 before it is sent, and its code
// works afterwards.
func TestMailKill(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{Held: true})
	server := pdstest.Launch(t, "", box.Settings()...)
	server.SignUp(t, "alice")
	postTo(t, server.Client, "requestPasswordReset", "", map[string]string{"email": mailAddress})
	server.Kill()
	if n := box.Tries(); n != 0 {
		t.Fatalf("%d messages were begun before the kill", n)
	}
	box.Release()
	server.Restart()
	code := box.Code(t, mailAddress)
	postTo(t, server.Client, "resetPassword", "", map[string]string{"token": code, "password": "after-the-kill"})
	server.SignIn(t, "alice.test", "after-the-kill")
}

// TestMailKillTaken: killed after the mail server took a message, and before
// that was noted, the server sends it again with the same ID.
func TestMailKillTaken(t *testing.T) {
	taken, goOn := make(chan struct{}, 9), make(chan struct{})
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{Taken: func(*pdstest.Mail) error {
		taken <- struct{}{}
		<-goOn
		return nil
	}})
	server := pdstest.Launch(t, "", box.Settings()...)
	server.SignUp(t, "alice")
	postTo(t, server.Client, "requestPasswordReset", "", map[string]string{"email": mailAddress})
	<-taken // whole, and not answered
	server.Kill()
	close(goOn)
	first := box.Wait(t, mailAddress)
	server.Restart()
	second := box.Wait(t, mailAddress)
	if first.Text != second.Text || first.Header.Get("Message-Id") != second.Header.Get("Message-Id") || first.Header.Get("Message-Id") == "" {
		t.Errorf("%v\n%v", first.Header, second.Header)
	}
}

// TestMailPrinted: development prints, and needs no mail server.
func TestMailPrinted(t *testing.T) {
	server := pdstest.Launch(t, "")
	s := server.SignUp(t, "alice")
	postTo(t, server.Client, "requestEmailConfirmation", s.AccessJwt, nil)
	server.AwaitLog("mail to " + mailAddress)
	server.AwaitLog("mail sent") // it is printed by now
	code := regexp.MustCompile(`[A-Z2-7]{5}-[A-Z2-7]{5}`).FindString(server.Log())
	postTo(t, server.Client, "confirmEmail", s.AccessJwt, map[string]string{"email": mailAddress, "token": code})
}

func TestMailCommand(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{User: "pds", Password: "hunter2", Refuse: func(to string) error {
		if strings.HasPrefix(to, "gone@") {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody of that name"}
		}
		return nil
	}})
	server := pdstest.Launch(t, "", box.Settings()...)
	run := func(settings []string, args ...string) pdstest.Result {
		t.Helper()
		r := pdstest.Exec(t, pdstest.Invocation{Args: append([]string{"mail", "test", "--dev"}, args...), Settings: settings})
		if all := r.Stdout + r.Stderr; strings.Contains(all, "hunter2") {
			t.Errorf("the password is printed:\n%s", all)
		}
		return r
	}
	// The running server has the settings; the command does not need them.
	if r := run(nil, mailAddress, "--data", server.Dir); r.Code != 0 || !strings.Contains(r.Stdout, "RCPT TO:<"+mailAddress+">") || !strings.Contains(r.Stdout, "took the message") {
		t.Errorf("%+v", r)
	}
	if m := box.Wait(t, mailAddress); m.Subject != "Test message from localhost" {
		t.Errorf("%q", m.Subject)
	}
	// Without a server, from the settings.
	file := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(file, []byte(strings.Join([]string{"PDS_EMAIL_SMTP_URL=" + box.URL, "PDS_EMAIL_FROM_ADDRESS='Nest <nest@pds.test>'"}, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(t.TempDir(), "nothing-here")
	if r := run(nil, "bob@example.com", "--data", nowhere, "--env-file", file); r.Code != 0 {
		t.Errorf("%+v", r)
	}
	if m := box.Wait(t, "bob@example.com"); m.From != "nest@pds.test" {
		t.Errorf("from %q", m.From)
	}
	if r := run(nil, "gone@example.com", "--data", nowhere, "--env-file", file); r.Code == 0 || !strings.Contains(r.Stderr, `550 "5.1.1 nobody of that name"`) {
		t.Errorf("%+v", r)
	}
	for why, settings := range map[string][]string{
		"535":                  {"PDS_EMAIL_SMTP_URL=" + strings.Replace(box.URL, "hunter2", "wrong", 1)},
		"connection refused":   {"PDS_EMAIL_SMTP_URL=smtp://127.0.0.1:1"},
		"percent-encoded":      {"PDS_EMAIL_SMTP_URL=smtps://u:hun#ter@mail.example.com"},
		"names no mail server": {"PDS_EMAIL_SMTP_URL=none"},
		"no server runs":       nil,
	} {
		if r := run(settings, mailAddress, "--data", nowhere); r.Code == 0 || !strings.Contains(r.Stderr, why) {
			t.Errorf("want %q: %+v", why, r)
		}
	}
	if r := run(box.Settings(), "no address", "--data", nowhere); r.Code == 0 || !strings.Contains(r.Stderr, "not an e-mail address") {
		t.Errorf("%+v", r)
	}
}

// TestMailSwitches: what the operator can switch for an account, and how it
// shows.
func TestMailSwitches(t *testing.T) {
	server := pdstest.Launch(t, "")
	server.SignUp(t, "alice")
	run := func(want string, args ...string) {
		t.Helper()
		if out, err := pdstest.Run(t, "", append(args, "--dev", "--data", server.Dir)...); err != nil || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%q: %v\n%s\nwant %q", args, err, out, want)
		}
	}
	run(`notices +on`, "account", "info", "alice.test")
	run(`notices off`, "account", "notices", "alice.test", "off")
	run(`notices +off`, "account", "info", "alice.test")
	run(`notices on`, "account", "notices", "alice.test", "on")
	run(`sign-in codes off`, "account", "codes", "alice.test", "off")
	run(`e-mail confirmed +no\nsign-in codes +off\nnotices +on`, "account", "info", "alice.test")
}

// TestMailing goes through what an app does with codes, with @atproto/api.
func TestMailing(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	server := pdstest.Launch(t, "", box.Settings()...)
	runScript(t, []string{"mailing.mjs"}, []string{"SERVICE=" + server.Base}, handlers{
		"code":    func(to string) any { return box.Code(t, to) },
		"subject": func(to string) any { return box.Wait(t, to).Subject },
	})
	if t.Failed() {
		t.Logf("the server's log:\n%s", server.Log())
	}
}
