package account_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/store/storetest"
)

// post is a server with alice, a mailbox and a clock.
type post struct {
	*app

	box   *pdstest.Mailbox
	log   lockedBuffer
	clock *storetest.Clock
}

// lockedBuffer is a bytes.Buffer for many goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

const aliceMail = "alice@example.com"

func newPost(t *testing.T, settings ...string) *post {
	t.Helper()
	p := &post{box: pdstest.NewMailbox(t, pdstest.MailboxOptions{}), clock: storetest.NewClock(time.Now())}
	p.app = newApp(t, pdstest.Options{
		Settings: append(p.box.Settings(), settings...), Now: p.clock.Now, Log: slog.New(slog.NewJSONHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	t.Cleanup(func() {
		p.Stop()
		log := p.log.String()
		for _, m := range p.box.All() {
			if code := m.Code(); code != "" && strings.Contains(log, code) {
				t.Errorf("a code is in the log")
			}
		}
		if strings.Contains(log, "@example.") {
			t.Errorf("an address is in the log")
		}
	})
	return p
}

// do posts, without a body where in is nil.
func (p *post) do(nsid, token string, in any) pdstest.Answer {
	p.t.Helper()
	r := pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server." + nsid, Body: in}
	if token != "" {
		r.Auth = pdstest.Bearer(token)
	}
	return p.Do(p.t, r)
}

// must is do that succeeds.
func (p *post) must(nsid, token string, in any) pdstest.Answer {
	p.t.Helper()
	a := p.do(nsid, token, in)
	if a.Status != http.StatusOK {
		p.t.Fatalf("%s: %d %s", nsid, a.Status, a.Body)
	}
	return a
}

type fields map[string]any

func (p *post) refused(nsid, token string, in any, status int, name, message string) {
	p.t.Helper()
	p.do(nsid, token, in).WantError(p.t, status, name, message)
}

// confirm confirms alice's address.
func (p *post) confirm() {
	p.t.Helper()
	p.must("requestEmailConfirmation", p.alice.AccessJwt, nil)
	p.must("confirmEmail", p.alice.AccessJwt, fields{"email": aliceMail, "token": p.box.Code(p.t, aliceMail)})
}

func (p *post) session() pdstest.Session {
	p.t.Helper()
	var s pdstest.Session
	p.GetSession(p.t, p.alice.AccessJwt).Decode(p.t, &s)
	return s
}

func TestConfirmEmail(t *testing.T) {
	p := newPost(t)
	app := p.SignIn(t, "alice.test", p.create(map[string]any{"name": "app"}).Password)
	in := fields{"email": aliceMail, "token": "AAAAA-BBBBB"}
	p.refused("confirmEmail", p.alice.AccessJwt, in, 400, "InvalidToken", "Token is invalid")
	p.must("requestEmailConfirmation", app.AccessJwt, nil)
	first := p.box.Code(t, aliceMail)
	p.refused("confirmEmail", p.alice.AccessJwt, fields{"email": "bob@example.com", "token": first}, 400, "InvalidEmail", "invalid email")
	p.refused("confirmEmail", p.alice.AccessJwt, in, 400, "InvalidToken", "Token is invalid")
	p.must("requestEmailConfirmation", p.alice.AccessJwt, nil)
	second := p.box.Code(t, aliceMail)
	p.refused("confirmEmail", p.alice.AccessJwt, fields{"email": aliceMail, "token": first}, 400, "InvalidToken", "Token is invalid")
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": aliceMail, "token": second}, 400, "InvalidToken", "Token is invalid") // of another purpose
	p.clock.Advance(15 * time.Minute)
	p.refused("confirmEmail", p.alice.AccessJwt, fields{"email": aliceMail, "token": second}, 400, "ExpiredToken", "Token is expired")
	p.must("requestEmailConfirmation", p.alice.AccessJwt, nil)
	third := p.box.Code(t, aliceMail)
	p.clock.Advance(15*time.Minute - time.Second)
	if got := p.session(); *got.EmailConfirmed {
		t.Error("it is confirmed before its time")
	}
	p.must("confirmEmail", app.AccessJwt, fields{"email": "Alice@Example.com", "token": " " + strings.ToLower(strings.ReplaceAll(third, "-", ""))})
	p.refused("confirmEmail", p.alice.AccessJwt, fields{"email": aliceMail, "token": third}, 400, "InvalidToken", "Token is invalid")
	if got := p.session(); !*got.EmailConfirmed {
		t.Error("it is not confirmed")
	}
}

// TestCodeTries: who guesses gets a few tries, and the right code is worth
// nothing afterwards.
func TestCodeTries(t *testing.T) {
	p := newPost(t)
	p.must("requestEmailConfirmation", p.alice.AccessJwt, nil)
	code := p.box.Code(t, aliceMail)
	for range 10 {
		p.refused("confirmEmail", p.alice.AccessJwt, fields{"email": aliceMail, "token": "AAAAA-BBBBB"}, 400, "InvalidToken", "Token is invalid")
	}
	p.refused("confirmEmail", p.alice.AccessJwt, fields{"email": aliceMail, "token": code}, 400, "InvalidToken", "Token is invalid")
}

func TestUpdateEmail(t *testing.T) {
	p := newPost(t)
	p.SignUp(t, "bob")
	unsupported := "This email address is not supported, please use a different email."
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": "no address"}, 400, "InvalidRequest", unsupported)
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": "älice@example.com"}, 400, "InvalidRequest", unsupported)
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": "BOB@example.com"}, 400, "InvalidRequest", "This email address is already in use, please use a different email.")
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": aliceMail, "emailAuthFactor": true}, 400, "InvalidRequest", "Confirm the email address before you have sign in codes sent to it")
	if got := string(p.must("requestEmailUpdate", p.alice.AccessJwt, nil).Body); got != `{"tokenRequired":false}` {
		t.Errorf("unconfirmed: %s", got)
	}
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": "typo@example.com"})
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": aliceMail})
	p.confirm()
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": "new@example.com"}, 400, "TokenRequired", "confirmation token required")
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": "new@example.com", "token": "AAAAA-BBBBB"}, 400, "InvalidToken", "Token is invalid")
	if got := string(p.must("requestEmailUpdate", p.alice.AccessJwt, nil).Body); got != `{"tokenRequired":true}` {
		t.Errorf("confirmed: %s", got)
	}
	code := p.box.Code(t, aliceMail)
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": "bob@example.com", "token": code}, 400, "InvalidRequest", "This email address is already in use, please use a different email.")
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": "new@example.com", "token": code})
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": "newer@example.com", "token": code}, 400, "InvalidToken", "Token is invalid")
	if got := p.session(); got.Email != "new@example.com" || *got.EmailConfirmed {
		t.Errorf("%+v", got)
	}
	if m := p.box.Wait(t, aliceMail); !strings.Contains(m.Text, "127.0.0.1") {
		t.Errorf("the address that was confirmed got:\n%s", m.Text)
	}
	if got := p.subjects("new@example.com", 0); got != "map[]" {
		t.Errorf("the new address got %s", got)
	}
	app := p.SignIn(t, "alice.test", p.create(map[string]any{"name": "app"}).Password)
	for _, nsid := range []string{"requestEmailUpdate", "requestAccountDelete"} {
		p.refused(nsid, app.AccessJwt, nil, 400, "InvalidToken", "Bad token scope")
	}
}

func TestResetPassword(t *testing.T) {
	p := newPost(t)
	p.confirm()
	app := p.SignIn(t, "alice.test", p.create(map[string]any{"name": "app"}).Password)
	p.box.Wait(t, aliceMail)
	known, unknown := p.must("requestPasswordReset", "", fields{"email": "ALICE@example.com"}), p.must("requestPasswordReset", "", fields{"email": "nobody@example.com"})
	if string(known.Body) != string(unknown.Body) || known.Header.Get("Content-Type") != unknown.Header.Get("Content-Type") {
		t.Errorf("the answers tell who has an account: %q, %q", known.Body, unknown.Body)
	}
	code := p.box.Code(t, aliceMail)
	const newPassword = "another-horse"
	p.refused("resetPassword", "", fields{"token": code, "password": strings.Repeat("x", 257)}, 400, "InvalidRequest", "Invalid password length.")
	p.refused("resetPassword", "", fields{"token": code, "password": "short"}, 400, "InvalidRequest", "Password too short. Minimum length is 8 characters.")
	p.refused("resetPassword", "", fields{"token": "AAAAA-BBBBB", "password": newPassword}, 400, "InvalidToken", "Token is invalid")
	p.refused("resetPassword", "", fields{"token": "", "password": newPassword}, 400, "InvalidToken", "Token is invalid")
	p.must("resetPassword", "", fields{"token": strings.ToLower(code), "password": newPassword})
	p.refused("resetPassword", "", fields{"token": code, "password": newPassword}, 400, "InvalidToken", "Token is invalid")
	for name, token := range map[string]string{"own": p.alice.AccessJwt, "app": app.AccessJwt} {
		if a := p.GetSession(t, token); a.Status != 400 {
			t.Errorf("the %s session lives: %d", name, a.Status)
		}
	}
	if a := p.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: fields{"identifier": "alice.test", "password": pdstest.Password}}); a.Status != 401 {
		t.Errorf("the old password: %d", a.Status)
	}
	p.SignIn(t, "alice.test", newPassword)
	if m := p.box.Wait(t, aliceMail); m.Subject != "Your password was changed" || !strings.Contains(m.Text, "127.0.0.1") {
		t.Errorf("%q:\n%s", m.Subject, m.Text)
	}
	p.must("requestPasswordReset", "", fields{"email": aliceMail})
	late := p.box.Code(t, aliceMail)
	p.clock.Advance(15 * time.Minute)
	p.refused("resetPassword", "", fields{"token": late, "password": newPassword}, 400, "ExpiredToken", "Token is expired")
}

func TestRequestAccountDelete(t *testing.T) {
	p := newPost(t)
	p.must("requestAccountDelete", p.alice.AccessJwt, nil)
	if m := p.box.Wait(t, aliceMail); m.Subject != "Delete your account" || m.Code() == "" {
		t.Errorf("%q:\n%s", m.Subject, m.Text)
	}
}

// TestMailLimits: five mails an hour for an account and endpoint, and for an
// address that asks for resets; the others are not held up.
func TestMailLimits(t *testing.T) {
	p := newPost(t, "PDS_RATE_LIMITS_ENABLED=true")
	for i := range 6 {
		a := p.do("requestEmailConfirmation", p.alice.AccessJwt, nil)
		if want := map[bool]int{true: 200, false: 429}[i < 5]; a.Status != want || a.Header.Get("RateLimit-Limit") != "5" {
			t.Errorf("request %d: %d %v, want %d", i, a.Status, a.Header, want)
		}
		p.must("requestPasswordReset", "", fields{"email": aliceMail})
	}
	p.must("requestAccountDelete", p.alice.AccessJwt, nil)
	subjects := map[string]int{}
	for range 11 {
		subjects[p.box.Wait(t, aliceMail).Subject]++
	}
	if got := fmt.Sprint(subjects); got != "map[Confirm your email address:5 Delete your account:1 Reset your password:5]" {
		t.Error(got)
	}
	for i := range 10 {
		a := p.do("requestPasswordReset", "", fields{"email": fmt.Sprintf("nobody%d@example.com", i)})
		if want := map[bool]int{true: 200, false: 429}[i < 9]; a.Status != want {
			t.Errorf("reset %d: %d, want %d", i+6, a.Status, want)
		}
	}
	if n := len(p.box.All()); n != 11 {
		t.Errorf("%d mails, want 11", n)
	}
}

// TestResetStrangers: a stranger who asks for resets of somebody's password does not keep
// the owner from one, from any network, and does not fill the mailbox.
func TestResetStrangers(t *testing.T) {
	p := newPost(t, "PDS_RATE_LIMITS_ENABLED=true", "PDS_TRUSTED_PROXIES=127.0.0.1")
	ask := func(email, from string) {
		t.Helper()
		a := p.Do(t, pdstest.Request{
			Method: http.MethodPost, NSID: "com.atproto.server.requestPasswordReset", Body: fields{"email": email}, Header: http.Header{"X-Forwarded-For": {from}},
		})
		if a.Status != http.StatusOK || len(a.Body) != 0 {
			t.Fatalf("%s from %s: %d %s", email, from, a.Status, a.Body)
		}
	}
	for range 8 {
		ask(aliceMail, "192.0.2.1")
		ask("nobody@example.com", "192.0.2.3")
	}
	ask(aliceMail, "192.0.2.2")
	if got := p.subjects(aliceMail, 6); got != "map[Reset your password:6]" {
		t.Error(got)
	}
	for i := range 20 {
		ask(aliceMail, fmt.Sprintf("198.51.100.%d", i))
	}
	p.subjects(aliceMail, 14)
	p.must("requestAccountDelete", p.alice.AccessJwt, nil)
	if got := p.subjects(aliceMail, 1); got != "map[Delete your account:1]" {
		t.Errorf("beyond 20 an hour: %s", got)
	}
	p.clock.Advance(time.Hour)
	ask(aliceMail, "192.0.2.1")
	p.box.Code(t, aliceMail)
}

// TestNoMail: a server that sends none says so, rather than to keep people waiting.
func TestNoMail(t *testing.T) {
	a := newApp(t, pdstest.Options{Settings: []string{"PDS_EMAIL_SMTP_URL=none"}})
	const message = "This server sends no mail; ask its operator"
	for nsid, r := range map[string]pdstest.Request{
		"requestEmailConfirmation": {Auth: pdstest.Bearer(a.alice.AccessJwt)},
		"requestAccountDelete":     {Auth: pdstest.Bearer(a.alice.AccessJwt)},
		"requestPasswordReset":     {Body: fields{"email": aliceMail}},
	} {
		r.Method, r.NSID = http.MethodPost, "com.atproto.server."+nsid
		a.Do(t, r).WantError(t, 400, "InvalidRequest", message)
	}
	a.Do(t, pdstest.Request{NSID: "com.atproto.server.requestPasswordReset", Body: fields{"email": "nobody@example.com"}}).WantError(t, 400, "InvalidRequest", message)
	a.create(map[string]any{"name": "app"}) // goes through without its notice
}
