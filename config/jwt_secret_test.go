package config_test

import (
	"slices"
	"strings"
	"testing"

	"nestbox/config"
)

// TestShortJWTSecret: outside of development a secret needs at least 32 bytes, as
// the reference's installer writes.
func TestShortJWTSecret(t *testing.T) {
	for length, taken := range map[int]bool{1: false, 31: false, 32: true, 64: true} {
		setting := "PDS_JWT_SECRET=" + strings.Repeat("f", length)
		_, _, err := config.Load(config.Flags{}, required(setting))
		if taken && err != nil || !taken && (err == nil || !slices.Equal(faultsOf(t, err), []string{"PDS_JWT_SECRET"})) {
			t.Errorf("%d bytes: %v, want taken: %v", length, err, taken)
		}
		if err != nil && strings.Contains(err.Error(), "ffff") {
			t.Errorf("%d bytes: the error shows the secret: %v", length, err)
		}
		if _, _, err := config.Load(config.Flags{Dev: true}, []string{setting}); err != nil {
			t.Errorf("%d bytes with --dev: %v", length, err)
		}
	}
}
