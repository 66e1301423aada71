package device_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"pgregory.net/rapid"

	"nestbox/account"
	"nestbox/device"
	"nestbox/hosting"
	"nestbox/session"
	"nestbox/store/storetest"
)

// story is a browser with two people, and what a thief of its cookies can do, beside what
// must be true of them.
type story struct {
	*rapid.T
	*storetest.World

	devices *device.Service
	people  []*account.Account
	thief   *account.Account

	// cookie is the browser's own.
	cookie string
	// signedIn are the accounts that the browser knows to be signed in, by when they were
	// used last; trusted are those that it need not prove twice.
	signedIn map[int64]time.Time
	trusted  map[int64]bool
	// stolen are cookies that a thief has, with the accounts that each may ever show.
	stolen map[string]map[int64]bool
	// used: the thief has used one of them, so that the browser may find itself signed out.
	used bool
}

// newStory begins a story, the nth of a world.
func newStory(t *rapid.T, w *storetest.World, n int) *story {
	s := &story{
		T: t, World: w, signedIn: map[int64]time.Time{}, trusted: map[int64]bool{}, stolen: map[string]map[int64]bool{},
		devices: &device.Service{Store: w.Devices, Now: w.Clock.Now, Log: slog.New(slog.DiscardHandler)},
	}
	for _, name := range []string{"alice", "bob"} {
		s.people = append(s.people, w.Account(hosting.Pending{Handle: syntax.Handle(fmt.Sprintf("%s%d.test", name, n))}))
	}
	s.thief = w.Account(hosting.Pending{Handle: syntax.Handle(fmt.Sprintf("mallory%d.test", n))})
	return s
}

func (s *story) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// answer lets an answer come, later, or never.
func (s *story) answer(cookie string) (came bool) {
	if cookie == "" {
		return true
	}
	if rapid.IntRange(0, 4).Draw(s.T, "lost") == 0 {
		return false
	}
	s.cookie = cookie
	return true
}

// shows returns the accounts that a cookie proves now.
func (s *story) shows(cookie string) map[int64]bool {
	s.Helper()
	v, err := s.devices.Visit(s.Context(), cookie, 0)
	s.must(err)
	shown := map[int64]bool{}
	for _, in := range v.Live() {
		shown[in.AccountID] = true
	}
	return shown
}

func (s *story) look(*rapid.T) {
	a := s.person()
	v, err := s.devices.Visit(s.Context(), s.cookie, a.ID)
	s.must(err)
	if at, ok := s.signedIn[a.ID]; ok && s.Clock.Now().Sub(at) < device.TabLife-10*time.Minute {
		s.signedIn[a.ID] = s.Clock.Now()
	}
	s.answer(v.Cookie)
}

func (s *story) person() *account.Account {
	return rapid.SampledFrom(s.people).Draw(s.T, "who")
}

// twoTabs looks in one tab while another signs in; the answers come in either order.
func (s *story) twoTabs(*rapid.T) {
	a, before := s.person(), s.cookie
	first := rapid.Bool().Draw(s.T, "look first")
	var cookies []string
	lookNow := func() {
		v, err := s.devices.Visit(s.Context(), before, 0)
		s.must(err)
		cookies = append(cookies, v.Cookie)
	}
	if first {
		lookNow()
	}
	v := s.signInWith(before, a)
	cookies = append(cookies, v.Cookie)
	if !first {
		lookNow()
	}
	if rapid.Bool().Draw(s.T, "other order") {
		slices.Reverse(cookies)
	}
	for _, c := range cookies {
		if c != "" {
			s.cookie = c
		}
	}
	delete(s.signedIn, a.ID) // which of the two secrets the browser ended with decides
	if s.cookie == v.Cookie {
		s.signedIn[a.ID] = s.Clock.Now()
	}
}

func (s *story) signInWith(cookie string, a *account.Account) device.Visit {
	s.Helper()
	v := s.visit(cookie)
	if v.Cookie != "" { // the page with the form has come
		v = s.visit(v.Cookie)
	}
	trust := rapid.Bool().Draw(s.T, "trust")
	s.trusted[a.ID] = trust || v.Trusts(a.ID)
	return s.prove(v, a, trust)
}

func (s *story) visit(cookie string) device.Visit {
	s.Helper()
	v, err := s.devices.Visit(s.Context(), cookie, 0)
	s.must(err)
	return v
}

// prove signs an account in on the browser of a visit.
func (s *story) prove(v device.Visit, a *account.Account, trust bool) device.Visit {
	s.Helper()
	cred, err := s.Accounts.Credentials(s.Context(), a.ID)
	s.must(err)
	v, err = s.devices.SignIn(s.Context(), v, device.Person{
		Account: a, Epoch: cred.Epoch, Factors: "password", Level: 1, Trust: trust,
		Entry: account.NewEntry(s.Context(), s.Clock.Now(), account.EntrySignIn, account.ActorOwner),
	})
	s.must(err)
	return v
}

func (s *story) signIn(*rapid.T) {
	a := s.person()
	v := s.signInWith(s.cookie, a)
	delete(s.signedIn, a.ID)
	if s.answer(v.Cookie) {
		s.signedIn[a.ID] = s.Clock.Now()
	}
}

func (s *story) stepUp(*rapid.T) {
	a := s.person()
	v, err := s.devices.Visit(s.Context(), s.cookie, a.ID)
	s.must(err)
	after, err := s.devices.StepUp(s.Context(), v, device.Person{Account: a, Level: 2})
	if errors.Is(err, device.ErrUnknown) {
		return
	}
	s.must(err)
	if in, ok := after.SignIn(a.ID); !ok || in.Proof(after.At).Level != 2 {
		s.Fatalf("after a step-up: %+v", after.SignIns)
	}
	if _, ok := s.signedIn[a.ID]; ok {
		s.signedIn[a.ID] = s.Clock.Now()
	}
	s.answer(after.Cookie)
}

func (s *story) signOut(*rapid.T) {
	a := s.person()
	v, err := s.devices.Visit(s.Context(), s.cookie, 0)
	s.must(err)
	browser := browserOf(s.cookie)
	known := v.Known()
	if v, err = s.devices.SignOut(s.Context(), v, a.ID); err != nil {
		s.Fatal(err)
	}
	if known {
		delete(s.signedIn, a.ID)
		s.trusted[a.ID] = false
		for c, may := range s.stolen {
			if browserOf(c) == browser {
				delete(may, a.ID)
			}
		}
	}
	s.answer(v.Cookie)
}

// endOthers ends an account everywhere but on this browser. Once the answer has come and is
// used, no copy of the browser's cookie shows anybody; if it is lost, nobody is signed out.
func (s *story) endOthers(*rapid.T) {
	a := s.person()
	there := s.prove(device.Visit{}, a, false) // another browser
	v, err := s.devices.EndOthers(s.Context(), s.visit(s.cookie), a.ID, account.ActorOwner)
	if errors.Is(err, device.ErrUnknown) {
		if _, in := s.signedIn[a.ID]; in && len(s.stolen) == 0 {
			s.Fatalf("account %d is signed in, and cannot end the others", a.ID)
		}
		_, err = s.devices.SignOut(s.Context(), there, a.ID)
		s.must(err)
		return
	}
	s.must(err)
	if s.shows(there.Cookie)[a.ID] {
		s.Fatalf("account %d is signed in on another browser still", a.ID)
	}
	if !s.shows(s.cookie)[a.ID] {
		s.Fatalf("account %d is signed out on this browser", a.ID)
	}
	came := s.answer(v.Cookie)
	if came {
		s.shows(s.cookie)
	}
	for c, may := range s.stolen {
		switch {
		case browserOf(c) != browserOf(s.cookie):
			delete(may, a.ID)
		case came && c != s.cookie:
			s.stolen[c] = map[int64]bool{}
		}
	}
}

// browserOf returns the number of a cookie's browser.
func browserOf(cookie string) string {
	number, _, _ := strings.Cut(cookie, ".")
	return number
}

// ended: no cookie shows the account from now on.
func (s *story) ended(a *account.Account, all bool) {
	if !all {
		return
	}
	delete(s.signedIn, a.ID)
	s.trusted[a.ID] = false
	for _, may := range s.stolen {
		delete(may, a.ID)
	}
}

// endings are the changes that end sign-ins, or trust, by what they are.
func (s *story) endings() map[string]func(*account.Account) device.Ending {
	both, trust := device.Ending{SignIns: true, Trust: true}, device.Ending{Trust: true}
	ctx := s.Context()
	note := func(kind account.EntryKind) account.Entry {
		return account.NewEntry(ctx, s.Clock.Now(), kind, account.ActorOwner)
	}
	status := func(a *account.Account, c account.StatusChange, kind account.EntryKind) {
		_, err := s.Accounts.SetStatus(ctx, a.ID, c, note(kind))
		s.must(err)
	}
	yes := true
	return map[string]func(*account.Account) device.Ending{
		"password": func(a *account.Account) device.Ending {
			s.must(s.Accounts.SetPassword(ctx, a.ID, "new", 0, note(account.EntryPasswordChanged)))
			return both
		},
		"takedown": func(a *account.Account) device.Ending {
			status(a, account.StatusChange{Takedown: &account.Applied{Applied: true}}, account.EntryTakedown)
			status(a, account.StatusChange{Takedown: &account.Applied{}}, account.EntryTakedownLifted)
			return both
		},
		"suspension": func(a *account.Account) device.Ending {
			status(a, account.StatusChange{Suspended: &yes}, account.EntrySuspended)
			return device.Ending{}
		},
		"everything": func(a *account.Account) device.Ending {
			_, err := s.Sessions.EndAll(ctx, a.ID, false, note(account.EntryAllSignedOut))
			s.must(err)
			return both
		},
		"e-mail codes": func(a *account.Account) device.Ending {
			s.must(s.Accounts.SetEmail(ctx, a.ID, account.EmailChange{Factor: &yes}, note(account.EntryFactorOn)))
			return trust
		},
		"revoked": func(a *account.Account) device.Ending {
			all, err := s.devices.List(ctx, a.ID)
			s.must(err)
			for _, b := range all {
				s.must(s.devices.End(ctx, a.ID, b.ID, account.ActorAdmin))
			}
			return both
		},
		"a session": func(a *account.Account) device.Ending {
			cred, err := s.Accounts.Credentials(ctx, a.ID)
			s.must(err)
			st, err := s.Sessions.Create(ctx, session.New{AccountID: a.ID, Scope: "com.atproto.access", Epoch: cred.Epoch, At: s.Clock.Now(), Expires: s.Clock.Now(), Limit: 1, Entry: note(account.EntrySignIn)})
			s.must(err)
			s.must(s.Sessions.End(ctx, st.ID, note(account.EntrySessionRevoked)))
			return device.Ending{}
		},
	}
}

func (s *story) end(*rapid.T) {
	all := s.endings()
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(all))).Draw(s.T, "ending")
	a := s.person()
	ends := all[name](a)
	s.ended(a, ends.SignIns)
	if ends.Trust {
		s.trusted[a.ID] = false
	}
}

func (s *story) wait(*rapid.T) {
	s.Clock.Advance(rapid.SampledFrom([]time.Duration{time.Second, time.Hour, 3 * time.Hour, 25 * time.Hour}).Draw(s.T, "time"))
	for id, at := range s.signedIn {
		if s.Clock.Now().Sub(at) >= device.TabLife-10*time.Minute {
			delete(s.signedIn, id) // by now it may be over
		}
	}
}

func (s *story) collect(*rapid.T) {
	for after := int64(0); ; {
		next, _, err := s.Devices.Collect(s.Context(), after, s.Clock.Now())
		s.must(err)
		if next == 0 {
			return
		}
		after = next
	}
}

func (s *story) steal(*rapid.T) {
	if s.cookie != "" {
		s.stolen[s.cookie] = s.shows(s.cookie)
	}
}

// thieve uses a stolen cookie: to look, to end everything elsewhere, or to prove an account of
// the thief's own; and to keep what the answer brings.
func (s *story) thieve(*rapid.T) {
	if len(s.stolen) == 0 {
		return
	}
	c := rapid.SampledFrom(slices.Sorted(maps.Keys(s.stolen))).Draw(s.T, "stolen")
	may := maps.Clone(s.stolen[c])
	v, err := s.devices.Visit(s.Context(), c, s.people[0].ID)
	s.must(err)
	s.used = true
	switch rapid.SampledFrom([]string{"look", "end others", "sign in", "step up"}).Draw(s.T, "thieving") {
	case "look":
	case "end others":
		a := s.person()
		if v, err = s.devices.EndOthers(s.Context(), s.visit(c), a.ID, account.ActorOwner); errors.Is(err, device.ErrUnknown) {
			return
		}
		s.must(err)
		if !may[a.ID] && c != s.cookie {
			s.Fatalf("a stolen cookie that does not show account %d ends its sessions", a.ID)
		}
	case "sign in":
		v = s.prove(s.visit(c), s.thief, false)
		may[s.thief.ID] = true
	case "step up":
		if v, err = s.devices.StepUp(s.Context(), s.visit(c), device.Person{Account: s.thief, Level: 1}); errors.Is(err, device.ErrUnknown) {
			return
		}
		s.must(err)
	}
	if v.Cookie != "" {
		s.stolen[v.Cookie] = may
	}
}

// check is what must be true after each step.
func (s *story) check(*rapid.T) {
	for c, may := range s.stolen {
		for id := range s.shows(c) {
			if c != s.cookie && !may[id] {
				s.Fatalf("a stolen cookie shows account %d, which was signed in later or has been signed out", id)
			}
		}
	}
	if s.used || len(s.stolen) > 0 {
		return // looking with the thief's cookies, as above, counts too
	}
	v, err := s.devices.Visit(context.WithoutCancel(s.Context()), s.cookie, 0)
	s.must(err)
	for id := range s.signedIn {
		in, ok := v.SignIn(id)
		if !ok || !in.Live(v.At) {
			s.Fatalf("account %d is signed out without a cause", id)
		}
		if s.trusted[id] != v.Trusts(id) {
			s.Fatalf("account %d trusted: %v", id, v.Trusts(id))
		}
	}
	if v.Cookie != "" {
		s.cookie = v.Cookie
	}
}

// TestStory plays random stories of a browser: sign-ins, lost answers, two tabs, changes of
// the account that end sign-ins, a thief with copies of its cookie.
func TestStory(t *testing.T) {
	w, n := storetest.NewWorld(t), 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		s := newStory(t, w, n)
		t.Repeat(map[string]func(*rapid.T){
			"look": s.look, "sign in": s.signIn, "step up": s.stepUp, "sign out": s.signOut, "end others": s.endOthers, "two tabs": s.twoTabs,
			"end":  s.end,
			"wait": s.wait, "collect": s.collect, "steal": s.steal, "thieve": s.thieve, "": s.check,
		})
	})
}
