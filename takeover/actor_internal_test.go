package takeover

import (
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"pgregory.net/rapid"
)

// TestIsTID compares it with the parser.
func TestIsTID(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching("[2-7a-j][2-7a-z]{12}|[0-9a-zA-Z-]{12,14}|.*").Draw(t, "text")
		_, err := syntax.ParseTID(text)
		if isTID(text) != (err == nil) {
			t.Fatalf("%q: %v, the parser says %v", text, isTID(text), err)
		}
	})
}
