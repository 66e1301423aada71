package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/repo"
)

var repoNewsTests = tests{
	"RepoNewPosts":       testRepoNewPosts,
	"RepoNewPostsLimit":  testRepoNewPostsLimit,
	"RepoNewPostsBounds": testRepoNewPostsBounds,
	"RepoNewPostsImport": testRepoNewPostsImport,
	"RepoRevs":           testRepoRevs,
}

// postKey is the key of a post.
func postKey(rkey string) string { return repo.PostCollection + "/" + rkey }

// posted fails the test unless these posts, by rkey, are new since a revision, in
// that order. They are the records that the owner has written.
func (o *owner) posted(t *testing.T, s *Database, what string, since syntax.TID, limit int, want ...string) {
	t.Helper()
	o.postedWithin(t, s, what, since, repo.Bounds{Count: limit, Size: 1 << 20, Bytes: 1 << 30}, want...)
}

// postedWithin is posted within other bounds than those of the count.
func (o *owner) postedWithin(t *testing.T, s *Database, what string, since syntax.TID, most repo.Bounds, want ...string) {
	t.Helper()
	o.view(t, s, func(v repo.View) {
		t.Helper()
		list, err := v.NewPosts(since, most)
		var got []string
		for _, r := range list {
			got = append(got, strings.TrimPrefix(r.Key, repo.PostCollection+"/"))
			sameRecord(t, r, o.records[r.Key])
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: new since %q are %q, want %q, %v", what, since, got, want, err)
		}
	})
}

// testRepoNewPosts: posts are new by the revision of the commit that wrote them last,
// whatever their keys; what was deleted or taken down is not there.
func testRepoNewPosts(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	bob.commit(t, s, put(postKey("of-bob"), "hello"))
	last := func() syntax.TID { return alice.revs[len(alice.revs)-1] }
	first := last()
	for _, c := range []struct {
		what   string
		writes []repo.Write
		do     func()
		// want is what is new since the first commit, since what the commit before did,
		// and since the commit itself.
		all, latest []string
	}{
		{what: "nothing yet"},
		{
			what: "several in one commit, beside others that are no posts",
			writes: []repo.Write{
				put(postKey("b"), "1"), put(postKey("c"), "1"), put(postKey("a"), "1"), put("app.bsky.feed.like/a", "1"),
				put("app.bsky.feed.postgate/a", "1"), put("app.bsky.feed.post.x/a", "1"), put("app.bsky.feed.pos/t", "1"), put("app.bsky.actor.profile/self", "1"),
			},
			all: []string{"a", "b", "c"}, latest: []string{"a", "b", "c"},
		},
		{what: "no post", writes: []repo.Write{put("app.bsky.feed.like/b", "2")}, all: []string{"a", "b", "c"}},
		{what: "a lower key", writes: []repo.Write{put(postKey("0"), "3")}, all: []string{"a", "b", "c", "0"}, latest: []string{"0"}},
		{what: "an update", writes: []repo.Write{put(postKey("b"), "4")}, all: []string{"a", "c", "0", "b"}, latest: []string{"b"}},
		{what: "a deletion", writes: []repo.Write{remove(postKey("a"))}, all: []string{"c", "0", "b"}},
		{what: "back again", writes: []repo.Write{put(postKey("a"), "6")}, all: []string{"c", "0", "b", "a"}, latest: []string{"a"}},
		{what: "of another", do: func() { bob.commit(t, s, put(postKey("d"), "7")) }, all: []string{"c", "0", "b", "a"}},
		{what: "a takedown", do: func() { takedown(t, s, alice.Account, 8, postKey("0"), true, "x") }, all: []string{"c", "b", "a"}},
		{what: "one of another", do: func() { takedown(t, s, bob.Account, 8, postKey("c"), true, "x") }, all: []string{"c", "b", "a"}},
		{
			what: "a post that is taken down changes", writes: []repo.Write{put(postKey("0"), "9"), put(postKey("e"), "9")},
			all: []string{"c", "b", "a", "e"}, latest: []string{"e"},
		},
		{what: "a takedown is lifted", do: func() { takedown(t, s, alice.Account, 10, postKey("0"), false, "") }, all: []string{"c", "b", "a", "0", "e"}},
	} {
		before := last()
		if c.do != nil {
			c.do()
		} else if c.writes != nil {
			alice.commit(t, s, c.writes...)
		}
		alice.posted(t, s, c.what, first, 100, c.all...)
		alice.posted(t, s, c.what+", of ever", "", 100, c.all...)
		alice.posted(t, s, c.what+", the latest", before, 100, c.latest...)
		alice.posted(t, s, c.what+", nothing newer", last(), 100)
	}
	// A change that is refused leaves nothing.
	stale := alice.change(t, s, put(postKey("stale"), "x"))
	alice.commit(t, s, put("app.bsky.feed.like/c", "meanwhile"))
	if err := s.Repos.Commit(t.Context(), stale); !errors.Is(err, repo.ErrConflict) {
		t.Error(err)
	}
	s.Reopen()
	alice.posted(t, s, "at last", first, 100, "c", "b", "a", "0", "e")
	bob.posted(t, s, "bob", "", 100, "of-bob", "d")
}

// testRepoNewPostsLimit: the newest come, and what is taken down takes no place.
func testRepoNewPostsLimit(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	var rkeys []string
	for i := range 15 {
		var writes []repo.Write
		for range 10 {
			rkeys = append(rkeys, fmt.Sprintf("%03d", len(rkeys)))
			writes = append(writes, put(postKey(rkeys[len(rkeys)-1]), fmt.Sprint(i)))
		}
		alice.commit(t, s, writes...)
	}
	first := alice.revs[0]
	alice.posted(t, s, "100 of 150", first, 100, rkeys[50:]...)
	alice.posted(t, s, "a part of a commit", first, 13, rkeys[137:]...)
	alice.posted(t, s, "fewer than the limit", alice.revs[14], 100, rkeys[140:]...)
	alice.posted(t, s, "exactly the limit", alice.revs[5], 100, rkeys[50:]...)
	alice.posted(t, s, "none", first, 0)
	alice.posted(t, s, "none", first, -1)
	takedown(t, s, alice.Account, 1, postKey("149"), true, "x")
	takedown(t, s, alice.Account, 1, postKey("060"), true, "x")
	alice.posted(t, s, "without those that were taken down", first, 100, slices.Concat(rkeys[48:60], rkeys[61:149])...)
}

// testRepoNewPostsBounds: large posts are left out, and the list ends before the first
// with which it would be too large.
func testRepoNewPostsBounds(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	since := alice.revs[0]
	block := func(rkey string) int { return len(alice.records[postKey(rkey)].Block) }
	for i, length := range []int{10, 5000, 20, 200_000, 30} {
		alice.commit(t, s, put(postKey(fmt.Sprint(i)), strings.Repeat("x", length)))
	}
	all, small := block("0")+block("1")+block("2")+block("4"), block("0")+block("2")+block("4")
	for _, c := range []struct {
		what string
		most repo.Bounds
		want []string
	}{
		{"a size that all have", repo.Bounds{Count: 100, Size: block("3"), Bytes: all + block("3")}, []string{"0", "1", "2", "3", "4"}},
		{"one is larger", repo.Bounds{Count: 100, Size: block("3") - 1, Bytes: all}, []string{"0", "1", "2", "4"}},
		{"two are", repo.Bounds{Count: 100, Size: block("1") - 1, Bytes: small}, []string{"0", "2", "4"}},
		{"all are", repo.Bounds{Count: 100, Size: 0, Bytes: all}, nil},
		{"a byte too many", repo.Bounds{Count: 100, Size: block("1"), Bytes: all - 1}, []string{"1", "2", "4"}},
		{"no older one behind one that does not fit", repo.Bounds{Count: 100, Size: block("1"), Bytes: small}, []string{"2", "4"}},
		{"the newest does not fit", repo.Bounds{Count: 100, Size: 1000, Bytes: block("4") - 1}, nil},
		{"a large one counts", repo.Bounds{Count: 3, Size: 1000, Bytes: all}, []string{"2", "4"}},
	} {
		alice.postedWithin(t, s, c.what, since, c.most, c.want...)
	}
}

// testRepoNewPostsImport: an import brings its own posts, with the switch; those of the
// old repository are gone.
func testRepoNewPostsImport(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	alice.commit(t, s, put(postKey("old"), "1"), put(postKey("both"), "1"))
	bob.commit(t, s, put(postKey("b"), "1"))
	rev := alice.revs[1]
	i := alice.stage(t, s, put(postKey("both"), "2"), put(postKey("imported"), "2"), put("app.bsky.feed.like/a", "2"))
	alice.posted(t, s, "staged", "", 100, "both", "old")
	if err := i.put(t, s); err != nil {
		t.Fatal(err)
	}
	for range 2 { // with what was replaced still there, and without
		i.owner.posted(t, s, "imported", rev, 100, "both", "imported")
		i.owner.posted(t, s, "imported", i.change.Next.Rev, 100)
		bob.posted(t, s, "bob", "", 100, "b")
		s.Reopen()
		sweep(t, s)
	}
	i.owner.commit(t, s, put(postKey("after"), "3"))
	i.owner.posted(t, s, "after it", i.change.Next.Rev, 100, "after")
	i.owner.check(t, s)
}

// testRepoRevs: the head has the revisions that the last change gave it: a commit, or a
// switch.
func testRepoRevs(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	has := func(what string, o *owner, first, removed syntax.TID) {
		t.Helper()
		s.Reopen()
		o.view(t, s, func(v repo.View) {
			if h := v.Head(); h.First != first || h.Removed != removed {
				t.Errorf("%s: first %q, removed %q, want %q and %q", what, h.First, h.Removed, first, removed)
			}
		})
	}
	has("begun", alice, tid(1), "")
	c := alice.change(t, s, put("app.post/1", "one"))
	c.Next.Removed = c.Next.Rev
	if err := s.Repos.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	alice.made(t, s, c)
	has("commit", alice, tid(1), tid(2))
	alice.commit(t, s, put("app.post/2", "two"))
	has("the next", alice, tid(1), tid(2))
	has("another's", bob, tid(1), "")
	i := alice.stage(t, s, put("app.post/1", "imported"))
	has("staged", alice, tid(1), tid(2))
	if err := i.put(t, s); err != nil {
		t.Fatal(err)
	}
	has("imported", i.owner, i.change.Next.Rev, "")
}
