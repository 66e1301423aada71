package signin

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/ratelimit"
	"nestbox/request"
)

// WrongCode reports whether err is about the code that came with a sign-in.
func WrongCode(err error) bool {
	return errors.Is(err, account.ErrCodeInvalid) || errors.Is(err, account.ErrCodeExpired)
}

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

// factor checks the code that comes with the account's own password, if the purpose or
// the account needs one.
func (s *Service) factor(ctx context.Context, a *account.Account, in Attempt) (*account.Proof, error) {
	purpose := account.PurposeSignIn
	switch {
	case in.For == Deletion:
		purpose = account.PurposeDeleteAccount
	case !a.EmailFactor:
		return nil, nil //nolint:nilnil // nothing to prove
	case strings.TrimSpace(in.Code) == "":
		return nil, s.sendCode(ctx, a)
	}
	proof, err := s.Codes.Check(ctx, a, purpose, in.Code)
	if WrongCode(err) {
		s.noteRefused(ctx, a, purpose)
	}
	if err != nil {
		return nil, err
	}
	return &proof, nil
}

// noteRefused records that somebody knows the password of an account, but not the code
// for a purpose. A failure to write it does not change the answer to the client.
func (s *Service) noteRefused(ctx context.Context, a *account.Account, p account.Purpose) {
	e := account.NewEntry(ctx, s.Now().UTC().Truncate(time.Millisecond), account.EntryCodeRefused, account.ActorOwner)
	if !s.Noted.Take(string(p)+a.DID.String()+" "+e.Network, refused).Allowed {
		return
	}
	e.Reason = "right password, wrong code to sign in"
	if p == account.PurposeDeleteAccount {
		e.Reason = "right password, wrong code to delete the account"
	}
	if err := s.Accounts.AddEntry(ctx, a.ID, e); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelError, "trail not written", slog.String("cause", err.Error()))
	}
}

// sendCode sends a code for a sign-in unless one is on its way, and returns
// ErrCodeNeeded.
func (s *Service) sendCode(ctx context.Context, a *account.Account) error {
	recent, err := s.Codes.SentWithin(ctx, a, account.PurposeSignIn, sameCode)
	if err != nil {
		return err
	}
	if !recent {
		if err := request.Charge(ctx, s.Limits, a.DID.String(), 1, codeMails...); err != nil {
			return err
		}
		if err := s.Codes.Send(ctx, a, account.PurposeSignIn); err != nil {
			return err
		}
	}
	return ErrCodeNeeded
}
