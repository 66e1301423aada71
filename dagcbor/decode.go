package dagcbor

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
)

// Decode returns the value that all of b encodes. ErrForm: b is not the canonical
// encoding of one value.
func Decode(b []byte) (any, error) {
	r := Reader{buf: b}
	v := r.value(0)
	r.End()
	if r.err != nil {
		return nil, r.err
	}
	return v, nil
}

// Reader reads canonical DAG-CBOR item by item. The first fault makes every later
// call return zero values; Err returns it.
type Reader struct {
	buf []byte
	pos int
	err error
	// loose: the Reader accepts what DecodeLoose accepts.
	loose bool
	// number is the floating-point number whose head was read last.
	number float64
}

// NewReader returns a Reader of b.
func NewReader(b []byte) *Reader { return &Reader{buf: b} }

// Err returns the first fault, which wraps ErrForm.
func (r *Reader) Err() error { return r.err }

// End makes it a fault if something is left to read.
func (r *Reader) End() {
	if r.err == nil && r.pos != len(r.buf) {
		r.fail("%d bytes after the end", len(r.buf)-r.pos)
	}
}

func (r *Reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: byte %d: %s", ErrForm, r.pos, fmt.Sprintf(format, args...))
	}
}

// head reads the head of an item: its major type and its argument, which must
// be in its shortest form.
func (r *Reader) head() (major byte, n uint64) {
	if r.err != nil {
		return 0, 0
	}
	if r.pos == len(r.buf) {
		r.fail("unexpected end")
		return 0, 0
	}
	first := r.buf[r.pos]
	major, info := first>>5, first&31
	if info < 24 {
		r.pos++
		return major, uint64(info)
	}
	size := 1 << (info - 24)
	if info > 27 || len(r.buf)-r.pos <= size {
		r.fail("item 0x%02x is of no definite length, or cut off", first)
		return 0, 0
	}
	rest := r.buf[r.pos+1:]
	var least uint64
	switch size {
	case 1:
		n, least = uint64(rest[0]), 24
	case 2:
		n, least = uint64(binary.BigEndian.Uint16(rest)), 1<<8
	case 4:
		n, least = uint64(binary.BigEndian.Uint32(rest)), 1<<16
	default:
		n, least = binary.BigEndian.Uint64(rest), 1<<32
	}
	if major == majorSimple && r.loose && size > 1 {
		r.number = float(rest, size)
		r.pos += 1 + size
		return majorFloat, 0
	}
	if major == majorSimple {
		r.fail("floating-point numbers and simple values other than true, false and null do not exist")
		return 0, 0
	}
	if n < least && !r.loose {
		r.fail("%d is not in its shortest form", n)
		return 0, 0
	}
	r.pos += 1 + size
	return major, n
}

// expect reads the head of an item of one major type.
func (r *Reader) expect(want byte, what string) uint64 {
	at := r.pos
	major, n := r.head()
	if r.err == nil && major != want {
		r.pos = at
		r.fail("expected %s", what)
		return 0
	}
	return n
}

// take reads n bytes, without copying them.
func (r *Reader) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.buf)-r.pos) { //nolint:gosec // a length
		r.fail("cut off")
		return nil
	}
	b := r.buf[r.pos : r.pos+int(n)] //nolint:gosec // at most len(buf)
	r.pos += int(n)                  //nolint:gosec // the same
	return b
}

// count checks a length against what is left: each item takes at least size
// bytes, so that no length makes us allocate more than the input's own size.
func (r *Reader) count(n uint64, size int) int {
	if r.err == nil && n > uint64((len(r.buf)-r.pos)/size) { //nolint:gosec // a length
		r.fail("%d items do not fit into what follows", n)
	}
	if r.err != nil {
		return 0
	}
	return int(n) //nolint:gosec // at most len(buf)
}

// Map reads the head of a map and returns how many keys follow.
func (r *Reader) Map() int { return r.count(r.expect(majorMap, "a map"), 2) }

// Array reads the head of a list and returns how many items follow.
func (r *Reader) Array() int { return r.count(r.expect(majorArray, "a list"), 1) }

// Text reads a string.
func (r *Reader) Text() string { return r.text(r.expect(majorText, "a string")) }

func (r *Reader) text(n uint64) string {
	b := r.take(n)
	if !utf8.Valid(b) {
		if r.loose {
			return strings.ToValidUTF8(string(b), string(utf8.RuneError))
		}
		r.fail("a string is not valid UTF-8")
		return ""
	}
	return string(b)
}

// Bytes reads a byte string. It is a part of the input, not a copy.
func (r *Reader) Bytes() []byte { return r.take(r.expect(majorBytes, "bytes")) }

// Int reads an integer.
func (r *Reader) Int() int64 {
	at := r.pos
	major, n := r.head()
	if r.err == nil && major != majorUint && major != majorNegint {
		r.pos = at
		r.fail("expected an integer")
	}
	return r.integer(major, n)
}

func (r *Reader) integer(major byte, n uint64) int64 {
	if r.err != nil {
		return 0
	}
	if major == majorNegint {
		if n >= MaxInt {
			r.fail("an integer is beyond 2^53")
			return 0
		}
		return -1 - int64(n)
	}
	if n > MaxInt {
		r.fail("an integer is beyond 2^53")
		return 0
	}
	return int64(n)
}

// Link reads a CID.
func (r *Reader) Link() cid.Cid { return r.link(r.expect(majorTag, "a link")) }

func (r *Reader) link(tag uint64) cid.Cid {
	raw := r.linkBytes(tag)
	if r.err != nil {
		return cid.Undef
	}
	c, err := cid.Cast(raw)
	if err != nil {
		r.fail("a link is no CID: %v", err)
		return cid.Undef
	}
	return c
}

// LinkBytes reads a CID that has been checked before, as bytes. They are a part
// of the input, not a copy.
func (r *Reader) LinkBytes() []byte { return r.linkBytes(r.expect(majorTag, "a link")) }

func (r *Reader) linkBytes(tag uint64) []byte {
	if r.err == nil && tag != tagCID {
		r.fail("tag %d does not exist", tag)
	}
	raw := r.Bytes()
	if r.err == nil && (len(raw) == 0 || raw[0] != 0) {
		r.fail("a link does not begin with 0x00")
	}
	if r.err != nil {
		return nil
	}
	return raw[1:]
}

// Null reads null if that comes next, and reports whether it did.
func (r *Reader) Null() bool {
	if r.err != nil || r.pos == len(r.buf) || r.buf[r.pos] != majorSimple<<5|simpleNull {
		return false
	}
	r.pos++
	return true
}

// Key reads one of a map's keys, which must be in canonical order: last is the
// previous key; first means that there is none.
func (r *Reader) Key(last string, first bool) string {
	key := r.Text()
	if r.err == nil && !first && compareKeys(last, key) >= 0 && !r.loose {
		r.fail("key %q is out of order or there twice", clip(key))
	}
	return key
}

// Field reads a map's key, which must be want.
func (r *Reader) Field(want string) {
	if got := r.Text(); r.err == nil && got != want {
		r.fail("expected field %q", want)
	}
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

func (r *Reader) value(depth int) any {
	major, n := r.head()
	if r.err != nil {
		return nil
	}
	switch major {
	case majorUint, majorNegint:
		if r.loose && isLarge(major, n) {
			f, _ := new(big.Float).SetInt(bigInt(major, n)).Float64()
			return f
		}
		return r.integer(major, n)
	case majorFloat:
		return r.number
	case majorBytes:
		return append([]byte{}, r.take(n)...)
	case majorText:
		return r.text(n)
	case majorArray:
		return r.array(n, depth)
	case majorMap:
		return r.mapping(n, depth)
	case majorTag:
		return r.link(n)
	default:
		return r.simple(n)
	}
}

func (r *Reader) simple(n uint64) any {
	switch n {
	case simpleFalse:
		return false
	case simpleTrue:
		return true
	case simpleNull:
		return nil
	case undefined:
		if r.loose {
			return nil
		}
		fallthrough
	default:
		r.pos--
		r.fail("simple value %d does not exist", n)
		return nil
	}
}

func (r *Reader) array(n uint64, depth int) any {
	if depth == MaxDepth {
		r.fail("nested more than %d deep", MaxDepth)
		return nil
	}
	// A list of lists may promise more items than follow, at each level. So it
	// grows with the items that it has.
	size := r.count(n, 1)
	list := make([]any, 0, min(size, 16))
	for range size {
		v := r.value(depth + 1)
		if r.err != nil {
			return nil
		}
		list = append(list, v)
	}
	return list
}

func (r *Reader) mapping(n uint64, depth int) any {
	if depth == MaxDepth {
		r.fail("nested more than %d deep", MaxDepth)
		return nil
	}
	size := r.count(n, 2)
	m := make(map[string]any, min(size, 64))
	last := ""
	for i := range size {
		key := r.Key(last, i == 0)
		v := r.value(depth + 1)
		if _, twice := m[key]; twice && r.loose {
			r.fail("key %q is there twice", clip(key))
		}
		if r.err != nil {
			return nil
		}
		m[key], last = v, key
	}
	return m
}
