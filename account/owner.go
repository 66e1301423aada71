package account

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"nestbox/mail"
	"nestbox/request"
)

// What owners do on the account page, which has proven them. Endpoints that do the same call
// these methods.

// Errors of these methods, besides those of Codes and of the Store.
var (
	// ErrSameEmail: the account has that address already.
	ErrSameEmail = errors.New("account has that address already")
	// ErrPurpose: no tool asks for a code of that purpose.
	ErrPurpose = errors.New("no such code is given out")
)

// SendCode mails a code for a purpose to the owner, whose requests are counted. Errors:
// request.ErrTooMany, those of Codes.Send.
func (s *Emails) SendCode(ctx context.Context, a *Account, p Purpose) error {
	if err := request.Admit(ctx, s.Limits, a.DID.String(), 1, CodeMails(string(p))...); err != nil {
		return err
	}
	return s.Codes.Send(ctx, a, p)
}

// ConfirmAddress marks the account's address as confirmed, by the code that was mailed
// to it. Errors: those of Codes.Check.
func (s *Emails) ConfirmAddress(ctx context.Context, a *Account, code string) error {
	proof, err := s.Codes.Check(ctx, a, PurposeConfirmEmail, code)
	if err != nil {
		return err
	}
	return s.Store.ConfirmEmail(ctx, proof, NewEntry(ctx, s.Now().UTC(), EntryEmailConfirmed, ActorOwner))
}

// AskNewEmail mails a code to an address that is to become the account's. Whether it is
// another account's is not said before the code was typed. Errors: ErrEmail, ErrSameEmail,
// request.ErrTooMany, those of Codes.Send.
func (s *Emails) AskNewEmail(ctx context.Context, a *Account, address string) error {
	email, err := newEmail(a, address)
	if err != nil {
		return err
	}
	if err := request.Admit(ctx, s.Limits, a.DID.String(), 1, addressChanges...); err != nil {
		return err
	}
	return s.Codes.SendTo(ctx, a, email)
}

// ChangeEmail gives the account another address, which is confirmed by the code that
// AskNewEmail has mailed to it. A server that sends no mail takes no code, and confirms
// nothing. The old address is notified. Errors: ErrEmail, ErrSameEmail, ErrEmailTaken,
// request.ErrTooMany, those of Codes.Check.
func (s *Emails) ChangeEmail(ctx context.Context, a *Account, address, code string) error {
	email, err := newEmail(a, address)
	if err != nil {
		return err
	}
	c := EmailChange{Email: email}
	if s.Codes.Templates == nil {
		if err := request.Admit(ctx, s.Limits, a.DID.String(), 1, addressChanges...); err != nil {
			return err
		}
		return s.setEmail(ctx, a, c)
	}
	proof, err := s.Codes.CheckTo(ctx, a, email, code)
	if err != nil {
		return err
	}
	c.Proof, c.ConfirmedAt = &proof, s.Codes.now()
	return s.setEmail(ctx, a, c)
}

// newEmail returns an address that was typed, checked. ErrEmail, ErrSameEmail.
func newEmail(a *Account, address string) (string, error) {
	email, err := CheckEmail(address)
	if err == nil && EmailKey(email) == EmailKey(a.Email) {
		err = ErrSameEmail
	}
	return email, err
}

// setEmail makes a change of an account's address, or of what it is used for, and notifies
// the owner at the old address, if it is confirmed.
func (s *Emails) setEmail(ctx context.Context, a *Account, c EmailChange) error {
	kind, notice, detail := EntryEmailChanged, mail.NoticeEmail, c.Email
	switch {
	case c.Factor == nil && !c.ConfirmedAt.IsZero():
		notice = mail.NoticeNewEmail
	case c.Factor == nil:
	case *c.Factor:
		kind, notice, detail = EntryFactorOn, mail.NoticeFactorOn, ""
	default:
		kind, notice, detail = EntryFactorOff, mail.NoticeFactorOff, ""
	}
	e := NewEntry(ctx, s.Now().UTC(), kind, ActorOwner)
	mails := s.Notices.Of(a, notice, e, detail)
	err := s.Store.SetEmail(ctx, a.ID, c, e, mails...)
	if err != nil {
		s.Notices.Unsent(a, notice, e, mails)
	}
	return err
}

// ChoosePassword sets a new password. It ends all sessions, and the sign-ins on every
// browser, and returns the epoch of the new credentials, for a sign-in that follows.
// Errors: those of CheckChosenPassword; ErrPasswordChanged: another one replaced it at once.
func (s *Emails) ChoosePassword(ctx context.Context, a *Account, password string) (epoch int64, err error) {
	if err := CheckChosenPassword(password, a.Handle.String(), a.Email); err != nil {
		return 0, err
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return 0, fmt.Errorf("hash password: %w", err)
	}
	e := NewEntry(ctx, s.Now().UTC(), EntryPasswordChanged, ActorOwner)
	if err := s.Store.SetPassword(ctx, a.ID, hash, 0, e, s.Notices.Of(a, mail.NoticePassword, e, "")...); err != nil {
		return 0, err
	}
	cred, err := s.Store.Credentials(ctx, a.ID)
	if err == nil && cred.PasswordHash != hash {
		err = ErrPasswordChanged
	}
	return cred.Epoch, err
}

// SetNotices turns the mails about changes of the account on or off; the last one says that
// they are off. What is so already is no change.
func (s *Emails) SetNotices(ctx context.Context, a *Account, on bool) error {
	if a.NoticesOff != on {
		return nil
	}
	kind := EntryNoticesOn
	if !on {
		kind = EntryNoticesOff
	}
	e := NewEntry(ctx, s.Now().UTC(), kind, ActorOwner)
	if on {
		return s.Store.SetNotices(ctx, a.ID, true, e)
	}
	mails := s.Notices.Of(a, mail.NoticeNoticesOff, e, "")
	err := s.Store.SetNotices(ctx, a.ID, false, e, mails...)
	if err != nil {
		s.Notices.Unsent(a, mail.NoticeNoticesOff, e, mails)
	}
	return err
}

// GiveCode makes a code without a mail, and returns it: for an owner one of ToolPurposes, for
// the operator one of OperatorPurposes. The owner's requests are counted. Errors: ErrPurpose,
// request.ErrTooMany, ErrNotFound.
func (s *Emails) GiveCode(ctx context.Context, a *Account, p Purpose, by Actor) (string, error) {
	purposes := OperatorPurposes()
	if by == ActorOwner {
		purposes = ToolPurposes()
	}
	if !slices.Contains(purposes, p) {
		return "", ErrPurpose
	}
	if by == ActorOwner {
		if err := request.Admit(ctx, s.Limits, a.DID.String(), 1, CodeMails("given-"+string(p))...); err != nil {
			return "", err
		}
	}
	e := NewEntry(ctx, s.Now().UTC(), EntryCodeGiven, by)
	e.Reason = string(p)
	return s.Codes.Give(ctx, a, p, e, s.Notices.Of(a, mail.NoticeCodeGiven, e, string(p))...)
}
