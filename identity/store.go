package identity

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Subject is an account as far as its identity goes.
type Subject struct {
	AccountID int64
	DID       syntax.DID
	Handle    syntax.Handle
	// SigningKey is the key (did:key) that its DID document should name.
	SigningKey string
	// Document is the DID document as last seen, JSON.
	Document []byte
	// HandleInvalid is what the last check found, at CheckedAt: zero for none that
	// counts.
	HandleInvalid bool
	CheckedAt     time.Time
	// Hidden: see account.Account.
	Hidden bool
}

// Store keeps what the network says of our accounts' identities. Every method
// is one durable transaction.
type Store interface {
	// Due returns up to limit accounts whose identity was last checked before
	// the given time, or never, the longest ago first.
	Due(ctx context.Context, before time.Time, limit int) ([]Subject, error)
	// SaveDocument stores a DID document as seen at the given time and whether
	// the handle was found not to verify.
	// What Subject.News calls news of the account is announced by an identity event, in
	// the same transaction.
	SaveDocument(ctx context.Context, accountID int64, document []byte, handleInvalid bool, at time.Time) error
	// SaveCheck is SaveDocument of what a check has found, but stores nothing if the
	// account is no longer the Same as Due returned it: what the check asked is old then.
	SaveCheck(ctx context.Context, s Subject, document []byte, handleInvalid bool, at time.Time) error
	// Doubt makes an account due: its document is about to change, and may be known
	// to nobody here if this process ends.
	Doubt(ctx context.Context, accountID int64) error
	// SaveSeen is SaveDocument of what was found for a Subject. If that is Outdated now,
	// it stores nothing and makes the account due.
	SaveSeen(ctx context.Context, s Subject, document []byte, handleInvalid bool, at time.Time) error
	// Announce is SaveSeen that announces the identity in any case.
	Announce(ctx context.Context, s Subject, document []byte, handleInvalid bool, at time.Time) error
}
