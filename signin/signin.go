package signin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"nestbox/account"
	"nestbox/internal/seal"
	"nestbox/ratelimit"
)

// Errors of Prove, besides those in claim.go, account.ErrTakenDown, account.ErrHeld, those
// of account.Codes and request.ErrTooMany. Any other is a dependency that failed.
var (
	// ErrWrong: no such account, or not its password.
	ErrWrong = errors.New("invalid identifier or password")
	// ErrTooLong: the password has more than account.MaxUsedPassword characters.
	ErrTooLong = errors.New("password is too long")
)

// Purpose is what a person proves themselves for. It decides what proves them.
type Purpose int

// The purposes.
const (
	// Session opens a session. The account's password or one of its app passwords
	// proves the person; its own needs a second factor if one is on, as Attempt.Code:
	// FactorNeeded. ErrAppsOff; account.ErrTakenDown unless Attempt.AllowTakenDown.
	Session Purpose = iota
	// Deletion deletes the account. Only its own password proves the person, with the
	// code that was sent for this. The identifier is a DID: account.ErrNotFound if no
	// account has it. account.ErrHeld while a takedown or a suspension stands.
	Deletion
	// Page signs in on a page of ours. Only the account's own password proves the person:
	// ErrAppPassword. The second factor has a step of its own: FactorNeeded, whose Claim
	// Continue takes. account.ErrTakenDown unless Attempt.AllowTakenDown.
	Page
	// StepUp proves a person again who is signed in on a page: see Service.StepUp. The
	// identifier is a DID: account.ErrNotFound.
	StepUp
)

// Attempt is what somebody claims, as it was typed.
type Attempt struct {
	Identifier string // handle, e-mail address or DID
	Password   string
	// Code is the code of a second factor; empty if none was asked for yet.
	Code string
	For  Purpose
	// AllowTakenDown accepts the account's own password for Session and Page if the account
	// is taken down.
	AllowTakenDown bool
	// Flow names the page that the attempt comes from: a code that was accepted from it
	// passes from it again for account.RepeatFor, if the answer was lost. Empty: a code
	// passes once.
	Flow string
	// Trusted reports whether the browser is trusted with an account, so that Page needs no
	// second factor; nil for never.
	Trusted func(context.Context, *account.Account) (bool, error)
}

// Proven is a person that Prove has proven: the owner of an account, or an app that
// acts for them.
type Proven struct {
	Account *account.Account
	// Epoch is that of the credentials that were checked: see account.Credentials.
	Epoch int64
	// AppPassword is the one that was typed, nil for the account's own password.
	AppPassword *account.AppPassword
	// By is what proved the person, none for an app password.
	By Proofs
	// Since is when the older of two proofs was given, zero for just now.
	Since time.Time
	// Code proves the code that came with the password, nil if none was needed. The
	// change that follows uses it up.
	Code *account.Proof
}

// Entry returns the sign-in as the trail records it.
func (p Proven) Entry(ctx context.Context, now time.Time) account.Entry {
	e := account.NewEntry(ctx, now, account.EntrySignIn, account.ActorOwner)
	switch {
	case p.AppPassword != nil:
		e.Reason = fmt.Sprintf("app password %q", p.AppPassword.Name)
	case p.By == 0:
		e.Reason = "password" // just chosen, at sign-up
	default:
		e.Reason = p.By.String()
	}
	return e
}

// Service proves people. Its fields are set once.
type Service struct {
	Accounts account.Store
	Hasher   *account.Hasher
	// Codes makes and checks the codes of sign-ins that need one.
	Codes *account.Codes
	// Limits counts attempts; nil counts nothing.
	Limits *ratelimit.Limiter
	// Factors keeps second factors, whose secrets Box seals.
	Factors Store
	Box     *seal.Box
	// WebAuthn asks for passkeys, and checks their answers.
	WebAuthn *WebAuthn
	// Issuer names the server in authenticator apps.
	Issuer string
	// Notices tell owners what happened to their factors.
	Notices *account.Notices
	// Guesses counts wrong second factors, whatever else is limited.
	Guesses *ratelimit.Limiter
	// Noted keeps the trail from being filled by somebody who guesses codes.
	Noted *ratelimit.Limiter
	Now   func() time.Time
	Log   *slog.Logger
}

// Prove proves the owner of an account, or an app of theirs, for a purpose. The change
// that follows must hold to Proven.Epoch, and prove again if it has changed meanwhile.
// Callers that open a session: session.Service.Open.
func (s *Service) Prove(ctx context.Context, in Attempt) (Proven, error) {
	if utf8.RuneCountInString(in.Password) > account.MaxUsedPassword {
		return Proven{}, ErrTooLong
	}
	identifier, signsIn := in.Identifier, in.For == Session || in.For == Page
	if signsIn {
		identifier = account.CleanIdentifier(in.Identifier)
	}
	a, err := account.Find(ctx, s.Accounts, identifier)
	if err != nil && (!signsIn || !errors.Is(err, account.ErrNotFound)) {
		return Proven{}, err
	}
	attempt, err := s.attempt(ctx, a, identifier, in)
	if err != nil {
		return Proven{}, err
	}
	proven, err := s.prove(ctx, a, in)
	if signsIn && errors.Is(err, account.ErrNotFound) {
		err = ErrWrong // deleted meanwhile
	}
	attempt.settle(ctx, err)
	return proven, err
}

// prove checks what was typed. A password with a NUL proves nothing, whatever stands
// before it: scrypt, the hash of imported passwords and app passwords, ignores trailing
// ones.
func (s *Service) prove(ctx context.Context, a *account.Account, in Attempt) (Proven, error) {
	if a == nil || strings.ContainsRune(in.Password, 0) {
		return Proven{}, s.refuse(ctx, in.Password)
	}
	cred, err := s.Accounts.Credentials(ctx, a.ID)
	if err != nil {
		return Proven{}, err
	}
	p := Proven{Account: a, Epoch: cred.Epoch}
	if in.For == Session || in.For == Page {
		if p.AppPassword, err = s.Hasher.FindAppPassword(ctx, a.DID, cred.AppPasswords, in.Password); err != nil {
			return Proven{}, err
		}
	}
	if p.AppPassword == nil {
		ok, err := s.checkPassword(ctx, a, cred.PasswordHash, in.Password)
		if err != nil {
			return Proven{}, err
		}
		if !ok {
			return Proven{}, ErrWrong
		}
		p.By = ByPassword
	}
	switch {
	case in.For == StepUp:
		return p, nil
	case in.For == Deletion:
		if err := a.MayLeave(); err != nil {
			return Proven{}, err
		}
	case cred.TakenDown && p.AppPassword != nil:
		return Proven{}, s.refuse(ctx, in.Password)
	case cred.TakenDown && !in.AllowTakenDown:
		return Proven{}, account.ErrTakenDown
	case in.For == Page && p.AppPassword != nil:
		return Proven{}, ErrAppPassword
	}
	if p.AppPassword == nil {
		err = s.second(ctx, a, in, &p)
	} else {
		s.upgradeApp(ctx, a, p.AppPassword, in.Password)
	}
	return p, err
}

// upgradeApp replaces the hash of an imported app password, now that the password is at hand.
func (s *Service) upgradeApp(ctx context.Context, a *account.Account, p *account.AppPassword, typed string) {
	if !p.Imported() {
		return
	}
	if clean := account.TypedAppPassword(typed); clean != "" {
		typed = clean
	}
	err := s.Accounts.UpgradeAppPassword(ctx, p.ID, p.Hash, account.HashAppPassword(a.DID, typed))
	if err != nil && !errors.Is(err, account.ErrPasswordChanged) {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "hash of an app password not upgraded", slog.String("cause", err.Error()))
	}
}

// refuse returns ErrWrong after as much work as verifying a password takes.
func (s *Service) refuse(ctx context.Context, password string) error {
	if err := s.Hasher.VerifyDummy(ctx, password); err != nil {
		return err
	}
	return ErrWrong
}

// checkPassword verifies the account's own password and replaces a hash of an
// older form, now that the password is at hand.
func (s *Service) checkPassword(ctx context.Context, a *account.Account, hash, password string) (bool, error) {
	ok, upgrade, err := s.Hasher.Verify(ctx, hash, password)
	if err != nil || !ok || !upgrade {
		return ok, err
	}
	better, err := s.Hasher.Hash(ctx, password)
	if err == nil {
		err = s.Accounts.UpgradeHash(ctx, a.ID, hash, better)
	}
	if err != nil && !errors.Is(err, account.ErrPasswordChanged) {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "password hash not upgraded", slog.String("cause", err.Error()))
	}
	return true, nil
}

func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }
