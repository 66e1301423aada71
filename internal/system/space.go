package system

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Space returns how many bytes the file system that holds dir has, and how many of them this
// process may still write.
func Space(dir string) (all, free int64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("look up the free space of %s: %w", dir, err)
	}
	block := int64(fs.Bsize)                                       //nolint:gosec,unconvert // the types differ between systems
	return int64(fs.Blocks) * block, int64(fs.Bavail) * block, nil //nolint:gosec,unconvert // no disk has 2^63 bytes
}

// FreeSpace returns how many bytes this process may still write on the file
// system that holds dir.
func FreeSpace(dir string) (int64, error) {
	_, free, err := Space(dir)
	return free, err
}
