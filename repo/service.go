package repo

import (
	"context"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/gate"
	"nestbox/lexicon"
	"nestbox/ratelimit"
)

// Account is what a repository's endpoints need to know of its account.
type Account struct {
	ID       int64
	DID      syntax.DID
	Handle   syntax.Handle
	HandleOK bool   // the handle was found to resolve to the DID, and the DID names it
	Document []byte // the DID document, JSON
	// Status is why the account is not active: event.StatusDeactivated and the like. Empty if
	// it is active.
	Status string
}

// Accounts finds accounts.
type Accounts interface {
	// Find returns the account of this server that a DID or handle names, or ErrNoRepo.
	Find(ctx context.Context, name syntax.AtIdentifier) (Account, error)
}

// Keys holds the accounts' signing keys.
type Keys interface {
	// SigningKey returns an account's key. It is parsed once and kept: parsing
	// costs as much as signing.
	SigningKey(ctx context.Context, accountID int64) (atcrypto.PrivateKey, error)
}

// Schemas finds the schemas of records that their authors publish.
type Schemas interface {
	// Records returns the catalogue that has the schema of a collection's records, or nil
	// if it is not at hand: it does not wait.
	Records(writer syntax.DID, collection syntax.NSID) *lexicon.Catalogue
	// Doubt is called when such a schema has refused a record.
	Doubt(writer syntax.DID, collection syntax.NSID)
}

// Service is what the endpoints and the command line act through. Its fields
// are set once, before the first use.
type Service struct {
	Store    Store
	Accounts Accounts
	Keys     Keys
	Lexicons *lexicon.Catalogue
	// Schemas has schemas of records that Lexicons does not know; nil has none.
	Schemas Schemas
	// Limits counts writes; nil counts nothing.
	Limits *ratelimit.Limiter
	// Crowds counts keys that crowd the tree. It bounds what a tree costs, so it holds
	// even if the operator has turned other limits off; nil counts nothing.
	Crowds *ratelimit.Limiter
	Now    func() time.Time
	// Doubt returns an error while Now cannot be trusted: then no commit is signed. If
	// it is nil, Now is always trusted.
	Doubt func() error
	// ClockID distinguishes the TIDs of this process from another one's, from 0 to
	// 1023.
	ClockID uint
	Log     *slog.Logger
	Transfers
	Counts Counts

	writing gate.Keyed[int64] // by account
	calls   calls
	rkeys   tids
	recent  memory
	revs    revs
	largest largestNodes
}

// lock waits until nobody else writes to the account's repository. It only keeps
// writers from computing what the store would refuse: the Store's compare and swap
// prevents lost writes.
func (s *Service) lock(ctx context.Context, accountID int64) (unlock func(), err error) {
	return s.writing.Lock(ctx, accountID)
}

// Summary is how large a repository is.
type Summary struct {
	Head  Head
	Nodes int64
}

// Blocks returns how many blocks the repository has: its commit, the tree's nodes and
// the records; equal records count each.
func (s Summary) Blocks() int64 { return 1 + s.Nodes + s.Head.Records }

// Summary returns the size of an account's repository, or ErrNoRepo.
func (s *Service) Summary(ctx context.Context, accountID int64) (sum Summary, err error) {
	err = s.Store.Scan(ctx, accountID, func(v View) (err error) {
		sum.Head = v.Head()
		sum.Nodes, err = v.Nodes()
		return err
	})
	return sum, err
}
