package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/blob/disk"
	"nestbox/store/storetest"
)

// following returns a service whose segments follow the world's database.
func following(tb testing.TB, w *world, store backup.Depot) *backup.Service {
	tb.Helper()
	return follow(tb, w, w.service(store))
}

// follow makes the segments of a service follow the world's database.
func follow(tb testing.TB, w *world, s *backup.Service) *backup.Service {
	tb.Helper()
	segments, err := s.OpenSegments()
	if err == nil {
		err = segments.Start(tb.Context(), w.db)
	}
	if err != nil {
		tb.Fatal(err)
	}
	s.Segments = segments
	return s
}

func send(tb testing.TB, w *world, s *backup.Service) {
	tb.Helper()
	if err := errors.Join(w.db.Cut(tb.Context()), s.Segments.Send(tb.Context())); err != nil {
		tb.Fatal(err)
	}
}

// restoreAt restores a store to a time, zero for the newest, verifies it and returns how many
// events it has.
func restoreAt(tb testing.TB, store backup.Depot, at time.Time) (last int64, replay *backup.Replay) {
	tb.Helper()
	m, err := backup.Pick(tb.Context(), store, at)
	if err != nil {
		tb.Fatal(err)
	}
	dir := filepath.Join(tb.TempDir(), "restored")
	err = (&backup.Reader{Depot: store}).Restore(tb.Context(), m, backup.Target{
		Dir: dir, At: at, Named: storetest.BlobFiles, Then: func(r *backup.Replay) error { replay = r; return nil },
	})
	if err != nil {
		tb.Fatal(err)
	}
	lookAt(tb, dir)
	head := lastEvent(tb, dir)
	if head != replay.LastEvent {
		tb.Errorf("restored to %s: the last event is %d, and the segment has %d", at, head, replay.LastEvent)
	}
	return head, replay
}

// lookAt verifies a data directory that was restored.
func lookAt(tb testing.TB, dir string) {
	tb.Helper()
	err := verifyDir(tb.Context(), dir, disk.Look(filepath.Join(dir, "blobs"), ""), func(line string) { tb.Errorf("restored to %s: %s", dir, line) })
	if err != nil {
		tb.Fatal(err)
	}
}

// databasePages returns the size of a database that is open, in pages, as its header tells.
func databasePages(tb testing.TB, dir string) int {
	tb.Helper()
	n, err := storetest.PageCount(filepath.Join(dir, "nestbox.sqlite"))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func lastEvent(tb testing.TB, dir string) int64 {
	tb.Helper()
	view, err := storetest.Inspector(dir).Open(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	last, err := view.LastEvent()
	if err := errors.Join(err, view.Close()); err != nil {
		tb.Fatal(err)
	}
	return last
}

// TestPointInTime: each time between snapshots comes back, with its blobs, whatever the log
// and the database went through.
func TestPointInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	s := following(t, w, store)
	if !s.Segments.NeedsBase() {
		t.Error("it needs no base")
	}
	snapshot(t, s)
	if s.Segments.NeedsBase() {
		t.Error("it needs another base")
	}
	type state struct {
		at   time.Time
		last int64
	}
	var states []state
	step := func() {
		send(t, w, s)
		last := lastEvent(t, w.dir)
		states = append(states, state{time.Now(), last})
		time.Sleep(2 * time.Millisecond)
	}
	w.fill(0, 300, 500)
	step()
	if err := w.use(t.Context(), 1, "a file"); err != nil {
		t.Fatal(err)
	}
	step()
	w.fill(300, 900, 1000)
	step()
	snapshot(t, s) // the chain goes on
	w.fill(900, 1200, 500)
	step()
	w.reopen()
	s = following(t, w, store)
	if s.Segments.NeedsBase() {
		t.Error("a restart needs another base")
	}
	w.fill(1200, 1300, 500)
	if err := w.use(t.Context(), 2, "another file"); err != nil {
		t.Fatal(err)
	}
	step()
	for _, want := range states {
		if last, replay := restoreAt(t, store, want.at); last != want.last || replay.Gap != "" {
			t.Errorf("at %s the last event is %d, want %d; %+v", want.at, last, want.last, replay)
		}
	}
	if last, _ := restoreAt(t, store, time.Time{}); last != states[len(states)-1].last {
		t.Errorf("the newest state ends with %d, want %d", last, states[len(states)-1].last)
	}
	mustVerify(t, store)
	spans, err := backup.Spans(t.Context(), store)
	if err != nil || len(spans) != 1 || spans[0].Why != "" || spans[0].To.Before(states[len(states)-2].at) {
		t.Errorf("%+v, %v", spans, err)
	}
}

// followed returns a world whose log goes to a store in a folder, which has its first snapshot.
func followed(tb testing.TB) (w *world, dir string, store *depot.Folder, s *backup.Service) {
	tb.Helper()
	w, dir = newWorld(tb), tb.TempDir()
	store = openFolder(tb, dir)
	s = following(tb, w, store)
	snapshot(tb, s)
	return w, dir, store, s
}

// TestSegmentHarm: a segment that is missing, damaged or that two servers wrote is named, and
// what is before it comes back.
func TestSegmentHarm(t *testing.T) {
	t.Parallel()
	w, dir, store, s := followed(t)
	for i := range 4 {
		w.fill(i*10, i*10+10, 500)
		send(t, w, s)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*", "*.ltx"))
	if err != nil || len(segments) != 4 {
		t.Fatalf("%q, %v", segments, err)
	}
	third, err := os.ReadFile(segments[2])
	if err != nil {
		t.Fatal(err)
	}
	faults := func() (said string) {
		_, err := verification(store, func(line string) { said += line + "\n" }).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	flipped := append([]byte{}, third...)
	flipped[len(flipped)/2] ^= 1
	write := func(path string, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(segments[2], flipped)
	if said := faults(); !strings.Contains(said, filepath.Base(segments[2])) {
		t.Errorf("a flipped bit: %q", said)
	}
	if _, replay := restoreAt(t, store, time.Time{}); replay.Segments() != 2 || !strings.Contains(replay.Gap, "segment 3 of the log") || !strings.Contains(replay.Gap, "is damaged") {
		t.Errorf("%+v", replay)
	}
	if err := os.Remove(segments[2]); err != nil {
		t.Fatal(err)
	}
	if said := faults(); !strings.Contains(said, "segment 3 of the log") || !strings.Contains(said, "is missing") {
		t.Errorf("a missing segment: %q", said)
	}
	if _, replay := restoreAt(t, store, time.Time{}); replay.Segments() != 2 || !strings.Contains(replay.Gap, "is missing") {
		t.Errorf("%+v", replay)
	}
	spans, err := backup.Spans(t.Context(), store)
	if err != nil || len(spans) != 1 || !strings.Contains(spans[0].Why, "segment 3") {
		t.Errorf("%+v, %v", spans, err)
	}
	write(segments[2], third)
	write(strings.Replace(segments[2], "Z-", "Z-1", 1), third)
	if said := faults(); !strings.Contains(said, "two servers") {
		t.Errorf("two of one number: %q", said)
	}
}

// away is a store that can be away.
type away struct {
	*depot.Folder

	mu   sync.Mutex
	gone error
}

func (a *away) set(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone = err
}

func (a *away) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	a.mu.Lock()
	err := a.gone
	a.mu.Unlock()
	if err != nil {
		return err
	}
	return a.Folder.Put(ctx, name, size, body)
}

// TestStoreAway: while the store is away writes go on, and all arrives when it is back. What
// is more than may wait leaves a gap, which the next snapshot closes.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := &away{Folder: openFolder(t, t.TempDir())}
	s := following(t, w, store)
	snapshot(t, s)
	gone := errors.New("gone")
	store.set(gone)
	for i := range 3 {
		w.fill(i*50, i*50+50, 1000)
		if err := errors.Join(w.db.Cut(t.Context()), s.Segments.Send(t.Context())); !errors.Is(err, gone) {
			t.Fatal(err)
		}
	}
	if waits := s.Segments.Waits(); waits.Segments != 3 || waits.Gap != nil {
		t.Errorf("%+v", waits)
	}
	store.set(nil)
	send(t, w, s)
	if _, replay := restoreAt(t, store, time.Time{}); replay.Segments() != 3 {
		t.Errorf("%+v", replay)
	}
	store.set(gone)
	s.Segments.SetMost(1 << 20)
	w.fill(1000, 5000, 1000)
	if err := w.db.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if waits := s.Segments.Waits(); waits.Segments != 0 || !errors.Is(waits.Gap, backup.ErrBehind) || !s.Segments.NeedsBase() {
		t.Errorf("%+v", waits)
	}
	w.fill(5000, 5010, 1000)
	store.set(nil)
	snapshot(t, s)
	w.fill(5010, 5020, 1000)
	send(t, w, s)
	if _, replay := restoreAt(t, store, time.Time{}); replay.Segments() != 1 || s.Segments.NeedsBase() {
		t.Errorf("%+v", replay)
	}
	spans, err := backup.Spans(t.Context(), store)
	if err != nil || len(spans) != 2 || !strings.Contains(spans[0].Why, "begins another log") || spans[1].Why != "" {
		t.Errorf("%+v, %v", spans, err)
	}
}

// flip changes a bit in the middle of a file, and returns what puts it back.
func flip(tb testing.TB, path string) (back func()) {
	tb.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	changed := bytes.Clone(content)
	changed[len(changed)/2] ^= 1
	write := func(content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	write(changed)
	return func() { write(content) }
}

// TestAheadHarm: of what follows a state that was restored, all is found up to a segment that is
// damaged or missing, and that one is named.
func TestAheadHarm(t *testing.T) {
	t.Parallel()
	w, dir, store, s := followed(t)
	var at time.Time
	var events []int64
	step := func() {
		w.fill(len(events)*10, len(events)*10+10, 500)
		send(t, w, s)
		events = append(events, lastEvent(t, w.dir))
	}
	step()
	time.Sleep(2 * time.Millisecond)
	at = time.Now()
	time.Sleep(2 * time.Millisecond)
	for range 3 {
		step()
	}
	check := func(what string, last int64, gap ...string) {
		t.Helper()
		m, err := backup.Pick(t.Context(), store, at)
		if err != nil {
			t.Fatal(err)
		}
		r, restored, later := &backup.Reader{Depot: store}, filepath.Join(t.TempDir(), "restored"), t.TempDir()
		var rest *backup.Replay
		err = r.Restore(t.Context(), m, backup.Target{Dir: restored, At: at, Named: storetest.BlobFiles, Then: func(done *backup.Replay) (err error) {
			rest, err = r.Ahead(t.Context(), done, filepath.Join(restored, backup.DatabaseName), filepath.Join(later, backup.DatabaseName))
			return err
		}})
		if err != nil || rest == nil {
			t.Fatalf("%s: %+v, %v", what, rest, err)
		}
		if got := lastEvent(t, later); got != last || rest.LastEvent != last || (rest.Gap == "") != (len(gap) == 0) {
			t.Errorf("%s: the last event is %d, want %d; %+v", what, got, last, rest)
		}
		for _, text := range gap {
			if !strings.Contains(rest.Gap, text) {
				t.Errorf("%s: the gap is %q, want %q in it", what, rest.Gap, text)
			}
		}
	}
	segments := func() []string {
		t.Helper()
		paths, err := filepath.Glob(filepath.Join(dir, "log", "*", "*.ltx"))
		if err != nil || len(paths) != len(events) {
			t.Fatalf("%q, %v", paths, err)
		}
		return paths
	}
	check("nothing is damaged", events[3])
	for i, path := range segments()[1:] {
		back := flip(t, path)
		check("damaged", events[i], fmt.Sprintf("segment %d of the log", i+2), "is damaged")
		back()
	}
	third := segments()[2]
	if err := os.Rename(third, filepath.Join(dir, "third")); err != nil {
		t.Fatal(err)
	}
	check("missing", events[1], "segment 3 of the log", "is missing")
	if err := os.Rename(filepath.Join(dir, "third"), third); err != nil {
		t.Fatal(err)
	}
	newest := snapshot(t, s)
	step()
	check("behind a later snapshot", events[4])
	for _, name := range []string{newest.Name, newest.Database.Name} {
		back := flip(t, filepath.Join(dir, name))
		check("behind a later snapshot, which is damaged", events[4])
		back()
	}
	// What only a damaged snapshot has is named.
	alone := snapshot(t, w.service(store))
	flip(t, filepath.Join(dir, alone.Name))
	check("the newest snapshot is damaged", events[4], alone.Name)
	if err := os.Remove(filepath.Join(dir, alone.Name)); err != nil {
		t.Fatal(err)
	}
	flip(t, segments()[4])
	check("damaged behind a later snapshot", events[3], "segment 5 of the log", "is damaged")
}

// TestListHarm: a list of the blobs of a segment that is damaged or missing costs a restore nothing: the
// blobs are found by their keys. One that the store lacks as well is missing, and named.
func TestListHarm(t *testing.T) {
	t.Parallel()
	identity := newIdentity(t)
	for _, recipients := range [][]age.Recipient{nil, {identity.Recipient()}} {
		w, dir := newWorld(t), t.TempDir()
		s := w.service(openFolder(t, dir))
		s.Recipients = recipients
		follow(t, w, s)
		snapshot(t, s)
		for i := range 3 {
			if err := w.use(t.Context(), i, fmt.Sprintf("file %d", i)); err != nil {
				t.Fatal(err)
			}
			send(t, w, s)
		}
		// restored returns what is wrong with the newest state.
		restored := func(what string) (said string) {
			t.Helper()
			m, err := backup.Latest(t.Context(), s.Depot, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(t.TempDir(), "restored")
			err = (&backup.Reader{Depot: s.Depot, Identities: []age.Identity{identity}}).Restore(t.Context(), m, backup.Target{
				Dir: to, Named: storetest.BlobFiles, Then: func(replay *backup.Replay) error {
					if replay.Segments() != 3 || replay.Gap != "" {
						t.Errorf("%s: %+v", what, replay)
					}
					return nil
				},
			})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			err = verifyDir(t.Context(), to, disk.Look(filepath.Join(to, "blobs"), ""), func(line string) { said += line + "\n" })
			if err != nil || lastEvent(t, to) != lastEvent(t, w.dir) {
				t.Errorf("%s: %v", what, err)
			}
			return said
		}
		lists, err := filepath.Glob(filepath.Join(dir, "log", "*", "*.blobs"))
		if err != nil || len(lists) != 3 {
			t.Fatalf("%q, %v", lists, err)
		}
		flip(t, lists[1])
		if said := restored("damaged"); said != "" {
			t.Errorf("damaged: %s", said)
		}
		if err := os.Remove(lists[1]); err != nil {
			t.Fatal(err)
		}
		if said := restored("gone"); said != "" {
			t.Errorf("gone: %s", said)
		}
		if err := os.Symlink("nowhere", lists[1]); err != nil { // it is listed, and not there
			t.Fatal(err)
		}
		if said := restored("missing"); said != "" {
			t.Errorf("missing: %s", said)
		}
		files, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*KEY000002*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%q, %v", files, err)
		}
		flip(t, files[0])
		if said := restored("with a damaged blob"); strings.Count(said, "\n") != 1 || !strings.Contains(said, "blob") {
			t.Errorf("with a damaged blob: %q", said)
		}
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
		if said := restored("without a blob"); strings.Count(said, "\n") != 1 || !strings.Contains(said, "blob") {
			t.Errorf("without a blob: %q", said)
		}
	}
}
