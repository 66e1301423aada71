package admin

import (
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

// The audit log's actions on accounts: pure functions that a store runs inside the
// transaction of the change.

// OfEntry returns the action that the audit log gets of an entry of an account's trail.
// ok is false if no admin caused the entry: the log gets none.
func OfEntry(did syntax.DID, e account.Entry) (a Action, ok bool) {
	if e.By != account.ActorAdmin {
		return Action{}, false
	}
	details := e.Reason
	for _, more := range []struct{ name, text string }{{"ref", e.Ref}, {"note", e.Note}} {
		if more.text != "" {
			details = strings.TrimSuffix(fmt.Sprintf("%s %q, %s", more.name, more.text, details), ", ")
		}
	}
	return Action{At: e.At, Who: e.Who, What: string(e.Kind), DID: did, Details: details, Network: e.Network, UserAgent: e.UserAgent}, true
}

// Naming are the actions whose details name the account by more than its DID. They are
// removed when the account is deleted.
func Naming() []string {
	return []string{string(account.EntryHandleChanged), string(account.EntryEmailChanged)}
}
