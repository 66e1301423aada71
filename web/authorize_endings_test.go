package web_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// must calls a method, as the admin if auth is empty.
func (w *flowWorld) must(method, auth string, body any) pdstest.Answer {
	w.t.Helper()
	if auth == "" {
		auth = w.admin()
	}
	a := w.Client.Do(w.t, pdstest.Request{Method: http.MethodPost, NSID: method, Auth: auth, Body: body})
	if a.Status != http.StatusOK {
		w.t.Fatalf("%s: %d %s", method, a.Status, a.Body)
	}
	return a
}

// signOut ends everything of an account on its page, as its owner, on another browser.
func (w *flowWorld) signOut(s pdstest.Session) {
	w.t.Helper()
	b := w.browser(true)
	page := func(path string, fields ...string) shown {
		from := b.get(w.URL + path)
		m := regexp.MustCompile(`name="csrf" value="([^"]*)"`).FindStringSubmatch(from.body)
		if m == nil {
			w.t.Fatalf("%s: no form in %d %s", path, from.status, from.body)
		}
		form := url.Values{"csrf": {html.UnescapeString(m[1])}}
		for i := 0; i+1 < len(fields); i += 2 {
			form.Set(fields[i], fields[i+1])
		}
		return b.postForm(path, form, "Sec-Fetch-Site", "same-origin")
	}
	page("/account/sign-in", "identifier", s.DID, "password", flowPassword, "decision", "sign-in")
	if out := page("/account/u/"+s.DID+"/sessions", "decision", "confirm", "end", "all"); out.status != http.StatusSeeOther {
		w.t.Fatalf("end everything: %d %s", out.status, out.body)
	}
}

func (w *flowWorld) takedown(did string, applied bool) {
	w.t.Helper()
	w.must("com.atproto.admin.updateSubjectStatus", "", map[string]any{
		"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": did},
		"takedown": map[string]any{"applied": applied},
	})
}

// TestFlowSignedOut: "end everything" ends the codes that wait, and what was proven on pages
// that are open.
func TestFlowSignedOut(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	b := w.browser(false)
	open := b.signIn(b.get(w.push(w.public)), "alice.test").want(t, http.StatusOK, "consent")
	code := b.post(b.signIn(b.get(w.push(w.public)), "alice.test"), "decision", "allow").answer(t, "code").Get("code")
	w.signOut(alice)
	if status, body := w.redeem(w.public, code); status != http.StatusBadRequest || !strings.Contains(body, "invalid_grant") {
		t.Errorf("a code that waited: %d %s", status, body)
	}
	b.post(open, "decision", "allow").want(t, http.StatusUnprocessableEntity, "sign-in")
}

// TestFlowTakenDown: an account that is taken down while its request is open is an answer for
// the app, on each page.
func TestFlowTakenDown(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	b := w.browser(true)
	inFlow := w.browser(false)
	sealed := inFlow.signIn(inFlow.get(w.push(w.public)), "alice.test").want(t, http.StatusOK, "consent")
	b.signIn(b.get(w.push(w.public)), "alice.test", "remember", "on").want(t, http.StatusOK, "consent")
	chooser := b.get(w.push(w.public, "prompt", "select_account"))
	chosen := b.post(chooser, "did", alice.DID).want(t, http.StatusOK, "consent")
	before := b.get(w.push(w.public, "prompt", "login"))
	w.takedown(alice.DID, true)
	for name, s := range map[string]shown{
		"signed in":      inFlow.post(sealed, "decision", "allow"),
		"another button": inFlow.post(sealed, "decision", "x"),
		"chosen":         b.post(chosen, "decision", "allow"),
	} {
		if q := s.answer(t, "iss", "state"); q.Get("error") != "access_denied" || q.Get("error_description") != "The account has been taken down" {
			t.Errorf("%s: %v", name, q)
		}
	}
	if s := b.signIn(before, "alice.test").want(t, http.StatusUnprocessableEntity, "sign-in"); !strings.Contains(s.body, "taken down") {
		t.Errorf("signing in after it: %s", s.body)
	}
	if q := inFlow.post(sealed, "decision", "deny").answer(t); q.Get("error_description") != "The user denied the request" {
		t.Errorf("denied: %v", q)
	}
}

// TestFlowSuspended: the owner of a suspended account learns of it before an app gets in, even
// where all was allowed before.
func TestFlowSuspended(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	b := w.browser(true)
	code := b.post(b.signIn(b.get(w.push(w.trusted)), "alice.test", "remember", "on"), "permission", "repo:com.example.post", "decision", "allow").answer(t, "code").Get("code")
	if status, body := w.redeem(w.trusted, code); status != http.StatusOK {
		t.Fatal(body)
	}
	var line admin.AccountLine
	if err := w.Run(t.Context(), "account.suspend", admin.TakedownArgs{Account: alice.DID}, &line); err != nil {
		t.Fatal(err)
	}
	if q := b.get(w.push(w.trusted, "prompt", "none")).answer(t); q.Get("error") != "interaction_required" {
		t.Errorf("silently: %v", q)
	}
	for name, s := range map[string]shown{
		"hinted": b.get(w.push(w.trusted, "login_hint", alice.DID)),
		"signed": b.signIn(b.get(w.push(w.trusted, "prompt", "login")), "alice.test"),
		"chosen": b.post(b.get(w.push(w.trusted, "prompt", "select_account")), "did", alice.DID),
	} {
		if s.want(t, http.StatusOK, "consent"); !strings.Contains(s.body, "suspended by the operator") {
			t.Errorf("%s: %s", name, s.body)
		}
		b.post(s, "permission", "repo:com.example.post", "decision", "allow").answer(t, "code")
	}
}

// TestFlowAnsweredAgain: the forms of a request that was answered say so, whatever they ask for.
func TestFlowAnsweredAgain(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	b := w.browser(true)
	link := w.push(w.public, "response_mode", "form_post", "scope", "atproto identity:*")
	signIn := b.get(link)
	consent := b.signIn(signIn, "alice.test", "remember", "on").want(t, http.StatusOK, "consent")
	sent := b.post(consent, "permission", "identity:*", "understood", "on", "decision", "allow")
	code := regexp.MustCompile(`name="code" value="([^"]*)"`).FindStringSubmatch(sent.body)
	if code == nil || !strings.Contains(sent.body, "You are signed in") {
		t.Fatalf("%d %s", sent.status, sent.body)
	}
	// The browser that answered has a way back: a button, with the same code.
	if s := b.get(link); s.status != http.StatusOK || !strings.Contains(s.body, `action="`+backTo+`"`) || !strings.Contains(s.body, code[0]) || strings.Contains(s.body, "data-submit") {
		t.Errorf("%d %s", s.status, s.body)
	}
	if s := w.browser(true).get(link); strings.Contains(s.body, code[1]) {
		t.Error("another browser gets the code")
	}
	answered := func(name string, s shown) {
		t.Helper()
		if s.status != http.StatusOK || !strings.Contains(s.body, "answered this already") {
			t.Errorf("%s: %d %v %s", name, s.status, s.location, s.body)
		}
	}
	answered("not understood", b.post(consent, "permission", "", "decision", "allow"))
	answered("no button", b.post(consent))
	answered("the sign-in", b.signIn(signIn, "alice.test"))
	w.clock.Advance(31 * time.Minute)
	answered("too old", b.post(consent, "permission", "identity:*", "understood", "on", "decision", "allow"))
	w.clock.Advance(-31 * time.Minute)
	bare := b.post(b.get(w.push(w.public, "response_mode", "form_post")), "decision", "deny")
	if !strings.Contains(bare.body, "You are not signed in") || !strings.Contains(bare.body, `value="access_denied"`) {
		t.Errorf("denied: %s", bare.body)
	}
	w.signOut(alice) // the request goes with its code: the page of a link that is not valid
	if s := b.post(consent, "permission", "identity:*", "understood", "on", "decision", "allow"); s.status != http.StatusBadRequest {
		t.Errorf("after a sign-out: %d %s", s.status, s.body)
	}
}

// TestFlowNames: what an app says of itself, its name and logo, is on the consent page if the
// operator trusts it, and comes through this server. The account's lists show the name of
// others too, as what it is: a claim.
func TestFlowNames(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	b := w.browser(true)
	logo := func(id string) string { return "/oauth/logo?" + url.Values{"client_id": {id}}.Encode() }
	for id, trusted := range map[string]bool{w.trusted: true, w.public: false} {
		page := b.get(w.push(id))
		if page.field("step") == "sign-in" {
			page = b.signIn(page, "alice.test", "remember", "on")
		}
		page.want(t, http.StatusOK, "consent")
		text := html.UnescapeString(page.body)
		if strings.Contains(text, `src="`+logo(id)+`"`) != trusted || strings.Contains(text, "The App") != trusted {
			t.Errorf("trusted %v: %s", trusted, page.body)
		}
		code := b.post(page, "permission", "repo:com.example.post", "decision", "allow").answer(t, "code").Get("code")
		if status, body := w.redeem(id, code); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		picture := w.browser(false).get(w.URL + logo(id))
		if !trusted {
			if picture.status != http.StatusNotFound {
				t.Errorf("the logo of an app that is not trusted: %d", picture.status)
			}
			continue
		}
		h := picture.header
		if picture.status != http.StatusOK || picture.body != flowLogo || h.Get("Content-Type") != "image/png" || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Content-Security-Policy") != "default-src 'none'; sandbox" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("the logo: %d %v", picture.status, h)
		}
	}
	apps := b.get(w.URL + "/account/u/" + alice.DID + "/apps").body
	if strings.Count(apps, "<h2><span class=\"app-name\"><bdi>The App</bdi>") != 1 || strings.Count(apps, "It calls itself <bdi>The App</bdi>.") != 1 {
		t.Errorf("the list of apps: %s", apps)
	}
	if sessions := b.get(w.URL + "/account/u/" + alice.DID + "/sessions?kind=app").body; strings.Count(sessions, "The App") != 1 {
		t.Errorf("the list of sessions: %s", sessions)
	}
}
