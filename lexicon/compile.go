package lexicon

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"nestbox/dagcbor"
)

// New returns the catalogue of the documents, which must hold all that they
// refer to from data. It skips definitions of queries, procedures and the like.
func New(docs ...Document) (*Catalogue, error) { return build(nil, docs) }

// build is New for documents that may also refer to what base has.
func build(base map[string]*ref, docs []Document) (*Catalogue, error) {
	c := compiler{base: base, refs: map[string]*ref{}, formats: formats()}
	records := map[string]record{}
	for _, d := range docs {
		for name, def := range d.Defs {
			if err := c.named(d.ID, name, &def, records); err != nil {
				return nil, fmt.Errorf("lexicon %s#%s: %w", d.ID, name, err)
			}
		}
	}
	for name, r := range c.refs {
		if r.schema == nil {
			return nil, fmt.Errorf("lexicon %s: referred to, but no document defines it as data", name)
		}
	}
	return &Catalogue{records: records, named: c.refs}, nil
}

type compiler struct {
	base    map[string]*ref // what is defined already
	refs    map[string]*ref // by the full name, "#main" left out
	formats map[string]*format
	id      string // of the document
}

// named compiles a definition that has a name.
func (c *compiler) named(id, name string, d *Definition, records map[string]record) error {
	c.id = id
	switch d.Type {
	case "record":
		if name != "main" || d.Record == nil || d.Record.Type != "object" {
			return errors.New("a record must be main and have an object")
		}
		key := KeyType(d.Key)
		if !key.valid() {
			return fmt.Errorf("unknown key type %q", d.Key)
		}
		if _, ok := records[id]; ok {
			return errors.New("is there twice")
		}
		s, err := c.object(d.Record)
		records[id] = record{key: key, schema: s}
		return err
	case "object", "array", "string", "integer", "boolean", "bytes", "cid-link", "blob", "token":
		// A name must not stand for another name, or there could be circles without data.
		s, err := c.compile(d)
		if err != nil {
			return err
		}
		r := c.ref("#" + name)
		if r.schema != nil {
			return errors.New("is there twice")
		}
		if o, ok := s.(*object); ok {
			o.name = r.name
		}
		r.schema = s
	}
	return nil
}

// ref returns the reference of a full name, or of one within the document.
func (c *compiler) ref(name string) *ref {
	if strings.HasPrefix(name, "#") {
		name = c.id + name
	}
	name = strings.TrimSuffix(name, "#main")
	if r := c.base[name]; r != nil {
		return r
	}
	r := c.refs[name]
	if r == nil {
		r = &ref{name: name}
		c.refs[name] = r
	}
	return r
}

func (c *compiler) compile(d *Definition) (schema, error) {
	switch d.Type {
	case "object":
		return c.object(d)
	case "array":
		return c.array(d)
	case "string":
		return c.text(d)
	case "integer":
		return orChoice(d, &integer{limits[int64]{d.Minimum, d.Maximum}})
	case "boolean":
		return orChoice(d, boolean{})
	case "bytes":
		return &byteString{length: limits[int]{d.MinLength, d.MaxLength}}, nil
	case "cid-link":
		return link{}, nil
	case "blob":
		return compileBlob(d)
	case "ref":
		if d.Ref == "" {
			return nil, errors.New("a ref refers to nothing")
		}
		return c.ref(d.Ref), nil
	case "union":
		return c.union(d)
	case "unknown":
		return unknown{}, nil
	case "token":
		return token{}, nil
	default:
		return nil, fmt.Errorf("unknown type %q", d.Type)
	}
}

func (c *compiler) object(d *Definition) (*object, error) {
	s := &object{}
	for _, p := range d.Properties {
		inner, err := c.compile(&p.Definition)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		s.properties = append(s.properties, property{
			name: p.Name, schema: inner,
			required: slices.Contains(d.Required, p.Name),
			nullable: slices.Contains(d.Nullable, p.Name),
		})
	}
	for _, name := range slices.Concat(d.Required, d.Nullable) {
		if s.property(name) == nil {
			return nil, fmt.Errorf("%s: required or nullable, but no property", name)
		}
	}
	return s, nil
}

func (c *compiler) array(d *Definition) (schema, error) {
	if d.Items == nil {
		return nil, errors.New("an array without items")
	}
	items, err := c.compile(d.Items)
	return &array{length: limits[int]{d.MinLength, d.MaxLength}, items: items}, err
}

func (c *compiler) text(d *Definition) (schema, error) {
	f := c.formats[d.Format]
	if f == nil && d.Format != "" {
		return nil, fmt.Errorf("unknown format %q", d.Format)
	}
	return orChoice(d, &text{
		format:    f,
		length:    limits[int]{d.MinLength, d.MaxLength},
		graphemes: limits[int]{d.MinGraphemes, d.MaxGraphemes},
	})
}

func (c *compiler) union(d *Definition) (schema, error) {
	if d.Closed && len(d.Refs) == 0 {
		return nil, errors.New("a closed union of nothing")
	}
	s := &union{variants: map[string]*ref{}, closed: d.Closed}
	for _, name := range d.Refs {
		r := c.ref(name)
		s.variants[r.name] = r
		s.names = append(s.names, r.name)
	}
	return s, nil
}

func compileBlob(d *Definition) (schema, error) {
	s := &blob{rules: BlobRules{Accept: d.Accept}}
	if d.MaxSize != nil {
		s.rules.MaxSize = *d.MaxSize
		if *d.MaxSize <= 0 {
			return nil, errors.New("maxSize must be more than 0")
		}
	}
	return s, nil
}

// orChoice returns the values that a definition names with const or enum, which need
// no further rule; otherwise s.
func orChoice(d *Definition, s schema) (schema, error) {
	values := d.Enum
	if d.Const != "" {
		values = []JSON{d.Const}
	}
	if len(values) == 0 {
		return s, nil
	}
	var c choice
	for _, raw := range values {
		v, err := dagcbor.FromJSON([]byte(raw))
		switch v.(type) {
		case string, int64, bool:
			c = append(c, v)
		default:
			return nil, errors.Join(fmt.Errorf("%s is no value to compare with", raw), err)
		}
	}
	return c, nil
}
