package system

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSocketPath reaches a socket in a folder whose path no kernel would take,
// by each way that there is on any system.
func TestSocketPath(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]func(dir, name string) (string, func() error, error){
		"this system": SocketPath, "link": linkedPath, "short": shortPath,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			listenAt, release, err := path(dir, "control.sock")
			if err != nil {
				t.Fatal(err)
			}
			if len(listenAt) > maxSocketPath {
				t.Errorf("%q has %d bytes", listenAt, len(listenAt))
			}
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: listenAt})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			t.Cleanup(func() { _ = l.Close() })
			if err := release(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Dir(filepath.Dir(listenAt))); name == "link" && err == nil {
				t.Errorf("release left %s", listenAt)
			}

			dialAt, release, err := path(dir, "control.sock")
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("unix", dialAt) //nolint:noctx // at once
			if err != nil {
				t.Fatal(err)
			}
			if err := release(); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		})
	}
}

// TestReadSecret reads lines of a pipe one by one.
func TestReadSecret(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if _, err := w.WriteString("first one\r\nsecond\n\nlast"); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	var prompted strings.Builder
	for _, want := range []string{"first one", "second", "", "last", ""} {
		if got, err := ReadSecret(r, &prompted, "Password: "); got != want || err != nil {
			t.Errorf("read %q, %v, want %q", got, err, want)
		}
	}
	if prompted.Len() > 0 {
		t.Errorf("prompted %q though nobody types", prompted.String())
	}
}

func TestFiguresOfTheSystem(t *testing.T) {
	t.Parallel()
	if n, err := FreeSpace(t.TempDir()); n <= 0 || err != nil {
		t.Errorf("free space %d, %v", n, err)
	}
	if n, err := Resident(os.Getpid()); n < 1<<20 || err != nil {
		t.Errorf("resident %d, %v", n, err)
	}
	if d, err := CPUTime(); d <= 0 || err != nil {
		t.Errorf("time used %v, %v", d, err)
	}
	if _, err := FreeSpace(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a folder that is not there has free space")
	}
}
