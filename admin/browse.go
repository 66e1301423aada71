package admin

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

// State selects accounts of a list. Its values are those of ?state= on the admin page.
type State string

// The states. The zero value selects all.
const (
	StateActive      State = "active"
	StateDeactivated State = "deactivated"
	StateSuspended   State = "suspended"
	StateTakenDown   State = "takendown"
	StateUnconfirmed State = "unconfirmed"
	StateNew         State = "new"
)

// States returns every State but the zero value.
func States() []State {
	return []State{StateActive, StateNew, StateUnconfirmed, StateDeactivated, StateSuspended, StateTakenDown}
}

// newFor is how long an account counts as StateNew.
const newFor = 7 * 24 * time.Hour

// BrowseQuery selects a page of accounts.
type BrowseQuery struct {
	// Text is a part of the handle or of the address, whatever the case; Network a client
	// network that a session or a browser of the account was last used from. Either may be
	// empty.
	Text, Network string
	State         State
	// NewSince is since when an account was made that is StateNew.
	NewSince time.Time
	// Before is the ID that all are below; 0 for the first page.
	Before int64
	Limit  int
}

// Stored is what an account has here.
type Stored struct {
	Records, Blobs, BlobBytes int64
}

// Waiting is the state of the outbox.
type Waiting struct {
	Messages int64
	// OldestAt is when the oldest was queued; Failed is how many were refused at least once.
	OldestAt time.Time
	Failed   int64
}

// ViewStore is what the admin page reads of all accounts at once.
type ViewStore interface {
	ClientStore
	UsageStore
	TotalsStore

	// Browse returns accounts, the newest first.
	Browse(ctx context.Context, q BrowseQuery) ([]*account.Account, error)
	// Stored returns what an account has here.
	Stored(ctx context.Context, id int64) (Stored, error)
	// Waiting returns the state of the outbox.
	Waiting(ctx context.Context) (Waiting, error)
	// RetryNow makes every message of the outbox due at a's time, notes a, and returns how
	// many there are.
	RetryNow(ctx context.Context, a Action) (int64, error)
	// Newest returns up to limit of the latest entries of all trails that are of one of the
	// kinds, the latest first; those behind the last NewestOf of all kinds are left out.
	Newest(ctx context.Context, kinds []account.EntryKind, limit int) ([]Happening, error)
}

// NewestOf is how many entries Newest looks at, so that rare ones cost no more.
const NewestOf = 20_000

// Happening is an entry of an account's trail.
type Happening struct {
	account.Entry

	DID    syntax.DID
	Handle syntax.Handle
}

// BrowsePage is how many accounts a page of the list has.
const BrowsePage = 50

// Browse returns a page of accounts, the newest first, and the Before of the next, 0 at the
// end.
func (s *Service) Browse(ctx context.Context, q BrowseQuery) (page []*account.Account, next int64, err error) {
	q.Limit, q.NewSince = BrowsePage+1, s.Now().Add(-newFor)
	page, err = s.Views.Browse(ctx, q)
	if err == nil && len(page) > BrowsePage {
		page = page[:BrowsePage]
		next = page[BrowsePage-1].ID
	}
	return page, next, err
}
