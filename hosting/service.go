package hosting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/identity"
	"nestbox/internal/gate"
	"nestbox/internal/seal"
	"nestbox/plc"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/signin"
)

// Settings of a Service.
type Settings struct {
	// DID and URL are the server's own.
	DID string
	URL string
	// Hostname begins invite codes.
	Hostname string
	// Domains are the service's handle domains, each with its dot.
	Domains        []string
	InviteRequired bool
	// MigrationOnly accepts only accounts that move in, Closed none; the operator may
	// make any.
	MigrationOnly, Closed bool
	// SignupsPerHour bounds new accounts, not counting those with an invite code and
	// those that move in; 0 is no limit.
	SignupsPerHour int
	// RelayLimit is how many accounts of one host relays accept, 0 if nobody counts.
	RelayLimit int64
	// DeleteGrace is how long at least a deactivated account is kept before it is
	// deleted, whatever deleteAfter says.
	DeleteGrace time.Duration
	// ReservedKeys bounds the signing keys that are reserved at once; 0 is reservedKeys.
	ReservedKeys int
	// RecoveryKey (did:key) is put ahead of the server's own among the rotation keys of
	// new accounts; empty for none.
	RecoveryKey string
	// RotationKey signs the operations of accounts.
	RotationKey atcrypto.PrivateKey

	PrivacyPolicyURL, TermsOfServiceURL, ContactEmail string
	BlobUploadLimit                                   int64
}

// Opener starts the first session of a new account.
type Opener interface {
	OpenFirst(ctx context.Context, a *account.Account) (auth.Pair, error)
}

// Repos are the accounts' repositories, as far as the life of an account needs
// them.
type Repos interface {
	// Genesis makes the first commit of a new account's repository.
	Genesis(did syntax.DID, key atcrypto.PrivateKey, now time.Time) (repo.Change, error)
	// Summary returns how large an account's repository is: repo.ErrNoRepo if it has
	// none.
	Summary(ctx context.Context, accountID int64) (repo.Summary, error)
	// Resign makes a commit of the same tree by another key, and calls do to store it
	// while nobody writes. do gets nil if there is no repository.
	Resign(ctx context.Context, accountID int64, key atcrypto.PrivateKey, do func(*repo.Change) error) error
}

// Blobs counts the blobs that an account's records refer to, and those of them
// that are here.
type Blobs interface {
	Count(ctx context.Context, accountID int64) (expected, there int64, err error)
}

// Prefs are the preferences that apps have set for accounts.
type Prefs interface {
	Preferences(ctx context.Context, did syntax.DID) ([]jsontext.Value, error)
}

// Service is what the endpoints and the command line act through.
type Service struct {
	Settings

	Store       Store
	Handles     HandleStore
	SigningKeys KeyStore
	Accounts    account.Store
	Notices     *account.Notices
	Hasher      *account.Hasher
	Directory   *identity.Directory
	Resolver    *identity.Resolver
	Documents   identity.Store
	Codes       *account.Codes
	Keys        *Keys
	Sessions    Opener
	// SignIns proves owners who delete their accounts.
	SignIns *signin.Service
	Repos   Repos
	Blobs   Blobs
	Prefs   Prefs
	Box     *seal.Box
	// Limits counts sign-ups; nil counts nothing.
	Limits *ratelimit.Limiter
	Now    func() time.Time
	// Held, if set, returns an error while nothing can be announced to the network: then no
	// identity is changed, and no account made.
	Held func() error
	// Doubt returns an error while Now cannot be trusted: then nothing is deleted or
	// given up because of its age. If
	// it is nil, Now is always trusted.
	Doubt func() error
	Log   *slog.Logger

	work gate.Keyed[syntax.DID] // identities that a request is making or changing
}

func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

// resumeEvery is how often Run looks for interrupted sign-ups and changes.
const resumeEvery = 30 * time.Second

// sure reports whether a time that was read before can be trusted.
func (s *Service) sure() bool { return s.Doubt == nil || s.Doubt() == nil }

// Run finishes or undoes interrupted sign-ups, and deletes accounts whose owners
// asked for that by now, until ctx ends. It does nothing while the clock cannot be
// trusted.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(resumeEvery)
	defer tick.Stop()
	var counted time.Time
	for {
		if s.sure() {
			if now := s.now(); now.Sub(counted).Abs() >= countEvery {
				counted = now
				s.warnCrowded(ctx)
			}
			s.settle(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// settle does once what Run does.
func (s *Service) settle(ctx context.Context) {
	for _, do := range []struct {
		step   func(context.Context) error
		level  slog.Level
		failed string
	}{
		{s.Resume, slog.LevelWarn, "interrupted sign-ups not settled"},
		{s.ResumeHandles, slog.LevelWarn, "interrupted changes of handles not settled"},
		{s.ResumeKeys, slog.LevelWarn, "interrupted changes of keys not settled"},
		{s.DeleteDue, slog.LevelError, "accounts not deleted that are due"},
	} {
		if err := do.step(ctx); err != nil && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, do.level, do.failed, slog.String("cause", err.Error())) //nolint:sloglint // a constant of the table
		}
	}
}

// Resume settles the reservations that a crash, or a directory that did not answer,
// left unfinished. The account is activated if its DID is registered; if not, it is
// undone once the submission can no longer reach the directory. While the directory
// cannot be asked, nothing is decided. Resume leaves alone what a request is working
// on.
func (s *Service) Resume(ctx context.Context) error {
	pending, err := s.Store.Pending(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range pending {
		if s.work.Held(p.DID) {
			continue
		}
		doc, _, err := s.document(ctx, p.DID)
		switch {
		case err == nil:
			_, err = s.activate(ctx, p, doc)
		case errors.Is(err, identity.ErrNotRegistered) && s.young(p.CreatedAt):
			err = nil
		case errors.Is(err, identity.ErrNotRegistered):
			err = s.Store.Abandon(ctx, p.AccountID)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("settle sign-up of %s: %w", p.DID, err))
		}
	}
	return errors.Join(failed...)
}

func (s *Service) activate(ctx context.Context, p Pending, doc []byte) (*account.Account, error) {
	key, err := OpenKey(s.Box, p.DID, p.SigningKeySealed)
	if err != nil {
		return nil, err
	}
	first, err := s.Repos.Genesis(p.DID, key, s.now())
	if err != nil {
		return nil, err
	}
	if doc, err = identity.Kept(p.DID, doc); err != nil {
		return nil, err
	}
	by := account.ActorOwner
	if p.MadeBy != "" {
		by = account.ActorAdmin
	}
	e := account.NewEntry(acting(ctx, p.MadeBy), s.now(), account.EntrySignUp, by)
	return s.Store.Activate(ctx, p.AccountID, doc, &first, e)
}

// Repoint makes the DID document of every account name this server's URL: for a
// development server that was started on another port. It fails for accounts whose
// keys we do not hold, and returns the first failure.
func (s *Service) Repoint(ctx context.Context, documents identity.Store) error {
	for after := int64(0); ; {
		accounts, err := s.Accounts.List(ctx, after, 100)
		if err != nil || len(accounts) == 0 {
			return err
		}
		for _, a := range accounts {
			after = a.ID
			if identity.PDSEndpoint(a.Document) == s.URL {
				continue
			}
			if err := s.repointOne(ctx, a, documents); err != nil {
				return fmt.Errorf("point %s to %s: %w", a.DID, s.URL, err)
			}
		}
	}
}

func (s *Service) repointOne(ctx context.Context, a *account.Account, documents identity.Store) error {
	doc, err := s.amend(ctx, a.DID, plc.Data{PDS: s.URL})
	if err != nil {
		return err
	}
	s.Resolver.Keep(a.DID, doc)
	if doc, err = identity.Kept(a.DID, doc); err != nil {
		return err
	}
	return documents.SaveDocument(ctx, a.ID, doc, a.HandleInvalid, s.now())
}

// ShownDocument returns the DID document that we show to an account's clients: the one
// last seen, or a built one if none was seen or it cannot be shown. It is nil while
// the account is deactivated and its document names another host, as when it moves in:
// clients would be sent there.
func (s *Service) ShownDocument(a *account.Account) []byte {
	switch {
	case len(a.Document) > 0 && !a.DeactivatedAt.IsZero() && identity.PDSEndpoint(a.Document) != s.URL:
		return nil
	default:
		return s.SeenDocument(a)
	}
}

// SeenDocument returns an account's DID document as it was last seen, or a built one if
// none was seen or it cannot be shown.
func (s *Service) SeenDocument(a *account.Account) []byte {
	if !identity.Presentable(a.Document) {
		return s.Document(a)
	}
	return a.Document
}

// Document builds an account's DID document from what this server knows.
func (s *Service) Document(a *account.Account) []byte {
	doc, err := plc.DocumentOf(a.DID, plc.Data{SigningKey: a.SigningKey, Handle: a.Handle, PDS: s.URL})
	if err != nil {
		doc, _ = json.Marshal(map[string]string{"id": a.DID.String()}) // two strings always encode
	}
	return doc
}
