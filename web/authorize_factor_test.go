package web_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"nestbox/internal/pdstest"
)

// person is the owner of an account, with a browser of their own for its pages.
type person struct {
	pdstest.Session

	w   *flowWorld
	own *browser
	// secret is the authenticator app's, recovery the codes.
	secret   string
	recovery []string
}

// page sends the form of a page below /account.
func (p *person) page(path string, fields ...string) shown {
	p.w.t.Helper()
	return p.form(p.own.get(p.w.URL+path), path, fields...)
}

func (p *person) form(from shown, path string, fields ...string) shown {
	p.w.t.Helper()
	form := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="(csrf|flow|kept|setup)" value="([^"]*)"`).FindAllStringSubmatch(from.body, -1) {
		if !form.Has(m[1]) {
			form.Set(m[1], html.UnescapeString(m[2]))
		}
	}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return p.own.postForm(path, form, "Sec-Fetch-Site", "same-origin")
}

// person makes an account whose owner is signed in on a browser of their own.
func (w *flowWorld) person(name string) *person {
	w.t.Helper()
	p := &person{Session: w.account(name), w: w, own: w.browser(true)}
	p.page("/account/sign-in", "identifier", p.DID, "password", flowPassword, "decision", "sign-in")
	return p
}

// six returns the authenticator's next code.
func (p *person) six() string {
	p.w.t.Helper()
	p.w.clock.Advance(30 * time.Second)
	code, err := totp.GenerateCode(p.secret, p.w.clock.Now())
	if err != nil {
		p.w.t.Fatal(err)
	}
	return code
}

// newFactorWorld is a server with an account that has an authenticator app.
func newFactorWorld(t *testing.T) (*flowWorld, *person) {
	t.Helper()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, box.Settings()...)
	alice := w.person("alice")
	alice.totp(box)
	return w, alice
}

// totp sets up an authenticator app.
func (p *person) totp(box *pdstest.Mailbox) {
	p.w.t.Helper()
	path := "/account/u/" + p.DID + "/security"
	setup := p.page(path, "decision", "totp-add")
	setup = p.form(setup, path, "step", "step-up", "decision", "confirm", "code", box.Code(p.w.t, p.Handle[:strings.IndexByte(p.Handle, '.')]+"@example.com"))
	m := regexp.MustCompile(`secret=([A-Z2-7]{32})`).FindStringSubmatch(setup.body)
	if m == nil {
		p.w.t.Fatalf("no secret: %d %s", setup.status, setup.body)
	}
	p.secret = m[1]
	done := p.form(setup, path, "step", "totp", "decision", "confirm", "code", p.six())
	for _, m := range regexp.MustCompile(`>([A-Z2-7]{5}-[A-Z2-7]{5})<`).FindAllStringSubmatch(done.body, -1) {
		p.recovery = append(p.recovery, m[1])
	}
	if len(p.recovery) != 10 {
		p.w.t.Fatalf("%d recovery codes: %d %s", len(p.recovery), done.status, done.body)
	}
}

// TestFlowTOTP: the second step in the flow, with an authenticator app and recovery codes.
func TestFlowTOTP(t *testing.T) {
	t.Parallel()
	w, alice := newFactorWorld(t)
	b := w.browser(false)
	ask := func() shown {
		t.Helper()
		page := b.signIn(b.get(w.push(w.public)), "alice.test").want(t, http.StatusOK, "factor")
		if !strings.Contains(page.body, "authenticator app") || !strings.Contains(page.body, `name="trust"`) || !strings.Contains(page.body, `value="recovery"`) {
			t.Error(page.body)
		}
		return page
	}
	page := ask()
	if s := b.post(page, "decision", "continue").want(t, http.StatusUnprocessableEntity, "factor"); !strings.Contains(s.body, "Enter the code.") {
		t.Error(s.body)
	}
	code := alice.six()
	spelled := code[:3] + " " + code[3:]
	consent := b.post(page, "code", spelled, "decision", "continue").want(t, http.StatusOK, "consent")
	// The same code of the same page is a repeated post; of another page it was used.
	b.post(page, "code", code, "decision", "continue").want(t, http.StatusOK, "consent")
	b.post(ask(), "code", code, "decision", "continue").want(t, http.StatusUnprocessableEntity, "factor")
	// The page before it is worth nothing on another browser's page of another request.
	b.post(consent, "decision", "allow").answer(t, "code")

	late := ask()
	w.clock.Advance(3 * time.Minute)
	old, err := totp.GenerateCode(alice.secret, w.clock.Now().Add(-2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if s := b.post(late, "code", old, "decision", "continue").want(t, http.StatusUnprocessableEntity, "factor"); !strings.Contains(s.body, "clock") {
		t.Errorf("an old code: %s", s.body)
	}

	other := b.post(ask(), "method", "recovery").want(t, http.StatusOK, "factor")
	b.post(other, "code", "AAAAA-AAAAA", "decision", "continue").want(t, http.StatusUnprocessableEntity, "factor")
	b.post(other, "code", strings.ToLower(alice.recovery[0]), "decision", "continue").want(t, http.StatusOK, "consent")
	b.post(ask(), "code", alice.recovery[0], "decision", "continue").want(t, http.StatusUnprocessableEntity, "factor")
	b.post(ask(), "method", "email", "code", "").want(t, http.StatusUnprocessableEntity, "factor") // not one of its own
	if q := b.post(ask(), "decision", "deny").answer(t); q.Get("error") != "access_denied" {
		t.Errorf("denied: %v", q)
	}

	// A new password takes away what the old one has proven; a takedown is the app's answer.
	before, down := ask(), ask()
	w.takedown(alice.DID, true)
	if q := b.post(down, "code", alice.six(), "decision", "continue").answer(t); q.Get("error_description") != "The account has been taken down" {
		t.Errorf("taken down: %v", q)
	}
	w.takedown(alice.DID, false)
	b.post(before, "code", alice.six(), "decision", "continue").want(t, http.StatusUnprocessableEntity, "sign-in")
}

// TestFlowGuesses: from the fifth on it is said how many guesses are left; then that factor
// pauses, and another works.
func TestFlowGuesses(t *testing.T) {
	t.Parallel()
	w, alice := newFactorWorld(t)
	b := w.browser(false)
	page := b.signIn(b.get(w.push(w.public)), "alice.test").want(t, http.StatusOK, "factor")
	for i := range 10 {
		s := b.post(page, "code", "000000", "decision", "continue")
		left := strings.Contains(s.body, "then this way pauses")
		if s.status != http.StatusUnprocessableEntity || left != (i >= 4 && i < 9) {
			t.Errorf("guess %d: %d, shows how many are left: %t", i+1, s.status, left)
		}
	}
	paused := b.post(page, "code", alice.six(), "decision", "continue").want(t, http.StatusTooManyRequests, "factor")
	if paused.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	b.post(b.post(paused, "method", "recovery"), "code", alice.recovery[1], "decision", "continue").want(t, http.StatusOK, "consent")
}

// TestFlowTrust: a browser that is trusted is not asked again, until a password or another
// factor is new.
func TestFlowTrust(t *testing.T) {
	t.Parallel()
	w, alice := newFactorWorld(t)
	b := w.browser(true)
	page := b.signIn(b.get(w.push(w.trusted)), "alice.test").want(t, http.StatusOK, "factor")
	wrong := b.post(page, "code", "", "trust", "on", "decision", "continue").want(t, http.StatusUnprocessableEntity, "factor")
	if !strings.Contains(wrong.body, `name="trust" value="on" checked`) && !regexp.MustCompile(`name="trust"[^>]*checked`).MatchString(wrong.body) {
		t.Errorf("the tick is lost: %s", wrong.body)
	}
	b.post(page, "code", alice.six(), "trust", "on", "decision", "continue").want(t, http.StatusOK, "consent")
	w.clock.Advance(3 * time.Hour) // so that nobody is signed in
	b.signIn(b.get(w.push(w.trusted)), "alice.test").want(t, http.StatusOK, "consent")
	w.browser(true).signIn(b.get(w.push(w.trusted)), "alice.test").want(t, http.StatusOK, "factor")
	w.clock.Advance(31 * 24 * time.Hour)
	b.signIn(b.get(w.push(w.trusted)), "alice.test").want(t, http.StatusOK, "factor")
}

// TestFlowMailedFactor: codes by e-mail, in the flow.
func TestFlowMailedFactor(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, box.Settings()...)
	const address = "alice@example.com"
	alice := w.account("alice")
	w.must("com.atproto.server.requestEmailConfirmation", pdstest.Bearer(alice.AccessJwt), nil)
	w.must("com.atproto.server.confirmEmail", pdstest.Bearer(alice.AccessJwt), map[string]any{"email": address, "token": box.Code(t, address)})
	w.must("com.atproto.server.updateEmail", pdstest.Bearer(alice.AccessJwt), map[string]any{"email": address, "emailAuthFactor": true})
	box.Wait(t, address) // the notice of it
	b := w.browser(false)
	page := b.signIn(b.get(w.push(w.public)), "alice.test").want(t, http.StatusOK, "factor")
	if !strings.Contains(page.body, "a…@example.com") {
		t.Error(page.body)
	}
	code := box.Code(t, address)
	b.post(page, "method", "email").want(t, http.StatusOK, "factor") // one is on its way
	b.post(page, "code", "AAAAA-BBBBB", "decision", "continue").want(t, http.StatusUnprocessableEntity, "factor")
	b.post(page, "code", strings.ToLower(strings.ReplaceAll(code, "-", " ")), "decision", "continue").want(t, http.StatusOK, "consent")
	b.post(page, "code", code, "decision", "continue").want(t, http.StatusOK, "consent") // repeated
	if got := len(box.All()); got != 3 {
		t.Errorf("%d mails, want the confirmation, the notice and one code", got)
	}
	later := b.signIn(b.get(w.push(w.public)), "alice.test").want(t, http.StatusOK, "factor")
	b.post(later, "code", code, "decision", "continue").want(t, http.StatusUnprocessableEntity, "factor")
}

// TestFlowNewFactor: a factor that was turned on after a browser signed in is asked for before
// an app gets in there.
func TestFlowNewFactor(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, box.Settings()...)
	alice := w.person("alice")
	b, inFlow := w.browser(true), w.browser(false)
	code := b.post(b.signIn(b.get(w.push(w.trusted)), "alice.test", "remember", "on"), "permission", "repo:com.example.post", "decision", "allow").answer(t, "code").Get("code")
	if status, body := w.redeem(w.trusted, code); status != http.StatusOK {
		t.Fatal(body)
	}
	silent := func() url.Values {
		t.Helper()
		return b.get(w.push(w.trusted, "prompt", "none")).answer(t)
	}
	if q := silent(); q.Get("code") == "" {
		t.Fatalf("before: %v", q)
	}
	open := inFlow.signIn(inFlow.get(w.push(w.public)), "alice.test").want(t, http.StatusOK, "consent")
	alice.totp(box)
	if q := silent(); q.Get("error") != "interaction_required" {
		t.Errorf("silently: %v", q)
	}
	b.get(w.push(w.trusted, "login_hint", alice.DID)).want(t, http.StatusOK, "sign-in")
	chooser := b.get(w.push(w.trusted, "prompt", "select_account"))
	b.post(chooser, "did", alice.DID).want(t, http.StatusOK, "sign-in")
	inFlow.post(open, "decision", "allow").want(t, http.StatusUnprocessableEntity, "sign-in")
	factor := b.signIn(b.get(w.push(w.trusted, "login_hint", alice.DID)), "", "remember", "on").want(t, http.StatusOK, "factor")
	b.post(factor, "code", alice.six(), "decision", "continue").answer(t, "code")
	if q := silent(); q.Get("code") == "" {
		t.Errorf("with the factor: %v", q)
	}
}
