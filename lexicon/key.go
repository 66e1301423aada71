package lexicon

import (
	"errors"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// KeyType is the type of the keys of a collection's records
// (https://atproto.com/specs/record-key): tid, nsid, any, or "literal:" and the only
// key.
type KeyType string

// The key types except literals.
const (
	KeyTID  KeyType = "tid"
	KeyNSID KeyType = "nsid"
	KeyAny  KeyType = "any"
)

const literal = "literal:"

// ErrKey: records of the collection must not have this key. The text names the rule.
var ErrKey = errors.New("record key")

type keyError string

func (e keyError) Error() string { return string(e) }
func (keyError) Unwrap() error   { return ErrKey }

func wrongKey(fault *InvalidError) error { return keyError(fault.At("$")) }

// Key returns the type of the keys of a collection's records: KeyAny if the catalogue
// does not know the collection.
func (c *Catalogue) Key(collection string) KeyType {
	if r, ok := c.records[collection]; ok {
		return r.key
	}
	return KeyAny
}

// Literal returns the only allowed key, if there is only one.
func (k KeyType) Literal() (string, bool) { return strings.CutPrefix(string(k), literal) }

// Check returns ErrKey if a record's key is not of this type. Keys of every type are
// record keys.
func (k KeyType) Check(key string) error {
	if _, err := syntax.ParseRecordKey(key); err != nil {
		return wrongKey(wrongFormat("record key", key))
	}
	switch k {
	case KeyTID:
		if _, err := syntax.ParseTID(key); err != nil {
			return wrongKey(wrongFormat("TID string", key))
		}
	case KeyNSID:
		if _, err := syntax.ParseNSID(key); err != nil {
			return wrongKey(wrongFormat("NSID", key))
		}
	case KeyAny:
	default:
		if only, ok := k.Literal(); ok && key != only {
			return wrongKey(wrongValue(key, only))
		}
	}
	return nil
}

// valid reports whether k is a type of the language.
func (k KeyType) valid() bool {
	only, ok := k.Literal()
	if !ok {
		return k == KeyTID || k == KeyNSID || k == KeyAny
	}
	_, err := syntax.ParseRecordKey(only)
	return err == nil
}
