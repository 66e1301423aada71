package auth_test

import (
	"testing"
	"time"

	"nestbox/auth"
	"nestbox/ratelimit"
)

// TestHolders: one credential of an account does not use up what another may do;
// all that are not the password share a limit.
func TestHolders(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	l := ratelimit.New(1000, func() time.Time { return now })
	limit := ratelimit.Limit{Name: "things", Points: 10, Window: time.Hour}
	app := func(n int64) auth.Holder {
		return auth.Access{DID: alice, Scope: auth.ScopeAppPass, AppPassword: n}.Holder()
	}
	uses := func(h auth.Holder) (n int) {
		for ; n < 100; n++ {
			if err := auth.Admit(t.Context(), l, h, 1, limit); err != nil {
				break
			}
		}
		return n
	}
	owner := auth.Access{DID: alice, Scope: auth.ScopeAccess}.Holder()
	taken := auth.Access{DID: alice, Scope: auth.ScopeTakenDown}.Holder()
	if owner != taken || owner.Via != "" {
		t.Errorf("the owner counts as %+v and as %+v", owner, taken)
	}
	for i, want := range []int{10, 10, 10, 10, 0} {
		if got := uses(app(int64(i + 1))); got != want {
			t.Errorf("app password %d had %d, want %d", i+1, got, want)
		}
	}
	if got := uses(app(1)); got != 0 {
		t.Errorf("the first one had %d more", got)
	}
	if got := uses(owner); got != 10 {
		t.Errorf("the owner had %d, want 10", got)
	}
	privileged := auth.Access{DID: alice, Scope: auth.ScopeAppPassPrivileged, AppPassword: 1}.Holder()
	if privileged != app(1) {
		t.Errorf("a session of the same app password counts as %+v", privileged)
	}
}
