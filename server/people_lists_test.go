package server_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/store/storetest"
)

// TestPeopleManySessions: an account with as many sessions as there can be: the list comes in
// parts that a browser can take, each session is in one of them, and the filter counts.
func TestPeopleManySessions(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_RATE_LIMITS_ENABLED=false"}})
	alice := s.SignUp(t, "alice")
	_, app := appPassword(t, s, alice, "bot")
	for range 205 { // the limit is 200
		s.SignIn(t, "alice.test", app)
	}
	p := newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password)
	path := "/account/u/" + alice.DID + "/sessions"
	seen := map[string]int{}
	older := path
	parts := 0
	for ; older != ""; parts++ {
		page := p.get(older)
		p.want(page, http.StatusOK, "", "201", "bot")
		if len(page.text) > 50<<10 {
			t.Errorf("%s has %d bytes", older, len(page.text))
		}
		for _, m := range regexp.MustCompile(`name="end" value="((?:session|browser) \d+)"`).FindAllStringSubmatch(page.text, -1) {
			seen[m[1]]++
		}
		older = ""
		if next := regexp.MustCompile(`href="([^"]*)" rel="next"`).FindStringSubmatch(page.text); next != nil {
			older = strings.ReplaceAll(next[1], "&amp;", "&")
		}
	}
	if len(seen) != 201 || parts != 7 {
		t.Errorf("%d sessions in %d parts, want 201 in 7", len(seen), parts)
	}
	p.want(p.get(path+"?kind=browser&page=9"), http.StatusOK, "", "this browser")
	if strings.Contains(p.get(path+"?kind=app-password&page=2").text, ">this browser<") {
		t.Error("the filter does not hold on the second page")
	}
	events := p.get("/account/u/" + alice.DID + "/events")
	p.want(events, http.StatusOK, "", "Page 1 of 5", "The sign-ins that were unused for longest ended")
	if len(events.text) > 50<<10 {
		t.Errorf("the page of events has %d bytes", len(events.text))
	}
}

// TestPeopleAppPasswords: one is made after a proof, shown once, listed with its use, and
// ended without one.
func TestPeopleAppPasswords(t *testing.T) {
	clock := storetest.NewClock(time.Now())
	s := pdstest.Start(t, pdstest.Options{Now: clock.Now})
	alice := s.SignUp(t, "alice")
	p := newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password, "remember", "on")
	path := "/account/u/" + alice.DID + "/app-passwords"
	p.want(p.get(path), http.StatusOK, "", "You have no app password.")
	password := regexp.MustCompile(`<code id="app-password" translate="no">([a-z2-7-]{19})</code>`)
	secret := func(made shown) string {
		t.Helper()
		p.want(made, http.StatusOK, "", "It is shown once.")
		m := password.FindStringSubmatch(made.text)
		if m == nil {
			t.Fatalf("no password in %.3000s", made.text)
		}
		return m[1]
	}
	form := url.Values{"name": {"<b>my bot</b>"}, "decision": {"make"}}
	plain := secret(p.post(p.get(path), path, form)) // the sign-in is the proof
	if strings.Contains(p.get(path).text, plain) {
		t.Error("the list shows the password")
	}
	clock.Advance(11 * time.Minute)
	p.want(p.post(p.get(path), path, form), http.StatusOK, "", "Confirm that it is you")
	p.want(p.post(p.get(path), path, url.Values{"name": {""}, "decision": {"make"}}), http.StatusUnprocessableEntity, "", "Give it a name of 1 to 64 characters that can be seen.")
	asked := p.post(p.get(path), path, url.Values{"name": {"for messages"}, "privileged": {"on"}, "decision": {"make"}})
	p.want(asked, http.StatusOK, "", "Confirm that it is you", "Creating an app password")
	proof := func(password string) url.Values {
		return url.Values{"step": {"step-up"}, "kept": {asked.field("kept")}, "password": {password}, "decision": {"confirm"}}
	}
	p.want(p.post(asked, path, proof("wrong")), http.StatusUnprocessableEntity, "", "Confirm that it is you")
	made := p.post(asked, path, proof(pdstest.Password)) // what was typed has waited
	p.want(made, http.StatusOK, "", "for messages", "The app can read and send your direct messages.")
	privileged := secret(made)
	taken := p.post(p.get(path), path, form)
	p.want(taken, http.StatusUnprocessableEntity, "", "You have an app password of this name.", `value="<b>my bot</b>"`)

	p.want(p.get(path), http.StatusOK, "", "not yet", "direct messages", "0 sign-ins")
	first, second := s.SignIn(t, "alice.test", plain), s.SignIn(t, "alice.test", plain)
	s.SignIn(t, "alice.test", privileged)
	p.want(p.get(path), http.StatusOK, "", "2 sign-ins", "1 sign-in", "127.0.0.1")
	clock.Advance(time.Hour)
	first = s.MustRefresh(t, first.RefreshJwt)
	used := clock.Now().UTC().Format("2006-01-02T15:04")
	p.want(p.get(path), http.StatusOK, "", used)
	for _, gone := range []pdstest.Session{first, second} { // its last use is remembered when its sessions have ended
		s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.deleteSession", Auth: pdstest.Bearer(gone.RefreshJwt)})
	}
	p.want(p.get(path), http.StatusOK, "", used, "0 sign-ins")

	third := s.SignIn(t, "alice.test", plain)
	clock.Advance(time.Hour) // no proof counts any more, and none is asked for
	end := url.Values{"end": {"app-password " + base64.RawURLEncoding.EncodeToString([]byte("<b>my bot</b>"))}}
	confirm := p.post(p.get(path), path, end)
	p.want(confirm, http.StatusOK, "", "Revoke the app password", `value="confirm"`)
	end.Set("decision", "confirm")
	for range 2 {
		p.want(p.post(confirm, path, end), http.StatusSeeOther, path+"?done=app-password-ended")
	}
	if got := s.Refresh(t, third.RefreshJwt).Status; got != http.StatusBadRequest {
		t.Errorf("a session of an app password that was revoked: %d", got)
	}
	if text := p.get(path).text; strings.Contains(text, "my bot") || !strings.Contains(text, "for messages") {
		t.Errorf("after the end: %.4000s", text)
	}
	p.want(p.get("/account/u/"+alice.DID+"/events?about=security"), http.StatusOK, "", "The app password <bdi><b>my bot</b></bdi> was created.", "The app password <bdi><b>my bot</b></bdi> was revoked.")
}

// TestPeopleEvents: the trail in words: a sign-in leads to what ended it, and one that was
// not the owner's is ended at once, with a walk through what else to check.
func TestPeopleEvents(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	p, q := newVisitor(t, s), newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password)
	q.signIn("alice.test", pdstest.Password)
	thief := s.SignIn(t, "alice.test", pdstest.Password)
	path := "/account/u/" + alice.DID + "/"
	page := p.get(path + "events")
	p.want(page, http.StatusOK, "", "The account was created.", "An app signed in with your password.", "A browser signed in with your password.", "this browser", "127.0.0.1")
	if n := strings.Count(page.text, "This was not me"); n != 3 { // the first session, the other browser and the thief
		t.Errorf("%d sign-ins can be disowned, want 3", n)
	}
	refs := regexp.MustCompile(`name="end" value="([^"]*)"`).FindAllStringSubmatch(page.text, -1)
	notMe := func(ref string) {
		t.Helper()
		asked := p.post(page, path+"events", url.Values{"end": {ref}, "not_me": {"on"}})
		p.want(asked, http.StatusOK, "", "It ends at once.", `name="not_me"`)
		p.want(p.post(asked, path+"events", url.Values{"end": {ref}, "not_me": {"on"}, "decision": {"confirm"}}), http.StatusSeeOther, path+"secure?done=ended")
		p.want(p.post(page, path+"events", url.Values{"end": {ref}, "not_me": {"on"}}), http.StatusSeeOther, path+"secure?done=ended") // again
	}
	notMe(refs[0][1])
	if got := s.GetSession(t, thief.AccessJwt).Status; got != http.StatusBadRequest {
		t.Errorf("the thief's session: %d", got)
	}
	notMe(refs[1][1])
	if len(q.accounts()) != 0 || len(p.accounts()) != 1 {
		t.Errorf("the other browser has %v, this one %v", q.accounts(), p.accounts())
	}
	p.want(p.get(path+"secure"), http.StatusOK, "", "App passwords", "You have 0 app passwords.", "No second step is on", "Besides this browser there is 1 sign-in.")

	s.Refresh(t, thief.RefreshJwt)
	page = p.get(path + "events")
	p.want(page, http.StatusOK, "", "An app wanted to go on, but its sign-in had ended.", "You ended it.", "A sign-in was ended.", "The sign-in of <bdi>Go program</bdi> was ended.")
	link := regexp.MustCompile(`<a href="([^"#]*)#(e\d+)">Ended`).FindStringSubmatch(page.text)
	if link == nil {
		t.Fatalf("nothing leads to its cause:\n%.6000s", page.text)
	}
	p.want(p.get(strings.ReplaceAll(link[1], "&amp;", "&")), http.StatusOK, "", `id="`+link[2]+`"`)
	p.want(p.get(path+"sessions"), http.StatusOK, "", "Ended in the last 30 days", "You ended it.", path+"events?at=")
	for about, want := range map[string]string{"sign-ins": "An app signed in", "endings": "A sign-in was ended.", "account": "The account was created.", "security": "Nothing of this kind", "warnings": "Nothing of this kind"} {
		page := p.get(path + "events?about=" + about)
		p.want(page, http.StatusOK, "", want)
		if about != "account" && strings.Contains(page.text, "The account was created.") {
			t.Errorf("%s shows another kind", about)
		}
	}
}

// BenchmarkPages asks for the pages of an account with 200 sessions, through the whole server.
func BenchmarkPages(b *testing.B) {
	s := pdstest.Start(b, pdstest.Options{Settings: []string{"PDS_RATE_LIMITS_ENABLED=false"}})
	alice := s.SignUp(b, "alice")
	var made struct{ Password string }
	s.Do(b, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]string{"name": "bot"}}).Decode(b, &made)
	for i := range 100 {
		s.SignIn(b, "alice.test", made.Password)
		if _, err := s.Grant(b.Context(), alice.DID, "atproto repo:com.example.post blob:image/* account:email", fmt.Sprint(i)); err != nil {
			b.Fatal(err)
		}
	}
	p := newVisitor(b, s)
	p.signIn("alice.test", pdstest.Password)
	for _, part := range []string{"sessions", "apps", "events", "app-passwords", "devices"} {
		b.Run(part, func(b *testing.B) {
			for b.Loop() {
				if page := p.get("/account/u/" + alice.DID + "/" + part); page.status != http.StatusOK {
					b.Fatal(page.text)
				}
			}
		})
	}
}
