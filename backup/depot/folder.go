// Package depot keeps the objects of backups: in a folder, or in a bucket of S3.
package depot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"nestbox/backup"
	"nestbox/internal/ctxio"
	"nestbox/internal/durable"
)

// Folder keeps objects as files in a folder, which may be on another disk.
type Folder struct {
	dir    string
	writes bool

	mu    sync.Mutex
	there bool            // the folder was found
	made  map[string]bool // folders in it
	dirty bool            // something was put since the last Flush
}

var _ backup.Depot = (*Folder)(nil)

// unfinished begins the names of files that are being written, and staleAfter is when one
// that is there was left by a process that ended.
const (
	unfinished = ".unfinished-"
	staleAfter = 24 * time.Hour
)

// OpenFolder returns the store in a folder, which is made if create is set and it is missing.
func OpenFolder(dir string, create bool) (*Folder, error) {
	f, err := laterFolder(dir, create)
	if err != nil {
		return nil, err
	}
	if err := f.find(); err != nil {
		return nil, err
	}
	return f, nil
}

// laterFolder is OpenFolder of a folder that may be away: until it can be opened, each call looks
// again, and returns why not.
func laterFolder(dir string, create bool) (*Folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("folder of backups: %w", err)
	}
	return &Folder{dir: dir, writes: create, made: map[string]bool{}}, nil
}

// find opens the folder, unless it was found before.
func (f *Folder) find() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.there {
		return nil
	}
	if f.writes {
		if err := durable.MakeDir(f.dir); err != nil {
			return fmt.Errorf("folder of backups: %w", err)
		}
	}
	if fi, err := os.Stat(f.dir); err != nil {
		return fmt.Errorf("folder of backups: %w", err)
	} else if !fi.IsDir() {
		return fmt.Errorf("folder of backups: %s is a file", f.dir)
	}
	f.there = true
	return nil
}

// String implements backup.Depot.
func (f *Folder) String() string { return f.dir }

// Writers implements backup.Depot.
func (f *Folder) Writers() int { return 2 }

func (f *Folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// Put implements backup.Depot.
func (f *Folder) Put(ctx context.Context, name string, size int64, body io.Reader) (err error) {
	if err := f.find(); err != nil {
		return err
	}
	path := f.path(name)
	if err := f.makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), unfinished)
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, durable.Remove(file.Name()))
		}
	}()
	n, err := io.Copy(file, ctxio.Reader(ctx, body))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes were to be written, and there were %d", size, n)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := f.give(file.Name()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("name file: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty = true
	return nil
}

// makeDir makes a folder of the store.
func (f *Folder) makeDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made[dir] {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	for made := dir; made != f.dir; made = filepath.Dir(made) {
		if err := f.give(made); err != nil {
			return err
		}
	}
	f.made[dir] = true
	return nil
}

// give makes what root has made below the folder its owner's, so that a server that is another
// user can use it. What lies elsewhere, behind a link, stays root's.
func (f *Folder) give(path string) (err error) {
	if os.Geteuid() != 0 {
		return nil
	}
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return fmt.Errorf("folder of backups: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	name, err := filepath.Rel(f.dir, path)
	if err != nil {
		return fmt.Errorf("folder of backups: %w", err)
	}
	owner, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("folder of backups: %w", err)
	}
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil //nolint:nilerr // it is elsewhere
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	made, err := file.Stat()
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	to, ok := owner.Sys().(*syscall.Stat_t)
	is, ok2 := made.Sys().(*syscall.Stat_t)
	if !ok || !ok2 || is.Uid != 0 || to.Uid == 0 || made.Mode().IsRegular() && is.Nlink > 1 {
		return nil
	}
	if err := file.Chown(int(to.Uid), int(to.Gid)); err != nil && !errors.Is(err, os.ErrPermission) { // a root that may not
		return fmt.Errorf("give %s to the owner of %s: %w", path, f.dir, err)
	}
	return nil
}

// Get implements backup.Depot. What is no file is backup.ErrDamaged: an open of a pipe waits.
func (f *Folder) Get(_ context.Context, name string) (io.ReadCloser, error) {
	if err := f.find(); err != nil {
		return nil, err
	}
	if fi, err := os.Stat(f.path(name)); err == nil && !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is not a file", backup.ErrDamaged)
	}
	file, err := os.Open(f.path(name))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, backup.ErrMissing
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("%w: %w", backup.ErrRefused, err)
	case err != nil:
		return nil, fmt.Errorf("open file: %w", err)
	default:
		return file, nil
	}
}

// List implements backup.Depot. In a folder that OpenFolder may make, it removes unfinished files that are old.
func (f *Folder) List(ctx context.Context, prefix string, yield func(backup.Object) error) error {
	if err := f.find(); err != nil {
		return err
	}
	return filepath.WalkDir(f.path(prefix), func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil // a folder that is not made yet, or a file that was removed meanwhile
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case e.IsDir():
			return nil
		}
		fi, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), unfinished) {
			if f.writes && time.Since(fi.ModTime()) > staleAfter {
				return os.Remove(path) //nolint:gosec // a link in its place would be removed, not followed
			}
			return nil
		}
		name, err := filepath.Rel(f.dir, path)
		if err != nil {
			return err
		}
		return yield(backup.Object{Name: filepath.ToSlash(name), Size: fi.Size(), At: fi.ModTime()})
	})
}

// Remove implements backup.Depot.
func (f *Folder) Remove(_ context.Context, name string) error {
	if err := f.find(); err != nil {
		return err
	}
	if err := durable.Remove(f.path(name)); err != nil {
		return fmt.Errorf("remove file: %w", err)
	}
	return nil
}

// Flush implements backup.Depot.
func (f *Folder) Flush(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.dirty {
		return nil
	}
	if err := syncAll(f.dir); err != nil {
		return fmt.Errorf("sync %s: %w", f.dir, err)
	}
	f.dirty = false
	return nil
}
