package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/repo"
)

var repoViewTests = tests{
	"RepoRecords": testRepoRecords,
	"RepoSince":   testRepoSince,
	"RepoList":    testRepoList,
	"RepoBlobs":   testRepoBlobs,
}

// testRepoRecords: a collection is listed by key, both ways, from any place.
func testRepoRecords(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	var writes []repo.Write
	for _, key := range []string{"a.b/1", "a.b/2", "a.b/3", "a.b/4", "a.b.c/1", "a.b.c/9", "a.b-c/1", "a.bc/1", "a/1", "a.b/Z", "a.b/~"} {
		writes = append(writes, put(key, key))
	}
	alice.commit(t, s, writes...)
	blockSize := len(alice.records["a.b/1"].Block)
	alice.view(t, s, func(v repo.View) {
		for _, c := range []struct {
			rg   repo.Range
			want []string
		}{
			{repo.Range{Collection: "a.b", Ascending: true, Limit: 10}, []string{"a.b/1", "a.b/2", "a.b/3", "a.b/4", "a.b/Z", "a.b/~"}},
			{repo.Range{Collection: "a.b", Limit: 10}, []string{"a.b/~", "a.b/Z", "a.b/4", "a.b/3", "a.b/2", "a.b/1"}},
			{repo.Range{Collection: "a.b", Ascending: true, Limit: 2}, []string{"a.b/1", "a.b/2"}},
			{repo.Range{Collection: "a.b", Limit: 2}, []string{"a.b/~", "a.b/Z"}},
			{repo.Range{Collection: "a.b", After: "2", Ascending: true, Limit: 2}, []string{"a.b/3", "a.b/4"}},
			{repo.Range{Collection: "a.b", After: "3", Limit: 5}, []string{"a.b/2", "a.b/1"}},
			{repo.Range{Collection: "a.b", After: "25", Ascending: true, Limit: 1}, []string{"a.b/3"}}, // a key that is gone
			{repo.Range{Collection: "a.b", After: "25", Limit: 1}, []string{"a.b/2"}},
			{repo.Range{Collection: "a.b", After: "~", Ascending: true, Limit: 5}, nil},
			{repo.Range{Collection: "a.b", After: "1", Limit: 5}, nil},
			{repo.Range{Collection: "a.b", Limit: 0}, nil},
			{repo.Range{Collection: "a.b", Limit: -1}, nil},
			{repo.Range{Collection: "a.b.c", Limit: 5}, []string{"a.b.c/9", "a.b.c/1"}},
			{repo.Range{Collection: "a", Limit: 5}, []string{"a/1"}},
			{repo.Range{Collection: "none", Limit: 5}, nil},
			{repo.Range{Limit: 5}, nil},
			{repo.Range{Collection: "a.b", Ascending: true, Limit: 10, Bytes: 1}, []string{"a.b/1"}},
			{repo.Range{Collection: "a.b", After: "1", Ascending: true, Limit: 10, Bytes: 3 * blockSize}, []string{"a.b/2", "a.b/3", "a.b/4"}},
			{repo.Range{Collection: "a.b", Limit: 10, Bytes: 3*blockSize - 1}, []string{"a.b/~", "a.b/Z"}},
			{repo.Range{Collection: "a.b", Limit: 1, Bytes: 3 * blockSize}, []string{"a.b/~"}},
		} {
			list, err := v.Records(c.rg)
			if err != nil {
				t.Error(err)
			}
			var got []string
			for _, r := range list {
				got = append(got, r.Key)
				sameRecord(t, r, alice.records[r.Key])
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%+v: %q, want %q", c.rg, got, c.want)
			}
		}
		if got, err := v.Collections(10); err != nil || !slices.Equal(got, []string{"a", "a.b", "a.b-c", "a.b.c", "a.bc"}) {
			t.Errorf("collections %q, %v", got, err)
		}
		if got, err := v.Collections(2); err != nil || len(got) != 2 {
			t.Errorf("2 of 5 collections: %q, %v", got, err)
		}
		for _, key := range []string{"a.b/5", "a.b", "a.b/", ""} {
			if r, err := v.Record(key); !errors.Is(err, repo.ErrNoRecord) {
				t.Errorf("record %q: %+v, %v", key, r, err)
			}
		}
	})
	// What is no longer there is no longer listed.
	alice.commit(t, s, remove("a/1"), remove("a.b.c/1"), remove("a.b.c/9"))
	alice.view(t, s, func(v repo.View) {
		if got, err := v.Collections(10); err != nil || !slices.Equal(got, []string{"a.b", "a.b-c", "a.bc"}) {
			t.Errorf("collections %q, %v", got, err)
		}
	})
	newOwner(t, s, "bob").view(t, s, func(v repo.View) {
		if got, err := v.Collections(10); err != nil || len(got) != 0 {
			t.Errorf("collections of an empty repository: %q, %v", got, err)
		}
	})
}

// testRepoSince: what the commits after a revision wrote.
func testRepoSince(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	for i := range 30 {
		alice.commit(t, s, put(fmt.Sprintf("app.post/%d", i), "new"), put(fmt.Sprintf("app.post/%d", i/2), "changed"))
	}
	stop := errors.New("enough")
	alice.view(t, s, func(v repo.View) {
		for _, since := range append(alice.revs, "", tid(100)) {
			alice.checkRecords(t, v, since)
			var want []int64
			for id, rev := range alice.nodes {
				if rev > since {
					want = append(want, id)
				}
			}
			slices.Sort(want)
			var got []int64
			err := v.EachNode(since, func(id int64, _ []int64, _ []byte) error {
				got = append(got, id)
				return nil
			})
			slices.Sort(got)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("since %q: nodes %d, want %d, %v", since, got, want, err)
			}
		}
		n := 0
		if err := v.EachNode("", func(int64, []int64, []byte) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
			t.Errorf("EachNode goes on after an error: %d, %v", n, err)
		}
		if err := v.EachRecord("", func(repo.Record) error { n++; return stop }); !errors.Is(err, stop) || n != 2 {
			t.Errorf("EachRecord goes on after an error: %d, %v", n, err)
		}
	})
}

// testRepoList: the accounts with and without a repository, by ID.
func testRepoList(t *testing.T, s *Database) {
	t.Helper()
	alice, bare, bob, bare2, carol := newOwner(t, s, "alice"), newAccount(t, s, "bare"), newOwner(t, s, "bob"), newAccount(t, s, "bare2"), newOwner(t, s, "carol")
	if _, err := s.Hosting.Reserve(t.Context(), pending("dave")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Repos.Stage(t.Context(), bare.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Repos.Stage(t.Context(), bob.ID); err != nil {
		t.Fatal(err)
	}
	bob.commit(t, s, put("app.post/1", "one"))
	setStatus(t, s, carol.Account, account.StatusChange{Takedown: &account.Applied{Applied: true}})
	of := func(o *owner) repo.AccountHead {
		return repo.AccountHead{AccountID: o.ID, DID: o.DID, CID: o.head.CID, Rev: o.head.Rev}
	}
	down := of(carol)
	down.Status = string(account.TakenDown)
	without := func(a *account.Account) repo.AccountHead { return repo.AccountHead{AccountID: a.ID, DID: a.DID} }
	s.Reopen()
	for _, c := range []struct {
		after int64
		limit int
		want  []repo.AccountHead
	}{
		{0, 10, []repo.AccountHead{of(alice), of(bob), down}},
		{0, 2, []repo.AccountHead{of(alice), of(bob)}},
		{alice.ID, 2, []repo.AccountHead{of(bob), down}},
		{bare.ID, 1, []repo.AccountHead{of(bob)}},
		{carol.ID, 10, nil},
		{0, 0, nil},
		{0, -1, nil},
	} {
		if got, err := s.Repos.Heads(t.Context(), c.after, c.limit); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("after %d, %d: %+v, want %+v, %v", c.after, c.limit, got, c.want, err)
		}
	}
	for _, c := range []struct {
		after int64
		limit int
		want  []repo.AccountHead
	}{
		{0, 10, []repo.AccountHead{without(bare), without(bare2)}},
		{0, 1, []repo.AccountHead{without(bare)}},
		{bare.ID, 10, []repo.AccountHead{without(bare2)}},
		{bare2.ID, 10, nil},
		{0, 0, nil},
		{0, -1, nil},
	} {
		if got, err := s.Repos.Without(t.Context(), c.after, c.limit); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("without, after %d, %d: %+v, want %+v, %v", c.after, c.limit, got, c.want, err)
		}
	}
}

// blobOf is an upload of a text.
func blobOf(text string) blob.Blob {
	return blob.Blob{CID: dagcbor.RawCID(sha256.Sum256([]byte(text))), Size: int64(len(text)), MimeType: "text/" + text, CreatedAt: start}
}

// upload adds a blob to an account.
func upload(t *testing.T, s *Database, accountID int64, text string, created time.Time) cid.Cid {
	t.Helper()
	b := blobOf(text)
	b.Key, b.CreatedAt = fmt.Sprintf("%d-%s", accountID, text), created
	if err := s.Blobs.Intend(t.Context(), b.Key, created); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Blobs.Add(t.Context(), accountID, b, 0); err != nil {
		t.Fatal(err)
	}
	return b.CID
}

// collected reports whether a collection forgets a blob: one for blobs whose
// last reference went, or that were uploaded, before the given times.
func collected(t *testing.T, s *Database, accountID int64, id cid.Cid, unused, unreferenced time.Time) bool {
	t.Helper()
	if _, _, err := s.Blobs.Collect(t.Context(), unused, unreferenced); err != nil {
		t.Fatal(err)
	}
	err := s.Repos.View(t.Context(), accountID, func(v repo.View) error { _, err := v.Blob(id); return err })
	if err != nil && !errors.Is(err, repo.ErrNoBlob) {
		t.Fatal(err)
	}
	return err != nil
}

// testRepoBlobs: a record's blobs must be there, are kept while any record
// refers to them, and are unused from the moment when none does any more.
func testRepoBlobs(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	pic := upload(t, s, alice.ID, "pic", start)
	late := at(10_000)
	alice.view(t, s, func(v repo.View) {
		if info, err := v.Blob(pic); err != nil || info != (repo.BlobInfo{Size: 3, MimeType: "text/pic"}) {
			t.Errorf("%+v, %v", info, err)
		}
	})
	bob.view(t, s, func(v repo.View) {
		if info, err := v.Blob(pic); !errors.Is(err, repo.ErrNoBlob) {
			t.Errorf("another one's upload: %+v, %v", info, err)
		}
	})
	if err := s.Repos.Commit(t.Context(), bob.change(t, s, put("app.post/1", "x", pic))); !errors.Is(err, repo.ErrNoBlob) {
		t.Errorf("a reference to another one's upload: %v", err)
	}
	bob.check(t, s)
	// In one commit neither the order of writes nor a repeated one matters.
	alice.commit(t, s, put("app.post/1", "a", pic, pic), put("app.post/2", "b", pic))
	alice.commit(t, s, remove("app.post/1"), put("app.post/2", "moved"), put("app.post/3", "c", pic))
	alice.commit(t, s, put("app.post/4", "d", pic), remove("app.post/3"))
	alice.commit(t, s, put("app.post/4", "changed", pic))
	if s.Reopen(); collected(t, s, alice.ID, pic, late, late) {
		t.Fatal("a blob is collected though a record refers to it")
	}
	gone := alice.commit(t, s, put("app.post/4", "without")).At
	if collected(t, s, alice.ID, pic, late, gone) {
		t.Error("a blob is collected before its time: it was used until its last reference went")
	}
	alice.commit(t, s, put("app.post/4", "with", pic))
	if collected(t, s, alice.ID, pic, late, late) {
		t.Error("a blob is collected though a record refers to it again")
	}
	gone = alice.commit(t, s, remove("app.post/4")).At
	alice.commit(t, s, put("app.post/4", "taken back", pic), remove("app.post/4"))
	if collected(t, s, alice.ID, pic, late, gone) || !collected(t, s, alice.ID, pic, start, gone.Add(time.Millisecond)) {
		t.Error("a blob is not unused since the commit that removed its last reference")
	}
	if err := s.Repos.Commit(t.Context(), alice.change(t, s, put("app.post/5", "x", pic))); !errors.Is(err, repo.ErrNoBlob) {
		t.Errorf("a reference to a blob that is collected: %v", err)
	}
	alice.check(t, s)
	// A write that is taken back within its commit leaves no use.
	tried := upload(t, s, alice.ID, "tried", start)
	alice.commit(t, s, put("app.post/6", "x", tried), remove("app.post/6"))
	if !collected(t, s, alice.ID, tried, late, start) {
		t.Error("a blob counts as used though no record ever referred to it")
	}
}
