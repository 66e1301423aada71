package signin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"nestbox/account"
	"nestbox/mail"
)

// Errors of changes of factors.
var (
	// ErrNoMail: it needs mail, which the server does not send.
	ErrNoMail = errors.New("the server sends no mail")
	// ErrUnconfirmed: it needs an address that somebody has confirmed.
	ErrUnconfirmed = errors.New("the e-mail address is not confirmed")
	// ErrNoFactor: it needs a factor that the account has not.
	ErrNoFactor = errors.New("the account has no such factor")
	// ErrNoRecovery: it needs recovery codes.
	ErrNoRecovery = errors.New("recovery codes must be made first")
	// ErrTooManyPasskeys: the account has MaxPasskeys.
	ErrTooManyPasskeys = errors.New("the account has too many passkeys")
	// ErrPasskeyTaken: the passkey is known already.
	ErrPasskeyTaken = errors.New("that passkey is registered already")
	// ErrPasskeyName: the name is too long.
	ErrPasskeyName = errors.New("the name is too long")
)

// Overview is what an account's security page shows.
type Overview struct {
	Factors

	// Methods are those that the account has, the last used first; Email is one of them if
	// sign-in codes are on.
	Methods []Method
	// Needed: a sign-in with the password needs a second factor.
	Needed bool
}

// Overview returns an account's second factors.
func (s *Service) Overview(ctx context.Context, a *account.Account) (Overview, error) {
	f, err := s.Factors.Factors(ctx, a.ID)
	if err != nil {
		return Overview{}, err
	}
	return Overview{Factors: f, Methods: f.methods(a.EmailFactor), Needed: len(f.second(a.EmailFactor)) > 0}, nil
}

// Loss is what an account loses besides a factor.
type Loss struct {
	// Recovery: its recovery codes end, since nothing is left that they replace.
	Recovery bool
	// Second: a sign-in with the password needs no second factor any more.
	Second bool
	// PasskeySecond and Dangerous: the switch of that name goes off.
	PasskeySecond, Dangerous bool
}

// Losing returns what else the account loses by a change that removes a factor. change gets
// a copy of the factors, and whether codes by e-mail are on.
func (o Overview) Losing(change func(f *Factors, email *bool)) Loss {
	next, email := o.clone(), slices.Contains(o.Methods, Email)
	change(&next, &email)
	after := next.settled()
	return Loss{
		Recovery: o.RecoveryLeft() > 0 && after.RecoveryLeft() == 0, Second: o.Needed && len(after.second(email)) == 0,
		PasskeySecond: next.PasskeySecond && !after.PasskeySecond, Dangerous: next.DangerousFactor && !after.DangerousFactor,
	}
}

// MethodsOf returns the methods that the account has, the last used first.
func (s *Service) MethodsOf(ctx context.Context, a *account.Account) ([]Method, error) {
	o, err := s.Overview(ctx, a)
	return o.Methods, err
}

// note is what the owner learns of a change: on the trail, and by mail.
type note struct {
	kind   account.EntryKind
	notice mail.NoticeKind
	// detail is the reason on the trail, and the detail of the notice unless mailed is set.
	detail, mailed string
}

// change changes an account's factors as decide says. Each change is on the trail and
// mailed. decide may change what it gets.
func (s *Service) change(
	ctx context.Context, a *account.Account, decide func(account.Account, Factors, account.Entry) (Factors, []note, error),
) error {
	return s.changeBy(ctx, a, account.ActorOwner, decide)
}

func (s *Service) changeBy(
	ctx context.Context, a *account.Account, by account.Actor, decide func(account.Account, Factors, account.Entry) (Factors, []note, error),
) error {
	return s.Factors.ChangeFactors(ctx, a.ID, func(now account.Account, f Factors) (Changed, error) {
		e := account.NewEntry(ctx, s.now(), "", by)
		next, notes, err := decide(now, f.clone(), e)
		if err != nil {
			return Changed{}, err
		}
		c := Changed{Factors: next.settled()}
		for _, n := range notes {
			e.Kind, e.Reason = n.kind, n.detail
			c.Entries = append(c.Entries, e)
			if n.notice != "" {
				c.Mails = append(c.Mails, s.Notices.Of(&now, n.notice, e, cmp.Or(n.mailed, n.detail))...)
			}
		}
		return c, nil
	})
}

// Switch is one of account.Switches. Its text is the value of a form's field.
type Switch string

// The switches.
const (
	SwitchPasskeySecond   Switch = "passkey-second"
	SwitchDangerousFactor Switch = "dangerous-factor"
	SwitchAppsByPassword  Switch = "apps-by-password"
)

// words returns the switch as the trail and mails name it.
func (w Switch) words() string {
	switch w {
	case SwitchPasskeySecond:
		return "passkey after the password"
	case SwitchDangerousFactor:
		return "authenticator code for deletion and identity changes by apps"
	case SwitchAppsByPassword:
		return "sign-in by apps with the password"
	default:
		return string(w)
	}
}

// detail returns a switch and its state as the trail has them.
func (w Switch) detail(on bool) string {
	return w.words() + ": " + map[bool]string{true: "on", false: "off"}[on]
}

// ParseSwitched returns the switch, and its state, of an entry of the trail whose reason
// this is; false if it is none.
func ParseSwitched(reason string) (w Switch, on, ok bool) {
	for _, w := range []Switch{SwitchPasskeySecond, SwitchDangerousFactor, SwitchAppsByPassword} {
		for _, on := range []bool{true, false} {
			if reason == w.detail(on) {
				return w, on, true
			}
		}
	}
	return "", false, false
}

// Switch turns a switch on or off. ErrNoFactor, ErrNoRecovery.
func (s *Service) Switch(ctx context.Context, a *account.Account, w Switch, on bool) error {
	return s.change(ctx, a, func(_ account.Account, f Factors, _ account.Entry) (Factors, []note, error) {
		was := f.Switches
		switch w {
		case SwitchPasskeySecond:
			f.PasskeySecond = on
		case SwitchDangerousFactor:
			f.DangerousFactor = on
		case SwitchAppsByPassword:
			f.AppsOff = !on
		default:
			return f, nil, fmt.Errorf("%w: switch %q", ErrNoFactor, w)
		}
		switch {
		case f.Switches == was:
			return f, nil, nil
		case f.settled().Switches != f.Switches:
			return f, nil, ErrNoFactor
		case w == SwitchPasskeySecond && on && f.RecoveryLeft() == 0:
			return f, nil, ErrNoRecovery
		}
		kind := account.EntrySwitched
		if w == SwitchPasskeySecond {
			kind = map[bool]account.EntryKind{true: account.EntryPasskeySecondOn, false: account.EntryPasskeySecondOff}[on]
		}
		return f, []note{{kind, mail.NoticeSwitched, w.detail(on), mail.Switched(string(w), on)}}, nil
	})
}

// MayEmailCodes returns why codes by e-mail cannot be turned on: ErrNoMail, ErrUnconfirmed.
func (s *Service) MayEmailCodes(a *account.Account) error {
	switch {
	case s.Codes.Templates == nil:
		return ErrNoMail
	case a.EmailConfirmedAt.IsZero():
		return ErrUnconfirmed
	default:
		return nil
	}
}

// EmailCodes turns codes by e-mail on or off. Errors: those of MayEmailCodes.
func (s *Service) EmailCodes(ctx context.Context, a *account.Account, on bool) error {
	kind, notice := account.EntryFactorOff, mail.NoticeFactorOff
	if on {
		kind, notice = account.EntryFactorOn, mail.NoticeFactorOn
		if err := s.MayEmailCodes(a); err != nil {
			return err
		}
	}
	if a.EmailFactor == on {
		return nil
	}
	e := account.NewEntry(ctx, s.now(), kind, account.ActorOwner)
	mails := s.Notices.Of(a, notice, e, "")
	err := s.Accounts.SetEmail(ctx, a.ID, account.EmailChange{Email: a.Email, Factor: &on}, e, mails...)
	if err != nil {
		s.Notices.Unsent(a, notice, e, mails)
	}
	return err
}

// Off removes all second factors of an owner who has lost them, except codes by e-mail. It
// is the operator's.
func (s *Service) Off(ctx context.Context, a *account.Account) error {
	return s.changeBy(ctx, a, account.ActorAdmin, func(_ account.Account, f Factors, _ account.Entry) (Factors, []note, error) {
		if !f.Strong() {
			return f, nil, nil
		}
		f.TOTP, f.Passkeys = nil, nil
		return f, []note{{kind: account.EntryFactorsOff, notice: mail.NoticeFactorsOff}}, nil
	})
}

// MinFactorAge is how long the account must have had a factor before it alone allows what
// can take the identity away, on a server that sends no mail.
const MinFactorAge = 3 * 24 * time.Hour

func old(made, now time.Time) bool { return now.Sub(made) >= MinFactorAge }
