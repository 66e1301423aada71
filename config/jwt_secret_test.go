package config_test

import (
	"os"
	"path/filepath"
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

// TestShortInheritedSecret: the secret of a server that is or was taken over is accepted as it
// is, with a warning.
func TestShortInheritedSecret(t *testing.T) {
	data := filepath.Join(t.TempDir(), "pds")
	settings := required("PDS_JWT_SECRET=hunter2", "PDS_DATA_DIRECTORY="+data)
	warned := func(warnings []string) bool {
		return slices.ContainsFunc(warnings, func(w string) bool {
			return strings.Contains(w, "another key signs") && !strings.Contains(w, "hunter2")
		})
	}
	for _, command := range []bool{true, false} {
		if _, _, warnings, err := config.LoadReference(config.Flags{Command: command}, settings, "", ""); err != nil || !warned(warnings) {
			t.Errorf("take-over: %v, %q", err, warnings)
		}
	}
	if _, _, err := config.Load(config.Flags{}, settings); err == nil {
		t.Error("it is accepted without a take-over")
	}
	// Whether the server was taken over is known once it is restored.
	first, fresh := slices.Concat(settings, []string{"PDS_RESTORE_FROM=/backups"}), filepath.Join(data, "nestbox.sqlite")
	if _, _, err := config.Load(config.Flags{}, first); err != nil {
		t.Errorf("before a restore: %v", err)
	}
	touch(t, fresh)
	if _, _, err := config.Load(config.Flags{}, first); err == nil {
		t.Error("it is accepted after the restore of another server")
	}
	if err := os.Remove(fresh); err != nil {
		t.Fatal(err)
	}
	touch(t, filepath.Join(data, "nestbox", "takeover.json"))
	if _, warnings, err := config.Load(config.Flags{}, settings); err != nil || !warned(warnings) {
		t.Errorf("taken over: %v, %q", err, warnings)
	}
}
