package hosting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/mail"
	"nestbox/plc"
	"nestbox/ratelimit"
	"nestbox/request"
)

// Changing a handle is three steps: the new one is reserved, durably; the DID
// document is made to name it; one transaction gives it to the account and
// announces it to the network. After a crash Resume finishes what the document
// already says, and undoes the rest.

// HandleChange is a change of a handle that has begun.
type HandleChange struct {
	AccountID int64
	DID       syntax.DID
	Handle    syntax.Handle
	By        account.Actor
	Who       string // the admin who does it
	BegunAt   time.Time
}

// HandleStore keeps changes of handles. Every method is one durable transaction.
type HandleStore interface {
	// BeginHandle reserves a handle for an account. account.ErrHandleTaken if another
	// has it, or is getting it; account.ErrStatusConflict if the account's handle is
	// being changed already; account.ErrNotFound.
	BeginHandle(ctx context.Context, c HandleChange) error
	// FinishHandle gives the account the handle that was reserved, with the document
	// that names it, and notifies the network and the owner. Without a document it does
	// not notify the network, and the handle is one that does not verify.
	// account.ErrNotFound if no change to that handle has begun.
	FinishHandle(ctx context.Context, accountID int64, h syntax.Handle, document []byte, e account.Entry, mails ...mail.Message) error
	// DropHandle undoes BeginHandle of that handle; it is not an error if the change is
	// gone.
	DropHandle(ctx context.Context, accountID int64, h syntax.Handle) error
	// HandleChanges returns the changes that have begun.
	HandleChanges(ctx context.Context) ([]HandleChange, error)
}

// ErrNotNamed: the document of a did:web, which only its owner can change, does
// not name the handle.
var ErrNotNamed = errors.New("DID document does not name the handle")

// The limits of one account's changes of its handle, and of looking whether one leads to it.
var (
	handleChanges = []ratelimit.Limit{
		{Name: "handles-5m", Points: 10, Window: 5 * time.Minute},
		{Name: "handles-1d", Points: 50, Window: 24 * time.Hour},
	}
	handleLooks = ratelimit.Limit{Name: "handle-looks", Points: 20, Window: 5 * time.Minute}
)

// ChangeHandle is SetHandle for an owner on a page, whose changes are counted:
// request.ErrTooMany.
func (s *Service) ChangeHandle(ctx context.Context, a *account.Account, handle string) error {
	if err := request.Admit(ctx, s.Limits, a.DID.String(), 1, handleChanges...); err != nil {
		return err
	}
	return s.SetHandle(ctx, a, handle, account.ActorOwner)
}

// HandleLook is what the network says about a handle and an account.
type HandleLook struct {
	Handle syntax.Handle
	// Ours: the handle is of this server's domains, so nobody else was asked where it leads;
	// Leads reports whether to the account.
	Ours, Leads bool
	identity.Look

	// Named is the handle that the account's DID document names; Err is why it could not be
	// asked.
	Named syntax.Handle
	Err   error
}

// Holds reports whether the handle leads to the account, and the account's document to the
// handle.
func (l *HandleLook) Holds() bool { return l.Leads && l.Err == nil && l.Named == l.Handle }

// LookAtHandle asks the network, past every cache, about a handle that an owner has, or
// wants, and stores what it said of the one that they have. Errors: those of
// account.NormalizeHandle, request.ErrTooMany, identity.ErrBusy.
func (s *Service) LookAtHandle(ctx context.Context, a *account.Account, handle string) (l HandleLook, err error) {
	if l.Handle, err = account.NormalizeHandle(handle); err != nil {
		return l, err
	}
	if err := request.Admit(ctx, s.Limits, a.DID.String(), 1, handleLooks); err != nil {
		return l, err
	}
	if l.Ours = account.IsServiceHandle(l.Handle, s.Domains); l.Ours {
		back, err := s.Resolver.ProvenHandle(ctx, l.Handle)
		if err != nil && !errors.Is(err, identity.ErrHandleNotFound) {
			return l, err
		}
		l.Leads = err == nil && back == a.DID || a.Hidden() && l.Handle == a.Handle
	} else if l.Look, err = s.Resolver.Look(ctx, l.Handle); err == nil {
		did, _ := l.DID()
		l.Leads = did == a.DID
	} else if !errors.Is(err, identity.ErrHandleNotFound) {
		return l, err
	}
	l.At = s.now()
	var document []byte
	document, l.Named, l.Err = s.document(ctx, a.DID)
	if l.Err != nil || l.Handle != a.Handle || l.unsure() {
		return l, nil //nolint:nilerr // the page shows it
	}
	if document, err = identity.Kept(a.DID, document); err != nil {
		return l, nil //nolint:nilerr // a document that cannot be kept is no news
	}
	return l, s.Documents.SaveSeen(ctx, subject(a), document, !l.Holds(), l.At)
}

// unsure reports whether the network did not say where the handle leads.
func (l *HandleLook) unsure() bool {
	if l.Ours {
		return false
	}
	_, err := l.DID()
	return err != nil && !errors.Is(err, identity.ErrHandleNotFound) && !errors.Is(err, identity.ErrHandleConflict)
}

// SetHandle gives an account another handle, or announces the one that it has
// again: below one of the service's domains, or one that leads to the account's
// DID. An admin may give a reserved one. Errors: those of a handle at sign-up;
// account.ErrStatusConflict; identity.ErrRefused; after any other error Resume may
// still settle it.
func (s *Service) SetHandle(ctx context.Context, a *account.Account, handle string, by account.Actor) error {
	h, err := account.NormalizeHandle(handle)
	if err != nil {
		return err
	}
	if err := s.checkHandle(ctx, a.DID, h, by == account.ActorAdmin); err != nil {
		return err
	}
	end, err := s.begin(a.DID)
	if err != nil {
		return err
	}
	defer end()
	c := HandleChange{AccountID: a.ID, DID: a.DID, Handle: h, By: by, Who: account.Acting(ctx), BegunAt: s.now()}
	if err := s.Handles.BeginHandle(ctx, c); err != nil {
		return err
	}
	ctx, cancel := s.submitting(ctx, c.BegunAt)
	defer cancel()
	document, err := s.nameHandle(ctx, c)
	// For a did:web nothing was submitted, so the outcome is certain.
	if err != nil && (untouched(err) || a.DID.Method() != "plc") {
		return errors.Join(err, s.Handles.DropHandle(context.WithoutCancel(ctx), a.ID, h))
	}
	if err != nil {
		return err // Resume will see what the directory has done
	}
	err = s.finishHandle(ctx, a, c, document)
	if errors.Is(err, account.ErrNotFound) { // Resume was faster, or it was deleted
		return s.settled(ctx, c)
	}
	return err
}

// settled returns how a change of a handle ended that is no longer under way.
func (s *Service) settled(ctx context.Context, c HandleChange) error {
	a, err := s.Accounts.ByDID(ctx, c.DID)
	if err == nil && a.Handle != c.Handle {
		return account.ErrStatusConflict
	}
	return err
}

// nameHandle makes a DID document name a handle, and returns it. It returns nil if
// an admin takes the handle of an owner who has moved out, whose document is left
// alone.
func (s *Service) nameHandle(ctx context.Context, c HandleChange) ([]byte, error) {
	if c.DID.Method() == "plc" {
		document, err := s.amend(ctx, c.DID, plc.Data{Handle: c.Handle})
		if errors.Is(err, ErrMovedOut) && c.By == account.ActorAdmin {
			return nil, nil
		}
		return document, err
	}
	d, err := s.Resolver.Fresh(ctx, c.DID)
	if err != nil {
		return nil, err
	}
	if d.Handle() != c.Handle {
		return nil, ErrNotNamed
	}
	return d.Raw, nil
}

func (s *Service) finishHandle(ctx context.Context, a *account.Account, c HandleChange, document []byte) error {
	s.Resolver.Keep(a.DID, document)
	if document != nil {
		var err error
		if document, err = identity.Kept(a.DID, document); err != nil {
			return err
		}
	}
	e := account.NewEntry(acting(ctx, c.Who), s.now(), account.EntryHandleChanged, c.By)
	e.Reason = c.Handle.String()
	var mails []mail.Message
	if a.Handle != c.Handle {
		mails = s.Notices.Of(a, mail.NoticeHandle, e, c.Handle.String())
	}
	err := s.Handles.FinishHandle(ctx, a.ID, c.Handle, document, e, mails...)
	if err != nil {
		s.Notices.Unsent(a, mail.NoticeHandle, e, mails)
	}
	return err
}

// ResumeHandles settles the changes of handles that a crash, or a directory that
// did not answer, left unfinished.
func (s *Service) ResumeHandles(ctx context.Context) error {
	changes, err := s.Handles.HandleChanges(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, c := range changes {
		if s.work.Held(c.DID) {
			continue
		}
		if err := s.resumeHandle(ctx, c); err != nil {
			failed = append(failed, fmt.Errorf("settle handle %s: %w", c.Handle, err))
		}
	}
	return errors.Join(failed...)
}

func (s *Service) resumeHandle(ctx context.Context, c HandleChange) error {
	a, err := s.Accounts.ByDID(ctx, c.DID)
	if errors.Is(err, account.ErrNotFound) {
		return s.Handles.DropHandle(ctx, c.AccountID, c.Handle)
	}
	if err != nil {
		return err
	}
	document, named, err := s.document(ctx, a.DID)
	registered := a.DID.Method() == "plc" // else no submission can still arrive
	unnamed := errors.Is(err, identity.ErrNotRegistered) || err == nil && named != c.Handle
	switch {
	case unnamed && registered && s.young(c.BegunAt):
		return nil
	case unnamed, err != nil && !registered:
		s.Log.LogAttrs(ctx, slog.LevelWarn, "change of a handle undone", slog.String("did", a.DID.String()))
		return s.Handles.DropHandle(ctx, c.AccountID, c.Handle)
	case err != nil:
		return err
	}
	return s.finishHandle(ctx, a, c, document)
}

// document fetches a DID's current document and the handle that it names: for
// did:plc from its last operation, which no cache on the way keeps.
func (s *Service) document(ctx context.Context, did syntax.DID) (raw []byte, named syntax.Handle, err error) {
	if did.Method() != "plc" {
		d, err := s.Resolver.Fresh(ctx, did)
		if err != nil {
			return nil, "", err
		}
		return d.Raw, d.Handle(), nil
	}
	last, err := s.Directory.Last(ctx, did)
	if err != nil {
		return nil, "", err
	}
	d, ok := plc.DataOf(last)
	if !ok {
		return nil, "", identity.ErrNotRegistered // it was tombstoned
	}
	raw, err = plc.Document(did, last)
	return raw, d.Handle.Normalize(), err
}
