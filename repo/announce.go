package repo

import (
	"time"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/repo/car"
)

// What the event log gets of a repository: pure functions that a store runs inside the
// transaction of the change.

// ChangeEvents returns the event of a change that an account may make while it is not
// active: a first repository, or an import. The network hears of an active account alone;
// of another one it hears when the account becomes active.
func ChangeEvents(active bool, ev event.Event) []event.Event {
	if !active {
		return nil
	}
	return []event.Event{ev}
}

// AnnounceEvents returns the events that announce an account after the numbers of the event
// stream have jumped: its status and, if it is active and has a repository, the state of
// that. commit is the repository's, nil if there is none; renewed, if it is not nil, is the
// change that has just put it there.
func AnnounceEvents(of AccountHead, commit []byte, renewed *Change, at time.Time) []event.Event {
	events := []event.Event{event.Account{DID: of.DID, Status: of.Status, Time: at}.Event()}
	switch {
	case of.Status != "" || commit == nil:
		return events
	case renewed != nil:
		return append(events, renewed.Event)
	default:
		return append(events, event.Sync{DID: of.DID, Rev: of.Rev, Commit: car.Block{CID: dagcbor.CID(commit), Data: commit}, Time: at}.Event())
	}
}
