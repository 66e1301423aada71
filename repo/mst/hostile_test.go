package mst_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"nestbox/dagcbor"
	"nestbox/repo/mst"
)

// blockMap is the store that indigo reads blocks from.
type blockMap map[cid.Cid][]byte

func (m blockMap) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	b, ok := m[c]
	if !ok {
		return nil, ipld.ErrNotFound{Cid: c}
	}
	return blocks.NewBlockWithCid(b, c)
}

func (m blockMap) load(l *mst.Link) (*mst.Node, error) {
	b, ok := m[l.CID]
	if !ok {
		return nil, fmt.Errorf("block %s is not there", l.CID)
	}
	return mst.Decode(b)
}

// add stores a node made of anything.
func (m blockMap) add(tb testing.TB, node any) cid.Cid {
	tb.Helper()
	b, err := dagcbor.Encode(node)
	if err != nil {
		tb.Fatal(err)
	}
	c := dagcbor.CID(b)
	m[c] = b
	return c
}

func entry(prefix int, suffix string, right any) map[string]any {
	return map[string]any{"k": []byte(suffix), "p": prefix, "t": right, "v": value(1)}
}

func node(left any, entries ...any) map[string]any {
	return map[string]any{"e": append([]any{}, entries...), "l": left}
}

// TestHostileNodes: nodes that no tree can hold are refused, each in a short time.
func TestHostileNodes(t *testing.T) {
	m := blockMap{}
	const a, b, blue = "com.example.a/1", "com.example.a/2", "blue" // layers 0, 0, 1
	leaf := m.add(t, node(nil, entry(0, a, nil)))
	empty := m.add(t, node(nil))
	raw := dagcbor.RawCID([32]byte{})
	deep := leaf
	for range 200 {
		deep = m.add(t, node(deep))
	}
	for name, root := range map[string]any{
		"prefix beyond the first key":    node(nil, entry(1, a, nil)),
		"prefix beyond the key before":   node(nil, entry(0, a, nil), entry(100, "x", nil)),
		"negative prefix":                node(nil, entry(-1, a, nil)),
		"empty key":                      node(nil, entry(0, "", nil)),
		"key with NUL":                   node(nil, entry(0, "a\x00", nil)),
		"key twice":                      node(nil, entry(0, a, nil), entry(len(a), "", nil)),
		"keys out of order":              node(nil, entry(0, b, nil), entry(0, a, nil)),
		"keys of two layers":             node(nil, entry(0, blue, nil), entry(0, a, nil)),
		"child of layer 0":               node(leaf, entry(0, a, nil)),
		"child linked twice":             node(leaf, entry(0, blue, leaf)),
		"child of its own layer":         node(nil, entry(0, blue, m.add(t, node(nil, entry(0, blue, nil))))),
		"child behind the key before it": node(m.add(t, node(nil, entry(0, b, nil))), entry(0, blue, leaf)),
		"empty child":                    node(empty, entry(0, blue, nil)),
		"root without a key":             node(leaf),
		"chain of empty nodes":           node(deep),
		"link to a blob":                 node(raw, entry(0, blue, nil)),
		"value that is a blob":           node(nil, map[string]any{"k": []byte(a), "p": 0, "t": nil, "v": raw}),
		"field too many":                 map[string]any{"e": []any{}, "l": nil, "x": nil},
		"field missing":                  map[string]any{"e": []any{}},
		"entry's field missing":          node(nil, map[string]any{"k": []byte(a), "p": 0, "v": value(1)}),
		"a list":                         []any{},
		"missing child":                  node(value(7), entry(0, blue, nil)),
	} {
		t.Run(name, func(t *testing.T) {
			keys := 0
			w := mst.Walker{Load: m.load, Entry: func(string, cid.Cid) error { keys++; return nil }}
			err := w.Walk(mst.Link{CID: m.add(t, root)})
			if err == nil {
				t.Errorf("the walk found %d keys and no fault", keys)
			}
			if name != "missing child" && !errors.Is(err, mst.ErrNode) && !errors.Is(err, dagcbor.ErrForm) {
				t.Errorf("%v is neither ErrNode nor ErrForm", err)
			}
		})
	}
}

// TestSharedLinks: 3 KB of nodes link to each other so often that a walk without an
// order of keys would never end.
func TestSharedLinks(t *testing.T) {
	m := blockMap{}
	below := m.add(t, node(nil, entry(0, "com.example.a/1", nil)))
	loads := 0
	for range 60 {
		below = m.add(t, node(below))
	}
	w := mst.Walker{Load: func(l *mst.Link) (*mst.Node, error) { loads++; return m.load(l) }}
	if err := w.Walk(mst.Link{CID: below}); err == nil {
		t.Error("accepted")
	}
	if loads > mst.MaxLayer+1 {
		t.Errorf("%d loads", loads)
	}
}

// FuzzDecode: every accepted block is canonical.
func FuzzDecode(f *testing.F) {
	m := blockMap{}
	leaf := m.add(f, node(nil, entry(0, "com.example.a/1", nil)))
	m.add(f, node(leaf, entry(0, "blue", nil)))
	m.add(f, node(nil))
	for _, b := range m {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := mst.Decode(b)
		if err != nil {
			if !errors.Is(err, mst.ErrNode) && !errors.Is(err, dagcbor.ErrForm) {
				t.Errorf("%v is neither ErrNode nor ErrForm", err)
			}
			return
		}
		again, err := mst.Decode(n.Encode())
		if err != nil || len(again.Entries) != len(n.Entries) {
			t.Errorf("a decoded node does not survive: %v", err)
		}
	})
}

func benchTree(b *testing.B, keys int) (nodes, mst.Diff) {
	b.Helper()
	store := nodes{}
	d := mst.Diff{}
	builder := mst.Builder{NextID: 1, Emit: func(c mst.Changed) error {
		d.Changed = append(d.Changed, c)
		return nil
	}}
	for i := range keys {
		if err := builder.Add(fmt.Sprintf("app.bsky.feed.post/%013d", i), value(i)); err != nil {
			b.Fatal(err)
		}
	}
	root, err := builder.Finish()
	if err != nil {
		b.Fatal(err)
	}
	d.Root, d.NextID = root, builder.NextID
	store.keep(d)
	return store, d
}

// BenchmarkCreate adds one key to a stored tree: only its path is loaded.
func BenchmarkCreate(b *testing.B) {
	for _, keys := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			store, d := benchTree(b, keys)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				tree, err := mst.Open(d.Root, d.NextID, store.load)
				if err != nil {
					b.Fatal(err)
				}
				if err := tree.Create(fmt.Sprintf("app.bsky.feed.post/%013d", keys+i), value(i)); err != nil {
					b.Fatal(err)
				}
				tree.Flush()
			}
		})
	}
}

// TestWalkMemory: a walk stops if the nodes of one path take more memory than
// allowed.
func TestWalkMemory(t *testing.T) {
	nodes := blockMap{}
	b := mst.Builder{Emit: func(n mst.Changed) error { nodes[n.CID] = n.Block; return nil }}
	for i := range 1000 {
		if err := b.Add(fmt.Sprintf("com.example.foo/%04d", i), value(i)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]error{0: nil, 1 << 20: nil, 2000: mst.ErrNode} {
		w := mst.LooseWalker{
			Load:     func(id cid.Cid) (*mst.Node, error) { return mst.DecodeLoose(nodes[id]) },
			Entry:    func(string, cid.Cid) error { return nil },
			MaxNodes: len(nodes), MaxMemory: limit,
		}
		for range 2 { // a walk begins with nothing held
			if err := w.Walk(root.CID); !errors.Is(err, want) {
				t.Errorf("%d bytes: %v, want %v", limit, err, want)
			}
		}
	}
}
