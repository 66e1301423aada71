package backup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/backup"
	"nestbox/backup/depot"
)

// hidden is a store that cannot be listed.
type hidden struct {
	*depot.Folder

	gone bool
}

var errHidden = errors.New("hidden")

func (h *hidden) List(ctx context.Context, prefix string, yield func(backup.Object) error) error {
	if h.gone {
		return errHidden
	}
	return h.Folder.List(ctx, prefix, yield)
}

// putBack puts a folder back to what a copy has.
func putBack(tb testing.TB, copied, dir string) {
	tb.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(copied))); err != nil {
		tb.Fatal(err)
	}
}

// TestChainParted: a log goes on only where the store has all of it. Where the data directory was put
// back, or the store lost the end, another one begins with a snapshot, also if the store can be
// listed only after the start.
func TestChainParted(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		for _, what := range []string{"data", "store", "nothing"} {
			w := newWorld(t)
			dir := t.TempDir()
			store := &hidden{Folder: openFolder(t, dir)}
			s := following(t, w, store)
			snapshot(t, s)
			w.fill(0, 10, 500)
			send(t, w, s)
			w.db.Close()
			earlier, file := t.TempDir(), filepath.Join(w.dir, "nestbox.sqlite")
			was, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			state, data, objects := filepath.Join(earlier, "state"), filepath.Join(earlier, "data"), filepath.Join(earlier, "store")
			if err := errors.Join(os.CopyFS(state, os.DirFS(s.State)), os.CopyFS(data, os.DirFS(w.dir)), os.CopyFS(objects, os.DirFS(dir))); err != nil {
				t.Fatal(err)
			}
			w.reopen()
			s = following(t, w, store)
			w.fill(10, 20, 500)
			send(t, w, s)
			w.db.Close()
			switch what {
			case "data":
				putBack(t, state, s.State)
				putBack(t, data, w.dir)
				if err := os.Chtimes(file, time.Time{}, was.ModTime()); err != nil { // as cp -a does
					t.Fatal(err)
				}
			case "store":
				putBack(t, objects, dir)
			}
			store.gone = late
			w.reopen()
			s = following(t, w, store)
			w.fill(20, 30, 500)
			if late {
				if err := errors.Join(w.db.Cut(t.Context()), s.Segments.Send(t.Context())); !errors.Is(err, errHidden) {
					t.Errorf("%s: it sends to a store that it does not know: %v", what, err)
				}
				store.gone = false
				send(t, w, s)
			}
			if s.Segments.NeedsBase() != (what != "nothing") {
				t.Errorf("%s, late %t: it needs a base: %t", what, late, s.Segments.NeedsBase())
			}
			if s.Segments.NeedsBase() {
				snapshot(t, s)
			}
			w.fill(30, 40, 500)
			send(t, w, s)
			if last, replay := restoreAt(t, store, time.Time{}); last != lastEvent(t, w.dir) || replay.Gap != "" {
				t.Errorf("%s, late %t: the last event is %d: %+v", what, late, last, replay)
			}
			spans, err := backup.Spans(t.Context(), store)
			if err != nil || spans[len(spans)-1].Why != "" || slices.ContainsFunc(spans, func(s backup.Span) bool { return strings.Contains(s.Why, "two servers") }) {
				t.Errorf("%s, late %t: %+v, %v", what, late, spans, err)
			}
		}
	}
}

// TestCheck: what the store has lost of the log while it is followed is noticed: behind the newest
// snapshot as an error, before it as a hole. What is sent meanwhile, or waits, is neither.
func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	store := &hooked{Folder: openFolder(t, dir), before: func(int64, string) error { return nil }}
	s := following(t, w, store)
	first := snapshot(t, s)
	count := 0
	write := func() {
		w.fill(count*10, count*10+10, 300)
		count++
	}
	// without moves an object away while it checks.
	without := func(name string) (hole string, err error) {
		t.Helper()
		path, aside := filepath.Join(dir, filepath.FromSlash(name)), filepath.Join(dir, "aside")
		if err := os.Rename(path, aside); err != nil {
			t.Fatal(err)
		}
		hole, err = s.Segments.Check(t.Context())
		if err := os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
		return hole, err
	}
	whole := func(what string) {
		t.Helper()
		if hole, err := s.Segments.Check(t.Context()); hole != "" || err != nil {
			t.Errorf("%s: %q, %v", what, hole, err)
		}
	}
	for range 4 {
		write()
		send(t, w, s)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "log", "*", "*.ltx"))
	if err != nil || len(paths) != 4 {
		t.Fatalf("%q, %v", paths, err)
	}
	segments := []string{}
	for _, path := range paths {
		segments = append(segments, strings.TrimPrefix(path, dir+"/"))
	}
	whole("all is there")
	for i, name := range segments {
		if _, err := without(name); !errors.Is(err, backup.ErrParted) {
			t.Errorf("without segment %d: %v", i+1, err)
		}
	}
	if _, err := without(first.Name); !errors.Is(err, backup.ErrParted) {
		t.Errorf("without the snapshot: %v", err)
	}
	write()
	if err := w.db.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole("a segment waits")
	store.before = func(_ int64, name string) error {
		if strings.HasPrefix(name, "list log/") || name == "list snapshots/" {
			store.before = func(int64, string) error { return nil }
			write()
			send(t, w, s)
			snapshot(t, s)
		}
		return nil
	}
	whole("it is sent, and a snapshot made, meanwhile")
	for i, name := range segments {
		hole, err := without(name)
		// Without the first it is as if that had been removed because of its age.
		if err != nil || strings.Contains(hole, "is missing") != (i > 0) {
			t.Errorf("before the newest snapshot, without segment %d: %q, %v", i+1, hole, err)
		}
	}
}
