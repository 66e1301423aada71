package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/internal/s3test"
)

// TestDamageMended: whatever is damaged in a store, once a verification has found it the next
// backup sends again what the newest snapshot needs of it, and nothing else.
func TestDamageMended(t *testing.T) {
	t.Parallel()
	id := newIdentity(t)
	for _, recipients := range [][]age.Recipient{nil, {id.Recipient()}} {
		w := newWorld(t)
		w.fill(0, 100, 1500)
		for n := range 3 {
			if err := w.use(t.Context(), n, fmt.Sprintf("file %d", n)); err != nil {
				t.Fatal(err)
			}
		}
		dir := t.TempDir()
		store := openFolder(t, dir)
		s := w.service(store)
		s.Recipients = recipients
		follow(t, w, s)
		first := snapshot(t, s)
		for i, kind := range []string{"packs/*", "objects/*", "blobs/*/*", "log/*/*.ltx*", "log/*/*.blobs", "snapshots/*"} {
			if err := w.use(t.Context(), 100+i, fmt.Sprintf("file %d of a segment", i)); err != nil {
				t.Fatal(err)
			}
			send(t, w, s)
			paths, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(kind)))
			if err != nil || len(paths) == 0 {
				t.Fatalf("%s: %v", kind, err)
			}
			if kind == "snapshots/*" { // the newest
				paths = paths[len(paths)-1:]
			}
			was := map[string][]byte{}
			for _, path := range paths {
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				was[path] = content
				changed := slices.Clone(content)
				changed[len(changed)/2] ^= 1
				if err := os.WriteFile(path, changed, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			found, said := verified(t, store)
			if len(found.DamagedObjects) == 0 {
				t.Errorf("%s: nothing was found: %s", kind, said)
			}
			if err := backup.MarkDamaged(t.Context(), store, found.DamagedObjects); err != nil {
				t.Fatal(err)
			}
			if mended := snapshot(t, s); mended.Sent > 2*first.Sent {
				t.Errorf("%s: %d bytes were sent, and %d for everything", kind, mended.Sent, first.Sent)
			}
			if again, said := verified(t, store); again.Faults > 0 {
				t.Errorf("%s: after the next backup: %s", kind, said)
			}
			if next := snapshot(t, s); next.Sent > first.Sent/4 {
				t.Errorf("%s: %d bytes were sent after the backup that mended it", kind, next.Sent)
			}
			for path, content := range was { // older snapshots have it
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		mustVerifyAs(t, store, id)
		left := 0
		if err := store.List(t.Context(), "damaged/", func(backup.Object) error { left++; return nil }); err != nil || left > 0 {
			t.Errorf("%d marks are left, %v", left, err)
		}
		if _, err := s.Retain(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// mustVerifyAs is mustVerify of a store that is encrypted.
func mustVerifyAs(tb testing.TB, store backup.Depot, id age.Identity) {
	tb.Helper()
	v := verification(store, func(line string) { tb.Errorf("verify: %s", line) })
	v.Identities = []age.Identity{id}
	if _, err := v.Run(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// verified verifies the newest snapshot of a store, and returns the faults as well.
func verified(tb testing.TB, store backup.Depot) (out backup.Verified, said string) {
	tb.Helper()
	v := verification(store, func(line string) { said += line + "\n" })
	v.Full = false
	out, err := v.Run(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return out, said
}

// TestWriteOnly: a credential that may only write to a bucket and list it makes backups, sends the
// log, and sends nothing twice, also when its state was lost. Another one restores it.
func TestWriteOnly(t *testing.T) {
	t.Parallel()
	url := s3test.Start(t)
	open := func(key string) backup.Depot {
		d, err := depot.Open("s3://"+s3test.Bucket+"/nest", depot.S3Settings{
			Endpoint: url, Region: "us-east-1", AccessKey: key, SecretKey: "secret", PathStyle: true,
		}, true)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	store, reads := open(s3test.WriteOnly), open("key")
	w := newWorld(t)
	w.fill(0, 1000, 1500)
	if err := w.use(t.Context(), 1, "a file"); err != nil {
		t.Fatal(err)
	}
	s := following(t, w, store)
	first := snapshot(t, s)
	if err := w.write(t.Context(), "update", []int{7, 900}, 1500); err != nil {
		t.Fatal(err)
	}
	send(t, w, s)
	second := snapshot(t, s)
	if second.Sent > first.Sent/5 {
		t.Errorf("%d bytes were sent, the first time %d", second.Sent, first.Sent)
	}
	for name, err := range map[string]error{
		"get": func() error { _, err := store.Get(t.Context(), first.Name); return err }(),
		"verify": func() error {
			_, err := verification(store, func(line string) { t.Errorf("fault: %s", line) }).Run(t.Context())
			return err
		}(),
	} {
		if !errors.Is(err, backup.ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	s.Keep = backup.Keep{Daily: 1}
	if out, err := s.Retain(t.Context()); !errors.Is(err, backup.ErrRefused) || out != (backup.Retained{}) {
		t.Errorf("%+v, %v", out, err)
	}
	// The snapshot of another server with the same name is not known here.
	other := w.service(reads)
	other.State = filepath.Join(t.TempDir(), "state")
	snapshot(t, other)
	if _, name, err := s.Made(t.Context()); err != nil || name == "" {
		t.Errorf("the snapshot of another is not seen: %v", err)
	}
	var said strings.Builder
	noting := *s
	noting.Log = slog.New(slog.NewTextHandler(&said, nil))
	third := snapshot(t, &noting)
	if third.Sent > first.Sent/5 {
		t.Errorf("behind a snapshot of another, %d bytes were sent, the first time %d", third.Sent, first.Sent)
	}
	if at, name, err := s.Made(t.Context()); err != nil || name != "" || !at.Equal(third.At) || !strings.Contains(said.String(), "if another server writes there") {
		t.Errorf("made at %s, want %s, %q, %v: %s", at, third.At, name, err, said.String())
	}
	if err := os.RemoveAll(s.State); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	s = following(t, w, store)
	if lost := snapshot(t, s); lost.Sent < first.Sent/2 {
		t.Errorf("without its state, only %d bytes were sent", lost.Sent)
	}
	w.fill(2000, 2010, 500)
	send(t, w, s)
	if last, replay := restoreAt(t, reads, time.Time{}); last != lastEvent(t, w.dir) || replay.Segments() != 1 {
		t.Errorf("%+v", replay)
	}
	if n := mustVerify(t, reads); n != 5 {
		t.Errorf("%d snapshots", n)
	}
}

// TestMarksRefused: a store that does not let the marks of damage be listed, or one be mended, gets
// backups all the same, and its old ones are removed.
func TestMarksRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 100, 500)
	refused := ""
	store := &hooked{Folder: openFolder(t, t.TempDir()), before: func(_ int64, name string) error {
		if refused != "" && strings.HasPrefix(name, refused) {
			return os.ErrPermission
		}
		return nil
	}}
	s := w.service(store)
	s.Keep = backup.Keep{Daily: 1}
	first := snapshot(t, s)
	if err := backup.MarkDamaged(t.Context(), store, []string{first.Name}); err != nil {
		t.Fatal(err)
	}
	for _, mend := range []bool{false, true} {
		if refused = "list damaged/"; mend {
			refused = "put " + first.Name
		}
		made := snapshot(t, s)
		if out, err := s.Retain(t.Context()); err != nil || out.Snapshots != 1 {
			t.Errorf("%s: %+v, %v", refused, out, err)
		}
		if err := backup.MarkDamaged(t.Context(), store, []string{made.Name}); err != nil {
			t.Fatal(err)
		}
		first = made
	}
}

// unreadable is a store of which some objects cannot be read, at all or behind their first byte.
type unreadable struct {
	*depot.Folder

	prefix string
	late   bool
	err    error
}

// Get implements backup.Depot.
func (u *unreadable) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if !strings.HasPrefix(name, u.prefix) {
		return u.Folder.Get(ctx, name)
	}
	if !u.late {
		return nil, u.err
	}
	body, err := u.Folder.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(body, 1), failing{u.err}), body}, nil
}

// TestMadeRemoved: a server whose newest snapshot was removed has made none, so that the next one is due:
// its log leads on from that.
func TestMadeRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	own := snapshot(t, s)
	w.pass(time.Minute)
	other := w.service(store)
	other.State = t.TempDir()
	theirs := snapshot(t, other)
	for _, c := range []struct {
		removed string
		at      time.Time
		other   string
	}{{own.Name, time.Time{}, theirs.Name}, {theirs.Name, time.Time{}, ""}} {
		if err := store.Remove(t.Context(), c.removed); err != nil {
			t.Fatal(err)
		}
		if at, name, err := s.Made(t.Context()); err != nil || name != c.other || !at.Equal(c.at) {
			t.Errorf("without %s: made at %s, want %s, %q, %v", c.removed, at, c.at, name, err)
		}
	}
}

// TestVerifyAway: a store that cannot be read, as while the network is away, is not damaged: the
// verification says that it could not look. A disk that cannot read a file any more is.
func TestVerifyAway(t *testing.T) {
	t.Parallel()
	reset := errors.New("connection reset by peer")
	for _, recipients := range [][]age.Recipient{nil, {newIdentity(t).Recipient()}} { // nobody opens the latter
		w := newWorld(t)
		folder := openFolder(t, t.TempDir())
		s := w.service(folder)
		s.Recipients = recipients
		follow(t, w, s)
		if err := w.use(t.Context(), 1, "a file"); err != nil {
			t.Fatal(err)
		}
		snapshot(t, s)
		if err := w.use(t.Context(), 2, "a file of a segment"); err != nil {
			t.Fatal(err)
		}
		send(t, w, s)
		for _, prefix := range []string{"snapshots/", "packs/", "objects/", "blobs/", "log/"} {
			for _, late := range []bool{false, true} {
				store := &unreadable{folder, prefix, late, reset}
				out, err := verification(store, func(line string) { t.Errorf("%s, late: %t, a fault: %s", prefix, late, line) }).Run(t.Context())
				if !errors.Is(err, reset) || !strings.Contains(err.Error(), "read "+prefix) || out.Faults > 0 || len(out.DamagedObjects) > 0 {
					t.Errorf("%s, late: %t: %+v, %v", prefix, late, out, err)
				}
				store.err = backup.ErrRefused
				if prefix != "snapshots/" {
					out, err := verification(store, func(line string) { t.Errorf("%s, late: %t, refused, a fault: %s", prefix, late, line) }).Run(t.Context())
					if !errors.Is(err, backup.ErrRefused) || out.Faults > 0 {
						t.Errorf("%s, late: %t, refused: %+v, %v", prefix, late, out, err)
					}
				}
				for _, fault := range []error{syscall.EIO, syscall.Errno(117)} { // EUCLEAN of Linux
					store.err = &os.PathError{Op: "read", Path: "a file", Err: fault}
					if out, err := verification(store, func(string) {}).Run(t.Context()); err != nil || !out.Damaged() {
						t.Errorf("%s, late: %t, of a disk: %+v, %v", prefix, late, out, err)
					}
				}
			}
		}
	}
}

// TestSealedBlobMended: whichever byte of an encrypted blob is damaged, a verification that has the identity
// calls it damaged, by its name, and the next backup sends it again.
func TestSealedBlobMended(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.use(t.Context(), 1, noise(100_000)); err != nil {
		t.Fatal(err)
	}
	dir, id := t.TempDir(), newIdentity(t)
	store := openFolder(t, dir)
	s := w.service(store)
	s.Recipients = []age.Recipient{id.Recipient()}
	snapshot(t, s)
	for _, at := range []func(size int) int{
		func(int) int { return 40 }, // its recipient
		func(int) int { return 0 },
		func(size int) int { return size / 2 },
		func(size int) int { return size - 3 },
	} {
		paths, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%q, %v", paths, err)
		}
		for _, path := range paths { // one of a time before is of no interest any more
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			content[at(len(content))] ^= 1
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var said string
		v := verification(store, func(line string) { said += line + "\n" })
		v.Full, v.Identities = false, []age.Identity{id}
		found, err := v.Run(t.Context())
		if err != nil || found.Faults != 1 || len(found.DamagedObjects) != 1 || !strings.Contains(said, found.DamagedObjects[0]+": it is damaged") {
			t.Fatalf("%+v, %v: %s", found, err, said)
		}
		if err := backup.MarkDamaged(t.Context(), store, found.DamagedObjects); err != nil {
			t.Fatal(err)
		}
		snapshot(t, s)
		v.Fault = func(line string) { t.Errorf("after the next backup: %s", line) }
		if _, err := v.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
