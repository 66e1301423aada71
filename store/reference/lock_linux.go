package reference

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// dmsByte is the byte of the shared memory file that each connection to a WAL database locks
// for reading (UNIX_SHM_DMS in SQLite's os_unix.c).
const dmsByte = 128

// Running reports whether a process of this machine, in a container or not, has the database
// at path open. It changes nothing and waits for nothing.
func Running(path string) (running bool, err error) {
	f, err := os.Open(path + "-shm") //nolint:gosec // beside a database of the source
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether a server has the database open: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: dmsByte, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return false, fmt.Errorf("look whether a server has %s open: %w", path, err)
	}
	return lock.Type != unix.F_UNLCK, nil
}
