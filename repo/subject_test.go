package repo_test

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/internal/pdstest"
	"nestbox/repo"
	"nestbox/repo/car"
)

const (
	follow   = "app.bsky.graph.follow"
	blocking = "app.bsky.graph.block"
	like     = "app.bsky.feed.like"
	repost   = "app.bsky.feed.repost"

	bobDID   = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
	carolDID = "did:plc:cccccccccccccccccccccccc"
	bobPost  = "at://" + bobDID + "/app.bsky.feed.post/3jui7kd54zh2y"
)

// about returns a record of one of the four collections; seconds distinguishes
// records of one subject.
func about(collection, subject string, seconds int) string {
	named := fmt.Sprintf("%q", subject)
	if collection == like || collection == repost {
		named = fmt.Sprintf(`{"uri":%q,"cid":%q}`, subject, elsewhere)
	}
	return fmt.Sprintf(`{"$type":%q,"subject":%s,"createdAt":"2026-08-01T12:00:%02d.000Z"}`, collection, named, seconds)
}

// keys returns the keys of the repository's records, in order.
func (p *person) keys() []string {
	p.w.t.Helper()
	return slices.Sorted(maps.Keys(p.records()))
}

// has fails the test unless the repository has exactly these records.
func (p *person) has(what string, keys ...string) {
	p.w.t.Helper()
	keys = slices.Sorted(slices.Values(keys))
	if got := p.keys(); !slices.Equal(got, keys) {
		p.w.t.Errorf("%s: records %q, want %q", what, got, keys)
	}
}

// made returns the key of a created record.
func (p *person) made(out repo.RecordOutput) string {
	return strings.TrimPrefix(out.URI, "at://"+p.did.String()+"/")
}

// bySubject returns the keys of the records of a collection about a subject, a DID or
// an AT URI.
func (p *person) bySubject(collection, subject string) (keys []string) {
	p.w.t.Helper()
	if cut := strings.LastIndexByte(subject, '/'); cut >= 0 {
		subject = subject[cut+1:] + " " + subject[:cut]
	}
	err := p.w.Store.View(p.w.t.Context(), p.id, func(v repo.View) (err error) {
		keys, err = v.BySubject(collection, subject, 1000)
		return err
	})
	if err != nil {
		p.w.t.Fatal(err)
	}
	return keys
}

// TestReplace: a repository has one record for each subject in each of the four
// collections, the newest.
func TestReplace(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.person("alice"), w.person("bob")
	var all []string
	for collection, subjects := range map[string][2]string{
		follow:   {bobDID, carolDID},
		blocking: {bobDID, "did:web:carol.example"},
		like:     {bobPost, bobPost + "x"},
		repost:   {bobPost, "at://" + carolDID + "/app.bsky.feed.post/3jui7kd54zh2y"},
	} {
		bobs := bob.made(bob.mustCreate(collection, nil, about(collection, subjects[0], 0)))
		first := alice.made(alice.mustCreate(collection, nil, about(collection, subjects[0], 0)))
		other := alice.made(alice.mustCreate(collection, nil, about(collection, subjects[1], 0)))
		alice.wantOps(collection+": another subject", "create "+other)
		alice.has(collection+": another subject", append(all, first, other)...)
		// The very same bytes, and others.
		for second := range 2 {
			next := alice.made(alice.mustCreate(collection, nil, about(collection, subjects[0], second)))
			alice.wantOps(collection, "delete "+first, "create "+next)
			alice.has(collection, append(all, next, other)...)
			first = next
		}
		all = append(all, first, other)
		if got := bob.bySubject(collection, subjects[0]); !slices.Equal(got, []string{bobs}) {
			t.Errorf("%s: another one's repository has %q, want %q", collection, got, bobs)
		}
	}
	// Other collections have no subject.
	item := func() string {
		return alice.made(alice.mustCreate("app.bsky.graph.listitem", nil,
			`{"subject":"`+bobDID+`","list":"at://`+bobDID+`/app.bsky.graph.list/3jui7kd54zh2y","createdAt":"2026-08-01T12:00:00.000Z"}`))
	}
	all = append(all, item(), item())
	alice.has("a collection without subjects", all...)
	alice.verifyChain(0)
	bob.verifyChain(0)
}

// TestReplaceNot is the table of writes that replace nothing.
func TestReplaceNot(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	unvalidated := func(rkey string) {
		_, err := w.CreateRecord(t.Context(), alice.caller, repo.CreateRecordInput{
			Repo: alice.did.String(), Collection: follow, RKey: &rkey, Record: jsontext.Value(about(follow, bobDID, 1)), Validate: new(false),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	const a, b, c, d = follow + "/3jui7kd54zh2a", follow + "/3jui7kd54zh2b", follow + "/3jui7kd54zh2c", follow + "/3jui7kd54zh2d"
	alice.mustCreate(follow, new("3jui7kd54zh2a"), about(follow, bobDID, 0))
	unvalidated("3jui7kd54zh2b")
	alice.wantOps("without validation", "create "+b)
	if _, err := alice.put(follow, "3jui7kd54zh2c", about(follow, bobDID, 2)); err != nil {
		t.Fatal(err)
	}
	alice.wantOps("putRecord", "create "+c)
	if _, err := alice.apply(step("create", follow, "3jui7kd54zh2d", about(follow, bobDID, 3))); err != nil {
		t.Fatal(err)
	}
	alice.wantOps("applyWrites", "create "+d)
	alice.has("all of them", a, b, c, d)

	// A refused write deletes nothing.
	head := alice.head()
	_, err := w.CreateRecord(t.Context(), alice.caller, repo.CreateRecordInput{
		Repo: alice.did.String(), Collection: follow, Record: jsontext.Value(about(follow, bobDID, 4)), SwapCommit: new(elsewhere),
	})
	wantError(t, "swapCommit", err, 400, "InvalidSwap", "Commit was at "+head.CID.String())
	_, err = alice.create(follow, new("3jui7kd54zh2a"), about(follow, carolDID, 4))
	wantError(t, "a key that is taken", err, 400, "InvalidRequest", "Record already exists: at://did:plc:alice/"+a)
	alice.has("all of them still", a, b, c, d)

	// An update is about its new subject, and no longer about the old one.
	if _, err := alice.put(follow, "3jui7kd54zh2c", about(follow, carolDID, 2)); err != nil {
		t.Fatal(err)
	}
	next := alice.made(alice.mustCreate(follow, nil, about(follow, bobDID, 5)))
	alice.wantOps("create", "delete "+a, "delete "+b, "delete "+d, "create "+next)
	last, err := w.CreateRecord(t.Context(), alice.caller, repo.CreateRecordInput{
		Repo: alice.did.String(), Collection: follow, Record: jsontext.Value(about(follow, carolDID, 6)), Validate: new(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	alice.wantOps("create of the updated subject", "delete "+c, "create "+alice.made(last))
	alice.verifyChain(0)
}

// TestReplaceItself: a client that gives the key, and never saw the answer, may
// ask again.
func TestReplaceItself(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	rkey, key := new("3jui7kd54zh2a"), like+"/3jui7kd54zh2a"
	first := alice.mustCreate(like, rkey, about(like, bobPost, 0))
	again := alice.mustCreate(like, rkey, about(like, bobPost, 0))
	if again.URI != first.URI || again.CID != first.CID || again.Commit == nil {
		t.Errorf("%+v, first %+v", again, first)
	}
	alice.wantOps("the same again")
	alice.mustCreate(like, rkey, about(like, bobPost, 1))
	alice.wantOps("another of the subject", "update "+key)
	alice.has("the one", key)
	alice.verifyChain(0)
}

// TestReplaceMany: a create deletes the oldest records, as many as fit in one event.
func TestReplaceMany(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	const n = 250
	var old []string
	var steps []jsontext.Value
	for i := range n {
		rkey := syntax.NewTID(1_700_000_000_000_000+int64(i), 1).String()
		old, steps = append(old, like+"/"+rkey), append(steps, step("create", like, rkey, about(like, bobPost, 0)))
	}
	for part := range slices.Chunk(steps, repo.MaxWrites) {
		if _, err := alice.apply(part...); err != nil {
			t.Fatal(err)
		}
	}
	next := alice.made(alice.mustCreate(like, nil, about(like, bobPost, 1)))
	if e := w.eventOf(alice.did); e.Kind != event.KindCommit {
		t.Errorf("a %s", e.Kind)
	}
	deletes := func(keys []string) (out []string) {
		for _, key := range keys {
			out = append(out, "delete "+key)
		}
		return out
	}
	alice.wantOps("more than an event can tell", append(deletes(old[:event.MaxOps-1]), "create "+next)...)
	rest := slices.Concat(old[event.MaxOps-1:], []string{next})
	alice.has("the newest", rest...)
	last := alice.made(alice.mustCreate(like, nil, about(like, bobPost, 2)))
	// If nothing else is left, the deletes come last: see deletesLast.
	alice.wantOps("the rest", append([]string{"create " + last}, deletes(rest)...)...)
	alice.has("one", last)
	alice.verifyChain(0)
}

// TestReplaceTogether: of likes that are made at the same time one is left.
func TestReplaceTogether(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			if _, err := alice.create(like, nil, about(like, bobPost, i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := alice.keys(); len(got) != 1 {
		t.Errorf("records %q", got)
	}
	if n := alice.verifyChain(0); n != 17 {
		t.Errorf("%d events", n)
	}
}

// TestSubject is the table of records and their subjects: written without validation,
// and imported.
func TestSubject(t *testing.T) {
	w := newWorld(t)
	w.TempDir = t.TempDir()
	alice, bob := w.person("alice"), w.person("bob")
	ref := func(uri any) any { return map[string]any{"uri": uri, "cid": elsewhere} }
	table := []struct {
		collection string
		subject    any
		found      bool
	}{
		{follow, bobDID, true},
		{blocking, "did:web:bob.example", true},
		{like, ref(bobPost), true},
		{repost, ref("at://bob.example"), true},
		{follow, nil, false},
		{follow, int64(1), false},
		{follow, "bob.example", false},
		{follow, "", false},
		{follow, ref(bobDID), false},
		{blocking, "did:plc:" + strings.Repeat("b", 10_000), false},
		{like, bobPost, false},
		{like, ref("https://bob.example"), false},
		{like, ref(int64(1)), false},
		{repost, map[string]any{}, false},
		{"app.bsky.graph.listitem", bobDID, false},
		{"app.bsky.feed.likes", ref(bobPost), false},
	}
	file := map[string]car.Block{}
	for i, c := range table {
		rkey, record := fmt.Sprintf("3jui7kd54z2%02d", i), map[string]any{"$type": c.collection, "subject": c.subject}
		file[c.collection+"/"+rkey] = block(record)
		raw, err := dagcbor.ToJSON(record)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.CreateRecord(t.Context(), alice.caller, repo.CreateRecordInput{
			Repo: alice.did.String(), Collection: c.collection, RKey: &rkey, Record: raw, Validate: new(false),
		})
		if err != nil {
			t.Fatal(c, err)
		}
	}
	// A record with another $type has no subject in this collection.
	file[like+"/3jui7kd54zzzz"] = block(map[string]any{"$type": repost, "subject": ref(bobPost)})
	root, blocks := tree(t, file)
	bob.mustImport(pack(t, bob.did, repo.NextTID(w.Now(), 1, bob.head().Rev), w.keys[bob.id], root, blocks).bytes())

	for i, c := range table {
		asked, _ := c.subject.(string)
		if m, ok := c.subject.(map[string]any); ok {
			asked, _ = m["uri"].(string)
		}
		key := fmt.Sprintf("%s/3jui7kd54z2%02d", c.collection, i)
		for _, p := range []*person{alice, bob} {
			if got := p.bySubject(c.collection, asked); slices.Contains(got, key) != c.found {
				t.Errorf("%s: %s, subject %.50v: %q", p.did, key, c.subject, got)
			}
		}
	}
	// Imported records are replaced like all others.
	next := bob.made(bob.mustCreate(like, nil, about(like, bobPost, 0)))
	bob.wantOps("after an import", "delete "+like+"/3jui7kd54z202", "create "+next)
}

// TestReplaceWire: a client that likes twice has liked once.
func TestReplaceWire(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{Dir: t.TempDir()})
	who := s.SignUp(t, "alice")
	w := wire{s, t, pdstest.Bearer(who.AccessJwt)}
	like := func(validate any) (out repo.RecordOutput) {
		t.Helper()
		body := map[string]any{"repo": who.DID, "collection": like, "record": jsontext.Value(about(like, bobPost, 0))}
		if validate != nil {
			body["validate"] = validate
		}
		w.post("com.atproto.repo.createRecord", body).Decode(t, &out)
		return out
	}
	listed := func(want ...repo.RecordOutput) {
		t.Helper()
		var out struct{ Records []struct{ URI string } }
		w.get("com.atproto.repo.listRecords", url.Values{"repo": {who.DID}, "collection": {"app.bsky.feed.like"}}).Decode(t, &out)
		var got, uris []string
		for _, r := range out.Records {
			got = append(got, r.URI)
		}
		for _, r := range want {
			uris = append(uris, r.URI)
		}
		if !slices.Equal(got, uris) {
			t.Errorf("likes %q, want %q", got, uris)
		}
	}
	like(nil)
	second := like(nil)
	listed(second)
	third := like(false)
	listed(third, second)
	listed(like(true))
}
