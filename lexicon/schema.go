package lexicon

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	uax "github.com/clipperhouse/uax29/v2/graphemes"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
)

// schema is a type of the Lexicon language. depth is how many lists and maps a
// value is in, itself included.
type schema interface {
	check(v any, depth int) *InvalidError
}

// keyType is the property that holds an object's type.
const keyType = "$type"

type object struct {
	name       string // its $type may be this; empty if it has no name
	properties []property
}

type property struct {
	name     string
	required bool
	nullable bool
	schema   schema
}

func (s *object) check(v any, depth int) *InvalidError {
	m, ok := v.(map[string]any)
	switch {
	case !ok:
		return wrongType("object", v)
	case depth > dagcbor.MaxDepth:
		return tooDeep()
	case s.name != "":
		if _, said := m[keyType]; said {
			if name, ok := typeOf(v); !ok || name != s.name {
				return wrongValue(m[keyType], s.name).in(keyType)
			}
		}
	}
	for i := range s.properties {
		p := &s.properties[i]
		v, ok := m[p.name]
		switch {
		case !ok && p.required:
			return missing(p.name)
		case !ok, v == nil && p.nullable:
			continue
		}
		if e := p.schema.check(v, depth+1); e != nil {
			return e.in(p.name)
		}
	}
	return nil
}

func tooDeep() *InvalidError {
	return &InvalidError{fault: fmt.Sprintf("Nested too deep (maximum %d)", dagcbor.MaxDepth)}
}

// limits are inclusive; nil means no limit.
type limits[T int | int64] struct{ low, high *T }

func (l limits[T]) below(n T) bool { return l.low != nil && n < *l.low }
func (l limits[T]) above(n T) bool { return l.high != nil && n > *l.high }

type array struct {
	length limits[int]
	items  schema
}

func (s *array) check(v any, depth int) *InvalidError {
	list, ok := v.([]any)
	switch {
	case !ok:
		return wrongType("array", v)
	case depth > dagcbor.MaxDepth:
		return tooDeep()
	}
	if e := outside("array", s.length, len(list)); e != nil {
		return e
	}
	for i, v := range list {
		if e := s.items.check(v, depth+1); e != nil {
			return e.at(i)
		}
	}
	return nil
}

type text struct {
	length    limits[int] // of its UTF-8
	graphemes limits[int]
	format    *format
}

func (s *text) check(v any, _ int) *InvalidError {
	t, ok := v.(string)
	link, isLink := v.(cid.Cid)
	if isLink {
		t = link.String() // whose faults come first
	} else if !ok {
		return wrongType("string", v)
	}
	if e := outside("string", s.length, len(t)); e != nil {
		return e
	}
	// No text has more graphemes than bytes, so most texts need no counting.
	if s.graphemes.above(len(t)) || s.graphemes.low != nil {
		if e := outside("grapheme", s.graphemes, graphemes(t)); e != nil {
			return e
		}
	}
	if s.format != nil && !s.format.valid(t) {
		return wrongFormat(s.format.name, t)
	}
	if isLink {
		return wrongValue(v, t)
	}
	return nil
}

// graphemes counts the characters that a reader sees.
func graphemes(t string) int {
	// In ASCII only a carriage return joins with what follows it.
	if !strings.ContainsFunc(t, func(r rune) bool { return r >= utf8.RuneSelf || r == '\r' }) {
		return len(t)
	}
	n := 0
	for clusters := uax.FromString(t); clusters.Next(); {
		n++
	}
	return n
}

// choice are the only allowed values.
type choice []any

func (s choice) check(v any, _ int) *InvalidError {
	if !slices.Contains(s, v) {
		return wrongValue(v, s...)
	}
	return nil
}

type integer struct{ limits[int64] }

func (s *integer) check(v any, _ int) *InvalidError {
	n, ok := v.(int64)
	if !ok {
		return wrongType("integer", v)
	}
	return outside("integer", s.limits, n)
}

type boolean struct{}

func (boolean) check(v any, _ int) *InvalidError {
	if _, ok := v.(bool); !ok {
		return wrongType("boolean", v)
	}
	return nil
}

type byteString struct{ length limits[int] }

func (s *byteString) check(v any, _ int) *InvalidError {
	b, ok := v.([]byte)
	if !ok {
		return wrongType("bytes", v)
	}
	return outside("bytes", s.length, len(b))
}

type link struct{}

func (link) check(v any, _ int) *InvalidError {
	if c, ok := v.(cid.Cid); !ok || !c.Defined() {
		return wrongType("cid", v)
	}
	return nil
}

// ref is a definition by its name; the schema is set when all definitions are known.
type ref struct {
	name string
	schema
}

// union is one of several objects, distinguished by their $type.
type union struct {
	variants map[string]*ref
	names    []string // of the variants, in the document's form
	closed   bool
}

func (s *union) check(v any, depth int) *InvalidError {
	m, ok := v.(map[string]any)
	said, typed := m[keyType]
	if !ok || !typed {
		return wrongType(`an object which includes the "$type" property`, v)
	}
	name, ok := typeOf(v)
	switch variant := s.variants[name]; {
	case variant != nil:
		return variant.check(v, depth)
	case s.closed:
		return wrongValue(said, s.names...).in(keyType)
	case !ok:
		return wrongType("string", said).in(keyType)
	default:
		return nil
	}
}

// typeOf returns the $type of v in its short form: the main definition of a document
// can be named in two ways.
func typeOf(v any) (string, bool) {
	m, ok := v.(map[string]any)
	if !ok {
		return "", false
	}
	name, ok := m[keyType].(string)
	return strings.TrimSuffix(name, "#main"), ok
}

// unknown is any object; a link, a byte string or a blob is not one.
type unknown struct{}

func (unknown) check(v any, _ int) *InvalidError {
	if m, ok := v.(map[string]any); !ok || m[keyType] == typeBlob {
		return wrongType("object", v)
	}
	return nil
}

// token is a name that other schemas use as a string's value: no data has it as
// its type.
type token struct{}

func (token) check(v any, _ int) *InvalidError { return wrongType("token", v) }
