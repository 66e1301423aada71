package signin

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"nestbox/account"
	"nestbox/ratelimit"
	"nestbox/request"
)

// codeMails bounds the codes that are sent to one account; only somebody who knows
// its password can cause them.
var codeMails = []ratelimit.Limit{
	{Name: "sign-in-codes-1h", Points: 10, Window: time.Hour},
	{Name: "sign-in-codes-1d", Points: 30, Window: 24 * time.Hour},
}

// sameCode is how long after sending a code we do not send another.
const sameCode = time.Minute

// refused limits how often one network's wrong codes of an account are written to its
// trail.
var refused = ratelimit.Limit{Name: "code-refused", Points: 1, Window: time.Hour}

// second checks what comes with the account's own password, if the purpose or the account
// needs it, and puts it in p.
func (s *Service) second(ctx context.Context, a *account.Account, in Attempt, p *Proven) error {
	switch in.For {
	case Deletion:
		proof, err := s.Dangerous(ctx, a, account.PurposeDeleteAccount, in.Code, in.Flow)
		p.Code = &proof
		return err
	case StepUp:
		return nil
	case Session, Page:
	}
	f, err := s.Factors.Factors(ctx, a.ID)
	if err != nil {
		return err
	}
	if in.For == Session && f.AppsOff {
		return ErrAppsOff
	}
	methods := f.second(a.EmailFactor)
	if len(methods) == 0 {
		return nil
	}
	if in.For == Session && strings.TrimSpace(in.Code) != "" {
		var by Proofs
		by, p.Code, err = s.typed(ctx, a, f, methods, account.PurposeSignIn, in.Code, in.Flow, true)
		p.By |= by
		return err
	}
	if in.For == Page && in.Trusted != nil {
		if ok, err := in.Trusted(ctx, a); ok || err != nil {
			return err
		}
	}
	needed := &FactorNeeded{
		Account: a, Methods: methods,
		Claim: Claim{DID: a.DID, Epoch: p.Epoch, At: s.Now().UTC().Truncate(time.Millisecond), AllowTakenDown: in.AllowTakenDown},
	}
	// On a page another method is asked for first, if there is one; apps cannot choose.
	if a.EmailFactor && (in.For == Session || methods[0] == Email) {
		err := s.sendCode(ctx, a, account.PurposeSignIn)
		if err != nil && !slices.ContainsFunc(methods, func(m Method) bool { return m == TOTP || m == Passkeys && in.For == Page }) {
			return err
		}
		needed.Mailed = err == nil
	}
	return needed
}

// typed checks what was typed as the second factor of one of the methods: six digits are
// from the authenticator app, ten letters and digits a recovery code or a mailed one,
// whichever fits; spaces and dashes do not matter. A code is used up in the flow, except
// the mailed one if keep is set: the change that follows uses up its proof.
func (s *Service) typed(
	ctx context.Context, a *account.Account, f Factors, methods []Method, purpose account.Purpose, code, flow string, keep bool,
) (Proofs, *account.Proof, error) {
	offers := func(m Method) bool { return slices.Contains(methods, m) }
	if six := sixDigits(code); six != "" && offers(TOTP) {
		by, err := s.useTOTP(ctx, a, six, flow)
		return by, nil, err
	}
	ten := account.CleanCode(code)
	if ten == "" {
		return 0, nil, &WrongFactor{Method: methods[0], Left: maxGuesses, Cause: account.ErrCodeInvalid}
	}
	fits, err := s.fitsRecovery(a, f, ten, flow)
	switch {
	case err != nil:
		return 0, nil, err
	case offers(Recovery) && (fits || !offers(Email)):
		return ByRecovery, nil, s.useRecovery(ctx, a, ten, flow)
	case !offers(Email):
		return 0, nil, &WrongFactor{Method: methods[0], Left: maxGuesses, Cause: account.ErrCodeInvalid}
	case !keep:
		return ByEmail, nil, s.guess(ctx, a, Email, func() error { return s.Codes.Use(ctx, a, purpose, ten, flow) })
	}
	var proof account.Proof
	err = s.guess(ctx, a, Email, func() (err error) { proof, err = s.Codes.Check(ctx, a, purpose, ten); return err })
	if err != nil {
		return 0, nil, err
	}
	return ByEmail, &proof, nil
}

// Dangerous checks what an app sends as the code of a call that can end the account, or
// take it away: the mailed one and, where the owner wants that, six digits of the
// authenticator app behind it. The change that follows uses up the mailed one.
// ErrDigitsNeeded, WrongFactor, Paused, account.ErrCodeExpired, account.ErrNotFound.
func (s *Service) Dangerous(ctx context.Context, a *account.Account, purpose account.Purpose, code, flow string) (account.Proof, error) {
	f, err := s.Factors.Factors(ctx, a.ID)
	if err != nil {
		return account.Proof{}, err
	}
	six := ""
	if f.DangerousFactor && f.TOTP != nil {
		all := bare(code)
		if len(all) != codeLength+digits {
			return account.Proof{}, ErrDigitsNeeded
		}
		if code, six = all[:codeLength], sixDigits(all[codeLength:]); six == "" {
			return account.Proof{}, ErrDigitsNeeded
		}
	}
	proof, err := s.Codes.Check(ctx, a, purpose, code)
	if err == nil && six != "" {
		_, err = s.useTOTP(ctx, a, six, flow)
	} else if WrongCode(err) {
		s.noteRefused(ctx, a, string(purpose))
	}
	return proof, err
}

const (
	codeLength = 10 // of a code that is mailed, and of a recovery code
	digits     = 6
)

// bare returns what was typed without white space, dashes and invisible characters, and in
// the plain form of wide letters and digits; empty if it is too long for a code.
func bare(typed string) string {
	if len(typed) > 20*codeLength {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, norm.NFKC.String(typed))
}

// sixDigits returns the digits of a code of an authenticator app as it was typed; empty if
// it is none.
func sixDigits(typed string) string {
	s := bare(typed)
	if len(s) != digits || strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		return ""
	}
	return s
}

// noteRefused records that somebody knows the password of an account, but not the code,
// or has not the passkey. what names it. A failure to write it does not change the answer
// to the client.
func (s *Service) noteRefused(ctx context.Context, a *account.Account, what string) {
	e := account.NewEntry(ctx, s.now(), account.EntryCodeRefused, account.ActorOwner)
	if !s.Noted.Take(what+a.DID.String()+" "+e.Network, refused).Allowed {
		return
	}
	switch what {
	case string(account.PurposeDeleteAccount):
		e.Reason = "right password, wrong code to delete the account"
	case string(account.PurposePLCOperation):
		e.Reason = "wrong code to change the identity"
	case string(Passkeys):
		e.Reason = "a passkey's wrong answer"
	default:
		e.Reason = "right password, wrong code to sign in"
	}
	if err := s.Accounts.AddEntry(ctx, a.ID, e); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelError, "trail not written", slog.String("cause", err.Error()))
	}
}

// sendCode sends a code for a purpose unless one is on its way.
func (s *Service) sendCode(ctx context.Context, a *account.Account, p account.Purpose) error {
	recent, err := s.Codes.SentWithin(ctx, a, p, sameCode)
	if err != nil || recent {
		return err
	}
	if err := request.Charge(ctx, s.Limits, a.DID.String(), 1, codeMails...); err != nil {
		return err
	}
	return s.Codes.Send(ctx, a, p)
}

// wrongFactor returns the error of a wrong guess.
func wrongFactor(err error, m Method, left int) error {
	if w, ok := errors.AsType[*WrongFactor](err); ok {
		w.Left = left
		return w
	}
	return &WrongFactor{Method: m, Left: left, Cause: err}
}
