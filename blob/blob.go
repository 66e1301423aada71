// Package blob owns uploads (https://atproto.com/specs/blob): temporary at
// first, permanent while a record refers to them, deleted some time after the
// last reference is gone.
//
// Invariants: a blob that a record refers to is never deleted; its file is whole
// and on disk before a record can refer to it; memory is bounded whatever its size.
package blob

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
)

// Errors of this package.
var (
	ErrNotFound  = errors.New("blob not found")
	ErrTooLarge  = errors.New("blob is larger than is taken here")
	ErrQuota     = errors.New("account is over its quota of blobs")
	ErrNoAccount = errors.New("no such account")
	// ErrAbandoned: the upload took so long that its file was given up.
	ErrAbandoned = errors.New("upload was given up")
	// ErrTakenDown: moderation took the blob down, so it is not accepted again.
	ErrTakenDown = errors.New("blob was taken down")
)

// Blob is an upload of one account.
type Blob struct {
	CID      cid.Cid
	Size     int64
	MimeType string
	// Key names the file. Each upload has its own, so that deleting an old file
	// can never hit one that was just uploaded.
	Key       string
	CreatedAt time.Time
}

// Missing is a blob that a record refers to and that was never uploaded.
type Missing struct {
	CID    cid.Cid
	Record string // collection/rkey
}

// Kept is a blob that records refer to.
type Kept struct {
	Blob

	// Records are the keys (collection/rkey) of up to MaxUses of the records.
	Records []string
	// TakenDown: moderation took the blob down, so nobody is given it.
	TakenDown bool
}

// MaxUses bounds the records that Kept names.
const MaxUses = 20

// Pay is called for each PayEvery references, or blobs, that a call has scanned,
// whatever it finds. Its error ends the call. A nil Pay is never called.
type Pay func() error

// PayEvery is how many rows one charge covers; a call that scans fewer is free.
const PayEvery = 1000

// Store keeps what is known about blobs. Every method is one transaction, durable
// when it returns nil. References are stored with the records, in the same
// database.
type Store interface {
	// Intend notes the key of a file that is about to appear, so that it is found and
	// removed if the upload fails.
	Intend(ctx context.Context, key string, at time.Time) error
	// Add makes an intended file a blob of the account. If the account has the blob
	// already, the new file replaces the old one, which is then garbage; its type and
	// time are the new ones unless a record refers to it. It returns the blob as it is
	// now. quota, if not 0, bounds the sum of the account's sizes: ErrQuota, and the
	// file is garbage, as it is if moderation took the blob down: ErrTakenDown.
	// ErrNoAccount. ErrAbandoned: Garbage has returned the key.
	Add(ctx context.Context, accountID int64, b Blob, quota int64) (Blob, error)
	// Room returns the size of the largest upload that Add would accept: what quota
	// leaves, or the largest blob that the account has, which may be uploaded again.
	Room(ctx context.Context, accountID, quota int64) (int64, error)
	// Get returns a blob of the account that a record refers to and that
	// moderation has not taken down: ErrNotFound.
	Get(ctx context.Context, accountID int64, id cid.Cid) (Blob, error)
	// List returns CIDs of blobs that records refer to, in the order of their text,
	// after cursor; with since only those of records that a later commit wrote: it then
	// calls pay.
	List(ctx context.Context, accountID int64, since syntax.TID, cursor string, limit int, pay Pay) ([]cid.Cid, error)
	// Kept returns the account's blobs that records refer to, in the order of the CIDs'
	// text, after cursor, with what is known of them.
	Kept(ctx context.Context, accountID int64, cursor string, limit int) ([]Kept, error)
	// Missing returns the blobs that records refer to and that are not there, in the
	// order of the CIDs' text, after cursor: one record for each. It calls pay for what
	// it scans.
	Missing(ctx context.Context, accountID int64, cursor string, limit int, pay Pay) ([]Missing, error)
	// Count returns how many different blobs records refer to, and how many of
	// them are there.
	Count(ctx context.Context, accountID int64) (expected, there int64, err error)
	// Collect forgets the blobs of accounts that were deleted, and those that no record
	// refers to, in the account's repository or in one that is being imported: those that
	// were never referred to and were uploaded before unused, and those whose last
	// reference went before unreferenced. Their files are then garbage. It scans a bounded
	// number and returns how many it forgot, and whether there may be more.
	Collect(ctx context.Context, unused, unreferenced time.Time) (collected int, more bool, err error)
	// Garbage returns up to limit keys after the given one, in order, of files that
	// belong to no blob and never will: those of blobs that are gone, and those
	// intended before the given time, which Add refuses from now on.
	Garbage(ctx context.Context, intended time.Time, after string, limit int) ([]string, error)
	// Forget drops keys of files that were removed.
	Forget(ctx context.Context, keys []string) error
}

// Files keeps the bytes of blobs: on disk, or in S3. Keys are letters and digits.
type Files interface {
	// Create begins a file that nobody can see until Commit.
	Create(ctx context.Context) (Upload, error)
	// Open returns a file for reading, ErrNotFound if there is none.
	Open(ctx context.Context, key string) (File, error)
	// Remove deletes a file. It is not an error if there is none.
	Remove(ctx context.Context, key string) error
}

// Inspector reads the files of blobs in order to check them. It makes, removes and
// tries nothing.
type Inspector interface {
	// Open returns a file for reading, ErrNotFound when there is none.
	Open(ctx context.Context, key string) (File, error)
	// Each calls yield for each file that is there, in order: where it is, and its key,
	// which is empty if no blob could have the file. Unfinished uploads are left out. A
	// missing folder has no files.
	Each(ctx context.Context, yield func(path, key string) error) error
}

// Upload is a file that is being written.
type Upload interface {
	io.Writer
	// Commit makes it durable under key.
	Commit(ctx context.Context, key string) error
	// Abort drops it; after Commit it does nothing.
	Abort()
}

// File is a stored file, to be closed.
type File interface {
	io.ReadSeekCloser
}
