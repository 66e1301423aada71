package signin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

// Step is what comes on the page for the second factor.
type Step struct {
	Claim Claim
	Flow  string
	// Code is what was typed: a code of any method that the account has. Passkey, if
	// Sealed is set, comes instead.
	Code    string
	Passkey PasskeyAttempt
}

// Continue proves the person who has proven the Claim, by a second factor. Errors:
// ErrClaim, *WrongFactor, *Paused, ErrCeremony, account.ErrTakenDown, request.ErrTooMany.
func (s *Service) Continue(ctx context.Context, in Step) (Proven, error) {
	a, f, err := s.claimed(ctx, in.Claim)
	if err != nil {
		return Proven{}, err
	}
	if in.Passkey.Sealed != "" {
		in.Passkey.DID, in.Passkey.Flow, in.Passkey.AllowTakenDown = a.DID, in.Flow, in.Claim.AllowTakenDown
		p, err := s.ProvePasskey(ctx, in.Passkey)
		p.By |= ByPassword
		return p, err
	}
	proven := Proven{Account: a, Epoch: in.Claim.Epoch, By: ByPassword, Since: in.Claim.At}
	methods := f.second(a.EmailFactor)
	if len(methods) == 0 {
		return proven, nil // turned off meanwhile
	}
	attempt, err := s.attempt(ctx, a, "", Attempt{For: Page})
	if err != nil {
		return Proven{}, err
	}
	by, _, err := s.typed(ctx, a, f, methods, account.PurposeSignIn, in.Code, in.Flow, false)
	attempt.settle(ctx, err)
	if err != nil {
		return Proven{}, err
	}
	proven.By |= by
	return proven, nil
}

// claimed returns the account of a claim that holds, and its factors. ErrClaim,
// account.ErrTakenDown.
func (s *Service) claimed(ctx context.Context, c Claim) (*account.Account, Factors, error) {
	if age := s.now().Sub(c.At); age.Abs() >= ClaimLife {
		return nil, Factors{}, ErrClaim
	}
	a, err := s.Accounts.ByDID(ctx, c.DID)
	if errors.Is(err, account.ErrNotFound) {
		return nil, Factors{}, ErrClaim
	}
	if err != nil {
		return nil, Factors{}, err
	}
	cred, err := s.Accounts.Credentials(ctx, a.ID)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return nil, Factors{}, ErrClaim
	case err != nil:
		return nil, Factors{}, err
	case cred.TakenDown && !c.AllowTakenDown:
		return nil, Factors{}, account.ErrTakenDown
	case cred.Epoch != c.Epoch:
		return nil, Factors{}, ErrClaim
	}
	f, err := s.Factors.Factors(ctx, a.ID)
	return a, f, err
}

// MailCode sends a sign-in code to the person who has proven the Claim, unless one is on
// its way. ErrNoFactor: codes by e-mail are off; ErrClaim, request.ErrTooMany.
func (s *Service) MailCode(ctx context.Context, c Claim) error {
	a, _, err := s.claimed(ctx, c)
	if err != nil {
		return err
	}
	if !a.EmailFactor {
		return ErrNoFactor
	}
	return s.sendCode(ctx, a, account.PurposeSignIn)
}

// Action is what a person who is signed in on a page wants to do, for which they may have
// to prove themselves again.
type Action int

// The actions of level 1, which want the password or a passkey, and of level 2. What stops
// harm is none of them.
const (
	ChangeHandle Action = iota
	MakeAppPassword
	Deactivate
	NoticesOff
	ChangeEmail // level 2 from here on
	ChangePassword
	ChangeFactors
	Export
	Import
	RotationKeys
	CodesForTools
	DeleteAccount
)

// Level returns the level of step-up that the action wants.
func (a Action) Level() int {
	if a < ChangeEmail {
		return 1
	}
	return 2
}

// takesIdentity reports whether the action can take the account from its owner for good.
func (a Action) takesIdentity() bool {
	return a == RotationKeys || a == CodesForTools || a == DeleteAccount
}

// Standing is what decides, beside the proofs, whether an action is allowed.
type Standing struct {
	// Strong: the account has TOTP or a passkey.
	Strong bool
	// Mails: the server sends mail, and the account has an address.
	Mails bool
	// OldTOTP and OldPasskey: the account has had one of that kind for MinFactorAge.
	OldTOTP, OldPasskey bool
}

// Allows reports whether what was proven, in the last StepUpLife, suffices for an action.
// One more proof never takes anything away.
func (st Standing) Allows(a Action, by Proofs) bool {
	strong := by.Has(ByPasskey) || by.Has(ByPassword) && by.Has(ByTOTP)
	switch {
	case strong && (st.Mails || !a.takesIdentity() || by.Has(ByAged)):
		return true
	case !by.Has(ByPassword):
		return false
	case a.Level() == 1:
		return true
	case by.Has(ByRecovery) && (a == ChangeFactors || a == ChangePassword):
		return true
	case st.Strong:
		return false
	case st.Mails:
		return by.Has(ByEmail)
	default:
		return !a.takesIdentity()
	}
}

// Wants returns the methods that, with the password, allow an action; a passkey needs no
// password. None: the password alone does.
func (st Standing) Wants(a Action, f Factors) (methods []Method) {
	for _, m := range f.methods(!st.Strong && st.Mails) {
		if m == Passkeys && st.TakesPasskey(a) || m != Passkeys && st.Allows(a, ByPassword|map[Method]Proofs{
			TOTP: ByTOTP | aged(st.OldTOTP), Email: ByEmail, Recovery: ByRecovery,
		}[m]) {
			methods = append(methods, m)
		}
	}
	if st.Allows(a, ByPassword) {
		return nil
	}
	return methods
}

// TakesPasskey reports whether a passkey of the account, if it has one, allows an action.
func (st Standing) TakesPasskey(a Action) bool { return st.Allows(a, ByPasskey|aged(st.OldPasskey)) }

// Possible reports whether the owner can prove what an action wants. If not, only time or
// the operator helps.
func (st Standing) Possible(a Action, f Factors) bool {
	return st.Allows(a, ByPassword) || len(st.Wants(a, f)) > 0
}

func aged(is bool) Proofs {
	if is {
		return ByAged
	}
	return 0
}

// Stepping is what a person who is signed in on a page types in a form to step up.
type Stepping struct {
	DID    syntax.DID
	Action Action
	Flow   string
	// Before is what was proven in this browser in the last StepUpLife.
	Before Proofs
	// Password and Code are what was typed; Passkey, if Sealed is set, comes instead.
	Password, Code string
	Passkey        PasskeyAttempt
}

// StepUp proves a person again for an action, and returns all that is proven then. If the
// password is right and more is needed: *FactorNeeded with what is proven so far, and a
// code is on its way if nothing else will do. If Methods is empty then, only the operator
// can help. Errors: ErrWrong, *WrongFactor, *Paused, ErrCeremony, request.ErrTooMany,
// account.ErrNotFound.
func (s *Service) StepUp(ctx context.Context, in Stepping) (Proofs, error) {
	by := in.Before
	if in.Passkey.Sealed != "" {
		in.Passkey.DID, in.Passkey.Flow, in.Passkey.AllowTakenDown = in.DID, in.Flow, true
		p, err := s.ProvePasskey(ctx, in.Passkey)
		if by |= p.By; err != nil {
			return by, err
		}
	}
	a, err := s.Accounts.ByDID(ctx, in.DID)
	if err != nil {
		return 0, err
	}
	if in.Passkey.Sealed == "" && (!by.Has(ByPassword) || in.Password != "") {
		p, err := s.Prove(ctx, Attempt{Identifier: in.DID.String(), Password: in.Password, For: StepUp})
		if err != nil {
			return by, err
		}
		by |= p.By
	}
	f, err := s.Factors.Factors(ctx, a.ID)
	if err != nil {
		return by, err
	}
	st := s.StandingOf(a, f)
	if st.Allows(in.Action, by) {
		return by, nil
	}
	wants := st.Wants(in.Action, f)
	if len(wants) > 0 && strings.TrimSpace(in.Code) != "" {
		attempt, err := s.attempt(ctx, a, "", Attempt{For: StepUp})
		if err != nil {
			return by, err
		}
		more, _, err := s.typed(ctx, a, f, wants, account.PurposeStepUp, in.Code, in.Flow, false)
		attempt.settle(ctx, err)
		if err != nil {
			return by, err
		}
		if by |= more; st.Allows(in.Action, by) {
			return by, nil
		}
	}
	needed := &FactorNeeded{Account: a, Methods: wants}
	if len(wants) > 0 && wants[0] == Email {
		if err := s.MailStepUp(ctx, a); err != nil {
			return by, err
		}
		needed.Mailed = true
	}
	return by, needed
}

// MailStepUp mails the code for a step-up to a person whose password was right, unless one
// is on its way.
// *Paused: such codes had too many wrong guesses, so none is sent.
func (s *Service) MailStepUp(ctx context.Context, a *account.Account) error {
	if err := s.paused(a, Email); err != nil {
		return err
	}
	return s.sendCode(ctx, a, account.PurposeStepUp)
}

// StandingOf returns what decides about an account's actions.
func (s *Service) StandingOf(a *account.Account, f Factors) Standing {
	now := s.now()
	return Standing{
		Strong: f.Strong(), Mails: s.Codes.Templates != nil && a.Email != "",
		OldTOTP:    f.TOTP != nil && old(f.TOTP.ConfirmedAt, now),
		OldPasskey: slices.ContainsFunc(f.Passkeys, func(p Passkey) bool { return old(p.MadeAt, now) }),
	}
}
