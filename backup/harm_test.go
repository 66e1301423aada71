package backup_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/internal/durable"
	"nestbox/internal/smalldisk"
	"nestbox/store/storetest"
)

// TestRecipientExchanged: those who can open a snapshot can open all of it, also when others
// could open the one before, or one that broke off.
func TestRecipientExchanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 50, 500)
	if err := w.use(t.Context(), 1, "a file"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a, b := newIdentity(t), newIdentity(t)
	to := func(store backup.Depot, ids ...*age.X25519Identity) *backup.Service {
		s := w.service(store)
		for _, id := range ids {
			s.Recipients = append(s.Recipients, id.Recipient())
		}
		return s
	}
	gone := errors.New("gone")
	broken := &hooked{Folder: openFolder(t, dir), before: func(_ int64, name string) error {
		if strings.HasPrefix(name, "put objects/") {
			return gone
		}
		return nil
	}}
	if _, err := to(broken, a).Snapshot(t.Context()); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	store := openFolder(t, dir)
	for i, ids := range [][]*age.X25519Identity{{b}, {a}, {a, b}, {b, a}, {b}} {
		m := snapshot(t, to(store, ids...))
		for _, id := range ids {
			mustRestore(t, &backup.Reader{Depot: store, Identities: []age.Identity{id}}, m, "")
		}
		if i == 3 && m.Sent > m.Size()/10 {
			t.Errorf("to the same recipients in another order, %d bytes were sent", m.Sent)
		}
	}
}

// TestAhead: a snapshot of a later time, which a clock that was wrong made, costs none of the
// others, and is neither taken for the newest.
func TestAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	now := time.Now()
	s.Now = func() time.Time { return now.AddDate(1, 0, 0) }
	ahead := snapshot(t, s)
	s.Now, s.Keep = func() time.Time { return now }, backup.Keep{Daily: 1}
	var last *backup.Manifest
	for range 2 {
		now = now.Add(24 * time.Hour)
		last = snapshot(t, s)
		if last.Ahead != ahead.Name {
			t.Errorf("%q is ahead, want %q", last.Ahead, ahead.Name)
		}
		if _, err := s.Retain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := backup.Names(t.Context(), store); !slices.Equal(got, []string{last.Name, ahead.Name}) || err != nil {
			t.Errorf("%q are left, %v", got, err)
		}
	}
	if got, err := backup.Latest(t.Context(), store, now); err != nil || got.Name != last.Name {
		t.Errorf("%+v, %v", got, err)
	}
	if at, other, err := s.Made(t.Context()); err != nil || !at.Equal(last.At) || other != "" {
		t.Errorf("%s, %q, %v, want %s", at, other, err, last.At)
	}
	now = ahead.At.Add(time.Hour) // it is in the past now, and still no other server's
	if at, other, err := s.Made(t.Context()); err != nil || !at.Equal(last.At) || other != "" {
		t.Errorf("%s, %q, %v, want %s", at, other, err, last.At)
	}
	// One that was renamed is none.
	other := strings.Replace(last.Name, "snapshots/20", "snapshots/21", 1)
	if err := os.Rename(filepath.Join(store.String(), last.Name), filepath.Join(store.String(), other)); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Load(t.Context(), store, other); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("%v, want ErrDamaged", err)
	}
}

// TestDamagedNewest: what is damaged or missing of the newest snapshot costs nothing if the log leads past
// it from an older one, however close they are. Each snapshot that is left out is named.
func TestDamagedNewest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 300, 1500)
	store := openFolder(t, t.TempDir())
	var at atomic.Int64 // milliseconds
	at.Store(time.Now().Truncate(time.Second).UnixMilli())
	s := w.service(store)
	s.Now = func() time.Time { return time.UnixMilli(at.Load()) }
	follow(t, w, s)
	before := snapshot(t, s)
	at.Add(100)
	w.fill(300, 310, 300)
	send(t, w, s)
	at.Add(100)
	newest := snapshot(t, s)
	own := ""
	for _, o := range newest.Packs {
		if !slices.Contains(before.Packs, o) {
			own = o.Name
		}
	}
	if own == "" {
		t.Fatal("the newest snapshot has no pack of its own")
	}
	// check restores the state at a time, and returns what leads to it.
	check := func(what string, at time.Time, left ...string) *backup.Replay {
		t.Helper()
		var replay *backup.Replay
		dir := filepath.Join(t.TempDir(), "restored")
		err := (&backup.Reader{Depot: store}).RestoreNewest(t.Context(), backup.Target{
			Dir: dir, At: at, Named: storetest.BlobFiles, Then: func(r *backup.Replay) error { replay = r; return nil },
		})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		lookAt(t, dir)
		if lastEvent(t, dir) != lastEvent(t, w.dir) || len(replay.LeftOut) != len(left) {
			t.Errorf("%s: the last event is %d, %+v", what, lastEvent(t, dir), replay)
		}
		for i, name := range left[:min(len(left), len(replay.LeftOut))] {
			if !strings.Contains(replay.LeftOut[i], name) {
				t.Errorf("%s: %q was left out, want %s", what, replay.LeftOut[i], name)
			}
		}
		return replay
	}
	harm := func(what string, left string, segments int, later bool, names ...string) {
		t.Helper()
		for _, name := range names {
			path := filepath.Join(store.String(), name)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			flip(t, path)
			for _, gone := range []bool{false, true} {
				if gone && strings.HasPrefix(name, "snapshots/") {
					continue // it is not listed
				}
				if gone {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
				for _, at := range []time.Time{{}, s.Now().Add(time.Hour)} {
					replay := check(what+" "+name, at, left)
					if replay.Snapshot().Name != before.Name || replay.Segments() != segments || (replay.Gap == "") != later {
						t.Errorf("%s %s: %+v", what, name, replay)
					}
				}
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	check("nothing is damaged", time.Time{})
	harm("at the end", newest.Name, 1, false, newest.Name, newest.Database.Name, own)
	at.Add(100)
	w.fill(310, 320, 300)
	send(t, w, s)
	harm("with a segment", newest.Name, 2, true, newest.Name, newest.Database.Name, own)
	// If none is left, the newest is what the error is about. A store that cannot be read tells nothing.
	flip(t, filepath.Join(store.String(), newest.Name))
	reset := errors.New("connection reset by peer")
	for _, prefix := range []string{"snapshots/", "packs/", "objects/", before.Name} {
		for _, late := range []bool{false, true} {
			dir := filepath.Join(t.TempDir(), "restored")
			err := (&backup.Reader{Depot: &unreadable{store, prefix, late, reset}}).RestoreNewest(t.Context(), backup.Target{Dir: dir, Named: storetest.BlobFiles})
			if !errors.Is(err, reset) {
				t.Errorf("%s, late: %t: %v", prefix, late, err)
			}
		}
	}
	flip(t, filepath.Join(store.String(), before.Name))
	err := (&backup.Reader{Depot: store}).RestoreNewest(t.Context(), backup.Target{Dir: filepath.Join(t.TempDir(), "restored")})
	if !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), newest.Name) {
		t.Errorf("all are damaged: %v", err)
	}
}

// TestHostileStore: those who can write to a store lead no restore to other files, and do
// not make it wait.
func TestHostileStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	m := snapshot(t, w.service(store))
	content, err := os.ReadFile(filepath.Join(store.String(), m.Name))
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.TrimPrefix(m.Database.Name, "objects/")
	for _, name := range []string{
		"../../dev/zero", "objects/../" + hash, "snapshots/" + hash, "objects/" + hash + ".other", hash, "objects/x/" + hash, "objects/" + hash[:10],
	} {
		changed := []byte(strings.ReplaceAll(string(content), m.Database.Name, name))
		sum := sha256.Sum256(changed)
		to := m.Name[:strings.IndexByte(m.Name, '-')+1] + hex.EncodeToString(sum[:]) + ".json"
		if err := os.WriteFile(filepath.Join(store.String(), to), changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Load(t.Context(), store, to); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%q: %v, want ErrDamaged", name, err)
		}
	}
	to := m.Name[:strings.IndexByte(m.Name, '-')+1] + strings.Repeat("ab", 32) + ".json"
	path := filepath.Join(store.String(), to)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { // without a writer, an open of it waits
		_, err := backup.Load(context.WithoutCancel(t.Context()), store, to)
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("%v, want ErrDamaged", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits for a pipe")
	}
}

// TestRestoreAgain: a restore touches nothing that it did not write, nor what is in use. One
// that is repeated, with another snapshot too, has nothing of the first.
func TestRestoreAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, content := range []string{"only in the first", "this one as well"} {
		if err := w.upload(t.Context(), content); err != nil {
			t.Fatal(err)
		}
	}
	store := openFolder(t, t.TempDir())
	id := newIdentity(t)
	s := w.service(store)
	s.Recipients = []age.Recipient{id.Recipient()}
	first := snapshot(t, s)
	w.pass(2 * time.Hour)
	if err := w.blobs.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.dir, "admin_password")); err != nil {
		t.Fatal(err)
	}
	second := snapshot(t, s)
	to := backup.Target{Dir: filepath.Join(t.TempDir(), "new")}
	if err := (&backup.Reader{Depot: store}).Restore(t.Context(), first, to); !errors.Is(err, backup.ErrIdentity) {
		t.Errorf("%v, want ErrIdentity", err)
	}
	if _, err := os.Stat(to.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("with another identity, something was written: %v", err)
	}
	gone := errors.New("gone")
	puts, blobs := 0, 0
	broken := &backup.Reader{Identities: []age.Identity{id}, Depot: &hooked{Folder: store, before: func(_ int64, name string) error {
		if strings.HasPrefix(name, "get blobs/") {
			if blobs++; blobs > 1 {
				return gone
			}
		}
		puts++
		return nil
	}}}
	if err := broken.Restore(t.Context(), first, to); !errors.Is(err, gone) || puts < 3 {
		t.Fatalf("%v after %d", err, puts)
	}
	r := &backup.Reader{Depot: store, Identities: []age.Identity{id}}
	release, err := durable.Lock(to.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Restore(t.Context(), first, to); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("%v, want ErrLocked", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(to.Dir, backup.DatabaseName)
	if err := os.WriteFile(mine, []byte("of a server"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Restore(t.Context(), first, to); !errors.Is(err, backup.ErrNotEmpty) || !strings.Contains(fmt.Sprint(err), backup.DatabaseName) {
		t.Errorf("%v, want ErrNotEmpty", err)
	}
	if got, err := os.ReadFile(mine); string(got) != "of a server" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Remove(mine); err != nil {
		t.Fatal(err)
	}
	locked := false
	to.Then = func(*backup.Replay) error {
		_, err := durable.Lock(to.Dir)
		locked = errors.Is(err, durable.ErrLocked)
		return nil
	}
	if err := r.Restore(t.Context(), second, to); err != nil || !locked {
		t.Fatalf("%v, locked at the end: %t", err, locked)
	}
	var got []string
	err = filepath.WalkDir(to.Dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			got = append(got, e.Name())
		}
		return err
	})
	if want := []string{"keyring.json", durable.LockName, backup.DatabaseName}; !slices.Equal(got, want) || err != nil {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// stalling is a store that takes no packs, until its context ends.
type stalling struct {
	*depot.Folder

	begun chan struct{}
}

// Put implements backup.Depot.
func (s stalling) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if !strings.HasPrefix(name, "packs/") {
		return s.Folder.Put(ctx, name, size, body)
	}
	close(s.begun)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return errors.New("the run goes on")
	}
}

// growing is a database whose log has grown too much once begun is closed.
type growing struct {
	backup.Database

	begun chan struct{}
}

type growingHeld struct {
	backup.Held

	begun chan struct{}
}

// Hold implements backup.Database.
func (g growing) Hold(ctx context.Context) (backup.Held, error) {
	held, err := g.Database.Hold(ctx)
	return growingHeld{held, g.begun}, err
}

// LogSize implements backup.Held.
func (g growingHeld) LogSize() int64 {
	select {
	case <-g.begun:
		return backup.MaxLog + 1
	default:
		return 0
	}
}

// TestStalledStore: a store that takes nothing does not let the log grow without end.
func TestStalledStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begun := make(chan struct{})
	s := w.service(stalling{openFolder(t, t.TempDir()), begun})
	s.Source.Database = growing{s.Source.Database, begun}
	if _, err := s.Snapshot(t.Context()); !errors.Is(err, backup.ErrLog) {
		t.Errorf("%v, want ErrLog", err)
	}
}

// TestKeysApartKept: the file of keys keeps those of older snapshots, and one that is something
// else is left alone before anything is sent.
func TestKeysApartKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	s.KeysApart = filepath.Join(t.TempDir(), "keys.json")
	r := &backup.Reader{Depot: store}
	made := map[string]*backup.Manifest{}
	for _, content := range []string{"first\n", "second\n", "second\n"} {
		if err := os.WriteFile(filepath.Join(w.dir, "admin_password"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		made[content] = snapshot(t, s)
	}
	for want, m := range made {
		dir := mustRestore(t, r, m, s.KeysApart)
		if got, err := os.ReadFile(filepath.Join(dir, "admin_password")); string(got) != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	raw, err := os.ReadFile(s.KeysApart)
	if n := strings.Count(string(raw), `"id"`); n != 2 || err != nil {
		t.Errorf("it has %d sets of keys, %v", n, err)
	}
	apart := s.KeysApart
	s.KeysApart = filepath.Join(t.TempDir(), "other.json")
	snapshot(t, w.service(store))
	m := snapshot(t, s)
	err = r.Restore(t.Context(), m, backup.Target{Dir: filepath.Join(t.TempDir(), "x"), Keys: apart})
	if !errors.Is(err, backup.ErrOtherKeys) {
		t.Errorf("%v, want ErrOtherKeys", err)
	}
	before := len(everything(t, store))
	mine := filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(mine, []byte("a diary"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{mine, filepath.Join(mine, "below"), filepath.Join(t.TempDir(), "missing", "keys.json"), t.TempDir()} {
		s.KeysApart = path
		if _, err := s.Snapshot(t.Context()); err == nil {
			t.Errorf("%s was accepted", path)
		}
	}
	if got, err := os.ReadFile(mine); string(got) != "a diary" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got := len(everything(t, store)); got != before {
		t.Errorf("%d objects were sent", got-before)
	}
}

// TestFullScratch: a folder that is too small to restore to says nothing about the store.
func TestFullScratch(t *testing.T) {
	t.Parallel()
	scratch, _ := smalldisk.Mount(t, "64k")
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	snapshot(t, w.service(store))
	v := verification(store, func(line string) { t.Errorf("fault: %s", line) })
	v.Scratch = scratch
	if _, err := v.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--scratch") {
		t.Errorf("%v", err)
	}
}

// TestGoneAfterBreak: a file that is missing on the server after a run broke off keeps no
// backup from being made, and does not make the store a damaged one.
func TestGoneAfterBreak(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 3 {
		if err := w.use(t.Context(), n, fmt.Sprintf("file %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	m := snapshot(t, s)
	if err := errors.Join(os.RemoveAll(s.State), os.Remove(filepath.Join(store.String(), m.Name))); err != nil {
		t.Fatal(err)
	}
	var first string
	if err := w.files.Each(t.Context(), func(path, _ string) error { first = path; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.dir, "blobs", first)); err != nil {
		t.Fatal(err)
	}
	if m = snapshot(t, s); m.Gone != 1 {
		t.Errorf("%d are gone", m.Gone)
	}
	out, err := verification(store, func(string) {}).Run(t.Context())
	if err != nil || out.Faults != 1 || out.Damaged() {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestTwoAtOnce: of two servers that begin a store at once, none ends with success beside the
// other.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := newWorld(t)
	w := newWorld(t)
	done := false
	store := &hooked{Folder: openFolder(t, dir), before: func(_ int64, name string) error {
		if strings.HasPrefix(name, "put snapshots/") && !done {
			done = true
			s := other.service(openFolder(t, dir))
			s.Source.DID = "did:web:other.test"
			_, err := s.Snapshot(t.Context())
			return err
		}
		return nil
	}}
	if _, err := w.service(store).Snapshot(t.Context()); !errors.Is(err, backup.ErrOther) {
		t.Errorf("%v, want ErrOther", err)
	}
	if names, err := backup.Names(t.Context(), store); len(names) != 1 || err != nil {
		t.Errorf("%q, %v", names, err)
	}
}

// TestShortBlob: a blob's file that is shorter in the store than it was sent is sent again, and
// everything is if Again is set.
func TestShortBlob(t *testing.T) {
	t.Parallel()
	for _, recipients := range [][]age.Recipient{nil, {newIdentity(t).Recipient()}} {
		w := newWorld(t)
		if err := w.use(t.Context(), 1, "a file that is cut"); err != nil {
			t.Fatal(err)
		}
		store := openFolder(t, t.TempDir())
		s := w.service(store)
		s.Recipients = recipients
		first := snapshot(t, s)
		if second := snapshot(t, s); second.Sent > first.Sent/2 {
			t.Errorf("%d bytes were sent for nothing", second.Sent)
		}
		for name, content := range everything(t, store) {
			if strings.HasPrefix(name, "blobs/") {
				if err := os.WriteFile(filepath.Join(store.String(), name), content[:len(content)-1], 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		snapshot(t, s)
		lookAgain(t, store)
		// A bit that flipped is not seen in a listing.
		for name, content := range everything(t, store) {
			if !strings.HasPrefix(name, "snapshots/") {
				content[len(content)/2] ^= 1
				if err := os.WriteFile(filepath.Join(store.String(), name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.Again = true
		snapshot(t, s)
		lookAgain(t, store)
	}
}

// lookAgain fails the test for each fault of the newest snapshot.
func lookAgain(t *testing.T, store backup.Depot) {
	t.Helper()
	v := verification(store, func(line string) { t.Errorf("fault: %s", line) })
	v.Full = false
	if _, err := v.Run(t.Context()); err != nil {
		t.Error(err)
	}
}
