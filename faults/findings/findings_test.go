package findings_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/faults/findings"
)

// life is that of the access tokens of the scripted server.
const life = 20 * time.Second

// server is a server as clients see it: sessions with generations, and faults.
type server struct {
	now      time.Time
	draw     *rand.Rand
	calls    []findings.Call
	sessions map[string]*state
	// calm: no fault happens, except those that a script wants.
	calm bool
}

type state struct {
	head  int64
	ended bool
}

// script is a client with at most one bad habit.
type script struct {
	*server

	habit      findings.Kind
	session    string
	generation int64     // of the refresh token that it has
	made       time.Time // when its access token was
	records    int
}

// fate is what happens to a call on purpose.
type fate struct {
	status int
	name   string
	wait   time.Duration
	lost   bool
	slow   bool // the client gives the call up after patience, which the server notices later
}

const patience = 10 * time.Second

func (s *server) fate() fate {
	if s.calm {
		return fate{}
	}
	switch s.draw.IntN(25) {
	case 0:
		return fate{status: 500, name: "InternalServerError"}
	case 1:
		return fate{status: 503, name: "ServiceUnavailable", wait: 3 * time.Second}
	case 2:
		return fate{status: 429, name: "RateLimitExceeded", wait: 5 * time.Second}
	case 3:
		return fate{status: 502}
	case 4, 5:
		return fate{lost: true}
	case 6:
		return fate{status: 401, name: "use_dpop_nonce"}
	case 7:
		return fate{slow: true}
	}
	return fate{}
}

// life is that of the access tokens: one that lives for seconds is not refreshed early.
func (s *script) life() time.Duration {
	if s.habit == findings.Early {
		return time.Hour
	}
	return life
}

// answer completes a call and notes it: what the server does, then what the client gets.
func (s *script) answer(c findings.Call, f fate, took time.Duration) findings.Call {
	c.At, c.Client, c.Caller, c.Account = s.now, "app/1", "127.0.0.1:4000", "did:plc:alice"
	c.Given, c.Status = findings.None, 200
	st := s.sessions[c.Session]
	switch {
	case f.status != 0:
		c.Status, c.Error, c.RetryAfter = f.status, f.name, f.wait
	case c.Purpose == findings.SignIn:
		c.Session = fmt.Sprintf("s%d", len(s.sessions))
		s.sessions[c.Session] = &state{}
		c.Given, c.Life = 0, s.life()
	case c.Foreign:
		c.Status, c.Error = 400, "InvalidToken"
	case c.Purpose == findings.Refresh && c.Token == findings.RefreshToken:
		if st.ended {
			c.Status, c.Error = 400, "ExpiredToken"
			break
		}
		if c.Generation == st.head {
			st.head++
		}
		c.Given, c.Life = st.head, s.life()
	case c.Purpose == findings.SignOut:
		st.ended = true
	case c.Purpose == findings.Refresh || c.Token != findings.AccessToken:
		c.Status, c.Error = 400, "InvalidToken"
	case st.ended || !s.now.Before(s.made.Add(s.life())):
		c.Status, c.Error = 400, "ExpiredToken"
	}
	c.Lost = f.lost || f.slow
	c.End = s.now.Add(took)
	c.Expires = c.End.Add(c.Life)
	s.now = c.End
	if f.slow {
		s.now = c.At.Add(patience)
		c.End = s.now.Add(time.Duration(s.draw.IntN(3000)) * time.Millisecond)
	}
	s.calls = append(s.calls, c)
	if !c.Lost && c.Given != findings.None {
		s.session = c.Session
		if s.habit != findings.Unused || c.Purpose == findings.SignIn {
			s.generation = c.Given
		}
		s.made = s.now
	}
	return c
}

const quick = 50 * time.Millisecond

func (s *script) think(d time.Duration) { s.now = s.now.Add(d) }

// call makes a call, and repeats it as it should until the answer is not for the moment only.
func (s *script) call(c findings.Call) findings.Call {
	for {
		got := s.answer(c, s.fate(), quick)
		switch {
		case got.Error == "use_dpop_nonce" && !got.Lost:
			if s.habit == findings.NonceIgnored {
				s.think(time.Minute)
				return got
			}
			continue
		case !got.Lost && got.Status < 500 && got.Status != 429:
			return got
		case c.Unsafe && (got.Lost || got.Status != 503 && got.Status != 429):
			return got // it may be done
		case c.Purpose == findings.Refresh && s.habit == findings.Dropped:
			return got
		}
		s.think(max(got.RetryAfter, time.Second))
	}
}

func (s *script) signIn() {
	for s.session = ""; s.session == ""; {
		s.call(findings.Call{Purpose: findings.SignIn, Verb: "POST", Method: "createSession", Generation: findings.None, Digest: "sign in"})
	}
}

// refresh moves the session on, and signs in again if it has ended.
func (s *script) refresh() {
	c := findings.Call{
		Purpose: findings.Refresh, Verb: "POST", Method: "refreshSession", Session: s.session, Token: findings.RefreshToken, Generation: s.generation,
		Digest: fmt.Sprint("refresh ", s.session, s.generation),
	}
	switch s.habit { //nolint:exhaustive // the others refresh as anybody
	case findings.AtOnce:
		ended := false
		for range 3 {
			ended = s.answer(c, fate{}, quick).Status == 400
			s.now = s.now.Add(-quick / 2)
		}
		s.think(quick)
		if ended {
			s.signIn()
		}
		return
	case findings.Stale:
		if s.generation >= 2 && s.draw.IntN(2) == 0 {
			c.Generation = s.generation - 2
			c.Digest += " again"
		}
	case findings.WrongToken:
		wrong := c
		wrong.Token, wrong.Generation, wrong.Digest = findings.AccessToken, findings.None, ""
		s.answer(wrong, fate{}, quick)
	}
	got := s.call(c)
	switch {
	case got.Given != findings.None && !got.Lost, got.Status == 401:
	case got.Status == 400 && s.habit == findings.Kept:
		for range 20 {
			s.think(2 * time.Second)
			s.answer(findings.Call{Verb: "GET", Method: "getTimeline", Session: s.session, Token: findings.AccessToken, Generation: findings.None}, fate{}, quick)
		}
		s.signIn()
	default:
		if s.habit == findings.Dropped {
			s.drop()
			return
		}
		s.signIn()
	}
}

// drop is what a client does that drops its session for a refresh that failed: it signs in, perhaps after a
// sign-out or a call of another tab, or it signs out of the old session afterwards, as the OAuth library does.
func (s *script) drop() {
	tab := findings.Call{Verb: "GET", Method: "getTimeline", Session: s.session, Token: findings.AccessToken, Generation: findings.None}
	out := findings.Call{
		Purpose: findings.SignOut, Verb: "POST", Method: "deleteSession", Session: s.session, Token: findings.RefreshToken, Generation: s.generation,
	}
	how := s.draw.IntN(4)
	switch how {
	case 1:
		s.answer(out, fate{}, quick)
	case 2:
		s.answer(tab, fate{}, quick)
	}
	s.signIn()
	if how == 3 {
		s.answer(out, fate{}, quick)
	}
}

// read and write are what people do with the app.
func (s *script) act() {
	c := findings.Call{Verb: "GET", Method: "getTimeline", Session: s.session, Token: findings.AccessToken, Generation: findings.None}
	s.records++
	c.Digest = fmt.Sprint("read ", s.records)
	if s.records%3 == 0 {
		c.Verb, c.Method, c.Unsafe, c.Digest = "POST", "createRecord", true, fmt.Sprint("write ", s.records)
	}
	switch s.habit { //nolint:exhaustive // the others act as anybody
	case findings.MovedAddress:
		c.Moved = "the handle alice.test, which is now alice.example.com"
	case findings.ForeignToken:
		if s.records%5 == 0 {
			foreign := c
			foreign.Foreign = true
			s.answer(foreign, fate{}, quick)
		}
	case findings.RepeatedPost:
		if c.Unsafe {
			s.answer(c, fate{lost: true}, quick)
			s.think(2 * time.Second)
		}
	case findings.Impatient:
		if !c.Unsafe {
			s.answer(c, fate{status: 429, name: "RateLimitExceeded", wait: 5 * time.Second}, quick)
			s.think(quick)
		}
	case findings.Early:
		if s.records%3 == 0 {
			s.refresh()
			c.Session = s.session
		}
	}
	if got := s.call(c); got.Status == 400 && !got.Lost {
		s.refresh()
	}
}

// run has a client use a server until so many calls are made.
func run(seed uint64, habit findings.Kind, calm bool, calls int) []findings.Call {
	s := &script{server: &server{
		now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), draw: rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // no secret
		sessions: map[string]*state{}, calm: calm,
	}, habit: habit}
	s.signIn()
	for len(s.calls) < calls {
		s.think(time.Duration(1+s.draw.IntN(5)) * time.Second)
		switch s.draw.IntN(60) {
		case 0: // somebody else ends the session
			s.sessions[s.session].ended = true
		case 1:
			if habit != findings.PilingUp {
				s.call(findings.Call{
					Purpose: findings.SignOut, Verb: "POST", Method: "deleteSession", Session: s.session, Token: findings.RefreshToken,
					Generation: s.generation, Digest: "sign out " + s.session,
				})
			}
			s.signIn()
		default:
			s.act()
		}
	}
	return s.calls
}

func kinds(found []findings.Finding) (kinds []findings.Kind) {
	for _, f := range found {
		if !slices.Contains(kinds, f.Kind) {
			kinds = append(kinds, f.Kind)
		}
	}
	return kinds
}

// TestGoodClient: a client that follows the rules gets no finding in 10,000 calls, whatever happens
// to them.
func TestGoodClient(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		calls := run(seed, "", false, 10_000)
		lost, refused, ended := 0, 0, 0
		for _, c := range calls {
			switch {
			case c.Lost:
				lost++
			case c.Status >= 429:
				refused++
			case c.Purpose == findings.Refresh && c.Status == 400:
				ended++
			}
		}
		if lost < 100 || refused < 100 || ended < 20 {
			t.Fatalf("seed %d: %d lost, %d refused, %d ended: too few to show anything", seed, lost, refused, ended)
		}
		for _, f := range findings.Of(calls) {
			t.Errorf("seed %d: %s: %s", seed, f.Kind, f.Evidence)
		}
	}
}

// TestBadClients: each bad habit gives the finding of its name and no other. Faults happen
// besides, except to the client that signs in again and again: it looks as if they were why.
func TestBadClients(t *testing.T) {
	t.Parallel()
	for _, line := range findings.Lines() {
		found := findings.Of(run(1, line.Kind, line.Kind == findings.PilingUp, 3000))
		if got := kinds(found); len(got) != 1 || got[0] != line.Kind {
			t.Errorf("%s: found %q", line.Kind, got)
			for _, f := range found {
				if f.Kind != line.Kind {
					t.Logf("%s: %q", f.Kind, f.Evidence)
				}
			}
			continue
		}
		for _, f := range found {
			if f.Times == 0 || len(f.Evidence) == 0 || f.First.IsZero() || f.Last.Before(f.First) || f.Client != "app/1" {
				t.Errorf("%s: %+v", line.Kind, f)
			}
		}
		if line.Means == "" || line.Advice == "" || strings.ToLower(string(line.Kind)) != string(line.Kind) {
			t.Errorf("%+v", line)
		}
	}
}

// TestSpared: what is not the client's mistake, and what is.
func TestSpared(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	none := int64(findings.None)
	in := findings.Call{Purpose: findings.SignIn, Method: "createSession", Generation: none, Given: 0, Account: "alice.test", DID: "did:plc:a", Session: "s1"}
	refresh := func(generation, given int64) findings.Call {
		return findings.Call{Purpose: findings.Refresh, Method: "refreshSession", Token: findings.RefreshToken, Generation: generation, Given: given, Session: "s1", Account: "did:plc:a"}
	}
	refused := func(generation int64) findings.Call {
		c := refresh(generation, none)
		c.Status, c.Error = 400, "ExpiredToken"
		return c
	}
	call := func(status int, name string) findings.Call {
		return findings.Call{Method: "getTimeline", Token: findings.AccessToken, Generation: none, Given: none, Session: "s1", Account: "did:plc:a", Status: status, Error: name}
	}
	many := func(n int, all ...findings.Call) (calls []findings.Call) {
		for range n {
			calls = append(calls, all...)
		}
		return calls
	}
	asked := findings.Call{Method: "/oauth/token", Verb: "POST", Purpose: findings.SignIn, ClientID: "x", Generation: none, Given: none, Status: 400, Error: "use_dpop_nonce"}
	exchanged := findings.Call{Method: "/oauth/token", Verb: "POST", Purpose: findings.SignIn, ClientID: "x", Generation: none, Given: 0, DID: "did:plc:a", Session: "s2"}
	hasty := findings.Call{Purpose: findings.SignIn, Method: "createSession", Generation: none, Given: none, Account: "alice.test", Status: 429, RetryAfter: time.Minute, Digest: "in", Caller: "a"}
	again := in
	again.Digest, again.Caller = "in", "a"
	var down []findings.Call
	for i := range 5 {
		s, c := in, call(401, "AccountTakedown")
		s.Session = string(rune('a' + i))
		c.Session = s.Session
		c.Account = s.DID
		down = append(down, s, c)
	}
	over := refused(0)
	over.Status, over.Error = 401, "AccountTakedown"
	short := refresh(0, 1)
	behind := in
	behind.Life, behind.Expires = 20*time.Second, at.Add(-3*time.Minute)
	for name, c := range map[string]struct {
		calls []findings.Call
		want  []findings.Kind
	}{
		"by the token's exp":       {[]findings.Call{behind, short}, nil},
		"a tab with an old token":  {append([]findings.Call{in, refresh(0, 1), refresh(1, 2), refused(1)}, many(12, call(200, ""))...), []findings.Kind{findings.Unused}},
		"back again":               {append([]findings.Call{in, refused(0), refresh(0, 1)}, many(12, call(200, ""))...), nil},
		"eight tabs":               {append([]findings.Call{in}, many(8, call(400, "ExpiredToken"), refused(0))...), nil},
		"again and again":          {append([]findings.Call{in}, many(12, refused(0))...), []findings.Kind{findings.Kept}},
		"never refreshes":          {append([]findings.Call{in}, many(12, call(400, "ExpiredToken"))...), []findings.Kind{findings.Kept}},
		"never refreshes by OAuth": {append([]findings.Call{in}, many(12, call(401, "invalid_token"))...), []findings.Kind{findings.Kept}},
		"deactivated":              {append([]findings.Call{in}, many(12, call(401, "AccountDeactivated"))...), nil},
		"a method for others":      {append([]findings.Call{in}, many(12, call(401, "UntrustedIss"))...), nil},
		"a fault of a 401":         {append([]findings.Call{in}, many(12, call(401, "AuthenticationRequired"))...), nil},
		"refused by one service":   {append([]findings.Call{in}, many(12, call(400, "ExpiredToken"), call(200, ""))...), nil},
		"the access token lives":   {append([]findings.Call{in, refused(0)}, many(12, call(200, ""))...), nil},
		"taken down, and again":    {append([]findings.Call{in, over}, many(12, call(401, "AccountTakedown"))...), []findings.Kind{findings.Kept}},
		"a code with a nonce":      {append([]findings.Call{asked, exchanged}, many(20, call(200, ""))...), nil},
		"sign-in too soon":         {[]findings.Call{hasty, again}, []findings.Kind{findings.Impatient}},
		"taken down":               {down, nil},
	} {
		now := at
		for i := range c.calls {
			k := &c.calls[i]
			k.At, k.End, k.Client = now, now.Add(quick), "app/1"
			if k.Status == 0 {
				k.Status = 200
			}
			now = now.Add(2 * time.Second)
		}
		if got := kinds(findings.Of(c.calls)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestEvidence: a finding has what was seen.
func TestEvidence(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	call := func(after time.Duration, c findings.Call) findings.Call {
		c.At, c.End, c.Client, c.Session, c.Status = at.Add(after), at.Add(after+quick), "app/1", "s1", 200
		return c
	}
	calls := []findings.Call{
		call(0, findings.Call{Purpose: findings.SignIn, Method: "createSession", Generation: findings.None, Given: 0, Life: life}),
		call(life, findings.Call{Purpose: findings.Refresh, Method: "refreshSession", Token: findings.RefreshToken, Generation: 0, Given: 1, Life: life}),
		call(2*life, findings.Call{Purpose: findings.Refresh, Method: "refreshSession", Token: findings.RefreshToken, Generation: 0, Given: 1, Life: life}),
	}
	found := findings.Of(calls)
	want := "12:00:40.000 refresh with generation 0, though generation 1 had come 19.95s before"
	if len(found) != 1 || found[0].Kind != findings.Unused || found[0].Evidence[0] != want {
		t.Errorf("%+v", found)
	}
	if found := findings.Of(nil); len(found) != 0 {
		t.Errorf("of nothing: %+v", found)
	}
}
