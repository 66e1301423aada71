//go:build !linux

package depot

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncAll makes everything that was written durable, as far as the system has a call for it:
// on macOS sync begins to write, and the sync of a folder, which is F_FULLFSYNC there, waits
// until the disk has it.
func syncAll(dir string) error {
	if err := unix.Sync(); err != nil {
		return err
	}
	d, err := os.Open(dir) //nolint:gosec // the operator's own folder
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		_ = d.Close()
		return err
	}
	return d.Close()
}
