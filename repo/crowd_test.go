package repo_test

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"nestbox/auth"
	"nestbox/firehose/event"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
	"nestbox/xrpc"
)

// mined returns n long keys of records that are all on the lowest layer: a tree of
// them is one node.
func mined(n int) (rkeys []string) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for len(rkeys) < n {
		var b [250]byte
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		if rkey := hex.EncodeToString(b[:]); mst.Layer(foo+"/"+rkey) == 0 {
			rkeys = append(rkeys, rkey)
		}
	}
	return rkeys
}

// minedTIDs returns n TIDs from a time on that are all on the lowest layer.
func minedTIDs(n int, collection string, micros int64) (rkeys []string) {
	for ; len(rkeys) < n; micros++ {
		if rkey := syntax.NewTID(micros, 1).String(); mst.Layer(collection+"/"+rkey) == 0 {
			rkeys = append(rkeys, rkey)
		}
	}
	return rkeys
}

// app returns the person with an app password.
func (p *person) app(number int64) *person {
	q := *p
	q.caller = auth.NewScoped(auth.StandardCaller{Access: auth.Access{DID: p.did, Scope: auth.ScopeAppPass, AppPassword: number}})
	return &q
}

// limited counts what crowds trees, as the server does.
func (w *world) limited() *world {
	w.Crowds = ratelimit.New(1000, w.clock.Now)
	return w
}

// crowded reports whether err is that a key crowds the tree.
func crowded(err error) bool {
	e := new(xrpc.Error)
	return errors.As(err, &e) && e.Status == http.StatusTooManyRequests && strings.Contains(e.Message, "crowd")
}

func creates(collection string, rkeys []string) (steps []jsontext.Value) {
	for _, rkey := range rkeys {
		steps = append(steps, step("create", collection, rkey, `{}`))
	}
	return steps
}

// TestCrowdStopsItsMaker: an app password that fills a node with long keys is
// stopped. The owner and other apps are not: they create beside the crowd, update and
// delete in it.
func TestCrowdStopsItsMaker(t *testing.T) {
	w := newWorld(t).limited()
	alice := w.person("alice")
	app, other := alice.app(1), alice.app(2)
	rkeys := mined(400)
	made := 0
	for _, rkey := range rkeys {
		if _, err := app.create(foo, &rkey, `{}`); crowded(err) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		made++
	}
	if made < 150 || made > 380 {
		t.Fatalf("the app made %d keys", made)
	}
	if _, err := app.apply(creates(foo, rkeys[made:])...); !crowded(err) {
		t.Errorf("many at once: %v", err)
	}
	for i := range 60 {
		for _, p := range []*person{alice, other} {
			p.mustCreate(post, nil, postOf("hello"))
			p.mustCreate(foo, nil, `{}`)
		}
		if _, err := alice.put(foo, rkeys[i], `{"updated":true}`); err != nil {
			t.Fatal(err)
		}
		if _, err := app.put(foo, rkeys[i], `{"again":true}`); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := alice.put("app.bsky.actor.profile", "self", `{"$type":"app.bsky.actor.profile"}`); err != nil {
		t.Error(err)
	}
	for key := range alice.records() {
		collection, rkey, _ := strings.Cut(key, "/")
		if _, err := alice.remove(collection, rkey); err != nil {
			t.Fatal(err)
		}
	}
	alice.verifyChain(0)
	w.clock.Advance(25 * time.Hour)
	if _, err := app.create(foo, &rkeys[399], `{}`); err != nil {
		t.Errorf("a day later: %v", err)
	}
}

// TestCrowdAhead: keys of the coming days, which an app password has chosen, make every new
// TID a neighbour of a crowd. An owner who posts beside it is never refused, and a crowd
// elsewhere in the tree may not become larger than the largest.
func TestCrowdAhead(t *testing.T) {
	w := newWorld(t).limited()
	alice := w.person("alice")
	app := alice.app(1)
	ahead := minedTIDs(1400, foo, w.Now().Add(48*time.Hour).UnixMicro())
	made := 0
	for made < len(ahead) {
		if _, err := app.apply(creates(foo, ahead[made:made+20])...); crowded(err) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		made += 20
	}
	if made < 500 || made > 1000 {
		t.Fatalf("the app made %d keys", made)
	}
	for i := range 800 {
		if _, err := alice.create(foo, nil, `{}`); err != nil {
			t.Fatalf("create %d: %v", i, err)
		}
	}
	other := "app.bsky.feed.like"
	elsewhere := minedTIDs(1400, other, w.Now().Add(48*time.Hour).UnixMicro())
	var steps []jsontext.Value
	for _, rkey := range elsewhere {
		steps = append(steps, step("create", other, rkey, `{"$type":"`+other+`"}`))
	}
	grown := 0
	for grown < len(steps) {
		_, err := app.w.ApplyWrites(t.Context(), app.caller, repo.ApplyWritesInput{
			Repo: alice.did.String(), Writes: steps[grown : grown+20], Validate: new(bool),
		})
		if crowded(err) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		grown += 20
	}
	if grown > made+100 {
		t.Errorf("a second crowd has %d keys, the first %d", grown, made)
	}
	alice.verifyChain(0)
}

// TestCrowdedExport: no create makes a node that an import could not take: the repository can
// always move.
func TestCrowdedExport(t *testing.T) {
	w := newWorld(t).limited()
	alice := newMover(t, w)
	rkeys := mined(3850)
	records := map[string]car.Block{}
	const imported = 3770 // 2 MiB, but a few keys
	for i, rkey := range rkeys[:imported] {
		records[foo+"/"+rkey] = block(map[string]any{"n": int64(i % 7)})
	}
	alice.mustImport(alice.file(t, records).bytes())
	made := 0
	for _, rkey := range rkeys[imported:] {
		_, err := alice.create(foo, &rkey, `{}`)
		if e := new(xrpc.Error); errors.As(err, &e) && e.Status == http.StatusBadRequest {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		made++
	}
	if made == 0 || imported+made == len(rkeys) {
		t.Fatalf("%d keys were made in the node", made)
	}
	alice.mustCreate(post, nil, postOf("hello"))
	if _, err := alice.put(foo, rkeys[0], `{"updated":true}`); err != nil {
		t.Error(err)
	}
	want := alice.records()
	there := newWorld(t)
	moved := there.person("alice")
	there.keys[moved.id] = w.keys[alice.id]
	moved.mustImport(alice.export())
	if !maps.Equal(moved.records(), want) {
		t.Error("other records came from the move")
	}
}

// TestCrowdIsNotRemembered: a large node is not kept in memory between writes.
func TestCrowdIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	store := &counting{Store: w.Store}
	w.Service.Store = store
	alice := w.person("alice")
	rkeys := mined(200)
	if _, err := alice.apply(creates(foo, rkeys)...); err != nil {
		t.Fatal(err)
	}
	store.views = 0
	for _, rkey := range rkeys[:3] {
		if _, err := alice.remove(foo, rkey); err != nil {
			t.Error(err)
		}
	}
	if store.views < 3 {
		t.Errorf("%d reads for three writes: a large tree was remembered", store.views)
	}
	alice.verifyChain(0)
}

// TestLargeNodes: a tree with large nodes, as another server may hold it, is
// imported, and every write beside them succeeds. Events that consumers could not
// read are sync events; the others verify.
func TestLargeNodes(t *testing.T) {
	for _, c := range []struct {
		what  string
		rkeys []string
		kind  event.Kind
	}{
		{"more entries than indigo reads", minedTIDs(8200, foo, 1_700_000_000_000_000), event.KindSync},
		{"as many as it reads", minedTIDs(8100, foo, 1_700_000_000_000_000), event.KindCommit},
		{"more bytes than an event takes", mined(3650), event.KindSync},
		{"fewer", mined(3000), event.KindCommit},
	} {
		w := newWorld(t).limited()
		alice := newMover(t, w)
		records := map[string]car.Block{}
		for i, rkey := range c.rkeys {
			records[foo+"/"+rkey] = block(map[string]any{"n": int64(i % 7)})
		}
		alice.mustImport(alice.file(t, records).bytes())
		for i, write := range []func() error{
			func() error { _, err := alice.create(foo, &[]string{"4"}[0], `{}`); return err },
			func() error { _, err := alice.put(foo, c.rkeys[1], `{"updated":true}`); return err },
			func() error { _, err := alice.remove(foo, c.rkeys[2]); return err },
		} {
			all := len(w.events(0))
			if err := write(); err != nil {
				t.Fatalf("%s: write %d: %v", c.what, i, err)
			}
			last := w.events(0)[all]
			if last.Kind != c.kind {
				t.Errorf("%s: write %d is a %s, want %s", c.what, i, last.Kind, c.kind)
			}
			if last.Kind == event.KindCommit {
				alice.verify(commitMessage(t, last))
			}
		}
		if got := alice.records(); len(got) != len(records) {
			t.Errorf("%s: %d records", c.what, len(got))
		}
		if n := len(readArchive(t, alice.export()).blocks); n < 10 {
			t.Errorf("%s: the export has %d blocks", c.what, n)
		}
	}
}

// adversary writes what an app password may: long keys, mined for a layer, in many
// collections; and it deletes what lies between.
type adversary struct {
	*person

	rnd  *rand.Rand
	keys []string
}

// key returns a new key of a record, on a layer of the adversary's choice.
func (a *adversary) key(t *rapid.T) string {
	collection := rapid.SampledFrom([]string{
		foo, post, "app.bsky.feed.posu", "app.bsky.feed.like", "a.b.c",
		"com." + strings.Repeat("long", 15) + "." + strings.Repeat("name", 15) + ".thing",
	}).Draw(t, "collection")
	long := rapid.Bool().Draw(t, "long")
	layer := rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1, 2}).Draw(t, "layer")
	for {
		rkey := syntax.NewTID(a.rnd.Int64N(1<<52), uint(a.rnd.IntN(1024))).String()
		if long {
			b := make([]byte, 250)
			for i := range b {
				b[i] = byte(a.rnd.Uint32())
			}
			rkey = hex.EncodeToString(b)
		}
		if key := collection + "/" + rkey; mst.Layer(key) == layer {
			return key
		}
	}
}

// attack makes one call. Only its own limit may stop it.
func (a *adversary) attack(t *rapid.T) {
	var steps []jsontext.Value
	var made, gone []string
	n := rapid.IntRange(1, 200).Draw(t, "writes")
	if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
		// Delete what lies between two nodes: they become one.
		for i := range a.keys {
			if len(gone) < n && mst.Layer(a.keys[i]) > 0 {
				gone = append(gone, a.keys[i])
			}
		}
		for _, key := range gone {
			collection, rkey, _ := strings.Cut(key, "/")
			steps = append(steps, step("delete", collection, rkey, ""))
		}
	} else {
		for range n {
			made = append(made, a.key(t))
			collection, rkey, _ := strings.Cut(made[len(made)-1], "/")
			steps = append(steps, step("create", collection, rkey, `{"$type":"`+collection+`","text":"","createdAt":"2026-08-01T12:00:00.000Z"}`))
		}
	}
	if len(steps) == 0 {
		return
	}
	_, err := a.w.ApplyWrites(a.w.t.Context(), a.caller, repo.ApplyWritesInput{Repo: a.did.String(), Writes: steps, Validate: new(bool)})
	switch {
	case err == nil:
		a.keys = slices.DeleteFunc(append(a.keys, made...), func(key string) bool { return slices.Contains(gone, key) })
	case !crowded(err) || len(gone) > 0:
		t.Fatalf("%d creates, %d deletes: %v", len(made), len(gone), err)
	}
}

// TestCrowdAdversary: whatever an app password may write, the owner writes,
// deletes, exports, moves out, and imports elsewhere; indigo reads every event.
func TestCrowdAdversary(t *testing.T) {
	// A case takes half a second: -rapid.checks asks for more than these.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("15"); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		w := newWorld(t).limited()
		alice := w.person("alice")
		a := &adversary{person: alice.app(1), rnd: rand.New(rand.NewPCG(uint64(n), 1))}
		for range rapid.IntRange(1, 12).Draw(rt, "calls") {
			a.attack(rt)
		}
		for i := range 20 {
			alice.mustCreate(post, nil, postOf("hello"))
			rkey := syntax.NewTID(w.Now().UnixMicro(), 5).String()
			alice.mustCreate("app.bsky.feed.like", &rkey, fmt.Sprintf(
				`{"subject":{"uri":"at://did:plc:b/app.bsky.feed.post/3jui7kd54z%03d","cid":%q},"createdAt":"2026-08-01T12:00:00.000Z"}`, i, elsewhere))
		}
		for i, key := range a.keys[:min(len(a.keys), 40)] {
			collection, rkey, _ := strings.Cut(key, "/")
			if i%2 == 0 {
				if _, err := w.PutRecord(t.Context(), alice.caller, repo.PutRecordInput{
					Repo: alice.did.String(), Collection: collection, RKey: rkey, Record: []byte(`{"mine":1}`), Validate: new(bool),
				}); err != nil {
					rt.Fatalf("update of %s: %v", key, err)
				}
				continue
			}
			if _, err := alice.remove(collection, rkey); err != nil {
				rt.Fatalf("delete of %s: %v", key, err)
			}
		}
		alice.verifyChain(0)
		want := alice.records()
		there := newWorld(t)
		moved := there.person("alice")
		there.keys[moved.id] = w.keys[alice.id]
		if done := moved.mustImport(alice.export()); !done.Kept {
			rt.Error("the commit was not kept")
		}
		if !maps.Equal(moved.records(), want) {
			rt.Error("other records came from the move")
		}
	})
}
