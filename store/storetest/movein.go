package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/repo"
)

var moveinTests = tests{
	"MoveIn":     testMoveIn,
	"ReserveKey": testReserveKey,
	"AnyKey":     testAnyKey,
	"Reseal":     testReseal,
}

// testMoveIn: an account that moves in exists at once, deactivated and with a
// repository, and makes no event; the key reserved for the DID is used up.
func testMoveIn(t *testing.T, s *Database) {
	p := pending("alice")
	p.SigningKey = "did:key:reserved"
	kept, err := s.Hosting.ReserveKey(t.Context(), hosting.ReservedKey{Public: "did:key:reserved", DID: p.DID, Sealed: []byte("sealed"), ReservedAt: start}, start.Add(-time.Hour), 10)
	if err != nil || kept.Public != "did:key:reserved" {
		t.Fatalf("%+v, %v", kept, err)
	}
	before, err := s.Log.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := (&owner{Account: &account.Account{DID: p.DID}}).first()
	another := p
	another.SigningKey = "did:key:another"
	if _, err := s.Hosting.MoveIn(t.Context(), another, []byte("{}"), first, entry(account.EntryMovedIn)); !errors.Is(err, hosting.ErrKeyReserved) {
		t.Errorf("with a key that is not the reserved one: %v", err)
	}
	a, err := s.Hosting.MoveIn(t.Context(), p, []byte(`{"id":"x"}`), first, entry(account.EntryMovedIn))
	if err != nil || a.DID != p.DID || a.Status() != account.Deactivated || string(a.Document) != `{"id":"x"}` {
		t.Fatalf("%+v, %v", a, err)
	}
	s.Reopen()
	t.Run("the session that it begins is not news to its owner", func(t *testing.T) {
		if got, err := s.Sessions.Seen(t.Context(), a.ID, "192.0.2.1"); err != nil || !slices.Equal(got, []string{"test"}) {
			t.Errorf("seen %q, %v", got, err)
		}
	})
	t.Run("it exists at once, deactivated and with a repository", func(t *testing.T) {
		if got, err := s.Accounts.ByDID(t.Context(), p.DID); err != nil || got.Status() != account.Deactivated || got.Handle != p.Handle {
			t.Errorf("%+v, %v", got, err)
		}
		if pending, err := s.Hosting.Pending(t.Context()); err != nil || len(pending) != 0 {
			t.Errorf("pending: %+v, %v", pending, err)
		}
		err := s.Repos.View(t.Context(), a.ID, func(v repo.View) error {
			if got := v.Head(); !got.CID.Equals(first.Next.CID) {
				t.Errorf("the repository is at %s", got.CID)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("it makes no event", func(t *testing.T) {
		if after, err := s.Log.Bounds(t.Context()); err != nil || after.Last != before.Last {
			t.Errorf("the event log has: %+v, %v", after, err)
		}
	})
	t.Run("the reserved key is used up", func(t *testing.T) {
		if k, err := s.Hosting.ReservedKey(t.Context(), p.DID); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("still reserved: %+v, %v", k, err)
		}
	})
	for what, change := range map[string]struct {
		do   func(*hosting.Pending)
		want error
	}{
		"the same again": {func(*hosting.Pending) {}, account.ErrHandleTaken},
		"its handle":     {func(p *hosting.Pending) { p.DID, p.Email = "did:plc:other", "other@example.com" }, account.ErrHandleTaken},
		"its DID":        {func(p *hosting.Pending) { p.Handle, p.Email = "other.test", "other@example.com" }, account.ErrDIDTaken},
		"its address":    {func(p *hosting.Pending) { p.DID, p.Handle = "did:plc:other", "other.test" }, account.ErrEmailTaken},
		"no invite code": {func(p *hosting.Pending) { *p = invited("carol", "none") }, account.ErrInviteUsed},
	} {
		t.Run("refused: "+what, func(t *testing.T) {
			other := pending("alice")
			change.do(&other)
			if _, err := s.Hosting.MoveIn(t.Context(), other, []byte("{}"), first, entry(account.EntryMovedIn)); !errors.Is(err, change.want) {
				t.Errorf("%v, want %v", err, change.want)
			}
		})
	}
}

// testReserveKey: one key for each DID, for a time. If the table is full, the network that
// holds most of it loses keys, those for no DID first.
func testReserveKey(t *testing.T, s *Database) {
	const limit = 4
	reserve := func(n int, sender string, did syntax.DID, minute int) string {
		t.Helper()
		k := hosting.ReservedKey{Public: fmt.Sprintf("did:key:%d", n), DID: did, Sealed: []byte{byte(n)}, ReservedAt: at(minute), Sender: []byte(sender)}
		got, err := s.Hosting.ReserveKey(t.Context(), k, at(minute-10), limit)
		if err != nil {
			t.Fatal(err)
		}
		return got.Public
	}
	for _, c := range []struct {
		n      int
		sender string
		did    syntax.DID
		minute int
		want   string
	}{
		{1, "person", "did:plc:one", 0, "did:key:1"},
		{2, "other", "did:plc:one", 1, "did:key:1"}, // the one that was reserved
		{3, "flood", "did:plc:three", 2, "did:key:3"},
		{4, "flood", "", 3, "did:key:4"},
		{5, "flood", "did:plc:five", 4, "did:key:5"},
		{6, "flood", "did:plc:six", 5, "did:key:6"},    // in place of 4
		{7, "late", "did:plc:seven", 6, "did:key:7"},   // in place of 3
		{8, "person", "did:plc:one", 11, "did:key:8"},  // the first one's time is over
		{9, "flood", "did:plc:seven", 11, "did:key:7"}, // the one that was reserved
		{10, "flood", "did:plc:ten", 11, "did:key:10"}, // in place of 5
	} {
		if got := reserve(c.n, c.sender, c.did, c.minute); got != c.want {
			t.Errorf("%d: %s, want %s", c.n, got, c.want)
		}
	}
	s.Reopen()
	for did, want := range map[syntax.DID]string{
		"did:plc:one": "did:key:8", "did:plc:three": "", "did:plc:five": "", "did:plc:six": "did:key:6", "did:plc:seven": "did:key:7",
		"did:plc:ten": "did:key:10", "did:plc:nobody": "",
	} {
		k, err := s.Hosting.ReservedKey(t.Context(), did)
		if k.Public != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%s: %+v, %v; want %q", did, k, err, want)
		}
	}
}

// testAnyKey: some key of an account, as soon as there is one.
func testAnyKey(t *testing.T, s *Database) {
	if _, _, err := s.Hosting.AnyKey(t.Context()); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no accounts: %v", err)
	}
	for _, name := range []string{"alice", "bob"} {
		if _, err := s.Hosting.Reserve(t.Context(), pending(name)); err != nil {
			t.Fatal(err)
		}
		if did, sealed, err := s.Hosting.AnyKey(t.Context()); err != nil || did != pending("alice").DID || string(sealed) != "sealed" {
			t.Errorf("%s, %q, %v", did, sealed, err)
		}
	}
}

// testReseal: every sealed key is replaced, wherever it is, or none.
func testReseal(t *testing.T, s *Database) {
	alice := newAccount(t, s, "alice")
	if _, err := s.Hosting.Reserve(t.Context(), pending("bob")); err != nil {
		t.Fatal(err)
	}
	for _, k := range []hosting.ReservedKey{{Public: "did:key:a", DID: "did:plc:a"}, {Public: "did:key:b"}} {
		k.Sealed, k.ReservedAt = []byte("sealed"), start
		if _, err := s.Hosting.ReserveKey(t.Context(), k, start, 10); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SigningKeys.BeginKey(t.Context(), hosting.KeyChange{AccountID: alice.ID, Public: "did:key:c", Sealed: []byte("sealed"), BegunAt: start}); err != nil {
		t.Fatal(err)
	}
	want := []string{"", alice.DID.String(), alice.DID.String(), "did:plc:a", pending("bob").DID.String()}
	slices.Sort(want)
	keys := func(to string, failAt int) (of []string, all bool) {
		t.Helper()
		all = true
		n, err := s.Hosting.Reseal(t.Context(), func(_ hosting.SealedKind, did syntax.DID, sealed []byte) ([]byte, error) {
			if len(of) == failAt {
				return nil, errors.ErrUnsupported
			}
			of = append(of, did.String())
			all = all && string(sealed) == "sealed"
			return []byte(to), nil
		})
		if failAt < 0 && (err != nil || n != len(want)) || failAt >= 0 && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("fails at %d: %d, %v", failAt, n, err)
		}
		slices.Sort(of)
		return of, all
	}
	for i := range want {
		if _, all := keys("lost", i); !all {
			t.Errorf("some were replaced before the one that failed at %d", i)
		}
	}
	if of, all := keys("again", -1); !slices.Equal(of, want) || !all {
		t.Errorf("keys of %q, want %q; as they were: %t", of, want, all)
	}
	s.Reopen()
	again := 0
	if _, err := s.Hosting.Reseal(t.Context(), func(_ hosting.SealedKind, _ syntax.DID, sealed []byte) ([]byte, error) {
		if string(sealed) == "again" {
			again++
		}
		return sealed, nil
	}); err != nil || again != len(want) {
		t.Errorf("%d of %d were replaced, %v", again, len(want), err)
	}
	if _, sealed, err := s.Hosting.SealedKey(t.Context(), alice.ID); err != nil || string(sealed) != "again" {
		t.Errorf("%q, %v", sealed, err)
	}
}
