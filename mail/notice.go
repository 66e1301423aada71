package mail

import (
	"strings"
	"time"
)

// NoticeKind is what a Notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticeSignIn      NoticeKind = "sign-in"
	NoticePassword    NoticeKind = "password"
	NoticeEmail       NoticeKind = "email"     // to the old address
	NoticeNewEmail    NoticeKind = "new-email" // the same, of an address that is confirmed already
	NoticeHandle      NoticeKind = "handle"
	NoticeAppPassword NoticeKind = "app-password"
	NoticeFactorOn    NoticeKind = "factor-on"
	NoticeFactorOff   NoticeKind = "factor-off"
	NoticeApp         NoticeKind = "app"
	NoticeTheft       NoticeKind = "theft"
	NoticeReplay      NoticeKind = "replay"
	NoticeDeactivated NoticeKind = "deactivated"
	NoticeDeletion    NoticeKind = "deletion"
	// NoticeDeletionResumed: a server that deleted nobody begins to.
	NoticeDeletionResumed NoticeKind = "deletion-resumed"
	NoticeTOTPOn          NoticeKind = "authenticator-on"
	NoticeTOTPOff         NoticeKind = "authenticator-off"
	// Of passkeys and switches the detail is the name.
	NoticePasskeyAdded   NoticeKind = "passkey-added"
	NoticePasskeyRenamed NoticeKind = "passkey-renamed"
	NoticePasskeyRemoved NoticeKind = "passkey-removed"
	NoticePasskeyCloned  NoticeKind = "passkey-cloned"
	NoticeRecoveryMade   NoticeKind = "recovery-made"
	NoticeRecoveryUsed   NoticeKind = "recovery-used" // the detail is how many are left
	NoticeSwitched       NoticeKind = "switched"
	NoticeFactorsOff     NoticeKind = "factors-off"
	NoticeNoticesOff     NoticeKind = "notices-off" // the last one
	NoticeCodeGiven      NoticeKind = "code-given"  // the detail is the purpose: see package account
	NoticeExported       NoticeKind = "exported"
	NoticeImported       NoticeKind = "imported"
	NoticeDeleted        NoticeKind = "deleted" // the account's last
	NoticeRotationKeys   NoticeKind = "rotation-keys"
)

// Always reports whether an owner gets notices of a kind with notices off, too: those of what
// could take the account away, or all that is in it. Else whoever got in would turn notices
// off first.
func (k NoticeKind) Always() bool {
	switch k {
	case NoticePassword, NoticeEmail, NoticeNewEmail, NoticeFactorOn, NoticeFactorOff, NoticeTOTPOn, NoticeTOTPOff, NoticePasskeyAdded,
		NoticePasskeyRenamed, NoticePasskeyRemoved, NoticePasskeyCloned, NoticeRecoveryMade, NoticeRecoveryUsed, NoticeSwitched,
		NoticeFactorsOff, NoticeNoticesOff, NoticeCodeGiven, NoticeRotationKeys, NoticeExported, NoticeImported, NoticeDeletion,
		NoticeDeletionResumed, NoticeDeleted:
		return true
	case NoticeSignIn, NoticeHandle, NoticeAppPassword, NoticeApp, NoticeTheft, NoticeReplay, NoticeDeactivated:
	}
	return false
}

// What NoticeSignIn says was used.
const (
	UsedPassword    = "password"
	UsedAppPassword = "app-password"
)

// Notice tells an account's owner what happened to it.
type Notice struct {
	Kind NoticeKind
	At   time.Time
	// ByOperator means that the operator did it, not somebody who was signed in.
	ByOperator bool
	// Network, Client and System name where it came from, with which program and on what;
	// each is empty if it is not known.
	Network, Client, System string
	// Detail is, by the kind: the new address or handle; the app; the passkey's name; what
	// was used to sign in, one of the constants above; the switch and its state, as Switched
	// returns them; how many recovery codes are left; the rotation keys that came and went;
	// or when the account will be deleted, in RFC 3339.
	Detail string
}

// Switched returns the detail of NoticeSwitched.
func Switched(name string, on bool) string {
	if on {
		return name + "=on"
	}
	return name + "=off"
}

// Notice makes the message about what happened, when, from where, and how to end it.
// Only a confirmed address gets one.
func (t *Templates) Notice(r Reader, n Notice) Message {
	w := t.in(r.Language)
	id := "notice." + string(n.Kind)
	title := w.say(id + ".title")
	l := letter{Title: title, Before: []string{w.say(id+".body", "account", w.account(r.Handle))}}
	if name, value := w.detail(&n); name != "" && n.Detail != "" {
		l.Facts = append(l.Facts, fact{w.say(name), value})
	}
	l.Facts = append(l.Facts, fact{w.say("fact.when"), w.clock(n.At)})
	switch {
	case n.ByOperator:
		l.Facts = append(l.Facts, fact{w.say("fact.by"), w.say("fact.operator")})
	case n.Kind == NoticeDeleted && n.Network == "": // on the day that was set
	default:
		l.Facts = append(l.Facts, fact{w.say("fact.from"), w.known(n.Network)}, fact{w.say("fact.with"), inert(w.client(n.Client, n.System))})
	}
	l.After = []string{w.sentences(whatToDo(&n)...)}
	footer := "letter.notices"
	if n.Kind.Always() {
		footer = "letter.always"
	}
	l.Footer = []string{w.say(footer)}
	return t.message(w, r.To, title, l)
}

// whatToDo returns advice on how to end what a notice is about. Somebody who has changed
// the address gets the code for a new password, so it must be changed back first.
func whatToDo(n *Notice) []string {
	switch {
	case n.ByOperator:
		return []string{"advice.ask"}
	case n.Kind == NoticeEmail, n.Kind == NoticeNewEmail:
		return []string{"advice.fine", "advice.take-back", "advice.cannot-take-back"}
	case n.Kind == NoticeTheft, n.Kind == NoticeReplay:
		return []string{"advice.unknown-app", "advice.locked-out"}
	case n.Kind == NoticeDeleted:
		return []string{"advice.gone"}
	default:
		return []string{"advice.fine", "advice.not-you", "advice.locked-out"}
	}
}

// detail returns the message that names a notice's detail, empty for none, and the detail.
func (w words) detail(n *Notice) (name, value string) {
	value = inert(shorten(n.Detail, maxFact))
	switch n.Kind {
	case NoticeSignIn:
		if n.Detail == UsedPassword || n.Detail == UsedAppPassword {
			value = w.say("detail." + n.Detail)
		}
		return "detail.using", value
	case NoticeEmail, NoticeNewEmail, NoticeHandle:
		return "detail.new", value
	case NoticeApp, NoticeTheft, NoticeReplay:
		return "detail.app", value
	case NoticePasskeyAdded, NoticePasskeyRenamed, NoticePasskeyRemoved, NoticePasskeyCloned:
		return "detail.passkey", value
	case NoticeRecoveryUsed:
		return "detail.codes", w.say("detail.left", "count", value)
	case NoticeSwitched:
		name, state, _ := strings.Cut(n.Detail, "=")
		if setting, ok := w.Text("switch."+name, 0); ok && (state == "on" || state == "off") {
			value = w.say("switch."+state, "setting", setting)
		}
		return "detail.setting", value
	case NoticeCodeGiven:
		if what, ok := w.Text("detail."+n.Detail, 0); ok {
			value = what
		}
		return "detail.for", value
	case NoticeRotationKeys:
		return "detail.keys", value
	case NoticeDeletion, NoticeDeletionResumed:
		if at, err := time.Parse(time.RFC3339, n.Detail); err == nil {
			value = w.clock(at)
		}
		return "detail.earliest", value
	case NoticePassword, NoticeAppPassword, NoticeFactorOn, NoticeFactorOff, NoticeTOTPOn, NoticeTOTPOff, NoticeRecoveryMade,
		NoticeFactorsOff, NoticeDeactivated, NoticeNoticesOff, NoticeExported, NoticeImported, NoticeDeleted:
	}
	return "", ""
}
