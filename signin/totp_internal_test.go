package signin

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nestbox/account"
)

const testSecret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // of RFC 6238, appendix B

func codeOf(t interface{ Fatal(...any) }, at int64) string {
	code, err := codeAt(testSecret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// TestCodes: the vectors of RFC 6238, appendix B, in six digits.
func TestCodes(t *testing.T) {
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"} {
		if got := codeOf(t, at/30); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
}

// TestAccept: which codes are accepted, by when they were made, what was accepted before,
// and who sends them.
func TestAccept(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)
	s := stepOf(now)
	used := func(at int64, flow string, ago time.Duration) Authenticator {
		return Authenticator{LastStep: at, LastFlow: flow, UsedAt: now.Add(-ago)}
	}
	for _, c := range []struct {
		name       string
		was        Authenticator
		code       string
		flow       string
		want       error
		late       bool
		step       int64 // afterwards
		unmodified bool
	}{
		{name: "now", code: codeOf(t, s), step: s},
		{name: "a step ago", code: codeOf(t, s-1), step: s - 1},
		{name: "a step ahead", code: codeOf(t, s+1), step: s + 1},
		{name: "two steps ahead", code: codeOf(t, s+2), want: account.ErrCodeInvalid},
		{name: "two steps ago", code: codeOf(t, s-2), want: account.ErrCodeInvalid, late: true},
		{name: "ten steps ago", code: codeOf(t, s-10), want: account.ErrCodeInvalid, late: true},
		{name: "eleven steps ago", code: codeOf(t, s-11), want: account.ErrCodeInvalid},
		{name: "used", was: used(s, "other", 5*time.Second), code: codeOf(t, s), flow: "flow", want: account.ErrCodeInvalid},
		{name: "used by nobody's flow", was: used(s, "", 5*time.Second), code: codeOf(t, s), want: account.ErrCodeInvalid},
		{name: "before a used one", was: used(s, "flow", 5*time.Second), code: codeOf(t, s-1), flow: "flow", want: account.ErrCodeInvalid},
		{name: "after a used one", was: used(s, "flow", 5*time.Second), code: codeOf(t, s+1), flow: "flow", step: s + 1},
		{name: "repeated by its page", was: used(s, "flow", 5*time.Second), code: codeOf(t, s), flow: "flow", step: s, unmodified: true},
		{name: "repeated after its time", was: used(s-4, "flow", 119*time.Second), code: codeOf(t, s-4), flow: "flow", step: s - 4, unmodified: true},
		{name: "repeated too late", was: used(s-1, "flow", account.RepeatFor), code: codeOf(t, s-1), flow: "flow", want: account.ErrCodeInvalid},
		{name: "a clock was ahead", was: used(s+1000, "flow", -8*time.Hour), code: codeOf(t, s), step: s},
	} {
		got, err := c.was.accept(testSecret, c.code, c.flow, now)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		wrong, isWrong := errors.AsType[*WrongFactor](err)
		if late := isWrong && wrong.Late; late != c.late {
			t.Errorf("%s: late %v, want %v", c.name, late, c.late)
		}
		if err == nil && (got.LastStep != c.step || !c.unmodified && (got.LastFlow != c.flow || !got.UsedAt.Equal(now)) || c.unmodified && !reflect.DeepEqual(got, c.was)) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// TestAcceptOnce: whatever is sent when, by a clock that does not go back, no step is
// accepted for two flows, and the last step only grows.
func TestAcceptOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		a := Authenticator{}
		owner := map[int64]string{}
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "wait")) * time.Second)
			at := stepOf(now) + rapid.Int64Range(-12, 3).Draw(t, "step")
			flow := rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "flow")
			next, err := a.accept(testSecret, codeOf(t, at), flow, now)
			if err != nil {
				continue
			}
			if was, known := owner[next.LastStep]; known && (was != flow || flow == "") {
				t.Fatalf("step %d was accepted from %q, then from %q", next.LastStep, was, flow)
			}
			if next.LastStep < a.LastStep || next.LastStep > stepOf(now)+1 {
				t.Fatalf("step %d after %d at %d", next.LastStep, a.LastStep, stepOf(now))
			}
			owner[next.LastStep], a = flow, next
		}
	})
}

// TestSixDigits: how people type six digits.
func TestSixDigits(t *testing.T) {
	for typed, want := range map[string]string{
		"123456": "123456", " 123 456 ": "123456", "123-456": "123456", "１２３４５６": "123456", "123\u00a0456\u200b": "123456", //nolint:gocritic // typed by a person
		"12345": "", "1234567": "", "12345a": "", "": "", "ABCDE-23456": "", "१२३४५६": "",
	} {
		if got := sixDigits(typed); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

// TestAllowsMore: one more proof never takes anything away.
func TestAllowsMore(t *testing.T) {
	proofs := []Proofs{ByPassword, ByEmail, ByTOTP, ByRecovery, ByPasskey, ByAged}
	for bits := range 1 << len(proofs) {
		by := Proofs(0)
		for i, p := range proofs {
			if bits>>i&1 == 1 {
				by |= p
			}
		}
		for _, st := range []Standing{{}, {Mails: true}, {Strong: true}, {Strong: true, Mails: true}} {
			for a := ChangeHandle; a <= DeleteAccount; a++ {
				for _, p := range proofs {
					if st.Allows(a, by) && !st.Allows(a, by|p) {
						t.Errorf("%+v, action %d: %v suffices, and with %v it does not", st, a, by, p)
					}
				}
			}
		}
	}
}

// TestAllows is the contract's table of step-up.
func TestAllows(t *testing.T) {
	const aged = ByAged
	mails, none := Standing{Mails: true}, Standing{}
	strong, strongNone := Standing{Strong: true, Mails: true}, Standing{Strong: true}
	all := []Action{ChangeHandle, MakeAppPassword, Deactivate, NoticesOff, ChangeEmail, ChangePassword, ChangeFactors, Export, Import, RotationKeys, CodesForTools, DeleteAccount}
	level1 := all[:4]
	but := func(drop ...Action) (out []Action) {
		for _, a := range all {
			if !slices.Contains(drop, a) {
				out = append(out, a)
			}
		}
		return out
	}
	identity := []Action{RotationKeys, CodesForTools, DeleteAccount}
	for _, c := range []struct {
		name string
		Standing
		by   Proofs
		want []Action
	}{
		{"nothing", mails, 0, nil},
		{"a code alone", strong, ByTOTP, nil},
		{"an e-mail code alone", mails, ByEmail, nil},
		{"password, weak account", mails, ByPassword, level1},
		{"password, strong account", strong, ByPassword, level1},
		{"password, no mail", none, ByPassword, but(identity...)},
		{"password, no mail, strong account", strongNone, ByPassword, level1},
		{"password and e-mail code", mails, ByPassword | ByEmail, all},
		{"password and e-mail code, strong account", strong, ByPassword | ByEmail, level1},
		{"password and TOTP", strong, ByPassword | ByTOTP, all},
		{"password and new TOTP, no mail", strongNone, ByPassword | ByTOTP, but(identity...)},
		{"password and old TOTP, no mail", strongNone, ByPassword | ByTOTP | aged, all},
		{"password and recovery code", strong, ByPassword | ByRecovery, append(level1[:4:4], ChangePassword, ChangeFactors)},
		{"passkey", strong, ByPasskey, all},
		{"new passkey, no mail", strongNone, ByPasskey, but(identity...)},
		{"old passkey, no mail", strongNone, ByPasskey | aged, all},
	} {
		for _, a := range all {
			if got := c.Allows(a, c.by); got != slices.Contains(c.want, a) {
				t.Errorf("%s: action %d: %v", c.name, a, got)
			}
		}
	}
}

// TestProofsKey: what a browser's sign-in keeps is read again, whatever else is in it.
func TestProofsKey(t *testing.T) {
	for by := range Proofs(64) {
		if got := ParseProofs(by.Key()); got != by {
			t.Errorf("%d is kept as %q and read as %d", by, by.Key(), got)
		}
	}
	if got := ParseProofs("password,palm,totp"); got != ByPassword|ByTOTP {
		t.Errorf("an unknown name: %d", got)
	}
}
