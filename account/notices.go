package account

import (
	"nestbox/mail"
	"nestbox/xrpc"
)

// Notices makes the mails that tell an owner what happened to the account. A nil
// Notices, or one without templates, makes none.
type Notices struct {
	// Templates is nil on a server that sends no mail.
	Templates *mail.Templates
}

// Wanted says whether the account's owner gets notices.
func (n *Notices) Wanted(a *Account) bool {
	return n != nil && n.Templates != nil && !a.NoticesOff && a.Email != ""
}

// Of returns the notice of an event, to be queued with the change: none where
// the owner has them switched off. detail is what mail.Notice says.
func (n *Notices) Of(a *Account, kind mail.NoticeKind, e Event, detail string) []mail.Message {
	if !n.Wanted(a) {
		return nil
	}
	return []mail.Message{n.Templates.Notice(a.Email, mail.Notice{
		Kind: kind, Handle: a.Handle.String(), At: e.At, ByOperator: e.By == ActorAdmin,
		Network: e.Network, Client: xrpc.ClientName(e.UserAgent), Detail: detail,
	})}
}

// OfEmail are the notices of a new address: one to it, and one to the old.
func (n *Notices) OfEmail(a *Account, email string, e Event) []mail.Message {
	mails := n.Of(a, mail.NoticeEmail, e, email)
	next := *a
	next.Email = email
	return append(mails, n.Of(&next, mail.NoticeEmail, e, email)...)
}
