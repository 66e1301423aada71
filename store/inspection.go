package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/blob"
	"nestbox/firehose"
	"nestbox/hosting"
	"nestbox/repo"
)

// Inspector opens a database for checks, also while a server uses it. A database whose
// schema is not this binary's is refused; it is never migrated.
type Inspector interface {
	// Open opens the database as it is now: each read sees what is committed by then.
	Open(ctx context.Context) (Inspection, error)
	// Snapshot opens the database n times, as it is at one moment.
	Snapshot(ctx context.Context, n int) ([]Inspection, error)
}

// Inspection reads all that a database holds, for checks, and repairs what is derived
// from other rows. Only one goroutine may use it. What is damaged is returned as far as
// it can be read.
type Inspection interface {
	// Intact reports whether the database itself is sound: only then do queries find all
	// that is in it.
	Intact() (bool, error)
	// Checks returns how many checks of the database as a whole there are: of its own
	// structure, and of what the store and the domains promise of the rows. Check runs one
	// of them, from 0 on, and calls fault with a line for each fault. They are independent.
	Checks() int
	Check(n int, fault func(line string)) error
	// LogSize returns the size of what was written and not yet put in its place, in bytes:
	// an open Snapshot keeps it there.
	LogSize() int64

	// Accounts returns up to limit accounts with an ID above after, by ID.
	Accounts(after int64, limit int) ([]Inspected, error)
	// Sealed calls yield for each sealed secret but the accounts' present signing keys, with
	// its owner: authenticator apps, the keys of recovery codes, and signing keys that are
	// reserved or being changed to.
	Sealed(yield func(kind hosting.SealedKind, did syntax.DID, sealed []byte) error) error
	// Repo calls fn with an account's repository: repo.ErrNoRepo.
	Repo(accountID int64, fn func(repo.Rows) error) error
	// Rebuild derives from the records of an account's repository what follows from them,
	// as derive returns it: references to blobs, subjects; also which blobs are used,
	// counts, and, if tree is set, the nodes of the tree. It never changes a commit, a
	// record or a key. It is one transaction: an error (repo.ErrNoRepo, ErrRecord, ErrTree)
	// changes nothing. No process may have the database open.
	Rebuild(accountID int64, tree bool, derive func(repo.Record) (repo.Derived, error), at time.Time) (Rebuilt, error)

	// Blobs calls yield for each blob of each account. A CID that is damaged is undefined.
	Blobs(yield func(did syntax.DID, b blob.Blob) error) error
	// MissingBlobs calls yield for each blob that records of an account refer to and that
	// it has not uploaded, with one of the records.
	MissingBlobs(yield func(did syntax.DID, id, record string) error) error
	// HasFile reports whether a blob has the file of that key; KnowsFile also whether that
	// file is to be removed in time.
	HasFile(key string) (bool, error)
	KnowsFile(key string) (bool, error)

	// Events calls yield for each event of the log, in order, with the bytes of all bodies
	// up to it. LastEvent returns the number that the log gave last.
	Events(yield func(e firehose.Logged, total int64) error) error
	LastEvent() (int64, error)
	// Foreign returns the number up to which events came with a take-over, 0 for none.
	Foreign() (int64, error)
	// Inherited calls yield with each token of a server that was taken over whose session lives,
	// and returns what became of those sessions.
	Inherited(yield func(InheritedToken) error) (Inherited, error)

	Close() error
}

// Inspected is an account as an Inspection sees it.
type Inspected struct {
	ID  int64
	DID syntax.DID
	// SigningKey is the did:key, SealedKey the private key, sealed.
	SigningKey string
	SealedKey  []byte
	// Active: it is neither deactivated, suspended nor taken down.
	Active bool
	// Pending: its DID is being registered, so that it has no repository yet.
	Pending bool
}

// InheritedToken is a token of a server that was taken over.
type InheritedToken struct {
	// Hash is its session.TokenHash.
	Hash [sha256.Size]byte
	DID  syntax.DID
	// ClientID and DPoPJKT are the OAuth client that it was given to, and the thumbprint of the
	// key that the client proves; empty in sessions that no such client has.
	ClientID, DPoPJKT string
}

// Inherited is what became of the sessions of a server that was taken over.
type Inherited struct {
	// Since is when they were taken over, zero if none were.
	Since time.Time
	// Refreshed are those that were refreshed here, Opened the sessions that were opened here, the
	// first of them at First.
	Refreshed, Opened int64
	First             time.Time
}

// Rebuilt is what Inspection.Rebuild changed.
type Rebuilt struct {
	// References are references of records to blobs that were added or removed,
	// Marks the blobs whose use was marked wrong, Subjects the records whose
	// subject was.
	References, Marks, Subjects int
	// Counted: the number of records, of blobs, or of the next node was wrong, or the
	// revision of the first commit or of the last removal.
	Counted bool
	// Nodes is how many there are, if the tree was made again.
	Nodes int64
}

// Errors of Inspection.Rebuild.
var (
	// ErrRecord: a record is damaged, so nothing can be derived from it.
	ErrRecord = errors.New("a record is damaged")
	// ErrTree: the records do not make the tree that was signed.
	ErrTree = errors.New("the records do not make the tree that was signed")
)
