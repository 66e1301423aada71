package durable_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nestbox/internal/durable"
)

// childVar makes the test binary a child process, and names its task.
const childVar = "NESTBOX_DURABLE_TEST_CHILD"

func TestMain(m *testing.M) {
	if task := os.Getenv(childVar); task != "" {
		if err := child(task, os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child does its task with path, says "ready" if its parent waits for that, and
// then stays until it is killed or its standard input ends.
func child(task, path string) error {
	switch task {
	case "lock":
		release, err := durable.Lock(path)
		if err != nil {
			return err
		}
		fmt.Println("ready")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		return release()
	case "write": // one content after the other, until it is killed
		for i := 0; ; i++ {
			if err := durable.WriteFile(path, contents()[i%2], 0o600); err != nil {
				return err
			}
			if i == 1 {
				fmt.Println("ready")
			}
		}
	case "full": // a disk on which no more than four bytes of a file fit
		signal.Ignore(unix.SIGXFSZ)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4, Max: 4}); err != nil {
			return err
		}
		if err := durable.WriteFile(path, []byte("new content"), 0o600); !errors.Is(err, unix.EFBIG) {
			return fmt.Errorf("WriteFile on a full disk: %w", err)
		}
		return nil
	}
	return errors.New("unknown task " + task)
}

// contents are two that differ in length, so that a part of one shows.
func contents() [2][]byte {
	return [2][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)}
}

// start runs a child until it is ready.
func start(t *testing.T, task, path string) (cmd *exec.Cmd, stdin io.Closer) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), childVar+"="+task)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("child: %q, %v", line, err)
	}
	return cmd, in
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
}

// wantFile fails the test unless the folder of path holds that file alone.
func wantFile(t *testing.T, path, content string, perm fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || string(data) != content {
		t.Errorf("content %.40q, %v; want %.40q", data, err, content)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != perm {
		t.Errorf("mode %v, %v; want %v", info.Mode(), err, perm)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, c := range []struct {
		content string
		perm    fs.FileMode
	}{{"first", 0o600}, {"second, longer", 0o644}, {"", 0o400}, {"last", 0o600}} {
		if err := durable.WriteFile(path, []byte(c.content), c.perm); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, c.content, c.perm)
	}
}

// TestWriteFileReplaces: a process that reads meanwhile sees the old content or
// the new, and a link elsewhere to the old file is left alone.
func TestWriteFileReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	whole := contents()
	if err := durable.WriteFile(path, whole[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		var err error
		for i := range 40 {
			err = errors.Join(err, durable.WriteFile(path, whole[(i+1)%2], 0o600))
		}
		written <- err
	}()
	for reading := true; reading; {
		select {
		case err := <-written:
			if err != nil {
				t.Error(err)
			}
			reading = false
		default:
		}
		if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, whole[0]) && !bytes.Equal(data, whole[1]) {
			t.Fatalf("read %d bytes, %v: neither content", len(data), err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "link")); err != nil || !bytes.Equal(data, whole[0]) {
		t.Errorf("the old file was written over (%v)", err)
	}
}

// TestWriteFileFails: a failed write leaves the old content and nothing else.
func TestWriteFileFails(t *testing.T) {
	t.Run("full disk", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := durable.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], path)
		cmd.Env = append(os.Environ(), childVar+"=full")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("child: %v: %s", err, out)
		}
		wantFile(t, path, "old", 0o600)
	})
	t.Run("a folder in its place", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.MkdirAll(filepath.Join(path, "inside"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := durable.WriteFile(path, []byte("new"), 0o600); err == nil {
			t.Error("a folder was replaced")
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	})
	t.Run("no folder", func(t *testing.T) {
		err := durable.WriteFile(filepath.Join(t.TempDir(), "gone", "file"), []byte("new"), 0o600)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("WriteFile = %v", err)
		}
	})
}

// TestWriteFileKilled: a process that is killed in the middle leaves one content
// or the other.
func TestWriteFileKilled(t *testing.T) {
	for range 5 {
		path := filepath.Join(t.TempDir(), "file")
		cmd, _ := start(t, "write", path)
		kill(t, cmd)
		data, err := os.ReadFile(path)
		whole := contents()
		if err != nil || !bytes.Equal(data, whole[0]) && !bytes.Equal(data, whole[1]) {
			t.Errorf("%d bytes, %v: neither content", len(data), err)
		}
	}
}

func TestSyncDir(t *testing.T) {
	if err := durable.SyncDir(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := durable.SyncDir(filepath.Join(t.TempDir(), "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	made := 0
	generate := func() ([]byte, error) { made++; return []byte("secret " + strconv.Itoa(made)), nil }
	for range 3 {
		got, err := durable.Secret(path, generate)
		if err != nil || string(got) != "secret 1" {
			t.Fatalf("Secret = %q, %v", got, err)
		}
	}
	wantFile(t, path, "secret 1", 0o600)

	// One that others may read, as after a restore, is closed to them.
	for _, open := range []fs.FileMode{0o644, 0o640, 0o604, 0o666} {
		if err := os.Chmod(path, open); err != nil {
			t.Fatal(err)
		}
		if got, err := durable.Secret(path, generate); err != nil || string(got) != "secret 1" {
			t.Errorf("mode %v: %q, %v", open, got, err)
		}
		wantFile(t, path, "secret 1", 0o600)
	}
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}

func TestSecretFails(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("no randomness")
	path := filepath.Join(dir, "secret")
	if _, err := durable.Secret(path, func() ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("Secret = %v, want %v", err, broken)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a secret that was not made is stored: %v", err)
	}
	never := func() ([]byte, error) { t.Error("made another one"); return nil, nil }
	if _, err := durable.Secret(dir, never); err == nil {
		t.Error("a folder is a secret")
	}
	// What could not be stored must not be used: after a restart it is lost.
	ok := func() ([]byte, error) { return []byte("x"), nil }
	if _, err := durable.Secret(filepath.Join(dir, "gone", "secret"), ok); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not stored: %v", err)
	}
}

// wantLocked fails the test unless dir is locked and the error names its holder.
func wantLocked(t *testing.T, dir string, pid int) {
	t.Helper()
	_, err := durable.Lock(dir)
	if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), dir) ||
		!slices.Contains(strings.Fields(err.Error()), strconv.Itoa(pid)) {
		t.Errorf("Lock = %v, want ErrLocked with %s and %d", err, dir, pid)
	}
}

// take locks and releases.
func take(t *testing.T, dir string) {
	t.Helper()
	release, err := durable.Lock(dir)
	if err != nil {
		t.Fatalf("Lock = %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

// TestLock: another process gets an error that names the holder, until that
// releases the lock, ends or is killed.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	release, err := durable.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	wantLocked(t, dir, os.Getpid())
	take(t, t.TempDir()) // another folder is free
	if err := release(); err != nil {
		t.Fatal(err)
	}
	take(t, dir)

	cmd, _ := start(t, "lock", dir)
	wantLocked(t, dir, cmd.Process.Pid)
	wantLocked(t, dir, cmd.Process.Pid) // asking does not change who holds it
	kill(t, cmd)
	take(t, dir)

	cmd, stdin := start(t, "lock", dir)
	wantLocked(t, dir, cmd.Process.Pid)
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
	take(t, dir)

	if _, err := durable.Lock(filepath.Join(dir, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"a file", "none"} {
		if err := durable.Remove(path); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	if err := durable.Remove(path + "/\x00"); err == nil {
		t.Error("an error that is another one is lost")
	}
}

// TestCopyFile: the copy has what the file has, and nothing that was there before.
func TestCopyFile(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	for _, content := range []string{"a longer text", "short", ""} {
		if err := os.WriteFile(from, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		err := durable.CopyFile(from, to)
		if got, readErr := os.ReadFile(to); string(got) != content || errors.Join(err, readErr) != nil {
			t.Errorf("%q, %v, %v, want %q", got, err, readErr, content)
		}
	}
	if fi, err := os.Stat(to); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	if err := errors.Join(os.Remove(from), durable.CopyFile(from, to)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want ErrNotExist", err)
	}
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a copy of nothing is left: %v", err)
	}
}
