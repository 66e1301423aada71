package repo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/repo"
)

// held is a store whose first commit waits until it may go on, so that others
// queue up behind it, and that shows each chain before it is stored.
type held struct {
	repo.Store

	once  sync.Once
	first chan struct{} // closed when the first commit is there
	open  chan struct{}
	// chain, if set, is called with each chain and may change it.
	chain  func([]repo.Change)
	mu     sync.Mutex
	chains []int
}

func (h *held) Commit(ctx context.Context, c repo.Change) error {
	h.once.Do(func() { close(h.first); <-h.open })
	return h.Store.Commit(ctx, c)
}

func (h *held) CommitChain(ctx context.Context, chain []repo.Change) error {
	h.mu.Lock()
	h.chains = append(h.chains, len(chain))
	h.mu.Unlock()
	if h.chain != nil {
		h.chain(chain)
	}
	return h.Store.CommitChain(ctx, chain)
}

// write is a named call of a client.
type write struct {
	name string
	do   func(ctx context.Context) error
}

// together makes one write, which is held, and meanwhile the others, queued in their
// order. queued runs when all are queued. It returns the result of each.
func (p *person) together(h *held, queued func(), writes ...write) map[string]error {
	p.w.t.Helper()
	h.Store, h.first, h.open = p.w.Store, make(chan struct{}), make(chan struct{})
	p.w.Service.Store = h
	defer func() { p.w.Service.Store = h.Store }()
	var all sync.WaitGroup
	var mu sync.Mutex
	out := map[string]error{}
	begin := func(w write) {
		all.Go(func() {
			err := w.do(p.w.t.Context())
			mu.Lock()
			defer mu.Unlock()
			out[w.name] = err
		})
	}
	begin(write{"held", func(ctx context.Context) error { return p.createAt(ctx, foo, "held", `{}`) }})
	<-h.first
	for i, w := range writes {
		begin(w)
		for p.w.Queued(p.id) <= i {
			time.Sleep(time.Millisecond)
		}
	}
	if queued != nil {
		queued()
	}
	close(h.open)
	all.Wait()
	if n := p.w.Queued(p.id); n != 0 {
		p.w.t.Errorf("%d calls are left in the queue", n)
	}
	return out
}

func (p *person) createAt(ctx context.Context, collection, rkey, record string) error {
	in := repo.CreateRecordInput{Repo: p.did.String(), Collection: collection, Record: jsontext.Value(record)}
	if rkey != "" {
		in.RKey = &rkey
	}
	_, err := p.w.CreateRecord(ctx, p.caller, in)
	return err
}

// creating returns a write that creates a record with a key.
func (p *person) creating(rkey string) write {
	return write{rkey, func(ctx context.Context) error { return p.createAt(ctx, foo, rkey, `{"n":"`+rkey+`"}`) }}
}

// sound fails the test unless the repository is whole: events that follow from one
// another, a tree of the records, and only the nodes of the tree.
func (p *person) sound(wantEvents int) {
	p.w.t.Helper()
	if got := p.verifyChain(0); got != wantEvents {
		p.w.t.Errorf("%d events, want %d", got, wantEvents)
	}
	p.records()
	nodes := 0
	for _, b := range readArchive(p.w.t, p.export()).blocks {
		if strings.HasPrefix(string(b.Data), "\xa2\x61e") {
			nodes++
		}
	}
	sum, err := p.w.Summary(p.w.t.Context(), p.id)
	if err != nil || int(sum.Nodes) != nodes {
		p.w.t.Errorf("%d nodes are stored, the tree has %d: %v", sum.Nodes, nodes, err)
	}
}

// wantAll fails the test unless each write succeeded, except those in failed.
func wantAll(t *testing.T, out map[string]error, failed map[string]string) {
	t.Helper()
	for name, err := range out {
		want, fails := failed[name]
		if (err != nil) != fails || fails && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestChain: calls that wait for one another share a transaction, and each has its
// own commit and event. A call that fails, on the stored state or on what another
// call has just made, fails alone.
func TestChain(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	alice.mustCreate(foo, new("there"), `{}`)
	h := &held{}
	writes := []write{
		alice.creating("a"), alice.creating("b"),
		{"there", func(ctx context.Context) error { return alice.createAt(ctx, foo, "there", `{}`) }},
		alice.creating("c"),
		{"a again", func(ctx context.Context) error { return alice.createAt(ctx, foo, "a", `{}`) }},
		{"put", func(context.Context) error { _, err := alice.put(foo, "a", `{"put":1}`); return err }},       //nolint:contextcheck // it has the test's
		{"put again", func(context.Context) error { _, err := alice.put(foo, "a", `{"put":1}`); return err }}, //nolint:contextcheck // it has the test's
		{"stale", func(ctx context.Context) error {
			_, err := w.DeleteRecord(ctx, alice.caller, repo.DeleteRecordInput{
				Repo: alice.did.String(), Collection: foo, RKey: "there", SwapCommit: new(elsewhere),
			})
			return err
		}},
		{"remove", func(context.Context) error { _, err := alice.remove(foo, "b"); return err }}, //nolint:contextcheck // as above
		alice.creating("d"),
	}
	out := alice.together(h, nil, writes...)
	wantAll(t, out, map[string]string{"there": "already exists", "a again": "already exists", "stale": "Commit was at"})
	if !slices.ContainsFunc(h.chains, func(n int) bool { return n > 1 }) {
		t.Errorf("chains of %v: nothing was shared", h.chains)
	}
	got := alice.records()
	for key, want := range map[string]bool{"there": true, "held": true, "a": true, "b": false, "c": true, "d": true} {
		if _, ok := got[foo+"/"+key]; ok != want {
			t.Errorf("record %s is there: %t", key, ok)
		}
	}
	alice.sound(9) // the first one, there, held, a, b, c, d, put, remove
}

// TestChainOfLikes: a like replaces one of the same subject in the same chain.
func TestChainOfLikes(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	var writes []write
	for i := range 6 {
		writes = append(writes, write{fmt.Sprint(i), func(ctx context.Context) error {
			return alice.createAt(ctx, "app.bsky.feed.like", "", fmt.Sprintf(
				`{"subject":{"uri":"at://did:plc:b/app.bsky.feed.post/3jui7kd54zh2%c","cid":%q},"createdAt":"2026-08-01T12:00:00.000Z"}`, "ab"[i%2], elsewhere))
		}})
	}
	h := &held{}
	wantAll(t, alice.together(h, nil, writes...), nil)
	if !slices.Contains(h.chains, 6) {
		t.Errorf("chains of %v, want one of 6", h.chains)
	}
	likes := 0
	for key := range alice.records() {
		if strings.HasPrefix(key, "app.bsky.feed.like/") {
			likes++
		}
	}
	if likes != 2 {
		t.Errorf("%d likes, want 2", likes)
	}
	alice.sound(8)
}

// TestChainRefusedByStore: nothing of a chain that the store refuses is kept, and
// each of its calls is made again by itself.
func TestChainRefusedByStore(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	h := &held{chain: func(chain []repo.Change) { chain[len(chain)-1].Was = cid.MustParse(elsewhere) }}
	wantAll(t, alice.together(h, nil, alice.creating("a"), alice.creating("b"), alice.creating("c")), nil)
	if !slices.Equal(h.chains, []int{3}) {
		t.Errorf("chains of %v, want one of 3", h.chains)
	}
	alice.sound(5)
}

// TestChainOfInactive: an account that is deactivated while its chain is computed
// gets none of it, and every caller gets the reason.
func TestChainOfInactive(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	h := &held{chain: func([]repo.Change) { alice.status(account.StatusChange{Deactivated: new(true)}) }}
	out := alice.together(h, nil, alice.creating("a"), alice.creating("b"), alice.creating("c"))
	wantAll(t, out, map[string]string{"a": "deactivated", "b": "deactivated", "c": "deactivated"})
	if got := alice.records(); len(got) != 1 {
		t.Errorf("%d records, want 1", len(got))
	}
	alice.sound(2)
}

// TestChainWithoutCaller: a caller that leaves withdraws its call while it is
// queued, and no other call.
func TestChainWithoutCaller(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	leaving, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	h := &held{}
	out := alice.together(h, func() { leave(); <-gone },
		alice.creating("a"),
		write{"left", func(context.Context) error { defer close(gone); return alice.createAt(leaving, foo, "left", `{}`) }},
		alice.creating("b"))
	if err := out["left"]; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left: %v", err)
	}
	delete(out, "left")
	wantAll(t, out, nil)
	if !slices.Equal(h.chains, []int{2}) {
		t.Errorf("chains of %v, want one of 2", h.chains)
	}
	alice.sound(4)
}

// TestChainOfABrokenStore: every caller gets an error of the store.
func TestChainOfABrokenStore(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	h := &held{chain: func(chain []repo.Change) { chain[len(chain)-1].Next.Records += 5 }}
	out := alice.together(h, nil, alice.creating("a"), alice.creating("b"))
	for _, name := range []string{"a", "b"} {
		wantStatus(t, name, out[name], 503)
	}
	alice.sound(2)
	alice.mustCreate(foo, new("a"), `{}`)
	alice.sound(3)
}
