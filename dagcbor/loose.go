package dagcbor

import (
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
)

// DecodeLoose is Decode for what other servers have kept as records: it also accepts
// floating-point numbers, integers beyond 2^53, undefined, text that is not UTF-8
// (U+FFFD replaces each fault), lengths that are not in their shortest form and maps
// in any order. A number that is not an integer of the data model is a float64 in the
// value, and undefined is nil. ErrForm: b is anything else: cut off, of indefinite
// length, nested deeper than MaxDepth, a map with a key twice.
func DecodeLoose(b []byte) (any, error) {
	r := Reader{buf: b, loose: true}
	v := r.value(0)
	r.End()
	if r.err != nil {
		return nil, r.err
	}
	return v, nil
}

// AppendLooseJSON appends the JSON of what DecodeLoose accepts. A number that JSON
// cannot express is null, as in JavaScript; integers keep all of their digits.
func AppendLooseJSON(dst, raw []byte) ([]byte, error) {
	r := Reader{buf: raw, loose: true}
	dst = r.appendJSON(dst, 0)
	r.End()
	return dst, r.err
}

// undefined is the simple value that JavaScript has and the data model lacks.
const undefined = 23

// float reads the rest of a floating-point number whose head is of that size.
func float(rest []byte, size int) float64 {
	switch size {
	case 2:
		return half(binary.BigEndian.Uint16(rest))
	case 4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(rest)))
	default:
		return math.Float64frombits(binary.BigEndian.Uint64(rest))
	}
}

// half reads a floating-point number of 16 bits (RFC 8949, appendix D).
func half(bits uint16) float64 {
	exponent, mantissa := int(bits>>10&0x1f), float64(bits&0x3ff)
	var f float64
	switch exponent {
	case 0:
		f = math.Ldexp(mantissa, -24)
	case 31:
		f = math.Inf(1)
		if mantissa != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(mantissa+1024, exponent-25)
	}
	if bits&0x8000 != 0 {
		return -f
	}
	return f
}

// bigInt returns the integer of a head that is beyond the data model.
func bigInt(major byte, n uint64) *big.Int {
	i := new(big.Int).SetUint64(n)
	if major == majorNegint {
		i.Not(i) // -1 - n
	}
	return i
}

// isLarge reports whether the integer of a head is beyond the data model.
func isLarge(major byte, n uint64) bool { return n > MaxInt || major == majorNegint && n == MaxInt }

// appendFloat appends a number approximately as JavaScript writes it.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}
