package session_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"nestbox/account"
	"nestbox/internal/pdstest"
	"nestbox/signin"
)

const (
	enterCode  = "Enter the code of your authenticator app"
	useBrowser = "Use an app password, or sign in with the browser"
	appsOnly   = "This account's owner allows app passwords and sign-in through the browser only"
)

// account returns alice as the store has her.
func (f *front) account() *account.Account {
	f.t.Helper()
	a, err := account.Find(f.t.Context(), f.SignIns().Accounts, f.alice.DID)
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

// totp sets up an authenticator app, and returns the recovery codes and what makes a fresh
// code.
func (f *front) totp() (recovery []string, code func() string) {
	f.t.Helper()
	setup, err := f.SignIns().BeginTOTP(f.t.Context(), f.account())
	if err != nil {
		f.t.Fatal(err)
	}
	secret := strings.ReplaceAll(setup.Secret, " ", "")
	code = func() string {
		f.clock.Advance(time.Minute)
		six, err := totp.GenerateCode(secret, f.clock.Now())
		if err != nil {
			f.t.Fatal(err)
		}
		return six
	}
	if recovery, err = f.SignIns().FinishTOTP(f.t.Context(), f.account(), setup.Sealed, code(), "x"); err != nil {
		f.t.Fatal(err)
	}
	return recovery, code
}

// passkey makes a passkey.
func (f *front) passkey() (recovery []string) {
	f.t.Helper()
	q, err := f.SignIns().BeginPasskey(f.t.Context(), f.account(), "x")
	if err != nil {
		f.t.Fatal(err)
	}
	a := pdstest.NewAuthenticator("localhost", f.URL)
	recovery, err = f.SignIns().AddPasskey(f.t.Context(), f.account(), signin.NewPasskey{Sealed: q.Sealed, Answer: a.Make(f.t, q.Options), Flow: "x"})
	if err != nil {
		f.t.Fatal(err)
	}
	return recovery
}

// TestCreateSessionFactors is the contract's table of clients that know passwords only.
func TestCreateSessionFactors(t *testing.T) {
	f := newFront(t)
	var app struct{ Password string }
	f.Do(t, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(f.alice.AccessJwt), Body: fields{"name": "app"}}).Decode(t, &app)
	in := func(a pdstest.Answer) {
		t.Helper()
		if a.Status != http.StatusOK {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
	recovery, six := f.totp()
	codeMails := func() (n int) {
		for _, m := range f.box.All() {
			if m.Subject == "Your sign-in code" {
				n++
			}
		}
		return n
	}
	t.Run("an authenticator app", func(t *testing.T) {
		f.signIn(pdstest.Password, "").WantError(t, 401, "AuthFactorTokenRequired", enterCode)
		f.signIn("wrong-password", "").WantError(t, 401, "AuthenticationRequired", "Invalid identifier or password")
		f.signIn(pdstest.Password, "AAAAA-BBBBB").WantError(t, 400, "InvalidToken", "Token is invalid")
		f.signIn(pdstest.Password, "hello").WantError(t, 400, "InvalidToken", "Token is invalid")
		code := six()
		in(f.signIn(pdstest.Password, code[:3]+"-"+code[3:]+" "))
		f.signIn(pdstest.Password, code).WantError(t, 400, "InvalidToken", "Token is invalid") // used
		in(f.signIn(pdstest.Password, strings.ToLower(recovery[0])))
		f.signIn(pdstest.Password, recovery[0]).WantError(t, 400, "InvalidToken", "Token is invalid")
		in(f.signIn(app.Password, ""))
		if n := codeMails(); n != 0 {
			t.Errorf("%d codes were mailed", n)
		}
	})
	t.Run("and codes by e-mail", func(t *testing.T) {
		f.must("updateEmail", fields{"email": aliceMail, "emailAuthFactor": true})
		f.signIn(pdstest.Password, "").WantError(t, 401, "AuthFactorTokenRequired", enterCode)
		code := ""
		for code == "" {
			if m := f.box.Wait(t, aliceMail); m.Subject == "Your sign-in code" {
				code = m.Code()
			}
		}
		in(f.signIn(pdstest.Password, code))
		in(f.signIn(pdstest.Password, six()))
		in(f.signIn(pdstest.Password, recovery[1]))
		for range 12 { // more mails than the limit allows do not keep the app's owner out
			f.clock.Advance(time.Minute)
			f.signIn(pdstest.Password, "").WantError(t, 401, "AuthFactorTokenRequired", enterCode)
		}
	})
	t.Run("a pause", func(t *testing.T) {
		wrong := map[bool]string{true: "111111", false: "000000"}[six() == "000000"]
		for range 10 {
			f.signIn(pdstest.Password, wrong).WantError(t, 400, "InvalidToken", "Token is invalid")
		}
		if a := f.signIn(pdstest.Password, six()); a.Status != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" {
			t.Errorf("%d %s", a.Status, a.Body)
		}
		in(f.signIn(pdstest.Password, recovery[2]))
		f.clock.Advance(15 * time.Minute)
		in(f.signIn(pdstest.Password, six()))
	})
	t.Run("dangerous calls", func(t *testing.T) { testDangerousCalls(t, f, six) })
	t.Run("sign-in by apps with the password off", func(t *testing.T) {
		living := f.SignIn(t, "alice.test", app.Password)
		if err := f.SignIns().Switch(t.Context(), f.account(), signin.SwitchAppsByPassword, false); err != nil {
			t.Fatal(err)
		}
		f.signIn(pdstest.Password, six()).WantError(t, 401, "AuthenticationRequired", appsOnly)
		f.signIn("wrong-password", "").WantError(t, 401, "AuthenticationRequired", "Invalid identifier or password")
		in(f.signIn(app.Password, ""))
		f.MustRefresh(t, living.RefreshJwt)
		f.MustRefresh(t, f.alice.RefreshJwt)
	})
}

// testDangerousCalls: deleteAccount and signPlcOperation want the digits behind the mailed
// code, and their mails say so.
func testDangerousCalls(t *testing.T, f *front, six func() string) {
	t.Helper()
	const missing = "Token is invalid: add the code of your authenticator app"
	mailed := func(subject string) string {
		t.Helper()
		for {
			m := f.box.Wait(t, aliceMail)
			if m.Subject != subject {
				continue
			}
			if !strings.Contains(strings.Join(strings.Fields(m.Text), " "), "six digits of your authenticator app") {
				t.Errorf("the mail lacks the digits:\n%s", m.Text)
			}
			return m.Code()
		}
	}
	alice := f.refreshed()
	f.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.identity.requestPlcOperationSignature", Auth: pdstest.Bearer(alice.AccessJwt)})
	code := mailed("Change your identity")
	sign := func(token string) pdstest.Answer {
		return f.Do(t, pdstest.Request{NSID: "com.atproto.identity.signPlcOperation", Auth: pdstest.Bearer(alice.AccessJwt), Body: fields{"token": token}})
	}
	sign(code).WantError(t, 400, "InvalidToken", missing)
	sign(code+" 12345x").WantError(t, 400, "InvalidToken", missing)
	if a := sign(code + six()); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	f.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.requestAccountDelete", Auth: pdstest.Bearer(alice.AccessJwt)})
	code = mailed("Delete your account")
	remove := func(token string) pdstest.Answer {
		return f.Do(t, pdstest.Request{NSID: "com.atproto.server.deleteAccount", Body: fields{"did": f.alice.DID, "password": pdstest.Password, "token": token}})
	}
	remove(code).WantError(t, 400, "InvalidToken", missing)
	remove("AAAAA-BBBBB "+six()).WantError(t, 400, "InvalidToken", "Token is invalid")
}

// refreshed returns the newest pair of alice's first session.
func (f *front) refreshed() pdstest.Session { return f.MustRefresh(f.t, f.alice.RefreshJwt) }

// TestCreateSessionPasskeys: an account whose only second factor is a passkey after the
// password lets apps in by a recovery code only.
func TestCreateSessionPasskeys(t *testing.T) {
	f := newFront(t)
	recovery := f.passkey()
	f.SignIn(t, "alice.test", pdstest.Password)
	if err := f.SignIns().Switch(t.Context(), f.account(), signin.SwitchPasskeySecond, true); err != nil {
		t.Fatal(err)
	}
	f.signIn(pdstest.Password, "").WantError(t, 401, "AuthFactorTokenRequired", useBrowser)
	f.signIn(pdstest.Password, "123456").WantError(t, 400, "InvalidToken", "Token is invalid")
	if a := f.signIn(pdstest.Password, recovery[0]); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// TestTOTPOnce: of many sign-ins with one code of an authenticator app, one succeeds.
func TestTOTPOnce(t *testing.T) {
	f := newFront(t)
	_, six := f.totp()
	f.signsInOnce(t, six())
}
