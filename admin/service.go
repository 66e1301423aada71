package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/blob"
	"nestbox/device"
	"nestbox/firehose"
	"nestbox/hosting"
	"nestbox/mail"
	"nestbox/oauth/client"
	"nestbox/repo"
	"nestbox/session"
	"nestbox/signin"
)

// Service acts for the operator. Its fields are set once.
type Service struct {
	Store    Store
	Entries  EntranceStore
	Views    ViewStore
	Accounts account.Store
	Hasher   *account.Hasher
	Hosting  *hosting.Service
	Sessions *session.Service
	SignIns  *signin.Service
	// Browsers returns the browsers on which an account is signed in, or trusted.
	Browsers func(ctx context.Context, accountID int64) ([]device.Browser, error)
	Keyring  *auth.Keyring
	Repos    *repo.Service
	Blobs    blob.Store
	// OpenBlob returns a blob and its content: blob.Service.Open.
	OpenBlob func(ctx context.Context, accountID int64, id cid.Cid) (blob.Blob, blob.File, error)
	Firehose *firehose.Hub
	// Held returns an error while no event can be written to the event log.
	Held func() error
	// LogSize returns the size of the database's write-ahead log, in bytes.
	LogSize func() int64
	Crawler *firehose.Crawler
	// Notices notifies owners of what the operator changes.
	Notices *account.Notices
	// Emails makes codes for owners who get no mail.
	Emails *account.Emails
	// Codes sends owners codes for new passwords.
	Codes *account.Codes
	// TestMail sends a test message now.
	TestMail func(ctx context.Context, to string) (MailTested, error)
	// RotationConfigured: the PLC rotation key is one of the settings.
	RotationConfigured bool
	// Doctor checks the server's setup and what it depends on.
	Doctor func(ctx context.Context) []Finding
	// Health reports whether the server works.
	Health func() Health
	// Examiner keeps the result of its last look.
	Examiner *Examiner[[]Finding]
	// Disks keeps what the last look at the disks found.
	Disks *Examiner[Storage]
	// Clients fetches the documents of OAuth clients.
	Clients *client.Service
	// Outbox sends what waits.
	Outbox *mail.Outbox
	Now    func() time.Time
}

func (s *Service) entry(ctx context.Context, kind account.EntryKind) account.Entry {
	return account.NewEntry(ctx, s.Now().UTC(), kind, account.ActorAdmin)
}

// Find returns the account that an operator names by DID, handle or e-mail.
func (s *Service) Find(ctx context.Context, who string) (*account.Account, error) {
	return account.Find(ctx, s.Accounts, strings.ToLower(strings.TrimPrefix(who, "@")))
}

// Subject returns the DID that an operator names: an account's, or a DID whose account
// is gone.
func (s *Service) Subject(ctx context.Context, who string) (syntax.DID, error) {
	a, err := s.Find(ctx, who)
	if err == nil {
		return a.DID, nil
	}
	if did, bad := syntax.ParseDID(who); bad == nil && isUnknown(err) {
		return did, nil
	}
	return "", fmt.Errorf("%q: %w", who, err)
}

// Takedown takes an account down, or lifts the takedown. A takedown ends every
// session.
func (s *Service) Takedown(ctx context.Context, did syntax.DID, applied bool, ref string) (*account.Account, error) {
	kind := account.EntryTakedown
	if !applied {
		kind, ref = account.EntryTakedownLifted, ""
	}
	e := s.entry(ctx, kind)
	e.Ref = ref
	return s.measure(ctx, did, account.StatusChange{Takedown: &account.Applied{Applied: applied, Ref: ref}}, e)
}

// Suspend suspends an account, or lifts the suspension. Sessions go on, and
// show it.
func (s *Service) Suspend(ctx context.Context, did syntax.DID, applied bool) (*account.Account, error) {
	kind := account.EntrySuspended
	if !applied {
		kind = account.EntrySuspensionLifted
	}
	return s.measure(ctx, did, account.StatusChange{Suspended: &applied}, s.entry(ctx, kind))
}

// measure changes the measures against a DID. If its account is gone, only DID and
// Measures of what it returns are set. account.ErrNotFound: this server does not know
// the DID.
func (s *Service) measure(ctx context.Context, did syntax.DID, c account.StatusChange, e account.Entry) (*account.Account, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if err == nil {
		a, err = s.Accounts.SetStatus(ctx, a.ID, c, e)
	}
	if !isUnknown(err) {
		return a, err
	}
	m, err := s.Accounts.SetMeasures(ctx, did, c, e)
	if err != nil {
		return nil, err
	}
	return &account.Account{DID: did, Measures: m}, nil
}

// Deactivate deactivates an account for its owner, or activates it: see
// hosting.Service.Activate.
func (s *Service) Deactivate(ctx context.Context, did syntax.DID, applied bool) (*account.Account, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return nil, err
	}
	if applied {
		return s.Accounts.SetStatus(ctx, a.ID, account.StatusChange{Deactivated: &applied}, s.entry(ctx, account.EntryDeactivated))
	}
	if a.Status() == account.TakenDown { // before its document is fetched
		return nil, account.ErrTakenDown
	}
	if err := s.Hosting.Activate(ctx, a, s.entry(ctx, account.EntryActivated)); err != nil {
		return nil, err
	}
	return s.Accounts.ByDID(ctx, did)
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
	e := s.entry(ctx, account.EntryPasswordChanged)
	return s.Accounts.SetPassword(ctx, a.ID, hash, 0, e, s.Notices.Of(a, mail.NoticePassword, e, "")...)
}

// Delete removes an account for good.
func (s *Service) Delete(ctx context.Context, did syntax.DID) error {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return err
	}
	// Logged first, so that no deletion is missing from the audit log.
	if err := s.Store.Note(ctx, s.action(ctx, ActionDelete, a.DID, "", "")); err != nil {
		return err
	}
	return s.Accounts.Delete(ctx, a.ID, s.Now())
}

// isUnknown reports whether err is about an account that does not exist.
func isUnknown(err error) bool { return errors.Is(err, account.ErrNotFound) }
