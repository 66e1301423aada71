package web_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// TestFlowSignUp: somebody without an account makes one on the way.
func TestFlowSignUp(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	w.account("alice")
	b := w.browser(false)
	page := b.get(w.push(w.public, "prompt", "create")).want(t, http.StatusOK, "sign-up")
	signIn := b.post(page, "decision", "sign-in").want(t, http.StatusOK, "sign-in")
	page = b.post(signIn, "decision", "sign-up").want(t, http.StatusOK, "sign-up")
	fields := func(name string) []string {
		return []string{"handle", name, "domain", ".test", "email", name + "x@example.com", "password", flowPassword, "decision", "sign-up"}
	}
	taken := b.post(page, fields("alice")...).want(t, http.StatusUnprocessableEntity, "sign-up")
	if !strings.Contains(taken.body, "This name is taken") {
		t.Error(taken.body)
	}
	// Perhaps it is theirs, and the answer to the first form was lost.
	signIn = b.post(taken, "handle", "alice", "domain", ".test", "decision", "sign-in").want(t, http.StatusOK, "sign-in")
	if !strings.Contains(signIn.body, `value="alice.test"`) {
		t.Error(signIn.body)
	}
	b.post(page, "handle", "carol", "domain", ".test", "decision", "check").want(t, http.StatusOK, "sign-up")
	consent := b.post(page, fields("carol")...).want(t, http.StatusOK, "consent")
	if code := b.post(consent, "decision", "allow").answer(t, "code").Get("code"); code == "" {
		t.Error("no code")
	}
}

// TestFlowDeactivated: a deactivated account is reactivated, or not, or the request denied.
func TestFlowDeactivated(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	off := func() {
		t.Helper()
		if a := w.Client.Do(t, pdstest.Request{
			NSID: "com.atproto.server.deactivateAccount", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]any{},
		}); a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	status := func() string {
		t.Helper()
		var s pdstest.Session
		w.Client.GetSession(t, alice.AccessJwt).Decode(t, &s)
		return s.Status
	}
	off()
	b := w.browser(false)
	page := b.signIn(b.get(w.push(w.public)), "alice.test").want(t, http.StatusOK, "deactivated")
	consent := b.post(page, "decision", "continue").want(t, http.StatusOK, "consent")
	code := b.post(consent, "decision", "allow").answer(t, "code").Get("code")
	if status, body := w.redeem(w.public, code); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if got := status(); got != "deactivated" {
		t.Errorf("status %q", got)
	}
	page = b.signIn(b.get(w.push(w.public)), "alice.test").want(t, http.StatusOK, "deactivated")
	b.post(page, "decision", "reactivate").want(t, http.StatusOK, "consent")
	if got := status(); got != "" {
		t.Errorf("status %q", got)
	}
	off()
	page = b.signIn(b.get(w.push(w.public)), "alice.test").want(t, http.StatusOK, "deactivated")
	if q := b.post(page, "decision", "deny").answer(t); q.Get("error") != "access_denied" {
		t.Errorf("%v", q)
	}
}

// TestFlowAppPassword: an app password is none of the owner's.
func TestFlowAppPassword(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	var app struct{ Password string }
	w.Client.Do(t, pdstest.Request{
		NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]string{"name": "phone"},
	}).Decode(t, &app)
	b := w.browser(false)
	page := b.get(w.push(w.public))
	if s := b.post(page, "identifier", "alice.test", "password", app.Password, "decision", "sign-in").want(t, http.StatusUnprocessableEntity, "sign-in"); !strings.Contains(s.body, "That is an app password") {
		t.Error(s.body)
	}
}

// TestFlowExpired: a page that lay open for too long asks for the password again, and keeps the rest.
func TestFlowExpired(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	w.account("alice")
	b := w.browser(false)
	// The request lives as long as the page, so only a clock that jumps shows it.
	link := w.push(w.public)
	consent := b.signIn(b.get(link), "alice.test").want(t, http.StatusOK, "consent")
	w.clock.Advance(-31 * time.Minute)
	again := b.post(consent, "decision", "allow").want(t, http.StatusUnprocessableEntity, "sign-in")
	if !strings.Contains(again.body, "sign in again") {
		t.Error(again.body)
	}
	b.signIn(again, "alice.test").want(t, http.StatusOK, "consent")
}

// TestFlowPassword: a new password takes away what the old one has proven.
func TestFlowPassword(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	b := w.browser(true)
	consent := b.signIn(b.get(w.push(w.public)), "alice.test", "remember", "on").want(t, http.StatusOK, "consent")
	reset := w.Client.Do(t, pdstest.Request{
		NSID: "com.atproto.admin.updateAccountPassword", Auth: w.admin(), Body: map[string]string{"did": alice.DID, "password": "another-password-of-mine"},
	})
	if reset.Status != http.StatusOK {
		t.Fatalf("%d %s", reset.Status, reset.Body)
	}
	b.post(consent, "decision", "allow").want(t, http.StatusUnprocessableEntity, "sign-in")
	b.get(w.push(w.public)).want(t, http.StatusOK, "sign-in")
}

// TestFlowWithoutItsCookie: an account that was chosen on a browser is proven by that
// browser alone. A person who has the page, but not the cookie, signs in.
func TestFlowWithoutItsCookie(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	b, bare := w.browser(true), w.browser(false)
	b.signIn(b.get(w.push(w.public)), "alice.test", "remember", "on").want(t, http.StatusOK, "consent")
	consent := b.get(w.push(w.public)).want(t, http.StatusOK, "consent")
	bare.post(consent, "decision", "allow").want(t, http.StatusUnprocessableEntity, "sign-in")
	chooser := b.get(w.push(w.public, "prompt", "select_account")).want(t, http.StatusOK, "account")
	chosen := b.post(chooser, "did", alice.DID).want(t, http.StatusOK, "consent")
	bare.post(chosen, "decision", "allow").want(t, http.StatusUnprocessableEntity, "sign-in")
	if q := b.post(chosen, "decision", "allow").answer(t, "code"); q.Get("code") == "" {
		t.Errorf("the browser itself: %v", q)
	}
}

// admin returns the header of the server's admin.
func (w *flowWorld) admin() string {
	w.t.Helper()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:admin"))
}
