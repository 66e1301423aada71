package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/repo"
)

var blobTests = tests{
	"BlobAdd":      testBlobAdd,
	"BlobAddAgain": testBlobAddAgain,
	"BlobQuota":    testBlobQuota,
	"BlobDeleted":  testBlobDeleted,
	"BlobList":     testBlobList,
	"BlobMissing":  testBlobMissing,
	"BlobCollect":  testBlobCollect,
	"BlobGarbage":  testBlobGarbage,
	"BlobRace":     testBlobRace,
}

// add is an upload of text whose file has the given key, at a minute of the
// story. What it returns is compared by the caller.
func add(t *testing.T, s *Database, accountID int64, key, text string, minute int, quota int64) (blob.Blob, error) {
	t.Helper()
	b := blobOf(text)
	b.Key, b.CreatedAt = key, at(minute)
	if err := s.Blobs.Intend(t.Context(), key, at(minute)); err != nil {
		t.Fatal(err)
	}
	return s.Blobs.Add(t.Context(), accountID, b, quota)
}

// garbage returns the keys of files that nothing needs; files of uploads under
// way do not count.
func garbage(t *testing.T, s *Database) []string {
	t.Helper()
	keys, err := s.Blobs.Garbage(t.Context(), start.Add(-time.Hour), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func wantGarbage(t *testing.T, s *Database, want ...string) {
	t.Helper()
	if got := garbage(t, s); !slices.Equal(got, want) {
		t.Errorf("garbage %q, want %q", got, want)
	}
}

// wantBlob fails the test unless Get returns that.
func wantBlob(t *testing.T, s *Database, a *account.Account, want blob.Blob) {
	t.Helper()
	if got, err := s.Blobs.Get(t.Context(), a.ID, want.CID); err != nil || got != want {
		t.Errorf("blob %+v\nwant %+v, %v", got, want, err)
	}
}

func noBlob(t *testing.T, s *Database, a *account.Account, id cid.Cid) {
	t.Helper()
	if got, err := s.Blobs.Get(t.Context(), a.ID, id); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("%+v, %v; want ErrNotFound", got, err)
	}
}

// testBlobAdd: an intended file becomes a blob, which others see once a record
// refers to it.
func testBlobAdd(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	want := blobOf("pic")
	want.Key, want.CreatedAt = "k1", at(2)
	if err := s.Blobs.Intend(t.Context(), "k1", at(2)); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	wantGarbage(t, s)
	if got, err := s.Blobs.Add(t.Context(), alice.ID, want, 0); err != nil || got != want {
		t.Errorf("added %+v\nwant %+v, %v", got, want, err)
	}
	noBlob(t, s, alice.Account, want.CID)
	alice.commit(t, s, put("app.post/1", "x", want.CID))
	s.Reopen()
	wantBlob(t, s, alice.Account, want)
	noBlob(t, s, bob.Account, want.CID)
	noBlob(t, s, alice.Account, blobOf("other").CID)
	alice.commit(t, s, remove("app.post/1"))
	noBlob(t, s, alice.Account, want.CID)
	wantGarbage(t, s)

	other := blobOf("other")
	other.Key, other.CreatedAt = "k2", at(2)
	if got, err := s.Blobs.Add(t.Context(), alice.ID, other, 0); !errors.Is(err, blob.ErrAbandoned) {
		t.Errorf("a file that was not intended: %+v, %v", got, err)
	}
	if got, err := add(t, s, alice.ID+bob.ID+1, "k3", "x", 2, 0); !errors.Is(err, blob.ErrNoAccount) {
		t.Errorf("without an account: %+v, %v", got, err)
	}
	wantGarbage(t, s, "k3")
}

// testBlobAddAgain: a new upload of what is there brings a new file; what
// records say of the blob stays true.
func testBlobAddAgain(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	again := func(key, mimeType string, minute int) blob.Blob {
		b := blobOf("pic")
		b.Key, b.MimeType, b.CreatedAt = key, mimeType, at(minute)
		if err := s.Blobs.Intend(t.Context(), key, b.CreatedAt); err != nil {
			t.Fatal(err)
		}
		got, err := s.Blobs.Add(t.Context(), alice.ID, b, int64(len("pic"))) // which is no more than before
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first, second := again("k1", "image/one", 1), again("k2", "image/two", 2)
	if want := (blob.Blob{CID: first.CID, Size: 3, MimeType: "image/two", Key: "k2", CreatedAt: at(2)}); second != want {
		t.Errorf("again, before a record refers to it: %+v\nwant %+v", second, want)
	}
	wantGarbage(t, s, "k1")
	if collected(t, s, alice.ID, first.CID, at(2), at(2)) {
		t.Error("collected as old as the first upload")
	}
	alice.commit(t, s, put("app.post/1", "x", first.CID))
	third := again("k3", "image/three", 3)
	if want := (blob.Blob{CID: first.CID, Size: 3, MimeType: "image/two", Key: "k3", CreatedAt: at(2)}); third != want {
		t.Errorf("again, while a record refers to it: %+v\nwant %+v", third, want)
	}
	s.Reopen()
	wantBlob(t, s, alice.Account, third)
	wantGarbage(t, s, "k1", "k2")
	if collected(t, s, alice.ID, first.CID, at(10_000), at(10_000)) {
		t.Error("collected while a record refers to it")
	}
}

// testBlobQuota: the sum of an account's blobs stays within its quota; each
// counts once, whoever else has it.
func testBlobQuota(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	for i, c := range []struct {
		account int64
		text    string
		quota   int64
		err     error
	}{
		{alice.ID, "12345", 4, blob.ErrQuota},
		{alice.ID, "12345", 5, nil},
		{alice.ID, "12345", 5, nil},
		{alice.ID, "6", 5, blob.ErrQuota},
		{bob.ID, "12345", 5, nil},
		{alice.ID, "67", 7, nil},
		{alice.ID, "8", 7, blob.ErrQuota},
		{alice.ID, "12345", 3, nil}, // nothing more than there is
		{alice.ID, "890", 0, nil},
	} {
		if got, err := add(t, s, c.account, fmt.Sprintf("k%d", i), c.text, 1, c.quota); !errors.Is(err, c.err) {
			t.Errorf("%d: %+v, %v; want %v", i, got, err, c.err)
		}
	}
	wantGarbage(t, s, "k0", "k1", "k2", "k3", "k6")
	nobody := newAccount(t, s, "nobody")
	for _, c := range []struct{ account, quota, want int64 }{
		{nobody.ID, 7, 7},
		{bob.ID, 20, 15},
		{alice.ID, 20, 10},
		{alice.ID, 16, 6},
		{alice.ID, 12, 5},
		{alice.ID, 3, 5}, // the largest that is there
	} {
		if room, err := s.Blobs.Room(t.Context(), c.account, c.quota); room != c.want || err != nil {
			t.Errorf("room of %d: %d, %v", c.quota, room, err)
		}
	}
}

// testBlobDeleted: an account's blobs go with it: hidden at once, collected in
// steps, and then their files are garbage.
func testBlobDeleted(t *testing.T, s *Database) {
	t.Helper()
	const many = 1100
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	pic := upload(t, s, alice.ID, "pic", start)
	alice.commit(t, s, put("app.post/1", "x", pic))
	bob.commit(t, s, put("app.post/1", "x", upload(t, s, bob.ID, "pic", start)))
	var wg sync.WaitGroup
	for i := range many - 1 {
		wg.Go(func() { upload(t, s, alice.ID, fmt.Sprintf("pic %d", i), start) })
	}
	wg.Wait()
	nobody := newAccount(t, s, "nobody")
	for _, a := range []*account.Account{alice.Account, nobody} {
		if err := s.Accounts.Delete(t.Context(), a.ID, at(2)); err != nil {
			t.Fatal(err)
		}
	}
	noBlob(t, s, alice.Account, pic)
	for _, text := range []string{"pic", "another"} {
		if _, err := add(t, s, alice.ID, "late"+text, text, 3, 0); !errors.Is(err, blob.ErrNoAccount) {
			t.Errorf("upload of %q to a deleted account: %v", text, err)
		}
	}
	wantGarbage(t, s, "lateanother", "latepic")
	if err := s.Blobs.Forget(t.Context(), garbage(t, s)); err != nil {
		t.Fatal(err)
	}
	sum, steps := 0, 0
	for more := true; more; steps++ {
		n, again, err := s.Blobs.Collect(t.Context(), start, start)
		if err != nil || n > many/2 {
			t.Fatalf("%d in one step, %v", n, err)
		}
		sum, more = sum+n, again
		s.Reopen()
		noBlob(t, s, alice.Account, pic)
	}
	if got, err := s.Blobs.Garbage(t.Context(), start.Add(-time.Hour), "", 2*many); sum != many || len(got) != many || err != nil {
		t.Errorf("%d of %d blobs collected, in %d steps, %d files are garbage, %v", sum, many, steps, len(got), err)
	}
	if _, err := s.Blobs.Get(t.Context(), bob.ID, pic); err != nil {
		t.Errorf("another one's: %v", err)
	}
}

// texts are the CIDs' texts.
func texts(ids []cid.Cid) (out []string) {
	for _, id := range ids {
		out = append(out, id.String())
	}
	return out
}

// testBlobList: what the account's records refer to, each once, in the order of
// the CIDs' text.
func testBlobList(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	var ids []cid.Cid
	for i := range 5 {
		ids = append(ids, upload(t, s, alice.ID, fmt.Sprintf("pic %d", i), start))
	}
	upload(t, s, alice.ID, "unused", start)
	one := alice.commit(t, s, put("app.post/1", "x", ids[0], ids[1]), put("app.post/2", "y", ids[1])).Next.Rev
	two := alice.commit(t, s, put("app.post/3", "z", ids[1], ids[2]), put("app.post/4", "z", ids[3])).Next.Rev
	three := alice.commit(t, s, remove("app.post/4")).Next.Rev
	alice.stage(t, s, put("app.post/1", "x", ids[4]))
	s.Reopen()
	list := func(since, cursor string, limit int) []string {
		got, err := s.Blobs.List(t.Context(), alice.ID, syntax.TID(since), cursor, limit, nil)
		if err != nil {
			t.Fatal(err)
		}
		return texts(got)
	}
	all, late := texts(ids[:3]), texts(ids[1:3])
	slices.Sort(all)
	slices.Sort(late)
	for _, c := range []struct {
		since, cursor string
		limit         int
		want          []string
	}{
		{"", "", 10, all},
		{"", "", 2, all[:2]},
		{"", all[1], 10, all[2:]},
		{"", all[2], 10, nil},
		{"", "", 0, nil},
		{"", "", -1, nil},
		{one.String(), "", 10, late},
		{one.String(), late[0], 10, late[1:]},
		{two.String(), "", 10, nil},
		{three.String(), "", 10, nil},
	} {
		if got := list(c.since, c.cursor, c.limit); !slices.Equal(got, c.want) {
			t.Errorf("since %q, behind %q, limit %d: %q\nwant %q", c.since, c.cursor, c.limit, got, c.want)
		}
	}
	if got, err := s.Blobs.List(t.Context(), bob.ID, "", "", 10, nil); err != nil || len(got) > 0 {
		t.Errorf("another account: %q, %v", got, err)
	}
	testBlobKept(t, s, alice.ID, bob.ID, ids)
	if got, err := s.Blobs.List(t.Context(), newAccount(t, s, "carol").ID, "", "", 10, nil); err != nil || len(got) > 0 {
		t.Errorf("an account without a repository: %q, %v", got, err)
	}
}

// testBlobKept: the same with what is known of each.
func testBlobKept(t *testing.T, s *Database, alice, bob int64, ids []cid.Cid) {
	t.Helper()
	kept := func(account int64, cursor string, limit int) (out []string) {
		t.Helper()
		got, err := s.Blobs.Kept(t.Context(), account, cursor, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range got {
			if b, err := s.Blobs.Get(t.Context(), account, u.CID); err != nil || b != u.Blob || u.TakenDown {
				t.Errorf("%+v, want %+v, %v", u, b, err)
			}
			out = append(out, u.CID.String()+" "+strings.Join(u.Records, " "))
		}
		return out
	}
	want := []string{ids[0].String() + " app.post/1", ids[1].String() + " app.post/1 app.post/2 app.post/3", ids[2].String() + " app.post/3"}
	slices.Sort(want)
	first, _, _ := strings.Cut(want[0], " ")
	if all, some, rest := kept(alice, "", 10), kept(alice, "", 1), kept(alice, first, 10); !slices.Equal(all, want) || !slices.Equal(some, want[:1]) || !slices.Equal(rest, want[1:]) {
		t.Errorf("kept %q, one %q, behind the first %q\nwant %q", all, some, rest, want)
	}
	if got := kept(bob, "", 10); len(got) > 0 {
		t.Errorf("another account keeps %q", got)
	}
}

// testBlobMissing: after an import, which blobs are still to be uploaded, and how
// many are there.
func testBlobMissing(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	count := func(expected, there int64) {
		t.Helper()
		if e, h, err := s.Blobs.Count(t.Context(), alice.ID); err != nil || e != expected || h != there {
			t.Errorf("%d expected, %d there, %v; want %d, %d", e, h, err, expected, there)
		}
	}
	count(0, 0)
	pics := []cid.Cid{blobOf("a").CID, blobOf("b").CID, blobOf("c").CID, blobOf("d").CID}
	upload(t, s, alice.ID, "d", start)
	upload(t, s, bob.ID, "a", start)
	upload(t, s, alice.ID, "unused", start)
	staged := alice.stage(t, s, put("app.post/1", "x", pics...), put("app.post/0", "y", pics[0]))
	count(0, 0)
	if err := staged.put(t, s); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	count(4, 1)
	var want []blob.Missing
	for i, id := range pics[:3] {
		want = append(want, blob.Missing{CID: id, Record: "app.post/1"})
		if i == 0 {
			want[0].Record = "app.post/0"
		}
	}
	slices.SortFunc(want, func(a, b blob.Missing) int { return strings.Compare(a.CID.String(), b.CID.String()) })
	missing := func(cursor string, limit int, want []blob.Missing) {
		t.Helper()
		if got, err := s.Blobs.Missing(t.Context(), alice.ID, cursor, limit, nil); err != nil || !slices.Equal(got, want) {
			t.Errorf("behind %q, limit %d: %+v\nwant %+v, %v", cursor, limit, got, want, err)
		}
	}
	missing("", 10, want)
	missing("", 2, want[:2])
	missing(want[1].CID.String(), 2, want[2:])
	missing(want[2].CID.String(), 2, nil)
	missing("", -1, nil)
	upload(t, s, alice.ID, "a", start)
	upload(t, s, alice.ID, "b", start)
	upload(t, s, alice.ID, "c", start)
	missing("", 10, nil)
	count(4, 4)
	for _, id := range pics {
		if collected(t, s, alice.ID, id, at(10_000), at(10_000)) {
			t.Error("a blob that came after its record is collected")
		}
	}
}

// testBlobCollect: an import under way keeps what it refers to, and the rest is
// forgotten in bounded steps, however much there is.
func testBlobCollect(t *testing.T, s *Database) {
	t.Helper()
	const many = 1100
	alice := newOwner(t, s, "alice")
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() { upload(t, s, alice.ID, fmt.Sprintf("pic %d", i), at(1)) })
	}
	wg.Wait()
	if n, more, err := s.Blobs.Collect(t.Context(), at(1), at(10_000)); n != 0 || more || err != nil {
		t.Errorf("before their time: %d, %t, %v", n, more, err)
	}
	var staged, used []cid.Cid
	for i := range 600 { // more than one step reads
		staged = append(staged, blobOf(fmt.Sprintf("pic %d", i)).CID)
	}
	used = append(used, blobOf("pic 1000").CID)
	alice.stage(t, s, put("app.post/1", "x", staged...))
	alice.commit(t, s, put("app.post/1", "x", used...))
	collect := func() (sum int) {
		for steps := 1; ; steps++ {
			n, more, err := s.Blobs.Collect(t.Context(), at(2), at(2))
			if sum += n; err != nil || n > many/2 || steps > many {
				t.Fatalf("%d in one step, %d steps, %v", n, steps, err)
			}
			if !more {
				return sum
			}
		}
	}
	if n := collect(); n != many-len(staged)-len(used) {
		t.Errorf("%d collected of %d, of which an import refers to %d and a record to %d", n, many, len(staged), len(used))
	}
	if got := garbage(t, s); len(got) != many-len(staged)-len(used) {
		t.Errorf("%d files are garbage", len(got))
	}
	if err := s.Repos.Drop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	if n, _, err := s.Blobs.Collect(t.Context(), at(10), at(10)); n == 0 || err != nil {
		t.Errorf("after the import was given up: %d, %v", n, err)
	}
	if collected(t, s, alice.ID, used[0], at(10_000), at(10_000)) {
		t.Error("a blob is collected while a record refers to it")
	}
}

// testBlobGarbage: files that belong to no blob are listed until they are
// forgotten; one of an upload that is given up cannot become a blob any more.
func testBlobGarbage(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	for i, key := range []string{"k5", "k1", "k4", "k2", "k3"} {
		if err := s.Blobs.Intend(t.Context(), key, at(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Blobs.Intend(t.Context(), "k1", at(9)); err == nil {
		t.Error("one key for two files")
	}
	list := func(minute int, after string, limit int, want ...string) {
		t.Helper()
		if got, err := s.Blobs.Garbage(t.Context(), at(minute), after, limit); err != nil || !slices.Equal(got, want) {
			t.Errorf("behind %q, limit %d: %q, want %q, %v", after, limit, got, want, err)
		}
	}
	list(0, "", 10)
	list(3, "", 10, "k1", "k4", "k5")
	s.Reopen()
	list(0, "", 10, "k1", "k4", "k5")
	list(0, "", 2, "k1", "k4")
	list(0, "k4", 2, "k5")
	list(0, "", -1)
	b := blobOf("pic")
	b.CreatedAt = at(5)
	b.Key = "k4"
	if got, err := s.Blobs.Add(t.Context(), alice.ID, b, 0); !errors.Is(err, blob.ErrAbandoned) {
		t.Errorf("a file that was given up: %+v, %v", got, err)
	}
	b.Key = "k2"
	if got, err := s.Blobs.Add(t.Context(), alice.ID, b, 0); err != nil || got != b {
		t.Errorf("a file that was not: %+v, %v", got, err)
	}
	if err := s.Blobs.Forget(t.Context(), []string{"k1", "k5", "k3", "unknown"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Blobs.Forget(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	list(0, "", 10, "k4")
	list(10_000, "", 10, "k3", "k4") // an upload under way was not forgotten
}

// testBlobRace: a record that refers to a blob is written, or the blob is
// collected, never both.
func testBlobRace(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	written := 0
	for i := range 40 {
		id := upload(t, s, alice.ID, fmt.Sprintf("pic %d", i), at(1))
		if i%2 == 0 { // one that was in use
			alice.commit(t, s, put("app.post/x", "x", id))
			alice.commit(t, s, remove("app.post/x"))
		}
		change := alice.change(t, s, put(fmt.Sprintf("app.post/%d", i), "x", id))
		var n int
		var writeErr, collectErr error
		var both sync.WaitGroup
		both.Go(func() { writeErr = s.Repos.Commit(t.Context(), change) })
		if i%4 < 2 {
			runtime.Gosched() // or the later one goes first, always
		}
		both.Go(func() { n, _, collectErr = s.Blobs.Collect(t.Context(), at(10_000), at(10_000)) })
		both.Wait()
		if collectErr != nil {
			t.Fatal(collectErr)
		}
		_, err := s.Blobs.Get(t.Context(), alice.ID, id)
		switch {
		case writeErr == nil && n == 0 && err == nil:
			written++
			alice.made(t, s, change)
		case errors.Is(writeErr, repo.ErrNoBlob) && n == 1 && errors.Is(err, blob.ErrNotFound):
		default:
			t.Fatalf("write: %v; %d collected; blob: %v", writeErr, n, err)
		}
	}
	alice.check(t, s)
	t.Logf("%d of 40 written", written)
}
