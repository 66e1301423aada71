package web

import (
	"fmt"
	"html/template"
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"nestbox/request"
)

// maxStranger is how many characters of a stranger's text are shown.
const maxStranger = 64

// Stranger is a text that somebody else chose: the name of a client or an app password,
// a user agent, a handle. It is shown as text, cut, without controls, and isolated from
// the direction of what is around it.
type Stranger string

// clean returns the text without what changes the look of other text.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == 0x200c, r == 0x200d: // the joiners, of emoji and Persian
			return r
		case unicode.In(r, unicode.Cc, unicode.Cf), r == unicode.ReplacementChar: // Cf has the bidi controls
			return -1
		}
		return r
	}, strings.TrimSpace(text))
}

// visible returns a text in which characters that change the look of others are written out,
// as \u202e: a moderator sees that they are there.
func visible(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r != 0x200c && r != 0x200d && unicode.In(r, unicode.Cc, unicode.Cf) {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// String returns the text as it is shown: clean, and cut. One that nobody could see is
// written out.
func (s Stranger) String() string {
	text := clean(string(s))
	if seen(text) == "" {
		text = exact(string(s))
	}
	return cut(text, maxStranger)
}

// unseen reports whether a character leaves no mark of its own.
func unseen(r rune) bool {
	const brailleBlank = 0x2800
	return r == brailleBlank || unicode.IsSpace(r) ||
		unicode.In(r, unicode.Cc, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// seen returns a name that a person typed without what nobody would see of it; empty if
// nothing is left.
func seen(name string) string {
	name = strings.Join(strings.Fields(clean(name)), " ")
	if strings.IndexFunc(name, func(r rune) bool { return !unseen(r) }) < 0 {
		return ""
	}
	return name
}

// exact returns a name in which characters that nobody sees are written out, as \u200b, so
// that two names look different. What has its place in text stays: a blank between words,
// and what joins or varies the letter or emoji before it.
func exact(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		switch {
		case !unseen(r),
			r == ' ' && i > 0 && i < len(runes)-1 && !unseen(runes[i-1]),
			i > 0 && runes[i-1] > unicode.MaxASCII && (unicode.Is(unicode.Join_Control, r) || unicode.Is(unicode.Variation_Selector, r)):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// cut returns at most n characters of a text, with "…" if there were more.
func cut(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return string(runes[:n]) + "…"
}

func (s Stranger) html() template.HTML {
	return `<bdi>` + template.HTML(template.HTMLEscapeString(s.String())) + `</bdi>` //nolint:gosec // escaped
}

// program returns a client that request.ClientName has named, in words of the page.
func program(name string) any {
	switch what, system := request.ClientParts(name); {
	case what == "":
		return Msg("client.unknown")
	case system != "":
		return Msg("client.on", "program", what, "system", system)
	default:
		return Stranger(what)
	}
}

// Host is a host name in ASCII. It is shown in Unicode, with the xn-- form beside it if
// the two differ: a name that looks like another is recognised by that.
type Host string

func (h Host) html() template.HTML {
	ascii := name(string(h))
	shown, err := idna.Display.ToUnicode(string(h))
	if err != nil || shown == string(h) {
		return ascii
	}
	return name(shown) + ` <span class="ascii">(` + ascii + `)</span>`
}

// Codes are names of the protocol (collections, methods) in a sentence.
type Codes []string

// List are the parts of an enumeration: "a, b and c". Each is a value of a message.
type List []any

// maxListed is how many parts a sentence shows.
const maxListed = 6

// name writes a name of a machine whole, whatever its length: its end matters as much as
// its beginning. It may break behind its dots and colons, and is not translated.
func name(text string) template.HTML {
	text = strings.NewReplacer(".", ".<wbr>", ":", ":<wbr>", "/", "/<wbr>", "?", "<wbr>?").Replace(template.HTMLEscapeString(clean(text)))
	return `<bdi translate="no">` + template.HTML(text) + `</bdi>` //nolint:gosec // escaped
}
