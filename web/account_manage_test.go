package web_test

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/internal/dnstest"
	"nestbox/internal/pdstest"
)

// session returns what getSession says of the account.
func (o *owner) session() (s struct {
	Handle, Email  string
	EmailConfirmed bool
	Active         bool
	Status         string
},
) {
	o.t.Helper()
	signed := o.w.SignIn(o.t, o.DID, flowPassword)
	o.w.GetSession(o.t, signed.AccessJwt).Decode(o.t, &s)
	return s
}

// TestChangeHandleHere: a name of this server, after the password; what is wrong with it is
// said before that is asked for, or with what was typed.
func TestChangeHandleHere(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.owner("alice")
	w.account("bob")
	page := func() shown { return alice.page("handle") }
	alice.at(alice.press(page(), "here"), http.StatusUnprocessableEntity, "", "Choose a name.")
	for name, says := range map[string]string{
		"bob": "Somebody else has this handle", "al": "too short", strings.Repeat("a", 19): "too long", "admin": "reserved", "-x-": "cannot be used", "a.b": "cannot be used",
	} {
		shown := alice.press(page(), "here", "name", name)
		if strings.Contains(shown.body, "Confirm that it is you") {
			shown = alice.proven(shown)
		}
		alice.at(shown, http.StatusUnprocessableEntity, "", says, `value="`+name+`"`)
	}
	wrong := newFlowWorldOwner(t, w, "carol")
	asked := wrong.press(wrong.page("handle"), "here", "name", "caroline")
	asked = wrong.at(wrong.press(asked, "confirm", "password", "not it"), http.StatusUnprocessableEntity, "", "That is not your password.")
	if !strings.Contains(asked.body, `name="kept"`) {
		t.Error("the form that waits is lost")
	}
	wrong.at(wrong.press(asked, "confirm", "password", flowPassword), http.StatusSeeOther, wrong.path("manage")+"?done=handle")
	if got := wrong.session().Handle; got != "caroline.test" {
		t.Errorf("handle %s", got)
	}
	alice.at(alice.proven(alice.press(page(), "here", "name", " Alicia ")), http.StatusSeeOther, alice.path("manage")+"?done=handle")
	alice.at(alice.get(w.URL+alice.path("manage")+"?done=handle"), http.StatusOK, "", "Your handle is changed.", "alicia.test")
	alice.happened("handle-changed")
	alice.at(alice.press(page(), "check"), http.StatusOK, "", "alicia.test leads to your account.", "The name is yours.", "Its document names this handle.")
	// The browser that has proven itself is not asked for ten minutes.
	w.clock.Advance(11 * time.Minute)
	alice.at(alice.press(page(), "here", "name", "alice"), http.StatusOK, "", "Confirm that it is you")
}

// newFlowWorldOwner is w.owner for a second account of a test.
func newFlowWorldOwner(t *testing.T, w *flowWorld, name string) *owner {
	t.Helper()
	o := w.owner(name)
	w.clock.Advance(11 * time.Minute) // the sign-in counts as a proof no more
	return o
}

// records are the TXT records of a nameserver.
type records struct {
	mu  sync.Mutex
	all map[string][]string
}

func (z *records) set(handle string, values ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.all["_atproto."+handle] = values
}

func (z *records) txt(name string) ([]string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	switch values, ok := z.all[strings.ToLower(name)]; {
	case !ok:
		return nil, dnstest.ErrNoName
	case len(values) == 0:
		return nil, errors.New("the server fails")
	default:
		return values, nil
	}
}

// TestChangeHandleOwn: an own domain becomes the handle once it leads to the account; until
// then the page shows what to write, and what was found.
func TestChangeHandleOwn(t *testing.T) {
	t.Parallel()
	z := &records{all: map[string][]string{}}
	w := newFlowWorld(t, "PDS_HANDLE_BACKUP_NAMESERVERS="+dnstest.Nameserver(t, z.txt))
	alice := w.owner("alice")
	const own = "alice.example.com"
	for typed, says := range map[string]string{"": "not a domain", "alice": "not a domain", "x.test": "Names with this ending belong to this server", "a.local": "not a domain"} {
		alice.at(alice.press(alice.page("handle"), "own", "own", typed), http.StatusUnprocessableEntity, "", says)
	}
	page := alice.at(alice.press(alice.page("handle"), "own", "own", "https://"+strings.ToUpper(own)+"/"), http.StatusOK, "",
		"_atproto."+own, "did="+alice.DID, "https://"+own+"/.well-known/atproto-did")
	page = alice.at(alice.press(page, "check-own"), http.StatusOK, "", own+" does not lead to your account.", "None was found.")
	page = alice.at(alice.press(page, "change"), http.StatusUnprocessableEntity, "", "This domain does not lead to your account yet.", "None was found.")
	const stranger = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	z.set(own, "did="+stranger)
	page = alice.at(alice.press(page, "check-own"), http.StatusOK, "", "It names another account: "+stranger)
	z.set(own, "did="+stranger, "did="+alice.DID)
	page = alice.at(alice.press(page, "check-own"), http.StatusOK, "", "they name different accounts")
	z.set(own, "other text", "did="+alice.DID)
	page = alice.at(alice.press(page, "check-own"), http.StatusOK, "", own+" leads to your account.", "It names your account.")
	alice.at(alice.press(page, "change"), http.StatusSeeOther, alice.path("manage")+"?done=handle")
	if got := alice.session().Handle; got != own {
		t.Errorf("handle %s", got)
	}
	// A domain that is lost shows at once where the owner looks.
	z.set(own, "did="+stranger)
	alice.at(alice.press(alice.page("handle"), "check"), http.StatusOK, "", own+" does not lead to your account.", "Its document names this handle.")
	alice.at(alice.page("manage"), http.StatusOK, "", "does not work", "Last checked")
	z.set(own, "did="+alice.DID)
	alice.press(alice.page("handle"), "check")
	if page := alice.page("manage"); strings.Contains(page.body, "does not work") {
		t.Error("it holds again")
	}
}

// TestChangeEmail: confirm, then change: a code goes to the new address, which is the
// account's, confirmed, once it is typed; the old one gets a notice.
func TestChangeEmail(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, box.Settings()...)
	alice := w.owner("alice")
	w.account("bob")
	const first, second = "alice@example.com", "Alice@New.example"
	page := func() shown { return alice.page("email") }
	alice.at(page(), http.StatusOK, "", first, "not confirmed")
	alice.at(alice.press(page(), "confirm"), http.StatusUnprocessableEntity, "", "Enter the code from the mail.")
	alice.at(alice.press(page(), "send"), http.StatusSeeOther, alice.path("email")+"?done=code-sent")
	code := box.Code(t, first)
	alice.at(alice.press(page(), "confirm", "code", "ABCDE-23456"), http.StatusUnprocessableEntity, "", "This code is not right")
	alice.at(alice.press(page(), "confirm", "code", strings.ToLower(code)), http.StatusSeeOther, alice.path("manage")+"?done=email-confirmed")
	alice.at(alice.page("manage"), http.StatusOK, "", "confirmed")

	for typed, says := range map[string]string{"": "Enter your e-mail address.", "nonsense": "This is not an e-mail address.", "ALICE@example.com": "This is your address already."} {
		got := alice.press(page(), "change", "email", typed)
		if strings.Contains(got.body, "Confirm that it is you") {
			got = alice.provenBoth(got, box, first)
		}
		alice.at(got, http.StatusUnprocessableEntity, "", says)
	}
	sent := alice.at(alice.press(page(), "change", "email", second), http.StatusOK, "", "We have mailed a code to "+second)
	code = box.Code(t, second)
	sent = alice.at(alice.press(sent, "new", "code", "ABCDE-23456"), http.StatusUnprocessableEntity, "", "This code is not right", second)
	// The code is for the address that it was sent to.
	alice.at(alice.press(sent, "new", "code", code, "email", "mallory@example.net"), http.StatusUnprocessableEntity, "", "This code is not right")
	alice.at(alice.press(sent, "new", "code", code), http.StatusSeeOther, alice.path("manage")+"?done=email")
	if got := alice.session(); got.Email != strings.ToLower(second) || !got.EmailConfirmed {
		t.Errorf("%+v", got)
	}
	alice.happened("email-changed")
	for notice := box.Wait(t, first); ; notice = box.Wait(t, first) {
		if strings.Contains(notice.Subject, "has a new email address") {
			if strings.Contains(notice.Text, "not confirmed") || notice.Code() != "" {
				t.Errorf("the notice: %s", notice.Text)
			}
			break
		}
	}
	// That an address is taken is said only to somebody who reads its mail.
	sent = alice.at(alice.press(page(), "change", "email", "bob@example.com"), http.StatusOK, "", "We have mailed a code to bob@example.com")
	mail := box.Wait(t, "bob@example.com")
	if strings.Contains(mail.Text, "alice") {
		t.Errorf("a stranger's mail names the account: %s", mail.Text)
	}
	alice.at(alice.press(sent, "new", "code", mail.Code()), http.StatusUnprocessableEntity, "", "Another account on this server has this address.")
}

// TestChangeEmailWithoutMail: a server that sends no mail changes the address at once, and
// confirms nothing.
func TestChangeEmailWithoutMail(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t, "PDS_EMAIL_SMTP_URL=none")
	alice := w.owner("alice")
	w.clock.Advance(11 * time.Minute)
	asked := alice.press(alice.page("email"), "change", "email", "new@example.com")
	alice.at(alice.proven(asked), http.StatusSeeOther, alice.path("manage")+"?done=email")
	if got := alice.session(); got.Email != "new@example.com" || got.EmailConfirmed {
		t.Errorf("%+v", got)
	}
}

// TestChangePassword: it signs out every app and every browser but this one; a copy of the
// cookie from before is worth nothing; app passwords stay.
func TestChangePassword(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t, "PDS_EMAIL_SMTP_URL=none")
	alice := w.owner("alice")
	other := &owner{browser: w.browser(true), Session: alice.Session, t: t}
	other.enter("alice.test")
	w.clock.Advance(11 * time.Minute)
	copied := &owner{browser: w.browser(true), Session: alice.Session, t: t}
	copied.http.Jar.SetCookies(mustURL(t, w.URL), alice.http.Jar.Cookies(mustURL(t, w.URL)))

	page := func() shown { return alice.page("password") }
	for chosen, says := range map[string]string{"": "Choose a password.", "short": "at least 8", "password1": "among the most used", "alice.test": "Do not use your handle"} {
		alice.at(alice.press(page(), "set", "new_password", chosen, "password", flowPassword), http.StatusUnprocessableEntity, "", says)
	}
	const next = "a rather long new one"
	asked := alice.at(alice.press(page(), "set", "new_password", next, "password", "not it"), http.StatusUnprocessableEntity, "", "That is not your password.")
	if strings.Contains(asked.body, next) || strings.Contains(asked.body, "not it") {
		t.Error("a password is in the page")
	}
	alice.at(alice.press(asked, "confirm", "password", flowPassword), http.StatusSeeOther, alice.path("manage")+"?done=password")
	alice.at(alice.page("manage"), http.StatusOK, "", alice.DID)
	other.at(other.page("manage"), http.StatusSeeOther, "/account/sign-in")
	copied.at(copied.page("manage"), http.StatusSeeOther, "/account/sign-in")
	if a := w.GetSession(t, alice.AccessJwt); a.Status != http.StatusBadRequest {
		t.Errorf("an older session: %d", a.Status)
	}
	w.SignIn(t, "alice.test", next)
	w.clock.Advance(11 * time.Minute)
	alice.at(alice.press(page(), "set", "new_password", "yet another new one", "password", next), http.StatusSeeOther, alice.path("manage")+"?done=password")
	alice.happened("password-changed")
}

// TestNotices: turning them off wants the password, is mailed and recorded; on wants nothing.
func TestNotices(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, box.Settings()...)
	alice := w.owner("alice")
	alice.press(alice.page("email"), "send")
	alice.press(alice.page("email"), "confirm", "code", box.Code(t, "alice@example.com"))
	w.clock.Advance(11 * time.Minute)
	manage := alice.path("manage")
	alice.at(alice.proven(alice.press(alice.page("manage"), "notices-off")), http.StatusSeeOther, manage+"?done=notices-off")
	alice.happened("notices-off")
	if last := box.Wait(t, "alice@example.com"); last.Subject != "Notices are off" {
		t.Errorf("the last mail: %s", last.Subject)
	}
	alice.at(alice.press(alice.page("manage"), "notices-on"), http.StatusSeeOther, manage+"?done=notices-on")
	alice.happened("notices-on")
}

// TestInvites: the codes that an account has earned are on its page, with who came by them.
func TestInvites(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t, "PDS_INVITE_REQUIRED=true", "PDS_INVITE_INTERVAL=1000")
	var made struct{ Codes []string }
	if err := w.Run(t.Context(), "invite.create", map[string]any{"codes": 1, "uses": 5}, &made); err != nil {
		t.Fatal(err)
	}
	sign := func(name, code string) pdstest.Session {
		var s pdstest.Session
		w.Client.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: map[string]string{
			"handle": name + ".test", "email": name + "@example.com", "password": flowPassword, "inviteCode": code,
		}}).Decode(t, &s)
		return s
	}
	alice := &owner{browser: w.browser(true), Session: sign("alice", made.Codes[0]), t: t}
	alice.enter("alice.test")
	w.clock.Advance(time.Hour)
	page := alice.at(alice.page("manage"), http.StatusOK, "", "Invite codes", "can be used once")
	code := regexp.MustCompile(`test-[a-z2-7]{5}-[a-z2-7]{5}|localhost-[a-z2-7]{5}-[a-z2-7]{5}`).FindString(page.body)
	if bob := sign("bob", code); bob.DID == "" {
		t.Fatalf("the code %q of the page admits nobody\n%s", code, page.body)
	}
	alice.at(alice.page("manage"), http.StatusOK, "", "used up", "bob.test")
}
