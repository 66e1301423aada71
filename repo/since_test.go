package repo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	moderation "nestbox/admin"
	"nestbox/dagcbor"
	"nestbox/repo"
)

const profile = "app.bsky.actor.profile"

func profileOf(name string) string {
	return fmt.Sprintf(`{"$type":%q,"displayName":%q}`, profile, name)
}

// newer returns what is new since a revision.
func (p *person) newer(since syntax.TID) repo.News {
	p.w.t.Helper()
	n, err := p.w.Newer(p.w.t.Context(), p.id, since, true)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return n
}

// news describes what is new since a revision: the posts' rkeys; the profile's name,
// with a star if it is new; whether something was deleted.
func (p *person) news(since syntax.TID) string {
	p.w.t.Helper()
	n := p.newer(since)
	var out []string
	for _, r := range n.Posts {
		out = append(out, strings.TrimPrefix(r.Key, post+"/"))
	}
	if n.Profile != nil {
		value, err := dagcbor.Decode(n.Profile.Block)
		if err != nil {
			p.w.t.Fatal(err)
		}
		name := fmt.Sprint("profile:", value.(map[string]any)["displayName"])
		if n.ProfileNew {
			name += "*"
		}
		out = append(out, name)
	}
	if n.Deleted {
		out = append(out, "deleted")
	}
	if n.Empty() != (len(out) == 0) {
		p.w.t.Errorf("since %q there is %q; empty: %t", since, out, n.Empty())
	}
	return strings.Join(out, " ")
}

// takedown takes a record down, or lifts that.
func (p *person) takedown(key string, applied bool) {
	p.w.t.Helper()
	if err := p.w.Admin.SetTakedown(p.w.t.Context(), p.did, moderation.Takedown{Subject: key}, applied, moderation.Action{At: p.w.Now(), DID: p.did}); err != nil {
		p.w.t.Fatal(err)
	}
}

// TestNewer: what is new since each revision that a repository had, and since one
// between two.
func TestNewer(t *testing.T) {
	for name, c := range map[string]struct {
		// steps are one commit each, or none.
		steps []func(*person) error
		// want is what is new since the first, empty, commit, and since each step.
		want []string
	}{
		"posts, by revision": {
			[]func(*person) error{doWrite(post, "b"), doWrite(post, "a"), doWrite(like, "c")},
			[]string{"b a", "a", "", ""},
		},
		"one call": {
			[]func(*person) error{doApply(step("create", post, "b", postOf("x")), step("create", post, "a", postOf("x")), step("create", foo, "c", `{}`))},
			[]string{"a b", ""},
		},
		"an update": {
			[]func(*person) error{doWrite(post, "a"), doWrite(post, "b"), doPut(post, "a", postOf("changed")), doPut(post, "b", postOf("x"))},
			[]string{"b a", "b a", "a", "", ""}, // the last changes nothing
		},
		"other collections": {
			[]func(*person) error{doWrite("app.bsky.feed.postgate", "a"), doWrite(foo, "b"), doRemove(foo, "b"), doWrite("app.bsky.actor.status", "self")},
			[]string{"", "", "", "", ""},
		},
		"a profile": {
			[]func(*person) error{doPut(profile, "self", profileOf("one")), doWrite(post, "a"), doPut(profile, "self", profileOf("two")), doWrite(foo, "b")},
			[]string{"a profile:two*", "a profile:two*", "profile:two*", "", ""},
		},
		"a profile that is not new": {
			[]func(*person) error{doPut(profile, "self", profileOf("one")), doWrite(post, "a")},
			[]string{"a profile:one*", "a profile:one", ""},
		},
		"a post is deleted": {
			[]func(*person) error{doWrite(post, "a"), doWrite(post, "b"), doRemove(post, "a"), doWrite(post, "c"), doRemove(foo, "none")},
			[]string{"b c deleted", "b c deleted", "c deleted", "c", "", ""},
		},
		"it is deleted among others": {
			[]func(*person) error{doWrite(post, "a"), doApply(step("create", foo, "x", `{}`), step("delete", post, "a", ""), step("create", foo, "y", `{}`))},
			[]string{"deleted", "deleted", ""},
		},
		"it comes and goes in one call": {
			[]func(*person) error{doWrite(foo, "a"), doApply(step("create", post, "a", postOf("x")), step("delete", post, "a", ""))},
			[]string{"", "", ""},
		},
		"it is made again": {
			[]func(*person) error{doWrite(post, "a"), doApply(step("delete", post, "a", ""), step("create", post, "a", postOf("y")))},
			[]string{"a", "a", ""},
		},
		"the profile is deleted": {
			[]func(*person) error{doPut(profile, "self", profileOf("one")), doRemove(profile, "self")},
			[]string{"deleted", "deleted", ""},
		},
		"a post is taken down": {
			[]func(*person) error{doWrite(post, "a"), doWrite(post, "b"), doTakedown(post+"/a", true)},
			[]string{"b", "b", "", ""},
		},
		"a takedown is lifted": {
			[]func(*person) error{doWrite(post, "a"), doTakedown(post+"/a", true), doTakedown(post+"/a", false)},
			[]string{"a", "", "", ""},
		},
		"the profile is taken down": {
			[]func(*person) error{doPut(profile, "self", profileOf("one")), doWrite(post, "a"), doPut(profile, "self", profileOf("two")), doTakedown(profile+"/self", true)},
			[]string{"a", "a", "", "", ""},
		},
		"likes that replace": {
			[]func(*person) error{doWrite(post, "a"), doCreate(like, about(like, bobPost, 1)), doCreate(like, about(like, bobPost, 2))},
			[]string{"a", "", "", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alice, bob := w.person("alice"), w.person("bob")
			revs := []syntax.TID{alice.head().Rev}
			for i, do := range c.steps {
				bob.mustCreate(post, nil, postOf("of another"))
				if err := do(alice); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				revs = append(revs, alice.head().Rev)
			}
			for range 2 { // with the revision in memory, and without
				for i, rev := range revs {
					if got := alice.news(rev); got != c.want[i] {
						t.Errorf("since step %d: %q, want %q", i, got, c.want[i])
					}
					between := syntax.NewTID(rev.Time().UnixMicro()-1, 0)
					if i == 0 || between <= revs[i-1] {
						continue
					}
					if got := alice.news(between); got != c.want[i-1] {
						t.Errorf("since just before step %d: %q, want %q", i, got, c.want[i-1])
					}
				}
				w.ForgetRevs()
			}
		})
	}
}

func doWrite(collection, rkey string) func(*person) error {
	record := fmt.Sprintf(`{"$type":%q,"createdAt":"2026-08-01T12:00:00.000Z"}`, collection)
	if collection == post {
		record = postOf("x")
	}
	return doPut(collection, rkey, record)
}

func doCreate(collection, record string) func(*person) error {
	return func(p *person) error { _, err := p.create(collection, nil, record); return err }
}

func doPut(collection, rkey, record string) func(*person) error {
	return func(p *person) error {
		_, err := p.w.PutRecord(p.w.t.Context(), p.caller, repo.PutRecordInput{
			Repo: p.did.String(), Collection: collection, RKey: rkey, Record: jsontext.Value(record), Validate: new(false),
		})
		return err
	}
}

func doRemove(collection, rkey string) func(*person) error {
	return func(p *person) error { _, err := p.remove(collection, rkey); return err }
}

func doApply(steps ...jsontext.Value) func(*person) error {
	return func(p *person) error {
		_, err := p.w.ApplyWrites(p.w.t.Context(), p.caller, repo.ApplyWritesInput{Repo: p.did.String(), Writes: steps, Validate: new(false)})
		return err
	}
}

func doTakedown(key string, applied bool) func(*person) error {
	return func(p *person) error { p.takedown(key, applied); return nil }
}

// TestNewerLimit: the newest 100 of 150 posts, the oldest first.
func TestNewerLimit(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	since := alice.head().Rev
	var keys []string
	for range 15 {
		var steps []jsontext.Value
		for range 10 {
			rkey := fmt.Sprintf("%03d", len(keys))
			keys = append(keys, rkey)
			steps = append(steps, step("create", post, rkey, postOf(rkey)), step("create", foo, rkey, `{}`))
		}
		if err := doApply(steps...)(alice); err != nil {
			t.Fatal(err)
		}
	}
	if got := alice.news(since); got != strings.Join(keys[50:], " ") {
		t.Errorf("new are %q", got)
	}
}

// TestNewerBounds: posts of more than 256 KiB are not news, and those that are have a
// megabyte together. Where no posts are wanted, only the rest is read.
func TestNewerBounds(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	since := alice.head().Rev
	write := func(rkey string, size int) {
		t.Helper()
		text := fmt.Sprintf(`{"$type":%q,"text":"","x":%q}`, post, strings.Repeat("x", size))
		if err := doApply(step("create", post, rkey, text))(alice); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 7 {
		write(fmt.Sprint("a", i), 200_000)
	}
	write("b", 262_144)
	write("c", 100)
	if got := alice.news(since); got != "a2 a3 a4 a5 a6 c" {
		t.Errorf("new are %q", got)
	}
	withoutPosts := func() repo.News {
		t.Helper()
		n, err := w.Newer(t.Context(), alice.id, since, false)
		if err != nil || len(n.Posts) > 0 {
			t.Fatalf("%d posts, %v", len(n.Posts), err)
		}
		return n
	}
	if n := withoutPosts(); !n.Empty() {
		t.Errorf("without posts there is %+v", n)
	}
	if err := doWrite(profile, "self")(alice); err != nil {
		t.Fatal(err)
	}
	if n := withoutPosts(); n.Profile == nil || !n.ProfileNew || n.Deleted {
		t.Errorf("a profile: %+v", n)
	}
	if err := doApply(step("delete", post, "c", ""))(alice); err != nil {
		t.Fatal(err)
	}
	if n := withoutPosts(); n.Profile == nil || !n.Deleted {
		t.Errorf("a deletion: %+v", n)
	}
}

// TestNewerHistory: a revision of another history than the repository's own tells
// nothing about it, so nothing is new.
func TestNewerHistory(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	old := syntax.NewTID(alice.head().Rev.Time().UnixMicro()-1, 0)
	for _, c := range []struct {
		what string
		do   func()
	}{
		{"a repository begun here", func() {}},
		{"an import", func() { alice.mustImport(alice.file(t, posts(20)).bytes()) }},
		{"an import of what was written here", func() {
			file := alice.export()
			if err := doWrite(post, "b")(alice.person); err != nil {
				t.Fatal(err)
			}
			alice.mustImport(file)
		}},
	} {
		was := alice.head().Rev
		c.do()
		first := alice.head().Rev
		if err := errors.Join(doWrite(post, "a")(alice.person), doRemove(post, "a")(alice.person), doWrite(post, "c")(alice.person)); err != nil {
			t.Fatal(err)
		}
		if got := alice.news(first); got != "c deleted" {
			t.Errorf("%s: since it, %q", c.what, got)
		}
		for _, rev := range []syntax.TID{"", "2222222222222", old, syntax.NewTID(first.Time().UnixMicro()-1, 0)} {
			if got := alice.news(rev); got != "" {
				t.Errorf("%s: since %q, of another history, %q", c.what, rev, got)
			}
		}
		if got := alice.news(was); was != first && got != "" {
			t.Errorf("%s: since the repository that it replaced, %q", c.what, got)
		}
		if err := doRemove(post, "c")(alice.person); err != nil {
			t.Fatal(err)
		}
	}
	bare := w.stranger("bare")
	if got := bare.news("2222222222222"); got != "" {
		t.Errorf("no repository: %q", got)
	}
	if err := w.Backfill(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := bare.head().Rev
	bare.mustCreate(post, nil, postOf("first"))
	if got := bare.news(first); got == "" {
		t.Error("the first post of a repository is not new")
	}
}

// TestNewerAfterEachWrite: if nothing is new since the last write, that is known
// without a read of the repository; what each kind of write did is new at once.
func TestNewerAfterEachWrite(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	store := &counting{Store: w.Store}
	w.Service.Store = store
	together := func(p *person) error {
		var h held
		out := p.together(&h, nil,
			write{"one", func(context.Context) error { return doWrite(post, "one")(p) }}, //nolint:contextcheck // it has the test's
			write{"two", func(context.Context) error { return doWrite(post, "two")(p) }}) //nolint:contextcheck // it has the test's
		if !slices.Equal(h.chains, []int{2}) {
			t.Errorf("chains of %v", h.chains)
		}
		return errors.Join(out["held"], out["one"], out["two"])
	}
	for _, c := range []struct {
		what string
		do   func(*person) error
		want string
	}{
		{"create", doWrite(post, "a"), "a"},
		{"the next", doWrite(post, "b"), "b"},
		{"a chain", together, "one two"},
		{"delete", doRemove(post, "one"), "deleted"},
		{"drop", func(p *person) error { _, err := p.w.Drop(t.Context(), p.account(), post+"/two"); return err }, "deleted"},
		{"no post", doWrite(foo, "a"), ""},
		{"import", func(*person) error { _, err := alice.imports(alice.file(t, posts(20)).bytes()); return err }, ""},
		{"create after it", doWrite(post, "c"), "c"},
	} {
		was := alice.head().Rev
		if err := c.do(alice.person); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		now := alice.head().Rev
		if now <= was {
			t.Fatalf("%s: the revision is %s after %s", c.what, now, was)
		}
		store.views = 0
		if got := alice.news(now); got != "" || store.views > 0 {
			t.Errorf("%s: %q is new since itself, %d reads", c.what, got, store.views)
		}
		later := syntax.NewTID(now.Time().UnixMicro()+1, 0)
		if allocs := testing.AllocsPerRun(100, func() { alice.newer(later) }); allocs > 0 || store.views > 0 {
			t.Errorf("%s: nothing new costs %.1f allocations, %d reads", c.what, allocs, store.views)
		}
		if got := alice.news(was); got != c.want || store.views != 1 {
			t.Errorf("%s: %q is new, want %q, %d reads", c.what, got, c.want, store.views)
		}
	}
	w.ForgetRevs()
	now := alice.head().Rev
	store.views = 0
	alice.newer(now)
	alice.newer(now)
	if store.views != 1 {
		t.Errorf("%d reads to learn the revision again, want 1", store.views)
	}
}

// slow is a store whose next read of a head waits with its answer.
type slow struct {
	repo.Store

	armed   atomic.Bool
	read    chan struct{} // closed when it was read
	answer  chan struct{} // it is answered when this is closed
	written chan struct{} // gets a value for each commit
}

func (s *slow) View(ctx context.Context, accountID int64, fn func(repo.View) error) error {
	err := s.Store.View(ctx, accountID, fn)
	if s.armed.CompareAndSwap(true, false) {
		close(s.read)
		<-s.answer
	}
	return err
}

func (s *slow) Commit(ctx context.Context, c repo.Change) error {
	err := s.Store.Commit(ctx, c)
	s.written <- struct{}{}
	return err
}

// TestNewerStale: a revision that was read before a commit and comes after it does not
// hide the commit.
func TestNewerStale(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	alice.mustCreate(post, nil, postOf("before"))
	was := alice.head().Rev
	w.ForgetRevs()
	s := &slow{Store: w.Store, read: make(chan struct{}), answer: make(chan struct{}), written: make(chan struct{}, 1)}
	s.armed.Store(true)
	w.Service.Store = s
	var all sync.WaitGroup
	all.Go(func() {
		if got := alice.news(was); got != "" {
			t.Errorf("a read that began before the write: %q", got)
		}
	})
	<-s.read
	all.Go(func() {
		if err := doWrite(post, "after")(alice); err != nil {
			t.Error(err)
		}
		if got := alice.news(was); got != "after" {
			t.Errorf("after the answer %q is new", got)
		}
	})
	<-s.written
	close(s.answer)
	all.Wait()
	if got := alice.news(was); got != "after" {
		t.Errorf("in the end %q is new", got)
	}
}

// TestNewerConcurrent: a read that begins after a write was answered finds what it
// wrote, while others write, read, and push the revision out of the cache.
func TestNewerConcurrent(t *testing.T) {
	const writes, readers = 90, 4
	w := newWorld(t)
	alice := w.person("alice")
	type answered struct {
		before syntax.TID
		key    string
	}
	var last atomic.Pointer[answered]
	var all sync.WaitGroup
	var ended atomic.Int32
	for n := range 2 {
		all.Go(func() {
			defer ended.Add(1)
			for i := range writes / 2 {
				before, rkey := alice.head().Rev, fmt.Sprintf("%d-%d", n, i)
				if err := doWrite(post, rkey)(alice); err != nil {
					t.Error(err)
					return
				}
				last.Store(&answered{before, post + "/" + rkey})
			}
		})
	}
	var reads atomic.Int64
	for range readers {
		all.Go(func() {
			for ended.Load() < 2 {
				if reads.Add(1)%3 == 0 {
					w.ForgetRevs()
				}
				a := last.Load()
				if a == nil {
					continue
				}
				n := alice.newer(a.before)
				if !slices.ContainsFunc(n.Posts, func(r repo.Record) bool { return r.Key == a.key }) {
					t.Errorf("%s was answered, and is not new since %s: %d posts are", a.key, a.before, len(n.Posts))
					return
				}
			}
		})
	}
	all.Wait()
}

// TestOwn: a record as it is shown, and its JSON as getRecord's.
func TestOwn(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	const unreadable = "com.example.odd/list"
	records := posts(3)
	records[unreadable] = odd()["a list"].block
	alice.mustImport(alice.file(t, records).bytes())
	alice.mustCreate(post, new("3jui7kd54zh2y"), postOf("hello <&> é"))
	const key = post + "/3jui7kd54zh2y"
	own := func(key string) (repo.Record, error) { return w.Own(t.Context(), alice.id, key) }
	r, err := own(key)
	if err != nil || r.Key != key || r.Rev != alice.head().Rev {
		t.Fatalf("%+v, %v", r, err)
	}
	value, err := r.AppendJSON([]byte("value:"))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := alice.get(post, "3jui7kd54zh2y", nil)
	record := strings.Replace(string(value), "value:", `"value":`, 1)
	if want := fmt.Sprintf(`{"uri":%q,"cid":%q,%s}`, "at://"+alice.did.String()+"/"+key, r.CID.String(), record); err != nil || string(shown) != want {
		t.Errorf("getRecord shows %s, %v\nwant %s", shown, err, want)
	}
	if r, err := own(unreadable); err != nil {
		t.Error(err)
	} else if out, err := r.AppendJSON(nil); err == nil {
		t.Errorf("a record that cannot be shown: %s", out)
	}
	alice.takedown(key, true)
	for _, key := range []string{key, post + "/none", "", post} {
		if r, err := own(key); !errors.Is(err, repo.ErrNoRecord) {
			t.Errorf("%q: %+v, %v", key, r, err)
		}
	}
	alice.takedown(key, false)
	if _, err := own(key); err != nil {
		t.Error(err)
	}
	if _, err := w.Own(t.Context(), w.stranger("bare").id, key); !errors.Is(err, repo.ErrNoRecord) {
		t.Errorf("no repository: %v", err)
	}
}
