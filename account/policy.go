package account

import (
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/firehose/event"
	"nestbox/repo/car"
)

// What a change writes beside the account's row: pure functions that a store runs inside
// the transaction of the change and whose results it stores.

// StatusOf returns the hosting status by the dates of the measures in force: a takedown
// weighs most, then a suspension.
func StatusOf(takendownAt, suspendedAt, deactivatedAt time.Time) Status {
	switch {
	case !takendownAt.IsZero():
		return TakenDown
	case !suspendedAt.IsZero():
		return Suspended
	case !deactivatedAt.IsZero():
		return Deactivated
	default:
		return Active
	}
}

// Head is the latest commit of an account's repository.
type Head struct {
	Rev    syntax.TID
	Commit car.Block
}

// StatusEvents returns the events that announce a change from was to now. A change that
// the network cannot see has none. Consumers learn what they missed of an account that
// becomes active from its identity and from head, the state of its repository, whatever
// kept it away: it may have been imported, or moved in, meanwhile. head is nil for an
// account without a repository.
func StatusEvents(was, now *Account, head *Head, at time.Time) []event.Event {
	if was.Status() == now.Status() {
		return nil
	}
	events := []event.Event{StatusEvent(now, at)}
	if now.Status() != Active {
		return events
	}
	events = append(events, IdentityEvent(now, at))
	if head != nil {
		events = append(events, SyncEvent(now.DID, *head, at))
	}
	return events
}

// Urgent reports whether a change from was to now takes effect although the network cannot
// hear of it yet: a takedown or a suspension begins.
func Urgent(was, now *Account) bool {
	begins := func(was, now time.Time) bool { return was.IsZero() && !now.IsZero() }
	return was.Status() != now.Status() && (begins(was.TakenDownAt, now.TakenDownAt) || begins(was.SuspendedAt, now.SuspendedAt))
}

// StatusEvent announces an account's hosting status.
func StatusEvent(a *Account, at time.Time) event.Event {
	return event.Account{DID: a.DID, Status: string(a.Status()), Time: at}.Event()
}

// IdentityEvent announces that an account's DID document, or its handle, may have changed.
func IdentityEvent(a *Account, at time.Time) event.Event {
	return event.Identity{DID: a.DID, Handle: a.ShownHandle(), Time: at}.Event()
}

// SyncEvent announces the state of an account's repository.
func SyncEvent(did syntax.DID, head Head, at time.Time) event.Event {
	return event.Sync{DID: did, Rev: head.Rev, Commit: head.Commit, Time: at}.Event()
}

// DeletedEvent announces that an account is deleted.
func DeletedEvent(did syntax.DID, at time.Time) event.Event {
	return event.Account{DID: did, Status: event.StatusDeleted, Time: at}.Event()
}

// Reappears reports whether a change from was to now makes the account's handle lead
// somewhere again. Nobody has checked its identity meanwhile, so it is due for a check.
func Reappears(was, now *Account) bool { return was.Hidden() && !now.Hidden() }

// Ending returns the entry of a change that has ended so many sessions.
func (e Entry) Ending(sessions int) Entry {
	e.Reason = fmt.Sprintf("%d sessions ended", sessions)
	return e
}

// Revoking returns the entry of an app password's end, which has ended so many sessions.
func (e Entry) Revoking(name string, sessions int) Entry {
	e.Reason = fmt.Sprintf("%q, %d sessions ended", name, sessions)
	return e
}

// Dropped returns the place of the entry that a trail, the oldest first, loses beyond
// TrailLimit: the oldest of the kind that has most entries, among these of the reason that has
// most. So whoever repeats something washes away what they repeated, and nothing else.
func Dropped(trail []Entry) (oldest int) {
	type same struct {
		kind   EntryKind
		reason string
	}
	kinds, reasons := map[EntryKind]int{}, map[same]int{}
	for i := range trail {
		kinds[trail[i].Kind]++
		reasons[same{trail[i].Kind, trail[i].Reason}]++
	}
	most := [2]int{}
	for i := range trail {
		n := [2]int{kinds[trail[i].Kind], reasons[same{trail[i].Kind, trail[i].Reason}]}
		if slices.Compare(n[:], most[:]) > 0 {
			oldest, most = i, n
		}
	}
	return oldest
}

// CodesOfPassword returns the purposes of the codes that end with a password: those that
// replace it, and those that are asked for beside it.
func CodesOfPassword() []Purpose {
	return []Purpose{PurposeResetPassword, PurposeSignIn, PurposeStepUp}
}

// RoomForAppPassword returns ErrTooMany if an account with so many app passwords gets no
// more.
func RoomForAppPassword(have int) error {
	if have >= MaxAppPasswords {
		return ErrTooMany
	}
	return nil
}

// WithEmail returns the account after a change of its address, and whether that ends every
// code that was sent to the earlier one. Errors: ErrStatusConflict, see EmailChange.
func (a *Account) WithEmail(c EmailChange) (next Account, endCodes bool, err error) {
	if c.Unconfirmed && !a.EmailConfirmedAt.IsZero() {
		return Account{}, false, ErrStatusConflict
	}
	next = *a
	if c.Factor != nil {
		if c.Email != "" && EmailKey(c.Email) != EmailKey(a.Email) {
			return Account{}, false, ErrStatusConflict
		}
		next.EmailFactor = *c.Factor && !a.EmailConfirmedAt.IsZero()
		return next, false, nil
	}
	next.Email = c.Email
	if EmailKey(c.Email) != EmailKey(a.Email) {
		next.EmailConfirmedAt = c.ConfirmedAt
		next.EmailFactor = a.EmailFactor && !c.ConfirmedAt.IsZero()
		return next, true, nil
	}
	return next, false, nil
}
