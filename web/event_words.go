package web

import (
	"strconv"
	"strings"

	"nestbox/account"
	"nestbox/export"
)

// What an entry of the trail is about, the values of ?about=.
const (
	aboutSignIns  = "sign-ins"
	aboutEndings  = "endings"
	aboutSecurity = "security"
	aboutAccount  = "account"
	aboutWarnings = "warnings"
)

// about returns what a kind of entry is about; empty for one of a newer server.
func about(kind account.EntryKind) string {
	switch kind {
	case account.EntrySignIn, account.EntryAppAuthorized:
		return aboutSignIns
	case account.EntrySignOut, account.EntryRefreshRefused, account.EntrySessionRevoked, account.EntrySessionsCapped,
		account.EntryAllSignedOut,
		account.EntryClientKeyRemoved, account.EntrySessionAhead:
		return aboutEndings
	case account.EntryPasswordChanged, account.EntryFactorOn, account.EntryFactorOff, account.EntryTOTPOn, account.EntryTOTPOff,
		account.EntryPasskeyAdded, account.EntryPasskeyRenamed, account.EntryPasskeyRemoved, account.EntryPasskeyBackup,
		account.EntryRecoveryMade,
		account.EntryRecoveryUsed, account.EntryPasskeySecondOn, account.EntryPasskeySecondOff, account.EntrySwitched, account.EntryFactorsOff,
		account.EntryAppPasswordCreated, account.EntryAppPasswordRevoked, account.EntryPermissionTaken, account.EntryCodeGiven,
		account.EntryExported, account.EntryImported, account.EntryRotationKeys:
		return aboutSecurity
	case account.EntrySignUp, account.EntryMovedIn, account.EntryTakenOver, account.EntryHandleChanged, account.EntryKeyChanged,
		account.EntryKeyGivenUp,
		account.EntryEmailConfirmed, account.EntryEmailChanged, account.EntryTakedown, account.EntryTakedownLifted, account.EntrySuspended,
		account.EntrySuspensionLifted, account.EntryDeactivated, account.EntryActivated, account.EntryInvitesDisabled,
		account.EntryInvitesEnabled,
		account.EntryNoticesOn, account.EntryNoticesOff:
		return aboutAccount
	case account.EntryCodeRefused, account.EntrySuspectedReuse, account.EntrySuspectedSharing, account.EntrySuspectedTheft,
		account.EntryCodeReplayed,
		account.EntryPasskeyCloned:
		return aboutWarnings
	default:
		return ""
	}
}

// eventWords returns an entry as a sentence for its owner.
func eventWords(e account.Entry) Text {
	switch e.Kind { //nolint:exhaustive // the others are in one way only
	case account.EntryHandleChanged:
		if e.Reason != "" {
			return Msg("event.handle-changed", "handle", Host(e.Reason))
		}
		return Msg("event.handle-changed-somehow")
	case account.EntrySignIn:
		return signInWords(e)
	case account.EntryAppAuthorized, account.EntryCodeReplayed, account.EntryClientKeyRemoved:
		return Msg("event."+string(e.Kind), "app", appName(e.Reason))
	case account.EntryPermissionTaken:
		client, scope, _ := strings.Cut(e.Reason, " ")
		return Msg("event.app-permission-taken", "app", appName(client), "what", permissionWords(scope))
	case account.EntryCodeRefused:
		switch {
		case strings.Contains(e.Reason, "delete the account"):
			return Msg("event.code-refused-delete")
		case strings.Contains(e.Reason, "identity"):
			return Msg("event.code-refused-identity")
		case strings.Contains(e.Reason, "passkey"):
			return Msg("event.code-refused-passkey")
		}
	case account.EntrySignOut, account.EntrySessionRevoked:
		if name, ok := strings.CutPrefix(e.Reason, "browser: "); ok {
			return Msg("event."+string(e.Kind)+"-browser", "browser", program(name))
		}
	case account.EntryRefreshRefused:
		switch e.Reason {
		case "account is taken down":
			return Msg("event.refresh-refused-takedown")
		case "token was superseded before the reuse window":
			return Msg("event.refresh-refused-old")
		case "token of another server":
			return Msg("event.refresh-refused-foreign")
		}
	case account.EntryPasskeyAdded, account.EntryPasskeyRenamed, account.EntryPasskeyRemoved, account.EntryPasskeyCloned,
		account.EntryPasskeyBackup:
		return Msg("event."+string(e.Kind), "name", Stranger(e.Reason))
	case account.EntryExported:
		switch e.Reason {
		case "":
		case export.Preferences:
			return Msg("event.data-exported-preferences")
		default:
			return Msg("event.data-exported-part", "part", e.Reason)
		}
	case account.EntryImported:
		if e.Reason != "" {
			return Msg("event.data-imported-from", "server", Stranger(e.Reason))
		}
	case account.EntryRotationKeys:
		return rotationWords(e.Reason)
	case account.EntryAppPasswordCreated:
		return Msg("event.app-password-created", "name", Stranger(e.Reason))
	case account.EntryAppPasswordRevoked:
		name := e.Reason
		if quoted, err := strconv.QuotedPrefix(name); err == nil {
			name, _ = strconv.Unquote(quoted) // what was quoted can be unquoted
		}
		return Msg("event.app-password-revoked", "name", Stranger(name))
	}
	if about(e.Kind) == "" {
		return Msg("event.unknown", "kind", Codes{string(e.Kind)})
	}
	return Msg("event." + string(e.Kind))
}

// rotationWords returns which rotation keys came and went.
func rotationWords(reason string) Text {
	came, gone := account.ParseKeysChanged(reason)
	switch {
	case len(came) > 0 && len(gone) > 0:
		return Msg("event.rotation-keys-both", "came", Codes(came), "gone", Codes(gone))
	case len(came) > 0:
		return Msg("event.rotation-keys-came", "keys", Codes(came))
	case len(gone) > 0:
		return Msg("event.rotation-keys-gone", "keys", Codes(gone))
	default:
		return Msg("event.rotation-keys-changed")
	}
}

// signInWords returns how somebody signed in.
func signInWords(e account.Entry) Text {
	if name, ok := strings.CutPrefix(e.Reason, "app password "); ok {
		if text, err := strconv.Unquote(name); err == nil {
			name = text
		}
		return Msg("event.sign-in-app-password", "name", Stranger(name))
	}
	how, onPage := strings.CutSuffix(e.Reason, ", on a page of this server")
	id := "event.sign-in-app"
	if onPage || e.Browser != 0 {
		id = "event.sign-in-browser"
	}
	switch {
	case strings.Contains(how, "passkey"):
		id += "-passkey"
	case strings.Contains(how, " and "):
		id += "-code"
	}
	return Msg(id)
}

// permissionWords returns what a scope allows in a sentence's place.
func permissionWords(scope string) any {
	if lines := granted(scope, &Account{}); len(lines) == 1 {
		return lines[0].Line
	}
	return Codes{scope}
}

// byWhom names who did something, where it was not the owner and the sentence does not
// say it.
func byWhom(e account.Entry) Text {
	switch {
	case e.By == account.ActorAdmin:
		return Msg("events.by-admin")
	case e.By == account.ActorServer && (e.Kind == account.EntrySessionRevoked || e.Kind == account.EntryAllSignedOut ||
		e.Kind == account.EntryKeyChanged):
		return Msg("events.by-server")
	default:
		return Text{}
	}
}

// advice returns what an owner does who did not cause an entry; may be empty.
func advice(kind account.EntryKind) Text {
	switch kind { //nolint:exhaustive // the others need none
	case account.EntryCodeRefused, account.EntryRecoveryUsed, account.EntryCodeGiven, account.EntryExported, account.EntryImported:
		return Msg("advice.password")
	case account.EntrySuspectedReuse, account.EntrySuspectedSharing, account.EntrySuspectedTheft:
		return Msg("advice.end")
	case account.EntryRotationKeys:
		return Msg("advice.keys")
	case account.EntryPasskeyCloned:
		return Msg("advice.passkey")
	default:
		return Text{}
	}
}
