package mail

import (
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"time"
	"unicode"
)

// Templates make the messages. Its fields are set once.
type Templates struct {
	// Hostname is the server's public name.
	Hostname string
	// Contact is the operator's address; empty if none is given.
	Contact string
	// ResetLink is the page on which a password is reset, up to the code; empty if there is
	// none. The code goes into the URL's fragment, which no log and no referrer gets.
	ResetLink string
}

// letter is what every message is made of, for its text and its HTML alike.
type letter struct {
	Title string
	// Before, Rich, Code, Facts and After follow each other; each may be empty.
	Before []string
	// Rich is sanitised HTML, RichText the same as text.
	Rich     template.HTML
	RichText string
	Code     string
	// Link is one of ours: below the code, in a paragraph of its own.
	Link   string
	Facts  []fact
	After  []string
	Footer []string
}

type fact struct{ Name, Value string }

//go:embed templates/letter.html
var letterHTML string

// message renders a letter.
func (t *Templates) message(to, subject string, l letter) Message {
	l.Footer = append(l.Footer, "Sent by "+t.Hostname+", the server that your AT Protocol account lives on.")
	var html strings.Builder
	// Parsed here and not once: a mail is rare, and package state is not wanted.
	err := template.Must(template.New("letter").Parse(letterHTML)).Execute(&html, l)
	if err != nil {
		panic(fmt.Sprintf("mail: template: %v", err)) // it has no part that could fail
	}
	return Message{To: to, Subject: subject, Text: l.text(), HTML: html.String()}
}

// textWidth is where lines of plain text break.
const textWidth = 72

func (l *letter) text() string {
	var b strings.Builder
	for _, p := range append([]string{l.Title}, l.Before...) {
		b.WriteString(wrap(p) + "\n")
	}
	if l.RichText != "" {
		b.WriteString(wrap(l.RichText) + "\n")
	}
	if l.Code != "" {
		b.WriteString("    " + l.Code + "\n\n")
	}
	if l.Link != "" {
		b.WriteString("Or open this page:\n" + l.Link + "\n\n")
	}
	for _, f := range l.Facts {
		fmt.Fprintf(&b, "    %-8s  %s\n", f.Name, f.Value)
	}
	if len(l.Facts) > 0 {
		b.WriteString("\n")
	}
	for _, p := range l.After {
		b.WriteString(wrap(p) + "\n")
	}
	b.WriteString("-- \n")
	for _, p := range l.Footer {
		b.WriteString(wrap(p))
	}
	return b.String()
}

// wrap breaks each line of a text at spaces so that it fits textWidth.
func wrap(text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		width := 0
		for i, word := range strings.Fields(line) {
			n := len([]rune(word))
			switch {
			case i == 0:
			case width+1+n > textWidth:
				b.WriteByte('\n')
				width = 0
			default:
				b.WriteByte(' ')
				width++
			}
			b.WriteString(word)
			width += n
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// codeLife is a sentence about how long a code is valid: see account.CodeLife.
const codeLife = "The code works once and for 15 minutes."

// code makes a message that brings a code.
func (t *Templates) code(to, subject, code string, before, after string) Message {
	return t.message(to, subject, letter{Title: subject, Before: []string{before}, Code: code, After: []string{codeLife, after}})
}

// ConfirmEmail brings the code of confirmEmail.
func (t *Templates) ConfirmEmail(to, handle, code string) Message {
	return t.code(to, "Confirm your email address", code,
		"To confirm that this address belongs to "+name(handle)+", enter this code in your app:",
		"If you did not ask for it, ignore this message: somebody may have mistyped their own address.")
}

// UpdateEmail brings the code of updateEmail.
func (t *Templates) UpdateEmail(to, handle, code string) Message {
	return t.code(to, "Change your email settings", code,
		"To change the email address, or the email settings, of "+name(handle)+", enter this code in your app:",
		"If you did not ask for it, somebody else is signed in to your account. "+t.lockOut())
}

// NewEmail brings the code by which the owner of an account shows that a new address is
// theirs. The address may be a stranger's, so the message names no account.
func (t *Templates) NewEmail(to, code string) Message {
	return t.code(to, "Confirm your new email address", code,
		"To use this address for your account, enter this code on your account page:",
		"If you did not ask for it, ignore this message: somebody may have mistyped their own address.")
}

// ResetPassword brings the code of resetPassword.
func (t *Templates) ResetPassword(to, handle, code string) Message {
	const subject = "Reset your password"
	l := letter{
		Title: subject, Code: code,
		Before: []string{"To choose a new password for " + name(handle) + ", enter this code in your app:"},
		After:  []string{codeLife, "If you did not ask for it, ignore this message: without the code nothing changes. Never pass it on."},
	}
	if t.ResetLink != "" {
		l.Link = t.ResetLink + code
	}
	return t.message(to, subject, l)
}

// withDigits returns how to type the code of the authenticator app with a mailed one.
func withDigits(digits bool) string {
	if !digits {
		return ""
	}
	return " Type the six digits of your authenticator app behind it, in the same field, like ABCDE-FGHIJ 123456."
}

// DeleteAccount brings the code of deleteAccount; digits: the authenticator app's is
// needed too.
func (t *Templates) DeleteAccount(to, handle, code string, digits bool) Message {
	return t.code(to, "Delete your account", code,
		"To delete "+name(handle)+" for good, with all its posts, enter this code in your app together with your password:",
		strings.TrimSpace(withDigits(digits)+" If you did not ask for it, somebody else is signed in to your account. "+t.lockOut()))
}

// PLCOperation brings the code of signPlcOperation; digits: the authenticator app's is
// needed too.
func (t *Templates) PLCOperation(to, handle, code string, digits bool) Message {
	return t.code(to, "Change your identity", code,
		"Somebody who is signed in to "+name(handle)+" wants to change its identity (its DID document), "+
			"as when moving to another server. To allow it, enter this code:",
		strings.TrimSpace(withDigits(digits)+" Anybody with the code can move your account away from this server. "+
			"If you did not ask for it, do not pass it on. "+t.lockOut()))
}

// SignInCode brings the code that createSession asks for besides the password.
func (t *Templates) SignInCode(to, handle, code string) Message {
	return t.code(to, "Your sign-in code", code,
		"To sign in to "+name(handle)+", enter this code in your app:",
		"If you are not signing in, somebody else has your password: change it. Never pass the code on.")
}

// StepUpCode brings the code that the account page asks for besides the password.
func (t *Templates) StepUpCode(to, handle, code string) Message {
	return t.code(to, "Confirm that it is you", code,
		"Somebody who knows the password of "+name(handle)+" wants to change it on its account page. To go on, enter this code there:",
		"If this was not you, somebody else has your password: change it. Never pass the code on.")
}

// lockOut returns advice on how to lock somebody else out of the account.
func (t *Templates) lockOut() string {
	s := "Change your password in your app, or reset it there with \"Forgot password\": " +
		"that signs out everybody, on all devices. Then revoke the app passwords that you do not know."
	if t.Contact != "" {
		s += " If you cannot sign in any more, write to " + t.Contact + "."
	}
	return s
}

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
	NoticeTOTPOn      NoticeKind = "authenticator-on"
	NoticeTOTPOff     NoticeKind = "authenticator-off"
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
	NoticeCodeGiven      NoticeKind = "code-given"  // the detail is what it allows
)

// Notice tells an account's owner what happened to it.
type Notice struct {
	Kind   NoticeKind
	Handle string
	At     time.Time
	// ByOperator means that the operator did it, not somebody who was signed in.
	ByOperator bool
	// Network and Client name where it came from; empty if that is not known.
	Network, Client string
	// Detail is the new address or handle, what was used to sign in, or when the account
	// will be deleted.
	Detail string
}

// Notice makes the message about what happened, when, from where, and how to end it.
// Only a confirmed address gets one.
func (t *Templates) Notice(to string, n Notice) Message {
	title, before, detail := n.words()
	l := letter{Title: title, Before: []string{before}}
	if n.Detail != "" && detail != "" {
		l.Facts = append(l.Facts, fact{detail, inert(shorten(n.Detail, maxFact))})
	}
	l.Facts = append(l.Facts, fact{"When", n.At.UTC().Format("2 January 2006, 15:04:05") + " UTC"})
	if n.ByOperator {
		l.Facts = append(l.Facts, fact{"By", "the operator of this server"})
	} else {
		l.Facts = append(l.Facts, fact{"From", orUnknown(n.Network)}, fact{"With", inert(orUnknown(n.Client))})
	}
	l.After = []string{t.whatToDo(&n)}
	l.Footer = []string{"You get this because notices about your account's safety are on; the operator can switch them off for you."}
	return t.message(to, title, l)
}

// whatToDo returns advice on how to end what a notice is about.
func (t *Templates) whatToDo(n *Notice) string {
	const fine = "If this was you, there is nothing to do. "
	switch {
	case n.ByOperator && t.Contact != "":
		return "If you did not expect this, ask the operator: " + t.Contact + "."
	case n.ByOperator:
		return "If you did not expect this, ask the operator."
	case n.Kind == NoticeEmail, n.Kind == NoticeNewEmail:
		return fine + t.takeBack()
	case n.Kind == NoticeTheft, n.Kind == NoticeReplay:
		return "If you do not know that app: " + lowerFirst(t.lockOut())
	default:
		return fine + "If it was not: " + lowerFirst(t.lockOut())
	}
}

// takeBack returns advice on how to stop somebody who has changed the address: a code
// for a new password would go to them.
func (t *Templates) takeBack() string {
	operator := "the operator of this server"
	if t.Contact != "" {
		operator = t.Contact
	}
	return "If it was not: sign in in your app and change the address back to this one. " +
		"Only then change your password with \"Forgot password\", whose code goes to the account's address: " +
		"that signs out everybody, on all devices. Then revoke the app passwords that you do not know. " +
		"If you cannot sign in, or cannot change the address back, write to " + operator + "."
}

// words returns the title, the first sentence, and the name of the detail.
func (n *Notice) words() (title, before, detail string) {
	who := name(n.Handle)
	switch n.Kind {
	case NoticeSignIn:
		return "New sign-in to your account", "Somebody signed in to " + who + " with an app, or from a place, that was not used before.", "Using"
	case NoticePassword:
		return "Your password was changed", "The password of " + who + " was changed. All its other sessions have ended.", ""
	case NoticeEmail:
		return "Your email address was changed", "The email address of " + who + " was changed. " +
			"Codes and notices go to the new one from now on. It is not confirmed yet, and sign-in codes are off.", "New"
	case NoticeNewEmail:
		return "Your email address was changed", "The email address of " + who + " was changed. " +
			"Codes and notices go to the new one from now on.", "New"
	case NoticeHandle:
		return "Your handle was changed", "The handle of your account was changed; it was " + who + " before.", "New"
	case NoticeAppPassword:
		return "New app password", "A new app password was made for " + who + ". " +
			"Anybody who has it can use the account, but not take it over. Your app lists its name.", ""
	case NoticeFactorOn:
		return "Sign-in codes are on", "Signing in to " + who + " with its password now also needs a code that is sent by email. " +
			"App passwords work without one.", ""
	case NoticeFactorOff:
		return "Sign-in codes are off", "Signing in to " + who + " needs no code any more, only the password.", ""
	case NoticeApp:
		return "An app got access to your account", "You, or somebody who is signed in to " + who + ", allowed an app to use the account. " +
			"You can end this in your account.", "App"
	case NoticeTheft:
		return "A token of an app was used elsewhere", "Somebody who lacks the key of an app that uses " + who + " presented its token, " +
			"which was refused. A copy may have been stolen from the app or its device. " +
			"It is useless without the key; to be safe, end the app's access in your account and sign in to it again.", "App"
	case NoticeReplay:
		return "The access of an app to your account was ended", "The code with which an app got access to " + who + " was used a second time, " +
			"so somebody else may have seen it. The access was ended; sign in to the app again.", "App"
	case NoticeTOTPOn:
		return "Authenticator app is on", "Signing in to " + who + " with its password now also needs a code of an authenticator app. " +
			"App passwords work without one; apps that have no field for the code need them.", ""
	case NoticeTOTPOff:
		return "Authenticator app is off", "Signing in to " + who + " needs no code of an authenticator app any more.", ""
	case NoticePasskeyAdded:
		return "New passkey", "A passkey was added to " + who + ". Whoever has it can sign in without the password.", "Passkey"
	case NoticePasskeyRenamed:
		return "A passkey has a new name", "A passkey of " + who + " was given another name.", "Passkey"
	case NoticePasskeyRemoved:
		return "A passkey was removed", "A passkey of " + who + " does not sign in any more.", "Passkey"
	case NoticePasskeyCloned:
		return "There may be a copy of your passkey", "A passkey that signed in to " + who + " counts its uses, and has counted backwards. " +
			"Somebody may have a copy of it. If you did not restore the device from a backup, remove the passkey and make a new one.", "Passkey"
	case NoticeRecoveryMade:
		return "New recovery codes", "New recovery codes were made for " + who + ". The old ones do not work any more.", ""
	case NoticeRecoveryUsed:
		return "A recovery code was used", "Somebody who knows the password of " + who + " used a recovery code, which works once.", "Codes"
	case NoticeSwitched:
		return "A sign-in setting was changed", "How people and apps sign in to " + who + " was changed.", "Setting"
	case NoticeFactorsOff:
		return "Second factors are off", "The authenticator app, the passkeys and the recovery codes of " + who + " were removed. " +
			"Its password signs in without them; its sessions go on.", ""
	case NoticeNoticesOff:
		return "Notices are off", "You get no more mails about sign-ins to " + who + " and about most changes of it. " +
			"You can turn them on again on your account page.", ""
	case NoticeCodeGiven:
		return "A code for a tool was made", "A code was made with which a tool can act for " + who + ". " +
			"It works once and for 15 minutes. Nobody should have it but you and the tool that you use.", "For"
	case NoticeDeactivated:
		return "Your account was deactivated", "Nobody can see " + who + " or its posts until it is activated again in an app.", ""
	case NoticeDeletion:
		return "Your account will be deleted", "Somebody who is signed in to " + who + " has deactivated it " +
			"and asked to delete it with everything in it. To keep it, sign in and activate it again before then.", "Earliest"
	default:
		return "Your account was changed", "Something was changed about " + who + ".", "What"
	}
}

// FromModerator makes a message that a moderator wrote, as HTML or as text.
func (t *Templates) FromModerator(to, subject, content string) Message {
	if !isHTML(content) {
		return t.FromAdmin(to, subject, content)
	}
	nodes, err := sanitise(content)
	if err != nil {
		return t.FromAdmin(to, subject, content)
	}
	subject = t.subject(subject)
	return t.message(to, subject, letter{Title: subject, Rich: markup(nodes), RichText: plainText(nodes)})
}

// subject returns on one line a subject that others chose.
func (t *Templates) subject(s string) string {
	if s = oneLine(s); s != "" {
		return s
	}
	return "Message from " + t.Hostname
}

// FromAdmin makes a message that the operator wrote, as text.
func (t *Templates) FromAdmin(to, subject, body string) Message {
	subject = t.subject(subject)
	var paragraphs []string
	for p := range strings.SplitSeq(strings.ReplaceAll(body, "\r\n", "\n"), "\n\n") {
		if p = strings.Trim(p, "\n"); p != "" {
			paragraphs = append(paragraphs, p)
		}
	}
	return t.message(to, subject, letter{Title: subject, Before: paragraphs})
}

// Test makes the message that `nestbox mail test` sends.
func (t *Templates) Test(to string) Message {
	return t.message(to, "Test message from "+t.Hostname, letter{
		Title: "Mail works",
		Before: []string{"This is a test that the operator of " + t.Hostname + " sent. " +
			"If you can read it, mail from this server arrives."},
	})
}

func name(handle string) string {
	if handle == "" {
		return "your account"
	}
	return "@" + inert(handle)
}

// inert returns a text that a person chose as it looks, with a zero-width space behind
// each character that could make it a link: mail programs turn names of hosts and
// addresses into links. Handles that are copied with it are accepted: see
// account.CleanIdentifier.
func inert(text string) string {
	return strings.NewReplacer(".", ".\u200b", "/", "/\u200b", "@", "@\u200b").Replace(text)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return shorten(s, maxFact)
}

// maxFact bounds, in characters, what others chose and a notice repeats.
const maxFact = 120

// shorten keeps what others chose short, in characters, and on one line.
func shorten(s string, limit int) string {
	r := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
	if len(r) > limit {
		r = append(r[:limit-1], '…')
	}
	return oneLine(string(r))
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
