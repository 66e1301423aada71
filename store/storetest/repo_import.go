package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/repo"
	"nestbox/repo/mst"
)

var repoImportTests = tests{
	"RepoImport":         testRepoImport,
	"RepoImportRefused":  testRepoImportRefused,
	"RepoImportDropped":  testRepoImportDropped,
	"RepoImportInactive": testRepoImportInactive,
	"RepoImportBlobs":    testRepoImportBlobs,
	"RepoDeleted":        testRepoDeleted,
}

// staged is an import that is filled: what Switch is called with, and the owner
// after it.
type staged struct {
	change repo.Change
	was    cid.Cid
	owner  *owner
}

// stage fills a staged repository of o with records, in several steps.
func (o *owner) stage(t *testing.T, s *Database, records ...repo.Write) staged {
	t.Helper()
	number, err := s.Repos.Stage(t.Context(), o.ID)
	if err != nil {
		t.Fatal(err)
	}
	return o.fill(t, s, number, records...)
}

func (o *owner) fill(t *testing.T, s *Database, number int64, records ...repo.Write) staged {
	t.Helper()
	slices.SortFunc(records, func(a, b repo.Write) int { return strings.Compare(a.Key, b.Key) })
	minute := len(o.revs) + 1
	next := &owner{Account: o.Account, revs: o.revs}
	var nodes []mst.Changed
	builder := mst.Builder{NextID: 1, Emit: func(n mst.Changed) error { nodes = append(nodes, n); return nil }}
	for _, w := range records {
		if err := builder.Add(w.Key, w.CID); err != nil {
			t.Fatal(err)
		}
	}
	root, err := builder.Finish()
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(records, 7) {
		if err := s.Repos.Fill(t.Context(), number, tid(minute), nil, part); err != nil {
			t.Fatal(err)
		}
	}
	for part := range slices.Chunk(nodes, 3) {
		if err := s.Repos.Fill(t.Context(), number, tid(minute), part, nil); err != nil {
			t.Fatal(err)
		}
	}
	c := signed(repo.Change{
		AccountID: o.ID, At: at(minute), Nodes: nodes, Writes: records,
		Next: repo.Head{Number: number, DID: o.DID, Rev: tid(minute), Root: root, NextNode: builder.NextID, Records: int64(len(records))},
	})
	next.made(t, s, c)
	return staged{change: c, was: o.head.CID, owner: next}
}

// put switches to the staged repository.
func (i staged) put(t *testing.T, s *Database) error {
	t.Helper()
	return s.Repos.Switch(t.Context(), i.change.AccountID, i.was, i.change.Next, i.change.Event, i.change.At)
}

// posts are records of a collection.
func posts(n int, text string) (out []repo.Write) {
	for i := range n {
		out = append(out, put(fmt.Sprintf("app.post/%03d", i), fmt.Sprintf("%s %d", text, i)))
	}
	return out
}

// sweep removes what belongs to no account, and returns how many steps that
// took.
func sweep(t *testing.T, s *Database) (steps int) {
	t.Helper()
	for more := true; more; steps++ {
		var err error
		if more, err = s.Repos.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return steps
}

// testRepoImport: no reader sees a staged import until the switch, then all of
// it at once; from then on it is a repository like any other.
func testRepoImport(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	alice.commit(t, s, posts(30, "old")...)
	bob.commit(t, s, posts(5, "of bob")...)
	i := alice.stage(t, s, posts(100, "imported")...)
	if i.change.Next.Number == alice.head.Number {
		t.Error("an import has the number of the repository")
	}
	before := last(t, s)
	s.Reopen()
	alice.check(t, s)
	sweep(t, s) // leaves an import under way alone
	if err := i.put(t, s); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	i.owner.check(t, s)
	bob.check(t, s)
	logs(t, s, before, i.change)
	i.owner.commit(t, s, put("app.post/001", "changed"), remove("app.post/002"), put("app.post/new", "new"))
	i.owner.check(t, s)
	sweep(t, s)
	i.owner.check(t, s)
	// Again, and on an account that has no repository.
	again := i.owner.stage(t, s, posts(3, "again")...)
	if err := again.put(t, s); err != nil {
		t.Fatal(err)
	}
	again.owner.check(t, s)
	fresh := &owner{Account: newAccount(t, s, "fresh")}
	first := fresh.stage(t, s)
	if err := first.put(t, s); err != nil {
		t.Fatal(err)
	}
	first.owner.check(t, s)
}

// testRepoImportRefused: an import that cannot be switched to changes nothing.
func testRepoImportRefused(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	alice.commit(t, s, posts(10, "old")...)
	before := last(t, s)
	reserved, err := s.Hosting.Reserve(t.Context(), pending("carol"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []int64{reserved, 1 << 40} {
		if _, err := s.Repos.Stage(t.Context(), id); !errors.Is(err, repo.ErrNoRepo) {
			t.Errorf("stage for account %d: %v", id, err)
		}
	}
	i := alice.stage(t, s, posts(20, "new")...)
	for name, c := range map[string]struct {
		spoil func(*staged)
		want  error
	}{
		"another base":              {func(i *staged) { i.was = bob.head.CID }, repo.ErrConflict},
		"no base":                   {func(i *staged) { i.was = cid.Undef }, repo.ErrConflict},
		"another one's account":     {func(i *staged) { i.change.AccountID, i.was = bob.ID, bob.head.CID }, repo.ErrConflict},
		"the repository itself":     {func(i *staged) { i.change.Next.Number = alice.head.Number }, repo.ErrConflict},
		"nothing staged":            {func(i *staged) { i.change.Next.Number = 1 << 30 }, repo.ErrConflict},
		"no account":                {func(i *staged) { i.change.AccountID = 1 << 40 }, repo.ErrNoRepo},
		"an account being reserved": {func(i *staged) { i.change.AccountID = reserved }, repo.ErrNoRepo},
		"an earlier revision":       {func(i *staged) { i.change.Next.Rev = tid(1) }, nil},
		"a wrong count":             {func(i *staged) { i.change.Next.Records-- }, nil},
	} {
		spoilt := i
		c.spoil(&spoilt)
		if err := spoilt.put(t, s); c.want != nil && !errors.Is(err, c.want) || c.want == nil && (err == nil || isSentinel(err)) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		alice.check(t, s)
		bob.check(t, s)
	}
	number, rev := i.change.Next.Number, i.change.Next.Rev
	for name, w := range map[string]repo.Write{"a record twice": i.change.Writes[0], "a record without a block": remove("app.post/x")} {
		if err := s.Repos.Fill(t.Context(), number, rev, nil, []repo.Write{put("app.post/other", "x"), w}); err == nil || isSentinel(err) {
			t.Errorf("fill with %s: %v", name, err)
		}
	}
	for name, number := range map[string]int64{"the repository": alice.head.Number, "nothing": 1 << 30} {
		if err := s.Repos.Fill(t.Context(), number, rev, nil, []repo.Write{put("app.post/other", "x")}); !errors.Is(err, repo.ErrConflict) {
			t.Errorf("fill %s: %v", name, err)
		}
	}
	alice.check(t, s)
	logs(t, s, before)
	// The account's repository went on: the import is too late.
	alice.commit(t, s, put("app.post/late", "late"))
	if err := i.put(t, s); !errors.Is(err, repo.ErrConflict) {
		t.Errorf("an import that is overtaken: %v", err)
	}
	alice.check(t, s)
}

// testRepoImportDropped: of an account's imports the last one counts; a dropped
// one accepts nothing more, and is gone.
func testRepoImportDropped(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	older := alice.stage(t, s, posts(20, "older")...)
	newer := alice.stage(t, s, posts(10, "newer")...)
	ofBob := bob.stage(t, s, posts(10, "of bob")...)
	refused := func(when string, i staged) {
		t.Helper()
		if err := i.put(t, s); !errors.Is(err, repo.ErrConflict) {
			t.Errorf("switch to what is %s: %v", when, err)
		}
		if err := s.Repos.Fill(t.Context(), i.change.Next.Number, tid(50), nil, []repo.Write{put("app.post/more", "x")}); !errors.Is(err, repo.ErrConflict) {
			t.Errorf("fill what is %s: %v", when, err)
		}
	}
	refused("replaced", older)
	sweep(t, s)
	refused("swept", older)
	if err := newer.put(t, s); err != nil {
		t.Fatal(err)
	}
	for _, number := range []int64{newer.change.Next.Number, ofBob.change.Next.Number, ofBob.change.Next.Number, 1 << 30} {
		if err := s.Repos.Drop(t.Context(), number); err != nil {
			t.Errorf("drop %d: %v", number, err)
		}
	}
	refused("dropped", ofBob)
	newer.owner.check(t, s)
	bob.check(t, s)
	one, two := newer.owner.stage(t, s, posts(3, "one")...), bob.stage(t, s, posts(3, "two")...)
	if err := s.Repos.Drop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	refused("dropped with all", one)
	refused("dropped with all", two)
	newer.owner.check(t, s)
	sweep(t, s)
	if more, err := s.Repos.Sweep(t.Context()); more || err != nil {
		t.Errorf("nothing to sweep: %t, %v", more, err)
	}
	s.Reopen()
	newer.owner.check(t, s)
	bob.check(t, s)
}

// testRepoImportInactive: the log gets no event of an import while the account
// is not active, whatever the reason, and all of it once the account is active.
func testRepoImportInactive(t *testing.T, s *Database) {
	t.Helper()
	for name, way := range map[string]struct{ away, back account.StatusChange }{
		"deactivated": {account.StatusChange{Deactivated: new(true)}, account.StatusChange{Deactivated: new(false)}},
		"suspended":   {account.StatusChange{Suspended: new(true)}, account.StatusChange{Suspended: new(false)}},
		"takendown":   {account.StatusChange{Takedown: &account.Applied{Applied: true}}, account.StatusChange{Takedown: &account.Applied{}}},
	} {
		o := newOwner(t, s, name)
		setStatus(t, s, o.Account, way.away)
		before := last(t, s)
		i := o.stage(t, s, posts(10, "imported")...)
		if err := i.put(t, s); err != nil {
			t.Fatal(err)
		}
		i.owner.check(t, s)
		logs(t, s, before)
		setStatus(t, s, o.Account, way.back)
		kinds, bodies := announced(t, s, before, o.Account)
		c := i.change
		c.At = entry(account.EntryActivated).At
		if n := len(kinds); n != 3 || bodies[n-1] != string(signed(c).Event.Body) {
			t.Errorf("%s, and back: %v %q", name, kinds, bodies)
		}
	}
}

// testRepoImportBlobs: records that are imported may come before their blobs,
// which are used from the moment when they are there.
func testRepoImportBlobs(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	late := at(10_000)
	kept, dropped := upload(t, s, alice.ID, "kept", start), upload(t, s, alice.ID, "dropped", start)
	early, missing := upload(t, s, alice.ID, "early", start), blobOf("missing").CID
	alice.commit(t, s, put("app.post/1", "x", kept, dropped))
	i := alice.stage(t, s, put("app.post/1", "x", kept), put("app.post/2", "y", early, missing))
	if err := i.put(t, s); err != nil {
		t.Fatal(err)
	}
	upload(t, s, alice.ID, "missing", at(50))
	s.Reopen()
	i.owner.check(t, s)
	if collected(t, s, alice.ID, dropped, late, i.change.At) {
		t.Error("a blob is collected before its time: it was used until the switch")
	}
	if !collected(t, s, alice.ID, dropped, late, late) {
		t.Error("a blob of the replaced repository is kept for ever")
	}
	for _, id := range []cid.Cid{kept, early, missing} {
		if collected(t, s, alice.ID, id, late, late) {
			t.Errorf("%s is collected though an imported record refers to it", id)
		}
	}
	sweep(t, s)
	if collected(t, s, alice.ID, kept, late, late) {
		t.Error("a blob is collected since the replaced repository, which referred to it, is swept")
	}
	i.owner.commit(t, s, put("app.post/3", "z", missing), remove("app.post/2"))
}

// testRepoDeleted: an account's repository goes with it: hidden at once,
// removed in steps.
func testRepoDeleted(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	pic := upload(t, s, alice.ID, "pic", start)
	many := append(posts(3000, "many"), put("app.post/pic", "pic", pic))
	alice.commit(t, s, many...)
	bob.commit(t, s, posts(5, "of bob")...)
	i := alice.stage(t, s, posts(10, "imported")...)
	change := alice.change(t, s, put("app.post/x", "x"))
	if err := s.Accounts.Delete(t.Context(), alice.ID, at(2)); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"view":   s.Repos.View(t.Context(), alice.ID, func(repo.View) error { return nil }),
		"commit": s.Repos.Commit(t.Context(), change),
		"begin":  s.Repos.Begin(t.Context(), alice.first()),
		"switch": i.put(t, s),
	} {
		if !errors.Is(err, repo.ErrNoRepo) {
			t.Errorf("%s of a deleted account: %v", name, err)
		}
	}
	if err := s.Repos.Fill(t.Context(), i.change.Next.Number, tid(50), nil, posts(1, "x")); !errors.Is(err, repo.ErrConflict) {
		t.Errorf("fill of a deleted account: %v", err)
	}
	if steps := sweep(t, s); steps < 2 {
		t.Errorf("a repository of 3000 records is removed in %d steps", steps)
	}
	s.Reopen()
	bob.check(t, s)
	again := newOwner(t, s, "alice")
	if again.head.Number <= i.change.Next.Number {
		t.Error("a repository has the number of one that was removed")
	}
	again.commit(t, s, put("app.post/1", "again"))
	again.check(t, s)
}
