package account_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/internal/pdstest"
)

// app is a server with one account, alice.
type app struct {
	*pdstest.InProcess

	t     *testing.T
	alice pdstest.Session
}

func newApp(t *testing.T, o pdstest.Options) *app {
	t.Helper()
	s := pdstest.Start(t, o)
	return &app{s, t, s.SignUp(t, "alice")}
}

func (a *app) call(nsid, auth string, body any) pdstest.Answer {
	a.t.Helper()
	return a.Do(a.t, pdstest.Request{NSID: "com.atproto.server." + nsid, Auth: auth, Body: body})
}

// made is what createAppPassword answers.
type made struct {
	Name, Password, CreatedAt string
	Privileged                bool
}

func (a *app) create(in map[string]any) made {
	a.t.Helper()
	answer := a.call("createAppPassword", pdstest.Bearer(a.alice.AccessJwt), in)
	if answer.Status != http.StatusOK {
		a.t.Fatalf("createAppPassword %v: %d %s", in, answer.Status, answer.Body)
	}
	var m made
	answer.Decode(a.t, &m)
	return m
}

func (a *app) list(token string) []made {
	a.t.Helper()
	answer := a.call("listAppPasswords", pdstest.Bearer(token), nil)
	if strings.Contains(string(answer.Body), `"password"`) {
		a.t.Errorf("the list shows passwords: %s", answer.Body)
	}
	var out struct{ Passwords []made }
	answer.Decode(a.t, &out)
	return out.Passwords
}

func (a *app) revoke(token, name string) pdstest.Answer {
	a.t.Helper()
	return a.call("revokeAppPassword", pdstest.Bearer(token), map[string]string{"name": name})
}

func TestAppPasswords(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)
	a := newApp(t, pdstest.Options{Now: func() time.Time { return now }})
	if answer := a.call("listAppPasswords", pdstest.Bearer(a.alice.AccessJwt), nil); strings.TrimSpace(string(answer.Body)) != `{"passwords":[]}` {
		t.Errorf("none: %s", answer.Body)
	}
	phone := a.create(map[string]any{"name": "phone"})
	desktop := a.create(map[string]any{"name": "desktop", "privileged": true})
	if !account.LooksLikeAppPassword(phone.Password) || phone.Privileged || !desktop.Privileged || phone.Name != "phone" ||
		phone.CreatedAt != "2026-03-01T12:00:00.123Z" {
		t.Errorf("made %+v, %+v", phone, desktop)
	}
	var shown []string
	for _, p := range a.list(a.alice.AccessJwt) {
		shown = append(shown, fmt.Sprintf("%s %v %s", p.Name, p.Privileged, p.CreatedAt))
	}
	if want := []string{"desktop true 2026-03-01T12:00:00.123Z", "phone false 2026-03-01T12:00:00.123Z"}; !slices.Equal(shown, want) {
		t.Errorf("list %q, want %q, the newest first", shown, want)
	}

	// Each signs in to sessions of its own, which one revocation ends, with
	// their access tokens, and no other.
	byPhone, byDesktop := a.SignIn(t, "alice.test", phone.Password), a.SignIn(t, "alice@example.com", desktop.Password)
	byPhone = a.MustRefresh(t, byPhone.RefreshJwt)
	if answer := a.revoke(a.alice.AccessJwt, "phone"); answer.Status != http.StatusOK || len(answer.Body) != 0 {
		t.Errorf("revoke: %d %s", answer.Status, answer.Body)
	}
	a.GetSession(t, byPhone.AccessJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has expired")
	a.Refresh(t, byPhone.RefreshJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
	a.call("createSession", "", map[string]string{"identifier": "alice.test", "password": phone.Password}).
		WantError(t, http.StatusUnauthorized, "AuthenticationRequired", "Invalid identifier or password")
	a.MustRefresh(t, byDesktop.RefreshJwt)
	a.MustRefresh(t, a.alice.RefreshJwt)
	if left := a.list(a.alice.AccessJwt); len(left) != 1 || left[0].Name != "desktop" {
		t.Errorf("left: %+v", left)
	}

	// Revoking an unknown name is not an error, and the name is free.
	for _, name := range []string{"phone", "never there", ""} {
		if answer := a.revoke(a.alice.AccessJwt, name); answer.Status != http.StatusOK {
			t.Errorf("revoke %q: %d %s", name, answer.Status, answer.Body)
		}
	}
	if again := a.create(map[string]any{"name": "phone"}); again.Password == phone.Password {
		t.Error("the same password again")
	}
}

func TestAppPasswordRefusals(t *testing.T) {
	a := newApp(t, pdstest.Options{})
	a.create(map[string]any{"name": "phone"})
	const form = "An app password's name has 1 to 64 characters"
	for _, c := range []struct {
		in      map[string]any
		message string
	}{
		{map[string]any{"name": "phone"}, "An app password of that name exists already"},
		{map[string]any{"name": ""}, form},
		{map[string]any{"name": strings.Repeat("a", 65)}, form},
		{map[string]any{"name": "a\nb"}, form},
		{map[string]any{}, `Missing required key "name" at $`},
		{map[string]any{"name": 1}, "Expected string value type (got integer) at $.name"},
		{map[string]any{"name": "x", "privileged": "yes"}, "Expected boolean value type (got string) at $.privileged"},
	} {
		a.call("createAppPassword", pdstest.Bearer(a.alice.AccessJwt), c.in).WantError(t, http.StatusBadRequest, "InvalidRequest", c.message)
	}
	if n := len(a.list(a.alice.AccessJwt)); n != 1 {
		t.Errorf("%d app passwords", n)
	}
}

// TestAppPasswordCallers: which caller may do what.
func TestAppPasswordCallers(t *testing.T) {
	a := newApp(t, pdstest.Options{})
	plain := a.SignIn(t, "alice.test", a.create(map[string]any{"name": "plain"}).Password)
	privileged := a.SignIn(t, "alice.test", a.create(map[string]any{"name": "privileged", "privileged": true}).Password)
	const (
		missing  = `401 {"error":"AuthMissing","message":"Authentication Required"}`
		scope    = `400 {"error":"InvalidToken","message":"Bad token scope"}`
		token    = `400 {"error":"InvalidToken","message":"Token could not be verified"}`
		basic    = `400 {"error":"InvalidToken","message":"Unexpected authorization type"}`
		takedown = `401 {"error":"AccountTakedown","message":"Account has been taken down"}`
	)
	check := func(who, auth, create, list, revoke string) {
		t.Helper()
		for nsid, want := range map[string]string{"createAppPassword": create, "listAppPasswords": list, "revokeAppPassword": revoke} {
			var body any
			if nsid != "listAppPasswords" {
				body = map[string]string{"name": who}
			}
			answer := a.call(nsid, auth, body)
			if got := fmt.Sprintf("%d %s", answer.Status, strings.TrimSpace(string(answer.Body))); !strings.HasPrefix(got, want) {
				t.Errorf("%s by %s: %s, want %s", nsid, who, got, want)
			}
		}
	}
	check("the owner", pdstest.Bearer(a.alice.AccessJwt), "200", "200", "200")
	check("an app", pdstest.Bearer(plain.AccessJwt), scope, "200", "200")
	check("a privileged app", pdstest.Bearer(privileged.AccessJwt), scope, "200", "200")
	check("a refresh token", pdstest.Bearer(a.alice.RefreshJwt), token, token, token)
	check("nobody", "", missing, missing, missing)
	check("the admin", "Basic "+base64.StdEncoding.EncodeToString([]byte("admin:admin")), basic, basic, basic)

	answer := a.Do(t, pdstest.Request{
		NSID: "com.atproto.admin.updateSubjectStatus", Auth: "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:admin")),
		Body: map[string]any{
			"subject": map[string]string{"$type": "com.atproto.admin.defs#repoRef", "did": a.alice.DID}, "takedown": map[string]any{"applied": true},
		},
	})
	if answer.Status != http.StatusOK {
		t.Fatalf("takedown: %d %s", answer.Status, answer.Body)
	}
	check("who was taken down", pdstest.Bearer(a.alice.AccessJwt), takedown, takedown, takedown)
	var down pdstest.Session
	a.call("createSession", "", map[string]any{"identifier": "alice.test", "password": pdstest.Password, "allowTakendown": true}).Decode(t, &down)
	check("who signed in though taken down", pdstest.Bearer(down.AccessJwt), scope, scope, scope)
}

// TestAppPasswordLimit: an account has at most 100, also when many are made at
// once, and of one name only one.
func TestAppPasswordLimit(t *testing.T) {
	a := newApp(t, pdstest.Options{})
	outcomes := map[string]int{}
	var mu sync.Mutex
	race := func(n int, name func(int) string) {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				answer, _ := a.Try(t, pdstest.Request{
					NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(a.alice.AccessJwt), Body: map[string]string{"name": name(i)},
				})
				what := "made"
				if answer.Status != http.StatusOK {
					_, what = answer.Error(t)
				}
				mu.Lock()
				outcomes[what]++
				mu.Unlock()
			})
		}
		all.Wait()
	}
	race(10, func(int) string { return "same" })
	race(105, func(i int) string { return fmt.Sprint("app ", i) })
	want := map[string]int{
		"made": 100, "An app password of that name exists already": 9,
		"An account can have 100 app passwords; revoke some first": 6,
	}
	if fmt.Sprint(outcomes) != fmt.Sprint(want) {
		t.Errorf("outcomes %v, want %v", outcomes, want)
	}
	if n := len(a.list(a.alice.AccessJwt)); n != 100 {
		t.Errorf("%d app passwords", n)
	}
	a.revoke(a.alice.AccessJwt, "same")
	last := a.create(map[string]any{"name": "one more"})
	if in := a.SignIn(t, "alice.test", last.Password); in.DID != a.alice.DID {
		t.Errorf("signed in as %s", in.DID)
	}
}
