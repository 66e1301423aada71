package session

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"nestbox/account"
)

// Held is a session as it counts against its account's limit.
type Held struct {
	ID            int64
	AppPasswordID int64
	// ClientID is that of an OAuth client, LastCallAt its Grant's.
	ClientID   string
	RotatedAt  time.Time
	LastCallAt time.Time
}

// used returns when the session was last used.
func (h Held) used() time.Time {
	if h.LastCallAt.After(h.RotatedAt) {
		return h.LastCallAt
	}
	return h.RotatedAt
}

// MakeRoom returns which of the sessions held by an account end so that n keeps within
// its limit, and the entry that records it, which names the session if it is a single one;
// none end if there is room. The longest unused go first, those of n's own app password
// before any other: an app that signs in again and again does not sign out the owner's
// phone. It is pure; held may be in any order, and is sorted.
func MakeRoom(held []Held, n New) (end []int64, e account.Entry) {
	over := min(len(held)+1-n.Limit, len(held))
	if over <= 0 {
		return nil, account.Entry{}
	}
	client := ""
	if n.Grant != nil {
		client = n.Grant.ClientID
	}
	other := func(h Held) int {
		if h.AppPasswordID == n.AppPasswordID && h.ClientID == client {
			return 0
		}
		return 1
	}
	slices.SortFunc(held, func(a, b Held) int {
		return cmp.Or(cmp.Compare(other(a), other(b)), a.used().Compare(b.used()), cmp.Compare(a.ID, b.ID))
	})
	for _, h := range held[:over] {
		end = append(end, h.ID)
	}
	e = n.Entry
	e.Kind, e.By = account.EntrySessionsCapped, account.ActorServer
	if over == 1 {
		e.Session = end[0]
	}
	e.Reason = fmt.Sprintf("%d sessions ended to keep within the limit of %d", over, n.Limit)
	return end, e
}

// Arrivals returns the kinds of entries by which an account's trail remembers that a
// client was signed in: see Store.Seen.
func Arrivals() []account.EntryKind {
	return []account.EntryKind{account.EntrySignIn, account.EntrySignUp, account.EntryMovedIn}
}
