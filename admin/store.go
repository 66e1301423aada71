package admin

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/mail"
)

// AuditLimit is how many actions the audit log keeps; the oldest go first.
const AuditLimit = 100_000

// Action is something that an admin did, as the audit log keeps it. It holds no
// secret, and of an account only its DID, since that may be deleted.
type Action struct {
	// ID is the store's number: a later action has a higher one.
	ID int64
	At time.Time
	// Who acted: "admin" for HTTP Basic, the DID of a moderation service, or
	// "operator" for the command line.
	Who string
	// What is an account.EntryKind, or one of the actions below.
	What string
	// DID is the account concerned, Subject the part of it: a record's key, a
	// blob's CID. Either may be empty.
	DID     syntax.DID
	Subject string
	Details string
	// Network and UserAgent are those of the request.
	Network   string
	UserAgent string
}

// The actions that are not entries of an account's trail. They are stored, so
// their text never changes.
const (
	ActionDelete           = "account-deleted"
	ActionMail             = "mail-sent"
	ActionExport           = "repo-export"
	ActionImport           = "repo-import"
	ActionAdopt            = "account-adopted"
	ActionDrop             = "record-dropped"
	ActionTakedown         = "content-takedown"
	ActionTakedownLifted   = "content-takedown-lifted"
	ActionStatusRepeated   = "status-repeated"
	ActionKeyRotated       = "key-rotated"
	ActionKeyRetired       = "key-retired"
	ActionJump             = "firehose-jump"
	ActionBackup           = "backup"
	ActionInvites          = "invite-codes-made"
	ActionIdentityRepaired = "identity-repaired"
	ActionInvitesDisabled  = "invite-codes-disabled"
	ActionClientEnded      = "client-ended"
	ActionClientFetched    = "client-fetched"
	ActionCrawl            = "crawl-requested"
	ActionDisconnected     = "firehose-disconnect"
	ActionMailRetried      = "mail-retried"
	ActionResetMail        = "reset-mail-sent"
	ActionMailTested       = "mail-tested"
	ActionExamined         = "doctor-asked"
	ActionRoleGiven        = "admin-role-given"
	ActionRoleTaken        = "admin-role-taken"
	ActionEntered          = "admin-signed-in"
	ActionLeft             = "admin-signed-out"
)

// AuditFilter selects a page of the audit log.
type AuditFilter struct {
	// DID, if it is set, is the account concerned; Who the actor, What the action.
	DID       syntax.DID
	Who, What string
	// Since is when the earliest was done.
	Since time.Time
	// Before is the ID that all are below.
	Before int64
	Limit  int
}

// Takedown is a record or a blob that moderation took down.
type Takedown struct {
	// Subject is a record's key, collection/rkey, or a blob's CID.
	Subject string
	// CID is the version of the record that the moderator named, if any.
	CID string
	Ref string
	At  time.Time
}

// Content is what is known of a record or a blob.
type Content struct {
	// CID is the record's present version, or the blob; undefined if the
	// account does not have it.
	CID cid.Cid
	// Takedown is nil if it was not taken down.
	Takedown *Takedown
}

// Store keeps what was taken down, and the audit log. An admin's action on an
// account enters the log as OfEntry returns it, with the entry of the account's
// trail, in the same transaction; the details of Naming actions leave it with the
// account. Every method is one transaction, durable when it returns nil.
type Store interface {
	// SetTakedown takes a record or a blob of a DID down, by t's Subject, CID and Ref, or
	// lifts the takedown, and notes it. Neither the record or blob nor the account needs
	// to exist. A takedown in force keeps its date. account.ErrNotFound: see
	// account.Store.MeasuresOf.
	SetTakedown(ctx context.Context, did syntax.DID, t Takedown, applied bool, a Action) error
	// Content returns what is known of a record or a blob: the zero Content if
	// nothing is.
	Content(ctx context.Context, did syntax.DID, subject string) (Content, error)
	// Takedowns returns up to limit takedowns of a DID, with a subject behind
	// after, in the order of subjects.
	Takedowns(ctx context.Context, did syntax.DID, after string, limit int) ([]Takedown, error)
	// Search returns up to limit accounts with an ID above after, by ID, that have
	// text in their e-mail address or handle, whatever the case.
	Search(ctx context.Context, text string, after int64, limit int) ([]*account.Account, error)
	// SendMail queues a message and notes it: mail.ErrFull, mail.ErrTooLarge.
	SendMail(ctx context.Context, m mail.Message, a Action) error
	// Note logs an action. It is called before an action elsewhere, so that no
	// action is missing from the log.
	Note(ctx context.Context, a Action) error
	// Audit returns actions, the latest first.
	Audit(ctx context.Context, f AuditFilter) ([]Action, error)
}
