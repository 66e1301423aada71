package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/session"
)

var accountTests = tests{
	"AccountFind":         testAccountFind,
	"AccountList":         testAccountList,
	"AccountPassword":     testAccountPassword,
	"AccountAppPasswords": testAccountAppPasswords,
	"AccountStatus":       testAccountStatus,
	"AccountDelete":       testAccountDelete,
	"AccountTrail":        testAccountTrail,
	"AccountTrailFair":    testAccountTrailFair,
	"AccountCache":        testAccountCache,
}

func testAccountFind(t *testing.T, s *Database) {
	t.Helper()
	made := newAccount(t, s, "alice")
	s.Reopen()
	for name, find := range map[string]func() (*account.Account, error){
		"DID":    func() (*account.Account, error) { return s.Accounts.ByDID(t.Context(), made.DID) },
		"handle": func() (*account.Account, error) { return s.Accounts.ByHandle(t.Context(), "alice.test") },
		"e-mail": func() (*account.Account, error) { return s.Accounts.ByEmail(t.Context(), "ALICE@example.COM") },
	} {
		got, err := find()
		if err != nil || !reflect.DeepEqual(got, made) {
			t.Errorf("by %s: %+v, %v\nwant %+v", name, got, err, made)
		}
	}
	if made.Email != "alice@Example.com" || made.SigningKey != "did:key:alice" || !made.CreatedAt.Equal(start) || len(made.Document) == 0 {
		t.Errorf("%+v", made)
	}
	for name, find := range map[string]func() (*account.Account, error){
		"DID":    func() (*account.Account, error) { return s.Accounts.ByDID(t.Context(), "did:plc:nobody") },
		"handle": func() (*account.Account, error) { return s.Accounts.ByHandle(t.Context(), "nobody.test") },
		"e-mail": func() (*account.Account, error) { return s.Accounts.ByEmail(t.Context(), "nobody@example.com") },
	} {
		if got, err := find(); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("nobody by %s: %+v, %v", name, got, err)
		}
	}
}

func testAccountList(t *testing.T, s *Database) {
	t.Helper()
	var want []syntax.DID
	for i := range 7 {
		want = append(want, newAccount(t, s, fmt.Sprintf("account%d", i)).DID)
	}
	var got []syntax.DID
	for after := int64(0); ; {
		page, err := s.Accounts.List(t.Context(), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			if a.ID <= after {
				t.Fatalf("account %d after %d", a.ID, after)
			}
			after = a.ID
			got = append(got, a.DID)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
}

func testAccountPassword(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	kept, ended, other := signIn(t, s, a), signIn(t, s, a), signIn(t, s, b)
	app := signInWith(t, s, a, addAppPassword(t, s, a, "app"))
	before, err := s.Accounts.Credentials(t.Context(), a.ID)
	if err != nil || before.PasswordHash != "hash of alice" {
		t.Fatal(before, err)
	}
	if err := s.Accounts.SetPassword(t.Context(), a.ID, "new", kept.ID, entry(account.EntryPasswordChanged)); err != nil {
		t.Fatal(err)
	}
	alive(t, s, map[*session.State]bool{kept: true, ended: false, app: false, other: true})
	after, err := s.Accounts.Credentials(t.Context(), a.ID)
	if err != nil || after.PasswordHash != "new" || after.Epoch == before.Epoch || len(after.AppPasswords) != 1 {
		t.Errorf("%+v, %v; before: %+v", after, err, before)
	}
	if got := kinds(t, s, a); got[0] != account.EntryPasswordChanged {
		t.Errorf("trail %q", got)
	}
	if err := s.Accounts.UpgradeHash(t.Context(), a.ID, "old", "better"); !errors.Is(err, account.ErrPasswordChanged) {
		t.Errorf("upgrade of a hash that is not there: %v", err)
	}
	if err := s.Accounts.UpgradeHash(t.Context(), a.ID, "new", "better"); err != nil {
		t.Error(err)
	}
	alive(t, s, map[*session.State]bool{kept: true})
	if upgraded, err := s.Accounts.Credentials(t.Context(), a.ID); err != nil || upgraded.PasswordHash != "better" || upgraded.Epoch != after.Epoch {
		t.Errorf("%+v, %v; an upgrade ends nothing", upgraded, err)
	}
	if err := s.Accounts.SetPassword(t.Context(), 999, "new", 0, entry(account.EntryPasswordChanged)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
	if _, err := s.Accounts.Credentials(t.Context(), 999); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
}

// testAppPasswordHash: the hash of an app password is replaced only by a better one of the
// same password, and nothing ends with it.
func testAppPasswordHash(t *testing.T, s *Database, a *account.Account) {
	t.Helper()
	cred, err := s.Accounts.Credentials(t.Context(), a.ID)
	if err != nil || len(cred.AppPasswords) == 0 {
		t.Fatalf("%+v, %v", cred, err)
	}
	p := cred.AppPasswords[0]
	if err := s.Accounts.UpgradeAppPassword(t.Context(), p.ID, "another", "better"); !errors.Is(err, account.ErrPasswordChanged) {
		t.Errorf("upgrade of a hash that is not there: %v", err)
	}
	if err := s.Accounts.UpgradeAppPassword(t.Context(), p.ID, p.Hash, "better"); err != nil {
		t.Error(err)
	}
	now, err := s.Accounts.Credentials(t.Context(), a.ID)
	if err != nil || now.AppPasswords[0].Hash != "better" || now.Epoch != cred.Epoch {
		t.Errorf("%+v, %v", now, err)
	}
	if err := s.Accounts.UpgradeAppPassword(t.Context(), p.ID, "better", p.Hash); err != nil {
		t.Error(err)
	}
}

// testAppPasswordUse: an app password remembers its sessions' last use when they have ended.
func testAppPasswordUse(t *testing.T, s *Database, a *account.Account, p account.AppPassword, first *session.State) {
	t.Helper()
	used := func(when string, want time.Time, network string) {
		t.Helper()
		cred, err := s.Accounts.Credentials(t.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range cred.AppPasswords {
			if got.ID == p.ID && (!got.UsedAt.Equal(want) || got.UsedNetwork != network) {
				t.Errorf("%s: last used %v from %q, want %v from %q", when, got.UsedAt, got.UsedNetwork, want, network)
			}
		}
	}
	used("while its session lives", time.Time{}, "")
	second := signInWith(t, s, a, p)
	moved, err := s.Sessions.Rotate(t.Context(), second.ID, forward)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []*session.State{second, first} { // the later use first: the earlier one does not replace it
		if err := s.Sessions.End(t.Context(), end.ID, entry(account.EntrySignOut)); err != nil {
			t.Fatal(err)
		}
		used("after its end", moved.Next.RotatedAt, moved.Next.Network)
	}
}

func testAccountAppPasswords(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	p, q, r := addAppPassword(t, s, a, "p"), addAppPassword(t, s, a, "q"), addAppPassword(t, s, b, "p")
	withP, withQ, withR, own := signInWith(t, s, a, p), signInWith(t, s, a, q), signInWith(t, s, b, r), signIn(t, s, a)
	if p.Hash != "hash p" || p.Privileged || !p.CreatedAt.Equal(start) {
		t.Errorf("%+v", p)
	}
	err := s.Accounts.AddAppPassword(t.Context(), a.ID, account.AppPassword{Name: "p", Hash: "x", CreatedAt: start}, entry(account.EntryAppPasswordCreated))
	if !errors.Is(err, account.ErrNameTaken) {
		t.Errorf("a name twice: %v", err)
	}
	for range 2 { // the second time there is nothing left to revoke
		if err := s.Accounts.RevokeAppPassword(t.Context(), a.ID, "p", entry(account.EntryAppPasswordRevoked)); err != nil {
			t.Fatal(err)
		}
	}
	alive(t, s, map[*session.State]bool{withP: false, withQ: true, withR: true, own: true})
	testAppPasswordHash(t, s, a)
	testAppPasswordUse(t, s, a, q, withQ)
	revoked := 0
	for _, k := range kinds(t, s, a) {
		if k == account.EntryAppPasswordRevoked {
			revoked++
		}
	}
	if revoked != 1 {
		t.Errorf("%d revocations on the trail, want 1", revoked)
	}
	if got := addAppPassword(t, s, a, "p"); got.ID == p.ID {
		t.Error("the number of a revoked app password was given again")
	}
	cred, err := s.Accounts.Credentials(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(cred.AppPasswords); i < account.MaxAppPasswords; i++ {
		addAppPassword(t, s, a, fmt.Sprint(i))
	}
	err = s.Accounts.AddAppPassword(t.Context(), a.ID, account.AppPassword{Name: "over", Hash: "x", CreatedAt: start}, entry(account.EntryAppPasswordCreated))
	if !errors.Is(err, account.ErrTooMany) {
		t.Errorf("app password %d: %v", account.MaxAppPasswords+1, err)
	}
}

func testAccountStatus(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	set := func(t *testing.T, c account.StatusChange, kind account.EntryKind) *account.Account {
		t.Helper()
		was, err := s.Accounts.ByDID(t.Context(), a.DID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Accounts.SetStatus(t.Context(), a.ID, c, entry(kind))
		if err != nil {
			t.Fatal(err)
		}
		if was.Hidden() && !got.Hidden() && !got.IdentityCheckedAt.IsZero() {
			t.Errorf("%s: its identity is not due for a check: %s", kind, got.IdentityCheckedAt)
		}
		if cached, err := s.Accounts.ByDID(t.Context(), a.DID); err != nil || !reflect.DeepEqual(cached, got) {
			t.Errorf("ByDID = %+v, %v\nwant    %+v", cached, err, got)
		}
		s.Reopen()
		if stored, err := s.Accounts.ByDID(t.Context(), a.DID); err != nil || !reflect.DeepEqual(stored, got) {
			t.Errorf("after a restart %+v, %v\nwant            %+v", stored, err, got)
		}
		if k := kinds(t, s, a); k[0] != kind {
			t.Errorf("trail %q, want %q first", k, kind)
		}
		return got
	}
	st := signIn(t, s, a)
	for _, c := range []struct {
		change account.StatusChange
		kind   account.EntryKind
		right  func(got *account.Account) bool
		lives  bool // the session
	}{
		{account.StatusChange{Deactivated: new(true), DeleteAfter: new(at(60))}, account.EntryDeactivated, func(got *account.Account) bool {
			return got.Status() == account.Deactivated && got.DeleteAfter.Equal(at(60))
		}, true},
		{account.StatusChange{Suspended: new(true)}, account.EntrySuspended, func(got *account.Account) bool {
			return got.Status() == account.Suspended && !got.DeactivatedAt.IsZero()
		}, true},
		{account.StatusChange{Takedown: &account.Applied{Applied: true, Ref: "case 1"}}, account.EntryTakedown, func(got *account.Account) bool {
			cred, err := s.Accounts.Credentials(t.Context(), a.ID)
			return got.Status() == account.TakenDown && got.TakedownRef == "case 1" && err == nil && cred.TakenDown
		}, false},
		{account.StatusChange{Takedown: &account.Applied{}}, account.EntryTakedownLifted, func(got *account.Account) bool {
			return got.Status() == account.Suspended && got.TakedownRef == ""
		}, false},
		{account.StatusChange{Suspended: new(false)}, account.EntrySuspensionLifted, func(got *account.Account) bool {
			return got.Status() == account.Deactivated
		}, false},
		{account.StatusChange{Deactivated: new(false)}, account.EntryActivated, func(got *account.Account) bool {
			return got.Status() == account.Active && got.DeleteAfter.IsZero()
		}, false},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			if got := set(t, c.change, c.kind); !c.right(got) {
				t.Errorf("%+v", got)
			}
			alive(t, s, map[*session.State]bool{st: c.lives})
		})
	}
	if _, err := s.Accounts.SetStatus(t.Context(), 999, account.StatusChange{}, entry(account.EntryActivated)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
}

func testAccountDelete(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	app := signInWith(t, s, a, addAppPassword(t, s, a, "app"))
	own, other := signIn(t, s, a), signIn(t, s, b)
	if err := s.Accounts.Delete(t.Context(), a.ID, at(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Accounts.ByDID(t.Context(), a.DID); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("right after: %v", err)
	}
	alive(t, s, map[*session.State]bool{app: false, own: false, other: true})
	if _, err := s.Accounts.ByHandle(t.Context(), a.Handle); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("after a restart: %v", err)
	}
	if trail, err := s.Accounts.Trail(t.Context(), a.ID, 10); err != nil || len(trail) != 0 {
		t.Errorf("trail %+v, %v", trail, err)
	}
	if err := s.Accounts.Delete(t.Context(), a.ID, at(2)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if again := newAccount(t, s, "alice"); again.ID == a.ID {
		t.Error("the number of a deleted account was given again")
	}
}

func testAccountTrail(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	full := account.Entry{
		At: at(3), Kind: account.EntrySuspectedSharing, By: account.ActorServer, Session: 7, Reason: "why", Network: "192.0.2.1",
		UserAgent: "one", OtherNetwork: "192.0.2.2", OtherUserAgent: "two",
	}
	for i := range account.TrailLimit + 20 {
		e := full
		e.Session = int64(i)
		if err := s.Accounts.AddEntry(t.Context(), a.ID, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Accounts.AddEntry(t.Context(), 999, full); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
	s.Reopen()
	trail, err := s.Accounts.Trail(t.Context(), a.ID, account.TrailLimit+50)
	if err != nil || len(trail) != account.TrailLimit {
		t.Fatalf("%d entries, %v; want %d", len(trail), err, account.TrailLimit)
	}
	if first := trail[len(trail)-1]; first.Kind != account.EntrySignUp {
		t.Errorf("the first entry is %s: what was repeated has washed away the rest", first.Kind)
	}
	for i, e := range trail[:len(trail)-1] {
		want := full
		want.Session = int64(account.TrailLimit + 19 - i)
		if e != want {
			t.Fatalf("event %d is %+v\nwant %+v", i, e, want)
		}
	}
	if trail, err := s.Accounts.Trail(t.Context(), a.ID, 3); err != nil || len(trail) != 3 {
		t.Errorf("%d entries, %v; want 3", len(trail), err)
	}
	if got := kinds(t, s, b); !slices.Equal(got, []account.EntryKind{account.EntrySignUp}) {
		t.Errorf("another's trail: %q", got)
	}
}

// testAccountTrailFair: what is repeated at will washes away nothing else: not another kind of
// entry, nor, among sign-ins, those of another password.
func testAccountTrailFair(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	add := func(kind account.EntryKind, reason string) {
		t.Helper()
		if err := s.Accounts.AddEntry(t.Context(), a.ID, account.Entry{At: at(3), Kind: kind, By: account.ActorOwner, Reason: reason}); err != nil {
			t.Fatal(err)
		}
	}
	add(account.EntrySignIn, "password")
	for range account.TrailLimit {
		add(account.EntryNoticesOff, "")
		add(account.EntryNoticesOn, "")
	}
	for i := range account.TrailLimit {
		add(account.EntryHandleChanged, fmt.Sprint("a", i, ".test"))
		add(account.EntrySignIn, `app password "stolen"`)
	}
	trail, err := s.Accounts.Trail(t.Context(), a.ID, account.TrailLimit+1)
	if err != nil || len(trail) != account.TrailLimit {
		t.Fatalf("%d entries, %v", len(trail), err)
	}
	n := map[string]int{}
	for _, e := range trail {
		n[string(e.Kind)+" "+e.Reason]++
	}
	if n["sign-in password"] != 1 || n["account-created "] != 1 {
		t.Errorf("washed away: %v", n)
	}
	if trail[0].Reason != `app password "stolen"` || trail[1].Reason != fmt.Sprint("a", account.TrailLimit-1, ".test") {
		t.Errorf("the latest are %+v, %+v", trail[0], trail[1])
	}
}

// testAccountCache: a reader never sees what was true before the last write that
// has returned.
func testAccountCache(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	var written atomic.Int64
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				least := written.Load()
				got, err := s.Accounts.ByDID(t.Context(), a.DID)
				if err != nil {
					t.Error(err)
					return
				}
				if least > 0 && got.DeleteAfter.Unix() < least {
					t.Errorf("read %d after %d was written", got.DeleteAfter.Unix(), least)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range int64(300) {
		c := account.StatusChange{Deactivated: new(true), DeleteAfter: new(at(int(i)))}
		if _, err := s.Accounts.SetStatus(t.Context(), a.ID, c, entry(account.EntryDeactivated)); err != nil {
			t.Error(err)
		}
		written.Store(at(int(i)).Unix())
	}
	close(stop)
	readers.Wait()
}
