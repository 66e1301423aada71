package server_test

import (
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/internal/pdstest"
	"nestbox/store/storetest"
)

// tab is a browser without scripts.
type tab struct {
	*http.Client

	t    *testing.T
	base string
	// status and body are of the last page.
	status int
	body   string
}

func newTab(t *testing.T, base string) *tab {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &tab{Client: &http.Client{Jar: jar}, t: t, base: base}
}

func (b *tab) load(req *http.Request) {
	b.t.Helper()
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil {
		b.t.Fatal(err)
	}
	b.status, b.body = resp.StatusCode, string(body)
}

func (b *tab) open(path string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.base+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.load(req)
}

// hidden returns the value of a hidden field of the page, "" if it has none.
func (b *tab) hidden(name string) string {
	m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(b.body)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

// post sends a form of the page, with its hidden fields.
func (b *tab) post(path string, fields ...string) {
	b.t.Helper()
	form := url.Values{}
	for _, name := range []string{"csrf", "flow", "kept", "setup", "ceremony"} {
		if v := b.hidden(name); v != "" {
			form.Set(name, v)
		}
	}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", b.base)
	b.load(req)
}

func (b *tab) want(status int, text string) {
	b.t.Helper()
	if b.status != status || !strings.Contains(b.body, text) {
		b.t.Fatalf("%d, want %d with %q:\n%s", b.status, status, text, b.body)
	}
}

// authenticator is an authenticator app that has read the page of its set-up: the secret,
// and six, which returns the digits of the next minute.
func authenticator(t *testing.T, b *tab, clock *storetest.Clock) (secret string, six func() string) {
	t.Helper()
	m := regexp.MustCompile(`secret=([A-Z2-7]{32})`).FindStringSubmatch(b.body)
	if m == nil {
		t.Fatal(b.body)
	}
	return m[1], func() string {
		t.Helper()
		clock.Advance(time.Minute)
		six, err := totp.GenerateCode(m[1], clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return six
	}
}

// TestSecurityPage: an authenticator app and a passkey are set up in the browser, after a
// step-up by a mailed code, then by the app's own; then a sign-in asks for them.
func TestSecurityPage(t *testing.T) {
	box, clock := pdstest.NewMailbox(t, pdstest.MailboxOptions{}), storetest.NewClock(time.Now())
	s := pdstest.Start(t, pdstest.Options{Settings: box.Settings(), Now: clock.Now})
	alice := s.SignUp(t, "alice")
	b := newTab(t, s.URL)
	security := "/account/u/" + alice.DID + "/security"
	b.open("/account/sign-in?next=" + url.QueryEscape(security))
	b.post("/account/sign-in", "identifier", "alice.test", "password", pdstest.Password, "next", security)
	b.want(200, "Authenticator app")

	b.post(security, "decision", "totp-add")
	b.want(200, "Changing how you sign in")
	b.post(security, "step", "step-up", "decision", "confirm", "code", "AAAAA-BBBBB")
	b.want(422, "That code is not right.")
	code := box.Code(t, "alice@example.com")
	b.post(security, "step", "step-up", "decision", "confirm", "code", code)
	b.want(200, "data:image/png;base64,")
	secret, six := authenticator(t, b, clock)
	b.post(security, "step", "totp", "decision", "confirm", "code", "12345")
	b.want(422, secret)
	b.post(security, "step", "totp", "decision", "confirm", "code", six())
	b.want(200, "Your recovery codes")
	recovery := regexp.MustCompile(`>([A-Z2-7]{5}-[A-Z2-7]{5})<`).FindAllStringSubmatch(b.body, -1)
	if len(recovery) != 10 {
		t.Fatalf("%d recovery codes:\n%s", len(recovery), b.body)
	}

	clock.Advance(11 * time.Minute) // the proof is too old
	b.open(security)
	b.want(200, "on since")
	b.post(security, "decision", "passkey-add")
	b.want(200, "Changing how you sign in")
	b.post(security, "step", "step-up", "decision", "confirm", "password", "wrong-password")
	b.want(422, "password")
	b.post(security, "step", "step-up", "decision", "confirm", "password", pdstest.Password, "code", six())
	b.want(200, `data-passkey="create"`)
	options := regexp.MustCompile(`data-options="([^"]*)"`).FindStringSubmatch(b.body)
	key := pdstest.NewAuthenticator("localhost", s.URL)
	b.post(security, "step", "passkey", "decision", "add", "name", "My key", "credential", key.Make(t, html.UnescapeString(options[1])))
	b.want(200, "The passkey is added.")
	b.want(200, "My key")

	other := newTab(t, s.URL)
	other.open("/account/sign-in")
	other.post("/account/sign-in", "identifier", "alice.test", "password", pdstest.Password)
	other.want(200, "Enter the code from your authenticator app")
	other.post("/account/sign-in", "step", "factor", "decision", "continue", "code", recovery[0][1])
	other.want(200, "Your accounts on this browser")
	// The older of two proofs decides: the password of 9 minutes ago counts for one more.
	fourth := newTab(t, s.URL)
	fourth.open("/account/sign-in")
	fourth.post("/account/sign-in", "identifier", "alice.test", "password", pdstest.Password)
	clock.Advance(8 * time.Minute)
	fourth.post("/account/sign-in", "step", "factor", "decision", "continue", "code", six()) // a minute later
	fourth.want(200, "Your accounts on this browser")
	fourth.open(security)
	fourth.post(security, "decision", "rename", "passkey", "0", "name", "x")
	fourth.want(422, "")
	clock.Advance(time.Minute)
	fourth.open(security)
	fourth.post(security, "decision", "rename", "passkey", "0", "name", "x")
	fourth.want(200, "Changing how you sign in")
	fourth.post(security, "step", "step-up", "decision", "confirm", "password", pdstest.Password)
	fourth.want(200, "Changing how you sign in") // and the code
	clock.Advance(8 * time.Minute)
	fourth.post(security, "step", "step-up", "decision", "confirm", "code", six())
	fourth.want(422, "")
	clock.Advance(time.Minute)
	fourth.open(security)
	fourth.post(security, "decision", "rename", "passkey", "0", "name", "x")
	fourth.want(200, "Changing how you sign in")

	third := newTab(t, s.URL)
	third.open("/account/sign-in")
	options = regexp.MustCompile(`data-options="([^"]*)"`).FindStringSubmatch(third.body)
	third.post("/account/sign-in", "credential", key.Answer(t, html.UnescapeString(options[1])))
	third.want(200, "Your accounts on this browser")
	third.open(security)
	third.post(security, "decision", "totp-remove") // the passkey that signed in suffices
	third.want(200, "Turn off the authenticator app?")
	third.post(security, "decision", "confirm", "ending", third.hidden("ending"))
	third.want(200, "The authenticator app is off.")
}

// TestFactorEndings: what takes a factor away is shown before, with what else goes; nothing
// is gone until it is confirmed, and then proven.
func TestFactorEndings(t *testing.T) {
	clock := storetest.NewClock(time.Now())
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_EMAIL_SMTP_URL=none"}, Now: clock.Now})
	alice := s.SignUp(t, "alice")
	security := "/account/u/" + alice.DID + "/security"
	b := newTab(t, s.URL)
	b.open("/account/sign-in?next=" + url.QueryEscape(security))
	b.post("/account/sign-in", "identifier", "alice.test", "password", pdstest.Password, "next", security)
	b.post(security, "decision", "totp-add")
	_, six := authenticator(t, b, clock)
	b.post(security, "step", "totp", "decision", "confirm", "code", six())
	b.want(200, "Your recovery codes")

	// A browser that is trusted, and no longer: it asks for no proof.
	other := newTab(t, s.URL)
	other.open("/account/sign-in")
	other.post("/account/sign-in", "identifier", "alice.test", "password", pdstest.Password)
	other.post("/account/sign-in", "step", "factor", "decision", "continue", "trust", "on", "code", six())
	trusted := func() (n int) {
		t.Helper()
		var info admin.AccountInfo
		if err := s.Run(t.Context(), "account.info", admin.AccountArgs{Account: "alice.test"}, &info); err != nil || len(info.Browsers) != 2 {
			t.Fatalf("%+v, %v", info.Browsers, err)
		}
		for _, line := range info.Browsers {
			if line.Network != "127.0.0.1" || line.Client == "" || line.CreatedAt == "" || line.LastUsedAt == "" {
				t.Errorf("%+v", line)
			}
			if line.TrustedUntil != "" {
				n++
			}
		}
		return n
	}
	if n := trusted(); n != 1 {
		t.Errorf("account info has %d trusted browsers", n)
	}
	clock.Advance(11 * time.Minute)
	b.open(security)
	b.want(200, "1 browser signs in without the second step.")
	b.post(security, "decision", "trust-end")
	b.want(200, "Stop trusting your browsers?")
	b.open(security)
	b.want(200, "1 browser signs in")
	b.post(security, "decision", "confirm", "ending", "trust-end")
	b.want(200, "No browser is trusted any more.")
	if n := trusted(); n != 0 {
		t.Errorf("account info still has %d", n)
	}
	if strings.Contains(b.body, "without the second step.") {
		t.Error("a browser is still trusted")
	}

	for _, c := range []struct{ decision, title, done string }{
		{"codes-new", "Make new recovery codes?", "Your older codes do not work any more."},
		{"totp-remove", "Turn off the authenticator app?", "The authenticator app is off."},
	} {
		clock.Advance(11 * time.Minute) // the proof is too old
		b.open(security)
		b.post(security, "decision", c.decision)
		b.want(200, c.title)
		if c.decision == "totp-remove" {
			for _, also := range []string{
				"Your password alone then opens your account.", "Your recovery codes stop working too",
				"Apps that delete or move your account are then asked for the mailed code only.",
			} {
				b.want(200, also)
			}
		}
		b.post(security, "decision", "confirm", "ending", c.decision)
		b.want(200, "Confirm that it is you")
		b.open(security)
		b.want(200, "on since") // nothing has happened yet
		b.want(200, "10 codes left")
		b.post(security, "decision", "confirm", "ending", c.decision)
		b.post(security, "step", "step-up", "decision", "confirm", "password", pdstest.Password, "code", six())
		b.want(200, c.done)
	}
	clock.Advance(11 * time.Minute)
	b.open(security)
	b.post(security, "decision", "totp-remove") // once more, from an older page
	b.want(200, "The authenticator app is off.")

	// What apps may do, and what was done lately.
	signIn := func() pdstest.Answer {
		return s.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]any{"identifier": "alice.test", "password": pdstest.Password}})
	}
	b.post(security, "switch", "apps-by-password", "decision", "off")
	b.want(200, "Confirm that it is you")
	b.post(security, "step", "step-up", "decision", "confirm", "password", pdstest.Password)
	b.want(200, "That is changed.")
	signIn().WantError(t, 401, "AuthenticationRequired", "This account's owner allows app passwords and sign-in through the browser only")
	b.post(security, "switch", "apps-by-password", "decision", "on")
	if a := signIn(); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	for _, action := range []string{
		"Turned on: Apps may sign in with your password", "Turned off: Apps may sign in with your password", "The authenticator app was turned off",
		"New recovery codes were made", "An authenticator app was set up",
	} {
		b.want(200, "<strong>"+action+"</strong>")
	}
	if last, before := strings.Index(b.body, "Turned on:"), strings.Index(b.body, "Turned off:"); last > before {
		t.Error("the newest is not first")
	}
}

// TestServiceName: authenticator apps and passkeys show the name of the service.
func TestServiceName(t *testing.T) {
	for _, c := range []struct{ setting, issuer, passkey string }{
		{"PDS_SERVICE_NAME=Nest of Ours", "otpauth://totp/Nest%20of%20Ours:alice.test?", "issuer=Nest%20of%20Ours"},
		{"PDS_SERVICE_NAME=", "otpauth://totp/localhost:alice.test?", "issuer=localhost"},
	} {
		s := pdstest.Start(t, pdstest.Options{Settings: []string{c.setting}})
		did := s.SignUp(t, "alice").DID
		a, err := account.Find(t.Context(), s.SignIns().Accounts, did)
		if err != nil {
			t.Fatal(err)
		}
		setup, err := s.SignIns().BeginTOTP(t.Context(), a)
		if err != nil || !strings.HasPrefix(setup.URL, c.issuer) || !strings.Contains(setup.URL, c.passkey) {
			t.Errorf("%s: %s, %v", c.setting, setup.URL, err)
		}
		q, err := s.SignIns().BeginPasskey(t.Context(), a, "flow")
		if err != nil {
			t.Fatal(err)
		}
		var options struct {
			PublicKey struct{ RP struct{ ID, Name string } }
		}
		want, _ := strings.CutPrefix(c.setting, "PDS_SERVICE_NAME=")
		if want == "" {
			want = "localhost"
		}
		if err := json.Unmarshal([]byte(q.Options), &options); err != nil || options.PublicKey.RP.ID != "localhost" || options.PublicKey.RP.Name != want {
			t.Errorf("%s: %v in %s", c.setting, err, q.Options)
		}
	}
}
