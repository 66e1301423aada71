package identity

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// Same reports whether s is still in the state now: what was found by s holds only then.
func (s Subject) Same(now Subject) bool {
	return !s.Outdated(now) && s.Hidden == now.Hidden && s.CheckedAt.Equal(now.CheckedAt)
}

// Outdated reports whether what was found for s no longer describes the account, which is
// in the state now: its handle or key changed, or another document was seen.
func (s Subject) Outdated(now Subject) bool {
	return s.Handle != now.Handle || s.SigningKey != now.SigningKey || !bytes.Equal(s.Document, now.Document)
}

// News reports whether the network is to hear of what was found: another document, or that
// the handle verifies, or no longer does. Of a hidden account nothing is news.
func (s Subject) News(document []byte, handleInvalid bool) bool {
	return !s.Hidden && (s.HandleInvalid != handleInvalid || !sameJSON(s.Document, document))
}

// sameJSON reports whether two documents have the same meaning, however they are written.
func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
