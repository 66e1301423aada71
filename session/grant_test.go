package session

import (
	"errors"
	"slices"
	"testing"
	"time"

	"nestbox/account"
)

// grantState is a session of an OAuth client at generation 3.
func grantState(now time.Time) State {
	return State{
		ID: 1, Nonce: "n", Head: 3, RotatedAt: now.Add(-time.Hour), CreatedAt: now.Add(-48 * time.Hour), Expires: now.Add(24 * time.Hour),
		Floor: 0, Network: "192.0.2.1", UserAgent: "app/1",
		Grant: &Grant{
			Holder:  Holder{ClientID: "c", AuthMethod: AuthPrivateKey, KID: "k", Alg: "ES256", ClientJKT: "ck", DPoPJKT: "dk"},
			Granted: "atproto", Effective: "atproto", EndsAt: now.Add(30 * 24 * time.Hour),
		},
	}
}

// TestRotateGrant is the contract's table, as far as it is not rotate's.
func TestRotateGrant(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	st := grantState(now)
	rules := Rules{ReuseWindow: 24 * time.Hour, RefreshTTL: 90 * 24 * time.Hour, Policy: PolicyReport}
	revoke := rules
	revoke.Policy = PolicyRevoke
	show := func(generation int64, changes ...func(*GrantPresentation)) GrantPresentation {
		p := GrantPresentation{
			Presentation: Presentation{Generation: generation, At: now, Network: "192.0.2.1", UserAgent: "app/1"},
			Holder:       st.Grant.Holder, Granted: "atproto", Effective: "atproto",
		}
		for _, c := range changes {
			c(&p)
		}
		return p
	}
	thief := func(p *GrantPresentation) { p.DPoPJKT = "another" }
	for _, c := range []struct {
		name    string
		state   func(*State)
		p       GrantPresentation
		rules   Rules
		outcome Outcome
		err     error
		changed bool
		ends    bool
		entries []account.EntryKind
	}{
		{name: "the head", p: show(3), outcome: Advance, changed: true},
		{name: "its predecessor", p: show(2), outcome: Repeat},
		{name: "ahead", p: show(9), outcome: Ahead, changed: true, entries: []account.EntryKind{account.EntrySessionAhead}},
		{name: "no grant", state: func(s *State) { s.Grant = nil }, p: show(3), err: ErrUnknown},
		{name: "at its end", p: show(3, func(p *GrantPresentation) { p.At = st.Grant.EndsAt }), err: ErrEnded},
		{name: "another DPoP key", p: show(3, thief), outcome: Theft, changed: true, entries: []account.EntryKind{account.EntrySuspectedTheft}},
		{name: "another client", p: show(3, func(p *GrantPresentation) { p.ClientID = "x" }), outcome: Theft, changed: true, entries: []account.EntryKind{account.EntrySuspectedTheft}},
		{name: "another client key", p: show(3, func(p *GrantPresentation) { p.ClientJKT = "x" }), outcome: Theft, changed: true, entries: []account.EntryKind{account.EntrySuspectedTheft}},
		{name: "another way", p: show(3, func(p *GrantPresentation) { p.AuthMethod = AuthNone }), outcome: Theft, changed: true, entries: []account.EntryKind{account.EntrySuspectedTheft}},
		{
			name: "again within a day", state: func(s *State) { g := *s.Grant; g.TheftAt = now.Add(-23 * time.Hour); s.Grant = &g },
			p: show(3, thief), outcome: Theft,
		},
		{
			name: "again a day later", state: func(s *State) { g := *s.Grant; g.TheftAt = now.Add(-24 * time.Hour); s.Grant = &g },
			p: show(3, thief), outcome: Theft, changed: true, entries: []account.EntryKind{account.EntrySuspectedTheft},
		},
		{
			name: "under revoke", p: show(3, thief), rules: revoke, outcome: Theft, changed: true, ends: true,
			entries: []account.EntryKind{account.EntrySuspectedTheft, account.EntrySessionRevoked},
		},
		{name: "a set that grew", p: show(2, func(p *GrantPresentation) { p.Effective, p.Sets = "atproto repo:a.b.c", "s 2" }), outcome: Repeat, changed: true},
		{name: "what was taken meanwhile", p: show(2, func(p *GrantPresentation) { p.Granted, p.Effective = "atproto repo:a.b.c", "atproto repo:a.b.c" }), outcome: Repeat},
	} {
		s, r := st, c.rules
		if c.state != nil {
			c.state(&s)
		}
		if r == (Rules{}) {
			r = rules
		}
		got, err := rotateGrant(s, c.p, r)
		if !errors.Is(err, c.err) || got.Outcome != c.outcome || got.Changed != c.changed || got.Revoke != c.ends {
			t.Errorf("%s: %+v, %v", c.name, got, err)
			continue
		}
		var kinds []account.EntryKind
		for _, e := range got.Entries {
			kinds = append(kinds, e.Kind)
		}
		if !slices.Equal(kinds, c.entries) {
			t.Errorf("%s: entries %v, want %v", c.name, kinds, c.entries)
		}
		if err == nil && !c.ends && got.Outcome == Theft && got.Next.Head != s.Head {
			t.Errorf("%s: the head moved", c.name)
		}
		if err == nil && c.changed && !c.ends && got.Next.Grant != s.Grant && got.Next.Grant.Version != s.Grant.Version+1 {
			t.Errorf("%s: version %d", c.name, got.Next.Grant.Version)
		}
	}
	if r, _ := rotateGrant(st, show(3), rules); !r.Next.Expires.Equal(st.Grant.EndsAt) {
		t.Errorf("it expires at %s, behind its end %s", r.Next.Expires, st.Grant.EndsAt)
	}
	if st.Grant.Version != 0 || st.Grant.Effective != "atproto" || !st.Grant.TheftAt.IsZero() {
		t.Errorf("a grant was changed in place: %+v", st.Grant)
	}
}
