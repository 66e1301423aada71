package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/repo"
)

var statusTests = tests{
	"StatusEverywhere": testStatusEverywhere,
}

// testStatusEverywhere: every query that shows, counts or selects by an account's status
// agrees with Account.Status and Account.Hidden, for each combination of measures.
func testStatusEverywhere(t *testing.T, s *Database) {
	t.Helper()
	want, active := map[syntax.DID]*account.Account{}, int64(0)
	for i := range 8 {
		o := newOwner(t, s, fmt.Sprintf("account%d", i))
		down, suspended, deactivated := i&1 != 0, i&2 != 0, i&4 != 0
		setStatus(t, s, o.Account, account.StatusChange{Deactivated: &deactivated})
		setStatus(t, s, o.Account, account.StatusChange{Takedown: &account.Applied{Applied: down}, Suspended: &suspended})
		a, err := s.Accounts.ByDID(t.Context(), o.DID)
		if err != nil {
			t.Fatal(err)
		}
		want[a.DID] = a
		if a.Status() == account.Active {
			active++
		}
	}
	t.Run("the number of active accounts", func(t *testing.T) {
		if n, err := s.Hosting.Hosted(t.Context()); err != nil || n != active {
			t.Errorf("%d, %v; want %d", n, err, active)
		}
	})
	t.Run("the list of repositories", func(t *testing.T) {
		heads, err := s.Repos.Heads(t.Context(), 0, 100)
		if err != nil || len(heads) != len(want) {
			t.Fatalf("%d, %v; want %d", len(heads), err, len(want))
		}
		for _, h := range heads {
			if h.Status != string(want[h.DID].Status()) {
				t.Errorf("%s is %q, want %q", h.DID, h.Status, want[h.DID].Status())
			}
		}
	})
	t.Run("the identities to check", func(t *testing.T) {
		due, err := s.Identity.Due(t.Context(), at(1_000_000), 100)
		if err != nil || len(due) != len(want) {
			t.Fatalf("%d, %v; want %d", len(due), err, len(want))
		}
		for _, d := range due {
			if d.Hidden != want[d.DID].Hidden() {
				t.Errorf("%s is hidden: %t, want %t", d.DID, d.Hidden, want[d.DID].Hidden())
			}
		}
	})
	t.Run("writes to the repository", func(t *testing.T) {
		for did, a := range want {
			// No commit is at its place, so an active account's is a conflict.
			err := s.Repos.Commit(t.Context(), repo.Change{AccountID: a.ID})
			if inactive := a.Status() != account.Active; errors.Is(err, repo.ErrInactive) != inactive || !inactive && !errors.Is(err, repo.ErrConflict) {
				t.Errorf("%s, which is %q: %v", did, a.Status(), err)
			}
		}
	})
}
