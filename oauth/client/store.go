package client

import (
	"context"
	"time"
)

// Kept is what is stored of a client.
type Kept struct {
	ID string
	// Document, and the set of keys if the document only names it, as they were fetched last;
	// nil if no fetch has succeeded. Fresh is until when they need not be fetched again.
	Document, KeySet []byte
	Fetched, Fresh   time.Time
	// Failed is when a fetch failed, and Error why, if the last one did.
	Failed time.Time
	Error  string
}

// RemovedKey is a key that a client had, or that a session is bound to, and that the
// client's set lacks.
type RemovedKey struct {
	ClientID, Thumbprint string
	// Since is when that was found first.
	Since time.Time
}

// Store keeps documents. Each method is one transaction.
type Store interface {
	// Client returns what is kept of a client: ErrNotFound.
	Client(ctx context.Context, id string) (Kept, error)
	// Keep replaces what is kept of a client. present are the thumbprints of the keys in the
	// set: the client has them, so they are not removed ones any more. removed are not in it:
	// those that are not known as removed are since k.Fetched.
	Keep(ctx context.Context, k Kept, present, removed []string) error
	// Remove notes a key that a client lacks, unless it is known as removed, and returns since
	// when it is: ErrNotFound if nothing is kept of the client.
	Remove(ctx context.Context, k RemovedKey) (since time.Time, err error)
	// Removed lists, in the order of client and thumbprint, and after a key, the keys that were
	// removed before a time; at most limit.
	Removed(ctx context.Context, before time.Time, after RemovedKey, limit int) ([]RemovedKey, error)
	// Forget deletes clients, with their removed keys, that were neither fetched nor tried
	// since a time, and those beyond the number to keep that were so for longest; at most limit.
	// It returns how many.
	Forget(ctx context.Context, before time.Time, keep, limit int) (int, error)
}
