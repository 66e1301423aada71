package web_test

import (
	"encoding/json"
	"html"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/internal/pdstest"
	"nestbox/plc"
)

// keyPair makes a rotation key elsewhere, as people do.
func keyPair(t *testing.T) (*atcrypto.PrivateKeyP256, string) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public.DIDKey()
}

// rotationKeys returns those that the directory has.
func (o *owner) rotationKeys() []string {
	o.t.Helper()
	var d struct{ RotationKeys []string }
	if err := json.Unmarshal([]byte(o.directory("/data")), &d); err != nil {
		o.t.Fatal(err)
	}
	return d.RotationKeys
}

// directory asks the directory about the identity.
func (o *owner) directory(path string) string {
	o.t.Helper()
	page := o.get(o.w.PLC + "/" + o.DID + path)
	if page.status != http.StatusOK {
		o.t.Fatalf("%d %s", page.status, page.body)
	}
	return page.body
}

// sent answers the page that shows a change by sending it, with the proof that is asked for.
func (o *owner) sent(page shown, box *pdstest.Mailbox) shown {
	o.t.Helper()
	page = o.press(page, "send")
	if strings.Contains(page.body, "Confirm that it is you") {
		page = o.provenBothOr(page, box)
	}
	return page
}

// TestIdentityPage: an owner sees whose each key is, adds one above the server's and one below,
// each shown before it is sent, removes them, and reads what happened. Each change is on the
// trail and mailed.
func TestIdentityPage(t *testing.T) {
	t.Parallel()
	_, recovery := keyPair(t)
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, append(box.Settings(), "PDS_RECOVERY_DID_KEY="+recovery)...)
	alice := w.owner("alice")
	alice.at(alice.press(alice.page("email"), "send"), http.StatusSeeOther, alice.path("email"))
	alice.at(alice.press(alice.page("email"), "confirm", "code", box.Code(t, "alice@example.com")), http.StatusSeeOther, "/account/")
	first := alice.rotationKeys()
	if len(first) != 2 || first[0] != recovery {
		t.Fatalf("%v", first)
	}
	page := alice.at(alice.page("identity"), http.StatusOK, "", "The operator’s key", "This server’s key", recovery, first[1],
		"stronger than this server", "Your permanent number was made, for alice.test on "+w.URL, "Signed with this server’s key.")
	if strings.Contains(page.body, `value="`+first[1]+`"`) {
		t.Error("the server's key can be removed")
	}

	_, above := keyPair(t)
	shownChange := alice.at(alice.press(page, "add", "key", above, "place", "above"), http.StatusOK, "", "Nothing was sent yet.", "added", above, recovery,
		"owns your identity", "as the directory has it")
	if got := alice.rotationKeys(); len(got) != 2 {
		t.Fatalf("it was sent before it was shown: %v", got)
	}
	for _, part := range []string{"cross-site", "same-site", "none"} {
		form := url.Values{"decision": {"send"}, "change": {"add"}, "key": {above}, "head": {"x"}}
		alice.at(alice.postForm(alice.path("identity"), form, "Sec-Fetch-Site", part), http.StatusForbidden, "")
	}
	w.clock.Advance(11 * time.Minute)
	asked := alice.at(alice.press(shownChange, "send"), http.StatusOK, "", "Confirm that it is you", "Changing who controls your identity")
	alice.at(alice.provenBothOr(asked, box), http.StatusSeeOther, alice.path("identity")+"?done=identity")
	if got := alice.rotationKeys(); len(got) != 3 || got[0] != above {
		t.Fatalf("%v", got)
	}
	alice.happened("rotation-keys-changed")
	if m := box.Wait(t, "alice@example.com"); m.Subject != "Who controls your identity was changed" || !strings.Contains(m.Text, above[8:20]) {
		t.Errorf("%s\n%s", m.Subject, m.Text)
	}
	// A lost answer: the same again is a success, and nothing is sent.
	alice.at(alice.sent(shownChange, box), http.StatusSeeOther, alice.path("identity")+"?done=identity")

	_, below := keyPair(t)
	page = alice.get(w.URL + alice.path("identity") + "?done=identity")
	alice.at(page, http.StatusOK, "", "Your identity has these keys now.", "Your key", "Added on", "this can be undone with the operator’s key.")
	alice.at(alice.sent(alice.press(page, "add", "key", " "+below+" ", "place", "below"), box), http.StatusSeeOther, alice.path("identity"))
	if got := alice.rotationKeys(); len(got) != 4 || got[3] != below {
		t.Fatalf("%v", got)
	}
	old := alice.at(alice.press(alice.page("identity"), below), http.StatusOK, "", "removed", below, "can then not change your identity")
	removed := alice.at(alice.press(alice.page("identity"), above), http.StatusOK, "", "The key is stronger than this server", above)
	alice.at(alice.sent(removed, box), http.StatusSeeOther, alice.path("identity"))
	// What was shown before that is of an old state: nothing is sent, and the page shows the present.
	alice.at(alice.sent(old, box), http.StatusConflict, "", "was changed meanwhile", "A key that controls your identity was added", "A key that controlled your identity was removed")
	if got := alice.rotationKeys(); len(got) != 3 || got[0] != recovery || got[2] != below {
		t.Fatalf("%v", got)
	}
	alice.at(alice.get(w.URL+alice.path("events")+"?about=security"), http.StatusOK, "", "Added to the keys that control your identity: "+above, "Removed from the keys that control your identity: "+above)
	alice.at(alice.page("security"), http.StatusOK, "", "The keys that control your identity were changed")
	alice.at(alice.page("secure"), http.StatusOK, "", "Who controls your identity", alice.path("identity"))
	alice.at(alice.get(w.URL+alice.path("identity"), "Accept-Language", "de"), http.StatusOK, "", "Wer deine Identität bestimmt", "Schlüssel des Betreibers")
}

// TestIdentityKeys: what is no public key is refused with a word; what may be a private one is
// in no answer and no log; the server's own key stays.
func TestIdentityKeys(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.owner("alice")
	secret, _ := keyPair(t)
	server := alice.rotationKeys()[0]
	var d struct{ VerificationMethods map[string]string }
	if err := json.Unmarshal([]byte(alice.directory("/data")), &d); err != nil {
		t.Fatal(err)
	}
	for typed, says := range map[string]string{
		"":                              "Paste a public key that begins with “did:key:”.",
		"alice":                         "Paste a public key that begins with “did:key:”.",
		secret.Multibase():              "This may be a private key.",
		"did:key:" + secret.Multibase(): "This may be a private key.",
		"did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK": "Keys of this kind cannot control an identity.",
		server:                           "This key is there already.",
		d.VerificationMethods["atproto"]: "This is the key with which this server signs your posts.",
	} {
		for _, decision := range []string{"add", "send"} {
			var page shown
			switch {
			case decision == "add":
				page = alice.press(alice.page("identity"), "add", "key", typed, "place", "above")
			case strings.Contains(says, "private"):
				page = alice.postTo(alice.path("identity"), alice.page("identity"), "decision", "send", "change", "add", "key", typed)
			default:
				continue
			}
			alice.at(page, http.StatusUnprocessableEntity, "", says)
			if strings.Contains(says, "private") && (strings.Contains(page.body, typed) || strings.Contains(page.body, html.EscapeString(typed))) {
				t.Errorf("%s is in the answer", typed)
			}
		}
	}
	if log := w.log.String(); strings.Contains(log, secret.Multibase()) {
		t.Error("a private key is in the log")
	}
	alice.at(alice.postTo(alice.path("identity"), alice.page("identity"), "decision", "remove"), http.StatusUnprocessableEntity, "", "did:key:")
	alice.at(alice.postTo(alice.path("identity"), alice.page("identity"), "decision", "send", "change", "remove", "key", ""), http.StatusUnprocessableEntity, "", "did:key:")
	alice.at(alice.postTo(alice.path("identity"), alice.page("identity"), "decision", "remove", "remove", server), http.StatusUnprocessableEntity, "", "This server’s key stays")
	alice.at(alice.postTo(alice.path("identity"), alice.page("identity"), "decision", "remove", "remove", "did:key:unknown"), http.StatusSeeOther, alice.path("identity")+"?done=identity")
	if got := alice.rotationKeys(); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestIdentityWithoutMail: on a server that sends no mail, rotation keys want a factor that is
// three days old, or the operator.
func TestIdentityWithoutMail(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t, "PDS_EMAIL_SMTP_URL=none")
	alice := w.owner("alice")
	_, mine := keyPair(t)
	change := func(o *owner) shown {
		return o.press(o.press(o.page("identity"), "add", "key", mine, "place", "below"), "send")
	}
	w.clock.Advance(11 * time.Minute)
	alice.at(change(alice), http.StatusConflict, "", "ask the operator of this server")
	code := alice.authenticator()
	enter := func() *owner {
		o := &owner{browser: w.browser(true), Session: alice.Session, t: t}
		page := o.press(o.get(w.URL+"/account/sign-in"), "sign-in", "identifier", "alice.test", "password", flowPassword)
		o.at(o.press(page, "continue", "code", code()), http.StatusSeeOther, "/account")
		return o
	}
	if page := change(enter()); page.status == http.StatusSeeOther {
		t.Error("a factor of today suffices")
	}
	w.clock.Advance(4 * 24 * time.Hour)
	o := enter()
	o.at(change(o), http.StatusSeeOther, o.path("identity")+"?done=identity")
	if got := o.rotationKeys(); len(got) != 2 || got[1] != mine {
		t.Errorf("%v", got)
	}
}

// TestIdentityDirectory: a directory that does not answer is a 503 in words; an operation that
// another key's holder sent shows, with who can undo it; one that ends the identity too.
func TestIdentityDirectory(t *testing.T) {
	t.Parallel()
	other := newFlowWorld(t)
	behind, err := url.Parse(other.PLC)
	if err != nil {
		t.Fatal(err)
	}
	var down, deaf atomic.Bool
	proxy := httputil.NewSingleHostReverseProxy(behind)
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if down.Load() || deaf.Load() && strings.HasSuffix(r.URL.Path, "/log/audit") {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(front.Close)
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, append(box.Settings(), "PDS_DID_PLC_URL="+front.URL)...)
	alice := w.owner("alice")
	secret, mine := keyPair(t)
	change := alice.press(alice.page("identity"), "add", "key", mine, "place", "above")
	down.Store(true)
	page := alice.at(alice.page("identity"), http.StatusServiceUnavailable, "", "The directory does not answer", "Your account works meanwhile.")
	if page.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	alice.at(alice.sent(change, box), http.StatusServiceUnavailable, "", "so nothing was changed")
	down.Store(false)
	deaf.Store(true)
	alice.at(alice.page("identity"), http.StatusOK, "", "This server’s key", "does not show the history")
	deaf.Store(false)
	alice.at(alice.press(change, "send"), http.StatusSeeOther, alice.path("identity"))

	log, err := plc.ReadLog([]byte(alice.directory("/log/audit")))
	if err != nil {
		t.Fatal(err)
	}
	last, _ := plc.Last(log)
	op, err := plc.Update(last.Operation, plc.Change{AlsoKnownAs: []string{"at://thief.test"}, RotationKeys: []string{mine}}, secret)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(op)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(other.PLC+"/"+alice.DID, "application/json", strings.NewReader(string(raw))) //nolint:noctx // a test
	if err != nil || resp.StatusCode != http.StatusOK || resp.Body.Close() != nil {
		t.Fatal(err, resp.StatusCode)
	}
	page = alice.at(alice.page("identity"), http.StatusOK, "", "says something else about your handle", "The handle changed from alice.test to thief.test.",
		"Nobody can undo this: the strongest key signed it.", "A key that controlled your identity was removed")
	if regexp.MustCompile(`name="(remove|decision)" value="(did:key|add)`).MatchString(page.body) {
		t.Error("it offers a change that cannot be made")
	}
	alice.at(alice.postTo(alice.path("identity"), page, "decision", "send", "change", "remove", "key", mine, "head", "x"), http.StatusConflict, "", "Below is how it is now")
}
