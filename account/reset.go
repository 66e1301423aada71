package account

import (
	"context"
	"errors"
	"fmt"

	"nestbox/mail"
	"nestbox/request"
)

// AskReset sends a code for a new password to an address. What it returns, and the time
// that it takes, are the same whether or not the address is anybody's. Beyond the limits of
// one address no mail is sent, and the caller does not learn it. Errors: request.ErrTooMany,
// ErrNoMail, mail.ErrFull.
func (s *Emails) AskReset(ctx context.Context, address string) error {
	client := request.ClientOf(ctx)
	if err := request.AdmitNetwork(ctx, s.Limits, 1, resetRequests...); err != nil {
		return err
	}
	email := CleanIdentifier(address)
	a, err := s.Store.ByEmail(ctx, email)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if a == nil || !s.mayReset(client, EmailKey(email)) {
		err = s.Codes.Pretend(ctx, PurposeResetPassword)
	} else {
		err = s.Codes.Send(ctx, a, PurposeResetPassword)
	}
	if errors.Is(err, ErrNotFound) { // deleted meanwhile: nobody's
		err = nil
	}
	return err
}

// mayReset counts a mail with a code for a new password: for its address and the
// client's network, and of what those leave, for its address.
func (s *Emails) mayReset(client request.Client, key string) bool {
	if client.Unlimited {
		return true
	}
	both := s.Limits.TakeKeys(client.Network().Keys(key+" "), 1, CodeMails(string(PurposeResetPassword))...)
	return both.Allowed && s.Limits.Take(key, resetMails).Allowed
}

// Reset sets a new password by a code that AskReset has sent. It ends all sessions, and the
// sign-ins on browsers. Errors: request.ErrTooMany, those of CheckNewPassword,
// ErrCodeInvalid, ErrCodeExpired.
func (s *Emails) Reset(ctx context.Context, code, password string) error {
	return s.reset(ctx, code, password, func(*Account) error { return CheckNewPassword(password) })
}

// ResetChosen is Reset for a password that a person chooses on a page: it returns the errors of
// CheckChosenPassword too.
func (s *Emails) ResetChosen(ctx context.Context, code, password string) error {
	return s.reset(ctx, code, password, func(a *Account) error { return CheckChosenPassword(password, a.Handle.String(), a.Email) })
}

// reset checks the password twice: at first for an account without names, so that nothing is
// looked up for one that is never good.
func (s *Emails) reset(ctx context.Context, code, password string, check func(*Account) error) error {
	if err := request.AdmitNetwork(ctx, s.Limits, 1, resets...); err != nil {
		return err
	}
	if err := check(&Account{}); err != nil {
		return err
	}
	a, proof, err := s.Codes.Find(ctx, PurposeResetPassword, code)
	if err != nil {
		return err
	}
	request.SetAccount(ctx, a.DID.String())
	if err := check(a); err != nil {
		return err
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	e := NewEntry(ctx, s.Now().UTC(), EntryPasswordChanged, ActorOwner)
	err = s.Store.ResetPassword(ctx, proof, hash, e, s.Notices.Of(a, mail.NoticePassword, e, "")...)
	if errors.Is(err, ErrNotFound) {
		err = ErrCodeInvalid // the account is gone, and its code with it
	}
	return err
}
