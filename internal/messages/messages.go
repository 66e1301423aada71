// Package messages reads message catalogues: the texts of pages and mails, one JSON file a
// language, by id, with placeholders and plurals. How a text is written, as HTML or plain,
// is its callers' business.
//
// Invariant: every catalogue has the messages of English, with the same placeholders.
package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
)

// Pseudo is the tag of the pseudo-language: English with accents, longer, and in brackets,
// so that text that is in no catalogue is seen.
const Pseudo = "en-XA"

// Catalogue is one language.
type Catalogue struct {
	Tag      language.Tag
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

// Set has all catalogues, English first.
type Set struct {
	All     []*Catalogue
	matcher language.Matcher
}

// Read reads every catalogue in the folder messages of files; withPseudo adds the
// pseudo-language.
func Read(files fs.FS, withPseudo bool) (*Set, error) {
	names, err := fs.Glob(files, "messages/*.json")
	if err != nil {
		return nil, err
	}
	l := &Set{}
	for _, name := range names {
		c, err := readCatalogue(files, name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		l.All = append(l.All, c)
	}
	slices.SortFunc(l.All, func(a, b *Catalogue) int { // English is what everything falls back to
		return strings.Compare(rank(a), rank(b))
	})
	if len(l.All) == 0 || l.All[0].Tag != language.English {
		return nil, errors.New("messages/en.json is missing")
	}
	if withPseudo {
		l.All = append(l.All, l.All[0].pseudo())
	}
	var tags []language.Tag
	for _, c := range l.All {
		if err := c.compare(l.All[0]); err != nil {
			return nil, fmt.Errorf("messages of %s: %w", c.Tag, err)
		}
		tags = append(tags, c.Tag)
	}
	l.matcher = language.NewMatcher(tags)
	return l, nil
}

func rank(c *Catalogue) string {
	if c.Tag == language.English {
		return ""
	}
	return c.Tag.String()
}

func readCatalogue(files fs.FS, name string) (*Catalogue, error) {
	tag, err := language.Parse(strings.TrimSuffix(path.Base(name), ".json"))
	if err != nil {
		return nil, err
	}
	raw, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	c := &Catalogue{Tag: tag}
	return c, json.Unmarshal(raw, &c.messages)
}

// Placeholder is one in a text: {name}.
var Placeholder = regexp.MustCompile(`\{[a-z_]+\}`)

// compare reports what c lacks beside English, or has more.
func (c *Catalogue) compare(english *Catalogue) error {
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
	found := Placeholder.FindAllString(m["other"], -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// Match returns the catalogue that fits a list of languages best (RFC 9110 section 12.5.4),
// nil if none does.
func (l *Set) Match(list string) *Catalogue {
	if list == "" || len(list) > 1024 {
		return nil
	}
	tags, _, err := language.ParseAcceptLanguage(list)
	if err != nil || len(tags) == 0 {
		return nil
	}
	_, i, confidence := l.matcher.Match(tags...)
	if confidence <= language.No {
		return nil
	}
	return l.All[i]
}

// Find returns the catalogue with a tag, or nil.
func (l *Set) Find(tag string) *Catalogue {
	for _, c := range l.All {
		if c.Tag.String() == tag {
			return c
		}
	}
	return nil
}

// IDs returns the ids of all messages, in order.
func (c *Catalogue) IDs() []string { return slices.Sorted(maps.Keys(c.messages)) }

// Text returns the message with an id, with its placeholders: the plural form of count,
// which is 0 for a message without plurals; false if there is none.
func (c *Catalogue) Text(id string, count int) (text string, ok bool) {
	m := c.messages[id]
	if text, ok = m[pluralForm(c.Tag, count)]; !ok {
		text, ok = m["other"]
	}
	return text, ok
}

// Direction returns the value of dir.
func (c *Catalogue) Direction() string {
	switch base, _ := c.Tag.Base(); base.String() {
	case "ar", "dv", "fa", "he", "ps", "ur", "yi":
		return "rtl"
	}
	return "ltr"
}

// pluralForm returns the name of a form in a catalogue.
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

// pseudo returns the pseudo-language of a catalogue.
func (c *Catalogue) pseudo() *Catalogue {
	out := &Catalogue{Tag: language.MustParse(Pseudo), messages: map[string]message{}}
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
	for _, at := range Placeholder.FindAllStringIndex(text, -1) {
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
