package signin_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/internal/pdstest"
	"nestbox/request"
	"nestbox/signin"
)

const origin = "https://pds.test"

// totp sets up an authenticator app for alice, and returns its secret and the recovery
// codes.
func (d *door) totp() (secret string, recovery []string) {
	d.t.Helper()
	setup, err := d.BeginTOTP(d.t.Context(), d.alice)
	if err != nil {
		d.t.Fatal(err)
	}
	secret = strings.ReplaceAll(setup.Secret, " ", "")
	recovery, err = d.FinishTOTP(d.t.Context(), d.alice, setup.Sealed, d.six(secret), "setup")
	if err != nil {
		d.t.Fatal(err)
	}
	d.Clock.Advance(time.Minute)
	return secret, recovery
}

// six returns the present code.
func (d *door) six(secret string) string {
	d.t.Helper()
	code, err := totp.GenerateCode(secret, d.Clock.Now())
	if err != nil {
		d.t.Fatal(err)
	}
	return code
}

// passkey makes a passkey for alice.
func (d *door) passkey() (*pdstest.Authenticator, []string) {
	d.t.Helper()
	q, err := d.BeginPasskey(d.t.Context(), d.alice, "making")
	if err != nil {
		d.t.Fatal(err)
	}
	a := pdstest.NewAuthenticator("pds.test", origin)
	recovery, err := d.AddPasskey(d.t.Context(), d.alice, signin.NewPasskey{Sealed: q.Sealed, Answer: a.Make(d.t, q.Options), Flow: "making"})
	if err != nil {
		d.t.Fatal(err)
	}
	return a, recovery
}

// assertion asks for a passkey in a flow, and answers with a.
func (d *door) assertion(a *pdstest.Authenticator, flow string) signin.PasskeyAttempt {
	d.t.Helper()
	q, err := d.AskPasskey(flow, false)
	if err != nil {
		d.t.Fatal(err)
	}
	return signin.PasskeyAttempt{Sealed: q.Sealed, Answer: a.Answer(d.t, q.Options), Flow: flow}
}

// page signs alice in on a page, up to the second factor.
func (d *door) page(flow string) *signin.FactorNeeded {
	d.t.Helper()
	_, err := d.Prove(d.t.Context(), signin.Attempt{Identifier: "alice.test", Password: password, For: signin.Page, Flow: flow})
	needed, ok := errors.AsType[*signin.FactorNeeded](err)
	if !ok {
		d.t.Fatalf("no second factor is needed: %v", err)
	}
	return needed
}

func (d *door) factors() signin.Factors {
	d.t.Helper()
	f, err := d.Service.Factors.Factors(d.t.Context(), d.alice.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	return f
}

// kinds returns the kinds of the newest n entries of alice's trail, newest first.
func (d *door) kinds(n int) (out []account.EntryKind) {
	d.t.Helper()
	trail, err := d.Service.Accounts.Trail(d.t.Context(), d.alice.ID, n)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range trail {
		out = append(out, e.Kind)
	}
	return out
}

// confirmed makes alice's address confirmed, so that she gets notices.
func (d *door) confirmed() {
	d.t.Helper()
	code := d.code(account.PurposeConfirmEmail)
	proof, err := d.Service.Codes.Check(d.t.Context(), d.alice, account.PurposeConfirmEmail, code)
	if err == nil {
		err = d.Service.Accounts.ConfirmEmail(d.t.Context(), proof, account.Entry{At: d.Clock.Now(), Kind: account.EntryEmailConfirmed})
	}
	if err == nil {
		d.alice, err = d.Service.Accounts.ByDID(d.t.Context(), d.alice.DID)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *door) emailFactor() {
	d.t.Helper()
	d.confirmed()
	err := d.Service.Accounts.SetEmail(d.t.Context(), d.alice.ID, account.EmailChange{Factor: new(true)}, account.Entry{At: d.Clock.Now(), Kind: account.EntryFactorOn})
	if err == nil {
		d.alice, err = d.Service.Accounts.ByDID(d.t.Context(), d.alice.DID)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// mailed returns the subjects of the mails that wait, newest last.
func (d *door) mailed() (out []string) {
	d.t.Helper()
	mails, err := d.Outbox.Due(d.t.Context(), d.Clock.Now(), 100)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, m := range mails {
		out = append(out, m.Subject)
	}
	return out
}

// TestPage: on a page the password is proven once, then the factor, each with errors of its
// own, and a code passes for one flow only.
func TestPage(t *testing.T) {
	d := newDoor(t)
	if p, err := d.Prove(t.Context(), signin.Attempt{Identifier: "@Alice.test", Password: password, For: signin.Page}); err != nil || p.By != signin.ByPassword {
		t.Fatalf("without a second factor: %+v, %v", p, err)
	}
	app := account.NewAppPassword()
	err := d.Service.Accounts.AddAppPassword(t.Context(), d.alice.ID,
		account.AppPassword{Name: "phone", Hash: account.HashAppPassword(d.alice.DID, app), CreatedAt: d.Clock.Now()}, account.Entry{At: d.Clock.Now(), Kind: account.EntryAppPasswordCreated})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Prove(t.Context(), signin.Attempt{Identifier: "alice.test", Password: app, For: signin.Page}); !errors.Is(err, signin.ErrAppPassword) {
		t.Errorf("an app password: %v", err)
	}
	secret, recovery := d.totp()
	needed := d.page("flow")
	if !slices.Equal(needed.Methods, []signin.Method{signin.TOTP, signin.Recovery}) || needed.Account.DID != d.alice.DID || needed.Mailed {
		t.Errorf("%+v", needed)
	}
	step := func(code, flow string) error {
		p, err := d.Continue(t.Context(), signin.Step{Claim: needed.Claim, Flow: flow, Code: code})
		if err == nil && (!p.By.Has(signin.ByPassword) || p.By == signin.ByPassword || p.Account.DID != d.alice.DID) {
			t.Errorf("proven %+v", p)
		}
		return err
	}
	six := d.six(secret)
	for _, c := range []struct {
		name, code, flow string
		ok               bool
	}{
		{"a wrong code", "000000", "flow", false},
		{"nothing", "", "flow", false},
		{"the right code", six, "flow", true},
		{"repeated", six[:3] + " " + six[3:], "flow", true},
		{"from another page", six, "other", false},
		{"a recovery code", strings.ToLower(recovery[0]), "flow", true},
		{"repeated", recovery[0], "flow", true},
		{"from another page", recovery[0], "other", false},
		{"another one", strings.ReplaceAll(recovery[1], "-", " "), "other", true},
		{"none of ours", "AAAAA-BBBBB", "other", false},
	} {
		if c.code == "000000" && six == "000000" {
			continue
		}
		if err := step(c.code, c.flow); (err == nil) != c.ok || err != nil && !signin.WrongCode(err) {
			t.Errorf("%s %q: %v", c.name, c.code, err)
		}
	}
	if left := d.factors().RecoveryLeft(); left != signin.RecoveryCodes-2 {
		t.Errorf("%d recovery codes left", left)
	}
	if got := d.page("x").Methods; got[0] != signin.TOTP || got[1] != signin.Recovery {
		t.Errorf("%v", got)
	}
	d.Clock.Advance(signin.ClaimLife)
	if err := step(d.six(secret), "flow"); !errors.Is(err, signin.ErrClaim) {
		t.Errorf("half an hour later: %v", err)
	}
	needed = d.page("flow")
	e := account.Entry{At: d.Clock.Now(), Kind: account.EntryPasswordChanged}
	if err := d.Service.Accounts.SetPassword(t.Context(), d.alice.ID, d.hash(t.Context()), 0, e); err != nil {
		t.Fatal(err)
	}
	if err := step(d.six(secret), "flow"); !errors.Is(err, signin.ErrClaim) {
		t.Errorf("after a new password: %v", err)
	}
}

// TestTrusted: a browser that is trusted with the account needs no second factor, and is
// asked about after the password only.
func TestTrusted(t *testing.T) {
	d := newDoor(t)
	d.totp()
	asked := 0
	try := func(password string, trusted bool) error {
		_, err := d.Prove(t.Context(), signin.Attempt{
			Identifier: "alice.test", Password: password, For: signin.Page,
			Trusted: func(_ context.Context, a *account.Account) (bool, error) {
				asked++
				return trusted && a.DID == d.alice.DID, nil
			},
		})
		return err
	}
	if err := try("wrong", true); !errors.Is(err, signin.ErrWrong) || asked != 0 {
		t.Errorf("a wrong password: %v, asked %d times", err, asked)
	}
	if err := try(password, true); err != nil || asked != 1 {
		t.Errorf("trusted: %v", err)
	}
	if _, ok := errors.AsType[*signin.FactorNeeded](try(password, false)); !ok {
		t.Error("not trusted, and no second factor is needed")
	}
}

// TestOneCodeTwice: of many pages with one code at the same time one signs in, and of many
// posts of one page all do.
func TestOneCodeTwice(t *testing.T) {
	d := newDoor(t)
	secret, recovery := d.totp()
	claim := d.page("x").Claim
	for name, code := range map[string]string{"TOTP": d.six(secret), "recovery": recovery[0]} {
		for _, same := range []bool{false, true} {
			if same && name == "TOTP" {
				d.Clock.Advance(time.Minute)
				code = d.six(secret)
			} else if same {
				code = recovery[1]
			}
			var all sync.WaitGroup
			results := make([]error, 4)
			for i := range results {
				flow := name + "-"
				if !same {
					flow += string(rune('a' + i))
				}
				all.Go(func() { _, results[i] = d.Continue(t.Context(), signin.Step{Claim: claim, Flow: flow, Code: code}) })
			}
			all.Wait()
			ok := 0
			for _, err := range results {
				if err == nil {
					ok++
				} else if !signin.WrongCode(err) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if want := map[bool]int{false: 1, true: len(results)}[same]; ok != want {
				t.Errorf("%s, one page %v: %d signed in, want %d", name, same, ok, want)
			}
		}
	}
}

// TestPause: ten wrong codes of one kind pause that kind, whatever door they came through,
// and no other; the right code of it proves nothing until the pause is over.
func TestPause(t *testing.T) {
	d := newDoor(t)
	secret, recovery := d.totp()
	claim := d.page("x").Claim
	bad := "000000"
	if d.six(secret) == bad {
		bad = "111111"
	}
	for i := range 10 {
		var err error
		if i%2 == 0 {
			_, err = d.Continue(t.Context(), signin.Step{Claim: claim, Code: bad, Flow: "x"})
		} else {
			_, err = d.try(signin.Session, password, bad)
		}
		wrong, ok := errors.AsType[*signin.WrongFactor](err)
		if !ok || wrong.Left != 9-i || wrong.Method != signin.TOTP {
			t.Fatalf("guess %d: %v, %+v", i, err, wrong)
		}
	}
	d.Clock.Advance(14 * time.Minute)
	_, err := d.Continue(t.Context(), signin.Step{Claim: claim, Code: d.six(secret), Flow: "x"})
	paused, ok := errors.AsType[*signin.Paused](err)
	if many, limited := errors.AsType[request.ErrTooMany](err); !ok || !limited || paused.Method != signin.TOTP || many.Wait > time.Minute {
		t.Fatalf("in the pause: %v", err)
	}
	if _, err := d.Continue(t.Context(), signin.Step{Claim: claim, Code: recovery[0], Flow: "x"}); err != nil {
		t.Errorf("a recovery code meanwhile: %v", err)
	}
	d.Clock.Advance(time.Minute)
	if _, err := d.Continue(t.Context(), signin.Step{Claim: claim, Code: d.six(secret), Flow: "x"}); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// TestMethods: what asks for a second factor, what passes then, and in which order.
func TestMethods(t *testing.T) {
	d := newDoor(t)
	d.emailFactor()
	want := func(methods ...signin.Method) *signin.FactorNeeded {
		t.Helper()
		n := d.page("x")
		if !slices.Equal(n.Methods, methods) {
			t.Errorf("%v, want %v", n.Methods, methods)
		}
		return n
	}
	if n := want(signin.Email); !n.Mailed {
		t.Error("no code was mailed")
	}
	secret, _ := d.totp()
	if n := want(signin.TOTP, signin.Email, signin.Recovery); n.Mailed {
		t.Error("a code was mailed though the authenticator app is asked for first")
	}
	key, _ := d.passkey()
	want(signin.TOTP, signin.Passkeys, signin.Email, signin.Recovery)
	d.Clock.Advance(time.Hour)
	if _, err := d.ProvePasskey(t.Context(), d.assertion(key, "p")); err != nil {
		t.Fatal(err)
	}
	n := want(signin.Passkeys, signin.TOTP, signin.Email, signin.Recovery)
	if err := d.MailCode(t.Context(), n.Claim); err != nil {
		t.Fatal(err)
	}
	code := d.lastCode()
	for _, c := range []struct {
		flow string
		ok   bool
	}{{"x", true}, {"x", true}, {"y", false}} {
		if _, err := d.Continue(t.Context(), signin.Step{Claim: n.Claim, Code: code, Flow: c.flow}); (err == nil) != c.ok {
			t.Errorf("the mailed code in %s: %v", c.flow, err)
		}
	}
	answer := d.assertion(key, "x")
	p, err := d.Continue(t.Context(), signin.Step{Claim: n.Claim, Flow: "x", Passkey: answer})
	if err != nil || p.By != signin.ByPassword|signin.ByPasskey {
		t.Errorf("a passkey as the second factor: %+v, %v", p, err)
	}
	if _, err := d.Continue(t.Context(), signin.Step{Claim: n.Claim, Code: d.six(secret), Flow: "x"}); err != nil {
		t.Error(err)
	}
}

// TestPasskeysAlone: passkeys do not lock the password out, unless their owner wants that,
// for which recovery codes must be there.
func TestPasskeysAlone(t *testing.T) {
	d := newDoor(t)
	if err := d.Switch(t.Context(), d.alice, signin.SwitchPasskeySecond, true); !errors.Is(err, signin.ErrNoFactor) {
		t.Errorf("without a passkey: %v", err)
	}
	_, recovery := d.passkey()
	if len(recovery) != signin.RecoveryCodes {
		t.Fatalf("%d recovery codes with the first factor", len(recovery))
	}
	if _, more := d.passkey(); more != nil {
		t.Error("recovery codes again with the second")
	}
	if _, err := d.Prove(t.Context(), signin.Attempt{Identifier: "alice.test", Password: password, For: signin.Page}); err != nil {
		t.Errorf("the password alone: %v", err)
	}
	for range 2 {
		if err := d.Switch(t.Context(), d.alice, signin.SwitchPasskeySecond, true); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.page("x").Methods; !slices.Equal(got, []signin.Method{signin.Passkeys, signin.Recovery}) {
		t.Errorf("%v", got)
	}
	for _, p := range d.factors().Passkeys {
		if err := d.RemovePasskey(t.Context(), d.alice, p.ID); err != nil {
			t.Fatal(err)
		}
	}
	if f := d.factors(); f.PasskeySecond || len(f.Recovery) != 0 || len(f.UserHandle) != 64 {
		t.Errorf("after the last passkey: %+v", f)
	}
	want := []account.EntryKind{account.EntryPasskeyRemoved, account.EntryPasskeyRemoved, account.EntryPasskeySecondOn, account.EntryPasskeyAdded, account.EntryPasskeyAdded}
	if got := d.kinds(len(want)); !slices.Equal(got, want) {
		t.Errorf("the trail: %v", got)
	}
	if err := d.Switch(t.Context(), d.alice, signin.SwitchDangerousFactor, true); !errors.Is(err, signin.ErrNoFactor) {
		t.Errorf("the switch for dangerous calls without an authenticator app: %v", err)
	}
}

// TestSetup: an authenticator app is on after one right code, a repeated post shows the
// recovery codes again, and a new one replaces it.
func TestSetup(t *testing.T) {
	d := newDoor(t)
	d.confirmed()
	setup, err := d.BeginTOTP(t.Context(), d.alice)
	if err != nil || !strings.HasPrefix(setup.URL, "otpauth://totp/pds.test:alice.test?") || !strings.HasPrefix(string(setup.PNG), "\x89PNG") || len(setup.Secret) != 32+7 {
		t.Fatalf("%+v, %v", setup, err)
	}
	if f := d.factors(); f.TOTP != nil {
		t.Error("it is on before it was confirmed")
	}
	secret := strings.ReplaceAll(setup.Secret, " ", "")
	other := d.Account(hosting.Pending{Handle: "bob.test"})
	if _, err := d.FinishTOTP(t.Context(), other, setup.Sealed, d.six(secret), "f"); !errors.Is(err, signin.ErrClaim) {
		t.Errorf("another account's form: %v", err)
	}
	if _, err := d.FinishTOTP(t.Context(), d.alice, setup.Sealed, "abc", "f"); !signin.WrongCode(err) {
		t.Errorf("a wrong code: %v", err)
	}
	var recovery []string
	for i := range 3 {
		codes, err := d.FinishTOTP(t.Context(), d.alice, setup.Sealed, d.six(secret), "f")
		if err != nil || len(codes) != signin.RecoveryCodes || i > 0 && !slices.Equal(codes, recovery) {
			t.Fatalf("post %d: %q, %v", i, codes, err)
		}
		recovery = codes
		d.Clock.Advance(time.Second)
	}
	if f := d.factors(); f.TOTP == nil || !f.DangerousFactor || strings.Contains(string(f.TOTP.SecretSealed), secret) {
		t.Errorf("%+v", f)
	}
	d.Clock.Advance(time.Minute)
	again, codes := d.totp()
	if codes != nil || again == secret {
		t.Errorf("the second one made %d recovery codes", len(codes))
	}
	claim := d.page("x").Claim
	if _, err := d.Continue(t.Context(), signin.Step{Claim: claim, Code: d.six(secret), Flow: "x"}); !signin.WrongCode(err) {
		t.Errorf("the old app still signs in: %v", err)
	}
	if fresh, err := d.NewRecoveryCodes(t.Context(), d.alice); err != nil || len(fresh) != signin.RecoveryCodes {
		t.Fatal(err)
	}
	if _, err := d.Continue(t.Context(), signin.Step{Claim: claim, Code: recovery[0], Flow: "x"}); !signin.WrongCode(err) {
		t.Errorf("an old recovery code: %v", err)
	}
	for range 2 {
		if err := d.RemoveTOTP(t.Context(), d.alice); err != nil {
			t.Fatal(err)
		}
	}
	if f := d.factors(); f.TOTP != nil || f.DangerousFactor || len(f.Recovery)+len(f.RecoveryKey) != 0 {
		t.Errorf("%+v", f)
	}
	if got := d.mailed(); !slices.Equal(got[1:], []string{"Authenticator app is on", "Authenticator app is on", "New recovery codes", "Authenticator app is off"}) {
		t.Errorf("mails: %q", got)
	}
	if _, err := d.NewRecoveryCodes(t.Context(), d.alice); !errors.Is(err, signin.ErrNoFactor) {
		t.Errorf("recovery codes of nothing: %v", err)
	}
	d.Clock.Advance(signin.SetupLife)
	if _, err := d.FinishTOTP(t.Context(), d.alice, setup.Sealed, d.six(secret), "f"); !errors.Is(err, signin.ErrClaim) {
		t.Errorf("an old form: %v", err)
	}
}

// TestDangerous: with an authenticator app, an app that deletes the account or changes the
// identity needs its code behind the mailed one, unless the owner has switched that off.
func TestDangerous(t *testing.T) {
	d := newDoor(t)
	secret, _ := d.totp()
	code := d.code(account.PurposeDeleteAccount)
	try := func(code string) error {
		_, err := d.try(signin.Deletion, password, code)
		return err
	}
	six := d.six(secret)
	for _, c := range []struct {
		name, code string
		want       error
	}{
		{"no digits", code, signin.ErrDigitsNeeded},
		{"letters", code + " abcdef", signin.ErrDigitsNeeded},
		{"the wrong mailed code", wrong + " " + six, account.ErrCodeInvalid},
		{"wrong digits", code + " " + map[bool]string{true: "000001", false: "000000"}[six == "000000"], account.ErrCodeInvalid},
		{"both", code + " " + six, nil},
		{"with the digits again", strings.ToLower(code) + six, account.ErrCodeInvalid},
	} {
		if err := try(c.code); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := d.Switch(t.Context(), d.alice, signin.SwitchDangerousFactor, false); err != nil {
		t.Fatal(err)
	}
	if err := try(code); err != nil {
		t.Errorf("switched off: %v", err)
	}
}
