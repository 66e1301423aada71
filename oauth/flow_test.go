package oauth_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"pgregory.net/rapid"

	"nestbox/account"
	"nestbox/oauth"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// here is an account that signed in an hour ago, and that allowed everything before.
func here(name string, changes ...func(*oauth.Here)) oauth.Here {
	h := oauth.Here{
		DID: syntax.DID("did:plc:" + name), Handle: syntax.Handle(name + ".test"), Email: name + "@example.com",
		Status: account.Active, At: noon.Add(-time.Hour), Fresh: true, Remembered: true,
	}
	for _, c := range changes {
		c(&h)
	}
	return h
}

func stale(h *oauth.Here)       { h.Fresh = false }
func newHere(h *oauth.Here)     { h.Remembered = false }
func deactivated(h *oauth.Here) { h.Status = account.Deactivated }
func suspended(h *oauth.Here)   { h.Status = account.Suspended }
func takenDown(h *oauth.Here)   { h.Status = account.TakenDown }

// asking is a request of a client that can prove who it is, from a browser with some accounts.
func asking(in ...oauth.Here) oauth.Ask {
	return oauth.Ask{MaxAge: -1, Remembers: true, Silent: true, SignUp: true, Here: in, Now: noon}
}

func hint(a oauth.Ask, name string) oauth.Ask {
	did := syntax.DID("did:plc:" + name)
	a.Hint, a.HintText = &did, name+".test"
	return a
}

func with(a oauth.Ask, changes ...func(*oauth.Ask)) oauth.Ask {
	for _, c := range changes {
		c(&a)
	}
	return a
}

func public(a *oauth.Ask)        { a.Remembers = false }
func tapped(a *oauth.Ask)        { a.Silent = false }
func closed(a *oauth.Ask)        { a.SignUp = false }
func none(a *oauth.Ask)          { a.Prompt.None = true }
func login(a *oauth.Ask)         { a.Prompt.Login = true }
func consentAgain(a *oauth.Ask)  { a.Prompt.Consent = true }
func selectAccount(a *oauth.Ask) { a.Prompt.SelectAccount = true }
func create(a *oauth.Ask)        { a.Prompt.Create = true }
func minutes(n int) func(*oauth.Ask) {
	return func(a *oauth.Ask) { a.MaxAge = time.Duration(n) * time.Minute }
}
func wish(w oauth.Wish) func(*oauth.Ask) { return func(a *oauth.Ask) { a.Wish = w } }
func lost(a *oauth.Ask)                  { a.HintLost, a.HintText = true, "nobody.test" }
func byMail(a *oauth.Ask)                { a.HintText = "Alice@Example.com" }
func goOn(a *oauth.Ask)                  { a.GoOn = true }

// chosen and signedIn are what the flow has proven.
func chosen(h oauth.Here) func(*oauth.Ask) { return func(a *oauth.Ask) { a.Proven = &h } }

func signedIn(h oauth.Here) func(*oauth.Ask) {
	return func(a *oauth.Ask) { h.At = noon; a.Proven, a.InFlow = &h, true }
}

// say is what comes next, in short.
func say(n oauth.Next) string {
	var words []string
	switch {
	case n.Error != "":
		words = append(words, n.Error)
	case n.Allowed:
		words = append(words, "allowed")
	default:
		words = append(words, string(n.Step))
	}
	if n.Who != nil {
		words = append(words, strings.TrimPrefix(n.Who.DID.String(), "did:plc:"))
	}
	if n.Fill != "" {
		words = append(words, "("+n.Fill+")")
	}
	if n.Lost {
		words = append(words, "lost")
	}
	if n.Closed {
		words = append(words, "closed")
	}
	return strings.Join(words, " ")
}

// TestDecide is the contract's table of prompts, row by row.
func TestDecide(t *testing.T) {
	t.Parallel()
	alice, bob := here("alice"), here("bob")
	for _, c := range []struct {
		name string
		ask  oauth.Ask
		want string
	}{
		// absent
		{"public, hinted, all remembered", with(hint(asking(alice), "alice"), public), "consent alice"},
		{"hinted, here, fresh, active, remembered", hint(asking(alice), "alice"), "allowed alice"},
		{"hinted among two", hint(asking(bob, alice), "alice"), "allowed alice"},
		{"hinted by address", with(asking(bob, alice), byMail), "allowed alice"},
		{"not hinted", asking(alice), "consent alice"},
		{"hinted, not fresh", hint(asking(here("alice", stale)), "alice"), "sign-in alice"},
		{"hinted, not remembered", hint(asking(here("alice", newHere)), "alice"), "consent alice"},
		{"hinted, deactivated", hint(asking(here("alice", deactivated)), "alice"), "deactivated alice"},
		{"hinted, suspended", hint(asking(here("alice", suspended)), "alice"), "consent alice"},
		{"hinted, taken down", hint(asking(here("alice", takenDown)), "alice"), "access_denied"},
		{"hinted, only a tap reaches the client", with(hint(asking(alice), "alice"), tapped), "consent alice"},
		{"hinted, not here", hint(asking(bob), "alice"), "sign-in alice"},
		{"hint of nobody", with(asking(alice), lost), "sign-in (nobody.test) lost"},
		{"hint of an address that is not here", with(asking(bob), byMail), "sign-in (Alice@Example.com)"},
		{"nobody here", asking(), "sign-in"},
		{"one here, not fresh", asking(here("alice", stale)), "sign-in (alice.test)"},
		{"two here", asking(alice, bob), "account"},
		// none
		{"none, public", with(asking(alice), public, none), "consent_required"},
		{"none", with(asking(alice), none), "allowed alice"},
		{"none, hinted", with(hint(asking(alice, bob), "bob"), none), "allowed bob"},
		{"none, nobody here", with(asking(), none), "login_required"},
		{"none, hinted, not here", with(hint(asking(bob), "alice"), none), "login_required"},
		{"none, hint of nobody", with(asking(bob), none, lost), "login_required"},
		{"none, two here", with(asking(alice, bob), none), "account_selection_required"},
		{"none, not fresh", with(asking(here("alice", stale)), none), "login_required"},
		{"none, too old for the client", with(asking(alice), none, minutes(59)), "login_required"},
		{"none, young enough for the client", with(asking(alice), none, minutes(60)), "allowed alice"},
		{"none, not remembered", with(asking(here("alice", newHere)), none), "consent_required"},
		{"none, deactivated", with(asking(here("alice", deactivated)), none), "interaction_required"},
		{"none, taken down", with(asking(here("alice", takenDown)), none), "login_required"},
		{"none, only a tap reaches the client", with(asking(alice), none, tapped), "consent_required"},
		// login
		{"login", with(hint(asking(alice), "alice"), login), "sign-in alice"},
		{"login, one here", with(asking(alice), login), "sign-in (alice.test)"},
		{"login, two here", with(asking(alice, bob), login), "sign-in"},
		{"login, chosen", with(asking(alice), login, chosen(alice)), "sign-in alice"},
		{"login, signed in", with(asking(alice), login, signedIn(alice)), "allowed alice"},
		{"login, signed in, not remembered", with(asking(), login, signedIn(here("alice", newHere))), "consent alice"},
		{"login, signed in, public", with(asking(), login, public, signedIn(alice)), "consent alice"},
		// consent
		{"consent", with(hint(asking(alice), "alice"), consentAgain), "consent alice"},
		{"consent, signed in", with(asking(), consentAgain, signedIn(alice)), "consent alice"},
		// select_account, create
		{"select_account", with(hint(asking(alice), "alice"), selectAccount), "account"},
		{"select_account, nobody here", with(asking(), selectAccount), "sign-in"},
		{"select_account, chosen", with(asking(alice, bob), selectAccount, chosen(bob)), "allowed bob"},
		{"create", with(asking(alice), create), "sign-up"},
		{"create where nobody can", with(asking(alice), create, closed), "sign-in closed"},
		{"create, but there is an account", with(asking(alice), create, wish(oauth.WishSignIn)), "sign-in"},
		{"create, made", with(asking(), create, signedIn(here("carol", newHere))), "consent carol"},
		// max_age
		{"too old for the client", with(hint(asking(alice), "alice"), minutes(59)), "sign-in alice"},
		{"signed in, though the client wants it at once", with(asking(), minutes(0), signedIn(alice)), "allowed alice"},
		{"chosen, too old for the client", with(asking(alice), minutes(59), chosen(alice)), "sign-in alice"},
		// what the person wants
		{"another account", with(hint(asking(alice), "alice"), wish(oauth.WishOther)), "sign-in (alice.test)"},
		{"not me, two here", with(hint(asking(alice, bob), "alice"), wish(oauth.WishChoose)), "account"},
		{"not me, nobody here", with(asking(), wish(oauth.WishChoose)), "sign-in"},
		{"an account of my own", with(asking(), wish(oauth.WishSignUp)), "sign-up"},
		{"deactivated, signed in", with(asking(), signedIn(here("alice", deactivated))), "deactivated alice"},
		{"deactivated, to go on", with(asking(), goOn, signedIn(here("alice", deactivated))), "allowed alice"},
		{"taken down, signed in", with(asking(), signedIn(here("alice", takenDown))), "access_denied"},
	} {
		if got := say(c.ask.Decide()); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestDecideProperties: whatever was asked and proven, nobody gets what they did not allow.
func TestDecideProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
		person := func(i int) oauth.Here {
			return here(fmt.Sprintf("p%d", i), func(h *oauth.Here) {
				h.Status = rapid.SampledFrom([]account.Status{account.Active, account.Deactivated, account.Suspended, account.TakenDown}).Draw(t, "status")
				h.Fresh, h.Remembered = flag("fresh"), flag("remembered")
				h.At = noon.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "age")) * time.Minute)
			})
		}
		a := oauth.Ask{
			Prompt:    oauth.Prompt{None: flag("none"), Login: flag("login"), Consent: flag("consent"), SelectAccount: flag("select"), Create: flag("create")},
			MaxAge:    time.Duration(rapid.IntRange(-1, 60).Draw(t, "max_age")) * time.Minute,
			Remembers: flag("remembers"), Silent: flag("silent"), SignUp: flag("sign-up"), HintLost: flag("lost"), InFlow: flag("in flow"), GoOn: flag("go on"), Now: noon,
			Wish: rapid.SampledFrom([]oauth.Wish{oauth.WishNone, oauth.WishOther, oauth.WishChoose, oauth.WishSignIn, oauth.WishSignUp}).Draw(t, "wish"),
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "here") {
			a.Here = append(a.Here, person(i))
		}
		if flag("hinted") {
			a = hint(a, fmt.Sprintf("p%d", rapid.IntRange(0, 3).Draw(t, "hint")))
		}
		if flag("proven") {
			h := person(9)
			a.Proven = &h
		}
		n := a.Decide()
		pages, one := 0, n.Step != ""
		for _, is := range []bool{one, n.Allowed, n.Error != ""} {
			if is {
				pages++
			}
		}
		if pages != 1 {
			t.Fatalf("not one answer: %+v", n)
		}
		if a.Prompt.None && n.Step != "" {
			t.Fatalf("prompt=none shows a page: %+v", n)
		}
		if n.Allowed {
			who := n.Who
			switch {
			case !a.Remembers, !who.Remembered, who.Status == account.TakenDown, a.Prompt.Consent && !a.Prompt.None:
				t.Fatalf("allowed without being asked: %+v", n)
			case (a.Proven == nil || a.Prompt.None) && !a.Silent:
				t.Fatalf("answered without a tap: %+v", n)
			case (!a.InFlow || a.Proven == nil || a.Prompt.None) && !a.IsFresh(who):
				t.Fatalf("an old sign-in: %+v", n)
			case a.Prompt.Login && !a.Prompt.None && !a.InFlow:
				t.Fatalf("prompt=login without the password: %+v", n)
			}
		}
		if n.Step == oauth.StepConsent && (n.Who == nil || n.Who.Status == account.TakenDown || n.Who.Status == account.Deactivated && !a.GoOn) {
			t.Fatalf("consent of nobody: %+v", n)
		}
		if n.Step == oauth.StepAccount && len(a.Here) == 0 {
			t.Fatal("an empty chooser")
		}
	})
}
