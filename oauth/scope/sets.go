package scope

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ErrNoSet: a document is not a permission set.
var ErrNoSet = errors.New("not a permission set")

// PermissionSet is what a Lexicon of the type permission-set publishes.
type PermissionSet struct {
	NSID syntax.NSID

	words   map[string]words // by language in lower case; "" has what holds if no other does
	entries []entry
}

// words are a set's own about itself.
type words struct{ title, detail string }

// entry is a permission in a set.
type entry struct {
	permission Permission
	inherits   bool // the audience comes from the scope that includes the set
}

// Bounds, in characters, of what a stranger's set says about itself.
const (
	maxTitle  = 120
	maxDetail = 400
)

// ParsePermissionSet reads the Lexicon document, JSON, that is published under an NSID.
// It drops permissions that a set cannot have, and those outside of the set's own
// namespace. Error: ErrNoSet.
func ParsePermissionSet(nsid syntax.NSID, document []byte) (*PermissionSet, error) {
	var d struct {
		Lexicon int    `json:"lexicon"`
		ID      string `json:"id"`
		Defs    struct {
			Main struct {
				Type        string            `json:"type"`
				Title       string            `json:"title"`
				Titles      map[string]string `json:"title:lang"`
				Detail      string            `json:"detail"`
				Details     map[string]string `json:"detail:lang"`
				Permissions []jsontext.Value  `json:"permissions"`
			} `json:"main"`
		} `json:"defs"`
	}
	if err := json.Unmarshal(document, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoSet, err)
	}
	main := &d.Defs.Main
	switch {
	case d.Lexicon != 1:
		return nil, fmt.Errorf("%w: its lexicon is %d, not 1", ErrNoSet, d.Lexicon)
	case d.ID != nsid.String():
		return nil, fmt.Errorf("%w: its id is %.300q", ErrNoSet, d.ID)
	case main.Type != "permission-set":
		return nil, fmt.Errorf("%w: its type is %.100q", ErrNoSet, main.Type)
	}
	s := &PermissionSet{NSID: nsid, words: map[string]words{"": {clean(main.Title, maxTitle), clean(main.Detail, maxDetail)}}}
	for lang, title := range main.Titles {
		w := s.words[strings.ToLower(lang)]
		w.title = clean(title, maxTitle)
		s.words[strings.ToLower(lang)] = w
	}
	for lang, detail := range main.Details {
		w := s.words[strings.ToLower(lang)]
		w.detail = clean(detail, maxDetail)
		s.words[strings.ToLower(lang)] = w
	}
	for _, raw := range main.Permissions {
		if e, ok := parseEntry(raw); ok && s.reaches(e.permission.Collections) && s.reaches(e.permission.Methods) {
			s.entries = append(s.entries, e)
		}
	}
	return s, nil
}

// clean makes a stranger's text fit for one line of a page: no control characters, none
// that change the direction of what follows, and no more than most characters.
func clean(text string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if unicode.IsSpace(r) {
			r = ' '
		}
		if !unicode.IsPrint(r) {
			continue
		}
		if n++; n > most {
			b.WriteRune('…')
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// parseEntry reads a permission. It reports false if the permission has anything that
// it does not know.
func parseEntry(raw []byte) (entry, bool) {
	var f struct {
		Type        string   `json:"type"`
		Resource    Kind     `json:"resource"`
		Description string   `json:"description"`
		Collection  []string `json:"collection"`
		Action      []string `json:"action"`
		Method      []string `json:"lxm"`
		Audience    *string  `json:"aud"`
		InheritAud  bool     `json:"inheritAud"`
	}
	if err := json.Unmarshal(raw, &f, json.RejectUnknownMembers(true)); err != nil || f.Type != "permission" {
		return entry{}, false
	}
	e := entry{permission: Permission{Kind: f.Resource}}
	p := &e.permission
	var ok bool
	switch f.Resource {
	case Repo:
		p.Collections, ok = names(f.Collection)
		p.Actions = AllActions
		if ok && f.Action != nil {
			p.Actions, ok = parseActions(f.Action)
		}
		ok = ok && f.Method == nil && f.Audience == nil && !f.InheritAud
	case RPC:
		p.Methods, ok = names(f.Method)
		e.inherits = f.InheritAud
		p.Audience = Any
		ok = ok && (f.Audience == nil) == f.InheritAud && (f.Audience == nil || *f.Audience == Any) && f.Collection == nil && f.Action == nil
	case Blob, Account, Identity, Include, Atproto, TransitionGeneric, TransitionChat, TransitionEmail:
	}
	return e, ok
}

// reaches reports whether all NSIDs lie under the set's own up to its last dot.
func (s *PermissionSet) reaches(ids []string) bool {
	group := namespace(s.NSID.String())
	for _, id := range ids {
		if !strings.HasPrefix(id, group) {
			return false
		}
	}
	return true
}

// members returns what the set grants to a scope that includes it with an audience, ""
// if it has none.
func (s *PermissionSet) members(audience string) []Permission {
	if s == nil {
		return nil
	}
	var list []Permission
	for _, e := range s.entries {
		p := e.permission
		if e.inherits {
			p.Audience = audience
		}
		if p.Kind == RPC && p.Audience == "" {
			continue
		}
		p.text = p.normal()
		p.Raw = p.text
		list = append(list, p)
	}
	return list
}

// Words returns what the set says about itself, in the first of the languages (BCP 47)
// that it has, else in its own.
func (s *PermissionSet) Words(languages ...string) (title, detail string) {
	for _, lang := range languages {
		lang = strings.ToLower(lang)
		for lang != "" {
			if w, ok := s.words[lang]; ok && w.title != "" {
				return w.title, cmp.Or(w.detail, s.words[""].detail)
			}
			lang = lang[:max(strings.LastIndexByte(lang, '-'), 0)]
		}
	}
	return s.words[""].title, s.words[""].detail
}

// Publisher returns the domain whose owner published the set.
func (s *PermissionSet) Publisher() string { return s.NSID.Authority() }
