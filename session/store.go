package session

import (
	"context"
	"crypto/sha256"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/mail"
)

// New is a session to be made.
type New struct {
	AccountID     int64
	Scope         auth.Scope
	AppPasswordID int64
	// Grant is set for the session of an OAuth client.
	Grant *Grant
	// Epoch is that of the credentials that were checked.
	Epoch     int64
	At        time.Time
	Expires   time.Time
	Nonce     string
	Network   string
	UserAgent string
	// Limit caps the account's live sessions, this one included: see MakeRoom.
	Limit int
	// Entry is the sign-in, as the trail records it.
	Entry account.Entry
	// Code, if set, was asked for besides the password; Create uses it up.
	Code *account.Proof
	// Mails are queued with the session.
	Mails []mail.Message
}

// Store keeps sessions. Every method is one transaction; what it returned
// without error is durable and survives kill -9. Reads, and decisions that
// change nothing, may come from a cache. A server reads what it wrote; what another server
// of the same database wrote, an end of sessions above all, is seen within a second. A
// decision that changes something is made on the row as it is.
type Store interface {
	// Create inserts a session at generation 0 and ends those that MakeRoom names, in the
	// same transaction. ErrUnknown: the account or the
	// app password is gone, or what was checked before (password, takedown) has
	// changed: see New.Epoch. account.ErrCodeInvalid: New.Code was used up.
	Create(ctx context.Context, n New) (*State, error)
	// Seen returns the user agents that an account's sessions, and the Arrivals on its
	// trail, had in a client network, as far as they are remembered.
	Seen(ctx context.Context, accountID int64, network string) ([]string, error)
	// Load returns a session, ErrUnknown if it has ended or never existed.
	Load(ctx context.Context, id int64) (*State, error)
	// Inherited returns what a token stands for of the server that this one took over from: see
	// TokenHash. ErrUnknown if it stands for nothing.
	Inherited(ctx context.Context, hash [sha256.Size]byte) (Inherited, error)
	// ForgetInherited forgets tokens of that server, a bounded number in a call, if they were
	// taken over before a time, and returns how many there were.
	ForgetInherited(ctx context.Context, before time.Time) (int, error)
	// Rotate applies decide to the session atomically: when it returns a changed
	// Rotation, the session is at Next (or gone, for Revoke), the entries on the trail
	// and the mails queued, durably, before Rotate returns; two concurrent calls see each
	// other's result. decide is pure and may be called several times; its error
	// is returned as it is and changes nothing. ErrUnknown as in Load.
	Rotate(ctx context.Context, id int64, decide func(State) (Rotation, error)) (Rotation, error)
	// End removes a session, records e and queues mails. ErrUnknown if there is none. Like
	// every end of a session of no OAuth client that tokens of another server stand for, it
	// ends that server's access tokens of the account if EndsForeign says so.
	End(ctx context.Context, id int64, e account.Entry, mails ...mail.Message) error
	// EndKey removes sessions of an OAuth client that are bound to the key with a thumbprint,
	// a bounded number in a call, records e for each, and returns how many there were.
	EndKey(ctx context.Context, clientID, jkt string, e account.Entry) (int, error)
	// Called sets Grant.LastCallAt of a session. If that has ended, there is nothing to do.
	Called(ctx context.Context, id int64, at time.Time) error
	// Authorized reports whether the trail of an account has an app-authorized entry with a
	// reason and a client network, as far as it remembers.
	Authorized(ctx context.Context, accountID int64, reason, network string) (bool, error)
	// EndAll removes all sessions of an account and returns how many there were.
	// With appPasswords it removes the app passwords themselves as well.
	EndAll(ctx context.Context, accountID int64, appPasswords bool, e account.Entry) (int, error)
	// List returns an account's sessions, latest used first.
	List(ctx context.Context, accountID int64) ([]State, error)
	// Collect removes sessions that expired before the given time, those of OAuth clients
	// if they expired before granted, looking at a bounded number of rows above after; it
	// returns where to go on, 0 at the end, and how many it removed.
	Collect(ctx context.Context, after int64, before, granted time.Time) (next int64, removed int, err error)
}
