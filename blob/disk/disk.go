// Package disk keeps blobs as files, in folders by the first two characters of
// their keys.
//
// Invariants: a file under its key is whole and on disk; until then it is written
// in another folder of the same file system; no key leads out of the folder.
package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"nestbox/blob"
	"nestbox/internal/durable"
)

// unfinished begins the names of files that are being written. The folder may have
// other files, which are not ours to remove.
const unfinished = "nestbox-upload-"

// The lengths of a key.
const (
	minKey = 3
	maxKey = 64
)

var errKey = errors.New("not the key of a file")

// Files implements blob.Files.
type Files struct {
	dir, tmp string
	// shards has the folders whose own entry is known to be on disk.
	shards sync.Map
	// unsettled has the folders of files that Adopt has made.
	unsettled sync.Map
	// release unlocks the folder for other processes.
	release func() error
}

var _ blob.Files = (*Files)(nil)

// Open makes the folders if they are missing, and removes what a process that ended
// left half-written in tmp. An empty tmp means the folder of that name below dir.
// If another process uses them: durable.ErrLocked.
func Open(dir, tmp string) (*Files, error) {
	if tmp == "" {
		tmp = filepath.Join(dir, "tmp")
	}
	for _, d := range []string{dir, tmp} {
		if err := durable.MakeDir(d); err != nil {
			return nil, fmt.Errorf("folder of blobs: %w", err)
		}
	}
	f := &Files{dir: dir, tmp: tmp}
	var err error
	// A server on a copy of the data directory would otherwise remove this one's files.
	if f.release, err = durable.Lock(dir); err != nil {
		return nil, fmt.Errorf("folder of blobs: %w", err)
	}
	if err := errors.Join(f.tryRename(), f.sweep()); err != nil {
		return nil, errors.Join(err, f.release())
	}
	return f, nil
}

// Close lets another process use the folder.
func (f *Files) Close() error { return f.release() }

// tryRename finds out whether a file can be moved from tmp, before an upload has
// to.
func (f *Files) tryRename() error {
	file, err := os.CreateTemp(f.tmp, unfinished)
	if err != nil {
		return fmt.Errorf("write into the folder of uploads: %w", err)
	}
	moved := filepath.Join(f.dir, filepath.Base(file.Name()))
	if err := errors.Join(file.Close(), os.Rename(file.Name(), moved)); err != nil {
		err = fmt.Errorf("move from the folder of uploads, which must be on the file system of the blobs: %w", err)
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Remove(moved)
}

// sweep removes unfinished files: in dir that of a tryRename that broke off.
func (f *Files) sweep() error {
	for _, dir := range []string{f.tmp, f.dir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("look for unfinished uploads: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() && strings.HasPrefix(e.Name(), unfinished) {
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					return fmt.Errorf("remove unfinished upload: %w", err)
				}
			}
		}
	}
	return nil
}

// place returns the file of a key, and its folder.
func (f *Files) place(key string) (path, shard string, err error) {
	if len(key) < minKey || len(key) > maxKey {
		return "", "", errKey
	}
	for i := range len(key) {
		c := key[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return "", "", errKey
		}
	}
	shard = filepath.Join(f.dir, key[:2])
	return filepath.Join(shard, key), shard, nil
}

// Create implements blob.Files.
func (f *Files) Create(context.Context) (blob.Upload, error) {
	file, err := os.CreateTemp(f.tmp, unfinished)
	if err != nil {
		return nil, fmt.Errorf("create file: %w", err)
	}
	return &upload{files: f, file: file}, nil
}

// Open implements blob.Files.
func (f *Files) Open(_ context.Context, key string) (blob.File, error) {
	path, _, err := f.place(key)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path) //nolint:gosec // place keeps it within the folder
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, blob.ErrNotFound
	case err != nil:
		return nil, fmt.Errorf("open file: %w", err)
	default:
		return file, nil
	}
}

// Remove implements blob.Files. The removal is on disk when it returns: the caller
// then forgets the key.
func (f *Files) Remove(_ context.Context, key string) error {
	path, shard, err := f.place(key)
	if err != nil {
		return err
	}
	if err := durable.Remove(path); err != nil {
		return fmt.Errorf("remove file: %w", err)
	}
	// If it is gone, its removal is not necessarily on disk: a process may have ended
	// in between.
	if err := durable.SyncDir(shard); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// upload implements blob.Upload.
type upload struct {
	files *Files
	file  *os.File // nil once committed or aborted
}

func (u *upload) Write(p []byte) (int, error) { return u.file.Write(p) }

// Commit implements blob.Upload: content first, then its name, then the folder.
func (u *upload) Commit(_ context.Context, key string) error {
	path, shard, err := u.files.place(key)
	if err != nil {
		return err
	}
	if err := u.file.Sync(); err != nil {
		return fmt.Errorf("sync file: %w", err)
	}
	if err := u.files.makeShard(shard); err != nil {
		return err
	}
	if err := os.Rename(u.file.Name(), path); err != nil {
		return fmt.Errorf("name file: %w", err)
	}
	err = u.file.Close()
	u.file = nil
	return errors.Join(err, durable.SyncDir(shard))
}

// Abort implements blob.Upload.
func (u *upload) Abort() {
	if u.file == nil {
		return
	}
	// A file that cannot be removed now is swept at the next start.
	_ = u.file.Close()
	_ = os.Remove(u.file.Name())
	u.file = nil
}

// makeShard makes the folder of a key. If another upload made it, its entry is not
// necessarily on disk.
func (f *Files) makeShard(dir string) error {
	if _, ok := f.shards.Load(dir); ok {
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := durable.SyncDir(f.dir); err != nil {
		return err
	}
	f.shards.Store(dir, struct{}{})
	return nil
}
