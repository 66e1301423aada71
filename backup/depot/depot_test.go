package depot_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/internal/s3test"
)

func s3(t *testing.T, address string) backup.Depot {
	t.Helper()
	d, err := depot.Open(address, depot.S3Settings{
		Endpoint: s3test.Start(t), Region: "us-east-1", AccessKey: "key", SecretKey: "secret", PathStyle: true,
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDepots: each store keeps the contract of backup.Depot.
func TestDepots(t *testing.T) {
	t.Parallel()
	folder, err := depot.Open(filepath.Join(t.TempDir(), "new", "store"), depot.S3Settings{}, true)
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]backup.Depot{
		"folder": folder, "bucket": s3(t, "s3://"+s3test.Bucket), "prefix": s3(t, "s3://"+s3test.Bucket+"/a/b/"),
	} {
		t.Run(name, func(t *testing.T) { depotContract(t, d) })
	}
}

func list(t *testing.T, d backup.Depot, prefix string) (names []string) {
	t.Helper()
	err := d.List(t.Context(), prefix, func(o backup.Object) error {
		if o.Size != int64(len(o.Name)) || o.At.IsZero() {
			t.Errorf("%+v", o)
		}
		names = append(names, o.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func depotContract(t *testing.T, d backup.Depot) {
	t.Helper()
	ctx := t.Context()
	if got := list(t, d, ""); len(got) > 0 {
		t.Fatalf("a new store has %q", got)
	}
	names := []string{"blobs/AB/ABC", "blobs/AB/ABC.x.age", "blobs/AB/ABCD", "blobs/BA/BAA", "packs/0", "snapshots/1-2.json"}
	for _, name := range slices.Backward(names) {
		if err := d.Put(ctx, name, int64(len(name)), strings.NewReader(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{"": names, "blobs/": names[:4], "blobs/AB/": names[:3], "packs/": names[4:5], "other/": nil} {
		if got := list(t, d, prefix); !slices.Equal(got, want) {
			t.Errorf("%q has %q, want %q", prefix, got, want)
		}
	}
	errEnough := errors.New("enough")
	if err := d.List(ctx, "", func(backup.Object) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Errorf("a list that was ended: %v", err)
	}
	for _, name := range names {
		if got := get(t, d, name); got != name {
			t.Errorf("%s is %q", name, got)
		}
	}
	if err := d.Put(ctx, "packs/empty", 0, strings.NewReader("")); err != nil {
		t.Errorf("nothing was not kept: %v", err)
	}
	if got := get(t, d, "packs/empty"); got != "" {
		t.Errorf("nothing is %q", got)
	}
	if err := d.Remove(ctx, "packs/empty"); err != nil {
		t.Error(err)
	}
	// What breaks off, or has another size, is not there.
	broken := errors.New("broken")
	for what, put := range map[string]func() error{
		"broken": func() error {
			return d.Put(ctx, "packs/1", 100, io.MultiReader(strings.NewReader("half"), failing{broken}))
		},
		"shorter": func() error { return d.Put(ctx, "packs/1", 100, strings.NewReader("half")) },
		"longer":  func() error { return d.Put(ctx, "packs/1", 2, strings.NewReader("half")) },
		"late": func() error {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			return d.Put(ended, "packs/1", 4, strings.NewReader("half"))
		},
	} {
		if err := put(); err == nil {
			t.Errorf("%s: no error", what)
		}
		if got := list(t, d, "packs/"); !slices.Equal(got, names[4:5]) {
			t.Errorf("%s: the store has %q", what, got)
		}
	}
	if _, err := d.Get(ctx, "packs/1"); !errors.Is(err, backup.ErrMissing) {
		t.Errorf("%v, want ErrMissing", err)
	}
	for range 2 { // the second time there is none
		if err := d.Remove(ctx, "packs/0"); err != nil {
			t.Error(err)
		}
	}
	if got := list(t, d, "packs/"); len(got) > 0 {
		t.Errorf("after the removal: %q", got)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func get(t *testing.T, d backup.Depot, name string) string {
	t.Helper()
	in, err := d.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(in)
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestOpen: a store that is read is not made, and an address that cannot be one is refused.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "missing")
	if _, err := depot.Open(dir, depot.S3Settings{}, false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{file, filepath.Join(file, "below"), "s3://", "s3:///prefix", "s3://A_b/x", "s3://ab"} {
		_, err := depot.Open(address, depot.S3Settings{}, true)
		if err == nil || depot.IsS3(address) && !strings.Contains(err.Error(), "like s3://bucket/prefix") {
			t.Errorf("%s was opened, or not explained: %v", address, err)
		}
	}
}

// TestNoBucket: the error names the settings that may be wrong.
func TestNoBucket(t *testing.T) {
	t.Parallel()
	err := s3(t, "s3://elsewhere").Put(t.Context(), "packs/0", 1, strings.NewReader("x"))
	if err == nil || !strings.Contains(err.Error(), "PDS_BACKUP_S3_ENDPOINT") {
		t.Errorf("%v", err)
	}
}

// TestStalled: a server that accepts nothing of an object is left after a while.
func TestStalled(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // ends with the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it leaves connections in its queue, which nobody reads
	d, err := depot.Open("s3://bucket", depot.S3Settings{
		Endpoint: "http://" + l.Addr().String(), Region: "us-east-1", AccessKey: "key", SecretKey: "secret", PathStyle: true,
		Stall: 200 * time.Millisecond,
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const size = 64 << 20
	err = d.Put(ctx, "packs/0", size, io.LimitReader(zero{}, size))
	if err == nil || !strings.Contains(err.Error(), "accepts nothing") {
		t.Errorf("%v", err)
	}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestOwner: what root puts into a folder belongs to the folder's owner, a server that is to use
// it; what it puts behind a link to elsewhere stays root's.
func TestOwner(t *testing.T) {
	t.Parallel()
	dir, elsewhere, uid := t.TempDir(), t.TempDir(), os.Getuid()
	here := uid
	if uid == 0 {
		uid = 12345
		if err := os.Chown(dir, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(elsewhere, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	store, err := depot.OpenFolder(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"damaged/packs/one", "damaged/two", "link/three"} {
		if err := store.Put(t.Context(), name, 0, strings.NewReader("")); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]int{
		filepath.Join(dir, "damaged"): uid, filepath.Join(dir, "damaged", "packs"): uid, filepath.Join(dir, "damaged", "packs", "one"): uid,
		filepath.Join(dir, "damaged", "two"): uid, elsewhere: here, filepath.Join(elsewhere, "three"): here,
	} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != want {
			t.Errorf("%s belongs to %d, want %d", path, st.Uid, want)
		}
	}
}
