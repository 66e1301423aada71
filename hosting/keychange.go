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
	"nestbox/plc"
	"nestbox/repo"
)

// Changing an account's signing key is three steps, as a handle's: the new key is
// kept, sealed and durably; the DID document is made to name it; one transaction
// gives it to the account, with a new commit of its tree that the key signed, and
// announces it to the network. Nobody writes to the account meanwhile. After a crash
// Resume finishes what the document already says, and undoes the rest.

// KeyChange is a change of a signing key that has begun.
type KeyChange struct {
	AccountID int64
	DID       syntax.DID
	Public    string // did:key
	Sealed    []byte
	Who       string // the admin who does it
	BegunAt   time.Time
}

// KeyStore keeps changes of signing keys. Every method is one durable transaction.
type KeyStore interface {
	// BeginKey keeps a key for an account, or begins again with it from now.
	// account.ErrStatusConflict if its key is being changed to another already;
	// account.ErrNotFound.
	BeginKey(ctx context.Context, c KeyChange) error
	// FinishKey gives the account the key that was kept, with the document that names
	// it and the commit that it signed, if there is a repository, and announces it to
	// the network. account.ErrNotFound if no change to that key has begun,
	// repo.ErrConflict if the repository is not at the commit's Was.
	FinishKey(ctx context.Context, c KeyChange, document []byte, resigned *repo.Change, e account.Entry) error
	// DropKey undoes BeginKey of that key and time; it is not an error if the change is
	// gone, or was begun again since.
	DropKey(ctx context.Context, c KeyChange) error
	// KeyChanges returns the changes that have begun.
	KeyChanges(ctx context.Context) ([]KeyChange, error)
}

// ChangeKey gives a did:plc account that is hosted here a new signing key. Errors:
// ErrNotPLC, ErrMovedOut, ErrNoControl, account.ErrStatusConflict; after any other
// Resume may still settle it.
func (s *Service) ChangeKey(ctx context.Context, a *account.Account) error {
	if a.DID.Method() != "plc" {
		return ErrNotPLC
	}
	r, err := s.ShowIdentity(ctx, a)
	if err != nil {
		return err
	}
	for _, f := range r.Facts {
		if f.What == factHost && f.Differs() {
			return ErrMovedOut
		}
	}
	if !r.Control {
		return ErrNoControl
	}
	end, err := s.begin(a.DID)
	if err != nil {
		return err
	}
	defer end()
	c, again, err := s.keyChange(ctx, a)
	if err != nil {
		return err
	}
	if err := s.SigningKeys.BeginKey(ctx, c); err != nil {
		return err
	}
	ctx, cancel := s.submitting(ctx, c.BegunAt)
	defer cancel()
	err = s.switchKey(ctx, c, s.nameKey)
	// A key submitted earlier may still appear in the document, so it is not dropped.
	if untouched(err) && !again {
		return errors.Join(err, s.SigningKeys.DropKey(context.WithoutCancel(ctx), c))
	}
	if errors.Is(err, account.ErrNotFound) { // Resume was faster, or it was deleted
		if now, err := s.Accounts.ByDID(ctx, a.DID); err == nil && now.SigningKey == c.Public {
			return nil
		}
	}
	return err
}

// keyChange returns a change to begin: again, with the key of one that has begun, or
// with a new key.
func (s *Service) keyChange(ctx context.Context, a *account.Account) (c KeyChange, again bool, err error) {
	c = KeyChange{AccountID: a.ID, DID: a.DID, Who: account.Acting(ctx), BegunAt: s.now()}
	begun, err := s.SigningKeys.KeyChanges(ctx)
	if err != nil {
		return c, false, err
	}
	for _, b := range begun {
		if b.AccountID == a.ID {
			c.Public, c.Sealed = b.Public, b.Sealed
			return c, true, nil
		}
	}
	k, err := s.newKey(a.DID)
	c.Public, c.Sealed = k.Public, k.Sealed
	return c, false, err
}

// keyPatience is how long the document may take to name a key that was sent to a
// directory: until then the key, of which there is no other copy, is not given up.
const keyPatience = time.Hour

// didPatience is keyPatience for a directory that says that the DID is not registered, or
// was ended: so long its owner may undo an end (https://web.plc.directory/spec/v0.1/did-plc,
// "Key Rotation & Account Recovery"), and the operator may correct PDS_DID_PLC_URL.
const didPatience = 72 * time.Hour

// switchKey gives the key to the account, whose document named returns once it names the
// key. Nobody writes to the account meanwhile.
func (s *Service) switchKey(ctx context.Context, c KeyChange, named func(context.Context, KeyChange) ([]byte, error)) error {
	key, err := OpenKey(s.Box, c.DID, c.Sealed)
	if err != nil {
		return err
	}
	return s.Repos.Resign(ctx, c.AccountID, key, func(resigned *repo.Change) error {
		document, err := named(ctx, c)
		if err != nil {
			return err // Resume will see what the directory has done
		}
		s.Resolver.Keep(c.DID, document)
		if document, err = identity.Kept(c.DID, document); err != nil {
			return err
		}
		e := account.NewEntry(acting(ctx, c.Who), s.now(), account.EntryKeyChanged, account.ActorAdmin)
		err = s.SigningKeys.FinishKey(ctx, c, document, resigned, e)
		s.Keys.Drop(c.AccountID)
		return err
	})
}

// nameKey makes a did:plc name a signing key, and returns its document.
func (s *Service) nameKey(ctx context.Context, c KeyChange) ([]byte, error) {
	return s.amend(ctx, c.DID, plc.Data{SigningKey: c.Public})
}

// errKeyNotNamed: the directory does not have the change.
var errKeyNotNamed = errors.New("DID document does not name the key")

// keyNamed returns the document of a did:plc that names a signing key: errKeyNotNamed.
func (s *Service) keyNamed(ctx context.Context, c KeyChange) ([]byte, error) {
	last, err := s.Directory.Last(ctx, c.DID)
	if err != nil {
		return nil, err
	}
	if d, ok := plc.DataOf(last); !ok || d.SigningKey != c.Public {
		return nil, errKeyNotNamed
	}
	return plc.Document(c.DID, last)
}

// ResumeKeys settles the changes of keys that a crash, or a directory that did not
// answer, left unfinished.
func (s *Service) ResumeKeys(ctx context.Context) error {
	changes, err := s.SigningKeys.KeyChanges(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, c := range changes {
		if s.work.Held(c.DID) {
			continue
		}
		if err := s.resumeKey(ctx, c); err != nil {
			failed = append(failed, fmt.Errorf("settle signing key of %s: %w", c.DID, err))
		}
	}
	return errors.Join(failed...)
}

// resumeKey settles one change. It asks the directory before it blocks writes to
// the account.
func (s *Service) resumeKey(ctx context.Context, c KeyChange) error {
	switch _, err := s.keyNamed(ctx, c); {
	case err == nil:
		return s.switchKey(ctx, c, s.keyNamed)
	case errors.Is(err, identity.ErrNotRegistered) && s.older(c.BegunAt, didPatience):
		return s.giveUpKey(ctx, c, err)
	case !errors.Is(err, errKeyNotNamed):
		return err
	case !s.older(c.BegunAt, keyPatience):
		return nil
	default:
		s.Log.LogAttrs(ctx, slog.LevelWarn, "change of a signing key undone", slog.String("did", c.DID.String()))
		return s.SigningKeys.DropKey(ctx, c)
	}
}

// giveUpKey undoes a change for good whose DID is gone, and leaves that in the account's
// trail.
func (s *Service) giveUpKey(ctx context.Context, c KeyChange, why error) error {
	e := account.NewEntry(acting(ctx, c.Who), s.now(), account.EntryKeyGivenUp, account.ActorServer)
	e.Reason = why.Error()
	if err := s.Accounts.AddEntry(ctx, c.AccountID, e); err != nil && !errors.Is(err, account.ErrNotFound) {
		return err
	}
	if err := s.SigningKeys.DropKey(ctx, c); err != nil {
		return err
	}
	s.Log.LogAttrs(ctx, slog.LevelError, "change of a signing key given up: "+
		"the PLC directory does not know the DID, see nestbox identity show",
		slog.String("did", c.DID.String()), slog.String("cause", why.Error()))
	return nil
}
