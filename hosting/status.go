package hosting

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/mail"
	"nestbox/request"
)

// Deactivate deactivates an account for its owner; after, if it is not zero, is when it is
// to be deleted. No session ends. The owner is notified: request.ErrTooMany if a deletion
// could not be, since nothing is deleted without a notice.
func (s *Service) Deactivate(ctx context.Context, a *account.Account, after time.Time) error {
	e := account.NewEntry(ctx, s.now(), account.EntryDeactivated, account.ActorOwner)
	notice, when := mail.NoticeDeactivated, ""
	if !after.IsZero() {
		notice, when = mail.NoticeDeletion, after.Format(time.RFC3339)
		e.Reason = "to be deleted after " + after.Format(time.RFC3339)
	}
	var mails []mail.Message
	if a.DeactivatedAt.IsZero() || !after.Equal(a.DeleteAfter) { // else nothing is new
		mails = s.Notices.Of(a, notice, e, when)
		if len(mails) == 0 && notice == mail.NoticeDeletion && s.Notices.Wanted(a, notice) {
			return request.ErrTooMany{Wait: time.Hour}
		}
	}
	_, err := s.Accounts.SetStatus(ctx, a.ID, account.StatusChange{Deactivated: new(true), DeleteAfter: &after}, e, mails...)
	if err != nil {
		s.Notices.Unsent(a, notice, e, mails)
	}
	return err
}

// Activate activates a deactivated account, whose DID document must name this
// server and the account's key. Errors: those for which Elsewhere holds,
// account.ErrTakenDown, account.ErrNotFound.
func (s *Service) Activate(ctx context.Context, a *account.Account, e account.Entry) error {
	d, err := s.pointsHere(ctx, a)
	if err != nil {
		return err
	}
	kept, err := identity.Kept(a.DID, d.Raw)
	if err != nil {
		return err
	}
	if err := s.Documents.SaveSeen(ctx, subject(a), kept, s.handleInvalid(ctx, a, d.Handle()), s.now()); err != nil {
		return err
	}
	_, err = s.Accounts.SetStatus(ctx, a.ID, account.StatusChange{Deactivated: new(false)}, e)
	return err
}

// handleInvalid reports whether an account's handle is known not to verify, by the
// handle that its document names. A handle outside this server's domains that did not
// verify is resolved again; if that cannot be done, the check of identities finds
// out.
func (s *Service) handleInvalid(ctx context.Context, a *account.Account, named syntax.Handle) bool {
	if named != a.Handle {
		return true
	}
	if !a.HandleInvalid || account.IsServiceHandle(a.Handle, s.Domains) {
		return false
	}
	back, err := s.Resolver.ProvenHandle(ctx, a.Handle)
	return err != nil || back != a.DID
}

// Leave deletes an account for its owner, whom a page has proven, by the code that was sent
// for this. Errors: account.ErrHeld, account.ErrNotFound, those of
// account.Codes.Check.
func (s *Service) Leave(ctx context.Context, a *account.Account, code string) error {
	if err := a.MayLeave(); err != nil {
		return err
	}
	cred, err := s.Accounts.Credentials(ctx, a.ID)
	if err != nil {
		return err
	}
	proof, err := s.Codes.Check(ctx, a, account.PurposeDeleteAccount, code)
	if err != nil {
		return err
	}
	return s.Accounts.Leave(ctx, a.ID, account.Leaving{Epoch: cred.Epoch, Code: proof}, s.now(), s.farewell(ctx, a, account.ActorOwner)...)
}
