package storetest

import (
	"errors"
	"testing"

	"nestbox/account"
	"nestbox/admin"
	stream "nestbox/firehose/event"
)

var measuresTests = tests{
	"Measures":        testMeasures,
	"MeasuresAudited": testMeasuresAudited,
	"DueSuspended":    testDueSuspended,
	"RepeatStatus":    testRepeatStatus,
}

// testMeasures: moderators' decisions outlive the account, whether its owner or an admin
// deletes it, and are in force again when the DID moves in, with any handle and address.
func testMeasures(t *testing.T, s *Database) {
	t.Helper()
	for _, c := range []measured{
		{"none", account.StatusChange{}, false, false},
		{"invites", account.StatusChange{InvitesDisabled: new(true)}, false, false},
		{"suspended", account.StatusChange{Suspended: new(true)}, true, false},
		{"down", account.StatusChange{Takedown: &account.Applied{Applied: true, Ref: "case 7"}}, true, true},
		{"all", account.StatusChange{Takedown: &account.Applied{Applied: true, Ref: "case 8"}, Suspended: new(true), InvitesDisabled: new(true)}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) { testMeasured(t, s, c) })
	}
}

// measured is an account with measures.
type measured struct {
	name   string
	change account.StatusChange
	held   bool // the owner cannot delete it
	down   bool // it cannot move in
}

func testMeasured(t *testing.T, s *Database, c measured) {
	t.Helper()
	lift := account.StatusChange{Takedown: &account.Applied{}, Suspended: new(false), InvitesDisabled: new(false)}
	a := newAccount(t, s, c.name)
	was, err := s.Accounts.SetStatus(t.Context(), a.ID, c.change, entry(account.EntryTakedown))
	if err != nil {
		t.Fatal(err)
	}
	wantMeasures(t, s, a, was.Measures)
	if c.held {
		if err := Leave(t.Context(), s.Stores, a.ID, at(2)); !errors.Is(err, account.ErrHeld) {
			t.Errorf("its owner deletes it: %v", err)
		}
		err = s.Accounts.Delete(t.Context(), a.ID, at(2))
	} else {
		err = Leave(t.Context(), s.Stores, a.ID, at(2))
	}
	if err != nil {
		t.Fatalf("deleted: %v", err)
	}
	s.Reopen()
	again := pending(c.name + "-again")
	again.DID = a.DID
	if !was.Any() {
		if _, err := s.Accounts.MeasuresOf(t.Context(), a.DID); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("known still: %v", err)
		}
		if _, err := s.Accounts.SetMeasures(t.Context(), a.DID, c.change, entry(account.EntryTakedown)); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("a measure against nobody: %v", err)
		}
	} else {
		wantMeasures(t, s, a, was.Measures)
	}
	first := (&owner{Account: &account.Account{DID: a.DID}}).first()
	back, err := s.Hosting.MoveIn(t.Context(), again, []byte("{}"), first, entry(account.EntryMovedIn))
	if c.down {
		if !errors.Is(err, account.ErrTakenDown) {
			t.Errorf("moved in: %v", err)
		}
		if m, err := s.Accounts.SetMeasures(t.Context(), a.DID, account.StatusChange{Takedown: &account.Applied{}}, entry(account.EntryTakedownLifted)); err != nil || !m.TakenDownAt.IsZero() || m.TakedownRef != "" {
			t.Errorf("lifted: %+v, %v", m, err)
		}
		back, err = s.Hosting.MoveIn(t.Context(), again, []byte("{}"), first, entry(account.EntryMovedIn))
		was.Measures = was.Measures.With(account.StatusChange{Takedown: &account.Applied{}}, start)
	}
	if err != nil || back.Measures != was.Measures {
		t.Errorf("moved in: %+v, %v; want %+v", back, err, was.Measures)
		return
	}
	if was.Any() {
		wantMeasures(t, s, back, was.Measures)
	}
	if _, err := s.Accounts.SetMeasures(t.Context(), a.DID, lift, entry(account.EntryTakedownLifted)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("SetMeasures of an account that is here: %v", err)
	}
	if err := s.Accounts.Delete(t.Context(), back.ID, at(3)); err != nil {
		t.Fatal(err)
	}
	if was.Any() {
		wantMeasures(t, s, a, was.Measures)
		if m, err := s.Accounts.SetMeasures(t.Context(), a.DID, lift, entry(account.EntryTakedownLifted)); err != nil || m.Any() {
			t.Errorf("all lifted: %+v, %v", m, err)
		}
	}
	if _, err := s.Accounts.MeasuresOf(t.Context(), a.DID); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("known when all was lifted: %v", err)
	}
}

func wantMeasures(t *testing.T, s *Database, a *account.Account, want account.Measures) {
	t.Helper()
	if got, err := s.Accounts.MeasuresOf(t.Context(), a.DID); err != nil || got != want {
		t.Errorf("measures against %s: %+v, %v; want %+v", a.DID, got, err, want)
	}
}

// testMeasuresAudited: a measure against a DID that is gone is in the audit log.
func testMeasuresAudited(t *testing.T, s *Database) {
	t.Helper()
	alice := newAccount(t, s, "alice")
	setTakedown(t, s, alice, true)
	if err := s.Accounts.Delete(t.Context(), alice.ID, at(2)); err != nil {
		t.Fatal(err)
	}
	e := account.Entry{At: at(3), Kind: account.EntrySuspended, By: account.ActorAdmin, Who: "did:plc:mod", Ref: "case 9"}
	if _, err := s.Accounts.SetMeasures(t.Context(), alice.DID, account.StatusChange{Suspended: new(true)}, e); err != nil {
		t.Fatal(err)
	}
	list := audit(t, s, admin.AuditFilter{DID: alice.DID, Since: at(3)})
	if len(list) != 1 || list[0].What != "suspended" || list[0].Who != "did:plc:mod" {
		t.Errorf("log: %+v", list)
	}
	// Its invite codes admit nobody, as before it was deleted.
	code := account.InviteCode{Code: "alices", Available: 5, ForAccount: alice.DID.String(), CreatedBy: "admin", CreatedAt: start}
	if err := s.Accounts.AddInviteCodes(t.Context(), []account.InviteCode{code}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hosting.Reserve(t.Context(), invited("bob", "alices")); !errors.Is(err, account.ErrInviteUsed) {
		t.Errorf("a code of a DID that is taken down: %v", err)
	}
}

// testDueSuspended: a suspended account is not deleted as its owner wished until the
// suspension is lifted.
func testDueSuspended(t *testing.T, s *Database) {
	t.Helper()
	alice := newAccount(t, s, "alice")
	due := account.StatusChange{Suspended: new(true), Deactivated: new(true), DeleteAfter: new(at(1))}
	for _, c := range []account.StatusChange{due, {Suspended: new(false)}} {
		if _, err := s.Accounts.SetStatus(t.Context(), alice.ID, c, entry(account.EntrySuspended)); err != nil {
			t.Fatal(err)
		}
		gone, err := s.Hosting.DeleteDue(t.Context(), at(60), noMails)
		if err != nil || (gone == nil) != *c.Suspended {
			t.Errorf("suspended %t: deleted %+v, %v", *c.Suspended, gone, err)
		}
	}
}

// testRepeatStatus: the event log repeats an account's status, and nothing else.
func testRepeatStatus(t *testing.T, s *Database) {
	t.Helper()
	alice := newOwner(t, s, "alice")
	for _, c := range []account.StatusChange{{}, {Suspended: new(true)}, {Takedown: &account.Applied{Applied: true}}} {
		setStatus(t, s, alice.Account, c)
		before := last(t, s)
		if err := s.Accounts.RepeatStatus(t.Context(), alice.ID, at(7)); err != nil {
			t.Fatal(err)
		}
		a, err := s.Accounts.ByDID(t.Context(), alice.DID)
		if err != nil {
			t.Fatal(err)
		}
		if got, bodies := announced(t, s, before, alice.Account); len(got) != 1 || bodies[0] != string(stream.Account{DID: a.DID, Status: string(a.Status()), Time: at(7)}.Event().Body) {
			t.Errorf("%s: %v %q", a.Status(), got, bodies)
		}
	}
	if err := s.Accounts.RepeatStatus(t.Context(), alice.ID+1, at(7)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
}
