package lexicon

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
)

// typeBlob is the $type of a reference to a blob.
const typeBlob = "blob"

// noSize is the size in a reference that does not know it: official libraries write
// it when they convert a reference of the old form.
const noSize = -1

// BlobRef is a reference to a blob in a record.
type BlobRef struct {
	Path     string // below the record, as in InvalidError: ".avatar"
	CID      cid.Cid
	MimeType string
	Size     int64 // noSize if unknown: if Legacy, and in what was converted from such a reference
	Legacy   bool  // the form {cid, mimeType} until 2023, which no schema accepts any more
	Rules    BlobRules
}

// BlobRules are what a schema demands of a blob; the zero value accepts every blob.
type BlobRules struct {
	Accept  []string // MIME types, or "*/*", or "image/*"; empty: all
	MaxSize int64    // in bytes; 0: no limit
}

// Takes reports whether the reference may be to a blob of this type.
func (r BlobRules) Takes(mimeType string) bool {
	return len(r.Accept) == 0 || slices.ContainsFunc(r.Accept, func(pattern string) bool {
		if pattern == "*/*" {
			return true
		}
		if kind, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasSuffix(kind, "/") {
			return strings.HasPrefix(mimeType, kind)
		}
		return pattern == mimeType
	})
}

// Fits reports whether the reference may be to a blob of this size.
func (r BlobRules) Fits(size int64) bool { return r.MaxSize == 0 || size <= r.MaxSize }

type blob struct{ rules BlobRules }

// check checks what the reference claims. Only the holder of the blob can tell
// whether that is true.
func (s *blob) check(v any, _ int) *InvalidError {
	m, _ := v.(map[string]any)
	b, ok := asBlob(m)
	switch {
	case !ok || b.Legacy || b.Size == noSize:
		return wrongType("blob", v)
	case !s.rules.Takes(b.MimeType):
		return wrongValue(any(b.MimeType), s.rules.Accept...).in("mimeType")
	case !s.rules.Fits(b.Size):
		return outside("blob", limits[int64]{high: &s.rules.MaxSize}, b.Size)
	}
	return nil
}

// asBlob returns the reference in m, and whether m is a reference to a blob.
func asBlob(m map[string]any) (BlobRef, bool) {
	mimeType, _ := m["mimeType"].(string)
	if m[keyType] == typeBlob {
		c, isLink := m["ref"].(cid.Cid)
		size, isSize := m["size"].(int64)
		ok := len(m) == 4 && strings.Contains(mimeType, "/") && isLink && c.Defined() && isSize && size >= noSize
		return BlobRef{CID: c, MimeType: mimeType, Size: size}, ok
	}
	text, _ := m["cid"].(string)
	if len(m) != 2 || mimeType == "" || !isCID(text) {
		return BlobRef{}, false
	}
	c, err := dagcbor.ParseCID(text)
	return BlobRef{CID: c, MimeType: mimeType, Size: noSize, Legacy: true}, err == nil
}

// Blobs returns every reference to a blob in a record, by path: those that its schema
// names with the rules for them, and those in what no schema names. It does not look
// below dagcbor.MaxDepth: no such record can be encoded. malformed is the path of an
// object that claims to be a blob and is not, or empty.
func (c *Catalogue) Blobs(collection string, v map[string]any) (refs []BlobRef, malformed string) {
	var s schema
	if r, ok := c.records[collection]; ok {
		s = r.schema
	}
	var w blobWalk
	w.visit(v, s, 1)
	slices.SortFunc(w.found, func(a, b BlobRef) int { return cmp.Compare(a.Path, b.Path) })
	return w.found, w.malformed
}

// BlobRefs is Blobs without malformed.
func (c *Catalogue) BlobRefs(collection string, v map[string]any) []BlobRef {
	refs, _ := c.Blobs(collection, v)
	return refs
}

type blobWalk struct {
	path  []string
	found []BlobRef
	// malformed is the least path of an object that claims to be a blob and is not.
	malformed string
}

// visit looks for references in v, whose schema is s, or nil.
func (w *blobWalk) visit(v any, s schema, depth int) {
	if depth > dagcbor.MaxDepth {
		return
	}
	s = resolve(s, v)
	switch v := v.(type) {
	case []any:
		var items schema
		if a, ok := s.(*array); ok {
			items = a.items
		}
		for i, e := range v {
			w.path = append(w.path, index(i))
			w.visit(e, items, depth+1)
			w.path = w.path[:len(w.path)-1]
		}
	case map[string]any:
		if b, ok := asBlob(v); ok {
			b.Path = w.at()
			if s, ok := s.(*blob); ok {
				b.Rules = s.rules
			}
			w.found = append(w.found, b)
			return
		}
		if v[keyType] == typeBlob && (w.malformed == "" || w.at() < w.malformed) {
			w.malformed = w.at()
		}
		o, _ := s.(*object)
		for name, e := range v {
			w.path = append(w.path, step(name))
			w.visit(e, o.property(name), depth+1)
			w.path = w.path[:len(w.path)-1]
		}
	}
}

// maxPath bounds the path of a reference, in bytes: a name can be as long as the
// record, and have thousands of references below it.
const maxPath = 1000

// at returns the path of the walk's current place.
func (w *blobWalk) at() string {
	var b strings.Builder
	for _, s := range w.path {
		if b.Len()+len(s) > maxPath {
			b.WriteString("…")
			break
		}
		b.WriteString(s)
	}
	return b.String()
}

// property returns the schema of a property, or nil.
func (s *object) property(name string) schema {
	if s != nil {
		for i := range s.properties {
			if s.properties[i].name == name {
				return s.properties[i].schema
			}
		}
	}
	return nil
}

// resolve returns the schema that s means for v.
func resolve(s schema, v any) schema {
	switch r := s.(type) {
	case *ref:
		return r.schema
	case *union:
		name, _ := typeOf(v)
		if variant := r.variants[name]; variant != nil {
			return variant.schema
		}
		return nil
	default:
		return s
	}
}
