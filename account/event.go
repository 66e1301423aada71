package account

import (
	"context"
	"time"

	"nestbox/xrpc"
)

// EventKind says what happened; it is stored, so that its text never changes.
type EventKind string

// The events of an account's trail: the answer to "why was I signed out?".
const (
	EventSignUp             EventKind = "account-created"
	EventSignIn             EventKind = "sign-in"
	EventSignOut            EventKind = "sign-out"
	EventRefreshRefused     EventKind = "refresh-refused"
	EventSuspectedReuse     EventKind = "suspected-reuse"
	EventSuspectedSharing   EventKind = "suspected-sharing"
	EventSessionAhead       EventKind = "session-ahead-of-database"
	EventSessionRevoked     EventKind = "session-revoked"
	EventSessionsCapped     EventKind = "session-limit"
	EventAllSignedOut       EventKind = "all-signed-out"
	EventPasswordChanged    EventKind = "password-changed"
	EventEmailConfirmed     EventKind = "email-confirmed"
	EventEmailChanged       EventKind = "email-changed"
	EventFactorOn           EventKind = "sign-in-codes-on"
	EventFactorOff          EventKind = "sign-in-codes-off"
	EventAppPasswordCreated EventKind = "app-password-created"
	EventAppPasswordRevoked EventKind = "app-password-revoked"
	EventTakedown           EventKind = "takedown"
	EventTakedownLifted     EventKind = "takedown-lifted"
	EventSuspended          EventKind = "suspended"
	EventSuspensionLifted   EventKind = "suspension-lifted"
	EventDeactivated        EventKind = "deactivated"
	EventActivated          EventKind = "activated"
)

// Actor is who caused an event.
type Actor string

// The actors.
const (
	ActorOwner  Actor = "owner"
	ActorAdmin  Actor = "admin"
	ActorServer Actor = "server"
)

// TrailLimit bounds the events kept of one account; the oldest go first.
const TrailLimit = 200

// Event is one entry of the trail. Network and UserAgent are those of the
// request that caused it.
type Event struct {
	At   time.Time
	Kind EventKind
	By   Actor
	// Session is the store's number of the session concerned, 0 for none.
	Session int64
	// Reason is a code or a short text: why a refresh was refused, which app
	// password, how many sessions.
	Reason    string
	Network   string
	UserAgent string
	// OtherNetwork and OtherUserAgent are, for a suspicion, those of the client
	// that moved the session's head.
	OtherNetwork   string
	OtherUserAgent string
}

// NewEvent is an event of now by actor, with what ctx's request says of its
// client.
func NewEvent(ctx context.Context, now time.Time, kind EventKind, by Actor) Event {
	c := xrpc.ClientOf(ctx)
	return Event{At: now, Kind: kind, By: by, Network: c.Network(), UserAgent: c.UserAgent}
}
