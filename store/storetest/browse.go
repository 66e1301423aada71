package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/mail"
)

// testBrowse: accounts are found by parts of their names, by state and by page.
func testBrowse(t *testing.T, s *Database) {
	ctx := t.Context()
	alice, bob, carol := newOwner(t, s, "alice"), newOwner(t, s, "bob"), newOwner(t, s, "carol")
	yes := true
	for id, c := range map[int64]account.StatusChange{
		bob.ID:   {Suspended: &yes},
		carol.ID: {Takedown: &account.Applied{Applied: true, Ref: "case 1"}},
	} {
		if _, err := s.Accounts.SetStatus(ctx, id, c, entry(account.EntrySuspended)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		q    admin.BrowseQuery
		want []string
	}{
		"all":             {admin.BrowseQuery{}, []string{"carol.test", "bob.test", "alice.test"}},
		"handle":          {admin.BrowseQuery{Text: "LIC"}, []string{"alice.test"}},
		"address":         {admin.BrowseQuery{Text: "bob@Ex"}, []string{"bob.test"}},
		"nobody":          {admin.BrowseQuery{Text: "%"}, nil},
		"nobody's words":  {admin.BrowseQuery{Text: `ali" OR "bob`}, nil},
		"an end of text":  {admin.BrowseQuery{Text: "ali\x00"}, nil},
		"not text":        {admin.BrowseQuery{Text: "\xff\xfe\xfd"}, nil},
		"three of all":    {admin.BrowseQuery{Text: "tes", Limit: 2}, []string{"carol.test", "bob.test"}},
		"and before":      {admin.BrowseQuery{Text: "tes", Before: carol.ID}, []string{"bob.test", "alice.test"}},
		"a state, three":  {admin.BrowseQuery{Text: "tes", State: admin.StateSuspended}, []string{"bob.test"}},
		"active":          {admin.BrowseQuery{State: admin.StateActive}, []string{"alice.test"}},
		"suspended":       {admin.BrowseQuery{State: admin.StateSuspended}, []string{"bob.test"}},
		"taken down":      {admin.BrowseQuery{State: admin.StateTakenDown}, []string{"carol.test"}},
		"deactivated":     {admin.BrowseQuery{State: admin.StateDeactivated}, nil},
		"new":             {admin.BrowseQuery{State: admin.StateNew, NewSince: start}, []string{"carol.test", "bob.test", "alice.test"}},
		"new later":       {admin.BrowseQuery{State: admin.StateNew, NewSince: at(1000)}, nil},
		"unconfirmed":     {admin.BrowseQuery{State: admin.StateUnconfirmed, Text: "b"}, []string{"bob.test"}},
		"a state, a text": {admin.BrowseQuery{State: admin.StateActive, Text: "bob"}, nil},
		"unknown state":   {admin.BrowseQuery{State: "odd"}, nil},
		"network":         {admin.BrowseQuery{Network: "203.0.113.200"}, nil},
		"second page":     {admin.BrowseQuery{Before: carol.ID, Limit: 1}, []string{"bob.test"}},
	} {
		if c.q.Limit == 0 {
			c.q.Limit = 50
		}
		found, err := s.Views.Browse(ctx, c.q)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range found {
			got = append(got, a.Handle.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	testBrowseAgain(t, s, alice, carol)
	if got, err := s.Views.Stored(ctx, alice.ID); err != nil || got != (admin.Stored{Records: got.Records}) {
		t.Errorf("%+v, %v", got, err)
	}
	if w, err := s.Views.Waiting(ctx); err != nil || w != (admin.Waiting{}) {
		t.Errorf("%+v, %v", w, err)
	}
	if err := s.Admin.SendMail(ctx, mail.Message{To: "alice@example.com", Subject: "s", Text: "t"}, did(5, admin.ActionMail, alice.DID)); err != nil {
		t.Fatal(err)
	}
	if w, err := s.Views.Waiting(ctx); err != nil || w.Messages != 1 || w.Failed != 0 || !w.OldestAt.Equal(at(5)) {
		t.Errorf("%+v, %v", w, err)
	}
}

// testNewest: the latest entries of all trails are listed by kind, and waiting mails are made
// due.
func testNewest(t *testing.T, s *Database) {
	ctx := t.Context()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	for i, c := range []struct {
		id   int64
		kind account.EntryKind
	}{{alice.ID, account.EntrySignIn}, {bob.ID, account.EntrySuspectedReuse}, {bob.ID, account.EntrySignIn}} {
		e := account.Entry{At: at(10 + i), Kind: c.kind, By: account.ActorOwner, Network: "192.0.2.1", UserAgent: "test", OtherNetwork: "192.0.2.2", Reason: "r"}
		if err := s.Accounts.AddEntry(ctx, c.id, e); err != nil {
			t.Fatal(err)
		}
	}
	for want, kinds := range map[string][]account.EntryKind{
		"bob.test sign-in alice.test sign-in": {account.EntrySignIn},
		"bob.test suspected-reuse":            {account.EntrySuspectedReuse, account.EntrySuspectedTheft},
		"":                                    nil,
	} {
		found, err := s.Views.Newest(ctx, kinds, 50)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range found {
			got = append(got, h.Handle.String()+" "+string(h.Kind))
			if h.OtherNetwork != "192.0.2.2" || h.Reason != "r" || h.By != account.ActorOwner {
				t.Errorf("%+v", h)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %q, want %q", kinds, got, want)
		}
	}
	if found, err := s.Views.Newest(ctx, []account.EntryKind{account.EntrySignIn}, 1); err != nil || len(found) != 1 || found[0].DID != bob.DID {
		t.Errorf("the newest: %+v, %v", found, err)
	}

	if err := s.Admin.SendMail(ctx, mail.Message{To: "alice@example.com", Subject: "s", Text: "t"}, did(5, admin.ActionMail, alice.DID)); err != nil {
		t.Fatal(err)
	}
	due, err := s.Outbox.Due(ctx, at(6), 10)
	if err != nil || len(due) != 1 {
		t.Fatalf("%+v, %v", due, err)
	}
	if err := s.Outbox.Retry(ctx, due[0].ID, 3, at(60)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Views.RetryNow(ctx, did(7, admin.ActionMailRetried, "")); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	if due, err := s.Outbox.Due(ctx, at(7), 10); err != nil || len(due) != 1 || due[0].Attempts != 3 {
		t.Errorf("%+v, %v", due, err)
	}
	if w, err := s.Views.Waiting(ctx); err != nil || w.Failed != 1 {
		t.Errorf("%+v, %v", w, err)
	}
}

// testClientUse: sessions are counted by OAuth client, and the others by program.
func testClientUse(t *testing.T, s *Database) {
	ctx := t.Context()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	const one, two = "https://one.example/c.json", "https://two.example/c.json"
	first := authorize(t, s, alice.Account, one)
	second := authorize(t, s, bob.Account, one)
	authorize(t, s, bob.Account, two)
	clients, err := s.Views.Clients(ctx, 50)
	if err != nil || len(clients) != 2 || clients[0].ID != one || clients[0].Sessions != 2 || clients[0].Accounts != 2 || clients[1].Sessions != 1 || clients[0].UsedAt.IsZero() {
		t.Errorf("%+v, %v", clients, err)
	}
	if clients, err = s.Views.Clients(ctx, 1); err != nil || len(clients) != 1 {
		t.Errorf("%+v, %v", clients, err)
	}
	held, err := s.Views.ClientSessions(ctx, one, 0, 50)
	want := []admin.HeldSession{{ID: first.ID, DID: alice.DID}, {ID: second.ID, DID: bob.DID}}
	if err != nil || !slices.Equal(held, want) {
		t.Errorf("%+v, %v", held, err)
	}
	if held, err = s.Views.ClientSessions(ctx, one, first.ID, 50); err != nil || !slices.Equal(held, want[1:]) {
		t.Errorf("%+v, %v", held, err)
	}
	if programs, err := s.Views.Programs(ctx, 50); err != nil || len(programs) != 0 {
		t.Errorf("%+v, %v", programs, err)
	}
	session := signIn(t, s, alice.Account)
	if programs, err := s.Views.Programs(ctx, 50); err != nil || len(programs) != 1 || programs[0] != (admin.Program{UserAgent: session.UserAgent, Sessions: 1}) {
		t.Errorf("%+v, %v", programs, err)
	}
}

// testTotals: every account counts once, by the status that others see; every blob counts.
func testTotals(t *testing.T, s *Database) {
	ctx := t.Context()
	if got, err := s.Views.Totals(ctx); err != nil || len(got.Accounts) != 0 || got.Blobs != 0 || got.BlobBytes != 0 || got.Garbage != 0 {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
	yes := true
	for i, c := range []struct {
		name   string
		change account.StatusChange
	}{
		{"alice", account.StatusChange{}},
		{"bob", account.StatusChange{}},
		{"carol", account.StatusChange{Deactivated: &yes}},
		{"dave", account.StatusChange{Takedown: &account.Applied{Applied: true}, Suspended: &yes}},
	} {
		o := newOwner(t, s, c.name)
		if c.change != (account.StatusChange{}) {
			if _, err := s.Accounts.SetStatus(ctx, o.ID, c.change, account.Entry{At: at(1)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := add(t, s, o.ID, fmt.Sprintf("k%d", i), c.name, i, 1000); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Views.Totals(ctx)
	want := map[account.Status]int64{account.Active: 2, account.Deactivated: 1, account.TakenDown: 1}
	if err != nil || !maps.Equal(got.Accounts, want) || got.Blobs != 4 || got.BlobBytes != int64(len("alicebobcaroldave")) {
		t.Errorf("%+v, %v", got, err)
	}
}

// testUsage: what all accounts have stored is added up, the biggest first; uploads in no
// record are apart.
func testUsage(t *testing.T, s *Database) {
	ctx := t.Context()
	if u, err := s.Views.Usage(ctx, 20); err != nil || u.Blobs != 0 || u.BlobBytes != 0 || len(u.Biggest) > 0 {
		t.Errorf("of nothing: %+v, %v", u, err)
	}
	alice, bob, gone := newOwner(t, s, "alice"), newOwner(t, s, "bob"), newOwner(t, s, "gone")
	for i, b := range []struct {
		of   *owner
		text string
	}{{alice, "a"}, {bob, "four"}, {bob, "seventy"}, {gone, "a file that is longer than all others together"}} {
		if _, err := add(t, s, b.of.ID, fmt.Sprintf("k%d", i), b.text, i, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if u, err := s.Views.Usage(ctx, 1); err != nil || u.Blobs != 4 || len(u.Biggest) != 1 || u.Biggest[0].DID != gone.DID || u.Unused != 4 || u.UnusedBytes != u.BlobBytes {
		t.Errorf("%+v, %v", u, err)
	}
	u, err := s.Views.Usage(ctx, 20)
	if err != nil || len(u.Biggest) != 3 {
		t.Fatalf("%+v, %v", u, err)
	}
	if b := u.Biggest[1]; b.DID != bob.DID || b.Handle != bob.Handle || b.Stored != (admin.Stored{Records: b.Records, Blobs: 2, BlobBytes: 11}) {
		t.Errorf("%+v", b)
	}
}

// testBrowseAgain: a search finds what an account is called now, and no deleted account.
func testBrowseAgain(t *testing.T, s *Database, alice, carol *owner) {
	t.Helper()
	ctx := t.Context()
	if err := s.Accounts.SetEmail(ctx, carol.ID, account.EmailChange{Email: "carola@example.org"}, entry(account.EntryEmailChanged)); err != nil {
		t.Fatal(err)
	}
	count := func(text string) int {
		found, err := s.Views.Browse(ctx, admin.BrowseQuery{Text: text, Limit: 50})
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if now, before := count("carola@example.org"), count("carol@example.com"); now != 1 || before != 0 {
		t.Errorf("%d accounts with the new address, %d with the one before", now, before)
	}
	gone := newOwner(t, s, "dorothea")
	if err := s.Accounts.Delete(ctx, gone.ID, at(2)); err != nil {
		t.Fatal(err)
	}
	if n := count("dorothea"); n != 0 || count(alice.Handle.String()) != 1 {
		t.Errorf("%d deleted accounts found", n)
	}
}

// testCollections: records count by collection over all repositories, the largest first; what an
// import is about to replace does not count.
func testCollections(t *testing.T, s *Database) {
	ctx := t.Context()
	if lines, all, err := s.Views.Collections(ctx, 10); err != nil || len(lines) != 0 || all != 0 {
		t.Errorf("of nothing: %+v, %d, %v", lines, all, err)
	}
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	alice.commit(t, s, put("app.like/1", "x"), put("app.post/1", "one"), put("app.post/2", "two"))
	bob.commit(t, s, put("app.post/1", "of bob"), put("app.posts/1", "another"))
	alice.stage(t, s, posts(30, "staged")...)
	want := []admin.CollectionLine{
		{Name: "app.post", Records: 3, Accounts: 2}, {Name: "app.like", Records: 1, Accounts: 1}, {Name: "app.posts", Records: 1, Accounts: 1},
	}
	for limit, want := range map[int][]admin.CollectionLine{10: want, 1: want[:1]} {
		if got, all, err := s.Views.Collections(ctx, limit); err != nil || !slices.Equal(got, want) || all != 3 {
			t.Errorf("%d of them: %+v, %d, %v", limit, got, all, err)
		}
	}
	if got, err := s.Views.Totals(ctx); err != nil || got.Records != 5 {
		t.Errorf("%+v, %v", got, err)
	}
}
