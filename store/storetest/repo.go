package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/dagcbor"
	"nestbox/firehose"
	stream "nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

var repoTests = tests{
	"RepoCommit":         testRepoCommit,
	"RepoRefused":        testRepoRefused,
	"RepoInactive":       testRepoInactive,
	"RepoRace":           testRepoRace,
	"RepoViewIsOneState": testRepoViewIsOneState,
}

// owner is an account with a repository, and what the repository must hold.
type owner struct {
	*account.Account

	records map[string]repo.Record
	// refs are the blobs that each record refers to.
	refs map[string][]cid.Cid
	head repo.Head
	// revs are the revisions so far, nodes the one that wrote each node.
	revs  []syntax.TID
	nodes map[int64]syntax.TID
}

// newOwner makes an account with an empty repository.
func newOwner(t *testing.T, s *Database, name string) *owner {
	t.Helper()
	o := &owner{Account: newAccount(t, s, name)}
	if err := s.Repos.Begin(t.Context(), o.first()); err != nil {
		t.Fatal(err)
	}
	o.made(t, s, o.first())
	return o
}

// tid is the revision of a minute of the story.
func tid(minute int) syntax.TID { return syntax.NewTIDFromTime(at(minute), 0) }

// signed makes c the commit of its head's revision and tree. Its signature is
// all zeros: no store reads it.
func signed(c repo.Change) repo.Change {
	c.Next.First = cmp.Or(c.Next.First, c.Next.Rev)
	commit := repo.Commit{DID: c.Next.DID, Data: c.Next.Root.CID, Rev: c.Next.Rev, Sig: make([]byte, 64)}
	c.Next.Commit = commit.Encode()
	c.Next.CID = dagcbor.CID(c.Next.Commit)
	c.Event = stream.Sync{DID: c.Next.DID, Rev: c.Next.Rev, Commit: car.Block{CID: c.Next.CID, Data: c.Next.Commit}, Time: c.At}.Event()
	return c
}

// first is the change that begins the repository.
func (o *owner) first() repo.Change {
	d := mst.NewTree(1).Flush()
	return signed(repo.Change{
		AccountID: o.ID, At: at(1),
		Next:  repo.Head{DID: o.DID, Rev: tid(1), Root: d.Root, NextNode: d.NextID},
		Nodes: d.Changed,
	})
}

// put is the write of a record with a text, and with the blobs that it refers to.
func put(key, text string, blobs ...cid.Cid) repo.Write {
	block, err := dagcbor.Encode(map[string]any{"text": text})
	if err != nil {
		panic(err)
	}
	return repo.Write{Key: key, CID: dagcbor.CID(block), Block: block, Blobs: blobs}
}

// remove is the write that deletes a record.
func remove(key string) repo.Write { return repo.Write{Key: key} }

// change computes the commit of some writes on the repository as it is stored,
// at the next minute.
func (o *owner) change(t *testing.T, s *Database, writes ...repo.Write) repo.Change {
	t.Helper()
	c := repo.Change{AccountID: o.ID, Writes: writes}
	err := s.Repos.View(t.Context(), o.ID, func(v repo.View) error {
		head := v.Head()
		tree, err := mst.Open(head.Root, head.NextNode, v.Node)
		if err != nil {
			return err
		}
		c.Was, c.Next = head.CID, head
		for _, w := range writes {
			if err := apply(tree, w, &c.Next.Records); err != nil {
				return err
			}
		}
		d := tree.Flush()
		c.Next.Root, c.Next.NextNode, c.Nodes, c.Freed = d.Root, d.NextID, d.Changed, d.Freed
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	minute := len(o.revs) + 1
	c.Next.Rev, c.At = tid(minute), at(minute)
	return signed(c)
}

func apply(tree *mst.Tree, w repo.Write, records *int64) error {
	if w.Block == nil {
		*records--
		_, err := tree.Delete(w.Key)
		return err
	}
	err := tree.Create(w.Key, w.CID)
	if errors.Is(err, mst.ErrExists) {
		_, err = tree.Update(w.Key, w.CID)
		return err
	}
	*records++
	return err
}

// commit makes a change that must succeed.
func (o *owner) commit(t *testing.T, s *Database, writes ...repo.Write) repo.Change {
	t.Helper()
	c := o.change(t, s, writes...)
	if err := s.Repos.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	o.made(t, s, c)
	return c
}

// made notes what the repository holds after c. If c was its first, the store
// has chosen the number.
func (o *owner) made(t *testing.T, s *Database, c repo.Change) {
	t.Helper()
	if o.records == nil {
		o.records, o.refs, o.nodes = map[string]repo.Record{}, map[string][]cid.Cid{}, map[int64]syntax.TID{}
	}
	if c.Next.Number == 0 {
		o.view(t, s, func(v repo.View) { c.Next.Number = v.Head().Number })
	}
	o.head, o.revs = c.Next, append(o.revs, c.Next.Rev)
	for _, w := range c.Writes {
		delete(o.records, w.Key)
		delete(o.refs, w.Key)
		if w.Block != nil {
			o.records[w.Key] = repo.Record{Key: w.Key, CID: w.CID, Rev: c.Next.Rev, Block: w.Block}
			o.refs[w.Key] = w.Blobs
		}
	}
	for _, n := range c.Nodes {
		o.nodes[n.ID] = c.Next.Rev
	}
	for _, id := range c.Freed {
		delete(o.nodes, id)
	}
}

// view runs fn on the repository, which must be there.
func (o *owner) view(t *testing.T, s *Database, fn func(repo.View)) {
	t.Helper()
	if err := s.Repos.View(context.WithoutCancel(t.Context()), o.ID, func(v repo.View) error { fn(v); return nil }); err != nil {
		t.Fatal(err)
	}
}

// check compares all that the store returns of the repository with what it must
// hold.
func (o *owner) check(t *testing.T, s *Database) {
	t.Helper()
	o.view(t, s, func(v repo.View) { o.checkView(t, v) })
}

func (o *owner) checkView(t *testing.T, v repo.View) {
	t.Helper()
	sameHead(t, v.Head(), o.head)
	o.checkTree(t, v)
	o.checkRecords(t, v, "")
}

// checkTree walks the tree by its numbered nodes: it leads to exactly the
// records, and its nodes are exactly those that are stored.
func (o *owner) checkTree(t *testing.T, v repo.View) {
	t.Helper()
	children, blocks := map[int64][]int64{}, map[int64][]byte{}
	err := v.EachNode("", func(id int64, c []int64, block []byte) error {
		if blocks[id] != nil {
			t.Errorf("node %d comes twice", id)
		}
		children[id], blocks[id] = slices.Clone(c), bytes.Clone(block)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(blocks)), slices.Sorted(maps.Keys(o.nodes)); !slices.Equal(got, want) {
		t.Errorf("nodes %d, want %d", got, want)
	}
	keys := 0
	walker := mst.Walker{
		Load: v.Node,
		Node: func(l *mst.Link, n *mst.Node) error {
			var ids []int64
			for _, c := range n.Children() {
				if c != nil {
					ids = append(ids, c.ID)
				}
			}
			if !slices.Equal(ids, children[n.ID]) || !bytes.Equal(n.Encode(), blocks[n.ID]) || !dagcbor.CID(blocks[n.ID]).Equals(l.CID) || n.ID != l.ID {
				t.Errorf("node %d is not the row: children %d, %d", n.ID, ids, children[n.ID])
			}
			delete(blocks, n.ID)
			return nil
		},
		Entry: func(key string, value cid.Cid) error {
			keys++
			if r := o.records[key]; !r.CID.Equals(value) {
				t.Errorf("the tree has %s at %s, want %s", value, key, r.CID)
			}
			return nil
		},
	}
	if err := walker.Walk(v.Head().Root); err != nil {
		t.Error(err)
	}
	if keys != len(o.records) || len(blocks) > 0 {
		t.Errorf("the tree has %d records, want %d; %d nodes are not in it", keys, len(o.records), len(blocks))
	}
}

// checkRecords compares the records that a commit after since wrote.
func (o *owner) checkRecords(t *testing.T, v repo.View, since syntax.TID) {
	t.Helper()
	var want []string
	for key, r := range o.records {
		if r.Rev > since {
			want = append(want, key)
		}
	}
	slices.Sort(want)
	var got []string
	err := v.EachRecord(since, func(r repo.Record) error {
		got = append(got, strings.Clone(r.Key))
		sameRecord(t, r, o.records[r.Key])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("since %q: records %q, want %q", since, got, want)
	}
	for _, key := range want {
		r, err := v.Record(key)
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		sameRecord(t, r, o.records[key])
	}
}

func sameRecord(t *testing.T, got, want repo.Record) {
	t.Helper()
	if got.Key != want.Key || !got.CID.Equals(want.CID) || got.Rev != want.Rev || !bytes.Equal(got.Block, want.Block) {
		t.Errorf("record %+v\nwant %+v", got, want)
	}
}

func sameHead(t *testing.T, got, want repo.Head) {
	t.Helper()
	if got.Number != want.Number || got.DID != want.DID || !got.CID.Equals(want.CID) || got.Rev != want.Rev || !bytes.Equal(got.Commit, want.Commit) ||
		got.Root.ID != want.Root.ID || !got.Root.CID.Equals(want.Root.CID) || got.NextNode != want.NextNode || got.Records != want.Records ||
		got.First != want.First || got.Removed != want.Removed {
		t.Errorf("head %+v\nwant %+v", got, want)
	}
}

// logged are the events of the log after a number.
func logged(t *testing.T, s *Database, after int64) []firehose.Logged {
	t.Helper()
	events, err := s.Log.Read(t.Context(), after, 1000, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// logs fails the test unless the log has exactly the events of some changes
// after a number, in order.
func logs(t *testing.T, s *Database, after int64, want ...repo.Change) {
	t.Helper()
	got := logged(t, s, after)
	for i, e := range got {
		if i >= len(want) || e.Seq != after+int64(i)+1 || e.Kind != want[i].Event.Kind || e.DID != want[i].Event.DID ||
			!bytes.Equal(e.Body, want[i].Event.Body) || e.Split != want[i].Event.Split || !e.At.Equal(want[i].At) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d events, want %d", len(got), len(want))
	}
}

// last is the number of the log's last event.
func last(t *testing.T, s *Database) int64 {
	t.Helper()
	b, err := s.Log.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b.Last
}

// testRepoCommit: the repository is what its commits made of it, over many of
// them, and after a restart.
func testRepoCommit(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	alice.check(t, s)
	before := last(t, s)
	var all []repo.Change
	for i, writes := range [][]repo.Write{
		{put("app.post/1", "one")},
		{put("app.post/1", "one, changed")},
		{put("app.post/2", "two"), put("app.like/1", "like"), remove("app.post/1")},
		{}, // a commit without a change, as of a new key
		{put("app.post/1", "again"), put("app.post/1", "twice in one commit"), put("app.post/3", "gone at once"), remove("app.post/3")},
		{put("app.like/1", "like")}, // as it was
		{put("app.post/4", strings.Repeat("large", 200_000))},
		{remove("app.post/1"), remove("app.post/2"), remove("app.like/1"), remove("app.post/4")},
	} {
		all = append(all, alice.commit(t, s, writes...))
		alice.check(t, s)
		if i%3 == 0 {
			s.Reopen()
			alice.check(t, s)
		}
	}
	logs(t, s, before, all...)
	bob.check(t, s)

	random := rand.New(rand.NewPCG(1, 2)) // the same at each run
	for i := range 40 {
		var writes []repo.Write
		seen := map[string]bool{}
		for range 1 + random.IntN(20) {
			key := fmt.Sprintf("app.post/%d", random.IntN(200))
			switch _, there := alice.records[key]; {
			case seen[key]:
				continue
			case there && random.IntN(2) == 0:
				writes = append(writes, remove(key))
			default:
				writes = append(writes, put(key, fmt.Sprintf("%d", i)))
			}
			seen[key] = true
		}
		alice.commit(t, s, writes...)
		alice.check(t, s)
	}
	s.Reopen()
	alice.check(t, s)
	bob.check(t, s)
}

// wantRefused fails the test unless err is want, or, if want is nil, any error but the
// sentinels.
func wantRefused(t *testing.T, err, want error) {
	t.Helper()
	if want != nil && !errors.Is(err, want) || want == nil && (err == nil || isSentinel(err)) {
		t.Errorf("%v, want %v", err, want)
	}
}

// testRepoRefused: a refused change changes nothing, and makes no event.
func testRepoRefused(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	alice.commit(t, s, put("app.post/1", "one"))
	bob.commit(t, s, put("app.post/1", "of bob"))
	reserved, err := s.Hosting.Reserve(t.Context(), pending("carol"))
	if err != nil {
		t.Fatal(err)
	}
	bare := newAccount(t, s, "bare")
	before := last(t, s)
	for name, c := range map[string]struct {
		spoil func(*repo.Change)
		want  error // nil: any but the sentinels
	}{
		"another base":                {func(c *repo.Change) { c.Was = put("", "").CID }, repo.ErrConflict},
		"no base":                     {func(c *repo.Change) { c.Was = cid.Undef }, repo.ErrConflict},
		"another one's number":        {func(c *repo.Change) { c.Next.Number = bob.head.Number }, repo.ErrConflict},
		"another one's account":       {func(c *repo.Change) { c.AccountID = bob.ID }, repo.ErrConflict},
		"no account":                  {func(c *repo.Change) { c.AccountID = 1 << 40 }, repo.ErrNoRepo},
		"an account that is reserved": {func(c *repo.Change) { c.AccountID = reserved }, repo.ErrNoRepo},
		"no repository":               {func(c *repo.Change) { c.AccountID = bare.ID }, repo.ErrNoRepo},
		"no blob":                     {func(c *repo.Change) { c.Writes[0].Blobs = []cid.Cid{blobOf("none").CID} }, repo.ErrNoBlob},
		"a revision that is taken":    {func(c *repo.Change) { c.Next.Rev = tid(2) }, nil},
		"an earlier revision":         {func(c *repo.Change) { c.Next.Rev = tid(1) }, nil},
		"a wrong count":               {func(c *repo.Change) { c.Next.Records++ }, nil},
		"nothing to remove": {func(c *repo.Change) {
			c.Writes = append(c.Writes, remove("app.post/none"))
			c.Next.Records--
		}, nil},
		"a node without a number": {func(c *repo.Change) { c.Nodes[0].ID = 0 }, nil},
		"a node number too large": {func(c *repo.Change) { c.Nodes[0].ID = 1 << 32 }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			change := alice.change(t, s, put("app.post/2", "two"), put("app.post/1", "changed"))
			c.spoil(&change)
			err := s.Repos.Commit(t.Context(), change)
			wantRefused(t, err, c.want)
			if errors.Is(c.want, repo.ErrNoBlob) && !strings.Contains(fmt.Sprint(err), blobOf("none").CID.String()) {
				t.Errorf("%v names no blob", err)
			}
			alice.check(t, s)
			bob.check(t, s)
		})
	}
	t.Run("a chain is made as a whole, or not at all", func(t *testing.T) {
		change := alice.change(t, s, put("app.post/2", "two"))
		if err := s.Repos.CommitChain(t.Context(), []repo.Change{change, change}); !errors.Is(err, repo.ErrConflict) {
			t.Errorf("a chain that does not follow: %v", err)
		}
		alice.check(t, s)
		if err := s.Repos.CommitChain(t.Context(), nil); err != nil {
			t.Errorf("a chain of nothing: %v", err)
		}
	})
	for name, c := range map[string]struct {
		spoil func(*repo.Change)
		want  error
	}{
		"there is one":                {func(c *repo.Change) { c.AccountID = alice.ID }, repo.ErrConflict},
		"no account":                  {func(c *repo.Change) { c.AccountID = 1 << 40 }, repo.ErrNoRepo},
		"an account that is reserved": {func(c *repo.Change) { c.AccountID = reserved }, repo.ErrNoRepo},
		"with records":                {func(c *repo.Change) { c.Writes = []repo.Write{put("app.post/1", "x")} }, nil},
	} {
		t.Run("begin: "+name, func(t *testing.T) {
			change := (&owner{Account: bare}).first()
			c.spoil(&change)
			wantRefused(t, s.Repos.Begin(t.Context(), change), c.want)
		})
	}
	for _, id := range []int64{bare.ID, reserved, 1 << 40} {
		err := s.Repos.View(t.Context(), id, func(repo.View) error { t.Error("seen"); return nil })
		if !errors.Is(err, repo.ErrNoRepo) {
			t.Errorf("view of account %d: %v", id, err)
		}
	}
	s.Reopen()
	alice.check(t, s)
	bob.check(t, s)
	logs(t, s, before)
}

func isSentinel(err error) bool {
	return slices.ContainsFunc([]error{repo.ErrNoRepo, repo.ErrConflict, repo.ErrInactive, repo.ErrNoBlob},
		func(sentinel error) bool { return errors.Is(err, sentinel) })
}

// testRepoInactive: an account that is not active takes no writes; its first
// repository is made without an event.
func testRepoInactive(t *testing.T, s *Database) {
	t.Helper()
	alice, bare := newOwner(t, s, "alice"), newAccount(t, s, "bare")
	alice.commit(t, s, put("app.post/1", "one"))
	before := last(t, s)
	taken, free, on, off := &account.Applied{Applied: true}, &account.Applied{}, new(true), new(false)
	for name, c := range map[string]struct{ inactive, active account.StatusChange }{
		"taken down":  {account.StatusChange{Takedown: taken}, account.StatusChange{Takedown: free}},
		"suspended":   {account.StatusChange{Suspended: on}, account.StatusChange{Suspended: off}},
		"deactivated": {account.StatusChange{Deactivated: on}, account.StatusChange{Deactivated: off}},
	} {
		setStatus(t, s, alice.Account, c.inactive)
		if err := s.Repos.Commit(t.Context(), alice.change(t, s, put("app.post/2", "two"))); !errors.Is(err, repo.ErrInactive) {
			t.Errorf("%s: %v", name, err)
		}
		alice.check(t, s)
		setStatus(t, s, alice.Account, c.active)
	}
	setStatus(t, s, bare, account.StatusChange{Deactivated: on})
	late := &owner{Account: bare}
	if err := s.Repos.Begin(t.Context(), late.first()); err != nil {
		t.Errorf("begin: %v", err)
	}
	late.made(t, s, late.first())
	late.check(t, s)
	for _, e := range logged(t, s, before) {
		if e.DID == bare.DID && e.Kind != stream.KindAccount {
			t.Errorf("%s of an account that is not active", e.Kind)
		}
	}
	before = last(t, s)
	logs(t, s, before, alice.commit(t, s, put("app.post/2", "two")))
}

// testRepoRace: of several changes to one commit one wins; nothing of the
// others is kept, and the log has no gap.
func testRepoRace(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	before := last(t, s)
	var won []repo.Change
	for round := range 10 {
		var changes []repo.Change
		for i := range 8 {
			changes = append(changes, alice.change(t, s, put(fmt.Sprintf("app.post/%d-%d", round, i), "mine"), put("app.post/all", fmt.Sprintf("%d", i))))
		}
		errs := make([]error, len(changes))
		var all sync.WaitGroup
		for i, c := range changes {
			all.Go(func() { errs[i] = s.Repos.Commit(t.Context(), c) })
		}
		all.Wait()
		for i, err := range errs {
			switch {
			case err == nil:
				won = append(won, changes[i])
				alice.made(t, s, changes[i])
			case !errors.Is(err, repo.ErrConflict):
				t.Error(err)
			}
		}
		if len(won) != round+1 {
			t.Fatalf("%d changes won in %d rounds", len(won), round+1)
		}
		alice.check(t, s)
	}
	s.Reopen()
	logs(t, s, before, won...)
}

// testRepoViewIsOneState: a view does not see what is committed meanwhile.
func testRepoViewIsOneState(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	alice.commit(t, s, put("app.post/1", "one"), put("app.post/2", "two"))
	then := *alice
	then.records, then.nodes = maps.Clone(alice.records), maps.Clone(alice.nodes)
	c := alice.change(t, s, put("app.post/1", "changed"), remove("app.post/2"), put("app.post/3", "three"))
	seen := errors.New("what fn returns")
	err := s.Repos.View(t.Context(), alice.ID, func(v repo.View) error {
		if err := s.Repos.Commit(t.Context(), c); err != nil {
			t.Error(err)
		}
		then.checkView(t, v)
		return seen
	})
	if !errors.Is(err, seen) {
		t.Errorf("View returned %v", err)
	}
	alice.made(t, s, c)
	alice.check(t, s)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Repos.View(cancelled, alice.ID, func(repo.View) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled view: %v", err)
	}
	if err := s.Repos.Commit(cancelled, alice.change(t, s)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled commit: %v", err)
	}
	alice.check(t, s)
}

func setStatus(t *testing.T, s *Database, a *account.Account, c account.StatusChange) {
	t.Helper()
	if _, err := s.Accounts.SetStatus(t.Context(), a.ID, c, entry(account.EntryActivated)); err != nil {
		t.Fatal(err)
	}
}
