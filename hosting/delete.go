package hosting

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/signin"
)

// Delete deletes an account for its owner, who must know its password and the code that
// requestAccountDelete sent. Errors: those of signin.Service.Prove for signin.Deletion.
func (s *Service) Delete(ctx context.Context, did syntax.DID, password, code string) error {
	in := signin.Attempt{Identifier: did.String(), Password: password, Code: code, For: signin.Deletion, Flow: rand.Text()}
	const tries = 2
	for range tries {
		proven, err := s.SignIns.Prove(ctx, in)
		if err != nil {
			return err
		}
		l := account.Leaving{Epoch: proven.Epoch, Code: *proven.Code}
		err = s.Accounts.Leave(ctx, proven.Account.ID, l, s.now(), s.farewell(ctx, proven.Account, account.ActorOwner)...)
		if !errors.Is(err, account.ErrPasswordChanged) && !errors.Is(err, account.ErrCodeInvalid) {
			return err
		}
		// Password or code changed meanwhile: judge by what is true now.
	}
	return signin.ErrWrong // overtaken each time
}

// farewell returns the mail that tells an owner that the account is deleted.
func (s *Service) farewell(ctx context.Context, a *account.Account, by account.Actor) []mail.Message {
	return s.Notices.Of(a, mail.NoticeDeleted, account.NewEntry(ctx, s.now(), "", by), "")
}

// DeleteDue deletes the accounts whose owners deactivated them and asked for
// deletion by now, unless the clock cannot be trusted.
func (s *Service) DeleteDue(ctx context.Context) error {
	for {
		now := s.now()
		if !s.sure() {
			return nil
		}
		a, err := s.Store.DeleteDue(ctx, now, func(a *account.Account) []mail.Message { return s.farewell(ctx, a, account.ActorServer) })
		if err != nil || a == nil {
			return err
		}
		s.Log.LogAttrs(ctx, slog.LevelInfo, "account deleted as its owner wished", slog.String("did", a.DID.String()))
	}
}
