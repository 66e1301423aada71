package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// tempName is the folder for repositories while they are sent or received. Its
// files have no names: what is in it is a leftover.
const tempName = "tmp"

// openTransfers prepares exports and imports. What an import that was cut off
// has staged is dropped: none is under way yet.
func (s *Server) openTransfers(ctx context.Context) error {
	t := &s.repos.Transfers
	t.TempDir, t.MaxImport, t.NoImports = filepath.Join(s.DataDir, tempName), s.opts.Config.MaxImportSize, !s.opts.Config.AcceptingImports
	if err := os.RemoveAll(t.TempDir); err != nil {
		return fmt.Errorf("empty folder for temporary files: %w", err)
	}
	if err := os.Mkdir(t.TempDir, 0o700); err != nil {
		return fmt.Errorf("make folder for temporary files: %w", err)
	}
	return s.repos.Store.Drop(ctx, 0)
}
