package store

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// UndoneKind names what a restore has undone. It is written to files, so its text never changes.
type UndoneKind string

// What a later state of a server had ended or changed, and an older one brings back.
const (
	UndoneSession         UndoneKind = "session-ended"
	UndoneGrant           UndoneKind = "app-access-ended"
	UndoneBrowser         UndoneKind = "browser-signed-out"
	UndoneConsent         UndoneKind = "app-consent-withdrawn"
	UndoneAppPassword     UndoneKind = "app-password-revoked"
	UndonePassword        UndoneKind = "password-changed"
	UndoneEmail           UndoneKind = "email-changed"
	UndonePasskey         UndoneKind = "passkey-removed"
	UndoneRecovery        UndoneKind = "recovery-codes-used"
	UndoneFactorOn        UndoneKind = "second-factor-turned-on"
	UndoneFactorOff       UndoneKind = "second-factor-turned-off"
	UndoneDeleted         UndoneKind = "account-deleted"
	UndoneTakedown        UndoneKind = "account-taken-down"
	UndoneSuspension      UndoneKind = "account-suspended"
	UndoneDeactivation    UndoneKind = "account-deactivated"
	UndoneContentTakedown UndoneKind = "content-taken-down"
	UndoneTakedownLifted  UndoneKind = "takedown-lifted"
	UndoneHandle          UndoneKind = "handle-changed"
	UndoneSigningKey      UndoneKind = "signing-key-changed"
	UndoneRole            UndoneKind = "admin-role-taken"
	UndoneInvite          UndoneKind = "invite-code-disabled"
	UndoneMade            UndoneKind = "account-made"
)

// Undone is something that happened after the state that was restored, so that it has not
// happened there.
type Undone struct {
	Kind UndoneKind `json:"kind"`
	// DID and Handle are the account's, empty if it concerns none.
	DID    syntax.DID `json:"did,omitempty"`
	Handle string     `json:"handle,omitempty"`
	// At is when it happened, zero if the later state does not tell.
	At time.Time `json:"at,omitzero"`
	// What is the app, the app password, the content or the like that it concerns.
	What string `json:"what,omitempty"`
}
