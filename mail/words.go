package mail

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"nestbox/internal/messages"
)

//go:embed messages/*.json
var messageFiles embed.FS

// words are a catalogue, as mails write it: plain text.
type words struct {
	*messages.Catalogue

	// contact is the operator's address; may be empty.
	contact string
}

// in returns the words of a language, those of English if it has no catalogue.
func (t *Templates) in(tag string) words {
	t.read.Do(func() {
		var err error
		if t.languages, err = messages.Read(messageFiles, t.Pseudo); err != nil {
			panic("mail: " + err.Error()) // they are embedded, and TestTemplates reads them
		}
	})
	if c := t.languages.Find(tag); c != nil {
		return words{c, t.Contact}
	}
	return words{t.languages.All[0], t.Contact}
}

// say returns the message with an id; args are pairs of a placeholder's name and its value.
func (w words) say(id string, args ...string) string {
	text, ok := w.Text(id, 0)
	if !ok {
		panic(fmt.Sprintf("mail: no message has the id %q", id)) // TestTemplates makes every message
	}
	return messages.Placeholder.ReplaceAllStringFunc(text, func(name string) string {
		for i := 0; i+1 < len(args); i += 2 {
			if name == "{"+args[i]+"}" {
				return args[i+1]
			}
		}
		panic(fmt.Sprintf("mail: message %s: no value for %s", id, name)) // the same
	})
}

// contactless are the messages that stand for one with the operator's address on a server
// that has none; an empty one is left out.
func contactless(id string) string {
	switch id {
	case "advice.ask", "advice.cannot-take-back", "advice.gone":
		return id + "-operator"
	case "advice.locked-out":
		return ""
	default:
		return id
	}
}

// sentences returns a paragraph of messages, each of which is whole sentences.
func (w words) sentences(ids ...string) string {
	var all []string
	for _, id := range ids {
		if w.contact == "" {
			id = contactless(id)
		}
		if id != "" {
			all = append(all, w.say(id, "contact", w.contact))
		}
	}
	return strings.Join(all, " ")
}

// account names an account by its handle.
func (w words) account(handle string) string {
	if handle == "" {
		return w.say("account.unnamed")
	}
	return "@" + inert(handle)
}

// known returns what others chose, short, or that it is not known.
func (w words) known(s string) string {
	if s == "" {
		return w.say("fact.unknown")
	}
	return shorten(s, maxFact)
}

// client returns a program, and on which system, if that is known.
func (w words) client(program, system string) string {
	if program != "" && system != "" {
		return w.say("fact.client-on", "program", shorten(program, maxFact), "system", shorten(system, maxFact))
	}
	return w.known(program)
}

// clock returns a time in UTC.
func (w words) clock(at time.Time) string {
	at = at.UTC()
	return w.say("time.full", "day", strconv.Itoa(at.Day()), "month", w.say("month."+strconv.Itoa(int(at.Month()))),
		"year", strconv.Itoa(at.Year()), "clock", at.Format("15:04:05"))
}
