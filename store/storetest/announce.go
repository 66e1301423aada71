package storetest

import (
	"slices"
	"testing"

	"nestbox/account"
	stream "nestbox/firehose/event"
	"nestbox/repo/car"
)

var announceTests = tests{
	"AnnounceAccount": testAnnounceAccount,
	"AnnounceStatus":  testAnnounceStatus,
}

// announced are the kinds of the events after a number; all must be of one account.
func announced(t *testing.T, s *Database, after int64, of *account.Account) (all []stream.Kind, bodies []string) {
	t.Helper()
	for i, e := range logged(t, s, after) {
		if e.DID != of.DID || e.Seq != after+int64(i)+1 {
			t.Errorf("event %d of %s, want %d of %s", e.Seq, e.DID, after+int64(i)+1, of.DID)
		}
		all, bodies = append(all, e.Kind), append(bodies, string(e.Body))
	}
	return all, bodies
}

// testAnnounceAccount checks which events announce a new account, with its
// repository or without one.
func testAnnounceAccount(t *testing.T, s *Database) {
	t.Helper()
	p := pending("alice")
	id, err := s.Hosting.Reserve(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if n := last(t, s); n != 0 {
		t.Errorf("a reservation was announced: %d events", n)
	}
	o := &owner{Account: &account.Account{ID: id, DID: p.DID}}
	first := o.first()
	a, err := s.Hosting.Activate(t.Context(), id, []byte(`{}`), &first, entry(account.EntrySignUp))
	if err != nil {
		t.Fatal(err)
	}
	got, bodies := announced(t, s, 0, a)
	// The commit of this suite is a #sync event itself.
	if want := []stream.Kind{stream.KindIdentity, stream.KindAccount, first.Event.Kind, stream.KindSync}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	when := entry(account.EntrySignUp).At
	for i, want := range []stream.Event{
		stream.Identity{DID: a.DID, Handle: a.Handle, Time: when}.Event(),
		stream.Account{DID: a.DID, Time: when}.Event(),
		first.Event,
		first.Event,
	} {
		if bodies[i] != string(want.Body) {
			t.Errorf("event %d is %q, want %q", i+1, bodies[i], want.Body)
		}
	}
	o.Account = a
	o.made(t, s, first)
	o.check(t, s)

	before := last(t, s)
	bob := newAccount(t, s, "bob")
	if got, _ := announced(t, s, before, bob); !slices.Equal(got, []stream.Kind{stream.KindIdentity, stream.KindAccount}) {
		t.Errorf("without a repository: %v", got)
	}
}

// testAnnounceStatus: each change of status that the network can see makes one
// event, and no other change does. When an account comes back, whatever the
// reason for its absence, its repository is announced, since changes made
// meanwhile were not.
func testAnnounceStatus(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	comesBack := []stream.Kind{stream.KindAccount, stream.KindIdentity, stream.KindSync}
	for _, step := range []struct {
		name   string
		change account.StatusChange
		kinds  []stream.Kind
		status string
	}{
		{"deactivated", account.StatusChange{Deactivated: new(true)}, comesBack[:1], "deactivated"},
		{"again", account.StatusChange{Deactivated: new(true)}, nil, ""},
		{"taken down as well", account.StatusChange{Takedown: &account.Applied{Applied: true}}, comesBack[:1], "takendown"},
		{"no longer taken down", account.StatusChange{Takedown: &account.Applied{}, Deactivated: new(false)}, comesBack, ""},
		{"suspended", account.StatusChange{Suspended: new(true)}, comesBack[:1], "suspended"},
		{"taken down instead", account.StatusChange{Suspended: new(false), Takedown: &account.Applied{Applied: true}}, comesBack[:1], "takendown"},
		{"suspended instead", account.StatusChange{Suspended: new(true), Takedown: &account.Applied{}}, comesBack[:1], "suspended"},
		{"no longer suspended", account.StatusChange{Suspended: new(false)}, comesBack, ""},
		{"deactivated once more", account.StatusChange{Deactivated: new(true)}, comesBack[:1], "deactivated"},
		{"activated", account.StatusChange{Deactivated: new(false)}, comesBack, ""},
		{"again", account.StatusChange{Deactivated: new(false)}, nil, ""},
	} {
		before := last(t, s)
		setStatus(t, s, alice.Account, step.change)
		got, bodies := announced(t, s, before, alice.Account)
		if !slices.Equal(got, step.kinds) {
			t.Errorf("%s: %v, want %v", step.name, got, step.kinds)
			continue
		}
		when := entry(account.EntryActivated).At
		if len(got) > 0 && bodies[0] != string(stream.Account{DID: alice.DID, Status: step.status, Time: when}.Event().Body) {
			t.Errorf("%s: %q", step.name, bodies[0])
		}
		if len(got) == 3 && bodies[2] != string(stream.Sync{DID: alice.DID, Rev: alice.head.Rev, Commit: car.Block{CID: alice.head.CID, Data: alice.head.Commit}, Time: when}.Event().Body) {
			t.Errorf("%s: where the repository is: %q", step.name, bodies[2])
		}
	}
	before := last(t, s)
	if err := s.Accounts.Delete(t.Context(), alice.ID, at(9)); err != nil {
		t.Fatal(err)
	}
	if got, bodies := announced(t, s, before, alice.Account); len(got) != 1 || bodies[0] != string(stream.Account{DID: alice.DID, Status: "deleted", Time: at(9)}.Event().Body) {
		t.Errorf("deleted: %v %q", got, bodies)
	}
}
