package repo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"nestbox/auth"
	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

func raw(data ...byte) car.Block { return car.Block{CID: dagcbor.CID(data), Data: data} }

// odd returns records that could not be written here and that other servers hold: the
// block of each, and its JSON, empty if there is none.
func odd() map[string]struct {
	block car.Block
	json  string
} {
	type record = struct {
		block car.Block
		json  string
	}
	utf8 := append([]byte{0xa1, 0x61, 'x', 0x63}, 'a', 0xff, 'b')
	large := block(map[string]any{"x": strings.Repeat("x", repo.MaxRecord)})
	many := pictures(repo.MaxBlobRefs)
	text := func(b car.Block) string {
		out, err := dagcbor.AppendJSON(nil, b.Data)
		if err != nil {
			panic(err)
		}
		return string(out)
	}
	return map[string]record{
		"a float":                   {raw(0xa1, 0x61, 'x', 0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0), `{"x":1.5}`},
		"a short float":             {raw(0xa1, 0x61, 'x', 0xf9, 0x3e, 0x00), `{"x":1.5}`},
		"no number":                 {raw(0xa1, 0x61, 'x', 0xf9, 0x7e, 0x00), `{"x":null}`},
		"an integer beyond 2^53":    {raw(0xa1, 0x61, 'x', 0x1b, 0x00, 0x20, 0, 0, 0, 0, 0, 0x01), `{"x":9007199254740993}`},
		"a negative one of 65 bits": {raw(0xa1, 0x61, 'x', 0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), `{"x":-18446744073709551616}`},
		"a map out of order":        {raw(0xa2, 0x61, 'b', 0x01, 0x61, 'a', 0x01), `{"b":1,"a":1}`},
		"undefined":                 {raw(0xa1, 0x61, 'x', 0xf7), `{"x":null}`},
		"text that is not UTF-8":    {raw(utf8...), "{\"x\":\"a\ufffdb\"}"},
		"a long form":               {raw(0xa1, 0x61, 'x', 0x18, 0x01), `{"x":1}`},
		"more than 1 MiB":           {large, text(large)},
		"more than 1,000 blobs":     {many, text(many)},
		"a key twice":               {raw(0xa2, 0x61, 'a', 0x01, 0x61, 'a', 0x02), ""},
		"a list":                    {raw(0x80), ""},
		"null":                      {raw(0xf6), ""},
		"bytes behind it":           {raw(0xa0, 0x00), ""},
		"no CBOR":                   {raw([]byte("hello")...), ""},
		"nothing":                   {raw(), ""},
		"a map without an end":      {raw(0xbf, 0xff), ""},
	}
}

// TestImportOdd: a person moves in with all that the old server held. Records that
// could not be written here stay byte for byte, in the tree and in exports; records
// that have a form in JSON are shown, the others named, and their owner deletes and
// replaces them.
func TestImportOdd(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	records := posts(20)
	names := slices.Sorted(maps.Keys(odd()))
	key := func(i int) string { return fmt.Sprintf("com.example.odd/%02d", i) }
	for i, name := range names {
		records[key(i)] = odd()[name].block
	}
	file := alice.file(t, records)
	done := alice.mustImport(file.bytes())
	if !done.Kept || done.Odd != int64(len(names)) || done.Records != int64(20+len(names)) {
		t.Errorf("imported %+v, want %d odd records", done, len(names))
	}
	alice.records()
	checked := alice.check(t)
	if checked.Odd != int64(len(names)) || !checked.Tree || checked.Differ {
		t.Errorf("verify finds %+v", checked)
	}
	var export bytes.Buffer
	if err := w.Export(t.Context(), alice.account(), &export); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		want := odd()[name]
		if !bytes.Contains(export.Bytes(), want.block.Data) {
			t.Errorf("%s: not in the export", name)
		}
		got, err := w.GetRecord(t.Context(), auth.Anyone{}, repo.GetRecordParams{Repo: alice.did.String(), Collection: "com.example.odd", RKey: key(i)[16:]})
		if want.json == "" {
			wantStatus(t, name, err, http.StatusBadRequest)
			continue
		}
		value := `"value":` + want.json + "}"
		if err != nil || !strings.HasSuffix(string(got), value) {
			t.Errorf("%s: %.100s, %v, want %.100s", name, got, err, value)
		}
	}

	limit := int64(100)
	listed, err := w.ListRecords(t.Context(), auth.Anyone{}, repo.ListRecordsParams{Repo: alice.did.String(), Collection: "com.example.odd", Limit: &limit, Reverse: true})
	var page struct {
		Records []struct {
			URI, CID, Unreadable string
			Value                json.RawMessage
		}
	}
	if err == nil {
		err = json.Unmarshal(listed, &page)
	}
	if err != nil {
		t.Fatalf("listRecords: %v", err)
	}
	if len(page.Records) == 0 {
		t.Fatal("listRecords lists nothing")
	}
	for i, r := range page.Records {
		if want := odd()[names[i]]; (r.Unreadable != "") != (want.json == "") || r.CID != want.block.CID.String() {
			t.Errorf("%s: listed as %.200v", names[i], r)
		}
	}

	// The owner deletes or replaces them.
	for i, name := range names {
		var err error
		if i%2 == 0 {
			_, err = alice.remove("com.example.odd", key(i)[16:])
		} else {
			_, err = alice.put("com.example.odd", key(i)[16:], `{"sound":true}`)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := alice.check(t); got.Odd != 0 {
		t.Errorf("%d are left", got.Odd)
	}
	alice.checkExport()
}

// TestImportOddBlobs: the blobs that an odd record refers to are kept.
func TestImportOddBlobs(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	records := posts(5)
	legacy := blobBlock("a picture").CID
	records["com.example.album/legacy"] = block(map[string]any{"picture": map[string]any{
		"$type": "blob", "ref": legacy, "mimeType": "image/png", "size": int64(-1),
	}})
	inOdd := blobBlock("another").CID
	data, err := dagcbor.Encode(map[string]any{"picture": map[string]any{"$type": "blob", "ref": inOdd, "mimeType": "image/png", "size": int64(1)}})
	if err != nil {
		t.Fatal(err)
	}
	// {"x": 1.5, "picture": …}
	records["com.example.album/odd"] = raw(append([]byte{0xa2, 0x61, 'x', 0xf9, 0x3e, 0x00}, data[1:]...)...)
	records["com.example.album/many"] = pictures(repo.MaxBlobRefs + 5)
	alice.mustImport(alice.file(t, records).bytes())
	want := map[string]int{
		"com.example.album/legacy": 1, "com.example.album/odd": 1, "com.example.album/many": repo.MaxBlobRefs + 5,
	}
	for key, n := range want {
		var kept []string
		err := w.Store.View(t.Context(), alice.id, func(v repo.View) error {
			r, err := v.Record(key)
			if err != nil {
				return err
			}
			d, err := (&repo.Checker{Lexicons: w.Lexicons}).Derive(r)
			kept = d.Blobs
			return err
		})
		if err != nil || len(kept) != n {
			t.Errorf("%s refers to %d blobs, want %d: %v", key, len(kept), n, err)
		}
	}
	if got := alice.check(t); got.Odd != 2 {
		t.Errorf("%d odd records, want 2", got.Odd)
	}
	if _, err := alice.create("com.example.album", nil, `{"picture":{"$type":"blob","ref":{"$link":"`+legacy.String()+`"},"mimeType":"image/png","size":-1}}`); err == nil ||
		!strings.Contains(err.Error(), "Size") {
		t.Errorf("a new record with a size of -1: %v", err)
	}
}

// check checks the repository as nestbox verify does.
func (p *person) check(t *testing.T) (out repo.Checked) {
	t.Helper()
	i, err := p.w.Inspect.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = i.Repo(p.id, func(rows repo.Rows) (err error) {
		c := repo.Checker{Lexicons: p.w.Lexicons, Key: p.public, Report: func(fault string) { t.Error(fault) }}
		out, err = c.Check(t.Context(), rows)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return out
}

// TestImportShapes: a tree that is not in canonical form is rebuilt from its keys,
// and becomes a commit of ours; blocks that nothing links to do not matter, whatever
// their CID.
func TestImportShapes(t *testing.T) {
	record := block(map[string]any{"text": "x"})
	k0, k1 := "app.bsky.feed.post/0", "app.bsky.feed.post/1"
	leaf := node(nil, entry(0, k0, record.CID, nil), entry(19, "1", record.CID, nil))
	empty := node(nil)
	hash, err := mh.Sum([]byte("x"), mh.SHA2_512, -1)
	if err != nil {
		t.Fatal(err)
	}
	v0, err := cid.Decode("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		blocks  []car.Block
		records int64
	}{
		"keys not compressed":      {[]car.Block{record, node(nil, entry(0, k0, record.CID, nil), entry(0, k1, record.CID, nil))}, 2},
		"a root without keys":      {[]car.Block{record, leaf, node(leaf.CID)}, 2},
		"roots without keys":       {[]car.Block{record, leaf, node(leaf.CID), node(node(leaf.CID).CID)}, 2},
		"an empty node":            {[]car.Block{record, empty, node(empty.CID, entry(0, k0, record.CID, empty.CID), entry(19, "1", record.CID, empty.CID))}, 2},
		"an empty tree with nodes": {[]car.Block{empty, node(empty.CID)}, 0},
		"other blocks": {[]car.Block{
			{CID: cid.NewCidV1(cid.Raw, hash), Data: []byte("x")}, {CID: v0, Data: []byte("of a hash that nobody checks")}, blobBlock("blob"), record, leaf,
		}, 2},
	} {
		w := newWorld(t)
		alice := newMover(t, w)
		file := alice.over(t, c.blocks...)
		done, err := alice.imports(file.bytes())
		if err != nil || done.Records != c.records || int64(len(alice.records())) != c.records {
			t.Errorf("%s: %+v, %v", name, done, err)
			continue
		}
		head := alice.head()
		again, err := alice.imports(file.bytes())
		if err != nil || alice.head().Number != head.Number || again.CID != done.CID {
			t.Errorf("%s, again: %+v, %v; first %+v", name, again, err, done)
		}
		alice.check(t)
		alice.mustCreate("com.example.note", nil, `{}`)
	}
	// The walk's cost follows the file's size: an empty node cannot be visited from
	// everywhere.
	w := newWorld(t)
	alice := newMover(t, w)
	entries := []any{}
	for i := range 500 {
		entries = append(entries, entry(0, fmt.Sprintf("app.bsky.feed.post/%04d", i), record.CID, empty.CID))
	}
	if _, err := alice.imports(alice.over(t, record, empty, node(nil, entries...)).bytes()); !errors.Is(err, repo.ErrImport) || !errors.Is(err, mst.ErrNode) {
		t.Errorf("an empty node that is linked 500 times: %v", err)
	}
}
