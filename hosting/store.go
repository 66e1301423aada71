package hosting

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/repo"
)

// Pending is an account whose DID is being registered: everything that is
// needed to finish what the directory has, or to undo the rest, after a crash. The
// operation is not kept: a sign-up that did not reach the directory is undone, since
// the person got no answer and signs up again.
type Pending struct {
	// AccountID is given by Reserve.
	AccountID        int64
	DID              syntax.DID
	Handle           syntax.Handle
	Email            string
	PasswordHash     string
	SigningKey       string // did:key
	SigningKeySealed []byte
	// InviteCode is used by the reservation and freed when it is abandoned.
	InviteCode string
	// MadeBy is the admin who makes it, "" if its owner does.
	MadeBy    string
	CreatedAt time.Time
}

// ReservedKey is a signing key that was promised to an account which moves in.
type ReservedKey struct {
	Public string // did:key
	// DID is the account it was promised to; "" if none was named.
	DID        syntax.DID
	Sealed     []byte
	ReservedAt time.Time
	// Sender is the same for all keys that one network reserved, and does not name the
	// network.
	Sender []byte
}

// ErrKeyReserved: another signing key is reserved for the DID that moves in.
var ErrKeyReserved = errors.New("another signing key is reserved for this DID")

// Store keeps accounts while they come into being. Every method is one durable
// transaction.
type Store interface {
	// Reserve reserves DID, handle, e-mail and invite code for an account that nobody
	// can see yet. Errors: account.ErrHandleTaken, account.ErrEmailTaken,
	// account.ErrDIDTaken, account.ErrInviteUsed if there is no such code or
	// account.InviteCode.Admits says so.
	Reserve(ctx context.Context, p Pending) (int64, error)
	// Activate makes a reserved account exist, with the DID document that its operation
	// results in and its first repository, and returns it. The event log gets
	// BirthEvents. If first is nil it has no repository, like accounts of earlier
	// versions. Not reserved: account.ErrNotFound.
	Activate(ctx context.Context, id int64, document []byte, first *repo.Change, e account.Entry) (*account.Account, error)
	// Abandon undoes a reservation; it is not an error if that is gone, or the account
	// is active.
	Abandon(ctx context.Context, id int64) error
	// MoveIn makes an account that exists elsewhere, deactivated, with an empty repository
	// that is not announced, and returns it. The key that was reserved for its DID is no
	// longer reserved; ErrKeyReserved: it is not p's. The measures against the DID are in force again;
	// account.ErrTakenDown: see account.Measures.MayMoveIn. Other errors: those of Reserve.
	MoveIn(ctx context.Context, p Pending, document []byte, first repo.Change, e account.Entry) (*account.Account, error)
	// ReserveKey keeps a key until its time is over, and returns it, or the one that
	// was reserved for the same DID earlier. Keys reserved before expired are removed.
	// If limit keys are reserved already, SurplusKeys are removed first.
	ReserveKey(ctx context.Context, k ReservedKey, expired time.Time, limit int) (ReservedKey, error)
	// ReservedKey returns the key that is reserved for a DID: account.ErrNotFound.
	ReservedKey(ctx context.Context, did syntax.DID) (ReservedKey, error)
	// DeleteDue deletes one account that is Due, the longest overdue, and returns it,
	// nil if there is none.
	DeleteDue(ctx context.Context, now time.Time, farewell func(*account.Account) []mail.Message) (*account.Account, error)
	// Pending returns the reservations, without password hash.
	Pending(ctx context.Context) ([]Pending, error)
	// SealedKey returns an account's sealed signing key, and whose it is.
	// Unknown, or pending: account.ErrNotFound.
	SealedKey(ctx context.Context, id int64) (syntax.DID, []byte, error)
	// Hosted returns how many accounts are active.
	Hosted(ctx context.Context) (int64, error)
	// AnyKey returns the sealed signing key of the oldest account, pending or not:
	// account.ErrNotFound if there is none.
	AnyKey(ctx context.Context) (syntax.DID, []byte, error)
	// Reseal replaces every sealed signing key, of accounts, pending or not, of
	// reservations ("" if made for no DID) and of changes, and every sealed secret of a
	// second factor, by what the function makes of it, and returns how many there are. If
	// the function fails for one, none is replaced.
	Reseal(ctx context.Context, reseal func(kind SealedKind, of syntax.DID, sealed []byte) ([]byte, error)) (int, error)
}
