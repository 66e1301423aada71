package depot

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncAll makes everything on the file system of dir durable: in one call, whatever the
// number of files is.
func syncAll(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the operator's own folder
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
