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
