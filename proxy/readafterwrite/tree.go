package readafterwrite

import (
	"bytes"
	"errors"
	"io"
	"iter"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxBytes bounds a document, so that places in it have 32 bits.
	maxBytes = 1 << 30
	// maxNodes bounds the values of one document, to 7 MiB: a node has 28 bytes.
	maxNodes = 1 << 18
	// maxDepth bounds their nesting: a thread as deep as the Lexicon permits, with
	// as many parents, has about 2,000.
	maxDepth = 4000
)

var errTooLarge = errors.New("the JSON has too many values, or they are nested too deeply")

// document is JSON text with the places of its values, and the edits that are
// planned for it.
type document struct {
	src   []byte
	nodes []node // the first is the whole
	most  int    // of nodes
	edits []edit
}

// node is a value: where it lies in the text, and which nodes are in it.
type node struct {
	kind jsontext.Kind
	// from is where the name of a member begins, nameEnd where it ends. Elements
	// have no name: from is start, and nameEnd too.
	from, nameEnd int32
	start, end    int32
	first, next   int32 // the first child, the next sibling; 0: none
}

// value is a node of a document. The zero value is a value that is not there, and so
// is everything in it.
type value struct {
	in *document
	at int32
}

// parse returns a document. It accepts what RFC 7493 does: UTF-8, each name once.
func parse(src []byte) (*document, error) { return parseUpTo(src, maxNodes) }

// parseUpTo is parse with another bound of the values.
func parseUpTo(src []byte, nodes int) (*document, error) {
	if len(src) > maxBytes {
		return nil, errTooLarge
	}
	d := &document{src: src, nodes: make([]node, 0, min(len(src)/24+16, nodes)), most: nodes}
	dec := jsontext.NewDecoder(bytes.NewBuffer(src)) // which reads src itself, no copy
	if err := d.read(dec, node{}, 0); err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.Join(errors.New("there is more after the JSON"), err)
	}
	return d, nil
}

// read appends the next value and all that is in it. named has the place of its name.
func (d *document) read(dec *jsontext.Decoder, named node, depth int) error {
	at := len(d.nodes)
	if at == d.most || depth > maxDepth {
		return errTooLarge
	}
	named.kind = dec.PeekKind()
	d.nodes = append(d.nodes, named)
	if named.kind == jsontext.KindBeginObject || named.kind == jsontext.KindBeginArray {
		if _, err := dec.ReadToken(); err != nil {
			return err
		}
		d.nodes[at].start = place32(dec.InputOffset()) - 1
		if err := d.readParts(dec, at, depth); err != nil {
			return err
		}
		if _, err := dec.ReadToken(); err != nil {
			return err
		}
		d.nodes[at].end = place32(dec.InputOffset())
	} else {
		raw, err := dec.ReadValue()
		if err != nil {
			return err
		}
		d.nodes[at].end = place32(dec.InputOffset())
		d.nodes[at].start = d.nodes[at].end - place32(len(raw))
	}
	if named.nameEnd == 0 {
		d.nodes[at].from, d.nodes[at].nameEnd = d.nodes[at].start, d.nodes[at].start
	}
	return nil
}

// readParts appends the members or elements of a node, up to its closing bracket.
func (d *document) readParts(dec *jsontext.Decoder, at, depth int) error {
	last := 0
	for {
		kind := dec.PeekKind()
		if kind == jsontext.KindEndObject || kind == jsontext.KindEndArray {
			return nil
		}
		var named node
		if d.nodes[at].kind == jsontext.KindBeginObject {
			name, err := dec.ReadValue()
			if err != nil {
				return err
			}
			named.nameEnd = place32(dec.InputOffset())
			named.from = named.nameEnd - place32(len(name))
		}
		part := len(d.nodes)
		if err := d.read(dec, named, depth+1); err != nil {
			return err
		}
		if last == 0 {
			d.nodes[at].first = place32(part)
		} else {
			d.nodes[last].next = place32(part)
		}
		last = part
	}
}

// place32 returns a place in a document, or a length: at most maxBytes.
func place32[T int | int64](n T) int32 { return int32(n) }

func (d *document) root() value { return value{d, 0} }

func (v value) there() bool { return v.in != nil }
func (v value) node() *node { return &v.in.nodes[v.at] }

func (v value) isObject() bool { return v.there() && v.node().kind == jsontext.KindBeginObject }
func (v value) isArray() bool  { return v.there() && v.node().kind == jsontext.KindBeginArray }
func (v value) isString() bool { return v.there() && v.node().kind == jsontext.KindString }
func (v value) isNumber() bool { return v.there() && v.node().kind == jsontext.KindNumber }

// raw returns the text of a value, without edits.
func (v value) raw() []byte {
	if !v.there() {
		return nil
	}
	return v.in.src[v.node().start:v.node().end]
}

// text returns what a string holds; anything else is empty.
func (v value) text() string {
	if !v.isString() {
		return ""
	}
	return unquote(v.raw())
}

// is reports whether a value is a string that holds text.
func (v value) is(text string) bool { return v.isString() && quotes(v.raw(), text) }

// parts returns the members or elements of a value, in order.
func (v value) parts() iter.Seq[value] {
	return func(yield func(value) bool) {
		if !v.there() {
			return
		}
		for at := v.node().first; at != 0; at = v.in.nodes[at].next {
			if !yield(value{v.in, at}) {
				return
			}
		}
	}
}

// named reports whether a value is a member of that name.
func (v value) named(name string) bool {
	n := v.node()
	return quotes(v.in.src[n.from:n.nameEnd], name)
}

// member returns the member of an object.
func (v value) member(name string) value {
	if !v.isObject() {
		return value{}
	}
	for m := range v.parts() {
		if m.named(name) {
			return m
		}
	}
	return value{}
}

// quotes reports whether a JSON string holds text.
func quotes(raw []byte, text string) bool {
	if len(raw) < 2 {
		return false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1:len(raw)-1]) == text
	}
	return unquote(raw) == text
}

func unquote(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	text, _ := jsontext.AppendUnquote(nil, raw) // the decoder has accepted it
	return string(text)
}

// quote appends a JSON string.
func quote(b []byte, text string) []byte {
	b, _ = jsontext.AppendQuote(b, text) // text that is not UTF-8 is repaired
	return b
}
