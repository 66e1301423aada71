package storetest

import (
	"slices"
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
