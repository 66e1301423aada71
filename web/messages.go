package web

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

//go:embed messages/*.json
var messageFiles embed.FS

// languageCookie is the cookie in which the form in the footer keeps a language.
const languageCookie = "lang"

// pseudo is the tag of the pseudo-language: English with accents, longer, and in
// brackets, so that text that is not in the catalogue is seen.
const pseudo = "en-XA"

// Text is a message in no language yet: its id, and pairs of a placeholder's name and
// its value. Values are strings (ours, shown as they are), Stranger, Host, time.Time,
// Codes, Lists, other Texts, and integers: a message with plurals goes by the one named count.
type Text struct {
	ID   string
	Args []any
}

// Msg returns the message with an id of messages/en.json; args are pairs of a
// placeholder's name and its value.
func Msg(id string, args ...any) Text { return Text{id, args} }

// catalogue is one language.
type catalogue struct {
	tag      language.Tag
	messages map[string]message
}

// message is the forms of one text: "other" at least.
type message map[string]string

// UnmarshalJSON accepts a text, or an object of plural forms.
func (m *message) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*m = message{"other": one}
		return nil
	}
	var forms map[string]string
	if err := json.Unmarshal(raw, &forms); err != nil || forms["other"] == "" {
		return errors.New("a message is a text, or an object with the plural form \"other\"")
	}
	*m = forms
	return nil
}

// languages are all catalogues, English first, and the choice among them.
type languages struct {
	all     []*catalogue
	matcher language.Matcher
}

// readLanguages reads every catalogue. Each must have the messages of English, with the
// same placeholders.
func readLanguages(files fs.FS, withPseudo bool) (*languages, error) {
	names, err := fs.Glob(files, "messages/*.json")
	if err != nil {
		return nil, err
	}
	l := &languages{}
	for _, name := range names {
		c, err := readCatalogue(files, name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		l.all = append(l.all, c)
	}
	slices.SortFunc(l.all, func(a, b *catalogue) int { // English is what everything falls back to
		return strings.Compare(rank(a), rank(b))
	})
	if len(l.all) == 0 || l.all[0].tag != language.English {
		return nil, errors.New("messages/en.json is missing")
	}
	if withPseudo {
		l.all = append(l.all, l.all[0].pseudo())
	}
	var tags []language.Tag
	for _, c := range l.all {
		if err := c.compare(l.all[0]); err != nil {
			return nil, fmt.Errorf("messages of %s: %w", c.tag, err)
		}
		tags = append(tags, c.tag)
	}
	l.matcher = language.NewMatcher(tags)
	return l, nil
}

func rank(c *catalogue) string {
	if c.tag == language.English {
		return ""
	}
	return c.tag.String()
}

func readCatalogue(files fs.FS, name string) (*catalogue, error) {
	tag, err := language.Parse(strings.TrimSuffix(path.Base(name), ".json"))
	if err != nil {
		return nil, err
	}
	raw, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	c := &catalogue{tag: tag}
	return c, json.Unmarshal(raw, &c.messages)
}

var placeholder = regexp.MustCompile(`\{[a-z_]+\}`)

// compare reports what c lacks beside English, or has more.
func (c *catalogue) compare(english *catalogue) error {
	for _, id := range slices.Sorted(maps.Keys(c.messages)) {
		if english.messages[id] == nil {
			return fmt.Errorf("%s is not in en.json", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(english.messages)) {
		m := c.messages[id]
		if m == nil {
			return fmt.Errorf("%s is missing", id)
		}
		if want, got := english.messages[id].placeholders(), m.placeholders(); !slices.Equal(got, want) {
			return fmt.Errorf("%s has the placeholders %v, and in English %v", id, got, want)
		}
	}
	return nil
}

// placeholders returns those of the form "other", which has all of them.
func (m message) placeholders() []string {
	found := placeholder.FindAllString(m["other"], -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// choose returns the best language for a request. locales are its ui_locales.
func (l *languages) choose(r *http.Request, locales string) *catalogue {
	wanted := []string{strings.Join(strings.Fields(locales), ",")}
	if c, err := r.Cookie(languageCookie); err == nil {
		wanted = append(wanted, c.Value)
	}
	wanted = append(wanted, r.Header.Get("Accept-Language"))
	for _, one := range wanted {
		if one == "" || len(one) > 1024 {
			continue
		}
		tags, _, err := language.ParseAcceptLanguage(one)
		if err != nil || len(tags) == 0 {
			continue
		}
		if _, i, confidence := l.matcher.Match(tags...); confidence > language.No {
			return l.all[i]
		}
	}
	return l.all[0]
}

// find returns the catalogue with a tag, or nil.
func (l *languages) find(tag string) *catalogue {
	for _, c := range l.all {
		if c.tag.String() == tag {
			return c
		}
	}
	return nil
}

// direction returns the value of dir.
func (c *catalogue) direction() string {
	switch base, _ := c.tag.Base(); base.String() {
	case "ar", "dv", "fa", "he", "ps", "ur", "yi":
		return "rtl"
	}
	return "ltr"
}

// pluralForms are the names of the forms in a catalogue.
func pluralForm(tag language.Tag, n int) string {
	switch plural.Cardinal.MatchPlural(tag, n, 0, 0, 0, 0) {
	case plural.Zero:
		return "zero"
	case plural.One:
		return "one"
	case plural.Two:
		return "two"
	case plural.Few:
		return "few"
	case plural.Many:
		return "many"
	case plural.Other:
	}
	return "other"
}

// text writes a message as HTML: its own text and its values are escaped.
func (c *catalogue) text(id string, args ...any) (template.HTML, error) {
	m := c.messages[id]
	if m == nil {
		return "", fmt.Errorf("no message has the id %q", id)
	}
	values := map[string]template.HTML{}
	form := "other"
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
			form = pluralForm(c.tag, n)
		}
		values["{"+name+"}"] = value
	}
	text, ok := m[form]
	if !ok {
		text = m["other"]
	}
	var missing error
	out := placeholder.ReplaceAllStringFunc(template.HTMLEscapeString(text), func(name string) string {
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
	case Count:
		return template.HTML(c.number(strconv.FormatInt(int64(v), 10))), nil //nolint:gosec // digits and a separator of ours
	case Bytes:
		return c.bytes(int64(v))
	case Badge:
		text, err := c.value(v.Text)
		return `<span class="badge ` + template.HTML(kindOf(v.Kind)) + `">` + text + `</span>`, err //nolint:gosec // one of four words
	case setWords:
		return template.HTML(`<bdi>` + template.HTMLEscapeString(v.in(c.tag.String())) + `</bdi>`), nil //nolint:gosec // escaped
	case time.Time:
		return c.clock(v)
	case Text:
		return c.text(v.ID, v.Args...)
	default:
		return "", fmt.Errorf("a %T cannot be shown", v)
	}
}

// Name is a name of a machine, shown whole: a DID, a network, a command.
type Name string

// Count is a number of things, shown with its thousands apart. Bytes is a size.
type (
	Count int64
	Bytes int64
)

// number writes a number as the language groups its digits: "12,345.6".
func (c *catalogue) number(plain string) string {
	sign := ""
	if strings.HasPrefix(plain, "-") {
		sign, plain = "-", plain[1:]
	}
	whole, part, broken := strings.Cut(plain, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + c.messages["number.group"]["other"] + whole[i:]
	}
	if broken {
		whole += c.messages["number.point"]["other"] + part
	}
	return sign + whole
}

// bytes writes a size in the largest unit that leaves a whole part, by powers of 1,000, as
// disks are sold.
func (c *catalogue) bytes(n int64) (template.HTML, error) {
	if n < 1000 {
		return c.text("size.bytes", "count", int(n))
	}
	value := float64(n)
	unit := 0
	for ; value >= 999.5 && unit < 4; unit++ {
		value /= 1000
	}
	digits := 1
	if value >= 99.95 { //nolint:mnd // then a digit behind the point says nothing
		digits = 0
	}
	shown := c.number(strconv.FormatFloat(value, 'f', digits, 64))
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

// pseudo returns the pseudo-language of a catalogue.
func (c *catalogue) pseudo() *catalogue {
	out := &catalogue{tag: language.MustParse(pseudo), messages: map[string]message{}}
	for id, forms := range c.messages {
		m := message{}
		for form, text := range forms {
			m[form] = pseudoText(text)
		}
		out.messages[id] = m
	}
	return out
}

// accents stand for the letters of English in the pseudo-language.
var accents = strings.NewReplacer(
	"a", "á", "c", "ç", "e", "é", "g", "ğ", "i", "î", "l", "ļ", "n", "ñ", "o", "ö", "s", "š", "u", "ü", "y", "ÿ",
	"A", "Å", "C", "Ç", "E", "É", "I", "Î", "O", "Ø", "S", "Š", "T", "Ţ", "U", "Û", "W", "Ŵ",
)

// pseudoText is longer than the text by two fifths, as German or Finnish can be.
func pseudoText(text string) string {
	var b strings.Builder
	b.WriteString("⟦")
	last := 0
	for _, at := range placeholder.FindAllStringIndex(text, -1) {
		b.WriteString(accents.Replace(text[last:at[0]]) + text[at[0]:at[1]])
		last = at[1]
	}
	b.WriteString(accents.Replace(text[last:]))
	words := strings.Fields("öne ţwo ţhree föur fîve šix ševen eîght nîne ten")
	for i, left := 0, len(text)*2/5; left > 0; i++ {
		word := words[i%len(words)]
		b.WriteString(" " + word)
		left -= len(word) + 1
	}
	b.WriteString("⟧")
	return b.String()
}
