package lexicon

import (
	"fmt"
	"slices"
	"strings"
)

// Parts puts the schema of one collection together from documents of several authors:
// it tells which document is missing next, and leaves out definitions that the schema
// does not need.
type Parts struct {
	base       *Catalogue
	collection string
	documents  map[string]Document
	needed     map[string]map[string]Definition // by document and name
	open       []string                         // full names that are needed and were not looked at
	seen       map[string]bool                  // names that are or were open
	width      int                              // the most that a needed definition lists
}

// NewParts begins the schema of a collection. It may refer to what base knows.
func NewParts(base *Catalogue, collection string) *Parts {
	return &Parts{
		base: base, collection: collection,
		documents: map[string]Document{}, needed: map[string]map[string]Definition{},
		open: []string{collection}, seen: map[string]bool{collection: true},
	}
}

// Missing returns the NSID of a document that is needed, and "" if there is none.
func (p *Parts) Missing() string {
	for len(p.open) > 0 {
		name := p.open[len(p.open)-1]
		id, fragment, _ := strings.Cut(name, "#")
		d, ok := p.documents[id]
		if !ok {
			return id
		}
		p.open = p.open[:len(p.open)-1]
		if fragment == "" {
			fragment = "main"
		}
		def, ok := d.Defs[fragment]
		if !ok {
			continue // Catalogue reports it
		}
		if p.needed[id] == nil {
			p.needed[id] = map[string]Definition{}
		}
		p.needed[id][fragment] = def
		p.need(id, &def)
	}
	return ""
}

// need opens all that a definition in the document of an id refers to.
func (p *Parts) need(id string, d *Definition) {
	p.width = max(p.width, len(d.Properties), len(d.Required), len(d.Nullable), len(d.Enum), len(d.Accept))
	for _, name := range append(slices.Clone(d.Refs), d.Ref) {
		if name == "" {
			continue
		}
		if strings.HasPrefix(name, "#") {
			name = id + name
		}
		name = strings.TrimSuffix(name, "#main")
		if _, known := p.base.named[name]; !known && !p.seen[name] {
			p.seen[name] = true
			p.open = append(p.open, name)
		}
	}
	for _, inner := range []*Definition{d.Record, d.Items} {
		if inner != nil {
			p.need(id, inner)
		}
	}
	for i := range d.Properties {
		p.need(id, &d.Properties[i].Definition)
	}
}

// Add adds the document that is missing.
func (p *Parts) Add(raw []byte) error {
	d, err := ParseDocument(raw)
	if err != nil {
		return err
	}
	if missing := p.Missing(); d.ID != missing {
		return fmt.Errorf("lexicon document %.300q: %q is missing", d.ID, missing)
	}
	p.documents[d.ID] = d
	return nil
}

// maxWidth bounds the properties, values and types that one definition of a stranger
// lists: a check looks through them. baseWidth is what this program's own may list.
const (
	maxWidth  = 1000
	baseWidth = 64
)

// Catalogue returns the catalogue of the collection, once nothing is missing. Before it
// checks a record, ask if that is Affordable: the documents may be hostile.
func (p *Parts) Catalogue() (*Catalogue, error) {
	if missing := p.Missing(); missing != "" {
		return nil, fmt.Errorf("lexicon %s: it is missing", missing)
	}
	if p.width > maxWidth {
		return nil, fmt.Errorf("lexicon %s: a definition lists %d members; the limit is %d", p.collection, p.width, maxWidth)
	}
	var documents []Document
	for id, defs := range p.needed {
		documents = append(documents, Document{ID: id, Defs: defs})
	}
	c, err := build(p.base.named, documents)
	if err != nil {
		return nil, err
	}
	c.width = max(p.width, baseWidth)
	return c, nil
}

// maxSteps bounds what it takes to check a record, in comparisons.
const maxSteps = 2_000_000

// Affordable reports whether a record can be checked in milliseconds, whatever the
// documents are that the catalogue was made of.
func (c *Catalogue) Affordable(v map[string]any) bool {
	return c.width == 0 || countValues(v) <= maxSteps/c.width
}

func countValues(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			n += countValues(e)
		}
	case []any:
		for _, e := range v {
			n += countValues(e)
		}
	}
	return n
}
