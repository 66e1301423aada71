package system

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// FreeSpace returns how many bytes this process may still write on the file
// system that holds dir.
func FreeSpace(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("look up the free space of %s: %w", dir, err)
	}
	return int64(fs.Bavail) * int64(fs.Bsize), nil //nolint:gosec,unconvert // no disk has 2^63 bytes; the types differ between systems
}
