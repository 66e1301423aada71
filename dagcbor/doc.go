// Package dagcbor is the data model of the AT Protocol
// (https://atproto.com/specs/data-model) in its two forms: DAG-CBOR, the bytes
// that are hashed and signed, and JSON. It is pure, and made for foreign bytes.
//
// A value is one of nil, bool, int64, string, []byte, cid.Cid, []any and
// map[string]any.
//
// Invariants:
//   - Decode accepts the one canonical encoding of a value and nothing else: Encode
//     returns the same bytes again.
//   - No input makes it panic, use more stack than MaxDepth needs, or allocate
//     more than a small multiple of its length.
package dagcbor

import "errors"

const (
	// MaxDepth is how deep lists and maps may be nested.
	MaxDepth = 64
	// MaxInt is the largest integer, and -MaxInt the smallest: the range that
	// JavaScript reads exactly.
	MaxInt = 1<<53 - 1
)

// ErrForm: the input is not a value of the data model in canonical form; the text
// gives the place and the reason.
var ErrForm = errors.New("malformed data")
