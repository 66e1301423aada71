package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nestbox/blob"
	"nestbox/internal/durable"
)

var _ blob.Inspector = (*Files)(nil)

// Look returns the files of a folder for reading: unlike Open it makes,
// removes and tries nothing. The folder may be a symbolic link to one.
func Look(dir, tmp string) *Files {
	if tmp == "" {
		tmp = filepath.Join(dir, "tmp")
	}
	return &Files{dir: resolve(dir), tmp: resolve(tmp)}
}

// resolve follows symbolic links if dir exists: WalkDir does not follow one at its
// root.
func resolve(dir string) string {
	if found, err := filepath.EvalSymlinks(dir); err == nil {
		return found
	}
	return dir
}

// Each implements blob.Inspector. The path is relative to the folder.
func (f *Files) Each(ctx context.Context, yield func(path, key string) error) error {
	err := filepath.WalkDir(f.dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case path == f.dir && errors.Is(err, os.ErrNotExist):
			return filepath.SkipAll
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case e.IsDir() && path == f.tmp:
			return filepath.SkipDir
		case e.IsDir() || strings.HasPrefix(e.Name(), unfinished) || path == filepath.Join(f.dir, durable.LockName):
			return nil
		}
		below, err := filepath.Rel(f.dir, path)
		if err != nil {
			return err
		}
		key := e.Name()
		if own, _, err := f.place(key); err != nil || own != path {
			key = ""
		}
		return yield(below, key)
	})
	if err != nil {
		return fmt.Errorf("list files of blobs: %w", err)
	}
	return nil
}
