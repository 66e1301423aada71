package disk_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"nestbox/blob"
	"nestbox/blob/disk"
	"nestbox/internal/durable"
	"nestbox/internal/smalldisk"
)

func open(t *testing.T, dir, tmp string) *disk.Files {
	t.Helper()
	f, err := disk.Open(dir, tmp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // a test may have closed it
	return f
}

func shut(t *testing.T, f *disk.Files) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTwoServers: a folder has one server at a time, whatever the server's data
// directory.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, dir, "")
	if _, err := disk.Open(dir, t.TempDir()); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	shut(t, f)
	open(t, dir, "")
}

// begin writes a file that is not committed.
func begin(t *testing.T, f *disk.Files, content string) blob.Upload {
	t.Helper()
	u, err := f.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Abort)
	if _, err := io.WriteString(u, content); err != nil {
		t.Fatal(err)
	}
	return u
}

func put(t *testing.T, f *disk.Files, key, content string) {
	t.Helper()
	u := begin(t, f, content)
	if err := u.Commit(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	u.Abort()
}

// read returns the content of a file, or the error of Open.
func read(t *testing.T, f *disk.Files, key string) (string, error) {
	t.Helper()
	file, err := f.Open(t.Context(), key)
	if err != nil {
		return "", err
	}
	defer file.Close()
	b, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), nil
}

// tree returns the files below dir, with their permissions.
func tree(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	found := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == durable.LockName {
			return err
		}
		fi, err := d.Info()
		rel, rerr := filepath.Rel(dir, path)
		found[rel] = fi.Mode().Perm()
		return errors.Join(err, rerr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wantTree(t *testing.T, dir string, want ...string) {
	t.Helper()
	got := tree(t, dir)
	for name, mode := range got {
		if !slices.Contains(want, name) {
			t.Errorf("unexpected file %s", name)
		}
		if mode != 0o600 {
			t.Errorf("%s: mode %o", name, mode)
		}
	}
	if len(got) != len(want) {
		t.Errorf("files %v, want %q", got, want)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "blobs")
	f := open(t, dir, "")
	put(t, f, "ABCD", "one")
	put(t, f, "ABEF", "")
	u := begin(t, f, "not there")
	if _, err := read(t, f, "XYZ"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
	u.Abort()
	wantTree(t, dir, "AB/ABCD", "AB/ABEF")
	shut(t, f)
	f = open(t, dir, "")
	for key, want := range map[string]string{"ABCD": "one", "ABEF": ""} {
		if got, err := read(t, f, key); got != want || err != nil {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
	file, err := f.Open(t.Context(), "ABCD")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range 2 { // the second time there is no file
		if err := f.Remove(t.Context(), "ABCD"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := read(t, f, "ABCD"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
	if b, err := io.ReadAll(file); string(b) != "one" || err != nil {
		t.Errorf("what is being read when it is removed: %q, %v", b, err)
	}
}

// TestKeys: no key leads out of the folder, or to something that is not a file.
func TestKeys(t *testing.T) {
	t.Parallel()
	outer := t.TempDir()
	secret := filepath.Join(outer, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, filepath.Join(outer, "blobs"), "")
	for _, key := range []string{
		"", "A", "AB", "../secret", "..", "AB/../../secret", "AB/CD", `AB\CD`, "/etc/passwd", "AB.CD", "AB CD", "AB\x00CD", "ABÄ",
		strings.Repeat("A", 65), "tmp/x", "-rf", "%2e%2e",
	} {
		if got, err := read(t, f, key); err == nil || errors.Is(err, blob.ErrNotFound) {
			t.Errorf("open %q: %q, %v", key, got, err)
		}
		if err := f.Remove(t.Context(), key); err == nil {
			t.Errorf("removed %q", key)
		}
		if err := begin(t, f, "x").Commit(t.Context(), key); err == nil {
			t.Errorf("committed %q", key)
		}
	}
	if b, err := os.ReadFile(secret); string(b) != "secret" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	for _, key := range []string{"abc", strings.Repeat("Z9", 32)} {
		put(t, f, key, "x")
	}
}

// TestSweep: a start removes what an ended process left half-written, and
// nothing else, though the folder may be anyone's.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir, tmp := t.TempDir(), t.TempDir()
	f := open(t, dir, tmp)
	put(t, f, "ABCD", "one")
	begin(t, f, "half")
	if len(tree(t, tmp)) != 1 {
		t.Fatal("what is being written is not in the folder for it")
	}
	other := filepath.Join(tmp, "of-another-program")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantTree(t, dir, "AB/ABCD")
	shut(t, f)
	open(t, dir, tmp)
	wantTree(t, dir, "AB/ABCD")
	wantTree(t, tmp, "of-another-program")
}

// TestOpenRefused: faults that an upload would meet are found at the start.
func TestOpenRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dirs := range [][2]string{{file, ""}, {t.TempDir(), file}, {filepath.Join(file, "x"), ""}} {
		if _, err := disk.Open(dirs[0], dirs[1]); err == nil {
			t.Errorf("opened %q", dirs)
		}
	}
}

func TestOtherFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tmp, _ := smalldisk.Mount(t, "1m")
	if _, err := disk.Open(dir, tmp); err == nil || !strings.Contains(err.Error(), "must be on the file system of the blobs") {
		t.Errorf("%v", err)
	}
	wantTree(t, tmp)
}

// TestFullDisk: an upload that does not fit is an error and leaves nothing, and
// there is room again afterwards.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir, _ := smalldisk.Mount(t, "1m")
	f := open(t, dir, "")
	put(t, f, "ABCD", "small")
	for range 3 {
		u, err := f.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		part := bytes.Repeat([]byte("x"), 64<<10)
		for i := 0; err == nil && i < 100; i++ {
			_, err = u.Write(part)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v, want ENOSPC", err)
		}
		u.Abort()
		wantTree(t, dir, "AB/ABCD")
	}
	put(t, f, "ABEF", strings.Repeat("x", 512<<10))
	if got, err := read(t, f, "ABCD"); got != "small" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
