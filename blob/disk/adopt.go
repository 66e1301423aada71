package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nestbox/internal/durable"
)

// Size returns the size of a file in bytes; ok is false if there is none.
func (f *Files) Size(key string) (size int64, ok bool, err error) {
	path, _, err := f.place(key)
	if err != nil {
		return 0, false, err
	}
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("look at file: %w", err)
	}
	return fi.Size(), true, nil
}

// Adopt makes the file key: fill makes it at a path of the same file system that is free, and
// durable. Its name is durable once Settle has returned. A file that is there is replaced.
func (f *Files) Adopt(key string, fill func(path string) error) (err error) {
	path, shard, err := f.place(key)
	if err != nil {
		return err
	}
	made := filepath.Join(f.tmp, unfinished+rand.Text())
	defer func() {
		if err != nil {
			err = errors.Join(err, durable.Remove(made))
		}
	}()
	if err := fill(made); err != nil {
		return err
	}
	if err := os.Mkdir(shard, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make folder: %w", err)
	}
	f.unsettled.Store(shard, struct{}{})
	if err := os.Rename(made, path); err != nil {
		return fmt.Errorf("name file: %w", err)
	}
	return nil
}

// Settle makes the names of all files durable that Adopt has made.
func (f *Files) Settle() error {
	some := false
	var errs []error
	f.unsettled.Range(func(shard, _ any) bool {
		some = true
		f.unsettled.Delete(shard) // before: a file that comes meanwhile is for the next time
		if dir, ok := shard.(string); ok {
			errs = append(errs, durable.SyncDir(dir))
		}
		return true
	})
	if some {
		errs = append(errs, durable.SyncDir(f.dir))
	}
	return errors.Join(errs...)
}
