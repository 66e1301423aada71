package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

// archive is a repository as a CAR file, to be taken apart.
type archive struct {
	root   cid.Cid
	blocks []car.Block
}

func (a archive) bytes() []byte {
	file := car.AppendHeader(nil, a.root)
	for _, b := range a.blocks {
		file = car.AppendBlock(file, b.CID, b.Data)
	}
	return file
}

// with returns the archive with other blocks and the same first one.
func (a archive) with(blocks ...car.Block) archive {
	return archive{a.root, append(slices.Clone(a.blocks), blocks...)}
}

func (a archive) without(id cid.Cid) archive {
	return archive{a.root, slices.DeleteFunc(slices.Clone(a.blocks), func(b car.Block) bool { return b.CID.Equals(id) })}
}

func block(v any) car.Block {
	data, err := dagcbor.Encode(v)
	if err != nil {
		panic(err)
	}
	return car.Block{CID: dagcbor.CID(data), Data: data}
}

// readArchive reads a CAR file of one root.
func readArchive(t testing.TB, file []byte) archive {
	t.Helper()
	r, err := car.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var a archive
	if len(r.Roots()) > 0 {
		a.root = r.Roots()[0]
	}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return a
		}
		if err != nil {
			t.Fatal(err)
		}
		a.blocks = append(a.blocks, b)
	}
}

// tree returns the nodes and records of a tree, records first.
func tree(t testing.TB, records map[string]car.Block) (root cid.Cid, blocks []car.Block) {
	t.Helper()
	keys := make([]string, 0, len(records))
	for key := range records {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	b := mst.Builder{Emit: func(n mst.Changed) error {
		blocks = append(blocks, car.Block{CID: n.CID, Data: n.Block})
		return nil
	}}
	for _, key := range keys {
		blocks = append(blocks, records[key])
		if err := b.Add(key, records[key].CID); err != nil {
			t.Fatal(err)
		}
	}
	link, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return link.CID, blocks
}

// pack signs a commit over a tree and puts it behind the rest; the specification's
// order has it first.
func pack(t testing.TB, did syntax.DID, rev syntax.TID, key atcrypto.PrivateKey, root cid.Cid, blocks []car.Block) archive {
	t.Helper()
	c := repo.Commit{DID: did, Data: root, Rev: rev}
	if err := c.Sign(key); err != nil {
		t.Fatal(err)
	}
	commit := car.Block{Data: c.Encode()}
	commit.CID = dagcbor.CID(commit.Data)
	return archive{commit.CID, append(slices.Clone(blocks), commit)}
}

// posts returns n records of some collections.
func posts(n int) map[string]car.Block {
	out := map[string]car.Block{}
	for i := range n {
		collection := []string{"app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.graph.follow"}[i%3]
		out[fmt.Sprintf("%s/%s", collection, syntax.NewTID(int64(i)*1_000_003+1_700_000_000_000_000, 1))] = block(map[string]any{
			"$type": collection, "text": fmt.Sprintf("record %d", i), "createdAt": "2026-08-01T12:00:00.000Z",
		})
	}
	return out
}

// export returns the repository as a file.
func (p *person) export() []byte {
	p.w.t.Helper()
	var file bytes.Buffer
	if err := p.w.Export(p.w.t.Context(), p.account(), &file); err != nil {
		p.w.t.Fatal(err)
	}
	return file.Bytes()
}

func (p *person) account() repo.Account {
	p.w.t.Helper()
	a, err := p.w.Accounts.Find(p.w.t.Context(), p.did.AtIdentifier())
	if err != nil {
		p.w.t.Fatal(err)
	}
	return a
}

func (p *person) imports(file []byte) (repo.Imported, error) {
	return p.w.Import(p.w.t.Context(), p.account(), bytes.NewReader(file))
}

func (p *person) mustImport(file []byte) repo.Imported {
	p.w.t.Helper()
	done, err := p.imports(file)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return done
}

// checkExport reads the repository with indigo, and checks the order of its file
// against a walk through the tree.
func (p *person) checkExport() {
	p.w.t.Helper()
	p.checkFile(p.export())
	head := p.head()
	if file := readArchive(p.w.t, p.export()); file.root != head.CID {
		p.w.t.Errorf("exported %s, the head is %s", file.root, head.CID)
	}
}

func (p *person) checkFile(file []byte) *repo.Commit {
	p.w.t.Helper()
	commit, loaded, err := indigo.LoadRepoFromCAR(p.w.t.Context(), bytes.NewReader(file))
	if err != nil {
		p.w.t.Fatal(err)
	}
	if err := errors.Join(commit.VerifyStructure(), commit.VerifySignature(p.public), loaded.MST.Verify()); err != nil {
		p.w.t.Fatal(err)
	}
	a := readArchive(p.w.t, file)
	want := []cid.Cid{a.root}
	byCID := map[cid.Cid][]byte{}
	for _, b := range a.blocks {
		byCID[b.CID] = b.Data
	}
	walker := mst.Walker{
		Load:  func(l *mst.Link) (*mst.Node, error) { return mst.Decode(byCID[l.CID]) },
		Node:  func(l *mst.Link, _ *mst.Node) error { want = append(want, l.CID); return nil },
		Entry: func(_ string, id cid.Cid) error { want = append(want, id); return nil },
	}
	own, err := repo.DecodeCommit(byCID[a.root])
	if err != nil || own.Rev.String() != commit.Rev || own.DID != p.did {
		p.w.t.Fatalf("the commit is %+v, indigo sees %+v, %v", own, commit, err)
	}
	if err := walker.Walk(mst.Link{CID: own.Data}); err != nil {
		p.w.t.Fatal(err)
	}
	if !slices.EqualFunc(a.blocks, want, func(b car.Block, id cid.Cid) bool { return b.CID.Equals(id) }) {
		p.w.t.Errorf("%d blocks, not in the order of the tree's %d", len(a.blocks), len(want))
	}
	return own
}

// TestTransferRoundTrip: an export from here is imported elsewhere with the same
// root; with the account's key, as the very same commit.
func TestTransferRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 2, 100, 3000} {
		w := newWorld(t)
		w.TempDir = t.TempDir()
		alice := w.person("alice")
		root, blocks := tree(t, posts(n))
		rev := repo.NextTID(w.Now(), 1, alice.head().Rev)
		file := pack(t, alice.did, rev, w.keys[alice.id], root, blocks)
		done := alice.mustImport(file.bytes())
		if n > 0 && (!done.Kept || done.CID != file.root || done.Rev != rev || done.Records != int64(n)) {
			t.Errorf("%d records: %+v", n, done)
		}
		alice.checkExport()
		if got := len(alice.records()); got != n {
			t.Errorf("%d records of %d", got, n)
		}

		// Another server has another key for the account.
		other := newWorld(t)
		moved := other.person("alice")
		before := moved.head()
		done = moved.mustImport(alice.export())
		moved.checkExport()
		head := moved.head()
		if head.Root.CID != root || head.CID != done.CID || n > 0 && (done.Kept || head.Rev <= rev || head.Rev <= before.Rev) {
			t.Errorf("%d records: moved to %+v, %+v", n, done, head)
		}
		// It goes on there, and the old file is still a part of its past.
		moved.mustCreate("app.bsky.feed.post", nil, `{"$type":"app.bsky.feed.post","text":"hello","createdAt":"2026-08-01T12:00:00Z"}`)
		moved.checkExport()
		if got := len(moved.records()); got != n+1 {
			t.Errorf("%d records of %d", got, n+1)
		}
		if head.Rev >= moved.head().Rev || strings.Compare(moved.head().Rev.String(), rev.String()) <= 0 {
			t.Errorf("revision %s after %s", moved.head().Rev, head.Rev)
		}
	}
}
