package repo_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/xrpc"
)

const (
	foo  = "com.example.foo"
	post = "app.bsky.feed.post"
	// elsewhere is a CID that nothing here has.
	elsewhere = "bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
)

func postOf(text string) string {
	return fmt.Sprintf(`{"$type":"app.bsky.feed.post","text":%q,"createdAt":"2026-08-01T12:00:00.000Z"}`, text)
}

// wantOps fails the test unless the last event has these operations: "create
// coll/rkey", in order.
func (p *person) wantOps(what string, want ...string) {
	p.w.t.Helper()
	all := p.w.events(0)
	msg := commitMessage(p.w.t, all[len(all)-1])
	p.verify(msg)
	var got []string
	for _, op := range msg.Ops {
		got = append(got, op.Action+" "+op.Path)
	}
	if !slices.Equal(got, want) {
		p.w.t.Errorf("%s: operations %q, want %q", what, got, want)
	}
}

func TestCreate(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	before := alice.head()
	out := alice.mustCreate(post, nil, postOf("hello"))
	rkey, ok := strings.CutPrefix(out.URI, "at://did:plc:alice/app.bsky.feed.post/")
	if _, err := syntax.ParseTID(rkey); !ok || err != nil {
		t.Errorf("URI %s", out.URI)
	}
	h := alice.head()
	if out.ValidationStatus != "valid" || out.Commit.CID != h.CID.String() || out.Commit.Rev != h.Rev || h.Rev <= before.Rev {
		t.Errorf("%+v, commit %+v; the repository is at %s %s", out, out.Commit, h.CID, h.Rev)
	}
	if got := alice.records(); len(got) != 1 || got["app.bsky.feed.post/"+rkey].String() != out.CID {
		t.Errorf("%v, want %+v", got, out)
	}
	alice.wantOps("create", "create app.bsky.feed.post/"+rkey)

	// A record without a $type gets one.
	bare := alice.mustCreate(post, new("3jui7kd54zh2y"), `{"text":"hello","createdAt":"2026-08-01T12:00:00.000Z"}`)
	if bare.CID != out.CID || bare.URI != "at://did:plc:alice/app.bsky.feed.post/3jui7kd54zh2y" {
		t.Errorf("%+v, want the CID of %+v", bare, out)
	}
	if n := alice.verifyChain(0); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

// TestKeys: records that are made at one moment get different keys, even if the clock
// stands still or goes back.
func TestKeys(t *testing.T) {
	w := newWorld(t)
	now := w.Now()
	w.Service.Now = func() time.Time { return now }
	alice := w.person("alice")
	seen := map[string]bool{}
	for range 20 {
		now = now.Add(-time.Hour)
		seen[alice.mustCreate(foo, nil, `{}`).URI] = true
	}
	if len(seen) != 20 {
		t.Errorf("20 records have %d keys", len(seen))
	}
	// Revisions ascend, too.
	alice.verifyChain(0)
}

func TestPutAndDelete(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	made, err := alice.put(foo, "k", `{"a":1}`)
	if err != nil {
		t.Fatal(err)
	}
	alice.wantOps("put of a new record", "create com.example.foo/k")
	if made.ValidationStatus != "unknown" || made.Commit == nil {
		t.Errorf("%+v", made)
	}
	h, events := alice.head(), len(w.events(0))
	same, err := alice.put(foo, "k", `{"a":1,"$type":"com.example.foo"}`)
	if err != nil || same.CID != made.CID || same.URI != made.URI || same.Commit != nil {
		t.Errorf("a put of what is there: %+v, %v", same, err)
	}
	if out, err := alice.remove(foo, "other"); err != nil || out.Commit != nil {
		t.Errorf("removal of what is not there: %+v, %v", out, err)
	}
	if now := alice.head(); now.CID != h.CID || len(w.events(0)) != events {
		t.Errorf("what changed nothing made a commit, or an event")
	}
	if _, err := alice.put(foo, "k", `{"a":2}`); err != nil {
		t.Fatal(err)
	}
	alice.wantOps("put of another record", "update com.example.foo/k")
	out, err := alice.remove(foo, "k")
	if err != nil || out.Commit == nil || out.Commit.CID != alice.head().CID.String() {
		t.Errorf("%+v, %v", out, err)
	}
	alice.wantOps("delete", "delete com.example.foo/k")
	if got := alice.records(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	alice.verifyChain(0)
}

// TestSwap is the table of swapCommit and swapRecord.
func TestSwap(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	had, err := alice.put(foo, "k", `{"a":1}`)
	if err != nil {
		t.Fatal(err)
	}
	at := alice.head().CID.String()
	put := func(rkey, record, swapRecord string, swapCommit *string) error {
		_, err := w.PutRecord(t.Context(), alice.caller, repo.PutRecordInput{
			Repo: "alice.test", Collection: foo, RKey: rkey, Record: []byte(record), SwapRecord: []byte(swapRecord), SwapCommit: swapCommit,
		})
		return err
	}
	del := func(rkey string, swapRecord, swapCommit *string) error {
		_, err := w.DeleteRecord(t.Context(), alice.caller, repo.DeleteRecordInput{
			Repo: "alice.test", Collection: foo, RKey: rkey, SwapRecord: swapRecord, SwapCommit: swapCommit,
		})
		return err
	}
	_, create := w.CreateRecord(t.Context(), alice.caller, repo.CreateRecordInput{
		Repo: "alice.test", Collection: foo, Record: []byte(`{}`), SwapCommit: new(elsewhere),
	})
	_, apply := w.ApplyWrites(t.Context(), alice.caller, repo.ApplyWritesInput{Repo: "alice.test", SwapCommit: new(elsewhere)})
	wasCommit, wasRecord := "Commit was at "+at, "Record was at "+had.CID
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"create, another commit":               {create, wasCommit},
		"applyWrites of nothing":               {apply, wasCommit},
		"put, another commit":                  {put("k", `{"a":2}`, "", new(elsewhere)), wasCommit},
		"put, another record":                  {put("k", `{"a":2}`, `"`+elsewhere+`"`, nil), wasRecord},
		"put, no record":                       {put("k", `{"a":2}`, `null`, nil), wasRecord},
		"put of a new record, another one":     {put("new", `{}`, `"`+elsewhere+`"`, nil), "Record was at null"},
		"delete, another commit":               {del("k", nil, new(elsewhere)), wasCommit},
		"delete, another record":               {del("k", new(elsewhere), nil), wasRecord},
		"delete, right record, another commit": {del("k", new(had.CID), new(elsewhere)), wasCommit},
	} {
		wantError(t, what, c.err, 400, "InvalidSwap", c.want)
	}
	// A write that changes nothing swaps nothing, as in the reference.
	for what, err := range map[string]error{
		"put of what is there, another record": put("k", `{"a":1}`, `"`+elsewhere+`"`, nil),
		"put of what is there, another commit": put("k", `{"a":1}`, "", new(elsewhere)),
		"delete of nothing":                    del("none", new(elsewhere), new(elsewhere)),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if alice.head().CID.String() != at {
		t.Fatal("a refused write made a commit")
	}
	// The right CIDs swap.
	if err := put("k", `{"a":2}`, `"`+had.CID+`"`, new(at)); err != nil {
		t.Error(err)
	}
	if err := put("new", `{}`, `null`, new(alice.head().CID.String())); err != nil {
		t.Error(err)
	}
	now := alice.records()["com.example.foo/k"].String()
	if err := del("k", new(now), new(alice.head().CID.String())); err != nil {
		t.Error(err)
	}
	alice.verifyChain(0)
}

// TestBatch: applyWrites makes one commit; intermediate changes of a key show in the
// results, but not in the event.
func TestBatch(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	out, err := alice.apply(
		step("create", foo, "a", `{"n":1}`), step("create", post, "", postOf("x")), step("create", foo, "b", `{"n":1}`),
		step("update", foo, "a", `{"n":2}`), step("delete", foo, "b", ""),
	)
	if err != nil {
		t.Fatal(err)
	}
	if out.Commit.CID != alice.head().CID.String() {
		t.Errorf("commit %+v", out.Commit)
	}
	records := alice.records()
	var rkey string
	for key := range records {
		if tid, ok := strings.CutPrefix(key, post+"/"); ok {
			rkey = tid
		}
	}
	one, two := dagcborCID(t, map[string]any{"$type": foo, "n": int64(1)}), dagcborCID(t, map[string]any{"$type": foo, "n": int64(2)})
	const results = "com.atproto.repo.applyWrites#"
	want := []repo.WriteResult{
		{Type: results + "createResult", URI: "at://did:plc:alice/com.example.foo/a", CID: one, ValidationStatus: "unknown"},
		{Type: results + "createResult", URI: "at://did:plc:alice/app.bsky.feed.post/" + rkey, CID: records[post+"/"+rkey].String(), ValidationStatus: "valid"},
		{Type: results + "createResult", URI: "at://did:plc:alice/com.example.foo/b", CID: one, ValidationStatus: "unknown"},
		{Type: results + "updateResult", URI: "at://did:plc:alice/com.example.foo/a", CID: two, ValidationStatus: "unknown"},
		{Type: results + "deleteResult"},
	}
	if !slices.Equal(out.Results, want) {
		t.Errorf("got  %+v\nwant %+v", out.Results, want)
	}
	if len(records) != 2 || records["com.example.foo/a"].String() != two {
		t.Errorf("%v", records)
	}
	alice.wantOps("batch", "create com.example.foo/a", "create app.bsky.feed.post/"+rkey)

	for _, c := range []struct {
		what  string
		steps []string // action and value
		ops   []string
	}{
		{"update twice", []string{"update", "update"}, []string{"update com.example.foo/a"}},
		{"update, delete", []string{"update", "delete"}, []string{"delete com.example.foo/a"}},
		{"create, delete", []string{"create", "delete"}, nil},
		{"create, delete, create", []string{"create", "delete", "create"}, []string{"create com.example.foo/a"}},
		{"delete, create", []string{"delete", "create"}, []string{"update com.example.foo/a"}},
		{"update to what it was", []string{"update", "update"}, nil},
		{"nothing", nil, nil},
	} {
		var steps []string
		var raw []string
		for i, do := range c.steps {
			value := fmt.Sprintf(`{"n":%d}`, 10+i)
			if do == "delete" {
				value = ""
			}
			raw = append(raw, string(step(do, foo, "a", value)))
			steps = append(steps, do)
		}
		in := repo.ApplyWritesInput{Repo: alice.did.String()}
		for _, r := range raw {
			in.Writes = append(in.Writes, []byte(r))
		}
		before := alice.head()
		out, err := w.ApplyWrites(t.Context(), alice.caller, in)
		if err != nil || len(out.Results) != len(steps) || out.Commit.CID == before.CID.String() {
			t.Fatalf("%s: %+v, %v", c.what, out, err)
		}
		alice.wantOps(c.what, c.ops...)
		alice.records()
	}
	alice.verifyChain(0)
}

func dagcborCID(t *testing.T, v any) string {
	t.Helper()
	block, err := dagcbor.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return dagcbor.CID(block).String()
}

// TestBatchRefused: if one write cannot be made, none is.
func TestBatchRefused(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	alice.mustCreate(foo, new("there"), `{}`)
	at := alice.head().CID
	for what, c := range map[string]struct {
		do, rkey, value string
		message         string
	}{
		"create of what is there": {"create", "there", `{}`, "Record already exists: at://did:plc:alice/com.example.foo/there"},
		"create twice":            {"create", "new", `{}`, "Record already exists: at://did:plc:alice/com.example.foo/new"},
		"update of nothing":       {"update", "none", `{}`, "Could not locate record: at://did:plc:alice/com.example.foo/none"},
		"delete of nothing":       {"delete", "none", ``, "Could not locate record: at://did:plc:alice/com.example.foo/none"},
	} {
		_, err := alice.apply(step("create", foo, "new", `{}`), step(c.do, foo, c.rkey, c.value))
		wantError(t, what, err, 400, "InvalidRequest", c.message)
	}
	_, err := alice.create(foo, new("there"), `{}`)
	wantError(t, "createRecord", err, 400, "InvalidRequest", "Record already exists: at://did:plc:alice/com.example.foo/there")
	if got := alice.records(); len(got) != 1 || alice.head().CID != at {
		t.Errorf("a refused batch left something: %v", got)
	}
}

// TestBatchSize: 200 writes and no more; a commit that is too large for an event is
// made all the same, and the stream has only the repository's new head.
func TestBatchSize(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	in := repo.ApplyWritesInput{Repo: alice.did.String()}
	for i := range repo.MaxWrites {
		in.Writes = append(in.Writes, step("create", foo, fmt.Sprintf("k%d", i), `{}`))
	}
	if _, err := w.ApplyWrites(t.Context(), alice.caller, in); err != nil {
		t.Fatal(err)
	}
	alice.verifyChain(0)
	in.Writes = append(in.Writes, step("create", foo, "more", `{}`))
	_, err := w.ApplyWrites(t.Context(), alice.caller, in)
	wantError(t, "201 writes", err, 400, "InvalidRequest", "Too many writes. Max: 200")
	if got := alice.records(); len(got) != repo.MaxWrites {
		t.Errorf("%d records", len(got))
	}

	big := `{"t":"` + strings.Repeat("x", 900_000) + `"}`
	if _, err := alice.apply(step("create", foo, "b1", big), step("create", foo, "b2", big), step("create", foo, "b3", big[:200]+`"}`)); err != nil {
		t.Fatal(err)
	}
	alice.verifyChain(0)
	if _, err := alice.apply(step("update", foo, "b1", `{}`), step("create", foo, "b4", big), step("create", foo, "b5", strings.Replace(big, "x", "y", 1)), step("create", foo, "b6", strings.Replace(big, "x", "z", 1))); err != nil {
		t.Fatal(err)
	}
	all := w.events(0)
	if last := all[len(all)-1]; last.Kind != event.KindSync {
		t.Errorf("a commit of 2.7 MB is a %s", last.Kind)
	}
	alice.records()
}

func TestRecordSize(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	empty, err := dagcbor.Encode(map[string]any{"$type": foo, "t": strings.Repeat("x", 1<<17)})
	if err != nil {
		t.Fatal(err)
	}
	room := repo.MaxRecord - (len(empty) - 1<<17)
	alice.mustCreate(foo, nil, `{"t":"`+strings.Repeat("x", room)+`"}`)
	_, err = alice.create(foo, nil, `{"t":"`+strings.Repeat("x", room+1)+`"}`)
	wantError(t, "a byte too many", err, 400, "InvalidRequest", "Record is too large: 1048577 bytes (maximum 1048576)")
}

// TestRandomBatches: after any writes in any order the tree is that of the records,
// and indigo can undo every event.
func TestRandomBatches(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	random := rand.New(rand.NewPCG(1, 2)) // the same writes at each run
	collections := []string{foo, "com.example.fo", "com.example.foo.bar", "com.example.zzz"}
	want := map[string]string{} // key to value
	for range 150 {
		in := repo.ApplyWritesInput{Repo: alice.did.String()}
		// Few batches are large; some remove much, so that the tree shrinks.
		size, removing := 1+random.IntN(5), random.IntN(4) == 0
		if random.IntN(10) == 0 {
			size = 60
		}
		for range size {
			collection, rkey := collections[random.IntN(len(collections))], fmt.Sprintf("k%d", random.IntN(120))
			value := fmt.Sprintf(`{"n":%d}`, random.IntN(50))
			key := collection + "/" + rkey
			switch _, exists := want[key]; {
			case exists && (removing || random.IntN(3) == 0):
				in.Writes = append(in.Writes, step("delete", collection, rkey, ""))
				delete(want, key)
			case exists:
				in.Writes = append(in.Writes, step("update", collection, rkey, value))
				want[key] = value
			default:
				in.Writes = append(in.Writes, step("create", collection, rkey, value))
				want[key] = value
			}
		}
		if _, err := w.ApplyWrites(t.Context(), alice.caller, in); err != nil {
			t.Fatal(err)
		}
		got := alice.records()
		if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
			t.Fatalf("the records are %v, want %v", got, want)
		}
	}
	if n := alice.verifyChain(0); n != 151 {
		t.Errorf("%d events, want 151", n)
	}
}

// TestReplaceAll: indigo can undo a commit that leaves none of the old records,
// whatever their number, order and depth.
func TestReplaceAll(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	random := rand.New(rand.NewPCG(3, 4)) // the same writes at each run
	var there []string
	const commits = 400
	for range commits {
		in := repo.ApplyWritesInput{Repo: alice.did.String()}
		for _, rkey := range there {
			in.Writes = append(in.Writes, step("delete", foo, rkey, ""))
		}
		there = there[:0]
		size := 1
		switch random.IntN(20) {
		case 0:
			size = 40
		case 1, 2, 3:
			size = 2
		}
		for range size {
			there = append(there, fmt.Sprintf("k%d", random.Uint32()))
			in.Writes = append(in.Writes, step("create", foo, there[len(there)-1], `{}`))
		}
		if _, err := w.ApplyWrites(t.Context(), alice.caller, in); err != nil {
			t.Fatal(err)
		}
	}
	if n := alice.verifyChain(0); n != commits+1 {
		t.Errorf("%d events, want %d", n, commits+1)
	}
}

// TestParallel: all clients' writes to one repository are made, one after the other,
// and so are writes to other repositories.
func TestParallel(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.person("alice"), w.person("bob")
	const writers, writes = 16, 10
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for n := range writes {
				who := alice
				if n%5 == 0 {
					who = bob
				}
				if _, err := who.create(foo, nil, fmt.Sprintf(`{"i":%d,"n":%d}`, i, n)); err != nil {
					t.Errorf("writer %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	for who, want := range map[*person]int{alice: writers * writes * 4 / 5, bob: writers * writes / 5} {
		if got := len(who.records()); got != want {
			t.Errorf("%s has %d records, want %d", who.did, got, want)
		}
		if n := who.verifyChain(0); n != want+1 {
			t.Errorf("%s has %d events, want %d", who.did, n, want+1)
		}
	}
}

// racing lets another write in between the computing of a change and its commit.
type racing struct {
	repo.Store

	meanwhile func()
}

func (r *racing) Commit(ctx context.Context, c repo.Change) error {
	r.meanwhile()
	return r.Store.Commit(ctx, c)
}

// TestConflict: a change that was computed on what another process has replaced
// is computed again, a bounded number of times.
func TestConflict(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	other := *alice
	otherWorld := *w
	otherWorld.Service = &repo.Service{
		Store: w.Store, Accounts: w.Accounts, Keys: w.Keys, Lexicons: w.Lexicons, Now: w.Now, ClockID: 8, Log: w.Log,
	}
	other.w = &otherWorld
	for _, times := range []int{1, 4} {
		left := times
		w.Service.Store = &racing{otherWorld.Store, func() {
			if left > 0 {
				left--
				other.mustCreate(foo, nil, `{}`)
			}
		}}
		before := len(alice.records())
		if _, err := alice.create(foo, nil, `{}`); err != nil {
			t.Fatalf("after %d writes of another: %v", times, err)
		}
		if got := len(alice.records()); got != before+times+1 {
			t.Errorf("%d records, want %d", got, before+times+1)
		}
	}
	w.Service.Store = &racing{otherWorld.Store, func() { other.mustCreate(foo, nil, `{}`) }}
	_, err := alice.create(foo, nil, `{}`)
	var e *xrpc.Error
	if !errors.As(err, &e) || e.Status != 503 || !errors.Is(err, repo.ErrConflict) {
		t.Errorf("another who never stops: %v", err)
	}
	w.Service.Store = otherWorld.Store
	alice.verifyChain(0)
}

// TestClock: revisions ascend through a clock that jumps in both directions.
func TestClock(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	for _, jump := range []time.Duration{0, -time.Hour, -365 * 24 * time.Hour, 400 * 24 * time.Hour, -time.Microsecond} {
		w.clock.Advance(jump)
		alice.mustCreate(foo, nil, `{}`)
	}
	alice.verifyChain(0)
}

// TestUndefined: after a record came and went the tree has its old root.
func TestUndefined(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	var root cid.Cid
	for i := range 3 {
		if _, err := alice.apply(step("create", foo, "k", `{}`), step("delete", foo, "k", "")); err != nil {
			t.Fatal(err)
		}
		if h := alice.head(); i > 0 && h.Root.CID != root {
			t.Errorf("root %s, was %s", h.Root.CID, root)
		}
		root = alice.head().Root.CID
	}
	alice.verifyChain(0)
}
