package lexicon

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"github.com/rivo/uniseg"

	"nestbox/dagcbor"
)

// schema is a type of the Lexicon language. depth is how many lists and maps a
// value is in, itself included.
type schema interface {
	check(v any, depth int) *InvalidError
}

// keyType is the property by which an object says what it is.
const keyType = "$type"

type object struct{ properties []property }

type property struct {
	name     string
	required bool
	nullable bool
	schema   schema
}

func (s *object) check(v any, depth int) *InvalidError {
	m, ok := v.(map[string]any)
	if !ok {
		return invalid("must be an object")
	}
	if depth > dagcbor.MaxDepth {
		return tooDeep()
	}
	for i := range s.properties {
		p := &s.properties[i]
		v, ok := m[p.name]
		switch {
		case !ok && p.required:
			return invalid(`must have the property "` + p.name + `"`)
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
	return invalid(fmt.Sprintf("must not be nested more than %d deep", dagcbor.MaxDepth))
}

// limits are inclusive; nil is none.
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
		return invalid("must be an array")
	case depth > dagcbor.MaxDepth:
		return tooDeep()
	case s.length.above(len(list)):
		return invalid(fmt.Sprintf("must not have more than %d elements", *s.length.high))
	case s.length.below(len(list)):
		return invalid(fmt.Sprintf("must not have fewer than %d elements", *s.length.low))
	}
	for i, v := range list {
		if e := s.items.check(v, depth+1); e != nil {
			return e.in(strconv.Itoa(i))
		}
	}
	return nil
}

type text struct {
	choice
	length    limits[int] // of its UTF-8
	graphemes limits[int]
	format    *format
}

func (s *text) check(v any, _ int) *InvalidError {
	t, ok := v.(string)
	if !ok {
		return invalid("must be a string")
	}
	if e := s.choice.check(v); e != nil {
		return e
	}
	switch {
	case s.length.above(len(t)):
		return invalid(fmt.Sprintf("must not be longer than %d characters", *s.length.high))
	case s.length.below(len(t)):
		return invalid(fmt.Sprintf("must not be shorter than %d characters", *s.length.low))
	}
	// Nothing has more graphemes than bytes, so most texts need no counting.
	if s.graphemes.above(len(t)) || s.graphemes.low != nil {
		switch n := graphemes(t); {
		case s.graphemes.above(n):
			return invalid(fmt.Sprintf("must not be longer than %d graphemes", *s.graphemes.high))
		case s.graphemes.below(n):
			return invalid(fmt.Sprintf("must not be shorter than %d graphemes", *s.graphemes.low))
		}
	}
	if s.format != nil && !s.format.valid(t) {
		return invalid(s.format.fault)
	}
	return nil
}

// graphemes counts the characters that a reader sees.
func graphemes(t string) int {
	// In ASCII only a carriage return joins with what follows it.
	if !strings.ContainsFunc(t, func(r rune) bool { return r >= utf8.RuneSelf || r == '\r' }) {
		return len(t)
	}
	return uniseg.GraphemeClusterCount(t)
}

// choice is the only value, or the only values, that there may be.
type choice struct {
	only  any
	among []any
}

func (c *choice) check(v any) *InvalidError {
	if c.only != nil && v != c.only {
		return invalid(fmt.Sprintf("must be %v", c.only))
	}
	if c.among != nil && !slices.Contains(c.among, v) {
		names := make([]string, 0, len(c.among))
		for _, v := range c.among {
			names = append(names, fmt.Sprint(v))
		}
		return invalid("must be one of (" + strings.Join(names, "|") + ")")
	}
	return nil
}

type integer struct {
	choice
	limits[int64]
}

func (s *integer) check(v any, _ int) *InvalidError {
	n, ok := v.(int64)
	if !ok {
		return invalid("must be an integer")
	}
	if e := s.choice.check(v); e != nil {
		return e
	}
	switch {
	case s.above(n):
		return invalid(fmt.Sprintf("can not be greater than %d", *s.high))
	case s.below(n):
		return invalid(fmt.Sprintf("can not be less than %d", *s.low))
	}
	return nil
}

type boolean struct{ choice }

func (s *boolean) check(v any, _ int) *InvalidError {
	if _, ok := v.(bool); !ok {
		return invalid("must be a boolean")
	}
	return s.choice.check(v)
}

type byteString struct{ length limits[int] }

func (s *byteString) check(v any, _ int) *InvalidError {
	b, ok := v.([]byte)
	switch {
	case !ok:
		return invalid("must be a byte array")
	case s.length.above(len(b)):
		return invalid(fmt.Sprintf("must not be larger than %d bytes", *s.length.high))
	case s.length.below(len(b)):
		return invalid(fmt.Sprintf("must not be smaller than %d bytes", *s.length.low))
	}
	return nil
}

type link struct{}

func (link) check(v any, _ int) *InvalidError {
	if c, ok := v.(cid.Cid); !ok || !c.Defined() {
		return invalid("must be a CID")
	}
	return nil
}

// ref is a definition by its name; the schema comes when all are there.
type ref struct {
	name string
	schema
}

// union is one of several objects, told apart by their $type.
type union struct {
	variants map[string]*ref
	names    []string // of the variants, as the document has them
	closed   bool
}

func (s *union) check(v any, depth int) *InvalidError {
	name, ok := typeOf(v)
	if !ok {
		return invalid(`must be an object which includes the "$type" property`)
	}
	if variant := s.variants[name]; variant != nil {
		return variant.check(v, depth)
	}
	if s.closed {
		return invalid("$type must be one of " + strings.Join(s.names, ", "))
	}
	return nil
}

// typeOf returns the $type of v, which may name the main definition of a
// document in two ways: this is the short one.
func typeOf(v any) (string, bool) {
	m, ok := v.(map[string]any)
	if !ok {
		return "", false
	}
	name, ok := m[keyType].(string)
	return strings.TrimSuffix(name, "#main"), ok
}

// unknown is any object that is not something of its own.
type unknown struct{}

func (unknown) check(v any, _ int) *InvalidError {
	if m, ok := v.(map[string]any); !ok || m[keyType] == typeBlob {
		return invalid("must be an object")
	}
	return nil
}

// token is a name that other schemas use as a string's value: no data has it as
// its type.
type token struct{}

func (token) check(any, int) *InvalidError {
	return invalid("has a token for its schema, so there is no value for it")
}
