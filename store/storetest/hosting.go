package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
)

var hostingTests = tests{
	"Invites":        testInvites,
	"InviteDisabled": testInviteDisabled,
	"InviteRace":     testInviteRace,
	"Reserve":        testReserve,
	"ReserveRace":    testReserveRace,
	"Pending":        testPending,
	"Identity":       testIdentity,
	"InviteList":     testInviteList,
	"EarnInvites":    testEarnInvites,
}

func addInvite(t *testing.T, s *Database, code string, uses int) {
	t.Helper()
	err := s.Accounts.AddInviteCodes(t.Context(), []account.InviteCode{{Code: code, Available: uses, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start}})
	if err != nil {
		t.Fatal(err)
	}
}

func invite(t *testing.T, s *Database, code string) account.InviteCode {
	t.Helper()
	got, err := s.Accounts.InviteCodes(t.Context(), []string{"no such code", code})
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v; want the code alone", got, err)
	}
	return got[0]
}

func invited(name, code string) hosting.Pending {
	p := pending(name)
	p.InviteCode = code
	return p
}

// testInvites: a code is good for a number of sign-ups; an abandoned or refused one does
// not count.
func testInvites(t *testing.T, s *Database) {
	t.Helper()
	addInvite(t, s, "two", 2)
	first, err := s.Hosting.Reserve(t.Context(), invited("alice", "two"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hosting.Reserve(t.Context(), invited("bob", "two")); err != nil {
		t.Fatal(err)
	}
	for name, code := range map[string]string{"used up": "two", "unknown": "three"} {
		if _, err := s.Hosting.Reserve(t.Context(), invited("carol", code)); !errors.Is(err, account.ErrInviteUsed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Reopen()
	if got := invite(t, s, "two"); len(got.Uses) != 2 || got.Available != 2 || got.ForAccount != "admin" || !got.CreatedAt.Equal(start) {
		t.Errorf("%+v", got)
	}
	if err := s.Hosting.Abandon(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hosting.Reserve(t.Context(), invited("bob", "two")); !errors.Is(err, account.ErrHandleTaken) {
		t.Errorf("a handle that is taken: %v", err)
	}
	if got := invite(t, s, "two"); len(got.Uses) != 1 || got.Uses[0].UsedBy != pending("bob").DID {
		t.Errorf("%+v", got)
	}
}

func testInviteDisabled(t *testing.T, s *Database) {
	t.Helper()
	off := account.InviteCode{Code: "off", Available: 5, Disabled: true, ForAccount: "did:plc:owner", CreatedBy: "admin", CreatedAt: start}
	if err := s.Accounts.AddInviteCodes(t.Context(), []account.InviteCode{off}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hosting.Reserve(t.Context(), invited("carol", "off")); !errors.Is(err, account.ErrInviteUsed) {
		t.Errorf("disabled: %v", err)
	}
	if of, err := s.Accounts.InviteCodesFor(t.Context(), "did:plc:owner"); err != nil || len(of) != 1 || !of[0].Disabled {
		t.Errorf("%+v, %v", of, err)
	}
	own, err := s.Accounts.InviteCodesFor(t.Context(), "did:plc:nobody")
	if err != nil || len(own) != 0 {
		t.Errorf("%+v, %v", own, err)
	}
}

// testInviteRace: under a race a code is used exactly as often as allowed.
func testInviteRace(t *testing.T, s *Database) {
	t.Helper()
	addInvite(t, s, "race", 3)
	var all sync.WaitGroup
	won := make(chan string, 20)
	for i := range 20 {
		all.Go(func() {
			name := fmt.Sprintf("racer%d", i)
			switch _, err := s.Hosting.Reserve(t.Context(), invited(name, "race")); {
			case err == nil:
				won <- name
			case !errors.Is(err, account.ErrInviteUsed):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(won) != 3 || len(invite(t, s, "race").Uses) != 3 {
		t.Errorf("%d sign-ups with a code for 3", len(won))
	}
}

func testReserve(t *testing.T, s *Database) {
	t.Helper()
	p := pending("alice")
	id, err := s.Hosting.Reserve(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*hosting.Pending)
		want   error
	}{
		"handle": {func(q *hosting.Pending) { q.Handle = p.Handle }, account.ErrHandleTaken},
		"e-mail": {func(q *hosting.Pending) { q.Email = "ALICE@example.com" }, account.ErrEmailTaken},
		"DID":    {func(q *hosting.Pending) { q.DID = p.DID }, account.ErrDIDTaken},
	} {
		q := pending("bob")
		c.change(&q)
		if _, err := s.Hosting.Reserve(t.Context(), q); !errors.Is(err, c.want) {
			t.Errorf("%s of a reservation: %v, want %v", name, err, c.want)
		}
	}
	s.Reopen()
	list, err := s.Hosting.Pending(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	got := list[0]
	if got.AccountID != id || got.DID != p.DID || got.Handle != p.Handle || !got.CreatedAt.Equal(p.CreatedAt) {
		t.Errorf("%+v\nwant %+v", got, p)
	}
	if err := s.Hosting.Abandon(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := s.Hosting.Abandon(t.Context(), id); err != nil {
		t.Errorf("abandoned twice: %v", err)
	}
	if _, err := s.Hosting.Activate(t.Context(), id, nil, nil, entry(account.EntrySignUp)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("activate what is abandoned: %v", err)
	}
	a := newAccount(t, s, "alice")
	if a.ID == id {
		t.Error("the number of an abandoned reservation was given again")
	}
	if err := s.Hosting.Abandon(t.Context(), a.ID); err != nil {
		t.Errorf("abandon what is active: %v", err)
	}
	s.Reopen()
	if _, err := s.Accounts.ByDID(t.Context(), a.DID); err != nil {
		t.Errorf("an active account was abandoned: %v", err)
	}
}

func testReserveRace(t *testing.T, s *Database) {
	t.Helper()
	for name, c := range map[string]struct {
		change func(p *hosting.Pending)
		want   error
	}{
		"handle": {func(p *hosting.Pending) { p.Handle = "same.test" }, account.ErrHandleTaken},
		"e-mail": {func(p *hosting.Pending) { p.Email = "same@example.com" }, account.ErrEmailTaken},
	} {
		var all sync.WaitGroup
		won := make(chan int64, 20)
		for i := range 20 {
			all.Go(func() {
				p := pending(fmt.Sprintf("%s%d", name[:1], i))
				c.change(&p)
				switch id, err := s.Hosting.Reserve(t.Context(), p); {
				case err == nil:
					won <- id
				case !errors.Is(err, c.want):
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		all.Wait()
		if len(won) != 1 {
			t.Errorf("%d sign-ups took one %s", len(won), name)
		}
	}
}

// testPending: no read shows an account whose DID is being registered.
func testPending(t *testing.T, s *Database) {
	t.Helper()
	p := pending("alice")
	id, err := s.Hosting.Reserve(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for name, see := range map[string]func() error{
		"ByDID":    func() error { _, err := s.Accounts.ByDID(t.Context(), p.DID); return err },
		"ByHandle": func() error { _, err := s.Accounts.ByHandle(t.Context(), p.Handle); return err },
		"ByEmail":  func() error { _, err := s.Accounts.ByEmail(t.Context(), p.Email); return err },
		"Credentials": func() error {
			_, err := s.Accounts.Credentials(t.Context(), id)
			return err
		},
		"SetPassword": func() error {
			return s.Accounts.SetPassword(t.Context(), id, "x", 0, entry(account.EntryPasswordChanged))
		},
		"AddAppPassword": func() error {
			return s.Accounts.AddAppPassword(t.Context(), id, account.AppPassword{Name: "x", Hash: "x"}, entry(account.EntryAppPasswordCreated))
		},
		"SetStatus": func() error {
			_, err := s.Accounts.SetStatus(t.Context(), id, account.StatusChange{}, entry(account.EntryActivated))
			return err
		},
		"SealedKey":    func() error { _, _, err := s.Hosting.SealedKey(t.Context(), id); return err },
		"Delete":       func() error { return s.Accounts.Delete(t.Context(), id, at(2)) },
		"SaveDocument": func() error { return s.Identity.SaveDocument(t.Context(), id, []byte("{}"), false, start) },
	} {
		if err := see(); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Accounts.UpgradeHash(t.Context(), id, p.PasswordHash, "x"); !errors.Is(err, account.ErrPasswordChanged) {
		t.Errorf("UpgradeHash: %v", err)
	}
	if list, err := s.Accounts.List(t.Context(), 0, 10); err != nil || len(list) != 0 {
		t.Errorf("List = %+v, %v", list, err)
	}
	// It was looked for before it existed: no cache may remember that.
	if _, err := s.Hosting.Activate(t.Context(), id, []byte(`{}`), nil, entry(account.EntrySignUp)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Accounts.ByDID(t.Context(), p.DID); err != nil {
		t.Error(err)
	}
	if list, err := s.Hosting.Pending(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("Pending = %+v, %v", list, err)
	}
	if _, err := s.Hosting.Activate(t.Context(), id, nil, nil, entry(account.EntrySignUp)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("activated twice: %v", err)
	}
}

func testIdentity(t *testing.T, s *Database) {
	t.Helper()
	alice, bob, carol := newAccount(t, s, "alice"), newAccount(t, s, "bob"), newAccount(t, s, "carol")
	if _, err := s.Hosting.Reserve(t.Context(), pending("dave")); err != nil {
		t.Fatal(err)
	}
	for a, minutes := range map[*account.Account]int{alice: 30, bob: 10, carol: 20} {
		if err := s.Identity.SaveDocument(t.Context(), a.ID, []byte(`{"of":"`+a.Handle.String()+`"}`), a == bob, at(minutes)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("what was found is the account's", func(t *testing.T) {
		if got, err := s.Accounts.ByDID(t.Context(), bob.DID); err != nil || !got.HandleInvalid || string(got.Document) != `{"of":"bob.test"}` || !got.IdentityCheckedAt.Equal(at(10)) {
			t.Errorf("%+v, %v", got, err)
		}
	})
	s.Reopen()
	t.Run("one that was never checked is due", func(t *testing.T) {
		never := newAccount(t, s, "never")
		if err := s.Identity.SaveDocument(t.Context(), never.ID, never.Document, false, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if list, err := s.Identity.Due(t.Context(), start, 10); err != nil || len(list) != 1 || list[0].DID != never.DID {
			t.Errorf("due %+v, %v; want the one that was never checked", list, err)
		}
		if err := s.Accounts.Delete(t.Context(), never.ID, at(2)); err != nil {
			t.Fatal(err)
		}
	})
	due := func(t *testing.T, limit int) []syntax.DID {
		t.Helper()
		list, err := s.Identity.Due(t.Context(), at(30), limit)
		if err != nil {
			t.Fatal(err)
		}
		var out []syntax.DID
		for _, d := range list {
			out = append(out, d.DID)
		}
		return out
	}
	t.Run("the longest ago are due first", func(t *testing.T) {
		if got, want := due(t, 10), []syntax.DID{bob.DID, carol.DID}; !slices.Equal(got, want) {
			t.Errorf("due %s, want the longest ago first: %s", got, want)
		}
		if got := due(t, 1); len(got) != 1 {
			t.Errorf("due %s, want one", got)
		}
	})
	t.Run("a subject has what a check needs", func(t *testing.T) {
		list, err := s.Identity.Due(t.Context(), at(30), 1)
		want := identity.Subject{AccountID: bob.ID, DID: bob.DID, Handle: bob.Handle, SigningKey: bob.SigningKey, HandleInvalid: true}
		if err != nil || string(list[0].Document) != `{"of":"bob.test"}` {
			t.Fatalf("%+v, %v", list, err)
		}
		list[0].Document = nil
		if got := list[0]; got.AccountID != want.AccountID || got.DID != want.DID || got.Handle != want.Handle || got.SigningKey != want.SigningKey || !got.HandleInvalid {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	})
}

// testInviteList: codes by age and by use, page by page, and what disables them.
func testInviteList(t *testing.T, s *Database) {
	alice := newAccount(t, s, "alice")
	var want []string
	for i := range 5 {
		c := account.InviteCode{Code: fmt.Sprintf("c%d", i), Available: 2, ForAccount: account.InvitesByAdmin, CreatedBy: "admin", CreatedAt: at(i / 2)}
		if i == 3 {
			c.ForAccount = alice.DID.String()
		}
		if err := s.Accounts.AddInviteCodes(t.Context(), []account.InviteCode{c}); err != nil {
			t.Fatal(err)
		}
		want = append([]string{c.Code}, want...)
	}
	for name, code := range map[string]string{"bob": "c1", "carol": "c1", "dave": "c4"} {
		if _, err := s.Hosting.Reserve(t.Context(), invited(name, code)); err != nil {
			t.Fatal(err)
		}
	}
	walk := func(byUsage bool) (got []string) {
		t.Helper()
		q := account.InviteQuery{ByUsage: byUsage, Limit: 2}
		for range 10 {
			page, err := s.Accounts.ListInviteCodes(t.Context(), q)
			if err != nil || len(page) > q.Limit {
				t.Fatalf("%d codes, %v", len(page), err)
			}
			if len(page) == 0 {
				break
			}
			for _, c := range page {
				got = append(got, c.Code)
				q.After = &account.InvitePlace{CreatedAt: c.CreatedAt, Uses: int64(len(c.Uses)), Code: c.Code}
			}
		}
		return got
	}
	if got := walk(false); !slices.Equal(got, want) {
		t.Errorf("by age %q, want %q", got, want)
	}
	if got, want := walk(true), []string{"c1", "c4", "c3", "c2", "c0"}; !slices.Equal(got, want) {
		t.Errorf("by use %q, want %q", got, want)
	}
	n, err := s.Accounts.DisableInviteCodes(t.Context(), []string{"c0", "none"}, []string{alice.DID.String(), "did:plc:nobody"})
	if err != nil || n != 2 {
		t.Errorf("%d codes disabled, %v", n, err)
	}
	if n, err = s.Accounts.DisableInviteCodes(t.Context(), []string{"c0"}, nil); err != nil || n != 0 {
		t.Errorf("%d codes disabled again, %v", n, err)
	}
	for code, disabled := range map[string]bool{"c0": true, "c1": false, "c3": true} {
		if got := invite(t, s, code); got.Disabled != disabled {
			t.Errorf("%s: %+v", code, got)
		}
	}
}

// testEarnInvites: an account earns codes by all that it has.
func testEarnInvites(t *testing.T, s *Database) {
	alice := newAccount(t, s, "alice")
	disabled := account.StatusChange{InvitesDisabled: new(true)}
	if _, err := s.Accounts.SetStatus(t.Context(), alice.ID, disabled, entry(account.EntryInvitesDisabled)); err != nil {
		t.Fatal(err)
	}
	a, err := s.Accounts.ByDID(t.Context(), alice.DID)
	if err != nil || !a.InvitesDisabled {
		t.Errorf("%+v, %v", a, err)
	}
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			err := s.Accounts.EarnInviteCodes(t.Context(), alice.ID, func(a *account.Account, own []account.InviteCode) []account.InviteCode {
				if !a.InvitesDisabled || a.DID != alice.DID {
					t.Errorf("%+v", a)
				}
				if len(own) == 3 {
					return nil
				}
				return []account.InviteCode{{Code: fmt.Sprintf("own%d", i), Available: 1, ForAccount: alice.DID.String(), CreatedBy: alice.DID.String(), CreatedAt: start}}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if own, err := s.Accounts.InviteCodesFor(t.Context(), alice.DID); err != nil || len(own) != 3 {
		t.Errorf("%d codes, %v", len(own), err)
	}
	none := func(*account.Account, []account.InviteCode) []account.InviteCode { return nil }
	if err := s.Accounts.EarnInviteCodes(t.Context(), alice.ID+1, none); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
	if _, err := s.Accounts.SetStatus(t.Context(), alice.ID+1, disabled, entry(account.EntryInvitesDisabled)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
}
