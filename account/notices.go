package account

import (
	"time"

	"nestbox/mail"
	"nestbox/ratelimit"
	"nestbox/request"
)

// Notices makes the mails that tell an owner what happened to the account. A nil
// Notices, or one without templates, makes none.
type Notices struct {
	// Templates is nil on a server that sends no mail.
	Templates *mail.Templates
	// Limits counts the notices of each account, whatever else is limited; nil counts
	// nothing. Beyond them a change is made without its notice.
	Limits *ratelimit.Limiter
}

// limits are those of one account's notices of one kind: none of a kind keeps the
// owner from those of another. Of new passwords and addresses there are few, by limits
// of their own.
func limits(kind mail.NoticeKind) []ratelimit.Limit {
	switch kind {
	case mail.NoticePassword, mail.NoticeEmail, mail.NoticeFactorOn, mail.NoticeFactorOff, mail.NoticeTOTPOn, mail.NoticeTOTPOff,
		mail.NoticePasskeyAdded, mail.NoticePasskeyRenamed,
		mail.NoticePasskeyRemoved, mail.NoticePasskeyCloned, mail.NoticeRecoveryMade, mail.NoticeRecoveryUsed, mail.NoticeSwitched,
		mail.NoticeFactorsOff, mail.NoticeNewEmail, mail.NoticeCodeGiven,
		mail.NoticeRotationKeys, mail.NoticeExported, mail.NoticeImported, mail.NoticeDeleted, mail.NoticeDeletionResumed:
		return nil // each wants proofs, and has limits of its own where it needs some
	case mail.NoticeSignIn, mail.NoticeHandle, mail.NoticeAppPassword, mail.NoticeDeactivated, mail.NoticeDeletion, mail.NoticeApp,
		mail.NoticeReplay, mail.NoticeNoticesOff:
	case mail.NoticeTheft:
		return []ratelimit.Limit{{Name: "notices-1d-" + string(kind), Points: 1, Window: 24 * time.Hour}}
	}
	return []ratelimit.Limit{
		{Name: "notices-1h-" + string(kind), Points: 10, Window: time.Hour},
		{Name: "notices-1d-" + string(kind), Points: 30, Window: 24 * time.Hour},
	}
}

// Wanted reports whether the account's owner gets notices of a kind. An address that nobody
// confirmed gets none: it may be a stranger's, and what a notice says may be of somebody
// else's choice.
func (n *Notices) Wanted(a *Account, kind mail.NoticeKind) bool {
	return n != nil && n.Templates != nil && (kind.Always() || !a.NoticesOff) && a.Email != "" && !a.EmailConfirmedAt.IsZero()
}

// Of returns the notice of an entry, to be queued with the change: none if the owner is
// not to get any (see Wanted), or had too many. detail is what mail.Notice says.
// If the change is not made, call Unsent.
func (n *Notices) Of(a *Account, kind mail.NoticeKind, e Entry, detail string) []mail.Message {
	if !n.Wanted(a, kind) || e.By != ActorAdmin && !n.Limits.Take(a.DID.String(), limits(kind)...).Allowed {
		return nil
	}
	program, system := request.ClientParts(request.ClientName(e.UserAgent))
	return []mail.Message{n.Templates.Notice(mail.Reader{To: a.Email, Handle: a.Handle.String(), Language: a.Language}, mail.Notice{
		Kind: kind, At: e.At, ByOperator: e.By == ActorAdmin,
		Network: e.Network, Client: program, System: system, Detail: detail,
	})}
}

// Unsent takes back what Of has counted, for a change that was not made: else
// changes that fail would use up the notices of one that does not.
func (n *Notices) Unsent(a *Account, kind mail.NoticeKind, e Entry, mails []mail.Message) {
	if len(mails) > 0 && e.By != ActorAdmin {
		n.Limits.GiveBack(a.DID.String(), limits(kind)...)
	}
}
