package dagcbor

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
)

// The major types of CBOR (RFC 8949 section 3.1) and the only tag of DAG-CBOR.
const (
	majorUint   = 0
	majorNegint = 1
	majorBytes  = 2
	majorText   = 3
	majorArray  = 4
	majorMap    = 5
	majorTag    = 6
	majorSimple = 7
	majorFloat  = 8 // stands for floating-point numbers among simple values; never in the input

	tagCID = 42

	simpleFalse = 20
	simpleTrue  = 21
	simpleNull  = 22
)

// Encode returns the canonical DAG-CBOR of a value. ErrForm: v, or something in it,
// is not of the data model.
func Encode(v any) ([]byte, error) { return Append(nil, v) }

// Append appends the canonical DAG-CBOR of a value to dst.
func Append(dst []byte, v any) ([]byte, error) { return appendValue(dst, v, 0) }

func appendValue(dst []byte, v any, depth int) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return AppendNull(dst), nil
	case bool:
		return AppendBool(dst, v), nil
	case int:
		return appendInt(dst, int64(v))
	case int64:
		return appendInt(dst, v)
	case string:
		if !utf8.ValidString(v) {
			return nil, fmt.Errorf("%w: a string is not valid UTF-8", ErrForm)
		}
		return AppendText(dst, v), nil
	case []byte:
		return AppendBytes(dst, v), nil
	case cid.Cid:
		if !v.Defined() {
			return nil, fmt.Errorf("%w: an undefined CID", ErrForm)
		}
		return AppendLink(dst, v), nil
	case []any:
		return appendArray(dst, v, depth)
	case map[string]any:
		return appendMap(dst, v, depth)
	default:
		return nil, fmt.Errorf("%w: a %T", ErrForm, v)
	}
}

func appendInt(dst []byte, n int64) ([]byte, error) {
	if n > MaxInt || n < -MaxInt {
		return nil, fmt.Errorf("%w: the integer %d is beyond 2^53", ErrForm, n)
	}
	return AppendInt(dst, n), nil
}

func appendArray(dst []byte, list []any, depth int) (_ []byte, err error) {
	if depth == MaxDepth {
		return nil, errDeep()
	}
	dst = AppendArrayHead(dst, len(list))
	for _, v := range list {
		if dst, err = appendValue(dst, v, depth+1); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func appendMap(dst []byte, m map[string]any, depth int) (_ []byte, err error) {
	if depth == MaxDepth {
		return nil, errDeep()
	}
	dst = AppendMapHead(dst, len(m))
	for _, key := range slices.SortedFunc(maps.Keys(m), compareKeys) {
		if !utf8.ValidString(key) {
			return nil, fmt.Errorf("%w: a key is not valid UTF-8", ErrForm)
		}
		dst = AppendText(dst, key)
		if dst, err = appendValue(dst, m[key], depth+1); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func errDeep() error {
	return fmt.Errorf("%w: nested more than %d deep", ErrForm, MaxDepth)
}

// compareKeys compares keys in a map's order: the shorter first, then by bytes.
func compareKeys(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// The functions below append one item, or the head of one: for encoders of
// structures that know their keys' order.

// AppendInt appends an integer.
func AppendInt(dst []byte, n int64) []byte {
	if n < 0 {
		return appendHead(dst, majorNegint, uint64(-(n + 1))) //nolint:gosec // not negative
	}
	return appendHead(dst, majorUint, uint64(n))
}

// AppendText appends a string, which must be valid UTF-8.
func AppendText(dst []byte, s string) []byte {
	return append(appendHead(dst, majorText, uint64(len(s))), s...)
}

// AppendBytes appends a byte string.
func AppendBytes(dst, b []byte) []byte {
	return append(appendHead(dst, majorBytes, uint64(len(b))), b...)
}

// AppendLink appends a CID link (https://ipld.io/specs/codecs/dag-cbor/spec/#links).
func AppendLink(dst []byte, c cid.Cid) []byte {
	dst = appendHead(dst, majorTag, tagCID)
	dst = appendHead(dst, majorBytes, uint64(c.ByteLen()+1)) //nolint:gosec // a length
	return append(append(dst, 0), c.KeyString()...)
}

// AppendNull appends null.
func AppendNull(dst []byte) []byte { return append(dst, majorSimple<<5|simpleNull) }

// AppendBool appends a boolean.
func AppendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, majorSimple<<5|simpleTrue)
	}
	return append(dst, majorSimple<<5|simpleFalse)
}

// AppendArrayHead begins a list of n items.
func AppendArrayHead(dst []byte, n int) []byte { return appendHead(dst, majorArray, uint64(n)) } //nolint:gosec // a length

// AppendMapHead begins a map of n keys, which must follow in canonical order:
// the shorter first, then by bytes.
func AppendMapHead(dst []byte, n int) []byte { return appendHead(dst, majorMap, uint64(n)) } //nolint:gosec // a length

func appendHead(dst []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, major|27), n)
	}
}
