package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/session"
	"nestbox/takeover"
)

// oldServer is the reference's refresh_token table of one account, as its source changes it
// (account-manager.ts, helpers/auth.ts of @atproto/pds 0.5.35).
type oldServer struct {
	now  time.Time
	rows map[string]*takeover.RefreshToken
	made int
}

const oldGrace, oldLife = 2 * time.Hour, 90 * day

func (o *oldServer) issue(jti, app string) string {
	if jti == "" {
		o.made++
		jti = "jti-" + strconv.Itoa(o.made)
	}
	if o.rows[jti] == nil { // on conflict do nothing
		o.rows[jti] = &takeover.RefreshToken{ID: jti, Expires: o.now.Truncate(time.Second).Add(oldLife), AppPassword: app, OfApp: app != ""}
	}
	return jti
}

func (o *oldServer) refresh(jti string) (next string, ok bool) {
	row := o.rows[jti]
	if row == nil {
		return "", false
	}
	for id, r := range o.rows {
		if !r.Expires.After(o.now) {
			delete(o.rows, id)
		}
	}
	expires := o.now.Add(oldGrace)
	if row.Expires.Before(expires) {
		expires = row.Expires
	}
	if !expires.After(o.now) {
		return "", false
	}
	next = o.issue(row.Next, row.AppPassword)
	row.Next, row.Expires = next, expires
	return next, true
}

func (o *oldServer) signOut(jti string) { delete(o.rows, jti) }

func (o *oldServer) revoke(app string) {
	for id, r := range o.rows {
		if r.OfApp && r.AppPassword == app {
			delete(o.rows, id)
		}
	}
}

// oldRows are what a take-over reads, of any accounts.
type oldRows map[string][]takeover.RefreshToken

func (o oldRows) RefreshTokens(_ context.Context, yield func(string, []takeover.RefreshToken) error) error {
	for did, rows := range o {
		if err := yield(did, rows); err != nil {
			return err
		}
	}
	return nil
}

// moved is a session as it should be here: what the oracle knows of it.
type moved struct {
	app   string
	scope auth.Scope
	alive bool
	// tokens are the old ones that stand for a generation.
	tokens map[string]int64
	// sid, once known, and whether the pair of a generation was given out here.
	sid  string
	head int64
	// at[n] is when the head moved to generation n.
	at []time.Time
}

// follow returns what the oracle expects of the old server's rows: each row without a
// successor that has not expired is a session, and all rows that lead to it are its
// generations. It walks backwards, unlike the code.
func follow(rows map[string]*takeover.RefreshToken, apps map[string]auth.Scope, now time.Time) (all []*moved, dead []string) {
	led := map[string]bool{}
	for _, head := range rows {
		if head.Next != "" || !head.Expires.After(now) {
			continue
		}
		scope, known := auth.ScopeAccess, true
		if head.OfApp {
			scope, known = apps[head.AppPassword]
		}
		if !known {
			continue
		}
		path := []*takeover.RefreshToken{head}
		for {
			var before *takeover.RefreshToken
			for _, r := range rows {
				if r.Next == path[0].ID {
					before = r
				}
			}
			if before == nil {
				break
			}
			path = slices.Insert(path, 0, before)
		}
		m := &moved{app: head.AppPassword, scope: scope, alive: true, tokens: map[string]int64{}, head: int64(len(path) - 1)}
		for i, r := range path {
			led[r.ID] = true
			m.tokens[r.ID] = int64(i)
			moved := head.Expires.Add(-oldLife)
			if i > 0 {
				moved = path[i-1].Expires.Add(-oldGrace)
			}
			m.at = append(m.at, moved)
		}
		all = append(all, m)
	}
	for id := range rows {
		if !led[id] {
			dead = append(dead, id)
		}
	}
	return all, dead
}

// TestInheritedAgainstOracle: sign-ins, refreshes, lost answers, forks, app passwords and
// sign-outs on the old server, a take-over, and the same on this one.
func TestInheritedAgainstOracle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir())
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		w.clock.Set(midnight)
		a := w.account("a"+strconv.Itoa(n), "none")
		m := inheritance{world: w, t: rt, a: a, old: oldServer{now: w.clock.Now(), rows: map[string]*takeover.RefreshToken{}}}
		m.before()
		m.takeOver()
		m.after()
	})
}

var midnight = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// inheritance is one run of the model.
type inheritance struct {
	*world

	t    *rapid.T
	a    *account.Account
	old  oldServer
	held []string // every token that any client ever got
	apps map[string]auth.Scope
	all  []*moved
	dead []string
	took time.Time
	// foreign: the old server's access tokens have ended.
	foreign bool
	// fresh are tokens of ours that clients got, by session.
	fresh map[*moved][]auth.Token
}

func (m *inheritance) pause() time.Duration {
	return time.Duration(rapid.OneOf(
		rapid.Int64Range(0, 5), rapid.Int64Range(0, int64(90*time.Minute/time.Millisecond)),
		rapid.Int64Range(0, int64(30*time.Hour/time.Millisecond)),
	).Draw(m.t, "pause")) * time.Millisecond
}

func (m *inheritance) before() {
	m.apps = map[string]auth.Scope{"phone": auth.ScopeAppPass, "watch": auth.ScopeAppPassPrivileged}
	for range rapid.IntRange(1, 30).Draw(m.t, "steps before") {
		m.old.now = m.old.now.Add(m.pause())
		what := rapid.SampledFrom([]string{"sign in", "refresh", "refresh", "refresh", "newest", "newest", "sign out", "revoke", "long"}).Draw(m.t, "what")
		switch {
		case what == "sign in" || len(m.held) == 0:
			app := rapid.SampledFrom([]string{"", "", "phone", "watch"}).Draw(m.t, "app")
			if _, there := m.apps[app]; app == "" || there {
				m.held = append(m.held, m.old.issue("", app))
			}
		case what == "revoke":
			app := rapid.SampledFrom([]string{"phone", "watch"}).Draw(m.t, "app")
			if rapid.IntRange(0, 4).Draw(m.t, "really") > 0 {
				continue
			}
			if rapid.Bool().Draw(m.t, "with its tokens") { // deactivation through OAuth leaves them
				m.old.revoke(app)
			}
			delete(m.apps, app)
		case what == "long":
			m.old.now = m.old.now.Add(time.Duration(rapid.IntRange(0, 30).Draw(m.t, "days")) * day)
		default:
			i := len(m.held) - 1
			if what != "newest" {
				i = rapid.IntRange(0, len(m.held)-1).Draw(m.t, "token")
			}
			if what == "sign out" {
				m.old.signOut(m.held[i])
			} else if next, ok := m.old.refresh(m.held[i]); ok && !slices.Contains(m.held, next) {
				m.held = append(m.held, next)
			}
		}
	}
}

func (m *inheritance) takeOver() {
	m.took = m.old.now.Add(m.pause())
	m.clock.Set(m.took)
	for name, scope := range m.apps {
		m.storeAppPassword(m.a, name, "none", scope == auth.ScopeAppPassPrivileged)
	}
	m.all, m.dead = follow(m.old.rows, m.apps, m.took)
	for _, id := range m.held {
		if m.old.rows[id] == nil {
			m.dead = append(m.dead, id)
		}
	}
	var rows []takeover.RefreshToken
	for _, r := range m.old.rows {
		rows = append(rows, *r)
	}
	src := oldRows{m.a.DID.String(): rows, "did:plc:stranger": {{ID: "stranger", Expires: m.took.Add(day)}}, "": {{ID: "x"}}}
	for range 2 { // a take-over may be repeated
		counts, err := takeover.BringSessions(m.world.t.Context(), src, m.World.Legacy, m.took)
		if err != nil || counts.Sessions != len(m.all) || counts.Damaged != 0 {
			m.t.Fatalf("%d sessions should come, counts %+v, error %v", len(m.all), counts, err)
		}
	}
	m.check()
}

// check compares the sessions that there are with the oracle's.
func (m *inheritance) check() {
	list, err := m.Store.List(m.world.t.Context(), m.a.ID)
	if err != nil {
		m.t.Fatal(err)
	}
	alive := 0
	for _, s := range m.all {
		if s.alive {
			alive++
		}
	}
	if len(list) != alive {
		m.t.Fatalf("%d sessions, want %d", len(list), alive)
	}
	a, err := m.Accounts.ByDID(m.world.t.Context(), m.a.DID)
	if err != nil {
		m.t.Fatal(err)
	}
	token := auth.Token{DID: m.a.DID, IssuedAt: m.took.Add(-time.Second)}
	if st, err := m.Standing(m.world.t.Context(), token); err != nil || st.Live == m.foreign {
		m.t.Fatalf("an access token of the old server lives: %t, %v; tokens valid after %s", st.Live, err, a.TokensValidAfter)
	}
}

// after plays what clients do on this server.
func (m *inheritance) after() {
	m.fresh = map[*moved][]auth.Token{}
	for range rapid.IntRange(0, 30).Draw(m.t, "steps after") {
		m.clock.Advance(m.pause())
		if len(m.dead) > 0 && (len(m.all) == 0 || rapid.IntRange(0, 5).Draw(m.t, "dead") == 0) {
			id := rapid.SampledFrom(m.dead).Draw(m.t, "dead token")
			if _, err := m.Refresh(m.world.t.Context(), m.oldToken(id)); !errors.Is(err, session.ErrUnknown) {
				m.t.Fatalf("%s stands for nothing, and its refresh is %v", id, err)
			}
			continue
		}
		if len(m.all) == 0 {
			return
		}
		s := rapid.SampledFrom(m.all).Draw(m.t, "session")
		switch token, n := m.anyToken(s); rapid.IntRange(0, 14).Draw(m.t, "what") {
		case 0:
			if err := m.SignOut(m.world.t.Context(), token); err != nil {
				m.t.Fatal(err)
			}
			m.ended(s)
		case 1:
			if _, there := m.apps[s.app]; !there {
				continue
			}
			delete(m.apps, s.app)
			if err := m.Accounts.RevokeAppPassword(m.world.t.Context(), m.a.ID, s.app, m.entry(account.EntryAppPasswordRevoked)); err != nil {
				m.t.Fatal(err)
			}
			m.foreign = true
			for _, other := range m.all {
				if other.app == s.app {
					other.alive = false
				}
			}
		default:
			m.present(s, token, n)
		}
	}
	m.check()
}

// ended notes that a session ended: within two hours of the take-over the old server's
// access tokens end too.
func (m *inheritance) ended(s *moved) {
	m.foreign = m.foreign || s.alive && m.clock.Now().Sub(m.took) < session.ForeignLife
	s.alive = false
}

func (m *inheritance) oldToken(id string) auth.Token {
	return auth.Token{Scope: auth.ScopeRefresh, DID: m.a.DID, JTI: id}
}

// anyToken draws one of a session's tokens: of the old server, or of this one.
func (m *inheritance) anyToken(s *moved) (auth.Token, int64) {
	ids := make([]string, len(s.tokens))
	for id, n := range s.tokens {
		ids[n] = id
	}
	i := rapid.IntRange(0, len(ids)+len(m.fresh[s])-1).Draw(m.t, "token")
	if rapid.Bool().Draw(m.t, "newest") {
		i = len(ids) + len(m.fresh[s]) - 1
	}
	if i < len(ids) {
		return m.oldToken(ids[i]), int64(i)
	}
	token := m.fresh[s][i-len(ids)]
	n, err := strconv.ParseInt(token.JTI[strings.LastIndexByte(token.JTI, '.')+1:], 10, 64)
	if err != nil {
		m.t.Fatal(err)
	}
	return token, n
}

// present refreshes, and compares the answer with the contract's table.
func (m *inheritance) present(s *moved, token auth.Token, n int64) {
	now := m.clock.Now()
	signed, err := m.Refresh(m.world.t.Context(), token)
	said := fmt.Sprintf("generation %d (%s), head %d at %s: %v", n, token.JTI, s.head, now, err)
	if !s.alive {
		if !errors.Is(err, session.ErrUnknown) {
			m.t.Fatalf("of an ended session: %s", said)
		}
		return
	}
	want := s.head
	switch {
	case n == s.head:
		want = s.head + 1
		s.head = want
		s.at = append(s.at, now)
	case n < s.head-1:
		age := now.Sub(s.at[n+2])
		if errors.Is(err, session.ErrReused) && age >= day {
			return
		}
		if age >= day+day/8 {
			m.t.Fatalf("too old: %s", said)
		}
	}
	if err != nil {
		m.t.Fatal(said)
	}
	refresh, access := m.token(signed.Refresh), m.access(signed.Access)
	if s.sid == "" {
		s.sid = refresh.SID
	}
	if refresh.SID != s.sid || refresh.JTI != s.sid+"."+strconv.FormatInt(want, 10) || access.Scope != s.scope || access.SID != s.sid {
		m.t.Fatalf("got %+v, %+v, want generation %d of %s with scope %s: %s", refresh, access, want, s.sid, s.scope, said)
	}
	m.fresh[s] = append(m.fresh[s], refresh)
}
