package mail

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"nestbox/internal/messages"
)

// Templates make the messages. Its fields are set once, before the first message.
type Templates struct {
	// Hostname is the server's public name, Service the name that people know it by:
	// Hostname if it is empty.
	Hostname, Service string
	// Contact is the operator's address; empty if none is given.
	Contact string
	// ResetLink is the page on which a password is reset, up to the code; empty if there is
	// none. The code goes into the URL's fragment, which no log and no referrer gets.
	ResetLink string
	// Pseudo adds the pseudo-language, for tests.
	Pseudo bool

	read      sync.Once
	languages *messages.Set
}

// Reader is the person whom a message is for.
type Reader struct {
	// To is the address.
	To string
	// Handle names the account; empty if the address is not known to be its owner's.
	Handle string
	// Language is the tag of a language; any other than those of the catalogues is English.
	Language string
}

// letter is what every message is made of, for its text and its HTML alike.
type letter struct {
	Lang, Dir string
	Title     string
	// Before, Rich, Code, Facts and After follow each other; each may be empty.
	Before []string
	// Rich is sanitised HTML, RichText the same as text.
	Rich     template.HTML
	RichText string
	Code     string
	// Link is one of ours: below the code, in a paragraph of its own, with LinkText before it.
	Link, LinkText string
	Facts          []fact
	After          []string
	Footer         []string
}

type fact struct{ Name, Value string }

//go:embed templates/letter.html
var letterHTML string

// message renders a letter in the words of a language.
func (t *Templates) message(w words, to, subject string, l letter) Message {
	l.Lang, l.Dir = w.Tag.String(), w.Direction()
	l.Footer = append(l.Footer, w.say("letter.sent-by", "service", t.service()))
	var html strings.Builder
	// Parsed here and not once: a mail is rare, and package state is not wanted.
	err := template.Must(template.New("letter").Parse(letterHTML)).Execute(&html, l)
	if err != nil {
		panic(fmt.Sprintf("mail: template: %v", err)) // it has no part that could fail
	}
	return Message{To: to, Subject: subject, Text: l.text(), HTML: html.String()}
}

// service names the server: by its host name at least, which people can check.
func (t *Templates) service() string {
	if t.Service == "" || t.Service == t.Hostname {
		return t.Hostname
	}
	return t.Service + " (" + t.Hostname + ")"
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
		b.WriteString(l.LinkText + "\n" + l.Link + "\n\n")
	}
	width := 0
	for _, f := range l.Facts {
		width = max(width, utf8.RuneCountInString(f.Name))
	}
	for _, f := range l.Facts {
		fmt.Fprintf(&b, "    %-*s  %s\n", width, f.Name, f.Value)
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

// code makes a message that brings a code: the title and the body of a kind, and what
// follows how long the code is valid, a sentence each.
func (t *Templates) code(r Reader, kind, code string, after ...string) Message {
	w := t.in(r.Language)
	title := w.say(kind + ".title")
	l := letter{
		Title: title, Before: []string{w.say(kind+".body", "account", w.account(r.Handle))}, Code: code,
		After: []string{w.say("code.life"), w.sentences(after...)},
	}
	if kind == "reset" && t.ResetLink != "" {
		l.Link, l.LinkText = t.ResetLink+code, w.say("letter.page")
	}
	return t.message(w, r.To, title, l)
}

// ConfirmEmail brings the code of confirmEmail.
func (t *Templates) ConfirmEmail(r Reader, code string) Message {
	return t.code(r, "confirm", code, "confirm.after")
}

// UpdateEmail brings the code of updateEmail.
func (t *Templates) UpdateEmail(r Reader, code string) Message {
	return t.code(r, "update", code, "code.intruder", "advice.lock-out", "advice.locked-out")
}

// ResetPassword brings the code of resetPassword.
func (t *Templates) ResetPassword(r Reader, code string) Message {
	return t.code(r, "reset", code, "reset.after")
}

// withDigits puts how to type the code of the authenticator app, with a mailed one, before
// other sentences, if it is needed.
func withDigits(digits bool, others ...string) []string {
	if !digits {
		return others
	}
	return append([]string{"code.digits"}, others...)
}

// DeleteAccount brings the code of deleteAccount; digits: the authenticator app's is
// needed too.
func (t *Templates) DeleteAccount(r Reader, code string, digits bool) Message {
	return t.code(r, "delete", code, withDigits(digits, "code.intruder", "advice.lock-out", "advice.locked-out")...)
}

// PLCOperation brings the code of signPlcOperation; digits: the authenticator app's is
// needed too.
func (t *Templates) PLCOperation(r Reader, code string, digits bool) Message {
	return t.code(r, "plc", code, withDigits(digits, "plc.after", "advice.lock-out", "advice.locked-out")...)
}

// SignInCode brings the code that createSession asks for besides the password.
func (t *Templates) SignInCode(r Reader, code string) Message {
	return t.code(r, "sign-in", code, "sign-in.after")
}

// StepUpCode brings the code that the account page asks for besides the password.
func (t *Templates) StepUpCode(r Reader, code string) Message {
	return t.code(r, "step-up", code, "step-up.after")
}

// FromModerator makes a message that a moderator wrote, as HTML or as text.
func (t *Templates) FromModerator(r Reader, subject, content string) Message {
	if !isHTML(content) {
		return t.FromAdmin(r, subject, content)
	}
	nodes, err := sanitise(content)
	if err != nil {
		return t.FromAdmin(r, subject, content)
	}
	w := t.in(r.Language)
	subject = t.subject(w, subject)
	return t.message(w, r.To, subject, letter{Title: subject, Rich: markup(nodes), RichText: plainText(nodes)})
}

// subject returns on one line a subject that others chose.
func (t *Templates) subject(w words, s string) string {
	return cmp.Or(oneLine(s), w.say("letter.from", "service", t.service()))
}

// FromAdmin makes a message that the operator wrote, as text.
func (t *Templates) FromAdmin(r Reader, subject, body string) Message {
	w := t.in(r.Language)
	subject = t.subject(w, subject)
	var paragraphs []string
	for p := range strings.SplitSeq(strings.ReplaceAll(body, "\r\n", "\n"), "\n\n") {
		if p = strings.Trim(p, "\n"); p != "" {
			paragraphs = append(paragraphs, p)
		}
	}
	return t.message(w, r.To, subject, letter{Title: subject, Before: paragraphs})
}

// Test makes the message that `nestbox mail test` sends.
func (t *Templates) Test(to string) Message {
	w := t.in("")
	return t.message(w, to, w.say("test.subject", "service", t.Hostname), letter{
		Title: w.say("test.title"), Before: []string{w.say("test.body", "service", t.Hostname)},
	})
}

// inert returns a text that a person chose as it looks, with a zero-width space behind
// each character that could make it a link: mail programs turn names of hosts and
// addresses into links. Handles that are copied with it are accepted: see
// account.CleanIdentifier.
func inert(text string) string {
	return strings.NewReplacer(".", ".\u200b", "/", "/\u200b", "@", "@\u200b").Replace(text)
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
