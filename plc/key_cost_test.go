package plc_test

import (
	"strings"
	"testing"

	"nestbox/internal/costtest"
	"nestbox/plc"
)

// TestKeyCost: refusing a longer key costs no more, though decoding base58 takes time
// that grows with the square of the length.
func TestKeyCost(t *testing.T) {
	costtest.Linear(t, 100_000, func(n int) func() {
		key := "did:key:z" + strings.Repeat("2", n)
		return func() {
			if plc.CheckRotationKey(key) == nil {
				t.Error("a long key is taken")
			}
		}
	})
}
