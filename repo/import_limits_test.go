package repo_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"nestbox/repo"
	"nestbox/repo/car"
)

// pictures returns a record that refers to n blobs, to one of them twice.
func pictures(n int) car.Block {
	var list []any
	for i := range n {
		list = append(list, map[string]any{"$type": "blob", "ref": blobBlock(fmt.Sprint(i)).CID, "mimeType": "image/png", "size": int64(1)})
	}
	return block(map[string]any{"$type": "com.example.album", "pictures": append(list, list[0])})
}

// TestImportBlobs: each reference to a blob counts as the room it takes here.
func TestImportBlobs(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	const key = "com.example.album/one"
	with := func(b car.Block) []byte {
		records := posts(5)
		records[key] = b
		return alice.file(t, records).bytes()
	}
	file := with(pictures(repo.MaxBlobRefs - 1))
	w.MaxImport = int64(len(file)) // its references take about twice that
	if _, err := alice.imports(file); !errors.Is(err, repo.ErrTooLarge) {
		t.Errorf("references that take more than may be stored: %v", err)
	}
	w.MaxImport = 4 * int64(len(file))
	alice.mustImport(file)
	var kept []string
	refs := map[string]bool{}
	err := w.Store.View(t.Context(), alice.id, func(v repo.View) error {
		r, err := v.Record(key)
		if err != nil {
			return err
		}
		d, err := (&repo.Checker{Lexicons: w.Lexicons}).Derive(r)
		kept = d.Blobs
		return err
	})
	for _, id := range kept {
		refs[id] = true
	}
	if err != nil || len(kept) != repo.MaxBlobRefs-1 || len(refs) != len(kept) {
		t.Errorf("%d references to %d blobs are derived, %v", len(kept), len(refs), err)
	}
}

// TestImportLongKeys: a long key takes little room in a tree, and much in the store.
func TestImportLongKeys(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	records, one := map[string]car.Block{}, block(map[string]any{})
	for i := range 1000 {
		records["com.example.note/"+strings.Repeat("x", 480)+fmt.Sprint(i)] = one
	}
	root, blocks := tree(t, records)
	seen := map[cid.Cid]bool{}
	var once []car.Block
	for _, b := range blocks {
		if !seen[b.CID] {
			once = append(once, b)
		}
		seen[b.CID] = true
	}
	file := pack(t, alice.did, repo.NextTID(w.Now(), 1, alice.head().Rev), alice.key, root, once).bytes()
	w.MaxImport = 450_000
	if _, err := alice.imports(file); int64(len(file)) > w.MaxImport || !errors.Is(err, repo.ErrTooLarge) {
		t.Errorf("%d bytes that become 500,000: %v", len(file), err)
	}
}

// TestWriteTooManyBlobs: a write refers to at most MaxBlobRefs blobs.
func TestWriteTooManyBlobs(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	record := func(n int) string {
		ref := `{"$type":"blob","ref":{"$link":"` + blobBlock("x").CID.String() + `"},"mimeType":"image/png","size":1}`
		return `{"pictures":[` + strings.Repeat(ref+",", n-1) + ref + `]}`
	}
	_, err := alice.create("com.example.album", nil, record(repo.MaxBlobRefs+1))
	wantError(t, "one too many", err, http.StatusBadRequest, "InvalidRequest", "Invalid record: it refers to 1001 blobs; the limit is 1000")
	_, err = alice.apply(step("create", "com.example.album", "a", `{}`), step("create", "com.example.album", "b", record(repo.MaxBlobRefs+1)))
	if err == nil || !strings.Contains(err.Error(), "$.writes[1]") {
		t.Errorf("in a batch: %v", err)
	}
	_, err = alice.create("com.example.album", nil, record(repo.MaxBlobRefs))
	if err == nil || !strings.Contains(err.Error(), "Could not find blob") {
		t.Errorf("as many as may be: %v", err)
	}
}
