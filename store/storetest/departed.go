package storetest

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"nestbox/account"
	"nestbox/admin"
	stream "nestbox/firehose/event"
	"nestbox/hosting"
	"nestbox/identity"
)

var departedTests = tests{
	"InvitesOfTakenDown": testInvitesOfTakenDown,
	"InviteAgain":        testInviteAgain,
	"DueTakenDown":       testDueTakenDown,
	"Departed":           testDeparted,
	"Leave":              testLeave,
	"IdentityEvents":     testIdentityEvents,
}

// testInvitesOfTakenDown: codes of an account that is taken down admit nobody until
// the takedown is lifted.
func testInvitesOfTakenDown(t *testing.T, s *Database) {
	t.Helper()
	alice := newAccount(t, s, "alice")
	code := account.InviteCode{Code: "alices", Available: 5, ForAccount: alice.DID.String(), CreatedBy: "admin", CreatedAt: start}
	if err := s.Accounts.AddInviteCodes(t.Context(), []account.InviteCode{code}); err != nil {
		t.Fatal(err)
	}
	for i, down := range []bool{true, false} {
		setTakedown(t, s, alice, down)
		_, err := s.Hosting.Reserve(t.Context(), invited([]string{"bob", "carol"}[i], "alices"))
		if errors.Is(err, account.ErrInviteUsed) != down || err != nil && !down {
			t.Errorf("taken down %t: %v", down, err)
		}
	}
}

// testInviteAgain: a DID that was here, and comes again with the same code, counts as
// one use of it.
func testInviteAgain(t *testing.T, s *Database) {
	t.Helper()
	addInvite(t, s, "two", 2)
	for range 3 {
		id, err := s.Hosting.Reserve(t.Context(), invited("alice", "two"))
		if err == nil {
			_, err = s.Hosting.Activate(t.Context(), id, []byte("{}"), nil, entry(account.EntrySignUp))
		}
		if err == nil {
			err = s.Accounts.Delete(t.Context(), id, at(2))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := invite(t, s, "two"); len(got.Uses) != 1 {
		t.Errorf("uses: %+v", got.Uses)
	}
	if _, err := s.Hosting.Reserve(t.Context(), invited("bob", "two")); err != nil {
		t.Errorf("the other use: %v", err)
	}
	if _, err := s.Hosting.Reserve(t.Context(), invited("carol", "two")); !errors.Is(err, account.ErrInviteUsed) {
		t.Errorf("one use too many: %v", err)
	}
}

// testDueTakenDown: an account that is taken down is not deleted as its owner
// wished until the takedown is lifted.
func testDueTakenDown(t *testing.T, s *Database) {
	t.Helper()
	alice := newAccount(t, s, "alice")
	setTakedown(t, s, alice, true)
	c := account.StatusChange{Deactivated: new(true), DeleteAfter: new(at(1))}
	if _, err := s.Accounts.SetStatus(t.Context(), alice.ID, c, entry(account.EntryDeactivated)); err != nil {
		t.Fatal(err)
	}
	for _, down := range []bool{true, false} {
		setTakedown(t, s, alice, down)
		gone, err := s.Hosting.DeleteDue(t.Context(), at(60), noMails)
		if err != nil || (gone == nil) != down {
			t.Errorf("taken down %t: deleted %+v, %v", down, gone, err)
		}
	}
}

// testLeave: an owner deletes an account by the credentials and the code that hold in the
// transaction.
func testLeave(t *testing.T, s *Database) {
	t.Helper()
	alice := newAccount(t, s, "alice")
	cred, err := s.Accounts.Credentials(t.Context(), alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	code := account.Code{Purpose: account.PurposeDeleteAccount, Hash: []byte("code"), MadeAt: at(1), Expires: at(16)}
	if err := s.Codes.SetCode(t.Context(), alice.ID, code, note("alice@example.com", "code")); err != nil {
		t.Fatal(err)
	}
	proof := account.Proof{AccountID: alice.ID, Purpose: code.Purpose, Hash: code.Hash}
	other := proof
	other.Hash = []byte("an older code")
	for _, c := range []struct {
		l    account.Leaving
		want error
	}{
		{account.Leaving{Epoch: cred.Epoch - 1, Code: proof}, account.ErrPasswordChanged},
		{account.Leaving{Epoch: cred.Epoch, Code: other}, account.ErrCodeInvalid},
		{account.Leaving{Epoch: cred.Epoch, Code: proof}, nil},
		{account.Leaving{Epoch: cred.Epoch, Code: proof}, account.ErrNotFound},
	} {
		if err := s.Accounts.Leave(t.Context(), alice.ID, c.l, at(2), note("alice@example.com", "farewell")); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%+v: %v, want %v", c.l, err, c.want)
		}
	}
	if left, err := s.Outbox.Due(t.Context(), at(3), 10); err != nil || len(left) != 1 || left[0].Subject != "farewell" {
		t.Errorf("the mails that outlive the account: %+v, %v", left, err)
	} else if err := s.Outbox.Done(t.Context(), left[0].ID); err != nil {
		t.Error(err)
	}
	if _, err := s.Codes.TryCode(t.Context(), alice.ID, code.Purpose); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("a code of nobody: %v", err)
	}
}

// testDeparted: of a deleted account the audit log keeps the actions, but no name; no
// mail waits for an address that it had, and no key is reserved for it.
func testDeparted(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	for _, a := range []*account.Account{alice, bob} {
		if err := s.Handles.BeginHandle(t.Context(), hosting.HandleChange{AccountID: a.ID, Handle: a.Handle, By: account.ActorAdmin, BegunAt: at(1)}); err != nil {
			t.Fatal(err)
		}
		e := entry(account.EntryHandleChanged)
		e.Reason = a.Handle.String()
		if err := s.Handles.FinishHandle(t.Context(), a.ID, a.Handle, []byte("{}"), e); err != nil {
			t.Fatal(err)
		}
		k := hosting.ReservedKey{Public: "did:key:" + a.Handle.String(), DID: a.DID, Sealed: []byte("x"), ReservedAt: at(1)}
		if _, err := s.Hosting.ReserveKey(t.Context(), k, start, 10); err != nil {
			t.Fatal(err)
		}
	}
	e := entry(account.EntryEmailChanged)
	err := s.Accounts.SetEmail(t.Context(), alice.ID, account.EmailChange{Email: "new@example.com"}, e, note("alice@example.com", "to the old"), note("new@example.com", "to the new"))
	if err == nil {
		err = s.Admin.SendMail(t.Context(), note("elsewhere@example.com", "by the admin"), did(1, "mail", alice.DID))
	}
	if err == nil {
		err = s.Accounts.SetEmail(t.Context(), bob.ID, account.EmailChange{Email: "bob2@example.com"}, e, note("bob@example.com", "of bob"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Accounts.Delete(t.Context(), alice.ID, at(2)); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	if got := waiting(t, s, 9); !slices.Equal(got, []string{"of bob"}) {
		t.Errorf("waiting: %q", got)
	}
	for a, gone := range map[*account.Account]bool{alice: true, bob: false} {
		list := audit(t, s, admin.AuditFilter{DID: a.DID})
		named := slices.ContainsFunc(list, func(l admin.Action) bool { return strings.Contains(l.Details, a.Handle.String()) })
		if whats := whats(list); !slices.Contains(whats, "handle-changed") || named == gone {
			t.Errorf("%s, gone %t: %+v", a.Handle, gone, list)
		}
		if _, err := s.Hosting.ReservedKey(t.Context(), a.DID); errors.Is(err, account.ErrNotFound) != gone || err != nil && !gone {
			t.Errorf("%s, gone %t: the reserved key: %v", a.Handle, gone, err)
		}
	}
}

// testIdentityEvents: the event stream announces a handle as the check found it, and
// nothing that only a check of a hidden account's document has shown.
func testIdentityEvents(t *testing.T, s *Database) {
	t.Helper()
	alice := newAccount(t, s, "alice")
	told := func() (handles []string) {
		t.Helper()
		for _, e := range logged(t, s, 0) {
			for _, handle := range []string{"handle.invalid", "alice.test"} {
				if e.Kind == stream.KindIdentity && bytes.Contains(e.Body, []byte(handle)) {
					handles = append(handles, handle)
				}
			}
		}
		return handles
	}
	save := func(document string, invalid bool) {
		t.Helper()
		if err := s.Identity.SaveDocument(t.Context(), alice.ID, []byte(document), invalid, at(1)); err != nil {
			t.Fatal(err)
		}
	}
	want := told()
	for _, step := range []struct {
		what string
		do   func()
		told []string
	}{
		{"a document without the handle", func() { save(`{"a":1}`, true) }, []string{"handle.invalid"}},
		{"with it", func() { save(`{"a":2}`, false) }, []string{"alice.test"}},
		{"taken down", func() { setTakedown(t, s, alice, true) }, nil},
		{"another document of who is hidden", func() { save(`{"a":3}`, true) }, nil},
		{"announced all the same", func() {
			seen := identity.Subject{AccountID: alice.ID, DID: alice.DID, Handle: alice.Handle, SigningKey: alice.SigningKey, Document: []byte(`{"a":3}`)}
			if err := s.Identity.Announce(t.Context(), seen, []byte(`{"a":4}`), false, at(1)); err != nil {
				t.Fatal(err)
			}
		}, []string{"alice.test"}},
	} {
		step.do()
		want = append(want, step.told...)
		if got := told(); !slices.Equal(got, want) {
			t.Errorf("%s: told %q, want %q", step.what, got, want)
		}
	}
}

func setTakedown(t *testing.T, s *Database, a *account.Account, applied bool) {
	t.Helper()
	c := account.StatusChange{Takedown: &account.Applied{Applied: applied}}
	if _, err := s.Accounts.SetStatus(t.Context(), a.ID, c, entry(account.EntryTakedown)); err != nil {
		t.Fatal(err)
	}
}
