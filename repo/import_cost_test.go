package repo_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

// TestImportExpansion: one block may be the record of many keys, but takes no more
// than a multiple of the file's size.
func TestImportExpansion(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	large := block(map[string]any{"x": strings.Repeat("x", 1_000_000)})
	records := map[string]car.Block{}
	for i := range 200 {
		records[fmt.Sprintf("com.example.note/%03d", i)] = large
	}
	root, blocks := tree(t, records)
	blocks = slices.DeleteFunc(blocks, func(b car.Block) bool { return b.CID == large.CID })
	bomb := pack(t, alice.did, repo.NextTID(w.Now(), 1, alice.rev), alice.key, root, append(blocks, large)).bytes()
	if _, err := alice.imports(bomb); !errors.Is(err, repo.ErrTooLarge) || !strings.Contains(err.Error(), "its records take more than") {
		t.Errorf("%d bytes that become 200 MB: %v", len(bomb), err)
	}
}

// TestImportTime: a client's import that takes too long ends, changes nothing and
// gives its slot back.
func TestImportTime(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	head := alice.head()
	store := &stuck{Store: w.Store}
	w.Service.Store = store
	w.ImportGrace = 2 * time.Second // enough to get to the store
	wantStatus(t, "an import that takes too long", alice.send(alice.file(t, posts(30)).bytes()), http.StatusServiceUnavailable)
	if !store.asked {
		t.Error("nothing was stored of it: this test cannot fail")
	}
	if got := alice.head(); got.CID != head.CID {
		t.Errorf("the head went from %s to %s", head.CID, got.CID)
	}
	w.ImportGrace = 0
	w.Service.Store = store.Store
	if err := alice.send(alice.file(t, posts(30)).bytes()); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// stuck is a store that stores nothing of an import until the import's time is over.
type stuck struct {
	repo.Store

	asked bool
}

func (s *stuck) Fill(ctx context.Context, _ int64, _ syntax.TID, _ []mst.Changed, _ []repo.Write) error {
	s.asked = true
	<-ctx.Done()
	return ctx.Err()
}
