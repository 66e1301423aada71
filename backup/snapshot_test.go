package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/blob"
	"nestbox/internal/smalldisk"
)

// hooked is a store that calls before ahead of each operation, with its number.
type hooked struct {
	*depot.Folder

	n      atomic.Int64
	before func(n int64, name string) error
}

func (h *hooked) step(name string) error { return h.before(h.n.Add(1), name) }

// Put implements backup.Depot. If before returns an error, half of the object is there.
func (h *hooked) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if err := h.step("put " + name); err != nil {
		return errors.Join(err, h.Folder.Put(ctx, name, size, io.MultiReader(io.LimitReader(body, size/2), failing{err})))
	}
	return h.Folder.Put(ctx, name, size, body)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Get implements backup.Depot.
func (h *hooked) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := h.step("get " + name); err != nil {
		return nil, err
	}
	return h.Folder.Get(ctx, name)
}

// List implements backup.Depot.
func (h *hooked) List(ctx context.Context, prefix string, yield func(backup.Object) error) error {
	if err := h.step("list " + prefix); err != nil {
		return err
	}
	return h.Folder.List(ctx, prefix, yield)
}

// Flush implements backup.Depot.
func (h *hooked) Flush(ctx context.Context) error {
	if err := h.step("flush"); err != nil {
		return err
	}
	return h.Folder.Flush(ctx)
}

// churned is how many records churn makes before it changes them.
const churned = 400

// churn writes records, and uploads, uses and removes blobs, until the test stops it.
func (w *world) churn() (stop func()) {
	ctx, cancel := context.WithCancel(w.tb.Context())
	var writers sync.WaitGroup
	repeat := func(do func(n int) error) {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := do(n); err != nil && ctx.Err() == nil {
					w.tb.Error(err)
					return
				}
				time.Sleep(60 * time.Millisecond)
			}
		})
	}
	repeat(func(n int) error { // few records, so that a backup does not take longer each time
		kind := "create"
		if n >= churned {
			kind = "update"
		}
		return w.write(ctx, kind, []int{1_000_000 + n%churned}, 300)
	})
	repeat(func(n int) error {
		err := w.upload(ctx, fmt.Sprintf("unused %d", n))
		if n%2 == 1 {
			err = w.use(ctx, 1_000_000+n, fmt.Sprintf("used %d", n))
		}
		if errors.Is(err, blob.ErrAbandoned) || err != nil && strings.Contains(err.Error(), "BlobNotFound") {
			return nil // the clock jumps, so it was collected before a record was made
		}
		return err
	})
	repeat(func(n int) error {
		w.pass(2 * time.Hour)
		return w.blobs.Collect(ctx)
	})
	return func() { cancel(); writers.Wait() }
}

// TestInterrupted: wherever a backup breaks off while others write, what the store lists can
// be restored, and the next backup goes on.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 400, 2000)
	for n := range 24 {
		if err := w.use(t.Context(), n, fmt.Sprintf("file %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	stop := w.churn()
	dir := t.TempDir()
	gone := errors.New("the process was killed")
	broken := 0
	for snapshots := 0; broken < 50; snapshots++ { // that the store has
		for at := int64(1); ; at++ {
			ctx, cancel := context.WithCancelCause(t.Context())
			store := &hooked{Folder: openFolder(t, dir), before: func(n int64, _ string) error {
				if n < at {
					return nil
				}
				cancel(gone)
				return gone
			}}
			_, err := w.service(store).Snapshot(ctx)
			names, listErr := backup.Names(t.Context(), store.Folder)
			if listErr != nil {
				t.Fatal(listErr)
			}
			if err == nil {
				if len(names) != snapshots+1 {
					t.Fatalf("%d snapshots", len(names))
				}
				mustVerify(t, store.Folder)
				break
			}
			broken++
			if !errors.Is(err, gone) && !errors.Is(err, context.Canceled) {
				t.Fatalf("interrupted at step %d: %v", at, err)
			}
			if len(names) > snapshots+1 {
				t.Fatalf("%d snapshots", len(names))
			}
			if len(names) > 0 && at%16 == 0 {
				mustVerify(t, store.Folder)
			}
			if len(names) > snapshots { // it broke off right behind the manifest
				break
			}
			if at > 200 {
				t.Fatal("a backup does not end")
			}
		}
	}
	stop()
	t.Logf("broken off %d times", broken)
	store := openFolder(t, dir)
	m := snapshot(t, w.service(store))
	mustVerify(t, store)
	restored := mustRestore(t, &backup.Reader{Depot: store}, m, "")
	for name, want := range map[string]string{"keyring.json": `{"keys":[]}`, "admin_password": "secret\n"} {
		if got, err := os.ReadFile(filepath.Join(restored, name)); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(restored, "notes")); err == nil {
		t.Error("a file that is not ours was backed up")
	}
}

// TestSecond: the second backup after a hundredth of the records changed sends little, and
// one after nothing changed next to nothing. Lost state costs time, and nothing else.
func TestSecond(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 1500, 2500)
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	first := snapshot(t, s)
	if first.Sent < first.Size()/3 {
		t.Fatalf("the first backup sent %d of %d bytes", first.Sent, first.Size())
	}
	var keys []int
	for n := range 15 {
		keys = append(keys, n*97+5)
	}
	if err := w.write(t.Context(), "update", keys, 2500); err != nil {
		t.Fatal(err)
	}
	second := snapshot(t, s)
	if second.Sent > first.Sent/20 {
		t.Errorf("the second backup sent %d bytes, the first %d", second.Sent, first.Sent)
	}
	third := snapshot(t, s)
	if third.Sent > first.Sent/100 {
		t.Errorf("the third backup, of the same, sent %d bytes", third.Sent)
	}
	t.Logf("%d, then %d, then %d bytes", first.Sent, second.Sent, third.Sent)
	if err := os.RemoveAll(s.State); err != nil {
		t.Fatal(err)
	}
	if fourth := snapshot(t, s); fourth.Sent > first.Sent/100 {
		t.Errorf("without its state, the same backup sent %d bytes", fourth.Sent)
	}
	if n := mustVerify(t, store); n != 4 {
		t.Errorf("%d snapshots", n)
	}
}

// TestFlippedBit: a bit that changes in any object, or one that is missing, is found, and named once.
func TestFlippedBit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 20, 500)
	for n := range 5 {
		if err := w.use(t.Context(), n, fmt.Sprintf("file %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	store := openFolder(t, dir)
	snapshot(t, w.service(store))
	if err := w.write(t.Context(), "update", []int{3}, 500); err != nil {
		t.Fatal(err)
	}
	snapshot(t, w.service(store))
	var objects []backup.Object
	if err := store.List(t.Context(), "", func(o backup.Object) error { objects = append(objects, o); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(objects) < 14 {
		t.Fatalf("%d objects", len(objects))
	}
	mustVerify(t, store)
	for i, o := range objects {
		path := filepath.Join(dir, filepath.FromSlash(o.Name))
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := slices.Clone(content)
		changed[(i*7919)%len(changed)] ^= 1 << (i % 8)
		for what, damage := range map[string]func() error{
			"flipped":   func() error { return os.WriteFile(path, changed, 0o600) },
			"cut":       func() error { return os.WriteFile(path, content[:len(content)-1], 0o600) },
			"longer":    func() error { return os.WriteFile(path, append(slices.Clone(content), 0), 0o600) },
			"not there": func() error { return os.Remove(path) },
		} {
			if what == "not there" && strings.HasPrefix(o.Name, "snapshots/") {
				continue // it is not listed then
			}
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			var faults []string
			_, err := verification(store, func(line string) { faults = append(faults, line) }).Run(t.Context())
			if err != nil || len(faults) == 0 {
				t.Errorf("%s is %s: %d faults, %v", o.Name, what, len(faults), err)
			}
			once := slices.Compact(slices.Sorted(slices.Values(faults)))
			if len(once) != len(faults) || strings.HasPrefix(o.Name, "packs/") && len(once) != 1 { // both snapshots need it
				t.Errorf("%s is %s: %q", o.Name, what, faults)
			}
			if m, err := backup.Pick(t.Context(), store, time.Time{}); err == nil && strings.HasPrefix(o.Name, "packs/") {
				err = (&backup.Reader{Depot: store}).Restore(t.Context(), m, backup.Target{Dir: filepath.Join(t.TempDir(), "x")})
				if err == nil {
					t.Errorf("a snapshot was restored although %s is %s", o.Name, what)
				}
			}
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustVerify(t, store)
}

// TestFullStore: a store that is full is an error that names it, and nothing that was there
// is lost. When there is room again, the backup goes on.
func TestFullStore(t *testing.T) {
	t.Parallel()
	dir, resize := smalldisk.Mount(t, "2m")
	w := newWorld(t)
	w.fill(0, 200, 1000)
	store := openFolder(t, dir)
	s := w.service(store)
	snapshot(t, s)
	for n := range 20 {
		if err := w.use(t.Context(), n, noise(200_000)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Snapshot(t.Context())
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v, want one of a full disk that names it", err)
	}
	if n := mustVerify(t, store); n != 1 {
		t.Errorf("%d snapshots", n)
	}
	resize("32m")
	m := snapshot(t, s)
	if m.Sent > 4<<20 {
		t.Errorf("%d bytes were sent", m.Sent)
	}
	if n := mustVerify(t, store); n != 2 {
		t.Errorf("%d snapshots", n)
	}
}

// TestFullStoreAnywhere: at whichever moment of a backup the store is full, what it lists can be
// restored, and the next backup goes on.
func TestFullStoreAnywhere(t *testing.T) {
	t.Parallel()
	disk, _ := smalldisk.Mount(t, "32m")
	dir := filepath.Join(disk, "store")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.fill(0, 50, 500)
	store := openFolder(t, dir)
	s := w.service(store)
	snapshot(t, s)
	const moments, step = 50, 4 << 10 // all of them are in what a backup sends below
	made := 1
	for i := range moments {
		if err := w.use(t.Context(), i, noise(moments*step)); err != nil {
			t.Fatal(err)
		}
		filler, err := os.Create(filepath.Join(disk, "filler"))
		if err != nil {
			t.Fatal(err)
		}
		size, err := io.Copy(filler, zero{})
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if err := errors.Join(filler.Truncate(max(0, size-int64(i*step))), filler.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Snapshot(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("with room for %d bytes: %v", i*step, err)
		}
		if _, said := verified(t, store); said != "" {
			t.Errorf("with room for %d bytes: %s", i*step, said)
		}
		if err := os.Remove(filler.Name()); err != nil {
			t.Fatal(err)
		}
		snapshot(t, s)
		made++
	}
	if n := mustVerify(t, store); n != made {
		t.Errorf("%d snapshots, and %d were made", n, made)
	}
}

// TestBlobComesAndGoes: a blob that is uploaded, used and removed while a backup is made does
// not make one that lacks its file, at whichever step each of it happens.
func TestBlobComesAndGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 10, 100)
	for at := range int64(16) {
		if err := w.upload(t.Context(), fmt.Sprintf("before %d", at)); err != nil {
			t.Fatal(err)
		}
		store := &hooked{Folder: openFolder(t, t.TempDir()), before: func(n int64, _ string) error {
			if n != at {
				return nil
			}
			w.pass(2 * time.Hour)
			return errors.Join(w.blobs.Collect(t.Context()), w.upload(t.Context(), fmt.Sprintf("during %d", at)),
				w.use(t.Context(), int(at)+100, fmt.Sprintf("used %d", at)))
		}}
		s := w.service(store)
		s.State = filepath.Join(t.TempDir(), "state")
		m := snapshot(t, s)
		mustRestore(t, &backup.Reader{Depot: store.Folder}, m, "")
	}
	w.pass(2 * time.Hour)
	if err := w.blobs.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := 0
	if err := w.files.Each(t.Context(), func(string, string) error { left++; return nil }); err != nil {
		t.Fatal(err)
	}
	if left != 15 { // those that are used
		t.Errorf("%d files are left", left)
	}
}

// TestGoneBlob: a file that the server itself lacks does not keep the rest from being backed
// up, and is counted.
func TestGoneBlob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 3 {
		if err := w.use(t.Context(), n, fmt.Sprintf("file %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	var first string
	if err := w.files.Each(t.Context(), func(path, _ string) error { first = path; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.dir, "blobs", first)); err != nil {
		t.Fatal(err)
	}
	store := openFolder(t, t.TempDir())
	m := snapshot(t, w.service(store))
	if m.Gone != 1 || m.BlobCount != 3 {
		t.Errorf("%d of %d are gone", m.Gone, m.BlobCount)
	}
	var faults []string
	if _, err := verification(store, func(line string) { faults = append(faults, line) }).Run(t.Context()); err != nil || len(faults) != 1 {
		t.Errorf("%q, %v", faults, err)
	}
}

// zeros is a blob without a file.
type zeros struct{ io.Reader }

func (zeros) Close() error { return nil }

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// nowhere is a store that keeps no blobs.
type nowhere struct{ *depot.Folder }

func (n nowhere) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if strings.HasPrefix(name, "blobs/") {
		_, err := io.Copy(io.Discard, body)
		return err
	}
	return n.Folder.Put(ctx, name, size, body)
}

// TestMemory: the memory that a backup takes does not depend on the size of the blobs.
func TestMemory(t *testing.T) {
	w := newWorld(t)
	for n := range 20 {
		if err := w.use(t.Context(), n, fmt.Sprintf("file %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	s := w.service(nowhere{openFolder(t, t.TempDir())})
	s.Source.OpenBlob = func(context.Context, string) (io.ReadCloser, int64, error) {
		const size = 64 << 20
		return zeros{io.LimitReader(zero{}, size)}, size, nil
	}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var most uint64
	ctx, cancel := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapInuse)
			time.Sleep(20 * time.Millisecond)
		}
	})
	snapshot(t, s)
	cancel()
	watch.Wait()
	if grown := int64(most) - int64(before.HeapInuse); grown > 64<<20 {
		t.Errorf("the heap has grown by %d MB", grown>>20)
	}
}

// TestOther: a store with the snapshots of another server is refused.
func TestOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	snapshot(t, s)
	s.Source.DID = "did:web:other.test"
	if _, err := s.Snapshot(t.Context()); !errors.Is(err, backup.ErrOther) {
		t.Errorf("%v, want ErrOther", err)
	}
}

// TestRestoreTarget: a folder that has something is left alone, and a restore that broke off
// is completed.
func TestRestoreTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 50, 500)
	for n := range 5 {
		if err := w.use(t.Context(), n, fmt.Sprintf("file %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	store := openFolder(t, t.TempDir())
	m := snapshot(t, w.service(store))
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &backup.Reader{Depot: store}
	if err := r.Restore(t.Context(), m, backup.Target{Dir: full}); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("%v, want ErrNotEmpty", err)
	}
	to := backup.Target{Dir: filepath.Join(t.TempDir(), "new")}
	gone := errors.New("gone")
	done := false
	for at := int64(1); !done; at++ {
		broken := &backup.Reader{Depot: &hooked{Folder: store, before: func(n int64, _ string) error {
			if n >= at {
				return gone
			}
			return nil
		}}}
		err := broken.Restore(t.Context(), m, to)
		if done = err == nil; !done && !errors.Is(err, gone) {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(to.Dir, backup.DatabaseName)); (err == nil) != done {
			t.Fatalf("step %d: a database is there: %v, ended: %t", at, err, done)
		}
		if at > 1 && backup.Unfinished(to.Dir) == done { // the first step reads, and writes nothing
			t.Fatalf("step %d: unfinished %t, ended: %t", at, !done, done)
		}
	}
}

// TestKeysChanged: a key that was changed, made or removed since the last snapshot is noticed, wherever
// a snapshot keeps the keys.
func TestKeysChanged(t *testing.T) {
	t.Parallel()
	for what, set := range map[string]func(*backup.Service){
		"plain":     func(*backup.Service) {},
		"encrypted": func(s *backup.Service) { s.Recipients = []age.Recipient{newIdentity(t).Recipient()} },
		"apart":     func(s *backup.Service) { s.KeysApart = filepath.Join(t.TempDir(), "keys.json") },
	} {
		w := newWorld(t)
		s := w.service(openFolder(t, t.TempDir()))
		set(s)
		more := filepath.Join(w.dir, "more")
		s.Source.Files = append(s.Source.Files, backup.File{Name: "more", Path: more, Key: true})
		ring, settings := filepath.Join(w.dir, "keyring.json"), filepath.Join(w.dir, "last_settings.json")
		for i, step := range []struct {
			do   func() error
			want bool
		}{
			{func() error { return nil }, true}, // no snapshot yet
			{func() error { return nil }, false},
			{func() error { return os.WriteFile(ring, []byte(`{"keys":[1]}`), 0o600) }, true},
			{func() error { return os.WriteFile(settings, []byte("{}"), 0o600) }, false}, // a file that is not a key
			{func() error { return os.WriteFile(more, []byte("more"), 0o600) }, true},
			{func() error { return os.Remove(more) }, true},
			{func() error { return os.RemoveAll(s.State) }, true},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			if s.KeysChanged() != step.want {
				t.Errorf("%s, step %d: the keys changed: %t", what, i, !step.want)
			}
			snapshot(t, s)
			if s.KeysChanged() {
				t.Errorf("%s, step %d: the keys have changed since the snapshot", what, i)
			}
		}
		own := w.service(s.Depot)
		if own.State, own.Source = s.State, s.Source; own.KeysChanged() != (what != "plain") {
			t.Errorf("%s: whether the server's own snapshots lack the keys: %t", what, own.KeysChanged())
		}
	}
}
