package lexicon

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"
)

// InvalidError: the record does not follow its schema. Its text is that of the
// reference PDS, which clients know.
type InvalidError struct {
	path  []string // steps of a JSON path, from the inside out
	fault string
}

// Error returns the fault and its place: "… at $.record.embed.images[0].alt".
func (e *InvalidError) Error() string { return e.At("$.record") }

// At is Error for a record at another place than $.record.
func (e *InvalidError) At(place string) string {
	var b strings.Builder
	b.WriteString(e.fault)
	b.WriteString(" at ")
	b.WriteString(place)
	for _, step := range slices.Backward(e.path) {
		b.WriteString(step)
	}
	return b.String()
}

// in returns e as seen from outside the property in which it was found.
func (e *InvalidError) in(name string) *InvalidError { return e.below(step(name)) }

// at returns e as seen from outside the element in which it was found.
func (e *InvalidError) at(i int) *InvalidError { return e.below(index(i)) }

func (e *InvalidError) below(step string) *InvalidError {
	e.path = append(e.path, step)
	return e
}

// step returns a property as part of a JSON path, index an element.
func step(name string) string {
	plain := name != ""
	for i := range len(name) {
		c := name[i] | 0x20 // a letter becomes a small one, and no other byte a letter
		letter := c >= 'a' && c <= 'z' || name[i] == '_'
		plain = plain && (letter || name[i] == '$' && i == 0 || name[i] >= '0' && name[i] <= '9' && i > 0)
	}
	if plain {
		return "." + name
	}
	return "[" + quote(name) + "]"
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

func wrongType(want string, v any) *InvalidError {
	return &InvalidError{fault: "Expected " + want + " value type (got " + show(v) + ")"}
}

func wrongValue[T any](v any, wanted ...T) *InvalidError {
	names := make([]string, len(wanted))
	for i, w := range wanted {
		names[i] = show(w)
	}
	want := strings.Join(names, "")
	if last := len(names) - 1; last > 0 {
		want = "one of " + strings.Join(names[:last], ", ") + " or " + names[last]
	}
	return &InvalidError{fault: "Expected " + want + " (got " + show(v) + ")"}
}

func wrongFormat(format, v string) *InvalidError {
	return &InvalidError{fault: "Invalid " + format + " (got " + show(v) + ")"}
}

func missing(name string) *InvalidError {
	return &InvalidError{fault: `Missing required key "` + name + `"`}
}

// outside returns the fault of a size, or a number, that a limit does not allow.
func outside[T int | int64](kind string, l limits[T], n T) *InvalidError {
	switch {
	case l.below(n):
		return &InvalidError{fault: fmt.Sprintf("%s too small (minimum %d, got %d)", kind, *l.low, n)}
	case l.above(n):
		return &InvalidError{fault: fmt.Sprintf("%s too big (maximum %d, got %d)", kind, *l.high, n)}
	default:
		return nil
	}
}

// How much of a value a message shows.
const (
	shownText     = 255  // UTF-16 units of a text
	shownElements = 2    // of a list, or an object
	shownBytes    = 1024 // of lists in lists, about
)

// show returns the text of a value for a message.
func show(v any) string {
	var b strings.Builder
	write(&b, v)
	return b.String()
}

func write(b *strings.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case string:
		b.WriteString(quote(v))
	case bool, int64:
		fmt.Fprint(b, v)
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if separate(b, i) {
				break
			}
			write(b, e)
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		// In the order of the encoding: no other is kept.
		for i, name := range slices.SortedFunc(maps.Keys(v), func(a, b string) int {
			return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
		}) {
			if separate(b, i) {
				break
			}
			b.WriteString(quote(name) + ": ...")
		}
		b.WriteByte('}')
	case cid.Cid:
		b.WriteString("cid")
	default:
		b.WriteString("object") // bytes
	}
}

// separate writes what comes before the element i, and reports whether that is the
// end.
func separate(b *strings.Builder, i int) bool {
	if i > 0 {
		b.WriteString(", ")
	}
	if i < shownElements && b.Len() < shownBytes {
		return false
	}
	b.WriteString("...")
	return true
}

// quote returns a text in JSON. It cuts a long one as JavaScript does: half of a pair
// may stay.
func quote(s string) string {
	units := 0
	for i, r := range s {
		width := utf16.RuneLen(r)
		if units+width <= shownText {
			units += width
			continue
		}
		cut := quoted(s[:i])
		if high, _ := utf16.EncodeRune(r); units < shownText && high != utf8.RuneError {
			cut = append(cut[:len(cut)-1], fmt.Sprintf(`\u%04x"`, high)...)
		}
		return string(cut[:len(cut)-1]) + `…"`
	}
	return string(quoted(s))
}

func quoted(s string) []byte {
	b, _ := jsontext.AppendQuote(nil, s) // what is not UTF-8 is replaced; the data model has none
	return b
}
