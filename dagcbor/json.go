package dagcbor

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// The keys of the objects that stand for links and bytes in JSON.
const (
	keyLink  = "$link"
	keyBytes = "$bytes"
	keyType  = "$type"
	// keyProto is a name that changes what an object is in JavaScript: a program that
	// copies such a record would get another one.
	keyProto = "__proto__"
)

// FromJSON returns the value that a JSON text stands for: {"$link": …} is a
// CID, {"$bytes": …} a byte string. Duplicate names, invalid UTF-8, trailing
// data, fractions, integers beyond 2^53, the name __proto__ and malformed links,
// bytes and $type make an ErrForm with the path of the fault.
func FromJSON(raw []byte) (any, error) {
	d := jsonDecoder{jsontext.NewDecoder(bytes.NewReader(raw))}
	v, err := d.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: data after the JSON value", ErrForm)
	}
	return v, nil
}

type jsonDecoder struct{ *jsontext.Decoder }

// fault returns ErrForm with the path of what was read last.
func (d jsonDecoder) fault(format string, args ...any) error {
	return fmt.Errorf("%w: %s at $%s", ErrForm, fmt.Sprintf(format, args...), strings.ReplaceAll(string(d.StackPointer()), "/", "."))
}

func (d jsonDecoder) syntax(err error) error {
	if serr, ok := errors.AsType[*jsontext.SyntacticError](err); ok && serr.Err != nil {
		err = serr.Err
	}
	return d.fault("%v", err)
}

func (d jsonDecoder) value(depth int) (any, error) {
	tok, err := d.ReadToken()
	if err != nil {
		return nil, d.syntax(err)
	}
	switch tok.Kind() {
	case 'n':
		return nil, nil //nolint:nilnil // null is a value
	case 't', 'f':
		return tok.Bool(), nil
	case '"':
		return tok.String(), nil
	case '0':
		return d.number(tok.String())
	case '[':
		return d.array(depth)
	case '{':
		return d.object(depth)
	default:
		return nil, d.fault("unexpected %s", tok)
	}
}

// number accepts every way to write an integer: JavaScript, and so most clients, do
// not distinguish 1 and 1.0.
func (d jsonDecoder) number(text string) (any, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(text, 64)
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) > MaxInt {
			return nil, d.fault("%s is not an integer of at most 53 bits", clip(text))
		}
		n = int64(f)
	}
	if n > MaxInt || n < -MaxInt {
		return nil, d.fault("%s is not an integer of at most 53 bits", clip(text))
	}
	return n, nil
}

func (d jsonDecoder) array(depth int) (any, error) {
	if depth == MaxDepth {
		return nil, errDeep()
	}
	list := []any{}
	for d.PeekKind() != ']' {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, d.syntax(err)
	}
	return list, nil
}

func (d jsonDecoder) object(depth int) (any, error) {
	if depth == MaxDepth {
		return nil, errDeep()
	}
	m := map[string]any{}
	for d.PeekKind() != '}' {
		key, err := d.ReadToken()
		if err != nil {
			return nil, d.syntax(err)
		}
		name := key.String()
		if name == keyProto {
			return nil, d.fault("the name %s is not allowed", keyProto)
		}
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		m[name] = v
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, d.syntax(err)
	}
	return d.special(m)
}

// special returns what an object stands for: a link, bytes, or itself.
func (d jsonDecoder) special(m map[string]any) (any, error) {
	if v, ok := m[keyLink]; ok {
		text, isString := v.(string)
		c, err := ParseCID(text)
		if !isString || err != nil || len(m) != 1 || c.Version() == 0 || c.String() != text {
			return nil, d.fault("malformed %s", keyLink)
		}
		return c, nil
	}
	if v, ok := m[keyBytes]; ok {
		text, isString := v.(string)
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
		if !isString || err != nil || len(m) != 1 {
			return nil, d.fault("malformed %s", keyBytes)
		}
		return b, nil
	}
	if v, ok := m[keyType]; ok {
		if name, isString := v.(string); !isString || name == "" {
			return nil, d.fault("malformed %s", keyType)
		}
	}
	return m, nil
}

// ToJSON returns the JSON of a value.
func ToJSON(v any) ([]byte, error) {
	raw, err := Encode(v)
	if err != nil {
		return nil, err
	}
	return AppendJSON(nil, raw)
}

// AppendJSON appends the JSON that stands for the value encoded in raw, without
// building the value. Keys stay in their canonical order.
func AppendJSON(dst, raw []byte) ([]byte, error) {
	r := Reader{buf: raw}
	dst = r.appendJSON(dst, 0)
	r.End()
	return dst, r.err
}

func (r *Reader) appendJSON(dst []byte, depth int) []byte {
	major, n := r.head()
	if r.err != nil {
		return dst
	}
	switch major {
	case majorUint, majorNegint:
		if r.loose && isLarge(major, n) {
			return bigInt(major, n).Append(dst, 10)
		}
		return strconv.AppendInt(dst, r.integer(major, n), 10)
	case majorBytes:
		dst = append(dst, `{"`+keyBytes+`":"`...)
		dst = base64.RawStdEncoding.AppendEncode(dst, r.take(n))
		return append(dst, `"}`...)
	case majorText:
		return r.appendQuoted(dst, r.text(n))
	case majorTag:
		dst = append(dst, `{"`+keyLink+`":"`...)
		if c := r.link(n); r.err == nil {
			dst = append(dst, c.String()...)
		}
		return append(dst, `"}`...)
	case majorArray, majorMap:
		return r.appendContainer(dst, major, n, depth)
	case majorFloat:
		return appendFloat(dst, r.number)
	default:
		if v := r.simple(n); v != nil {
			return strconv.AppendBool(dst, v == true)
		}
		return append(dst, "null"...)
	}
}

func (r *Reader) appendContainer(dst []byte, major byte, n uint64, depth int) []byte {
	if depth == MaxDepth {
		r.fail("nested more than %d deep", MaxDepth)
		return dst
	}
	if major == majorArray {
		dst = append(dst, '[')
		for i := range r.count(n, 1) {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst = r.appendJSON(dst, depth+1); r.err != nil {
				return dst
			}
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	last := ""
	var seen map[string]bool
	if r.loose {
		seen = map[string]bool{}
	}
	for i := range r.count(n, 2) {
		if i > 0 {
			dst = append(dst, ',')
		}
		last = r.Key(last, i == 0)
		if r.loose {
			if seen[last] {
				r.fail("key %q is there twice", clip(last))
			}
			seen[last] = true
		}
		dst = append(r.appendQuoted(dst, last), ':')
		if dst = r.appendJSON(dst, depth+1); r.err != nil {
			return dst
		}
	}
	return append(dst, '}')
}

func (r *Reader) appendQuoted(dst []byte, s string) []byte {
	out, err := jsontext.AppendQuote(dst, s)
	if err != nil {
		r.fail("%v", err) // every valid string has a form in JSON
		return dst
	}
	return out
}
