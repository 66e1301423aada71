package takeover

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/firehose"
	"nestbox/firehose/event"
	"nestbox/mail"
	"nestbox/repo"
	"nestbox/repo/mst"
)

// Store is the database that is made. Its methods may be called by several goroutines. What
// Settle stored may be lost in a crash until Flush, or another method but Stage, Fill and
// Drop, has returned; then its Progress is lost with it.
type Store interface {
	// Begin returns how far the take-over of source is, and begins it if it was not.
	// ErrOtherSource, ErrServed.
	Begin(ctx context.Context, source string, now time.Time) (Stage, error)
	// Progress returns what was settled of each actor.
	Progress(ctx context.Context) (map[syntax.DID]Progress, error)
	// SetAccounts makes the accounts, and what Accounts has beside them, those of the
	// database: it replaces what an earlier call stored, ends every session, and removes
	// accounts that are no longer there with all that they had. An account keeps its number,
	// repository and signing key.
	SetAccounts(ctx context.Context, a Accounts) error

	// Stage begins to store an actor, whatever was stored of it before.
	Stage(ctx context.Context, did syntax.DID) (number int64, err error)
	// Fill adds to what was staged.
	Fill(ctx context.Context, number int64, c Chunk) error
	// Settle ends it. Drop gives up what was staged.
	Settle(ctx context.Context, number int64, a Settled) error
	Drop(ctx context.Context, did syntax.DID) error
	Flush(ctx context.Context) error

	// Heads returns each account's repository.
	Heads(ctx context.Context) ([]Head, error)
	// SetEvents replaces the event log: next returns one event after the other, their numbers
	// without a gap, and false behind the last. The log gives the number after last next, and
	// remembers that those up to it came from the source.
	SetEvents(ctx context.Context, last int64, next func() (firehose.Logged, bool, error)) error
	// Announce appends events of this server.
	Announce(ctx context.Context, events []event.Event, at time.Time) error
	// Counts counts what is stored.
	Counts(ctx context.Context) (Counts, error)
	// HasFile reports whether a blob has the file of that key.
	HasFile(ctx context.Context, key string) (bool, error)
	// Mail queues mails to owners, in place of what waits, and returns how many it queued.
	Mail(ctx context.Context, letters []Letter, now time.Time) (int, error)
	// Finish ends the take-over: each account's trail gets e, the audit log a, and servers may
	// start. All is durable then.
	Finish(ctx context.Context, e account.Entry, a admin.Action, now time.Time) error
	Close() error
}

// Stage is how far a take-over is.
type Stage struct {
	// Began is when it began first, Finished when it ended, zero if it has not.
	Began, Finished time.Time
	// LastEvent is the last number of the source, once its events are stored.
	LastEvent int64
}

// Progress is what was settled of an actor.
type Progress struct {
	Rev   syntax.TID
	State State
}

// Letter is a mail to the owner of an account.
type Letter struct {
	DID syntax.DID
	mail.Message
}

// Accounts are what the source's database of accounts has, as it is stored here.
type Accounts struct {
	Rows         []AccountRow
	AppPasswords []AppPassword
	Invites      []Invite
	InviteUses   []InviteUse
	Codes        []CodeRow
	Keys         []KeyRow
}

// AccountRow is an account as it is stored here.
type AccountRow struct {
	account.Account

	PasswordHash string
	// Document is its DID document, nil if none is known.
	Document []byte
}

// CodeRow is an e-mail code of an account.
type CodeRow struct {
	DID syntax.DID

	account.Code
}

// KeyRow is a reserved signing key; DID is empty if it was promised to nobody.
type KeyRow struct {
	Public     string
	DID        syntax.DID
	Sealed     []byte
	ReservedAt time.Time
}

// Chunk is a part of a repository. Records are ordered by key over all chunks.
type Chunk struct {
	Nodes   []NodeRow
	Records []RecordRow
}

// NodeRow is a node of the tree, and the revision that wrote it.
type NodeRow struct {
	mst.Changed

	Rev syntax.TID
}

// RecordRow is a record, with what is derived from it.
type RecordRow struct {
	repo.Record
	repo.Derived
}

// Settled is all of an actor but nodes and records.
type Settled struct {
	DID syntax.DID
	// Head has no Number.
	Head repo.Head
	// SigningKey is the did:key, SealedKey the private key.
	SigningKey string
	SealedKey  []byte
	// Document is stored if the account has none.
	Document []byte
	Blobs    []BlobRow
	// Takedowns are those of records and blobs.
	Takedowns []admin.Takedown
	// Preferences is a JSON array, nil for none.
	Preferences []byte
	State       State
	// Now is since when a blob that no record refers to is unused.
	Now time.Time
}

// BlobRow is a blob as it is stored here. Key names its file.
type BlobRow struct {
	CID       string
	Size      int64
	MimeType  string
	Key       string
	CreatedAt time.Time
}

// Head is an account's repository, as it is stored here.
type Head struct {
	DID    syntax.DID
	Head   account.Head
	Status account.Status
	// Handle is the account's.
	Handle syntax.Handle
}

// Counts is how much is stored.
type Counts struct {
	Accounts, Active, Deactivated, TakenDown        int64
	Repositories, Records, Blobs, BlobBytes         int64
	AppPasswords, Invites, InviteUses, ReservedKeys int64
	EmailCodes, Preferences, Takedowns, Sessions    int64
	Events, LastEvent                               int64
}
