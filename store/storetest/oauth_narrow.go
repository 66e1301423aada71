package storetest

import (
	"errors"
	"strings"
	"testing"

	"nestbox/account"
	"nestbox/oauth"
	"nestbox/session"
)

// testOAuthNarrow: what is taken back is taken from a client's sessions and its consent, and
// from no other's.
func testOAuthNarrow(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	allowed(t, s, a, "done")
	r := redemption(t, s, a, "done")
	r.Consent.Scopes = "atproto repo:a.b.c"
	st, err := s.OAuth.Redeem(t.Context(), "done", func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) { return r, nil })
	if err != nil {
		t.Fatal(err)
	}
	second, theirs, bobs := authorize(t, s, a, aClient), authorize(t, s, a, "https://other.example/c"), authorize(t, s, b, aClient)
	plain := signIn(t, s, a)
	allowed(t, s, a, "waiting")
	narrow := func(to string) bool {
		t.Helper()
		changed, err := s.OAuth.Narrow(t.Context(), a.ID, aClient, oauth.Narrowing{
			Grant: func(g session.Grant) session.Grant {
				if g.Granted != to {
					g.Granted, g.Effective, g.Sets, g.Version = to, to+" now", "", g.Version+1
				}
				return g
			},
			Scopes: func(text string) string { return strings.TrimSuffix(text, " repo:a.b.c") },
			Entry:  entry(account.EntryPermissionTaken),
		})
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	if !narrow("atproto") || narrow("atproto") {
		t.Error("the first changes something, the second nothing")
	}
	for _, want := range []*session.State{st, second} {
		g := *want.Grant
		g.Granted, g.Effective, g.Sets, g.Version = "atproto", "atproto now", "", g.Version+1
		want.Grant = &g
		same(t, s, want)
	}
	for _, other := range []*session.State{theirs, bobs, plain} {
		same(t, s, other)
	}
	if k, err := s.OAuth.Consent(t.Context(), a.ID, aClient); err != nil || k == nil || k.Scopes != "atproto" {
		t.Errorf("consent %+v, %v", k, err)
	}
	if _, err := s.OAuth.Request(t.Context(), "waiting"); !errors.Is(err, oauth.ErrUnknown) {
		t.Errorf("a code that waits survives: %v", err)
	}
	if _, err := s.OAuth.Request(t.Context(), "done"); err != nil {
		t.Errorf("a code that was exchanged: %v", err)
	}
	taken := 0
	for _, k := range kinds(t, s, a) {
		if k == account.EntryPermissionTaken {
			taken++
		}
	}
	if taken != 1 {
		t.Errorf("%d entries, want one", taken)
	}
	// A refresh that was decided before is decided again on what is left.
	if _, err := s.Sessions.Rotate(t.Context(), st.ID, forward); err != nil {
		t.Error(err)
	}
	if got, err := s.Sessions.Load(t.Context(), st.ID); err != nil || got.Grant.Granted != "atproto" || got.Head != st.Head+1 {
		t.Errorf("after a refresh %+v, %v", got, err)
	}
}
