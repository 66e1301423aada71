package sqlite_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
	"nestbox/store/sqlite"
)

// post is the write of a record of a usual size.
func post(n int) repo.Write {
	block, err := dagcbor.Encode(map[string]any{
		"$type": "app.bsky.feed.post", "createdAt": "2026-11-24T12:00:00.000Z", "langs": []any{"en"},
		"text": fmt.Sprintf("post %d: it says something, at the length that such a post usually has, and no more than that", n),
	})
	if err != nil {
		panic(err)
	}
	return repo.Write{Key: "app.bsky.feed.post/" + postKey(n), CID: dagcbor.CID(block), Block: block}
}

// postKey is a revision, as posts have one for a key.
func postKey(n int) string { return syntax.NewTID(start.UnixMicro()+int64(n)*1000, 7).String() }

// writer computes the commits of one account, as the domain does.
type writer struct {
	repos   sqlite.Repos
	account *account.Account
	commits int
}

func newWriter(tb testing.TB, db *sqlite.DB, name string) *writer {
	tb.Helper()
	w := &writer{repos: sqlite.Repos{DB: db}, account: addAccount(tb, db, name)}
	d := mst.NewTree(1).Flush()
	c := w.finish(repo.Change{Next: repo.Head{Root: d.Root, NextNode: d.NextID}, Nodes: d.Changed}, nil)
	if err := w.repos.Begin(tb.Context(), c); err != nil {
		tb.Fatal(err)
	}
	return w
}

// finish makes the commit of a change, without a real signature.
func (w *writer) finish(c repo.Change, proof []car.Block) repo.Change {
	w.commits++
	since := c.Next.Rev
	c.AccountID, c.At = w.account.ID, start
	c.Next.Rev = syntax.NewTID(start.UnixMicro()+int64(w.commits), 0)
	c.Next.First = cmp.Or(c.Next.First, c.Next.Rev)
	commit := repo.Commit{DID: w.account.DID, Data: c.Next.Root.CID, Rev: c.Next.Rev, Sig: make([]byte, 64)}
	c.Next.Commit = commit.Encode()
	c.Next.CID = dagcbor.CID(c.Next.Commit)
	e := event.Commit{
		DID: w.account.DID, Rev: c.Next.Rev, Commit: car.Block{CID: c.Next.CID, Data: c.Next.Commit}, Since: since, Blocks: proof, Time: start,
	}
	for _, r := range c.Writes {
		if r.Block == nil {
			e.Ops = append(e.Ops, event.Op{Action: event.ActionDelete, Path: r.Key})
			continue
		}
		e.Ops = append(e.Ops, event.Op{Action: event.ActionCreate, Path: r.Key, CID: r.CID})
		e.Blocks = append(e.Blocks, car.Block{CID: r.CID, Data: r.Block})
	}
	c.Event = e.Event()
	return c
}

// change computes a commit on the repository as it is stored.
func (w *writer) change(tb testing.TB, writes ...repo.Write) (c repo.Change) {
	tb.Helper()
	var proof []car.Block
	err := w.repos.View(tb.Context(), w.account.ID, func(v repo.View) error {
		head := v.Head()
		tree, err := mst.Open(head.Root, head.NextNode, v.Node)
		if err != nil {
			return err
		}
		c.Was, c.Next, c.Writes = head.CID, head, writes
		var keys []string
		for _, r := range writes {
			if r.Block == nil {
				c.Next.Records--
				_, err = tree.Delete(r.Key)
			} else {
				c.Next.Records++
				err = tree.Create(r.Key, r.CID)
			}
			if err != nil {
				return err
			}
			keys = append(keys, r.Key)
		}
		d := tree.Flush()
		c.Next.Root, c.Next.NextNode, c.Nodes, c.Freed = d.Root, d.NextID, d.Changed, d.Freed
		return tree.Proof(keys, func(n mst.Changed) { proof = append(proof, car.Block{CID: n.CID, Data: n.Block}) })
	})
	if err != nil {
		tb.Fatal(err)
	}
	return w.finish(c, proof)
}

func (w *writer) commit(tb testing.TB, writes ...repo.Write) {
	tb.Helper()
	if err := w.repos.Commit(tb.Context(), w.change(tb, writes...)); err != nil {
		tb.Fatal(err)
	}
}

// stage stages an import of n posts. Its change is what Switch is called with.
func (w *writer) stage(tb testing.TB, n int) repo.Change {
	tb.Helper()
	const step = 2000
	number, err := w.repos.Stage(tb.Context(), w.account.ID)
	if err != nil {
		tb.Fatal(err)
	}
	rev := syntax.NewTID(start.UnixMicro()+int64(w.commits)+1, 0)
	var nodes []mst.Changed
	var records []repo.Write
	flush := func() {
		if err := w.repos.Fill(tb.Context(), number, rev, nodes, records); err != nil {
			tb.Fatal(err)
		}
		nodes, records = nodes[:0], records[:0]
	}
	builder := mst.Builder{NextID: 1, Emit: func(n mst.Changed) error { nodes = append(nodes, n); return nil }}
	for i := range n {
		r := post(i)
		if err := builder.Add(r.Key, r.CID); err != nil {
			tb.Fatal(err)
		}
		if records = append(records, r); len(records) == step {
			flush()
		}
	}
	root, err := builder.Finish()
	if err != nil {
		tb.Fatal(err)
	}
	flush()
	return w.finish(repo.Change{Next: repo.Head{Number: number, Root: root, NextNode: builder.NextID, Records: int64(n)}}, nil)
}

// fill imports n posts.
func (w *writer) fill(tb testing.TB, n int) {
	tb.Helper()
	var was cid.Cid
	err := w.repos.View(tb.Context(), w.account.ID, func(v repo.View) error { was = v.Head().CID; return nil })
	if err != nil {
		tb.Fatal(err)
	}
	c := w.stage(tb, n)
	if err := w.repos.Switch(tb.Context(), w.account.ID, was, c.Next, c.Event, c.At); err != nil {
		tb.Fatal(err)
	}
}

// benchDB is a database for a benchmark, checked at its end.
func benchDB(b *testing.B) (db *sqlite.DB, path string) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "nestbox.sqlite")
	db = openDB(b, path, sqlite.Options{})
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
		verify(b, path)
	})
	return db, path
}

// cpu reports the processor time of a benchmark since it was called: unlike
// elapsed time, it is the same on a busy machine.
func cpu(b *testing.B) (report func()) {
	b.Helper()
	spent := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := spent()
	return func() { b.ReportMetric(float64((spent()-before).Nanoseconds())/float64(b.N), "cpu-ns/op") }
}

// BenchmarkCommit adds posts to repositories of 1,000: the domain's computation
// except signing and validation, and the store's part. Parallel accounts share
// commits.
func BenchmarkCommit(b *testing.B) {
	for _, accounts := range []int{1, 64} {
		b.Run(fmt.Sprintf("accounts=%d", accounts), func(b *testing.B) {
			db, _ := benchDB(b)
			writers := make(chan *writer, accounts)
			for i := range accounts {
				w := newWriter(b, db, fmt.Sprintf("account%d", i))
				w.fill(b, 1000)
				writers <- w
			}
			var n atomic.Int64
			b.SetParallelism(accounts)
			b.ReportAllocs()
			b.ResetTimer()
			defer cpu(b)()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					w := <-writers
					w.commit(b, post(1000+int(n.Add(1))))
					writers <- w
				}
			})
		})
	}
}

// BenchmarkEach is the store's part of an export.
func BenchmarkEach(b *testing.B) {
	db, _ := benchDB(b)
	w := newWriter(b, db, "alice")
	w.fill(b, 1000)
	each := func(b *testing.B, fn func(repo.View) error) {
		b.Helper()
		b.ReportAllocs()
		defer cpu(b)()
		for b.Loop() {
			if err := w.repos.View(b.Context(), w.account.ID, fn); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("record", func(b *testing.B) {
		each(b, func(v repo.View) error { return v.EachRecord("", func(repo.Record) error { return nil }) })
	})
	b.Run("node", func(b *testing.B) {
		each(b, func(v repo.View) error { return v.EachNode("", func(int64, []int64, []byte) error { return nil }) })
	})
	b.Run("none", func(b *testing.B) { each(b, func(repo.View) error { return nil }) })
	b.Run("one", func(b *testing.B) {
		key := post(500).Key
		each(b, func(v repo.View) error { _, err := v.Record(key); return err })
	})
	b.Run("path", func(b *testing.B) {
		key := post(1000).Key
		each(b, func(v repo.View) error {
			tree, err := mst.Open(v.Head().Root, v.Head().NextNode, v.Node)
			if err == nil {
				_, err = tree.Get(key)
			}
			if err == mst.ErrNotFound { //nolint:errorlint // as Get returns it
				err = nil
			}
			return err
		})
	})
}

// BenchmarkFill imports 100,000 records.
func BenchmarkFill(b *testing.B) {
	db, _ := benchDB(b)
	i := 0
	defer cpu(b)()
	for b.Loop() {
		i++
		newWriter(b, db, fmt.Sprintf("account%d", i)).fill(b, 100_000)
	}
}
