package storetest

import (
	"errors"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/admin"
)

// testEntrance: roles are kept as admin.EntranceStore says.
func testEntrance(t *testing.T, s *Database) {
	ctx := t.Context()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	give := func(minute int, id int64, role admin.Role) error {
		return s.Entries.SetRole(ctx, id, role, did(minute, admin.ActionRoleGiven, alice.DID))
	}
	if err := give(1, 1<<40, admin.RoleAdmin); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("role of nobody: %v", err)
	}
	for _, err := range []error{give(1, bob.ID, admin.RoleAdmin), give(2, alice.ID, admin.RoleAdmin), give(3, alice.ID, admin.RoleModerator)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	holders, err := s.Entries.Roles(ctx)
	want := []admin.Holder{
		{DID: alice.DID, Handle: alice.Handle, Role: admin.RoleModerator, At: at(3)},
		{DID: bob.DID, Handle: bob.Handle, Role: admin.RoleAdmin, At: at(1)},
	}
	if err != nil || len(holders) != 2 || holders[0] != want[0] || holders[1] != want[1] {
		t.Errorf("%+v, %v, want %+v", holders, err, want)
	}
}

// testPresence: the sessions of the admin page are kept as admin.EntranceStore says.
func testPresence(t *testing.T, s *Database) {
	ctx := t.Context()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	for _, a := range []*account.Account{alice.Account, bob.Account} {
		if err := s.Entries.SetRole(ctx, a.ID, admin.RoleModerator, did(1, admin.ActionRoleGiven, a.DID)); err != nil {
			t.Fatal(err)
		}
	}
	enter := func(n byte, id int64, minute int) admin.Presence {
		t.Helper()
		p := admin.Presence{Hash: [admin.HashSize]byte{n}, AccountID: id, Password: []byte{n}, MadeAt: at(minute), SeenAt: at(minute), Network: "192.0.2.1"}
		if err := s.Entries.Enter(ctx, p, did(minute, admin.ActionEntered, "")); err != nil {
			t.Fatal(err)
		}
		return p
	}
	find := func(p admin.Presence) (admin.Presence, error) { return s.Entries.Present(ctx, p.Hash) }
	ours, hers := enter(1, 0, 10), enter(2, alice.ID, 11)
	got, err := find(ours)
	if err != nil || got.AccountID != 0 || got.Account != nil || got.Role != "" || string(got.Password) != "\x01" || !got.MadeAt.Equal(at(10)) {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = find(hers)
	if err != nil || got.Account == nil || got.Account.DID != alice.DID || got.Role != admin.RoleModerator || got.Epoch != got.Now {
		t.Errorf("%+v, %v", got, err)
	}
	if err := s.Entries.Seen(ctx, hers.Hash, at(30), "192.0.2.9"); err != nil {
		t.Fatal(err)
	}
	if got, err = find(hers); err != nil || !got.SeenAt.Equal(at(30)) || got.Network != "192.0.2.9" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := s.Accounts.SetPassword(ctx, alice.ID, "another", 0, entry(account.EntryPasswordChanged)); err != nil {
		t.Fatal(err)
	}
	if _, err = find(hers); !errors.Is(err, admin.ErrSignedOut) {
		t.Errorf("after another password: %v", err)
	}

	hers = enter(3, bob.ID, 40)
	enter(4, 0, 40+int(admin.PresenceIdle/time.Minute)-1)
	if _, err := find(hers); err != nil {
		t.Errorf("not unused for long enough: %v", err)
	}
	enter(5, 0, 40+int(admin.PresenceIdle/time.Minute))
	if _, err := find(hers); !errors.Is(err, admin.ErrSignedOut) {
		t.Errorf("unused for too long: %v", err)
	}

	hers = enter(6, bob.ID, 80)
	if err := s.Entries.SetRole(ctx, bob.ID, "", did(80, admin.ActionRoleTaken, bob.DID)); err != nil {
		t.Fatal(err)
	}
	if _, err := find(hers); !errors.Is(err, admin.ErrSignedOut) {
		t.Errorf("without the role: %v", err)
	}
	last := enter(7, 0, 81)
	before := len(audit(t, s, admin.AuditFilter{}))
	for range 2 { // the second finds nothing
		if err := s.Entries.Exit(ctx, last.Hash, did(82, admin.ActionLeft, "")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := find(last); !errors.Is(err, admin.ErrSignedOut) {
		t.Errorf("after the exit: %v", err)
	}
	if n := len(audit(t, s, admin.AuditFilter{})) - before; n != 1 {
		t.Errorf("two exits are %d actions", n)
	}
}

// testPresenceEnds: an account that is not active any more loses its sessions on the admin
// page, and does not get them back.
func testPresenceEnds(t *testing.T, s *Database) {
	ctx := t.Context()
	carol := newOwner(t, s, "carol")
	if err := s.Entries.SetRole(ctx, carol.ID, admin.RoleModerator, did(80, admin.ActionRoleGiven, carol.DID)); err != nil {
		t.Fatal(err)
	}
	for n, c := range []account.StatusChange{{Suspended: new(true)}, {Takedown: &account.Applied{Applied: true}}, {Deactivated: new(true)}} {
		hers := admin.Presence{Hash: [admin.HashSize]byte{byte(10 + n)}, AccountID: carol.ID, MadeAt: at(80), SeenAt: at(80), Network: "192.0.2.1"}
		if err := s.Entries.Enter(ctx, hers, did(80, admin.ActionEntered, "")); err != nil {
			t.Fatal(err)
		}
		for _, c := range []account.StatusChange{c, {Suspended: new(false), Takedown: &account.Applied{}, Deactivated: new(false)}} {
			if _, err := s.Accounts.SetStatus(ctx, carol.ID, c, entry(account.EntryActivated)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Entries.Present(ctx, hers.Hash); !errors.Is(err, admin.ErrSignedOut) {
				t.Errorf("%d, %+v: %v", n, c, err)
			}
		}
	}
}
