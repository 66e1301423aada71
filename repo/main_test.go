package repo_test

import (
	"log/slog"
	"os"
	"testing"
)

// TestMain keeps indigo, which logs by the default logger, quiet.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}
