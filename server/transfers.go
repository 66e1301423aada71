package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"nestbox/internal/system"
	"nestbox/repo"
)

// openTransfers prepares exports and imports. It drops what interrupted imports
// have staged: none is under way yet. Their files have no names while they are used; it
// removes one whose name a crash left, and nothing else from the folder.
func (s *Server) openTransfers(ctx context.Context) error {
	t := &s.repos.Transfers
	t.TempDir, t.MaxImport, t.NoImports = s.dir.Transfers(), s.opts.Config.MaxImportSize, !s.opts.Config.AcceptingImports
	t.Free = func() (int64, error) { return system.FreeSpace(t.TempDir) }
	if err := os.MkdirAll(t.TempDir, 0o700); err != nil {
		return fmt.Errorf("make folder for temporary files: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(t.TempDir, repo.TempPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for temporary files: %w", err)
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("remove temporary file: %w", err)
		}
	}
	return s.repos.Store.Drop(ctx, 0)
}
