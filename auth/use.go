package auth

import (
	"nestbox/firehose/event"
	"nestbox/xrpc"
)

// Use is what an endpoint does with an account. May is the table of which status of the
// account allows which use; docs/sessions.md explains it. The zero Use is refused to
// every account that is not active.
type Use int

// The uses, each with some of its endpoints.
const (
	UseWrite    Use = iota // write records
	UseLook                // read what only the owner sees: getSession, checkAccountStatus
	UseManage              // change the account's settings: e-mail, handle, app passwords, preferences
	UseActivate            // activateAccount
	UseBring               // importRepo, uploadBlob
	UseDelete              // deleteAccount, and the code that it requires
	UseInvite              // read and earn invite codes
	UseLeave               // move out, deactivate, report: what a taken-down account may do
)

// May returns nil if an account of a status allows the use, and otherwise the error for
// the client. status is empty for an active account. An account that is taken down may
// do only what UseLeave names, with a token of ScopeTakenDown.
func May(u Use, status string, scope Scope) error {
	switch status {
	case "":
		return nil
	case event.StatusTakenDown:
		if scope == ScopeTakenDown && u == UseLeave {
			return nil
		}
		return TakenDown()
	case event.StatusSuspended:
		switch u {
		case UseWrite, UseBring, UseDelete:
			return Suspended()
		case UseLook, UseManage, UseActivate, UseInvite, UseLeave:
		}
	default: // deactivated
		switch u {
		case UseWrite:
			return errDeactivated()
		case UseInvite:
			return xrpc.BadRequest(xrpc.NameNotFound, "Account not found") // as the reference answers
		case UseLook, UseManage, UseActivate, UseBring, UseDelete, UseLeave:
		}
	}
	return nil
}

// TakenDown returns the answer on every route to a client that acts for an account
// which has been taken down.
func TakenDown() error {
	return xrpc.Unauthorized(xrpc.NameAccountTakedown, "Account has been taken down")
}

// Suspended returns the answer if a suspension forbids the request. Its name is
// the one that clients know.
func Suspended() error {
	return xrpc.Unauthorized(xrpc.NameAccountTakedown, "Account has been suspended")
}

func errDeactivated() error {
	return xrpc.Unauthorized("AccountDeactivated", "Account is deactivated")
}

// For returns a verifier for endpoints that make this use of the caller's account: it
// refuses a caller if May does.
func (v *Verifier) For(u Use) *Verifier {
	of := *v
	of.use = u
	return &of
}
