package admin

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/firehose"
	"nestbox/hosting"
	"nestbox/mail"
	"nestbox/repo"
	"nestbox/session"
)

// Service acts for the operator. Its fields are set once.
type Service struct {
	Store    Store
	Accounts account.Store
	Hasher   *account.Hasher
	Hosting  *hosting.Service
	Sessions *session.Service
	Keyring  *auth.Keyring
	Repos    *repo.Service
	Firehose *firehose.Hub
	// LogSize returns the size of the database's write-ahead log, in bytes.
	LogSize func() int64
	Crawler *firehose.Crawler
	// Notices tells owners of what the operator changes.
	Notices *account.Notices
	// TestMail sends a test message now.
	TestMail func(ctx context.Context, to string) (MailTested, error)
	// RotationConfigured: the PLC rotation key is one of the settings.
	RotationConfigured bool
	// Doctor looks at what the server needs, and what others need of it.
	Doctor func(ctx context.Context) []Finding
	Now    func() time.Time
}

func (s *Service) event(ctx context.Context, kind account.EventKind) account.Event {
	return account.NewEvent(ctx, s.Now().UTC(), kind, account.ActorAdmin)
}

// Find returns the account that an operator names by DID, handle or e-mail.
func (s *Service) Find(ctx context.Context, who string) (*account.Account, error) {
	return account.Find(ctx, s.Accounts, strings.ToLower(strings.TrimPrefix(who, "@")))
}

// Takedown takes an account down, or lifts that. A takedown ends every session.
func (s *Service) Takedown(ctx context.Context, did syntax.DID, applied bool, ref string) (*account.Account, error) {
	kind := account.EventTakedown
	if !applied {
		kind, ref = account.EventTakedownLifted, ""
	}
	return s.setStatus(ctx, did, account.StatusChange{Takedown: &account.Applied{Applied: applied, Ref: ref}}, kind)
}

// Suspend suspends an account, or lifts that. Sessions go on, and show it.
func (s *Service) Suspend(ctx context.Context, did syntax.DID, applied bool) (*account.Account, error) {
	kind := account.EventSuspended
	if !applied {
		kind = account.EventSuspensionLifted
	}
	return s.setStatus(ctx, did, account.StatusChange{Suspended: &applied}, kind)
}

// Deactivate deactivates an account for its owner, or activates it: see
// hosting.Service.Activate.
func (s *Service) Deactivate(ctx context.Context, did syntax.DID, applied bool) (*account.Account, error) {
	if applied {
		return s.setStatus(ctx, did, account.StatusChange{Deactivated: &applied}, account.EventDeactivated)
	}
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return nil, err
	}
	if err := s.Hosting.Activate(ctx, a, s.event(ctx, account.EventActivated)); err != nil {
		return nil, err
	}
	return s.Accounts.ByDID(ctx, did)
}

func (s *Service) setStatus(ctx context.Context, did syntax.DID, c account.StatusChange, kind account.EventKind) (*account.Account, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return nil, err
	}
	e := s.event(ctx, kind)
	if c.Takedown != nil {
		e.Ref = c.Takedown.Ref
	}
	return s.Accounts.SetStatus(ctx, a.ID, c, e)
}

// SetPassword gives an account a new password and ends all its sessions.
func (s *Service) SetPassword(ctx context.Context, did syntax.DID, password string) error {
	if err := account.CheckNewPassword(password); err != nil {
		return err
	}
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return err
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return err
	}
	e := s.event(ctx, account.EventPasswordChanged)
	return s.Accounts.SetPassword(ctx, a.ID, hash, 0, e, s.Notices.Of(a, mail.NoticePassword, e, "")...)
}

// Delete removes an account for good.
func (s *Service) Delete(ctx context.Context, did syntax.DID) error {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return err
	}
	// Before, so that none is deleted that the log does not tell of.
	if err := s.Store.Note(ctx, s.action(ctx, ActionDelete, a.DID, "", "")); err != nil {
		return err
	}
	return s.Accounts.Delete(ctx, a.ID, s.Now())
}

// isUnknown says whether err is about an account that does not exist.
func isUnknown(err error) bool { return errors.Is(err, account.ErrNotFound) }
