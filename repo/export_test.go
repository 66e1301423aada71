package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/repo"
	"nestbox/repo/car"
)

// TestExportLarge: a repository whose nodes and file exceed their share of memory is
// exported all the same, in order, through a file without a name.
func TestExportLarge(t *testing.T) {
	w := newWorld(t)
	w.TempDir = t.TempDir()
	alice := w.person("alice")
	rng := rand.New(rand.NewPCG(1, 2))
	records := map[string]car.Block{}
	for i := range 9000 {
		key := make([]byte, 500) // random: nodes leave out what keys share
		for j := range key {
			key[j] = 'a' + byte(rng.IntN(26))
		}
		records["com.example.note/"+string(key)] = block(map[string]any{"n": int64(i)})
	}
	root, blocks := tree(t, records)
	alice.mustImport(pack(t, alice.did, repo.NextTID(w.Now(), 1, alice.head().Rev), w.keys[alice.id], root, blocks).bytes())
	file := alice.export()
	if size := len(file) - len(records)*50; size < 4<<20 {
		t.Fatalf("nodes of %d bytes are not large", size)
	}
	alice.checkFile(file)
	if left, err := os.ReadDir(w.TempDir); err != nil || len(left) > 0 {
		t.Errorf("left in the folder of temporary files: %v, %v", left, err)
	}
}

// TestExportWhileWriting: each export is a state that the repository had.
func TestExportWhileWriting(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if _, err := alice.put("com.example.note", fmt.Sprintf("note%03d", i*37%400), fmt.Sprintf(`{"text":"%d"}`, i)); err != nil {
				ended <- err
				return
			}
		}
	}()
	revs := map[syntax.TID]bool{}
	for len(revs) < 20 {
		revs[alice.checkFile(alice.export()).Rev] = true
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// watched counts the open views.
type watched struct {
	repo.Store
	open, scans atomic.Int32
}

func (s *watched) View(ctx context.Context, accountID int64, fn func(repo.View) error) error {
	s.open.Add(1)
	defer s.open.Add(-1)
	return s.Store.View(ctx, accountID, fn)
}

func (s *watched) Scan(ctx context.Context, accountID int64, fn func(repo.View) error) error {
	s.scans.Add(1)
	s.open.Add(1)
	defer s.open.Add(-1)
	return s.Store.Scan(ctx, accountID, fn)
}

// writer is a function as an io.Writer.
type writer func([]byte) (int, error)

func (f writer) Write(b []byte) (int, error) { return f(b) }

// TestExportHoldsNothing: while a client takes its file, however slowly, no view
// is open: a snapshot would let the database's write-ahead log grow. It also gets the
// state at the time of its request.
func TestExportHoldsNothing(t *testing.T) {
	w := newWorld(t)
	store := &watched{Store: w.Store}
	w.Store = store
	w.TempDir = t.TempDir()
	alice := w.person("alice")
	for _, text := range []string{"small", strings.Repeat("x", 900_000)} {
		for i := range 3 {
			if _, err := alice.put("com.example.note", fmt.Sprint(i), `{"text":"`+text+`"}`); err != nil {
				t.Fatal(err)
			}
		}
		was := alice.head()
		var file bytes.Buffer
		err := w.Export(t.Context(), alice.account(), writer(func(b []byte) (int, error) {
			if n := store.open.Load(); n != 0 {
				t.Errorf("%d views are open while the file is sent", n)
			}
			if file.Len() == 0 {
				if _, err := alice.put("com.example.note", "later", `{"text":"`+text+`"}`); err != nil {
					return 0, err
				}
			}
			return file.Write(b)
		}))
		if err != nil {
			t.Fatal(err)
		}
		if got := alice.checkFile(file.Bytes()); got.Rev != was.Rev {
			t.Errorf("exported %s, asked for at %s", got.Rev, was.Rev)
		}
	}
	gone := errors.New("gone")
	if err := w.Export(t.Context(), alice.account(), writer(func([]byte) (int, error) { return 0, gone })); !errors.Is(err, gone) {
		t.Errorf("a client that has gone: %v", err)
	}
}

// TestExportRefuses: what cannot be exported, and what cannot be written.
func TestExportRefuses(t *testing.T) {
	w := newWorld(t)
	stranger := w.stranger("bob")
	if err := w.Export(t.Context(), stranger.account(), io.Discard); !errors.Is(err, repo.ErrNoRepo) {
		t.Errorf("an account without a repository: %v", err)
	}
	alice := w.person("alice")
	for _, rkey := range []string{"note", "more"} {
		if _, err := alice.put("com.example.note", rkey, `{"text":"`+strings.Repeat("x", 900_000)+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	w.TempDir = filepath.Join(t.TempDir(), "missing")
	var file bytes.Buffer
	if err := w.Export(t.Context(), alice.account(), &file); !errors.Is(err, os.ErrNotExist) || file.Len() > 0 {
		t.Errorf("no room for the file: %v, %d bytes", err, file.Len())
	}
}
