package e2e

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nestbox/internal/pdstest"
)

// freezable mounts a file system of its own until the test ends, on a disk that is a file on another
// one. freeze stops that disk: what is written stays in memory, and who waits for it to be on the
// disk waits until thaw. The test is skipped where that cannot be.
func freezable(t *testing.T) (dir string, freeze func() (thaw func())) {
	t.Helper()
	folder := pdstest.TempDir(t)
	below, dir := filepath.Join(folder, "below"), filepath.Join(folder, "mount")
	if err := errors.Join(os.Mkdir(below, 0o700), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, disk := range []struct{ image, size, mount string }{
		{filepath.Join(folder, "disk"), "160M", below},
		{filepath.Join(below, "disk"), "96M", dir},
	} {
		for _, args := range [][]string{{"truncate", "-s", disk.size, disk.image}, {"mkfs.ext4", "-q", "-F", disk.image}, {"mount", "-o", "loop", disk.image, disk.mount}} {
			if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil { //nolint:gosec // as above
				t.Skipf("no disk of its own can be mounted here: %v: %v\n%s", args, err, out)
			}
		}
		t.Cleanup(func() {
			if err := unix.Unmount(disk.mount, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	f, err := os.Open(below)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	const freezeIt, thawIt = 0xc0045877, 0xc0045878 // FIFREEZE and FITHAW of linux/fs.h
	return dir, func() func() {
		t.Helper()
		if err := unix.IoctlSetInt(int(f.Fd()), freezeIt, 0); err != nil {
			t.Skipf("the disk cannot be frozen here: %v", err)
		}
		thaw := sync.OnceFunc(func() {
			if err := unix.IoctlSetInt(int(f.Fd()), thawIt, 0); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(thaw)
		return thaw
	}
}

// TestFrozenDisk: when the disk hangs, the server lives and says within 15 seconds that it is not
// ready; probes and metrics do not hang with it. Then it goes on.
func TestFrozenDisk(t *testing.T) {
	t.Parallel()
	mount, freeze := freezable(t)
	p := pdstest.Launch(t, filepath.Join(mount, "data"), "PDS_METRICS_LISTEN=127.0.0.1:0")
	alice := p.SignUp(t, "alice")
	aside := "http://" + p.Ready.Metrics
	await(t, aside+"/readyz", http.StatusOK, time.Second)
	thaw := freeze()
	await(t, aside+"/readyz", http.StatusServiceUnavailable, 17*time.Second)
	for _, path := range []string{"/livez", "/metrics"} {
		if got := statusAt(t.Context(), aside+path); got != http.StatusOK {
			t.Errorf("%s with a frozen disk: %d", path, got)
		}
	}
	if got := pdstest.Exec(t, pdstest.Invocation{Args: []string{"health", "--data", p.Dir}}); got.Code != 0 {
		t.Errorf("health with a frozen disk: %+v", got)
	}
	if got := pdstest.Exec(t, pdstest.Invocation{Args: []string{"health", "--ready", "--data", p.Dir}}); got.Code != 1 {
		t.Errorf("health --ready with a frozen disk: %+v", got)
	}
	thaw()
	await(t, aside+"/readyz", http.StatusOK, 15*time.Second)
	p.MustRefresh(t, alice.RefreshJwt)
}
