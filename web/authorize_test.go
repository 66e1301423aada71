package web_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/oauth/oauthtest"
	"nestbox/store/storetest"
)

const (
	flowVerifier = "a-verifier-of-more-than-forty-three-characters"
	flowPassword = "correct-horse-battery-staple"
	backTo       = "https://app.example.com/back"
	flowLogo     = "\x89PNG\r\n\x1a\n the logo of an app"
)

// flowWorld is a server, with the document of an app that the operator trusts.
type flowWorld struct {
	*pdstest.InProcess

	t     *testing.T
	clock *storetest.Clock
	// trusted and public are the client_ids of two apps.
	trusted, public string
	asked           int
	log             *logged
}

func newFlowWorld(t *testing.T, settings ...string) *flowWorld {
	t.Helper()
	var base string
	documents := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/logo" {
			_, _ = io.WriteString(w, flowLogo)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"client_id": base + r.URL.Path, "client_name": "The App", "redirect_uris": []string{backTo, backTo + "?x=1"},
			"response_types": []string{"code"}, "grant_types": []string{"authorization_code", "refresh_token"}, "token_endpoint_auth_method": "none",
			"scope": "atproto transition:generic repo:com.example.post identity:*", "dpop_bound_access_tokens": true, "application_type": "web",
			"client_uri": base, "logo_uri": base + "/logo",
		})
	}))
	t.Cleanup(documents.Close)
	base = documents.URL
	start := time.Now().Truncate(time.Minute) // whatever the second is in which the test runs
	w := &flowWorld{t: t, clock: storetest.NewClock(start), trusted: base + "/trusted.json", public: base + "/public.json", log: &logged{}}
	w.InProcess = pdstest.Start(t, pdstest.Options{
		Now: w.clock.Now, Log: slog.New(slog.NewJSONHandler(w.log, nil)), Settings: append([]string{"PDS_OAUTH_TRUSTED_CLIENTS=" + w.trusted}, settings...),
	})
	return w
}

// account makes an account by createAccount.
func (w *flowWorld) account(name string) pdstest.Session {
	w.t.Helper()
	var s pdstest.Session
	a := w.Client.Do(w.t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: map[string]string{
		"handle": name + ".test", "email": name + "@example.com", "password": flowPassword,
	}})
	a.Decode(w.t, &s)
	if s.DID == "" {
		w.t.Fatalf("%d %s", a.Status, a.Body)
	}
	return s
}

// push pushes a request, and returns the link to its page.
func (w *flowWorld) push(id string, changes ...string) string {
	w.t.Helper()
	w.asked++
	challenge := sha256.Sum256([]byte(fmt.Sprintf("%s-%d", flowVerifier, w.asked)))
	form := url.Values{
		"client_id": {id}, "response_type": {"code"}, "redirect_uri": {backTo}, "scope": {"atproto repo:com.example.post"}, "state": {"st&te"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(changes); i += 2 {
		form.Set(changes[i], changes[i+1])
	}
	resp, err := http.PostForm(w.URL+"/oauth/par", form) //nolint:noctx // a test
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var out struct {
		URI   string `json:"request_uri"`
		Error string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusCreated {
		w.t.Fatalf("push: %d %s %v", resp.StatusCode, out.Error, err)
	}
	return w.URL + "/oauth/authorize?" + url.Values{"client_id": {id}, "request_uri": {out.URI}}.Encode()
}

// redeem exchanges a code of the last push.
func (w *flowWorld) redeem(id, code string) (status int, body string) {
	w.t.Helper()
	key := oauthtest.NewSigner("ES256")
	nonce := ""
	for range 2 {
		form := url.Values{
			"grant_type": {"authorization_code"}, "client_id": {id}, "code": {code}, "redirect_uri": {backTo},
			"code_verifier": {fmt.Sprintf("%s-%d", flowVerifier, w.asked)},
		}
		r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.URL+"/oauth/token", strings.NewReader(form.Encode()))
		if err != nil {
			w.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("DPoP", key.Proof(http.MethodPost, w.URL+"/oauth/token", nonce, ""))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			w.t.Fatal(err)
		}
		raw, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		nonce = resp.Header.Get("DPoP-Nonce")
		status, body = resp.StatusCode, string(raw)
		if !strings.Contains(body, "use_dpop_nonce") {
			break
		}
	}
	return status, body
}

// browser is a person's browser, with or without cookies.
type browser struct {
	w    *flowWorld
	http *http.Client
}

func (w *flowWorld) browser(cookies bool) *browser {
	b := &browser{w: w, http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if cookies {
		b.http.Jar, _ = cookiejar.New(nil)
	}
	return b
}

// shown is a page, or a redirect.
type shown struct {
	status   int
	header   http.Header
	body     string
	location *url.URL
}

func (b *browser) do(r *http.Request) shown {
	b.w.t.Helper()
	resp, err := b.http.Do(r)
	if err != nil {
		b.w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	s := shown{status: resp.StatusCode, header: resp.Header, body: string(raw)}
	if at := resp.Header.Get("Location"); at != "" {
		s.location, _ = url.Parse(at)
	}
	return s
}

func (b *browser) get(link string, headers ...string) shown {
	b.w.t.Helper()
	r, err := http.NewRequestWithContext(b.w.t.Context(), http.MethodGet, link, http.NoBody)
	if err != nil {
		b.w.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return b.do(r)
}

var hidden = regexp.MustCompile(`<input type="hidden" name="(flow|step)" value="([^"]*)"`)

// field returns a hidden field of a page.
func (s shown) field(name string) string {
	for _, m := range hidden.FindAllStringSubmatch(s.body, -1) {
		if m[1] == name {
			return html.UnescapeString(m[2])
		}
	}
	return ""
}

// post fills in the form of a page.
func (b *browser) post(page shown, fields ...string) shown {
	b.w.t.Helper()
	return b.postAs(page, "Sec-Fetch-Site", "same-origin", fields...)
}

func (b *browser) postAs(page shown, header, value string, fields ...string) shown {
	b.w.t.Helper()
	form := url.Values{"flow": {page.field("flow")}, "step": {page.field("step")}}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return b.postForm("/oauth/authorize", form, header, value)
}

// postForm sends a form to a path, with one header that tells which site it comes from, or
// none.
func (b *browser) postForm(path string, form url.Values, header, value string) shown {
	b.w.t.Helper()
	r, err := http.NewRequestWithContext(b.w.t.Context(), http.MethodPost, b.w.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if header != "" {
		r.Header.Set(header, value)
	}
	return b.do(r)
}

// want fails the test unless a page is of a step.
func (s shown) want(t *testing.T, status int, step string) shown {
	t.Helper()
	if s.status != status || s.field("step") != step {
		t.Fatalf("status %d, step %q, Location %v; want %d, %q\n%s", s.status, s.field("step"), s.location, status, step, s.body)
	}
	if s.status < 300 && (s.header.Get("Cache-Control") != "no-store" || s.header.Get("Access-Control-Allow-Origin") != "" ||
		strings.Contains(s.header.Get("Content-Security-Policy"), "form-action") || s.header.Get("Cross-Origin-Opener-Policy") != "") {
		t.Errorf("headers %v", s.header)
	}
	return s
}

// answer fails the test unless it is the app's answer, which it returns.
func (s shown) answer(t *testing.T, names ...string) url.Values {
	t.Helper()
	if s.status != http.StatusSeeOther || s.location == nil || !strings.HasPrefix(s.location.String(), "https://app.example.com/back") {
		t.Fatalf("status %d, Location %v\n%s", s.status, s.location, s.body)
	}
	q := s.location.Query()
	for _, name := range names {
		if q.Get(name) == "" {
			t.Errorf("no %s in %s", name, s.location)
		}
	}
	if s.header.Get("Cache-Control") != "no-store" || s.header.Get("Referrer-Policy") != "same-origin" {
		t.Errorf("headers %v", s.header)
	}
	return q
}

// signIn fills in the sign-in page.
func (b *browser) signIn(page shown, name string, more ...string) shown {
	b.w.t.Helper()
	return b.post(page.want(b.w.t, page.status, "sign-in"), append([]string{"identifier", name, "password", flowPassword, "decision", "sign-in"}, more...)...)
}

// TestFlow: a person without cookies and scripts, from the link to the tokens.
func TestFlow(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	w.account("alice")
	b, link := w.browser(false), w.push(w.public)
	// Link previews, prefetches and frames do no harm.
	for name, headers := range map[string][]string{
		"prefetch": {"Sec-Purpose", "prefetch"}, "frame": {"Sec-Fetch-Dest", "iframe"}, "fetch": {"Sec-Fetch-Mode", "cors"},
	} {
		if s := b.get(link, headers...); s.status != http.StatusServiceUnavailable && s.status != http.StatusBadRequest || s.field("flow") != "" {
			t.Errorf("%s: %d", name, s.status)
		}
	}
	for range 3 {
		b.get(link).want(t, http.StatusOK, "sign-in")
	}
	page := b.get(link, "Sec-Fetch-Dest", "document", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site").want(t, http.StatusOK, "sign-in")
	wrong := b.post(page, "identifier", "alice.test", "password", "wrong", "decision", "sign-in").want(t, http.StatusUnprocessableEntity, "sign-in")
	if !strings.Contains(wrong.body, `value="alice.test"`) || !strings.Contains(wrong.body, `aria-invalid="true"`) || strings.Contains(wrong.body, `value="wrong"`) {
		t.Error(wrong.body)
	}
	b.post(page, "decision", "sign-in").want(t, http.StatusUnprocessableEntity, "sign-in")
	consent := b.signIn(page, "@Alice.test ").want(t, http.StatusOK, "consent")
	if !strings.Contains(consent.body, `name="permission" value="repo:com.example.post"`) || strings.Contains(consent.body, "The App") {
		t.Error(consent.body)
	}
	allowed := b.post(consent, "permission", "repo:com.example.post", "decision", "allow")
	q := allowed.answer(t, "code", "iss", "state")
	if q.Get("state") != "st&te" || q.Get("iss") != w.URL {
		t.Errorf("%v", q)
	}
	if again := b.post(consent, "permission", "repo:com.example.post", "decision", "allow").answer(t, "code"); again.Get("code") != q.Get("code") {
		t.Error("the same decision gives another code")
	}
	if other := b.post(consent, "decision", "allow"); other.status != http.StatusOK || strings.Contains(other.body, q.Get("code")) {
		t.Errorf("another decision: %d", other.status)
	}
	if late := b.post(consent, "decision", "deny"); late.status != http.StatusOK || strings.Contains(late.body, q.Get("code")) {
		t.Errorf("another decision: %d", late.status)
	}
	if s := b.get(link); s.status != http.StatusOK || strings.Contains(s.body, q.Get("code")) || !strings.Contains(s.body, "answered this already") {
		t.Errorf("the link again: %d %s", s.status, s.body)
	}
	status, body := w.redeem(w.public, q.Get("code"))
	if status != http.StatusOK || !strings.Contains(body, `"scope":"atproto repo:com.example.post"`) {
		t.Errorf("%d %s", status, body)
	}
	if again := b.post(consent, "permission", "repo:com.example.post", "decision", "allow"); again.status != http.StatusOK {
		t.Errorf("the same decision when the code was used: %d %v", again.status, again.location)
	}
}

// TestFlowLinks: links that lead nowhere never redirect.
func TestFlowLinks(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	b, link := w.browser(true), w.push(w.public)
	u, _ := url.Parse(link)
	for name, query := range map[string]string{
		"nothing": "", "no client": url.Values{"request_uri": {u.Query().Get("request_uri")}}.Encode(),
		"another client": url.Values{"client_id": {w.trusted}, "request_uri": {u.Query().Get("request_uri")}}.Encode(),
		"unknown":        url.Values{"client_id": {w.public}, "request_uri": {"urn:ietf:params:oauth:request_uri:aaaaaaaaaaaaaaaaaaaaaa"}}.Encode(),
		"malformed":      url.Values{"client_id": {w.public}, "request_uri": {"x"}}.Encode(),
		"not pushed":     url.Values{"client_id": {w.public}, "response_type": {"code"}, "redirect_uri": {backTo}}.Encode(),
	} {
		s := b.get(w.URL + "/oauth/authorize?" + query)
		if s.status != http.StatusBadRequest || s.location != nil {
			t.Errorf("%s: %d %v", name, s.status, s.location)
		}
		if name == "not pushed" && !strings.Contains(s.body, "must push its request first") {
			t.Errorf("%s: %s", name, s.body)
		}
	}
	w.clock.Advance(10 * time.Minute)
	if q := b.get(link).answer(t, "error", "iss", "state"); q.Get("error") != "access_denied" || q.Get("error_description") != "This request has expired" {
		t.Errorf("expired: %v", q)
	}
	link = w.push(w.public)
	page := b.get(link)
	w.clock.Advance(29 * time.Minute)
	b.get(link).want(t, http.StatusOK, "sign-in")
	w.clock.Advance(2 * time.Minute)
	if q := b.post(page, "decision", "sign-in").answer(t); q.Get("error_description") != "This request has expired" {
		t.Errorf("opened, and expired: %v", q)
	}
}

// TestFlowOrigin: forms of other sites, and forms that are not ours, do nothing.
func TestFlowOrigin(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	w.account("alice")
	b, link := w.browser(true), w.push(w.public)
	page := b.get(link)
	fields := []string{"identifier", "alice.test", "password", flowPassword, "decision", "sign-in"}
	for name, header := range map[string][2]string{
		"no header": {"", ""}, "another site": {"Sec-Fetch-Site", "cross-site"}, "same site": {"Sec-Fetch-Site", "same-site"},
		"none": {"Sec-Fetch-Site", "none"}, "another origin": {"Origin", "https://evil.example"}, "null": {"Origin", "null"},
	} {
		if s := b.postAs(page, header[0], header[1], fields...); s.status != http.StatusForbidden {
			t.Errorf("%s: %d", name, s.status)
		}
	}
	b.postAs(page, "Origin", w.URL, fields...).want(t, http.StatusOK, "consent")
	tampered := page
	tampered.body = strings.Replace(page.body, page.field("flow"), page.field("flow")[:40]+"AAAA"+page.field("flow")[44:], 1)
	if s := b.post(tampered, fields...); s.status != http.StatusForbidden {
		t.Errorf("a flow that is not ours: %d", s.status)
	}
}

// TestFlowDeny: the app gets an error, and the first decision stands.
func TestFlowDeny(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	w.account("alice")
	b, link := w.browser(true), w.push(w.public)
	page := b.get(link)
	consent := b.signIn(page, "alice.test")
	for range 2 {
		if q := b.post(page, "decision", "deny").answer(t, "state", "iss"); q.Get("error") != "access_denied" || q.Get("error_description") != "The user denied the request" {
			t.Errorf("%v", q)
		}
	}
	if s := b.post(consent, "decision", "allow"); s.status != http.StatusOK || s.location != nil {
		t.Errorf("allowed after it was denied: %d %v", s.status, s.location)
	}
}

// TestFlowModes: the three ways in which an answer gets to the app.
func TestFlowModes(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	w.account("alice")
	b := w.browser(false)
	allow := func(changes ...string) shown {
		t.Helper()
		return b.post(b.signIn(b.get(w.push(w.public, changes...)), "alice.test").want(t, http.StatusOK, "consent"), "decision", "allow")
	}
	if s := allow("redirect_uri", backTo+"?x=1"); !strings.HasPrefix(s.header.Get("Location"), backTo+"?x=1&iss=") {
		t.Errorf("a query that was there: %v", s.location)
	}
	s := allow("response_mode", "fragment")
	if f, err := url.ParseQuery(s.location.Fragment); err != nil || f.Get("code") == "" || f.Get("iss") != w.URL || s.location.RawQuery != "" {
		t.Errorf("fragment: %v", s.location)
	}
	s = allow("response_mode", "form_post")
	if s.status != http.StatusOK || !strings.Contains(s.body, `action="`+backTo+`"`) || !strings.Contains(s.body, `name="code"`) || !strings.Contains(s.body, `name="iss"`) {
		t.Errorf("form_post: %d %s", s.status, s.body)
	}
}

// TestFlowRemembered: a trusted app, an account that is signed in here, and what was allowed before.
func TestFlowRemembered(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	w.account("bob")
	b := w.browser(true)
	silent := func(link string) url.Values { t.Helper(); return b.get(link).answer(t) }
	if q := silent(w.push(w.trusted, "prompt", "none")); q.Get("error") != "login_required" {
		t.Errorf("nobody is signed in: %v", q)
	}
	if q := silent(w.push(w.public, "prompt", "none")); q.Get("error") != "consent_required" {
		t.Errorf("a public client: %v", q)
	}
	consent := b.signIn(b.get(w.push(w.trusted)), "alice.test", "remember", "on").want(t, http.StatusOK, "consent")
	if !strings.Contains(consent.body, "The App") {
		t.Error("a trusted app has its name")
	}
	if q := silent(w.push(w.trusted, "prompt", "none")); q.Get("error") != "consent_required" {
		t.Errorf("nothing was allowed yet: %v", q)
	}
	link := w.push(w.trusted)
	consent = b.get(link).want(t, http.StatusOK, "consent") // signed in here
	code := b.post(consent, "permission", "repo:com.example.post", "decision", "allow").answer(t, "code").Get("code")
	// The browser that answered gets the code again, nobody else.
	if s := b.get(link); !strings.Contains(s.body, html.EscapeString(code)) || !strings.Contains(s.body, `rel="external"`) {
		t.Errorf("%s", s.body)
	}
	if s := w.browser(true).get(link); strings.Contains(s.body, code) {
		t.Error("another browser gets the code")
	}
	if status, body := w.redeem(w.trusted, code); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	for name, changes := range map[string][]string{
		"none": {"prompt", "none"}, "none with a hint": {"prompt", "none", "login_hint", "alice.test"},
		"a hint alone": {"login_hint", alice.DID}, "a hint by address": {"login_hint", "Alice@example.com"},
	} {
		link := w.push(w.trusted, changes...)
		q := silent(link)
		if q.Get("code") == "" {
			t.Errorf("%s: %v", name, q)
			continue
		}
		if again := silent(link); again.Get("code") != q.Get("code") {
			t.Errorf("%s, reloaded: %v", name, again)
		}
	}
	for name, c := range map[string]struct {
		want    string
		changes []string
	}{
		"no hint": {"consent", nil}, "consent": {"consent", []string{"prompt", "consent", "login_hint", alice.DID}},
		"login": {"sign-in", []string{"prompt", "login", "login_hint", alice.DID}}, "create": {"sign-up", []string{"prompt", "create"}},
		"select_account": {"account", []string{"prompt", "select_account"}}, "another's hint": {"sign-in", []string{"login_hint", "bob.test"}},
		"max_age": {"sign-in", []string{"max_age", "1", "login_hint", alice.DID}}, "nobody's hint": {"sign-in", []string{"login_hint", "nobody.test"}},
		"more than before": {"consent", []string{"scope", "atproto transition:generic", "login_hint", alice.DID}},
	} {
		if name == "max_age" {
			w.clock.Advance(2 * time.Second)
		}
		b.get(w.push(w.trusted, c.changes...)).want(t, http.StatusOK, c.want)
	}
	// A hint fixes the account: the identifier that comes is not looked at.
	fixed := b.get(w.push(w.trusted, "prompt", "login", "login_hint", alice.DID))
	if q := b.signIn(fixed, "bob.test").answer(t, "code"); q.Get("code") == "" {
		t.Error("what was allowed before is not asked again after the password")
	}
	if q := silent(w.push(w.trusted, "prompt", "none", "login_hint", "bob.test")); q.Get("error") != "login_required" {
		t.Errorf("bob is not here: %v", q)
	}
	b.signIn(b.get(w.push(w.trusted, "login_hint", "bob.test")), "", "remember", "on").want(t, http.StatusOK, "consent")
	if q := silent(w.push(w.trusted, "prompt", "none")); q.Get("error") != "account_selection_required" {
		t.Errorf("two accounts: %v", q)
	}
	chooser := b.get(w.push(w.trusted)).want(t, http.StatusOK, "account")
	if q := b.post(chooser, "did", alice.DID).answer(t, "code"); q.Get("code") == "" {
		t.Errorf("%v", q)
	}
	chooser = b.get(w.push(w.public)).want(t, http.StatusOK, "account")
	b.post(chooser, "decision", "other").want(t, http.StatusOK, "sign-in")
	consent = b.post(chooser, "did", alice.DID).want(t, http.StatusOK, "consent")
	b.post(consent, "decision", "switch").want(t, http.StatusOK, "account")
	left := b.post(chooser, "sign_out", alice.DID).want(t, http.StatusOK, "account")
	if strings.Contains(left.body, alice.DID) {
		t.Error("alice is still here")
	}
	b.post(consent, "decision", "allow").want(t, http.StatusUnprocessableEntity, "account")
}

// TestFlowDangerous: what can harm the account wants a tick of its own.
func TestFlowDangerous(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	w.account("alice")
	b := w.browser(false)
	consent := b.signIn(b.get(w.push(w.public, "scope", "atproto identity:* repo:com.example.post future:x")), "alice.test").want(t, http.StatusOK, "consent")
	if !strings.Contains(consent.body, "future:<wbr>x") {
		t.Error("what is not known is not named")
	}
	asked := b.post(consent, "permission", "identity:*", "decision", "allow").want(t, http.StatusUnprocessableEntity, "consent")
	if strings.Contains(asked.body, `value="repo:com.example.post" checked`) || !strings.Contains(asked.body, `value="identity:*" checked`) {
		t.Errorf("as it was ticked: %s", asked.body)
	}
	for _, spelled := range []string{"identity:%2A", "identity:* ", "identity?attr=*", "repo:com.example.post identity:*"} {
		b.post(consent, "permission", spelled, "decision", "allow").want(t, http.StatusUnprocessableEntity, "consent")
	}
	code := b.post(asked, "permission", "identity:*", "understood", "on", "decision", "allow").answer(t, "code").Get("code")
	if _, body := w.redeem(w.public, code); !strings.Contains(body, `"scope":"atproto identity:*"`) {
		t.Error(body)
	}
}
