package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"nestbox/backup"
	"nestbox/internal/smalldisk"
	"nestbox/store/storetest"
)

// sealedFollowing is following for recipients.
func sealedFollowing(tb testing.TB, w *world, store backup.Depot, recipients ...age.Recipient) *backup.Service {
	tb.Helper()
	s := w.service(store)
	s.Recipients = recipients
	return follow(tb, w, s)
}

// TestSealedSegments: what was encrypted to one identity comes back with that one, also after a
// snapshot that was made for another. Without it nothing is written.
func TestSealedSegments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	id, other := newIdentity(t), newIdentity(t)
	s := sealedFollowing(t, w, store, id.Recipient())
	snapshot(t, s)
	if err := w.use(t.Context(), 1, "a file"); err != nil {
		t.Fatal(err)
	}
	send(t, w, s)
	before := time.Now()
	time.Sleep(2 * time.Millisecond)
	for name, content := range everything(t, store) {
		if strings.HasSuffix(name, ".ltx.age") != strings.HasPrefix(name, "log/") && !strings.HasSuffix(name, ".blobs") || strings.Contains(string(content), "a file") {
			t.Errorf("%s is in the store, or readable", name)
		}
	}
	forOther := w.service(store)
	forOther.Recipients, forOther.Segments = []age.Recipient{other.Recipient()}, s.Segments
	m := snapshot(t, forOther)
	if m.Chain != "" || s.Segments.NeedsBase() {
		t.Errorf("the snapshot for others is in the chain %q", m.Chain)
	}
	if err := w.use(t.Context(), 2, "another file"); err != nil {
		t.Fatal(err)
	}
	send(t, w, s)
	w.reopen()
	s = sealedFollowing(t, w, store, id.Recipient())
	w.fill(0, 10, 500)
	send(t, w, s)
	restore := func(m *backup.Manifest, who *age.X25519Identity) (*backup.Replay, string, error) {
		dir := filepath.Join(t.TempDir(), "restored")
		var replay *backup.Replay
		err := (&backup.Reader{Depot: store, Identities: []age.Identity{who}}).Restore(t.Context(), m, backup.Target{
			Dir: dir, Named: storetest.BlobFiles, Then: func(r *backup.Replay) error { replay = r; return nil },
		})
		if err == nil {
			lookAt(t, dir)
		}
		return replay, dir, err
	}
	first, err := backup.Pick(t.Context(), store, before)
	if err != nil {
		t.Fatal(err)
	}
	if replay, dir, err := restore(first, id); err != nil || replay.Segments() != 3 || lastEvent(t, dir) != lastEvent(t, w.dir) {
		t.Errorf("%+v, %v", replay, err)
	}
	if replay, _, err := restore(m, other); err != nil || replay.Segments() != 0 {
		t.Errorf("%+v, %v", replay, err)
	}
	for m, who := range map[*backup.Manifest]*age.X25519Identity{first: other, m: id} {
		_, dir, err := restore(m, who)
		if !errors.Is(err, backup.ErrIdentity) || !strings.Contains(err.Error(), "--identity") {
			t.Errorf("%v, want ErrIdentity", err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("with another identity, something was written: %v", err)
		}
	}
}

// stamp gives the objects of a folder that are younger than a time that one.
func stamp(tb testing.TB, dir string, at time.Time) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if fi, err := e.Info(); err != nil || !fi.ModTime().After(at) {
			return err
		}
		return os.Chtimes(path, time.Time{}, at)
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// TestRetainedSegments: of the log stays what leads on from the daily snapshots that are kept, and
// their blobs, whoever removes the rest. What is older goes, and what is younger than a day stays.
func TestRetainedSegments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	store := openFolder(t, dir)
	s := following(t, w, store)
	now := time.Date(2020, 11, 20, 12, 0, 0, 0, time.UTC) // a Friday
	var clock sync.Mutex
	s.Now = func() time.Time { clock.Lock(); defer clock.Unlock(); return now }
	pass := func(d time.Duration) { clock.Lock(); defer clock.Unlock(); stamp(t, dir, now); now = now.Add(d) }
	type state struct {
		at   time.Time
		last int64
	}
	var states []state
	for day := range 5 {
		snapshot(t, s)
		for n := range 2 {
			pass(time.Hour)
			w.fill(day*100+n*10, day*100+n*10+10, 300)
			if err := errors.Join(w.upload(t.Context(), fmt.Sprintf("passing %d %d", day, n)), w.use(t.Context(), day*10+n, fmt.Sprintf("file %d %d", day, n))); err != nil {
				t.Fatal(err)
			}
			send(t, w, s)
			w.pass(2 * time.Hour)
			if err := w.blobs.Collect(t.Context()); err != nil {
				t.Fatal(err)
			}
			states = append(states, state{s.Now(), lastEvent(t, w.dir)})
		}
		pass(22 * time.Hour)
	}
	snapshot(t, s)
	pass(0)
	manual := w.service(store) // another program: it follows nothing
	manual.Now, manual.Keep = s.Now, backup.Keep{Daily: 3, Weekly: 2}
	out, err := manual.Retain(t.Context())
	if err != nil || out.Snapshots != 2 || out.Objects == 0 {
		t.Errorf("%+v, %v", out, err)
	}
	names, err := backup.Names(t.Context(), store)
	if err != nil || len(names) != 4 { // that of Sunday, and three days
		t.Fatalf("%q, %v", names, err)
	}
	for i, want := range states {
		m, err := backup.Pick(t.Context(), store, want.at)
		if i < 6 {
			continue // older than the daily snapshots
		}
		if err != nil {
			t.Fatal(err)
		}
		if last, replay := restoreAt(t, store, want.at); last != want.last || replay.Gap != "" {
			t.Errorf("at %s, from %s, the last event is %d, want %d: %s", want.at, m.Name, last, want.last, replay.Gap)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "log", "*", "*.ltx"))
	for _, path := range left {
		if number, at, _ := strings.Cut(filepath.Base(path), "-"); at < "20201123T" {
			t.Errorf("segment %s is left: %s", number, at)
		}
	}
	if err != nil || len(left) < 5 {
		t.Errorf("%q are left, %v", left, err)
	}
	mustVerify(t, store)
	spans, err := backup.Spans(t.Context(), store)
	if last := len(spans) - 1; err != nil || last < 0 || spans[last].Why != "" || !spans[last].To.Equal(now) {
		t.Errorf("%+v, %v", spans, err)
	}
	// What a chain has that no snapshot leads to yet is as old as a base that takes a day.
	w.reopen()
	if err := os.RemoveAll(filepath.Join(s.State, "log")); err != nil {
		t.Fatal(err)
	}
	next := following(t, w, store)
	next.Now, next.Keep = s.Now, manual.Keep
	snapshot(t, next)
	w.fill(5000, 5010, 300)
	send(t, w, next)
	pass(23 * time.Hour)
	if _, err := next.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, store)
}

// TestFullState: if the disk of the state is full, writes go on, the gap is named, no later start
// goes on as if there were none, and the next snapshot closes it.
func TestFullState(t *testing.T) {
	t.Parallel()
	dir, resize := smalldisk.Mount(t, "4m")
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	s.State = filepath.Join(dir, "state")
	follow(t, w, s)
	snapshot(t, s)
	w.fill(0, 10, 500)
	send(t, w, s)
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(filler, zero{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(s.State, "log", "mark.new") // some file systems leave a last page
	if err := errors.Join(filler.Close(), os.Mkdir(inTheWay, 0o700)); err != nil {
		t.Fatal(err)
	}
	w.fill(10, 20, 500)
	if err := w.db.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.fill(20, 30, 500)
	if waits := s.Segments.Waits(); !errors.Is(waits.Gap, syscall.ENOSPC) || !s.Segments.NeedsBase() {
		t.Errorf("%+v", waits)
	}
	elsewhere := w.service(openFolder(t, t.TempDir()))
	elsewhere.State = t.TempDir()
	snapshot(t, elsewhere) // so that the log starts over
	w.fill(30, 40, 500)
	killed := t.TempDir() // as a kill leaves it
	if err := os.CopyFS(killed, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	later, err := s.OpenSegments()
	if err == nil {
		err = later.Start(t.Context(), storetest.Open(t, storetest.Options{Dir: killed}))
	}
	if err != nil || !later.NeedsBase() {
		t.Errorf("a later start goes on behind what is missing: %v", err)
	}
	resize("64m")
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	snapshot(t, s)
	w.fill(40, 50, 500)
	send(t, w, s)
	if last, replay := restoreAt(t, store, time.Time{}); replay.Segments() != 1 || last != lastEvent(t, w.dir) || s.Segments.NeedsBase() {
		t.Errorf("%+v", replay)
	}
	mustVerify(t, store)
}

// slow is a store that takes nothing of the log until it is let go.
type slow struct {
	backup.Depot

	begun chan struct{}
	gone  chan struct{}
	once  sync.Once
}

// Put implements backup.Depot.
func (d *slow) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if strings.HasPrefix(name, "log/") {
		d.once.Do(func() { close(d.begun) })
		select {
		case <-d.gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return d.Depot.Put(ctx, name, size, body)
}

// TestSlowStore: writes do not wait for a store that is slower than they are. What was given up
// while it was being sent is a gap, and the next snapshot closes it.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := &slow{Depot: openFolder(t, t.TempDir()), begun: make(chan struct{}), gone: make(chan struct{})}
	s := following(t, w, store)
	snapshot(t, s)
	s.Segments.SetMost(1 << 20)
	w.fill(0, 10, 500)
	if err := w.db.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- s.Segments.Send(t.Context()) }()
	<-store.begun
	w.fill(10, 3010, 1000)
	if err := w.db.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if waits := s.Segments.Waits(); !errors.Is(waits.Gap, backup.ErrBehind) || waits.Segments != 0 || !s.Segments.NeedsBase() {
		t.Errorf("%+v", waits)
	}
	close(store.gone)
	if err := <-sent; err != nil {
		t.Errorf("%v", err)
	}
	snapshot(t, s)
	w.fill(3010, 3020, 500)
	send(t, w, s)
	if last, replay := restoreAt(t, store, time.Time{}); replay.Segments() != 1 || last != lastEvent(t, w.dir) {
		t.Errorf("%+v", replay)
	}
	mustVerify(t, store)
}

// TestVacuumBetween: what rewrites the whole file between two segments is in the next. If the
// program that does it has copied the log into the file itself, nothing that is missing goes unseen.
func TestVacuumBetween(t *testing.T) {
	t.Parallel()
	for _, copies := range []bool{false, true} {
		w := newWorld(t)
		store := openFolder(t, t.TempDir())
		s := following(t, w, store)
		w.fill(0, 1000, 1000)
		snapshot(t, s)
		var keys []int
		for n := range 200 {
			keys = append(keys, n)
		}
		if err := w.write(t.Context(), "delete", keys, 0); err != nil {
			t.Fatal(err)
		}
		send(t, w, s)
		size, before := databasePages(t, w.dir), logHeader(t, w.dir)
		if err := storetest.Vacuum(filepath.Join(w.dir, "nestbox.sqlite"), copies); err != nil {
			t.Fatal(err)
		}
		if now := databasePages(t, w.dir); now >= size {
			t.Fatalf("the database has %d pages, and had %d", now, size)
		}
		w.fill(1000, 1010, 500)
		send(t, w, s)
		want := 2
		if s.Segments.NeedsBase() {
			// Where the log has started over, by this server's own time, that program may have
			// copied something unseen.
			if !copies && logHeader(t, w.dir) == before {
				t.Error("what is in the log needs a base")
			}
			snapshot(t, s)
			w.fill(1010, 1020, 500)
			send(t, w, s)
			want = 1
		} // else the server has read the log before that program has copied it, as what follows proves
		if last, replay := restoreAt(t, store, time.Time{}); replay.Segments() != want || last != lastEvent(t, w.dir) || replay.Gap != "" {
			t.Errorf("%+v", replay)
		}
		mustVerify(t, store)
	}
}

// logHeader returns what is another once the write-ahead log has started over.
func logHeader(t *testing.T, dir string) [32]byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "nestbox.sqlite-wal"))
	if err != nil {
		t.Fatal(err)
	}
	var header [32]byte
	copy(header[:], raw)
	return header
}

// TestMarkDoubted: after a kill the log goes on where the mark is. Where that may not be what it was,
// a snapshot begins another chain: after a change of the schema, and after a power cut.
func TestMarkDoubted(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(mark string) string{
		"":                             func(mark string) string { return mark },
		"another schema":               func(mark string) string { return strings.Replace(mark, `"schema":`, `"schema":1`, 1) },
		"another start of the machine": func(mark string) string { return strings.Replace(mark, `"boot":"`, `"boot":"x`, 1) },
	} {
		w := newWorld(t)
		store := openFolder(t, t.TempDir())
		s := following(t, w, store)
		snapshot(t, s)
		w.fill(0, 10, 500)
		send(t, w, s)
		path := filepath.Join(s.State, "log", "mark")
		mark, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(change(string(mark))), 0o600); err != nil {
			t.Fatal(err)
		}
		s = following(t, w, store)
		if s.Segments.NeedsBase() != (what != "") {
			t.Errorf("%s: it needs a base: %t, %s", what, s.Segments.NeedsBase(), mark)
		}
		w.fill(10, 20, 500)
		if what != "" {
			snapshot(t, s)
		}
		w.fill(20, 30, 500)
		send(t, w, s)
		if last, _ := restoreAt(t, store, time.Time{}); last != lastEvent(t, w.dir) {
			t.Errorf("%s: the last event is %d", what, last)
		}
		mustVerify(t, store)
	}
}

// TestEachChain: a full verification replays what leads from each snapshot to the next, also of a
// chain that has ended.
func TestEachChain(t *testing.T) {
	t.Parallel()
	w, dir, store, s := followed(t)
	for n := range 2 { // of the first chain, two snapshots
		w.fill(n*10, n*10+10, 300)
		send(t, w, s)
		w.fill(n*10+500, n*10+510, 300)
		send(t, w, s)
		snapshot(t, s)
	}
	w.fill(100, 110, 300)
	send(t, w, s)
	w.reopen()
	if err := os.RemoveAll(filepath.Join(s.State, "log")); err != nil {
		t.Fatal(err)
	}
	s = following(t, w, store)
	snapshot(t, s)
	w.fill(200, 210, 300)
	send(t, w, s)
	out, err := verification(store, func(line string) { t.Errorf("fault: %s", line) }).Run(t.Context())
	if err != nil || out.Segments != 6 || out.Snapshots != 4 {
		t.Errorf("%+v, %v", out, err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*", "*.ltx"))
	if err != nil || len(segments) != 6 {
		t.Fatalf("%q, %v", segments, err)
	}
	for _, path := range segments {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := slices.Clone(content)
		changed[len(changed)/2] ^= 1
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		var said string
		if _, err := verification(store, func(line string) { said += line + "\n" }).Run(t.Context()); err != nil || !strings.Contains(said, filepath.Base(path)) {
			t.Errorf("a flipped bit in %s: %q, %v", path, said, err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// aged makes every object of a folder older.
func aged(tb testing.TB, dir string, by time.Duration) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		return os.Chtimes(path, time.Time{}, fi.ModTime().Add(-by))
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// TestRemovedMeanwhile: what a run that broke off has sent, and another program removes because of
// its age while the next run is about to end, is in no snapshot.
func TestRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 300, 1500)
	for n := range 3 {
		if err := w.use(t.Context(), n, fmt.Sprintf("file %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, recipients := range [][]age.Recipient{nil, {newIdentity(t).Recipient()}} {
		dir, gone, removed := t.TempDir(), errors.New("gone"), 0
		store := &hooked{Folder: openFolder(t, dir), before: func(_ int64, name string) error {
			if strings.HasPrefix(name, "put objects/") { // everything else is there
				return gone
			}
			return nil
		}}
		s := w.service(store)
		s.Recipients, s.State = recipients, t.TempDir()
		if _, err := s.Snapshot(t.Context()); !errors.Is(err, gone) {
			t.Fatal(err)
		}
		aged(t, dir, 23*time.Hour)
		store.before = func(_ int64, name string) error {
			if !strings.HasPrefix(name, "put snapshots/") {
				return nil
			}
			aged(t, dir, 2*time.Hour)
			other := w.service(store.Folder)
			other.State, other.Keep = t.TempDir(), backup.Keep{Daily: 1}
			out, err := other.Retain(t.Context())
			removed += out.Objects
			return err
		}
		snapshot(t, s)
		if removed == 0 && recipients != nil { // else what is sent again has the same name
			t.Error("nothing was removed")
		}
		if _, said := verified(t, store.Folder); said != "" {
			t.Error(said)
		}
	}
}
