package main

import "testing"

// TestDevNeedsNoSettings: commands of nestbox dev need no setting, as serve --dev does not.
func TestDevNeedsNoSettings(t *testing.T) {
	t.Parallel()
	if c, err := (where{Data: t.TempDir()}).settings(nil); err != nil || !c.DevMode {
		t.Error(err)
	}
}
