package admin

import (
	"testing"
	"time"

	"nestbox/account"
)

// TestVisitor: what a session of the admin page needs to go on.
func TestVisitor(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	password := []byte("print of the password")
	alice := &account.Account{ID: 7, DID: "did:plc:alice"}
	suspended, takenDown, deactivated := *alice, *alice, *alice
	suspended.SuspendedAt, takenDown.TakenDownAt, deactivated.DeactivatedAt = now, now, now
	of := func(change func(*Presence)) Presence {
		p := Presence{AccountID: 7, Account: alice, Role: RoleModerator, Epoch: 3, Now: 3, MadeAt: ago(time.Hour), SeenAt: ago(time.Minute)}
		change(&p)
		return p
	}
	admin := func(change func(*Presence)) Presence {
		p := Presence{Password: password, MadeAt: ago(time.Minute), SeenAt: ago(time.Minute)}
		change(&p)
		return p
	}
	for name, c := range map[string]struct {
		p     Presence
		who   string // empty: it is over
		role  Role
		fresh bool
	}{
		"moderator":               {of(func(*Presence) {}), "did:plc:alice", RoleModerator, false},
		"admin by account":        {of(func(p *Presence) { p.Role, p.MadeAt = RoleAdmin, ago(9*time.Minute) }), "did:plc:alice", RoleAdmin, true},
		"without a role":          {of(func(p *Presence) { p.Role = "" }), "", "", false},
		"an unknown role":         {of(func(p *Presence) { p.Role = "king" }), "", "", false},
		"other credentials":       {of(func(p *Presence) { p.Now = 4 }), "", "", false},
		"suspended":               {of(func(p *Presence) { p.Account = &suspended }), "", "", false},
		"taken down":              {of(func(p *Presence) { p.Account = &takenDown }), "", "", false},
		"deactivated":             {of(func(p *Presence) { p.Account = &deactivated }), "", "", false},
		"account gone":            {of(func(p *Presence) { p.Account = nil }), "", "", false},
		"no account's password":   {of(func(p *Presence) { p.AccountID, p.Account, p.Password = 0, nil, nil }), "", "", false},
		"admin password":          {admin(func(*Presence) {}), "admin", RoleAdmin, true},
		"another admin password":  {admin(func(p *Presence) { p.Password = []byte("print of the old one!") }), "", "", false},
		"nearly eight hours":      {admin(func(p *Presence) { p.MadeAt = ago(PresenceLife - 1) }), "admin", RoleAdmin, false},
		"eight hours":             {admin(func(p *Presence) { p.MadeAt = ago(PresenceLife) }), "", "", false},
		"nearly unused for long":  {admin(func(p *Presence) { p.SeenAt = ago(PresenceIdle - 1) }), "admin", RoleAdmin, true},
		"unused for too long":     {admin(func(p *Presence) { p.SeenAt = ago(PresenceIdle) }), "", "", false},
		"made by a clock ahead":   {admin(func(p *Presence) { p.MadeAt = now.Add(PresenceLife) }), "", "", false},
		"ten minutes old":         {admin(func(p *Presence) { p.MadeAt = ago(FreshLife) }), "admin", RoleAdmin, false},
		"ahead by more than that": {admin(func(p *Presence) { p.MadeAt = now.Add(FreshLife) }), "admin", RoleAdmin, false},
	} {
		v, ok := c.p.visitor(now, password)
		if ok != (c.who != "") || ok && (v.Who != c.who || v.Role != c.role || v.Fresh != c.fresh) {
			t.Errorf("%s: %+v, %v", name, v, ok)
		}
	}
}
