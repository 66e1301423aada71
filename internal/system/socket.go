package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// maxSocketPath is the longest path of a Unix socket, in bytes, that every
// system accepts: macOS has room for 104 with the zero at the end, Linux for
// 108.
const maxSocketPath = 103

// SocketPath returns a path to the socket name in dir that is short enough for
// the kernel, however long dir's own path is. The path works until release is
// called; the socket stays.
func SocketPath(dir, name string) (path string, release func() error, err error) {
	if path := filepath.Join(dir, name); len(path) <= maxSocketPath {
		return path, func() error { return nil }, nil
	}
	return shortPath(dir, name)
}

// linkedPath reaches dir through a symbolic link in a folder of temporary files
// that only this user can enter.
func linkedPath(dir, name string) (path string, release func() error, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", nil, fmt.Errorf("find data directory: %w", err)
	}
	// Not os.TempDir: on macOS it is long itself.
	links, err := os.MkdirTemp("/tmp", "nestbox")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for a short path: %w", err)
	}
	link := filepath.Join(links, "d")
	release = func() error { return errors.Join(os.Remove(link), os.Remove(links)) }
	if err := os.Symlink(dir, link); err != nil {
		return "", nil, errors.Join(fmt.Errorf("make a short path to the data directory: %w", err), os.Remove(links))
	}
	return filepath.Join(link, name), release, nil
}
