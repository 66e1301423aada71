package takeover

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
)

// Account is an account of the source. The zero time means never.
type Account struct {
	DID syntax.DID
	// Handle is as it is kept; empty if there is none.
	Handle    string
	CreatedAt time.Time
	// TakenDown: it is hidden. TakedownRef is the case, which may be empty, or the time as text.
	TakenDown                  bool
	TakedownRef                string
	DeactivatedAt, DeleteAfter time.Time
	// HasAccount: there are an address and a password, not only the public part.
	HasAccount       bool
	Email            string
	PasswordHash     string
	EmailConfirmedAt time.Time
	InvitesDisabled  bool
	// Root is a copy of the repository's, which may be older than that.
	Root Root
}

// Root is the latest commit of a repository.
type Root struct {
	CID cid.Cid
	Rev syntax.TID
}

// AppPassword is an app password of the source.
type AppPassword struct {
	DID        syntax.DID
	Name, Hash string
	Privileged bool
	CreatedAt  time.Time
}

// Invite is an invite code of the source, Available its uses in all.
type Invite struct {
	Code                  string
	Available             int64
	Disabled              bool
	ForAccount, CreatedBy string
	CreatedAt             time.Time
}

// InviteUse is a use of an invite code.
type InviteUse struct {
	Code, UsedBy string
	UsedAt       time.Time
}

// EmailCode is a code that the source has mailed, as it is typed.
type EmailCode struct {
	DID           syntax.DID
	Purpose, Code string
	RequestedAt   time.Time
}

// ReservedKey is a signing key that was promised. Name is its did:key, or the DID that it was
// promised to.
type ReservedKey struct {
	Name       string
	Private    []byte
	ReservedAt time.Time
}

// Record is a row of a record, without the record.
type Record struct {
	Key string
	CID cid.Cid
	Rev syntax.TID
	// TakenDown and Takedown are as those of Account.
	TakenDown bool
	Takedown  string
}

// BlobFile is a row of a blob, and where its file may be, the likeliest place first.
type BlobFile struct {
	CID       string
	MimeType  string
	Size      int64
	CreatedAt time.Time
	TakenDown bool
	Takedown  string
	// Temporary: no record refers to it yet.
	Temporary bool
	Paths     []string
}

// State tells whether a database was written since: see package reference.
type State struct {
	Size, WAL, Changed int64
}

// Actor is what the source keeps of one account apart from the others. One goroutine may use
// it.
type Actor interface {
	// Key returns the private signing key, 32 bytes.
	Key() ([]byte, error)
	// Root returns the repository's latest commit.
	Root() (Root, error)
	// Records returns the rows of all records, by key.
	Records() ([]Record, error)
	// Block returns a block and the revision that wrote it; ok is false if there is none.
	Block(id cid.Cid) (block []byte, rev syntax.TID, ok bool, err error)
	Blobs() ([]BlobFile, error)
	// Preferences returns them as JSON, in their order.
	Preferences() ([]string, error)
	// State is that before it was read; Moved reports whether it is another now.
	State() State
	Moved() (bool, error)
	// Intact returns why the database is damaged, nil if nothing is found.
	Intact() error
	Close() error
}

// Source is the data directory that is taken over, but for what package sessions asks of it.
// Actor and ActorState may be called by several goroutines, the others by one.
type Source interface {
	// Accounts returns all of them, the oldest first; those that cannot be read are in bad.
	Accounts() (accounts []Account, bad []Fault, err error)
	AppPasswords() ([]AppPassword, error)
	Invites() ([]Invite, []InviteUse, error)
	EmailCodes() ([]EmailCode, error)
	// Documents calls yield for each DID document that is cached.
	Documents(yield func(did string, document []byte) error) error
	ReservedKeys() (keys []ReservedKey, odd []string, err error)

	// ActorState returns what ActorState.State would be: ErrNoActor.
	ActorState(did syntax.DID) (State, error)
	// Actor opens an account's own part: ErrNoActor. ErrDamaged.
	Actor(ctx context.Context, did syntax.DID) (Actor, error)
	// Remains returns what can be read of an account whose own part is damaged or gone. The
	// signing key must be there: the error is IsDamaged if not.
	Remains(ctx context.Context, did syntax.DID) (Remains, error)
	// BlobPaths returns where the file of a blob may be of which there is no row.
	BlobPaths(did syntax.DID, cid string) []string
	// Strays returns the names of folders of actors other than these accounts'.
	Strays(known map[syntax.DID]bool) ([]string, error)

	// Registered reports whether the account is there by now: a running server may have made
	// or deleted it since the source was opened. Several goroutines may call it.
	Registered(ctx context.Context, did syntax.DID) (bool, error)

	EventSource
}

// EventSource is the event log of the source.
type EventSource interface {
	// LastEvent returns the number that the log gave last, and when the newest event was
	// written; zero for none.
	LastEvent() (last int64, at time.Time, err error)
	// FirstKept returns the number of the first event that was written at or after a time, 0
	// if there is none, and at most so many bytes before the end.
	FirstKept(since time.Time, maxBytes int64) (int64, error)
	// Numbers calls yield with the number of each event from one on, in order; Events with the
	// event.
	Numbers(from int64, yield func(seq int64) error) error
	Events(from int64, yield func(SourceEvent) error) error
	// LatestOf returns the newest event about an account's repository (append, sync), zero if
	// there is none. Statuses returns the newest about each account's status (account). Oldest
	// is when the oldest event of the whole log was written.
	LatestOf(did syntax.DID) (SourceEvent, error)
	Statuses() (map[syntax.DID]SourceEvent, error)
	Oldest() (time.Time, error)
}

// SourceEvent is a row of the event log.
type SourceEvent struct {
	Seq  int64
	DID  string
	Type string
	// Body is the message in DAG-CBOR without its number and its time.
	Body        []byte
	Invalidated bool
	// At is the message's time as text.
	At string
}
