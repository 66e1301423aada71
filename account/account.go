package account

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/firehose/event"
	"nestbox/mail"
)

// Status is an account's hosting status as the Lexicon has it
// (com.atproto.server.getSession#status).
type Status string

// The hosting statuses. Active is not sent: clients assume it.
const (
	Active      Status = ""
	TakenDown   Status = event.StatusTakenDown
	Suspended   Status = event.StatusSuspended
	Deactivated Status = event.StatusDeactivated
)

// Account is what the server keeps about one account, without its secrets.
// Times that never were are zero.
type Account struct {
	// ID is the store's own number. It never leaves the server.
	ID     int64
	DID    syntax.DID
	Handle syntax.Handle
	Email  string

	CreatedAt        time.Time
	EmailConfirmedAt time.Time
	// EmailFactor: a sign-in with the password takes a code that is sent to the
	// address as well. It is on only while the address is confirmed.
	EmailFactor bool
	Switches
	// Language is the tag of the language of mails: that of the page that the owner saw
	// last, empty if there was none.
	Language string
	// NoticesOff: the owner is not told by mail of what happens to the account.
	NoticesOff    bool
	DeactivatedAt time.Time
	// DeleteAfter is when the owner wants a deactivated account deleted.
	DeleteAfter time.Time
	Measures

	// InvitedWith is the invite code of the sign-up, if one was used.
	InvitedWith string
	// SigningKey is the public key that signs the account's repository
	// (did:key).
	SigningKey string

	// TokensValidAfter ends the tokens of another server that were issued
	// before it: ours are ended through their sessions.
	TokensValidAfter time.Time

	// Document is the DID document as last seen, JSON; empty when it never was.
	Document []byte
	// HandleInvalid: the last background check found that the handle does not
	// resolve both ways. Requests read this, they never check.
	HandleInvalid     bool
	IdentityCheckedAt time.Time
}

// Switches are what the owner chose about signing in, besides EmailFactor. They are
// changed with the account's second factors: see package signin.
type Switches struct {
	// PasskeySecond: a sign-in with the password takes a second factor even if passkeys
	// are the only ones. It is on only while the account has a passkey.
	PasskeySecond bool
	// DangerousFactor: apps that delete the account, or change its identity, send a code
	// of the owner's authenticator app behind the mailed one. It is on only while TOTP is.
	DangerousFactor bool
	// AppsOff: apps cannot sign in with the account's own password.
	AppsOff bool
}

// ShownEmail returns the address in the form that answers have, lower case. Mail goes to
// the address as its owner wrote it.
func (a *Account) ShownEmail() string { return strings.ToLower(a.Email) }

// Status returns the hosting status.
func (a *Account) Status() Status { return StatusOf(a.TakenDownAt, a.SuspendedAt, a.DeactivatedAt) }

// Hidden reports whether the account's handle leads nowhere: it was taken down, or its
// owner has deactivated it.
func (a *Account) Hidden() bool { return !a.TakenDownAt.IsZero() || !a.DeactivatedAt.IsZero() }

// ShownHandle is the handle as clients may be shown it: the one that does not
// verify is handle.invalid, since an empty or malformed one makes them throw
// the whole answer away.
func (a *Account) ShownHandle() syntax.Handle {
	if a.HandleInvalid || a.Handle == "" {
		return syntax.HandleInvalid
	}
	return a.Handle
}

// With returns the account after a change of status at now, and whether that ends its
// sessions: a takedown does. ErrTakenDown: an account that is taken down, or that the
// same change takes down, is not activated.
func (a *Account) With(c StatusChange, now time.Time) (next Account, endSessions bool, err error) {
	next = *a
	next.Measures = a.Measures.With(c, now)
	if c.Deactivated != nil {
		if !*c.Deactivated && !next.TakenDownAt.IsZero() {
			return Account{}, false, ErrTakenDown
		}
		next.DeactivatedAt = dated(*c.Deactivated, a.DeactivatedAt, now)
		switch {
		case !*c.Deactivated:
			next.DeleteAfter = time.Time{}
		case c.DeleteAfter != nil:
			next.DeleteAfter = *c.DeleteAfter
		}
	}
	return next, c.Takedown != nil && c.Takedown.Applied, nil
}

// dated is the date of a measure: none when it is lifted, the old one when it
// is in force already.
func dated(applied bool, was, now time.Time) time.Time {
	switch {
	case !applied:
		return time.Time{}
	case !was.IsZero():
		return was
	default:
		return now
	}
}

// Errors of the Store.
var (
	ErrNotFound        = errors.New("no such account")
	ErrHandleTaken     = errors.New("handle is taken")
	ErrEmailTaken      = errors.New("e-mail address is taken")
	ErrDIDTaken        = errors.New("account exists")
	ErrNameTaken       = errors.New("an app password of that name exists")
	ErrTooMany         = errors.New("too many app passwords")
	ErrInviteUsed      = errors.New("invite code is not available")
	ErrStatusConflict  = errors.New("account is not in a state for that")
	ErrPasswordChanged = errors.New("password was changed meanwhile")
)

// Credentials are an account's secrets in their stored form.
type Credentials struct {
	PasswordHash string
	// Epoch counts what has ended the account's sign-ins. A session is only
	// made while it is what it was when the password was checked.
	Epoch int64
	// TakenDown is as of the same moment as Epoch.
	TakenDown    bool
	AppPasswords []AppPassword
}

// AppPassword is a password for one app.
type AppPassword struct {
	ID         int64
	Name       string
	Hash       string
	Privileged bool
	CreatedAt  time.Time
	// UsedAt and UsedNetwork are the last use by a session that has ended since; zero if
	// there was none. Living sessions know theirs.
	UsedAt      time.Time
	UsedNetwork string
}

// MaxAppPasswords bounds an account's app passwords.
const MaxAppPasswords = 100

// StatusChange is a change of hosting status and of moderation measures; nil members
// stay as they are.
type StatusChange struct {
	Takedown        *Applied
	Suspended       *bool
	InvitesDisabled *bool
	Deactivated     *bool
	// DeleteAfter goes with Deactivated=true: zero for never, nil for what the owner
	// has said before.
	DeleteAfter *time.Time
}

// Applied is a moderation measure that is in force, or no longer.
type Applied struct {
	Applied bool
	Ref     string
}

// EmailChange is a change of an account's address. One of another EmailKey ends all codes
// that were sent to the old one; unless ConfirmedAt is set it is not confirmed, and asks for
// no codes at sign-in.
type EmailChange struct {
	Email string
	// ConfirmedAt, if it is set, is when the owner showed that they read the mail of the
	// new address.
	ConfirmedAt time.Time
	// Factor, if it is set, is the new EmailFactor, and the address stays: Email is the
	// one that the factor was decided for, ErrStatusConflict if the account has another,
	// or "" for whatever it has.
	Factor *bool
	// Proof, where it is set, is used up.
	Proof *Proof
	// Unconfirmed: only while the address is not confirmed, ErrStatusConflict
	// otherwise.
	Unconfirmed bool
}

// Store keeps accounts. Every method is one transaction and durable when it
// returns nil; an error other than the sentinels means that the outcome is
// "not done". Pending accounts are invisible to all of them.
//
// Reads may be answered from a cache. A server reads what it wrote; a change that another
// server of the same database made is seen within a second. What a method decides on, it
// reads inside its transaction.
type Store interface {
	// ByDID, ByHandle and ByEmail return ErrNotFound where there is no such
	// account. The handle is normalised; the e-mail is one of the same EmailKey.
	ByDID(ctx context.Context, did syntax.DID) (*Account, error)
	ByHandle(ctx context.Context, h syntax.Handle) (*Account, error)
	ByEmail(ctx context.Context, email string) (*Account, error)
	// List returns up to limit accounts with an ID above after, by ID.
	List(ctx context.Context, after int64, limit int) ([]*Account, error)

	// Credentials returns the stored hashes, read fresh.
	Credentials(ctx context.Context, id int64) (Credentials, error)
	// UpgradeHash replaces a password's hash by a better one of the same
	// password. Where it is no longer old: ErrPasswordChanged.
	UpgradeHash(ctx context.Context, id int64, old, better string) error
	// UpgradeAppPassword is UpgradeHash of an app password, which ErrPasswordChanged also
	// says was revoked.
	UpgradeAppPassword(ctx context.Context, id int64, old, better string) error
	// SetPassword stores a new password's hash and ends every session of the
	// account except keep (0: none), and its CodesOfPassword, and forgets what its owner
	// allowed OAuth clients; e notes it by Entry.Ending. Here as in the methods below, mails are queued with the change;
	// where the outbox has no room for them, the change is made without.
	SetPassword(ctx context.Context, id int64, hash string, keep int64, e Entry, mails ...mail.Message) error
	// ResetPassword is SetPassword of the account that a code stands for, with no
	// session kept. ErrCodeInvalid: the code was used up meanwhile.
	ResetPassword(ctx context.Context, p Proof, hash string, e Entry, mails ...mail.Message) error

	// ConfirmEmail marks the address of the account that a code stands for as
	// confirmed. ErrCodeInvalid: the code was used up, or the address changed,
	// meanwhile.
	ConfirmEmail(ctx context.Context, p Proof, e Entry) error
	// SetEmail changes the address, or what it is used for, as Account.WithEmail says.
	// ErrEmailTaken, ErrCodeInvalid, ErrStatusConflict: see EmailChange.
	SetEmail(ctx context.Context, id int64, c EmailChange, e Entry, mails ...mail.Message) error
	// SetNotices turns mails to the owner about changes of the account on or off.
	SetNotices(ctx context.Context, id int64, on bool, e Entry, mails ...mail.Message) error

	// SetLanguage stores the language of mails to the owner. ErrNotFound.
	SetLanguage(ctx context.Context, id int64, tag string) error

	// AddAppPassword: ErrNameTaken, ErrTooMany.
	AddAppPassword(ctx context.Context, id int64, p AppPassword, e Entry, mails ...mail.Message) error
	// RevokeAppPassword ends its sessions with it. An unknown name is not an
	// error.
	RevokeAppPassword(ctx context.Context, id int64, name string, e Entry) error

	// SetStatus changes the hosting status as Account.With says, and returns the account
	// as it is now. In the same transaction it ends every session, if With says so, and
	// those on the admin page, if the account is not active now,
	// appends StatusEvents to the event log, and makes the identity of an account that
	// Reappears due for a check. What is Urgent while events get no number is announced with
	// all accounts, once they do. ErrTakenDown: see Account.With.
	SetStatus(ctx context.Context, id int64, c StatusChange, e Entry, mails ...mail.Message) (*Account, error)
	// RepeatStatus has the event log say the account's status again. ErrNotFound.
	RepeatStatus(ctx context.Context, id int64, at time.Time) error
	// Delete removes the account and all that hangs on it, mails that wait for its
	// address too, at once or in steps that begin now, and the event log says so. Its
	// Measures, and takedowns of its records and blobs, stay. Unknown: ErrNotFound.
	Delete(ctx context.Context, id int64, at time.Time) error
	// Leave is Delete for the owner, and uses up the code; mails outlive the account. Leaving.Check decides by the
	// account in the transaction. ErrCodeInvalid: the code was used up, or a newer one
	// replaced it, meanwhile.
	Leave(ctx context.Context, id int64, l Leaving, at time.Time, mails ...mail.Message) error

	// MeasuresOf returns the measures against a DID, whether it has an account here or
	// had one. ErrNotFound if it has none and nothing of it was taken down.
	MeasuresOf(ctx context.Context, did syntax.DID) (Measures, error)
	// SetMeasures changes the measures against a DID that has no account here, and
	// returns them; the audit log gets e. ErrNotFound if the DID has an account, or if
	// MeasuresOf does not know it.
	SetMeasures(ctx context.Context, did syntax.DID, c StatusChange, e Entry) (Measures, error)

	InviteStore

	// AddEntry appends to the trail, and queues the mails; Trail returns its latest limit
	// entries, newest first.
	AddEntry(ctx context.Context, id int64, e Entry, mails ...mail.Message) error
	Trail(ctx context.Context, id int64, limit int) ([]Entry, error)
}
