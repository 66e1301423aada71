package server_test

import (
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// visitor is a browser on the pages, which keeps its cookies as a browser does.
type visitor struct {
	t       testing.TB
	base    string
	cookies map[string]string
	// deaf keeps no cookie.
	deaf bool
	// header goes with each request.
	header http.Header
}

func newVisitor(t testing.TB, s *pdstest.InProcess) *visitor {
	t.Helper()
	return &visitor{t: t, base: s.URL, cookies: map[string]string{}, header: http.Header{}}
}

// shown is an answer of a page.
type shown struct {
	status   int
	location string
	header   http.Header
	text     string
}

func (p *visitor) do(r *http.Request) shown {
	p.t.Helper()
	maps.Copy(r.Header, p.header)
	for name, value := range p.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range answer.Cookies() {
		if !p.deaf {
			p.cookies[c.Name] = c.Value
		}
	}
	return shown{answer.StatusCode, answer.Header.Get("Location"), answer.Header, string(body)}
}

func (p *visitor) get(path string) shown {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.base+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.do(r)
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// field returns the first hidden field of a name.
func (s shown) field(name string) string {
	for _, m := range hidden.FindAllStringSubmatch(s.text, -1) {
		if m[1] == name {
			return html.UnescapeString(m[2])
		}
	}
	return ""
}

// post sends a form of a page that was shown: its hidden fields that every form has, and
// what is typed.
func (p *visitor) post(page shown, path string, typed url.Values) shown {
	p.t.Helper()
	form := url.Values{}
	for _, name := range []string{"csrf", "flow", "next", "step"} {
		if v := page.field(name); v != "" && !strings.HasPrefix(v, "/account?") {
			form.Set(name, v)
		}
	}
	maps.Copy(form, typed)
	return p.send(path, form)
}

func (p *visitor) send(path string, form url.Values) shown {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", p.base)
	return p.do(r)
}

// signIn signs in with the password, and returns the last answer.
func (p *visitor) signIn(identifier, password string, more ...string) shown {
	p.t.Helper()
	form := url.Values{"identifier": {identifier}, "password": {password}, "decision": {"sign-in"}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return p.post(p.get("/account/sign-in"), "/account/sign-in", form)
}

func (p *visitor) want(a shown, status int, location string, texts ...string) {
	p.t.Helper()
	if a.status != status || a.location != location {
		p.t.Errorf("%d %q, want %d %q\n%.2000s", a.status, a.location, status, location, a.text)
	}
	for _, text := range texts {
		if !strings.Contains(html.UnescapeString(strings.ReplaceAll(a.text, "<wbr>", "")), text) {
			p.t.Errorf("the page lacks %q\n%.4000s", text, a.text)
		}
	}
}

// accounts returns the DIDs that /account lists.
func (p *visitor) accounts() (dids []string) {
	p.t.Helper()
	for _, m := range regexp.MustCompile(`name="sign_out" value="([^"]*)"`).FindAllStringSubmatch(p.get("/account").text, -1) {
		dids = append(dids, m[1])
	}
	return dids
}

// appPassword makes an app password.
func appPassword(t *testing.T, s *pdstest.InProcess, who pdstest.Session, name string) (same, password string) {
	t.Helper()
	var made struct{ Password string }
	s.Do(t, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(who.AccessJwt), Body: map[string]string{"name": name}}).Decode(t, &made)
	return name, made.Password
}

const (
	wrongPassword = "The handle, the e-mail address or the password is wrong."
	inHere        = "/account?done=signed-in"
)

// TestPeopleSignIn: in, in with a second account, out of one, out of all; what is wrong is
// said, and an unknown person is a known one with a wrong password.
func TestPeopleSignIn(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice, bob := s.SignUp(t, "alice"), s.SignUp(t, "bob")
	p := newVisitor(t, s)
	p.want(p.get("/account"), http.StatusSeeOther, "/account/sign-in")
	p.want(p.signIn("", ""), http.StatusUnprocessableEntity, "", "Enter your handle", "Enter your password")
	known, unknown := p.signIn("alice.test", "wrong"), p.signIn("nobody.test", "wrong")
	p.want(known, http.StatusUnprocessableEntity, "", wrongPassword)
	p.want(unknown, http.StatusUnprocessableEntity, "", wrongPassword)
	if strings.Contains(known.text, `value="wrong"`) || len(p.cookies) != 0 {
		t.Errorf("a wrong password leaves %v", p.cookies)
	}
	p.want(p.signIn("@ALICE.test ", pdstest.Password), http.StatusSeeOther, inHere)
	first := p.cookies["nestbox"]
	p.want(p.get(inHere), http.StatusOK, "", "alice.test")
	p.want(p.signIn("bob@example.com", pdstest.Password), http.StatusSeeOther, inHere)
	if p.cookies["nestbox"] == first || !slices.Contains(p.accounts(), alice.DID) || !slices.Contains(p.accounts(), bob.DID) {
		t.Errorf("accounts %v", p.accounts())
	}
	page := p.get("/account")
	p.want(p.post(page, "/account", url.Values{"sign_out": {alice.DID}}), http.StatusSeeOther, "/account?done=signed-out")
	p.want(p.post(page, "/account", url.Values{"sign_out": {alice.DID}}), http.StatusSeeOther, "/account?done=signed-out")
	if got := p.accounts(); !slices.Equal(got, []string{bob.DID}) {
		t.Errorf("after one has signed out: %v", got)
	}
	p.want(p.get("/account/u/"+alice.DID+"/sessions"), http.StatusSeeOther, "/account/sign-in?account=alice.test&next="+url.QueryEscape("/account/u/"+alice.DID+"/sessions"))
	p.want(p.post(p.get("/account"), "/account", url.Values{"decision": {"all"}}), http.StatusSeeOther, "/account?done=signed-out")
	p.want(p.get("/account?done=signed-out"), http.StatusSeeOther, "/account/sign-in?done=signed-out")
	p.want(p.get("/account/sign-in?done=signed-out"), http.StatusOK, "", "You are signed out.")
	for next, leads := range map[string]string{
		"/account/u/" + alice.DID + "/sessions": "/account/u/" + alice.DID + "/sessions?done=signed-in",
		"https://evil.example/account/":         inHere, "//evil.example/account/": inHere, "/account/../../evil": inHere, "/oauth/authorize": inHere,
		"/account/\\evil.example": inHere, "javascript:alert(1)": inHere, "/account/sign-in": inHere,
	} {
		page := p.get("/account/sign-in?next=" + url.QueryEscape(next))
		a := p.post(page, "/account/sign-in", url.Values{"identifier": {"alice.test"}, "password": {pdstest.Password}, "next": {next}})
		p.want(a, http.StatusSeeOther, leads)
	}
	_, app := appPassword(t, s, alice, "app")
	p.want(p.signIn("alice.test", app), http.StatusUnprocessableEntity, "", "That is an app password.")
}

// TestPeopleWithoutCookies: a browser that keeps none learns why it is not signed in.
func TestPeopleWithoutCookies(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	s.SignUp(t, "alice")
	p := newVisitor(t, s)
	p.deaf = true
	a := p.signIn("alice.test", pdstest.Password)
	p.want(a, http.StatusSeeOther, inHere)
	p.want(p.get(a.location), http.StatusBadRequest, "", "These pages need a cookie")
}

// TestPeopleTabs: two tabs that were opened before either signed in both sign in.
func TestPeopleTabs(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice, bob := s.SignUp(t, "alice"), s.SignUp(t, "bob")
	p := newVisitor(t, s)
	tabs := []shown{p.get("/account/sign-in"), p.get("/account/sign-in")}
	for i, who := range []string{"alice.test", "bob.test"} {
		p.want(p.post(tabs[i], "/account/sign-in", url.Values{"identifier": {who}, "password": {pdstest.Password}}), http.StatusSeeOther, inHere)
	}
	if got := p.accounts(); len(got) != 2 || !slices.Contains(got, alice.DID) || !slices.Contains(got, bob.DID) {
		t.Errorf("accounts %v", got)
	}
}

// TestCookieOfAnother: somebody who has a copy of a browser's cookie, and signs in with an
// account of their own, does not get what is proven on that browser next. Answers that are
// lost leave nothing that verify finds.
func TestCookieOfAnother(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	s.SignUp(t, "bob")
	p, thief := newVisitor(t, s), newVisitor(t, s)
	p.want(p.signIn("bob.test", pdstest.Password), http.StatusSeeOther, inHere)
	copied := p.cookies["nestbox"]
	for range 10 {
		thief.cookies["nestbox"] = copied
		thief.want(thief.signIn("bob.test", pdstest.Password), http.StatusSeeOther, inHere)
	}
	p.want(p.signIn("alice.test", pdstest.Password), http.StatusSeeOther, inHere)
	// What was proven with the newer cookies is bob's, and ends: nobody can know whose they are.
	if got := thief.accounts(); len(got) != 0 {
		t.Errorf("the thief sees %v, alice is %s", got, alice.DID)
	}
	if got := p.accounts(); !slices.Contains(got, alice.DID) {
		t.Errorf("alice's browser has %v", got)
	}
}

// TestStolenCookie: a copy of the cookie is worth nothing after a new password, and shows
// nothing of who signs in later.
func TestStolenCookie(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Settings: box.Settings()})
	alice := s.SignUp(t, "alice")
	s.SignUp(t, "bob")
	p, thief, other := newVisitor(t, s), newVisitor(t, s), newVisitor(t, s)
	p.want(p.signIn("alice.test", pdstest.Password, "remember", "on"), http.StatusSeeOther, inHere)
	other.want(other.signIn("alice.test", pdstest.Password), http.StatusSeeOther, inHere)
	thief.cookies["nestbox"] = p.cookies["nestbox"]
	if got := thief.accounts(); len(got) != 1 {
		t.Fatalf("the copy shows %v", got)
	}
	p.want(p.signIn("bob.test", pdstest.Password), http.StatusSeeOther, inHere)
	if got := thief.accounts(); !slices.Equal(got, []string{alice.DID}) {
		t.Errorf("the copy shows %v, one of which signed in later", got)
	}
	if len(p.accounts()) != 2 {
		t.Errorf("the owner has %v", p.accounts())
	}
	if got := thief.accounts(); len(got) != 0 {
		t.Errorf("once the newer cookie has come, the copy shows %v", got)
	}
	thief.cookies["nestbox"] = p.cookies["nestbox"]

	page := other.get("/account/reset-password")
	for _, email := range []string{"alice@example.com", "nobody@example.com"} {
		other.want(other.post(page, "/account/reset-password", url.Values{"email": {email}}), http.StatusSeeOther, "/account/reset-password?done=sent")
	}
	mailed := box.Wait(t, "alice@example.com")
	code := mailed.Code()
	if link := s.URL + "/account/reset-password?step=code#code=" + code; !strings.Contains(mailed.Text, link) {
		t.Errorf("the mail lacks %s:\n%s", link, mailed.Text)
	}
	other.want(other.get("/account/reset-password?step=code"), http.StatusOK, "", `name="new_password"`)
	page = other.get("/account/reset-password?done=sent")
	other.want(page, http.StatusOK, "", "If there is an account with this address, a mail is on its way.")
	set := func(code, password string) shown {
		return other.post(page, "/account/reset-password", url.Values{"code": {code}, "new_password": {password}})
	}
	other.want(set("AAAAA-BBBBB", "a new password"), http.StatusUnprocessableEntity, "", "This code is not right")
	other.want(set(code, "password1"), http.StatusUnprocessableEntity, "", "among the most used")
	other.want(set(code, "short"), http.StatusUnprocessableEntity, "", "at least 8")
	other.want(set(strings.ToLower(code), "a new password"), http.StatusSeeOther, "/account/sign-in?done=reset")
	for who, b := range map[string]*visitor{"the thief": thief, "the other browser": other, "the owner": p} {
		if slices.Contains(b.accounts(), alice.DID) {
			t.Errorf("after the new password %s is signed in", who)
		}
	}
	p.want(p.signIn("alice.test", pdstest.Password), http.StatusUnprocessableEntity, "", wrongPassword)
	p.want(p.signIn("alice.test", "a new password"), http.StatusSeeOther, inHere)
}

// TestPeopleLives: what a sign-in is good for ends in time, and the secret moves on daily.
func TestPeopleLives(t *testing.T) {
	var later atomic.Int64 // jobs of the server ask for the time meanwhile
	s := pdstest.Start(t, pdstest.Options{Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
	alice := s.SignUp(t, "alice")
	tab, remembered := newVisitor(t, s), newVisitor(t, s)
	tab.signIn("alice.test", pdstest.Password)
	remembered.signIn("alice.test", pdstest.Password, "remember", "on")
	later.Add(int64(3 * time.Hour))
	if len(tab.accounts()) != 0 || len(remembered.accounts()) != 1 {
		t.Errorf("3 h later: %v, %v", tab.accounts(), remembered.accounts())
	}
	first := remembered.cookies["nestbox"]
	for range 29 {
		later.Add(int64(24 * time.Hour))
		remembered.want(remembered.get("/account/u/"+alice.DID+"/sessions"), http.StatusOK, "", "this browser")
	}
	if remembered.cookies["nestbox"] == first {
		t.Error("the secret did not move on")
	}
	later.Add(int64(24 * time.Hour))
	if a := remembered.get("/account/u/" + alice.DID + "/sessions"); a.status != http.StatusSeeOther {
		t.Errorf("30 days after the sign-in: %d", a.status)
	}
	if a := remembered.get("/account"); !strings.Contains(a.text, "asks for the password") {
		t.Errorf("/account 30 days after the sign-in: %d %.1000s", a.status, a.text)
	}
}

// TestPeopleLimits: guesses on the page and at createSession count together.
func TestPeopleLimits(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_RATE_LIMITS_ENABLED=true", "PDS_TRUSTED_PROXIES=127.0.0.0/8,::1/128"}})
	s.SignUp(t, "alice")
	s.SignUp(t, "bob")
	call := func(who, from string) int {
		return s.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Header: http.Header{"X-Forwarded-For": {from}}, Body: map[string]string{"identifier": who, "password": "wrong"}}).Status
	}
	p := newVisitor(t, s)
	p.header.Set("X-Forwarded-For", "198.51.100.1")
	for i := range 30 {
		if a := p.signIn("alice.test", "wrong"); a.status != http.StatusUnprocessableEntity {
			t.Fatalf("guess %d: %d", i+1, a.status)
		}
	}
	p.want(p.signIn("alice.test", pdstest.Password), http.StatusTooManyRequests, "", "Too many tries", "minute")
	if got := call("alice.test", "198.51.100.1"); got != http.StatusTooManyRequests {
		t.Errorf("createSession after guesses on the page: %d", got)
	}
	for range 30 {
		call("bob.test", "203.0.113.1")
	}
	p.header.Set("X-Forwarded-For", "203.0.113.1")
	a := p.signIn("bob.test", pdstest.Password)
	p.want(a, http.StatusTooManyRequests, "", "Too many tries")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	p.header.Set("X-Forwarded-For", "192.0.2.1")
	p.want(p.signIn("bob.test", pdstest.Password), http.StatusSeeOther, inHere)
}

// TestPeopleSessions: one list of all kinds; what is ended there is ended.
func TestPeopleSessions(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	name, app := appPassword(t, s, alice, "a \"quoted\" app")
	first, second := s.SignIn(t, "alice.test", app), s.SignIn(t, "alice.test", pdstest.Password)
	p, q := newVisitor(t, s), newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password)
	q.signIn("alice.test", pdstest.Password)
	path := "/account/u/" + alice.DID + "/sessions"
	page := p.get(path)
	p.want(page, http.StatusOK, "", name, "Go program", "this browser", "App, with your password", "Everything but direct messages, password and account")
	if n := strings.Count(page.text, `name="end" value="session `) + strings.Count(page.text, `name="end" value="browser `); n != 5 {
		t.Errorf("%d rows, want 5", n)
	}
	p.want(p.get(path+"?kind=app-password"), http.StatusOK, "", name)
	if strings.Contains(p.get(path+"?kind=browser").text, "quoted") || !strings.Contains(p.get("/account/u/"+alice.DID+"/devices").text, "this browser") {
		t.Error("the filter by kind")
	}
	end := func(form url.Values) shown {
		t.Helper()
		asked := p.post(p.get(path), path, form)
		p.want(asked, http.StatusOK, "", `value="confirm"`)
		form.Set("decision", "confirm")
		return p.post(asked, path, form)
	}
	session := regexp.MustCompile(`name="end" value="(session \d+)"`)
	ref := session.FindStringSubmatch(p.get(path + "?kind=app-password").text)[1]
	p.want(end(url.Values{"end": {ref}}), http.StatusSeeOther, path+"?done=ended")
	if got := s.GetSession(t, first.AccessJwt).Status; got != http.StatusBadRequest {
		t.Errorf("a session that was ended: %d", got)
	}
	p.want(p.get(path), http.StatusOK, "", "Ended in the last 30 days", "You ended it.")
	p.want(p.post(p.get(path), path, url.Values{"decision": {"confirm"}, "end": {ref}}), http.StatusSeeOther, path+"?done=ended")
	p.want(p.post(p.get(path), path, url.Values{"end": {ref}}), http.StatusSeeOther, path+"?done=ended")
	third, fourth := s.SignIn(t, "alice.test", app), s.SignIn(t, "alice.test", app)
	ref = session.FindStringSubmatch(p.get(path + "?kind=app-password").text)[1]
	asked := p.post(p.get(path), path, url.Values{"end": {ref}})
	p.want(asked, http.StatusOK, "", "End all 2 sign-ins with this app password")
	p.want(end(url.Values{"end": {ref}, "all_of": {"on"}}), http.StatusSeeOther, path+"?done=ended")
	for _, gone := range []pdstest.Session{third, fourth} {
		if got := s.GetSession(t, gone.AccessJwt).Status; got != http.StatusBadRequest {
			t.Errorf("a session of an app password: %d", got)
		}
	}
	if got := s.GetSession(t, second.AccessJwt).Status; got != http.StatusOK {
		t.Errorf("a session of the password: %d", got)
	}
	others := p.post(p.get(path), path, url.Values{"end": {"others"}})
	p.want(others, http.StatusOK, "", "Sign out everywhere but here?")
	p.want(p.post(others, path, url.Values{"decision": {"confirm"}, "end": {"others"}}), http.StatusSeeOther, path+"?done=ended-all")
	if got := s.GetSession(t, second.AccessJwt).Status; got != http.StatusBadRequest || len(q.accounts()) != 0 || len(p.accounts()) != 1 {
		t.Errorf("all but this: session %d, the other browser %v, this one %v", got, q.accounts(), p.accounts())
	}
	p.want(p.post(p.get(path), path, url.Values{"decision": {"confirm"}, "end": {"all"}}), http.StatusSeeOther, "/account?done=signed-out")
	if len(p.accounts()) != 0 {
		t.Errorf("after everything: %v", p.accounts())
	}
	p.want(p.get(path), http.StatusSeeOther, "/account/sign-in?account=alice.test&next="+url.QueryEscape(path))
}

// TestPeopleForeignAccounts: an account that is not signed in is as one that is not here.
func TestPeopleForeignAccounts(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	s.SignUp(t, "alice")
	bob := s.SignUp(t, "bob")
	p, q := newVisitor(t, s), newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password)
	q.signIn("bob.test", pdstest.Password)
	path := "/account/u/" + bob.DID + "/sessions"
	page := q.get(path)
	for _, did := range []string{bob.DID, "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "nonsense"} {
		for _, part := range []string{"sessions", "apps", "devices", "app-passwords", "events", "data", "identity", "secure", "files", "file"} {
			to := "/account/u/" + did + "/" + part
			if a := p.get(to); a.status != http.StatusSeeOther || !strings.HasPrefix(a.location, "/account/sign-in?") {
				t.Errorf("GET %s: %d %s", to, a.status, a.location)
			}
			if part == "secure" || part == "files" || part == "file" {
				continue // it has no form
			}
			if a := p.post(page, to, url.Values{"decision": {"confirm"}, "end": {"all"}}); a.status != http.StatusSeeOther || !strings.HasPrefix(a.location, "/account/sign-in?") {
				t.Errorf("POST %s: %d %s", to, a.status, a.location)
			}
		}
	}
	if len(q.accounts()) != 1 || s.GetSession(t, bob.AccessJwt).Status != http.StatusOK {
		t.Error("a stranger has signed bob out")
	}
}

// TestPeopleTokens: the token of a form is of that page, and of that browser.
func TestPeopleTokens(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	p, q := newVisitor(t, s), newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password)
	q.signIn("alice.test", pdstest.Password)
	path := "/account/u/" + alice.DID + "/sessions"
	form := func(token string) url.Values {
		return url.Values{"csrf": {token}, "decision": {"confirm"}, "end": {"all"}}
	}
	mine := p.get(path).field("csrf")
	for name, token := range map[string]string{
		"none": "", "another page's": p.get("/account").field("csrf"), "another browser's": q.get(path).field("csrf"), "cut": mine[:len(mine)-1],
		"longer": mine + "AA", "of no browser": p.get("/account/sign-in").field("csrf"), "not base64": "!" + mine[1:],
	} {
		p.want(p.send(path, form(token)), http.StatusForbidden, "", "This form did not come from this server")
		if len(p.accounts()) != 1 {
			t.Fatalf("%s: signed out", name)
		}
	}
	p.want(p.send(path, form(mine)), http.StatusSeeOther, "/account?done=signed-out")
}

// TestHostileForms: what is no form of ours is refused, and harms nobody.
func TestHostileForms(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	s.SignUp(t, "alice")
	p := newVisitor(t, s)
	send := func(kind, body string) shown {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+"/account/sign-in", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		return p.do(r)
	}
	const form = "application/x-www-form-urlencoded"
	token := p.get("/account/sign-in").field("csrf")
	for _, c := range []struct {
		name, kind, body string
		want             int
	}{
		{"JSON", "application/json", `{"identifier":"alice.test"}`, http.StatusUnsupportedMediaType},
		{"multipart", "multipart/form-data; boundary=x", "--x--", http.StatusUnsupportedMediaType},
		{"no kind", "", "csrf=" + token, http.StatusUnsupportedMediaType},
		{"large", form, "csrf=" + token + "&identifier=" + strings.Repeat("x", 1<<20), http.StatusRequestEntityTooLarge},
		{"bad escapes", form, "csrf=" + token + "&identifier=%zz", http.StatusBadRequest},
		{"many fields", form, "csrf=" + token + strings.Repeat("&a=b", 20_000), http.StatusBadRequest},
		{"long identifier", form, "csrf=" + token + "&password=x&identifier=" + strings.Repeat("x", 60_000), http.StatusUnprocessableEntity},
		{"long password", form, "csrf=" + token + "&identifier=alice.test&password=" + strings.Repeat("x", 60_000), http.StatusUnprocessableEntity},
		{"NULs", form, "csrf=" + token + "&identifier=alice.test%00&password=" + pdstest.Password + "%00", http.StatusUnprocessableEntity},
		{"not UTF-8", form, "csrf=" + token + "&identifier=%ff%fe&password=%ff", http.StatusUnprocessableEntity},
		{"a claim of nobody's", form, "csrf=" + token + "&step=factor&flow=AAAA&code=123456", http.StatusUnprocessableEntity},
		{"a passkey of nobody's", form, "csrf=" + token + "&ceremony=AAAA&credential=%7B%7D", http.StatusUnprocessableEntity},
		{"markup", form, "csrf=" + token + "&password=x&identifier=" + url.QueryEscape(`"><script>alert(1)</script>`), http.StatusUnprocessableEntity},
	} {
		a := send(c.kind, c.body)
		if a.status != c.want || strings.Contains(a.text, "<script>alert") {
			t.Errorf("%s: %d, want %d\n%.500s", c.name, a.status, c.want, a.text)
		}
		if len(p.cookies) != 0 {
			t.Errorf("%s sets %v", c.name, p.cookies)
		}
	}
}

// TestPeopleSignUp: the form's faults are said one by one, and a new account is signed in.
func TestPeopleSignUp(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Settings: append(box.Settings(), "PDS_TERMS_OF_SERVICE_URL=https://example.com/terms")})
	s.SignUp(t, "alice")
	p := newVisitor(t, s)
	fill := func(more ...string) url.Values {
		form := url.Values{"handle": {"bobby"}, "domain": {".test"}, "email": {"bobby@example.com"}, "password": {"a good password"}, "terms": {"on"}, "decision": {"sign-up"}}
		for i := 0; i+1 < len(more); i += 2 {
			form.Set(more[i], more[i+1])
		}
		return form
	}
	page := p.get("/account/sign-up")
	p.want(page, http.StatusOK, "", "Create an account", ".test")
	for text, form := range map[string]url.Values{
		"This name is taken.":        fill("handle", "alice"),
		"This name is too short":     fill("handle", "a"),
		"This name cannot be used":   fill("handle", "a_b_c"),
		"This name is reserved.":     fill("handle", "admin"),
		"This is not an e-mail":      fill("email", "nonsense"),
		"with this address already.": fill("email", "alice@example.com"),
		"at least 8 characters":      fill("password", "short"),
		"among the most used":        fill("password", "password1"),
		"Do not use your handle":     fill("password", "bobby.test"),
		"Accept the terms":           fill("terms", ""),
		"Choose a name.":             fill("handle", ""),
		"Enter your e-mail address.": fill("email", ""),
		"Choose a password.":         fill("password", ""),
	} {
		a := p.post(page, "/account/sign-up", form)
		p.want(a, http.StatusUnprocessableEntity, "", text)
		if strings.Contains(a.text, `value="a good password"`) {
			t.Errorf("%s: the page has the password", text)
		}
	}
	p.want(p.post(page, "/account/sign-up", fill("decision", "check")), http.StatusOK, "", "This name is free.")
	p.want(p.post(page, "/account/sign-up", fill("decision", "check", "handle", "alice")), http.StatusUnprocessableEntity, "", "This name is taken.")
	a := p.post(page, "/account/sign-up", fill())
	if a.status != http.StatusSeeOther || !strings.HasSuffix(a.location, "/welcome?done=signed-in") {
		t.Fatalf("%d %s\n%.3000s", a.status, a.location, a.text)
	}
	p.want(p.get(a.location), http.StatusOK, "", "Welcome!", "bobby@example.com")
	if len(p.accounts()) != 1 || box.Code(t, "bobby@example.com") == "" {
		t.Errorf("accounts %v", p.accounts())
	}
	for policy, text := range map[string]string{"closed": "created by its operator", "migration-only": "accounts that move here"} {
		s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_SIGNUP=" + policy}})
		p := newVisitor(t, s)
		page := p.get("/account/sign-up")
		p.want(page, http.StatusOK, "", text)
		p.want(p.post(page, "/account/sign-up", fill()), http.StatusForbidden, "", text)
	}
}

// TestWellKnownPages: where password managers find the pages.
func TestWellKnownPages(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	p := newVisitor(t, s)
	p.want(p.get("/.well-known/change-password"), http.StatusFound, "/account/reset-password")
	a := p.get("/.well-known/passkey-endpoints")
	p.want(a, http.StatusOK, "", fmt.Sprintf(`{"enroll":%q,"manage":%[1]q}`, s.URL+"/account/security"))
	p.want(p.get("/account/security"), http.StatusSeeOther, "/account/sign-in?next=%2Faccount%2Fsecurity")
}
