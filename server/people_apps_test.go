package server_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/oauth/oauthtest"
	"nestbox/store/storetest"
)

// TestPeopleApps: what a connected app may do is listed, in both lists, and "End" ends all
// its sessions at once.
func TestPeopleApps(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	g := &grantee{InProcess: s, t: t, did: alice.DID, key: oauthtest.NewSigner("ES256")}
	const granted = "atproto repo:xyz.statusphere.status account:email"
	g.token(granted)
	call := func() int { return g.call(granted, "com.atproto.server.getSession").Status }
	if got := call(); got != http.StatusOK {
		t.Fatalf("getSession: %d", got)
	}
	p := newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password)
	path := "/account/u/" + alice.DID + "/"
	p.want(p.get(path+"sessions?kind=app"), http.StatusOK, "", "Connected app", "xyz.statusphere.status", "See your e-mail address")
	page := p.get(path + "apps")
	p.want(page, http.StatusOK, "", "1 sign-in", "xyz.statusphere.status", "account:email")
	app := regexp.MustCompile(`name="end" value="(app [^"]*)"`).FindStringSubmatch(page.text)
	if app == nil {
		t.Fatalf("no app in %.3000s", page.text)
	}
	name, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(app[1], "app "))
	if err != nil {
		t.Fatal(err)
	}
	id := string(name)
	p.want(p.get(path+"apps?app="+url.QueryEscape(id)), http.StatusOK, "", "All connected apps", "account:email")
	p.want(p.get(path+"apps?app=another"), http.StatusOK, "", "No app is connected.")
	taken := p.post(page, path+"apps", url.Values{"take": {id + " account:email"}})
	p.want(taken, http.StatusOK, "", "See your e-mail address", "The app stays signed in.", `value="confirm"`)
	if !strings.Contains(string(g.call(granted, "com.atproto.server.getSession").Body), `"email"`) {
		t.Error("the permission is gone before that is confirmed")
	}
	for range 2 {
		p.want(p.post(taken, path+"apps", url.Values{"take": {id + " account:email"}, "decision": {"confirm"}}), http.StatusSeeOther, path+"apps?done=permission-taken")
	}
	if a := g.call(granted, "com.atproto.server.getSession"); a.Status != http.StatusOK || strings.Contains(string(a.Body), `"email"`) {
		t.Errorf("without the permission: %d %s", a.Status, a.Body)
	}
	if page = p.get(path + "apps"); strings.Contains(page.text, `value="`+id+` account:email"`) || !strings.Contains(page.text, "You did not allow 1 thing") {
		t.Errorf("the page after a permission was taken:\n%.4000s", page.text)
	}
	p.want(p.post(page, path+"apps", url.Values{"take": {id + " atproto"}, "decision": {"confirm"}}), http.StatusSeeOther, path+"apps?done=permission-taken")
	p.want(p.get(path+"events"), http.StatusOK, "", "lost a permission: See your e-mail address")
	asked := p.post(page, path+"apps", url.Values{"end": {app[1]}})
	p.want(asked, http.StatusOK, "", "End and forget", `value="confirm"`)
	if got := call(); got != http.StatusOK {
		t.Errorf("getSession before the end is confirmed: %d", got)
	}
	for range 2 { // a lost answer is asked for again
		p.want(p.post(asked, path+"apps", url.Values{"end": {app[1]}, "decision": {"confirm"}}), http.StatusSeeOther, path+"apps?done=app-ended")
	}
	if got := call(); got != http.StatusUnauthorized {
		t.Errorf("getSession of an app that was disconnected: %d", got)
	}
	p.want(p.get(path+"apps"), http.StatusOK, "", "No app is connected.")
}

// TestPeopleFactor: a second step on the sign-in page, and a browser that is trusted with
// it until another factor, or a password, is new.
func TestPeopleFactor(t *testing.T) {
	const address = "alice@example.com"
	clock := storetest.NewClock(time.Now())
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Settings: box.Settings(), Now: clock.Now})
	alice := s.SignUp(t, "alice")
	must := func(method string, body any) {
		t.Helper()
		if a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server." + method, Auth: pdstest.Bearer(alice.AccessJwt), Body: body}); a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", method, a.Status, a.Body)
		}
	}
	must("requestEmailConfirmation", nil)
	must("confirmEmail", map[string]any{"email": address, "token": box.Code(t, address)})
	turn := func(on bool) {
		t.Helper()
		in := map[string]any{"email": address, "emailAuthFactor": on}
		if !on {
			must("requestEmailUpdate", nil)
			in["token"] = box.Code(t, address)
		}
		must("updateEmail", in)
		box.Wait(t, address) // the notice of it
	}
	turn(true)
	p := newVisitor(t, s)
	asked := p.signIn("alice.test", pdstest.Password)
	p.want(asked, http.StatusOK, "", "Enter the code from your e-mail", "a…@example.com", "Trust this browser for 30 days")
	if len(p.cookies) != 0 {
		t.Errorf("the password alone sets %v", p.cookies)
	}
	code := box.Code(t, address)
	answer := func(from shown, code string) shown {
		return p.post(from, "/account/sign-in", url.Values{"code": {code}, "trust": {"on"}, "decision": {"continue"}})
	}
	p.want(answer(asked, ""), http.StatusUnprocessableEntity, "", "Enter the code.")
	p.want(answer(asked, "AAAAA-BBBBB"), http.StatusUnprocessableEntity, "", "That code is not right.")
	p.want(answer(asked, strings.ToLower(code)), http.StatusSeeOther, inHere)
	clock.Advance(3 * time.Hour)
	if got := p.accounts(); len(got) != 0 {
		t.Fatalf("3 h later: %v", got)
	}
	p.want(p.signIn("alice.test", pdstest.Password), http.StatusSeeOther, inHere)
	p.want(p.get("/account/u/"+alice.DID+"/sessions"), http.StatusOK, "", "Skips the second step until")
	devices := "/account/u/" + alice.DID + "/devices"
	page := p.get(devices)
	p.want(page, http.StatusOK, "", "not asked for until", "Stop trusting", "this browser")
	browser := regexp.MustCompile(`name="untrust" value="([^"]*)"`).FindStringSubmatch(page.text)[1]
	for range 2 {
		p.want(p.post(page, devices, url.Values{"untrust": {browser}}), http.StatusSeeOther, devices+"?done=trust-ended")
	}
	if text := p.get(devices).text; strings.Contains(text, "Stop trusting") {
		t.Errorf("it is trusted still: %.3000s", text)
	}
	again := p.signIn("alice.test", pdstest.Password)
	p.want(again, http.StatusOK, "", "Enter the code from your e-mail")
	p.want(answer(again, box.Code(t, address)), http.StatusSeeOther, inHere)
	alice = s.MustRefresh(t, alice.RefreshJwt)
	turn(false)
	turn(true)
	p.want(p.signIn("alice.test", pdstest.Password), http.StatusOK, "", "Enter the code from your e-mail")
}

// TestPeopleOthers: "all but this" also ends a copy of this browser's cookie, and a lost
// answer to it signs nobody out.
func TestPeopleOthers(t *testing.T) {
	t.Parallel()
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	p, thief := newVisitor(t, s), newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password)
	thief.cookies["nestbox"] = p.cookies["nestbox"]
	path := "/account/u/" + alice.DID + "/sessions"
	asked := p.post(p.get(path), path, url.Values{"end": {"others"}})
	endOthers := func() {
		t.Helper()
		p.want(p.post(asked, path, url.Values{"decision": {"confirm"}, "end": {"others"}}), http.StatusSeeOther, path+"?done=ended-all")
	}
	p.deaf = true // the answer is lost
	endOthers()
	if got := p.accounts(); len(got) != 1 {
		t.Fatalf("a lost answer: %v", got)
	}
	p.deaf = false
	endOthers()
	if got := p.accounts(); len(got) != 1 {
		t.Fatalf("this browser: %v", got)
	}
	if got := thief.accounts(); len(got) != 0 {
		t.Errorf("a copy of its cookie: %v", got)
	}
	if got := p.accounts(); len(got) != 1 {
		t.Errorf("this browser, after the copy was used: %v", got)
	}
}
