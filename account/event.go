package account

import (
	"context"
	"time"

	"nestbox/request"
)

// EventKind names what happened. It is stored, so its text never changes.
type EventKind string

// The events of an account's trail: the answer to "why was I signed out?".
const (
	EventSignUp             EventKind = "account-created"
	EventMovedIn            EventKind = "account-moved-in"
	EventHandleChanged      EventKind = "handle-changed"
	EventKeyChanged         EventKind = "signing-key-changed"
	EventSignIn             EventKind = "sign-in"
	EventCodeRefused        EventKind = "code-refused"
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
	EventInvitesDisabled    EventKind = "invites-disabled"
	EventInvitesEnabled     EventKind = "invites-enabled"
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
	// Who names the admin, Ref the case that the change was made for. The audit log
	// keeps them; the trail, which is the owner's, does not.
	Who string
	Ref string
}

// actingKey is the context's key of who acts as an admin.
type actingKey struct{}

// ActingAs returns a context in which what is done by an admin is done by who:
// a moderation service's DID, say.
func ActingAs(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, actingKey{}, who)
}

// Acting returns who acts as an admin in ctx: "admin" where nobody said.
func Acting(ctx context.Context) string {
	if who, ok := ctx.Value(actingKey{}).(string); ok {
		return who
	}
	return string(ActorAdmin)
}

// NewEvent returns an event at the time now by an actor, with the client of ctx's
// request.
func NewEvent(ctx context.Context, now time.Time, kind EventKind, by Actor) Event {
	c := request.ClientOf(ctx)
	e := Event{At: now, Kind: kind, By: by, Network: c.Network().String(), UserAgent: c.UserAgent}
	if by == ActorAdmin {
		e.Who = Acting(ctx)
	}
	return e
}
