package smalldisk

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Mount mounts a file system of a size, like "24m", until the test ends. resize
// gives it another size. The test is skipped if this user may not mount.
func Mount(tb testing.TB, size string) (dir string, resize func(size string)) {
	tb.Helper()
	dir = tb.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		tb.Skipf("a file system cannot be mounted here: %v", err)
	}
	tb.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			tb.Error(err)
		}
	})
	return dir, func(size string) {
		tb.Helper()
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size="+size); err != nil {
			tb.Fatal(err)
		}
	}
}
