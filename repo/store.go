package repo

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/firehose/event"
	"nestbox/repo/mst"
)

// Errors of the Store.
var (
	// ErrNoRepo: there is no such account, or it has no repository.
	ErrNoRepo = errors.New("no such repository")
	// ErrNoRecord: the repository has no such record.
	ErrNoRecord = errors.New("no such record")
	// ErrConflict: the repository is no longer at the commit that a change was
	// computed on. Nothing of it was kept; it may be computed again.
	ErrConflict = errors.New("repository changed meanwhile")
	// ErrInactive: the account is not active, so its repository accepts no writes.
	ErrInactive = errors.New("account is not active")
	// ErrNoBlob: a record refers to a blob that its account has not uploaded.
	// The error's text names the blob.
	ErrNoBlob = errors.New("could not find blob")
)

// Head is the state of a repository: its latest commit, and how the store finds the
// rest.
type Head struct {
	// Number is the store's number of the repository; an import gets a new one.
	Number int64
	DID    syntax.DID
	CID    cid.Cid
	Rev    syntax.TID
	// Commit is the signed commit's block.
	Commit []byte
	// Root leads to the root of the tree.
	Root mst.Link
	// NextNode is the number that the tree's next new node gets.
	NextNode int64
	// Records is how many there are.
	Records int64
	// First is the revision of the first commit of this history: an import begins a new
	// one.
	First syntax.TID
	// Removed is the revision of the newest commit that deleted a record which Newer is
	// about; empty if there is none.
	Removed syntax.TID
}

// Record is one record as the store keeps it.
type Record struct {
	// Key is collection/rkey, the record's key in the tree.
	Key string
	CID cid.Cid
	// Rev is the commit that wrote it.
	Rev syntax.TID
	// Block is its canonical DAG-CBOR.
	Block []byte
}

// BlobInfo describes an uploaded blob.
type BlobInfo struct {
	Size     int64
	MimeType string
	// WasUsed: a record has referred to it.
	WasUsed bool
}

// Still reports whether a blob that a write was checked against is, as now, what the check
// saw. That it was used since forbids nothing.
func (b BlobInfo) Still(now BlobInfo) bool { return b.Size == now.Size && b.MimeType == now.MimeType }

// Range selects records of a collection by key, as listRecords does.
type Range struct {
	Collection string
	// After, if set, is the rkey behind which the range begins, in the order of
	// reading.
	After string
	// Ascending reads from the lowest key; otherwise from the highest.
	Ascending bool
	// Shown leaves out what moderation took down.
	Shown bool
	Limit int
	// Bytes, if above 0, ends the range before the record that would make the blocks
	// larger than that. The first record is always in it.
	Bytes int
}

// Bounds are how much a list of records has at most, from the newest on.
type Bounds struct {
	Count int
	// Size is that of the largest block, in bytes. A larger one is not read and not in
	// the list, but it counts for Count.
	Size int
	// Bytes is that of all blocks: the list ends before the first that would exceed it.
	Bytes int
}

// View is one consistent state of a repository, in a read transaction. It is used
// briefly: nothing waits for a network or a client while one is open.
type View interface {
	Head() Head
	// Node is an mst.Loader.
	Node(l *mst.Link) (*mst.Node, error)
	// Record returns ErrNoRecord if there is none.
	Record(key string) (Record, error)
	Records(r Range) ([]Record, error)
	// TakenDown reports whether moderation took down the record with that key, even if
	// there is no such record.
	TakenDown(key string) (bool, error)
	// Collections returns up to limit collections that have records, in order.
	Collections(limit int) ([]string, error)
	// BySubject returns the keys of up to limit records of a collection that
	// were written with that subject, in order. Subjects compare by bytes. It
	// costs no more than the keys that it returns, whatever else there is.
	BySubject(collection, subject string, limit int) (keys []string, err error)
	// NewPosts returns the newest records of PostCollection that a commit after since
	// wrote, within bounds, in the order of their revisions and keys. What moderation
	// took down is left out. It costs no more than the records that it returns and leaves
	// out, whatever else there is.
	NewPosts(since syntax.TID, most Bounds) ([]Record, error)
	// Blob returns ErrNoBlob if the account has not uploaded it, or moderation took it
	// down.
	Blob(id cid.Cid) (BlobInfo, error)
	// Nodes returns how many nodes the tree has.
	Nodes() (int64, error)
	// EachNode calls yield for each node that was written by a commit after since (all
	// if it is empty), in no order: its number, the numbers of its children as they
	// come in the block (Left first, only those that exist), and its block. yield may
	// keep nothing of it.
	EachNode(since syntax.TID, yield func(id int64, children []int64, block []byte) error) error
	// EachRecord does the same for records, by key.
	EachRecord(since syntax.TID, yield func(Record) error) error
}

// Write is a change of one record.
type Write struct {
	Key string
	// CID and Block are the record's; a Block of nil deletes it.
	CID   cid.Cid
	Block []byte
	// Blobs are the blobs that it refers to.
	Blobs []cid.Cid
	// Seen are Blobs, in their order, as they were when the write was checked; nil if it
	// was not.
	Seen []BlobInfo
	// Subject is what View.BySubject finds it by; empty if BySubject is not to find it.
	Subject string
}

// Change is a commit and all that belongs to it.
type Change struct {
	AccountID int64
	// Was is the commit that the change was computed on.
	Was cid.Cid
	// Next is the new head; its Number is the old head's.
	Next   Head
	Nodes  []mst.Changed
	Freed  []int64
	Writes []Write
	Event  event.Event
	// At is when it is made, by the server's clock: the event's time in the log, and
	// the time from which a blob counts as unused if its last reference goes.
	At time.Time
}

// Store keeps repositories. Every method is one transaction; what it returned
// without error is durable and survives kill -9, and an error other than the
// sentinels means that nothing was changed.
type Store interface {
	// View runs fn on the current state of an account's repository. Errors: ErrNoRepo,
	// fn's.
	View(ctx context.Context, accountID int64, fn func(View) error) error
	// Scan is View for reading through a whole repository. Only some of the database's
	// readers scan at once; further scans wait, and View never does.
	Scan(ctx context.Context, accountID int64, fn func(View) error) error
	// Commit makes a change: it stores the head, the nodes, the records, their
	// references to blobs, and the event, which gets the next number of the log.
	// Errors: ErrConflict, also if a blob is not Still what a write has Seen; ErrInactive,
	// ErrNoRepo, ErrNoBlob.
	Commit(ctx context.Context, c Change) error
	// CommitChain is Commit of changes of one account, each computed on the previous
	// one, the first one on the repository's commit. All are made, or none. Each has
	// its event, in their order; nodes that a later change frees need not be kept.
	CommitChain(ctx context.Context, chain []Change) error
	// Begin makes the first, empty, repository of an account that has none because it
	// is older than repositories here. The log gets its ChangeEvents. The change's Was
	// and Next.Number mean nothing. ErrConflict: there is a repository. ErrNoRepo:
	// there is no account.
	Begin(ctx context.Context, c Change) error
	// Heads returns up to limit heads of accounts with an ID above after, by ID.
	Heads(ctx context.Context, after int64, limit int) ([]AccountHead, error)
	// Without returns up to limit accounts with an ID above after that have no
	// repository, by ID.
	Without(ctx context.Context, after int64, limit int) ([]AccountHead, error)

	// Stage begins an import: it returns the number of a repository that nobody sees,
	// and drops an older one of the same account. ErrNoRepo: there is no such account.
	Stage(ctx context.Context, accountID int64) (number int64, err error)
	// Fill adds nodes and records, written by the commit rev, to a staged repository;
	// the caller adds each of them once. Each call is a transaction of its own, so that
	// an import does not hold up others. ErrConflict: the staged one is gone.
	Fill(ctx context.Context, number int64, rev syntax.TID, nodes []mst.Changed, records []Write) error
	// Switch replaces the account's repository by a staged one. Sweep removes the old
	// one later, in steps. was is undefined if the account has none. Blobs that records
	// refer to may be missing. The log gets ChangeEvents of ev. ErrConflict: the
	// account's repository is no longer at commit was, or the staged one is gone.
	// ErrNoRepo: there is no such account.
	Switch(ctx context.Context, accountID int64, was cid.Cid, next Head, ev event.Event, at time.Time) error
	// Drop gives up a staged repository, and Sweep removes it; it is not an error if
	// the repository is gone or was switched to. 0 drops all of them: for the server's
	// start, when no import is under way.
	Drop(ctx context.Context, number int64) error
	// Sweep removes a bounded part of what belongs to no account any more:
	// repositories that were replaced, left behind by an import, or deleted with
	// their account. It reports whether there is more.
	Sweep(ctx context.Context) (more bool, err error)
}

// AccountHead is a repository in a list of them. CID and Rev are empty if the account
// has none.
type AccountHead struct {
	AccountID int64
	DID       syntax.DID
	CID       cid.Cid
	Rev       syntax.TID
	// Status is the account's, as Account has it.
	Status string
}
