// Package blob owns uploads (https://atproto.com/specs/blob): temporary at
// first, permanent while a record refers to them, deleted some time after the
// last reference is gone.
//
// Invariants: a blob that a record refers to is never deleted; its file is whole
// and on disk before it can be referred to; memory is bounded whatever its size.
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
	// ErrTakendown: moderation took the blob down, so it is not taken again.
	ErrTakendown = errors.New("blob was taken down")
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

// Pay is called for each PayEvery references, or blobs, that a call has looked at,
// whatever it finds. Its error ends the call. A nil Pay asks for nothing.
type Pay func() error

// PayEvery: what looks at fewer is free.
const PayEvery = 1000

// Store keeps what is known of blobs. Every method is one transaction, durable
// when it returns nil. References are kept with the records, by the same
// database.
type Store interface {
	// Intend notes the key of a file that is about to appear, so that it is
	// found and removed where the upload does not end well.
	Intend(ctx context.Context, key string, at time.Time) error
	// Add makes an intended file a blob of the account. Where the account has
	// the blob already, the new file takes the place of the old one, which is
	// garbage then; its type and time are the new ones unless a record refers to
	// it. It returns the blob as it is now. quota, where it is not 0, bounds the
	// sum of the account's sizes: ErrQuota, and the file is garbage, as it is
	// where moderation took the blob down: ErrTakendown. ErrNoAccount.
	// ErrAbandoned: Garbage has returned the key.
	Add(ctx context.Context, accountID int64, b Blob, quota int64) (Blob, error)
	// Room returns how large an upload can be at most that Add would take: what
	// quota leaves, or the largest that the account has, which may come again.
	Room(ctx context.Context, accountID, quota int64) (int64, error)
	// Get returns a blob of the account that a record refers to and that
	// moderation has not taken down: ErrNotFound.
	Get(ctx context.Context, accountID int64, id cid.Cid) (Blob, error)
	// List returns CIDs of blobs that records refer to, in the order of their
	// text, behind cursor; with since only those of records that were written by
	// a commit after it: for these it pays.
	List(ctx context.Context, accountID int64, since syntax.TID, cursor string, limit int, pay Pay) ([]cid.Cid, error)
	// Missing returns what records refer to and is not there, in the order of
	// the CIDs' text, behind cursor: one record for each. It pays for what it looks
	// at.
	Missing(ctx context.Context, accountID int64, cursor string, limit int, pay Pay) ([]Missing, error)
	// Count returns how many different blobs records refer to, and how many of
	// them are there.
	Count(ctx context.Context, accountID int64) (expected, there int64, err error)
	// Collect forgets the blobs of accounts that were deleted, and those that no
	// record refers to, be it of the account's repository or of one that is being
	// imported: those that never were referred to and were uploaded before unused,
	// and those whose last reference went before unreferenced. Their files are garbage then. It looks at a bounded
	// number and returns how many it forgot, and whether there may be more.
	Collect(ctx context.Context, unused, unreferenced time.Time) (collected int, more bool, err error)
	// Garbage returns up to limit keys behind after, in order, of files that
	// belong to no blob and never will: those of blobs that are gone, and those
	// intended before the given time, which Add refuses from now on.
	Garbage(ctx context.Context, intended time.Time, after string, limit int) ([]string, error)
	// Forget drops keys of files that were removed.
	Forget(ctx context.Context, keys []string) error
}

// Files keeps the bytes of blobs: on disk, or in S3. Keys are letters and digits.
type Files interface {
	// Create begins a file that can be seen by nobody until Commit.
	Create(ctx context.Context) (Upload, error)
	// Open returns a file for reading, ErrNotFound where there is none.
	Open(ctx context.Context, key string) (File, error)
	// Remove deletes a file. It is not an error if there is none.
	Remove(ctx context.Context, key string) error
}

// Inspector reads the files of blobs for a check of them. It makes, removes and tries
// nothing.
type Inspector interface {
	// Open returns a file for reading, ErrNotFound when there is none.
	Open(ctx context.Context, key string) (File, error)
	// Each calls yield for each file that is there, in order: where it is, and its
	// key, which is empty when no blob could have the file. Unfinished uploads are
	// left out. Without a place for files there is none.
	Each(ctx context.Context, yield func(path, key string) error) error
}

// Upload is a file in the making.
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
