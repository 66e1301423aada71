package hosting

import (
	"cmp"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/repo/car"
)

// What the steps in an account's life write to the event log: pure functions that a store
// runs inside the transaction of the step and whose results it stores.

// Due reports whether an account is deleted at now because its owner, who has deactivated
// it, asked for that. One that is taken down or suspended is kept until that is lifted.
func Due(a *account.Account, now time.Time) bool {
	return !a.DeactivatedAt.IsZero() && !a.DeleteAfter.IsZero() && !now.Before(a.DeleteAfter) && a.MayLeave() == nil
}

// BirthEvents returns the events that announce a new account, in the order in which
// consumers can use them: its identity, that it is active, its first commit, and the state
// of its repository. An account without a repository (first is nil) has the first two.
func BirthEvents(a *account.Account, first *repo.Change, at time.Time) []event.Event {
	events := []event.Event{account.IdentityEvent(a, at), account.StatusEvent(a, at)}
	if first == nil {
		return events
	}
	head := account.Head{Rev: first.Next.Rev, Commit: car.Block{CID: first.Next.CID, Data: first.Next.Commit}}
	return append(events, first.Event, account.SyncEvent(a.DID, head, at))
}

// KeyEvents returns the events that announce an account's new signing key: its identity,
// and the commit that was signed by the key, if the account has a repository. Those of an
// account that is not active come when it becomes active.
func KeyEvents(a *account.Account, resigned *repo.Change, at time.Time) []event.Event {
	if a.Status() != account.Active {
		return nil
	}
	events := []event.Event{account.IdentityEvent(a, at)}
	if resigned != nil {
		events = append(events, resigned.Event)
	}
	return events
}

// Renamed returns an account under its new handle, and the events that announce it.
// document is the DID document that names the handle, nil if it could not be read: then
// the old document is kept, the handle is not shown until the next check finds it, and
// that check announces it.
func Renamed(a *account.Account, h syntax.Handle, document []byte, at time.Time) (next account.Account, events []event.Event) {
	next = *a
	next.Handle = h
	if document == nil {
		next.HandleInvalid = true
		return next, nil
	}
	next.Document, next.HandleInvalid = document, false
	return next, []event.Event{account.IdentityEvent(&next, at)}
}

// HeldKey is a reserved key as it counts against the limit of them.
type HeldKey struct {
	Public string
	// Named reports whether it was reserved for a DID; no other key can be moved in with.
	Named      bool
	Sender     string
	ReservedAt time.Time
}

// SurplusKeys returns which of the keys that are held, limit or more, stop being reserved
// so that there is room for an eighth of the limit, one at least. The networks that hold
// most lose first, down to what the others hold: however many keys one reserves, another
// keeps its few. A network keeps keys for DIDs before others, and late ones before early
// ones. It is pure; held may be in any order, and is sorted.
func SurplusKeys(held []HeldKey, limit int) (public []string) {
	const room = 8
	unnamed := func(k HeldKey) int {
		if k.Named {
			return 0
		}
		return 1
	}
	slices.SortFunc(held, func(a, b HeldKey) int {
		return cmp.Or(unnamed(a)-unnamed(b), b.ReservedAt.Compare(a.ReservedAt), cmp.Compare(a.Public, b.Public))
	})
	// How many keys its sender keeps rather than this one.
	better, of := make(map[string]int, len(held)), map[string]int{}
	for _, k := range held {
		better[k.Public] = of[k.Sender]
		of[k.Sender]++
	}
	slices.SortStableFunc(held, func(a, b HeldKey) int { return better[a.Public] - better[b.Public] })
	for _, k := range held[min(len(held), limit-max(1, limit/room)):] {
		public = append(public, k.Public)
	}
	return public
}
