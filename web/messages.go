package web

import (
	"embed"
	"fmt"
	"html"
	"html/template"
	"io/fs"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"nestbox/internal/messages"
)

//go:embed messages/*.json
var messageFiles embed.FS

// languageCookie is the cookie in which the form in the footer keeps a language.
const languageCookie = "lang"

// Text is a message in no language yet: its id, and pairs of a placeholder's name and
// its value. Values are strings (ours, shown as they are), Stranger, Host, Size, time.Time,
// Codes, Lists, other Texts, and integers: a message with plurals goes by the one named count.
type Text struct {
	ID   string
	Args []any
}

// Msg returns the message with an id of messages/en.json; args are pairs of a
// placeholder's name and its value.
func Msg(id string, args ...any) Text { return Text{id, args} }

// catalogue is one language, as pages write it.
type catalogue struct{ *messages.Catalogue }

// languages are all catalogues, English first, and the choice among them.
type languages struct {
	set *messages.Set
	all []*catalogue
}

func readLanguages(files fs.FS, withPseudo bool) (*languages, error) {
	set, err := messages.Read(files, withPseudo)
	if err != nil {
		return nil, err
	}
	l := &languages{set: set}
	for _, c := range set.All {
		l.all = append(l.all, &catalogue{c})
	}
	return l, nil
}

// choose returns the best language for a request. locales are its ui_locales.
func (l *languages) choose(r *http.Request, locales string) *catalogue {
	wanted := []string{strings.Join(strings.Fields(locales), ",")}
	if c, err := r.Cookie(languageCookie); err == nil {
		wanted = append(wanted, c.Value)
	}
	wanted = append(wanted, r.Header.Get("Accept-Language"))
	for _, one := range wanted {
		if c := l.set.Match(one); c != nil {
			return l.find(c.Tag.String())
		}
	}
	return l.all[0]
}

// find returns the catalogue with a tag, or nil.
func (l *languages) find(tag string) *catalogue {
	for _, c := range l.all {
		if c.Tag.String() == tag {
			return c
		}
	}
	return nil
}

// text writes a message as HTML: its own text and its values are escaped.
func (c *catalogue) text(id string, args ...any) (template.HTML, error) {
	values := map[string]template.HTML{}
	count := 0
	for i := 0; i+1 < len(args); i += 2 {
		name, ok := args[i].(string)
		if !ok {
			return "", fmt.Errorf("message %s: argument %d is not the name of a placeholder", id, i)
		}
		value, err := c.value(args[i+1])
		if err != nil {
			return "", fmt.Errorf("message %s, %s: %w", id, name, err)
		}
		if n, ok := args[i+1].(int); ok && name == "count" {
			count = n
		}
		values["{"+name+"}"] = value
	}
	text, ok := c.Text(id, count)
	if !ok {
		return "", fmt.Errorf("no message has the id %q", id)
	}
	var missing error
	out := messages.Placeholder.ReplaceAllStringFunc(template.HTMLEscapeString(text), func(name string) string {
		value, ok := values[name]
		if !ok {
			missing = fmt.Errorf("message %s: no value for %s", id, name)
		}
		return string(value)
	})
	return template.HTML(out), missing //nolint:gosec // escaped above, piece by piece
}

var markup = regexp.MustCompile(`<[^>]*>`)

// plain returns a message that text has written, without its markup: in it each "<" of a
// value is escaped.
func plain(text template.HTML) string {
	return html.UnescapeString(markup.ReplaceAllString(string(text), ""))
}

// value writes one value of a message as HTML.
func (c *catalogue) value(v any) (template.HTML, error) {
	switch v := v.(type) {
	case string:
		return template.HTML(template.HTMLEscapeString(v)), nil //nolint:gosec // escaped
	case template.HTML:
		return v, nil
	case int:
		return template.HTML(strconv.Itoa(v)), nil //nolint:gosec // digits
	case Stranger:
		return v.html(), nil
	case Host:
		return v.html(), nil
	case Codes:
		var all List
		for _, one := range v {
			all = append(all, template.HTML(`<code>`+string(name(one))+`</code>`)) //nolint:gosec // escaped
		}
		return c.list(all)
	case List:
		return c.list(v)
	case Name:
		return name(string(v)), nil
	case English:
		return `<bdi lang="en" dir="ltr">` + template.HTML(template.HTMLEscapeString(clean(string(v)))) + `</bdi>`, nil //nolint:gosec // escaped
	case Count:
		return template.HTML(c.number(strconv.FormatInt(int64(v), 10))), nil //nolint:gosec // digits and a separator of ours
	case Decimal:
		return template.HTML(c.decimal(float64(v))), nil //nolint:gosec // digits and separators of ours
	case time.Duration:
		return c.duration(v)
	case Bytes:
		return c.bytes(int64(v))
	case Badge:
		text, err := c.value(v.Text)
		return `<span class="badge ` + template.HTML(kindOf(v.Kind)) + `">` + text + `</span>`, err //nolint:gosec // one of four words
	case setWords:
		return template.HTML(`<bdi>` + template.HTMLEscapeString(v.in(c.Tag.String())) + `</bdi>`), nil //nolint:gosec // escaped
	case time.Time:
		return c.clock(v)
	case Text:
		return c.text(v.ID, v.Args...)
	default:
		return "", fmt.Errorf("a %T cannot be shown", v)
	}
}

// English is text that the server has in English alone: an error of a command, a finding of
// the doctor, the words of a mail server. It is shown whole, as text of a stranger.
type English string

// Name is a name of a machine, shown whole: a DID, a network, a command.
type Name string

// Count is a number of things, shown with its thousands apart; Decimal is one that need not
// be whole, with about three digits. Bytes is a size.
type (
	Count   int64
	Decimal float64
	Bytes   int64
)

// decimal writes a number with about three digits.
func (c *catalogue) decimal(v float64) string {
	digits := 2
	for edge := 9.995; digits > 0 && math.Abs(v) >= edge; edge *= 10 { //nolint:mnd // from there on it is written as 10.0
		digits--
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if digits > 0 {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return c.number(text)
}

// duration writes how long something took.
func (c *catalogue) duration(d time.Duration) (template.HTML, error) {
	if d < time.Second {
		return c.text("size.ms", "n", Decimal(float64(d)/float64(time.Millisecond)))
	}
	return c.text("size.s", "n", Decimal(d.Seconds()))
}

// count writes a number of things in a template.
func (c *catalogue) count(n any) (template.HTML, error) {
	switch n := n.(type) {
	case int:
		return c.value(Count(n))
	case int64:
		return c.value(Count(n))
	default:
		return "", fmt.Errorf("a %T cannot be counted", n)
	}
}

// sign returns a message that is a sign alone.
func (c *catalogue) sign(id string) string {
	text, _ := c.text(id) // every catalogue has it
	return string(text)
}

// number writes a number as the language groups its digits: "12,345.6".
func (c *catalogue) number(plain string) string {
	sign := ""
	if strings.HasPrefix(plain, "-") {
		sign, plain = "-", plain[1:]
	}
	whole, part, broken := strings.Cut(plain, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + c.sign("number.group") + whole[i:]
	}
	if broken {
		whole += c.sign("number.point") + part
	}
	return sign + whole
}

// bytes writes a size in the largest unit that leaves a whole part, by powers of 1,024: the
// settings count so.
func (c *catalogue) bytes(n int64) (template.HTML, error) {
	const kilo = 1024
	if n < kilo {
		return c.text("size.bytes", "count", int(n))
	}
	value := float64(n)
	unit := 0
	for ; value >= kilo-0.5 && unit < 4; unit++ {
		value /= kilo
	}
	digits := 1
	if value >= 99.95 { //nolint:mnd // then a digit behind the point says nothing
		digits = 0
	}
	shown := c.number(strings.TrimSuffix(strconv.FormatFloat(value, 'f', digits, 64), ".0"))
	return c.text("size."+[]string{"bytes", "kb", "mb", "gb", "tb"}[unit], "n", shown)
}

// list writes an enumeration.
func (c *catalogue) list(parts List) (template.HTML, error) {
	if len(parts) > maxListed {
		parts = append(slices.Clone(parts[:maxListed]), "…")
	}
	var out template.HTML
	for i, part := range parts {
		next, err := c.value(part)
		if err != nil {
			return "", err
		}
		switch {
		case i == 0:
			out = next
			continue
		case i == len(parts)-1 && part != "…":
			out, err = c.text("list.pair", "a", out, "b", next)
		default:
			out, err = c.text("list.more", "a", out, "b", next)
		}
		if err != nil {
			return "", err
		}
	}
	return out, nil
}

// clock writes a time: in UTC, which local.js makes local.
func (c *catalogue) clock(t time.Time) (template.HTML, error) {
	t = t.UTC()
	month := Msg("month." + strconv.Itoa(int(t.Month())))
	text, err := c.text("time.full", "day", t.Day(), "month", month, "year", t.Year(), "clock", t.Format("15:04"))
	return `<time datetime="` + template.HTML(t.Format(time.RFC3339)) + `">` + text + `</time>`, err //nolint:gosec // digits
}
