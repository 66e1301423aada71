package account

import (
	"context"
	"strings"
	"time"

	"nestbox/request"
)

// EntryKind names what happened. It is stored, so its text never changes.
type EntryKind string

// The entries of an account's trail: the answer to "why was I signed out?".
const (
	EntrySignUp             EntryKind = "account-created"
	EntryMovedIn            EntryKind = "account-moved-in"
	EntryTakenOver          EntryKind = "server-taken-over"
	EntryHandleChanged      EntryKind = "handle-changed"
	EntryKeyChanged         EntryKind = "signing-key-changed"
	EntryKeyGivenUp         EntryKind = "signing-key-change-given-up"
	EntrySignIn             EntryKind = "sign-in"
	EntryCodeRefused        EntryKind = "code-refused"
	EntrySignOut            EntryKind = "sign-out"
	EntryRefreshRefused     EntryKind = "refresh-refused"
	EntrySuspectedReuse     EntryKind = "suspected-reuse"
	EntrySuspectedSharing   EntryKind = "suspected-sharing"
	EntrySessionAhead       EntryKind = "session-ahead-of-database"
	EntrySessionRevoked     EntryKind = "session-revoked"
	EntrySessionsCapped     EntryKind = "session-limit"
	EntryAllSignedOut       EntryKind = "all-signed-out"
	EntryPasswordChanged    EntryKind = "password-changed"
	EntryEmailConfirmed     EntryKind = "email-confirmed"
	EntryEmailChanged       EntryKind = "email-changed"
	EntryFactorOn           EntryKind = "sign-in-codes-on"
	EntryFactorOff          EntryKind = "sign-in-codes-off"
	EntryTOTPOn             EntryKind = "authenticator-on"
	EntryTOTPOff            EntryKind = "authenticator-off"
	EntryPasskeyAdded       EntryKind = "passkey-added"
	EntryPasskeyRenamed     EntryKind = "passkey-renamed"
	EntryPasskeyRemoved     EntryKind = "passkey-removed"
	EntryPasskeyCloned      EntryKind = "passkey-may-be-cloned" //nolint:gosec // the name of an entry
	EntryPasskeyBackup      EntryKind = "passkey-is-backed-up"
	EntryRecoveryMade       EntryKind = "recovery-codes-made"
	EntryRecoveryUsed       EntryKind = "recovery-code-used"
	EntryPasskeySecondOn    EntryKind = "passkey-after-password-on"
	EntryPasskeySecondOff   EntryKind = "passkey-after-password-off"
	EntrySwitched           EntryKind = "sign-in-setting-changed"
	EntryFactorsOff         EntryKind = "second-factors-off"
	EntryAppPasswordCreated EntryKind = "app-password-created"
	EntryAppPasswordRevoked EntryKind = "app-password-revoked"
	EntryTakedown           EntryKind = "takedown"
	EntryTakedownLifted     EntryKind = "takedown-lifted"
	EntrySuspended          EntryKind = "suspended"
	EntrySuspensionLifted   EntryKind = "suspension-lifted"
	EntryDeactivated        EntryKind = "deactivated"
	EntryActivated          EntryKind = "activated"
	EntryAppAuthorized      EntryKind = "app-authorized"
	EntryPermissionTaken    EntryKind = "app-permission-taken"
	EntrySuspectedTheft     EntryKind = "suspected-theft"
	EntryCodeReplayed       EntryKind = "code-replayed"
	EntryClientKeyRemoved   EntryKind = "client-key-removed"
	EntryInvitesDisabled    EntryKind = "invites-disabled"
	EntryInvitesEnabled     EntryKind = "invites-enabled"
	EntryNoticesOn          EntryKind = "notices-on"
	EntryNoticesOff         EntryKind = "notices-off"
	EntryCodeGiven          EntryKind = "code-given"
	EntryExported           EntryKind = "data-exported"
	EntryImported           EntryKind = "data-imported"
	EntryRotationKeys       EntryKind = "rotation-keys-changed" // the reason is that of KeysChanged
)

// KeysChanged returns the reason of EntryRotationKeys: each key that came with a "+", each that
// went with a "-", between blanks; empty if only their order changed.
func KeysChanged(came, gone []string) string {
	var b strings.Builder
	for _, k := range came {
		b.WriteString(" +" + k)
	}
	for _, k := range gone {
		b.WriteString(" -" + k)
	}
	return strings.TrimSpace(b.String())
}

// ParseKeysChanged reads it back.
func ParseKeysChanged(reason string) (came, gone []string) {
	for one := range strings.FieldsSeq(reason) {
		if key, ok := strings.CutPrefix(one, "+"); ok {
			came = append(came, key)
		} else if key, ok := strings.CutPrefix(one, "-"); ok {
			gone = append(gone, key)
		}
	}
	return came, gone
}

// Actor is who caused an entry.
type Actor string

// The actors.
const (
	ActorOwner  Actor = "owner"
	ActorAdmin  Actor = "admin"
	ActorServer Actor = "server"
)

// TrailLimit bounds the entries kept of one account. Beyond it, one is Dropped.
const TrailLimit = 200

// Entry is one entry of the trail. Network and UserAgent are those of the
// request that caused it.
type Entry struct {
	At   time.Time
	Kind EntryKind
	By   Actor
	// Session is the store's number of the session concerned, 0 for none.
	Session int64
	// Browser is the number of the browser concerned, in the store of package device; 0 for
	// none.
	Browser int64
	// Reason is a code or a short text: why a refresh was refused, which app
	// password, how many sessions.
	Reason    string
	Network   string
	UserAgent string
	// OtherNetwork and OtherUserAgent are, for a suspicion, those of the client
	// that moved the session's head.
	OtherNetwork   string
	OtherUserAgent string
	// Who names the admin, Ref the case that the change was made for, Note is what the
	// admin wrote beside it. The audit log keeps them; the trail, which is the owner's,
	// does not.
	Who  string
	Ref  string
	Note string
}

// actingKey is the context's key of who acts as an admin.
type actingKey struct{}

// ActingAs returns a context in which what is done by an admin is done by who:
// a moderation service's DID, say.
func ActingAs(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, actingKey{}, who)
}

// ActorIn returns the actor that ActingAs has set; ok is false if it was not called.
func ActorIn(ctx context.Context) (who string, ok bool) {
	who, ok = ctx.Value(actingKey{}).(string)
	return who, ok
}

// Acting returns who acts as an admin in ctx: "admin" where nobody said.
func Acting(ctx context.Context) string {
	if who, ok := ActorIn(ctx); ok {
		return who
	}
	return string(ActorAdmin)
}

// noteKey is the context's key of what an admin writes beside an action.
type noteKey struct{}

// WithNote returns a context in which an admin acts, and writes a note for the audit log.
func WithNote(ctx context.Context, note string) context.Context {
	return context.WithValue(ctx, noteKey{}, note)
}

// NoteOf returns the note of WithNote, "" for none.
func NoteOf(ctx context.Context) string {
	note, _ := ctx.Value(noteKey{}).(string)
	return note
}

// NewEntry returns an entry at the time now by an actor, with the client of ctx's
// request.
func NewEntry(ctx context.Context, now time.Time, kind EntryKind, by Actor) Entry {
	c := request.ClientOf(ctx)
	e := Entry{At: now, Kind: kind, By: by, Network: c.Network().String(), UserAgent: c.UserAgent}
	if by == ActorAdmin {
		e.Who, e.Note = Acting(ctx), NoteOf(ctx)
	}
	return e
}
