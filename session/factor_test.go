package session_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/store/storetest"
)

// front is a server with alice, whose address is confirmed, and her mailbox.
type front struct {
	*pdstest.InProcess

	t     *testing.T
	box   *pdstest.Mailbox
	clock *storetest.Clock
	alice pdstest.Session
}

const (
	aliceMail  = "alice@example.com"
	codeNeeded = "A sign in code has been sent to your email address"
)

type fields map[string]any

func newFront(t *testing.T, settings ...string) *front {
	t.Helper()
	f := &front{t: t, box: pdstest.NewMailbox(t, pdstest.MailboxOptions{}), clock: storetest.NewClock(time.Now())}
	f.InProcess = pdstest.Start(t, pdstest.Options{Settings: append(f.box.Settings(), settings...), Now: f.clock.Now})
	f.alice = f.SignUp(t, "alice")
	f.must("requestEmailConfirmation", nil)
	f.must("confirmEmail", fields{"email": aliceMail, "token": f.box.Code(t, aliceMail)})
	return f
}

// must posts as alice.
func (f *front) must(nsid string, in any) {
	f.t.Helper()
	if a := f.Do(f.t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server." + nsid, Auth: pdstest.Bearer(f.alice.AccessJwt), Body: in}); a.Status != http.StatusOK {
		f.t.Fatalf("%s: %d %s", nsid, a.Status, a.Body)
	}
}

// signIn tries to sign in as alice, with a code if it is not empty.
func (f *front) signIn(password, code string) pdstest.Answer {
	f.t.Helper()
	in := fields{"identifier": "alice.test", "password": password}
	if code != "" {
		in["authFactorToken"] = code
	}
	return f.Do(f.t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: in})
}

func TestFactor(t *testing.T) {
	f := newFront(t)
	var app struct{ Password string }
	f.Do(t, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(f.alice.AccessJwt), Body: fields{"name": "app"}}).Decode(t, &app)
	f.box.Wait(t, aliceMail)
	// A signed-in client can switch on codes to the address, but not switch them off.
	f.must("updateEmail", fields{"email": aliceMail, "emailAuthFactor": true})
	if m := f.box.Wait(t, aliceMail); m.Subject != "Sign-in codes are on" {
		t.Errorf("%q", m.Subject)
	}
	f.must("updateEmail", fields{"email": aliceMail, "emailAuthFactor": true}) // no news
	f.Do(t, pdstest.Request{NSID: "com.atproto.server.updateEmail", Auth: pdstest.Bearer(f.alice.AccessJwt), Body: fields{"email": aliceMail, "emailAuthFactor": false}}).
		WantError(t, 400, "TokenRequired", "confirmation token required")

	f.signIn("wrong-password", "").WantError(t, 401, "AuthenticationRequired", "Invalid identifier or password")
	f.signIn(pdstest.Password, "").WantError(t, 401, "AuthFactorTokenRequired", codeNeeded)
	code := f.box.Code(t, aliceMail)
	f.signIn(pdstest.Password, "").WantError(t, 401, "AuthFactorTokenRequired", codeNeeded) // and sends no other so soon
	f.signIn("wrong-password", code).WantError(t, 401, "AuthenticationRequired", "Invalid identifier or password")
	f.signIn(pdstest.Password, "AAAAA-BBBBB").WantError(t, 400, "InvalidToken", "Token is invalid")
	var s pdstest.Session
	f.signIn(pdstest.Password, strings.ToLower(strings.ReplaceAll(code, "-", ""))).Decode(t, &s)
	if s.DID != f.alice.DID || !*s.EmailAuthFactor || !*s.EmailConfirmed {
		t.Errorf("%+v", s)
	}
	f.signIn(pdstest.Password, code).WantError(t, 400, "InvalidToken", "Token is invalid")
	if s := f.MustRefresh(t, f.alice.RefreshJwt); !*s.EmailAuthFactor {
		t.Error("refreshSession does not tell of the codes")
	}
	if s := f.SignIn(t, aliceMail, app.Password); !*s.EmailAuthFactor {
		t.Error("an app password's session does not tell of the codes")
	}
	f.signIn(pdstest.Password, "").WantError(t, 401, "AuthFactorTokenRequired", codeNeeded)
	late := f.box.Code(t, aliceMail)
	f.clock.Advance(15 * time.Minute)
	f.signIn(pdstest.Password, late).WantError(t, 400, "InvalidToken", "Token is invalid")

	f.must("requestEmailUpdate", nil)
	f.must("updateEmail", fields{"email": aliceMail, "emailAuthFactor": false, "token": f.box.Code(t, aliceMail)})
	if m := f.box.Wait(t, aliceMail); m.Subject != "Sign-in codes are off" {
		t.Errorf("%q", m.Subject)
	}
	if s := f.SignIn(t, "alice.test", pdstest.Password); *s.EmailAuthFactor || !*s.EmailConfirmed {
		t.Errorf("%+v", s)
	}
}

// TestFactorOnce: of many sign-ins with one code, one succeeds.
func TestFactorOnce(t *testing.T) {
	f := newFront(t)
	f.must("updateEmail", fields{"email": aliceMail, "emailAuthFactor": true})
	f.box.Wait(t, aliceMail)
	f.signIn(pdstest.Password, "").WantError(t, 401, "AuthFactorTokenRequired", codeNeeded)
	f.signsInOnce(t, f.box.Code(t, aliceMail))
}

// signsInOnce: of many sign-ins at once with a code, one succeeds.
func (f *front) signsInOnce(t *testing.T, code string) {
	t.Helper()
	var all sync.WaitGroup
	answers := make([]pdstest.Answer, 6)
	for i := range answers {
		all.Go(func() { answers[i] = f.signIn(pdstest.Password, code) })
	}
	all.Wait()
	in := 0
	for _, a := range answers {
		if a.Status == http.StatusOK {
			in++
			continue
		}
		a.WantError(t, 400, "InvalidToken", "Token is invalid")
	}
	if in != 1 {
		t.Errorf("%d sign-ins by one code", in)
	}
}

// TestFactorGuesses: wrong codes count as wrong passwords do, and somebody with the
// password cannot fill the mailbox.
func TestFactorGuesses(t *testing.T) {
	f := newFront(t, "PDS_RATE_LIMITS_ENABLED=true")
	f.must("updateEmail", fields{"email": aliceMail, "emailAuthFactor": true})
	f.box.Wait(t, aliceMail)
	for range 10 {
		f.signIn(pdstest.Password, "").WantError(t, 401, "AuthFactorTokenRequired", codeNeeded)
		f.box.Code(t, aliceMail)
		f.clock.Advance(time.Minute)
	}
	if a := f.signIn(pdstest.Password, ""); a.Status != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" {
		t.Errorf("the 11th code within an hour: %d %s", a.Status, a.Body)
	}
	f.clock.Advance(time.Hour)
	for i := range 11 {
		a := f.signIn(pdstest.Password, "AAAAA-BBBBB")
		if want := map[bool]int{true: 400, false: 429}[i < 10]; a.Status != want {
			t.Fatalf("guess %d: %d, want %d", i, a.Status, want)
		}
	}
	for i := range 20 { // the ten wrong codes count with them
		if a := f.signIn("wrong-password", ""); a.Status != http.StatusUnauthorized {
			t.Fatalf("wrong password %d: %d", i, a.Status)
		}
	}
	if a := f.signIn("wrong-password", ""); a.Status != http.StatusTooManyRequests {
		t.Errorf("the 31st failure: %d", a.Status)
	}
}

// TestNotices: the owner gets one notice of a sign-in by a client that was not used
// before, and none if notices are switched off.
func TestNotices(t *testing.T) {
	f := newFront(t)
	as := func(agent string) {
		t.Helper()
		a := f.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Header: http.Header{"User-Agent": {agent}}, Body: fields{"identifier": "alice.test", "password": pdstest.Password}})
		if a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	before := len(f.box.All())
	f.SignIn(t, "alice.test", pdstest.Password) // as at sign-up
	f.MustRefresh(t, f.alice.RefreshJwt)
	as("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	m := f.box.Wait(t, aliceMail)
	for _, want := range []string{"@alice.test", "Firefox on Linux", "127.0.0.1", "password", f.clock.Now().UTC().Format("2 January 2006, 15:04"), "Change your password"} {
		if !strings.Contains(strings.ToLower(strings.ReplaceAll(strings.Join(strings.Fields(m.Text), " "), "\u200b", "")), strings.ToLower(want)) {
			t.Errorf("the notice lacks %q:\n%s", want, m.Text)
		}
	}
	as("Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0") // it was updated
	as("Mozilla/5.0 (Windows NT 10.0; rv:141.0) Gecko/20100101 Firefox/141.0")
	f.box.Wait(t, aliceMail)
	if got := len(f.box.All()) - before; got != 2 {
		t.Errorf("%d notices, want 2", got)
	}
	var line struct{ DID string }
	if err := f.Run(t.Context(), "account.notices", fields{"account": "alice.test", "on": false}, &line); err != nil {
		t.Fatal(err)
	}
	as("something-else/1.0")
	if err := f.Run(t.Context(), "account.notices", fields{"account": "alice.test", "on": true}, &line); err != nil {
		t.Fatal(err)
	}
	if err := f.Run(t.Context(), "account.password", fields{"account": "alice.test", "password": pdstest.Password}, &line); err != nil {
		t.Fatal(err)
	}
	if m := f.box.Wait(t, aliceMail); m.Subject != "Your password was changed" || !strings.Contains(m.Text, "the operator of this server") {
		t.Errorf("%q:\n%s", m.Subject, m.Text)
	}
	as("something-else/2.0")
	as("Something-Else/2.0")
	if m := f.box.Wait(t, aliceMail); m.Subject != "New sign-in to your account" {
		t.Errorf("%q", m.Subject)
	}
	if got := len(f.box.All()) - before; got != 4 {
		t.Errorf("%d notices, want 4", got)
	}
}

// TestCodesOff: the operator helps an owner who cannot read their mail.
func TestCodesOff(t *testing.T) {
	f := newFront(t)
	f.must("updateEmail", fields{"email": aliceMail, "emailAuthFactor": true})
	var line struct{ DID string }
	if err := f.Run(t.Context(), "account.codes", fields{"account": "alice.test", "on": true}, &line); err == nil {
		t.Error("the operator turned codes on")
	}
	if err := f.Run(t.Context(), "account.codes", fields{"account": "alice.test"}, &line); err != nil {
		t.Fatal(err)
	}
	if s := f.SignIn(t, "alice.test", pdstest.Password); *s.EmailAuthFactor {
		t.Errorf("%+v", s)
	}
}
