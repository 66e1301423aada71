package mst_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	indigo "github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo/mst"
)

// vectors returns the folder of test vectors in indigo's module.
func vectors(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(path))
}

// nodes is a store of nodes by number, as a database has it.
type nodes map[int64]stored

type stored struct {
	block    []byte
	children []int64
}

func (s nodes) load(l *mst.Link) (*mst.Node, error) {
	row, ok := s[l.ID]
	if !ok {
		return nil, fmt.Errorf("node %d is not there", l.ID)
	}
	n, err := mst.Decode(row.block)
	if err != nil {
		return nil, err
	}
	if got := dagcbor.CID(row.block); got != l.CID {
		return nil, fmt.Errorf("node %d is %s, the link says %s", l.ID, got, l.CID)
	}
	n.ID = l.ID
	for i, c := range n.Children() {
		if c != nil {
			c.ID = row.children[i]
		}
	}
	return n, nil
}

// keep stores what a Flush changed. A node that changed has a new number.
func (s nodes) keep(d mst.Diff) {
	for _, c := range d.Changed {
		if s[c.ID].block != nil || c.ID >= d.NextID {
			panic(fmt.Sprintf("number %d is taken", c.ID))
		}
	}
	for _, id := range d.Freed {
		delete(s, id)
	}
	for _, c := range d.Changed {
		var ids []int64
		for _, l := range c.Children() {
			if l == nil {
				ids = append(ids, 0)
			} else {
				ids = append(ids, l.ID)
			}
		}
		s[c.ID] = stored{c.Block, ids}
	}
}

func value(n int) cid.Cid { return dagcbor.CID(dagcbor.AppendInt(nil, int64(n))) }

func mustRoot(t *testing.T, m map[string]cid.Cid) cid.Cid {
	t.Helper()
	tree, err := indigo.LoadTreeFromMap(m)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tree.RootCID()
	if err != nil {
		t.Fatal(err)
	}
	return *c
}

func TestLayer(t *testing.T) {
	for key, want := range map[string]int{
		"": 0, "asdf": 0, "blue": 1, "2653ae71": 0, "88bfafc7": 2, "2a92d355": 4, "884976f5": 6,
		"app.bsky.feed.post/454397e440ec": 4, "app.bsky.feed.post/9adeb165882c": 8,
	} {
		if got := mst.Layer(key); got != want || got != indigo.HeightForKey([]byte(key)) && key != "" {
			t.Errorf("Layer(%q) = %d, want %d", key, got, want)
		}
	}
}

// TestKnownRoots: every implementation must get these roots.
func TestKnownRoots(t *testing.T) {
	v, err := cid.Decode("bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		root string
		keys []string
	}{
		{"bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm", nil},
		{"bafyreibj4lsc3aqnrvphp5xmrnfoorvru4wynt6lwidqbm2623a6tatzdu", []string{"com.example.record/3jqfcqzm3fo2j"}},
		{"bafyreih7wfei65pxzhauoibu3ls7jgmkju4bspy4t2ha2qdjnzqvoy33ai", []string{"com.example.record/3jqfcqzm3fx2j"}},
		{"bafyreicmahysq4n6wfuxo522m6dpiy7z7qzym3dzs756t5n7nfdgccwq7m", []string{
			"com.example.record/3jqfcqzm3fp2j", "com.example.record/3jqfcqzm3fr2j", "com.example.record/3jqfcqzm3fs2j",
			"com.example.record/3jqfcqzm3ft2j", "com.example.record/3jqfcqzm4fc2j",
		}},
	} {
		tree := mst.NewTree(0)
		for _, key := range c.keys {
			if err := tree.Create(key, v); err != nil {
				t.Fatal(err)
			}
		}
		if got := tree.Flush().Root.CID.String(); got != c.root {
			t.Errorf("%q: root %s, want %s", c.keys, got, c.root)
		}
	}
}

// TestProofVectors: every implementation must get these commits, and the blocks that
// prove them.
func TestProofVectors(t *testing.T) {
	raw, err := os.ReadFile(vectors(t, "atproto/repo/testdata/commit-proof-fixtures.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Comment, LeafValue                string
		Keys, Adds, Dels, BlocksInProof   []string
		RootBeforeCommit, RootAfterCommit string
	}
	if err := json.Unmarshal(raw, &cases); err != nil || len(cases) == 0 {
		t.Fatal(len(cases), err)
	}
	for _, c := range cases {
		v, err := cid.Decode(c.LeafValue)
		if err != nil {
			t.Fatal(err)
		}
		tree := mst.NewTree(0)
		for _, key := range c.Keys {
			if err := tree.Create(key, v); err != nil {
				t.Fatal(err)
			}
		}
		if got := tree.Flush().Root.CID.String(); got != c.RootBeforeCommit {
			t.Errorf("%s: root before %s, want %s", c.Comment, got, c.RootBeforeCommit)
		}
		for _, key := range c.Adds {
			if err := tree.Create(key, v); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range c.Dels {
			if _, err := tree.Delete(key); err != nil {
				t.Fatal(err)
			}
		}
		if got := tree.Flush().Root.CID.String(); got != c.RootAfterCommit {
			t.Errorf("%s: root after %s, want %s", c.Comment, got, c.RootAfterCommit)
		}
		var proof []string
		if err := tree.Proof(slices.Concat(c.Adds, c.Dels), func(n mst.Changed) { proof = append(proof, n.CID.String()) }); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.BlocksInProof {
			if !slices.Contains(proof, want) {
				t.Errorf("%s: %s is not in the proof", c.Comment, want)
			}
		}
	}
}

// TestAgainstIndigo changes trees at random, in batches, each batch on a tree
// opened from what the last one stored, and compares with an independent
// implementation and with our own Builder. The store holds exactly the tree.
func TestAgainstIndigo(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		store, want := nodes{}, map[string]cid.Cid{}
		d := mst.NewTree(1).Flush()
		store.keep(d)
		var tree *mst.Tree
		var err error
		for batch := range 40 {
			if batch%3 == 0 { // otherwise the tree of the last batch goes on
				if tree, err = mst.Open(d.Root, d.NextID, store.load); err != nil {
					t.Fatal(err)
				}
			}
			for range 1 + rnd.IntN(20) {
				change(t, rnd, tree, want, 1+int(seed)*10)
			}
			d = tree.Flush()
			store.keep(d)
			if _, err := tree.Trim(fmt.Sprintf("com.example.record/%06d", rnd.IntN(1+int(seed)*10))); err != nil {
				t.Fatal(err)
			}
			if batch%4 == 3 {
				if root := mustRoot(t, want); d.Root.CID != root {
					t.Fatalf("seed %d, batch %d: root %s, indigo has %s", seed, batch, d.Root.CID, root)
				}
				checkStored(t, store, d.Root, want)
			}
		}
	}
}

// TestTrim: the path to a key stays in memory; the rest of the tree is loaded again.
func TestTrim(t *testing.T) {
	tree, store := mst.NewTree(1), nodes{}
	for i := range 1000 {
		if err := tree.Create(fmt.Sprintf("com.example.record/%06d", i), value(i)); err != nil {
			t.Fatal(err)
		}
	}
	store.keep(tree.Flush())
	loads := 0
	tree.LoadWith(func(l *mst.Link) (*mst.Node, error) { loads++; return store.load(l) })
	const last = "com.example.record/000999"
	if size, err := tree.Trim(last); err != nil || size < 500 || size > 20_000 {
		t.Fatalf("%d bytes are left, %v", size, err)
	}
	for _, c := range []struct {
		key  string
		more bool
	}{{last, false}, {"com.example.record/000500", true}, {last, false}} {
		before := loads
		if _, err := tree.Get(c.key); err != nil || loads > before != c.more {
			t.Errorf("%s: %d nodes loaded, %v", c.key, loads-before, err)
		}
	}
	if err := tree.Create(last+"0", value(1)); err != nil || loads > 5 {
		t.Errorf("the next key: %v, %d nodes loaded in all", err, loads)
	}
}

// change makes one random change to a tree and to the map of its keys and values.
func change(t *testing.T, rnd *rand.Rand, tree *mst.Tree, want map[string]cid.Cid, keys int) {
	t.Helper()
	key := fmt.Sprintf("com.example.record/%06d", rnd.IntN(keys))
	was, exists := want[key]
	v := value(rnd.IntN(1000))
	switch op := rnd.IntN(3); {
	case op == 0 && exists:
		got, err := tree.Delete(key)
		if err != nil || got != was {
			t.Fatalf("Delete(%q) = %s, %v; want %s", key, got, err, was)
		}
		delete(want, key)
	case exists:
		if err := tree.Create(key, v); !errors.Is(err, mst.ErrExists) {
			t.Fatalf("Create of a key that exists: %v", err)
		}
		got, err := tree.Update(key, v)
		if err != nil || got != was {
			t.Fatalf("Update(%q) = %s, %v; want %s", key, got, err, was)
		}
		want[key] = v
	default:
		if _, err := tree.Delete(key); !errors.Is(err, mst.ErrNotFound) {
			t.Fatalf("Delete of no key: %v", err)
		}
		if _, err := tree.Update(key, v); !errors.Is(err, mst.ErrNotFound) {
			t.Fatalf("Update of no key: %v", err)
		}
		if err := tree.Create(key, v); err != nil {
			t.Fatal(err)
		}
		want[key] = v
	}
	if got, err := tree.Get(key); got != want[key] || (err == nil) != (want[key] != cid.Undef) {
		t.Fatalf("Get(%q) = %s, %v; want %s", key, got, err, want[key])
	}
}

// checkStored walks a stored tree: it holds exactly these keys, no node besides is
// stored, and the Builder makes the same tree of them.
func checkStored(t *testing.T, store nodes, root mst.Link, want map[string]cid.Cid) {
	t.Helper()
	visited, found := 0, map[string]cid.Cid{}
	builder := mst.Builder{Emit: func(mst.Changed) error { return nil }}
	w := mst.Walker{
		Load: store.load,
		Node: func(*mst.Link, *mst.Node) error { visited++; return nil },
		Entry: func(key string, v cid.Cid) error {
			found[key] = v
			return builder.Add(key, v)
		},
	}
	if err := w.Walk(root); err != nil {
		t.Fatal(err)
	}
	if visited != len(store) {
		t.Errorf("%d nodes are stored, %d are in the tree", len(store), visited)
	}
	if len(found) != len(want) {
		t.Errorf("%d keys in the tree, want %d", len(found), len(want))
	}
	for key, v := range want {
		if found[key] != v {
			t.Errorf("%q is %s in the tree, want %s", key, found[key], v)
		}
	}
	built, err := builder.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if built.CID != root.CID {
		t.Errorf("the Builder made %s of the same keys, want %s", built.CID, root.CID)
	}
}

// TestProofInverts undoes random batches with indigo's tree on the nodes of the proof
// alone, as a consumer of the firehose does.
func TestProofInverts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	tree, want := mst.NewTree(0), map[string]cid.Cid{}
	before := tree.Flush().Root.CID
	for batch := range 300 {
		old := maps.Clone(want)
		for range 1 + rnd.IntN(6) {
			change(t, rnd, tree, want, 200)
		}
		var keys []string
		for key := range want {
			if old[key] != want[key] {
				keys = append(keys, key)
			}
		}
		for key := range old {
			if _, ok := want[key]; !ok {
				keys = append(keys, key)
			}
		}
		after := tree.Flush().Root.CID
		blocks := map[cid.Cid][]byte{}
		if err := tree.Proof(keys, func(n mst.Changed) { blocks[n.CID] = n.Block }); err != nil {
			t.Fatal(err)
		}
		if len(keys) > 0 { // a batch without changes proves nothing
			invert(t, blocks, after, before, keys, old, want)
		}
		if t.Failed() {
			t.Fatalf("in batch %d", batch)
		}
		before = after
	}
}

func invert(t *testing.T, blocks map[cid.Cid][]byte, after, before cid.Cid, keys []string, old, now map[string]cid.Cid) {
	t.Helper()
	partial, err := indigo.LoadTreeFromStore(t.Context(), blockMap(blocks), after)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	for _, key := range keys {
		switch was, existed := old[key]; {
		case !existed:
			got, err := partial.Remove([]byte(key))
			if err != nil || got == nil || *got != now[key] {
				t.Errorf("take back creation of %q: %v, %v", key, got, err)
			}
		default:
			if _, err := partial.Insert([]byte(key), was); err != nil {
				t.Errorf("take back change of %q: %v", key, err)
			}
		}
	}
	root, err := partial.RootCID()
	if err != nil || *root != before {
		t.Errorf("inverted root %v, %v; want %s", root, err, before)
	}
}
