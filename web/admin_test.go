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

	"nestbox/account"
	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// desk is the admin page in a browser.
type desk struct {
	*browser
	last shown
}

func (w *flowWorld) desk() *desk { return &desk{browser: w.browser(true)} }

// open opens a page, and follows redirects.
func (d *desk) open(path string) shown {
	d.w.t.Helper()
	d.last = d.get(d.w.URL + path)
	for range 3 {
		if d.last.location == nil {
			break
		}
		d.last = d.get(d.w.URL + d.last.location.RequestURI())
	}
	if len(d.last.body) > 50<<10 {
		d.w.t.Errorf("%s has %d bytes", path, len(d.last.body))
	}
	return d.last
}

// send sends the form of the last page that posts to a path; headers are those of the site
// unless foreign is set.
func (d *desk) send(path string, foreign bool, fields ...string) shown {
	d.w.t.Helper()
	form := url.Values{}
	for _, one := range regexp.MustCompile(`(?s)<form [^>]*action="`+regexp.QuoteMeta(html.EscapeString(path))+`".*?</form>`).FindAllString(d.last.body, -1) {
		for _, m := range regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)"`).FindAllStringSubmatch(one, -1) {
			form.Set(m[1], html.UnescapeString(m[2]))
		}
	}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	origin := d.w.URL
	if foreign {
		origin = "https://evil.example"
	}
	d.last = d.postForm(path, form, "Origin", origin)
	return d.last
}

func (d *desk) post(path string, fields ...string) shown {
	d.w.t.Helper()
	return d.send(path, false, fields...)
}

func (d *desk) want(status int, text string) {
	d.w.t.Helper()
	if d.last.status != status || !strings.Contains(d.last.body, text) {
		d.w.t.Errorf("%d, want %d with %q\n%.3000s\n%s", d.last.status, status, text, d.last.body, d.w.log.failed())
	}
}

// enter signs in with the admin password.
func (d *desk) enter() {
	d.w.t.Helper()
	d.open("/admin/sign-in")
	if s := d.post("/admin/sign-in", "name", "admin", "password", "admin"); s.location == nil || s.location.Path != "/admin/" {
		d.w.t.Fatalf("%d %s", s.status, s.body)
	}
	d.open("/admin/")
}

// audited returns the newest actions, as "who what details".
func (w *flowWorld) audited() (lines []string) {
	w.t.Helper()
	var page admin.AuditPage
	if err := w.Run(w.t.Context(), "audit", admin.AuditArgs{}, &page); err != nil {
		w.t.Fatal(err)
	}
	for _, a := range page.Actions {
		lines = append(lines, strings.TrimSpace(a.Who+" "+a.What+" "+a.Details))
	}
	return lines
}

func (w *flowWorld) run(name string, args any) {
	w.t.Helper()
	var out any
	if err := w.Run(w.t.Context(), name, args, &out); err != nil {
		w.t.Fatal(err)
	}
}

// authenticator sets an authenticator app up for an account, and returns what makes its codes.
func (w *flowWorld) authenticator(did string) func() string {
	w.t.Helper()
	a, err := account.Find(w.t.Context(), w.SignIns().Accounts, did)
	if err != nil {
		w.t.Fatal(err)
	}
	setup, err := w.SignIns().BeginTOTP(w.t.Context(), a)
	if err != nil {
		w.t.Fatal(err)
	}
	code := func() string {
		w.clock.Advance(time.Minute)
		six, err := totp.GenerateCode(strings.ReplaceAll(setup.Secret, " ", ""), w.clock.Now())
		if err != nil {
			w.t.Fatal(err)
		}
		return six
	}
	if _, err := w.SignIns().FinishTOTP(w.t.Context(), a, setup.Sealed, code(), "x"); err != nil {
		w.t.Fatal(err)
	}
	return code
}

// TestAdminPassword: the admin password opens the admin page for eight hours, thirty minutes
// unused, and is audited.
func TestAdminPassword(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	d := w.desk()
	if s := d.get(w.URL + "/admin/"); s.status != http.StatusSeeOther || s.location.Path != "/admin/sign-in" {
		t.Errorf("without a session: %d to %v", s.status, s.location)
	}
	if s := d.get(w.URL + "/admin/nothing?x=1"); s.status != http.StatusSeeOther || s.location.Query().Get("next") != "/admin/nothing?x=1" {
		t.Errorf("without a session: %d to %v", s.status, s.location)
	}
	d.open("/admin/")
	d.post("/admin/sign-in", "name", "admin", "password", "wrong")
	d.want(http.StatusUnprocessableEntity, "The admin password is wrong.")
	d.post("/admin/sign-in", "name", "", "password", "")
	d.want(http.StatusUnprocessableEntity, "Enter admin, or your handle.")
	d.send("/admin/sign-in", true, "name", "admin", "password", "admin")
	d.want(http.StatusForbidden, "")
	d.open("/admin/sign-in?next=//evil.example")
	s := d.post("/admin/sign-in", "name", " Admin ", "password", "admin")
	if s.status != http.StatusSeeOther || s.location.String() != "/admin/" {
		t.Fatalf("%d to %v: %s", s.status, s.location, s.body)
	}
	if c := s.header.Get("Set-Cookie"); !strings.HasPrefix(c, "nestbox-admin=") || !strings.Contains(c, "SameSite=Strict") || !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "Max-Age=28800") {
		t.Errorf("cookie %s", c)
	}
	d.open("/admin/")
	d.want(http.StatusOK, "Admin password")
	d.open("/admin/nothing")
	d.want(http.StatusNotFound, "")
	for range 3 {
		w.clock.Advance(29 * time.Minute)
		d.open("/admin/")
		d.want(http.StatusOK, "Admin password")
	}
	w.clock.Advance(30 * time.Minute)
	d.open("/admin/")
	d.want(http.StatusOK, "Sign in to the admin page")

	d.enter()
	for range 17 {
		w.clock.Advance(28 * time.Minute)
		d.open("/admin/")
	}
	d.want(http.StatusOK, "Admin password") // 7:56
	w.clock.Advance(4 * time.Minute)
	d.open("/admin/")
	d.want(http.StatusOK, "Sign in to the admin page")

	d.enter()
	d.send("/admin/sign-out", true)
	d.want(http.StatusForbidden, "")
	d.open("/admin/")
	d.post("/admin/sign-out")
	d.open("/admin/")
	d.want(http.StatusOK, "Sign in to the admin page")
	if got := strings.Join(w.audited(), "; "); got != "admin admin-signed-out; admin admin-signed-in; admin admin-signed-in; admin admin-signed-in" {
		t.Errorf("audited %s", got)
	}
}

// TestAdminPasswordLimit: guesses on the page and by HTTP Basic are counted together.
func TestAdminPasswordLimit(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t, "PDS_RATE_LIMITS_ENABLED=true")
	d := w.desk()
	basic := func(password string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+"/xrpc/com.atproto.admin.getInviteCodes", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("admin", password)
		return d.do(r).status
	}
	for i := range 20 {
		if i%2 == 0 {
			d.open("/admin/sign-in")
			d.post("/admin/sign-in", "name", "admin", "password", "guess")
			d.want(http.StatusUnprocessableEntity, "")
		} else if got := basic("guess"); got != http.StatusUnauthorized {
			t.Errorf("guess %d: %d", i, got)
		}
	}
	d.open("/admin/sign-in")
	d.post("/admin/sign-in", "name", "admin", "password", "admin")
	d.want(http.StatusTooManyRequests, "")
	if got := basic("admin"); got != http.StatusTooManyRequests {
		t.Errorf("%d", got)
	}
}

// TestAdminAccounts: an account gets in with a role and two factors; what takes either away,
// or the standing, signs it out.
func TestAdminAccounts(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	d := w.desk()
	try := func() shown {
		d.open("/admin/sign-in")
		return d.post("/admin/sign-in", "name", "@alice.test", "password", flowPassword)
	}
	try()
	d.want(http.StatusUnprocessableEntity, "Your account needs a passkey or an authenticator app")
	w.run("admin.add", admin.RoleArgs{Account: "alice.test", Role: admin.RoleModerator})
	try()
	d.want(http.StatusUnprocessableEntity, "Your account needs a passkey or an authenticator app")
	code := w.authenticator(alice.DID)
	w.run("admin.remove", admin.AccountArgs{Account: "alice.test"})
	enter := func() {
		t.Helper()
		try()
		d.want(http.StatusOK, `name="code"`)
		d.post("/admin/sign-in", "step", "factor", "decision", "continue", "code", code())
	}
	enter()
	d.want(http.StatusUnprocessableEntity, "This account may not use the admin page.")
	w.run("admin.add", admin.RoleArgs{Account: alice.DID, Role: admin.RoleModerator})
	try()
	d.post("/admin/sign-in", "step", "factor", "decision", "continue", "code", "ABCDE-FGHIJ") // a recovery code is not even looked at
	d.want(http.StatusUnprocessableEntity, "")
	d.post("/admin/sign-in", "step", "factor", "decision", "continue", "code", "000000")
	d.want(http.StatusUnprocessableEntity, "")
	inside := func(want bool, after string) {
		t.Helper()
		d.open("/admin/")
		if got := strings.Contains(d.last.body, "@alice.<wbr>test"); got != want {
			t.Errorf("%s: signed in %v\n%.2000s", after, got, d.last.body)
		}
	}
	enter()
	inside(true, "sign-in")
	if got := w.audited()[0]; got != alice.DID+" admin-signed-in" {
		t.Errorf("audited %s", got)
	}
	for _, c := range []struct {
		command string
		args    any
		undo    string
	}{
		{"admin.remove", admin.AccountArgs{Account: "alice.test"}, "admin.add"},
		{"account.password", admin.PasswordArgs{Account: "alice.test", Password: flowPassword}, ""},
		{"account.signout", admin.SignOutArgs{Account: "alice.test"}, ""},
		{"account.suspend", admin.AccountArgs{Account: "alice.test"}, "account.unsuspend"},
		{"account.takedown", admin.TakedownArgs{Account: "alice.test"}, "account.untakedown"},
	} {
		w.run(c.command, c.args)
		inside(false, c.command)
		if c.undo != "" {
			w.run(c.undo, admin.RoleArgs{Account: "alice.test", Role: admin.RoleAdmin})
			inside(false, c.undo)
		}
		enter()
		inside(true, "sign-in after "+c.command)
	}
	var roles []admin.RoleLine
	if err := w.Run(t.Context(), "admin.list", admin.Done{}, &roles); err != nil || len(roles) != 1 || roles[0].Handle != "alice.test" || roles[0].Role != admin.RoleAdmin {
		t.Errorf("%+v, %v", roles, err)
	}
	var out any
	if err := w.Run(t.Context(), "admin.add", admin.RoleArgs{Account: "alice.test", Role: "king"}, &out); err == nil {
		t.Error("a role that there is not")
	}
}

// TestAdminReach: without PDS_ADMIN_PAGES, and from other networks than those of
// PDS_ADMIN_NETWORKS, the admin page is as any path that we lack.
func TestAdminReach(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		setting string
		there   bool
	}{{"PDS_ADMIN_PAGES=false", false}, {"PDS_ADMIN_NETWORKS=192.0.2.0/24", false}, {"PDS_ADMIN_NETWORKS=127.0.0.0/8,::1", true}} {
		w := newFlowWorld(t, c.setting)
		b := w.browser(true)
		other := b.get(w.URL + "/nothing")
		for _, path := range []string{"/admin", "/admin/", "/admin/sign-in", "/admin/nothing"} {
			s := b.get(w.URL + path)
			if same := s.status == other.status && s.body == other.body; same == c.there {
				t.Errorf("%s: %s is %d %s", c.setting, path, s.status, s.body)
			}
		}
	}
}

// TestAdminLoad: the load page shows what the server did, each figure with its table.
func TestAdminLoad(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	chief := w.desk()
	chief.enter()
	chief.open("/admin/load")
	chief.want(http.StatusOK, "Nothing is known yet")
	w.clock.Advance(10 * time.Second)
	session := w.Client.SignIn(t, "alice.test", flowPassword)
	for range 2 { // the second gets the same answer again
		w.Client.Do(t, pdstest.Request{NSID: "com.atproto.server.refreshSession", Auth: "Bearer " + session.RefreshJwt, Method: http.MethodPost})
	}
	for range 3 {
		w.Client.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": "alice.test", "password": "wrong"}})
	}
	w.Client.Do(t, pdstest.Request{NSID: "com.atproto.server.refreshSession", Auth: "Bearer nonsense", Method: http.MethodPost})
	w.Client.Do(t, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: "Bearer " + session.AccessJwt, Body: map[string]any{
		"repo": alice.DID, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "text": "hi"},
	}})
	chief.open("/admin/load") // counts so far are of this minute
	w.clock.Advance(time.Minute)
	for show, want := range map[string][]string{
		"refreshes": {"1", "1", "0"}, "signins": {"3"}, "writes": {"1"}, "subscribers": {"0"},
	} {
		chief.open("/admin/load?show=" + show)
		row := regexp.MustCompile(`(?s)<tbody>.*?</tr>`).FindString(chief.last.body)
		cells := regexp.MustCompile(`class="number">([^<]*)</td>`).FindAllStringSubmatch(row, -1)
		for i, number := range want {
			if len(cells) <= i || cells[i][1] != number {
				t.Errorf("%s: %q, want %q", show, cells, want)
				break
			}
		}
	}
	for _, path := range []string{"?span=month", "?span=month&show=cpu&page=3", "?show=memory&page=99", "?show=nothing&span=x&page=-1"} {
		chief.open("/admin/load" + path)
		chief.want(http.StatusOK, `<h1>`)
	}
	chief.open("/admin/load?show=requests")
	if !strings.Contains(chief.last.body, `<path class="line l0" d="M59 `) || strings.Contains(chief.last.body, "style=") {
		t.Errorf("%.6000s", chief.last.body)
	}
}

// TestAdminStorage: what is on the disks is added up in the background; growth is known
// after a day.
func TestAdminStorage(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	w.account("alice")
	session := w.Client.SignIn(t, "alice.test", flowPassword)
	if got := w.Client.Do(t, pdstest.Request{
		NSID: "com.atproto.repo.uploadBlob", Auth: "Bearer " + session.AccessJwt, Header: http.Header{"Content-Type": {"text/plain"}}, Body: strings.Repeat("x", 3000),
	}); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	chief := w.desk()
	until := func(text string) {
		t.Helper()
		chief.enter()
		for range 500 {
			if chief.open("/admin/storage"); strings.Contains(chief.last.body, text) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		chief.want(http.StatusOK, text)
	}
	w.clock.Advance(2 * time.Hour) // the look at the start is too old
	until("@alice.<wbr>test")
	for _, text := range []string{"2.9\u00a0kB", "1 file", "Not known yet", "This server knows of none."} {
		chief.want(http.StatusOK, text)
	}
	w.clock.Advance(30 * time.Hour)
	until(" a day")
}

// TestAdminPicture: a picture is shown after a click, as its type alone and with nothing that
// could run; anything else never is.
func TestAdminPicture(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	session := w.Client.SignIn(t, "alice.test", flowPassword)
	upload := func(kind, content string) string {
		t.Helper()
		a := w.Client.Do(t, pdstest.Request{
			NSID: "com.atproto.repo.uploadBlob", Auth: "Bearer " + session.AccessJwt, Header: http.Header{"Content-Type": {kind}}, Body: content,
		})
		found := regexp.MustCompile(`"\$link":\s*"([^"]+)"`).FindStringSubmatch(string(a.Body))
		if found == nil {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		a = w.Client.Do(t, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: "Bearer " + session.AccessJwt, Body: map[string]any{
			"repo": alice.DID, "collection": "com.example.file", "record": map[string]any{"$type": "com.example.file", "file": map[string]any{
				"$type": "blob", "ref": map[string]string{"$link": found[1]}, "mimeType": kind, "size": len(content),
			}},
		}})
		if a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		return found[1]
	}
	gif := "GIF89a\x01\x00\x01\x00\x00\x00\x00;<script>alert(1)</script>"
	picture := "account=" + alice.DID + "&blob=" + upload("image/gif", gif)
	chief := w.desk()
	if s := chief.get(w.URL + "/admin/content/picture?" + picture); s.status != http.StatusSeeOther {
		t.Errorf("without a sign-in: %d", s.status)
	}
	chief.enter()
	chief.open("/admin/content?" + picture)
	chief.want(http.StatusOK, "Show the picture")
	if strings.Contains(chief.last.body, `class="shown"`) {
		t.Error("the picture is shown before anybody asks for it")
	}
	chief.open("/admin/content?" + picture + "&picture=1")
	chief.want(http.StatusOK, `<img class="shown" src="/admin/content/picture?`)
	s := chief.get(w.URL + "/admin/content/picture?" + picture)
	if s.status != http.StatusOK || s.body != gif || s.header.Get("Content-Type") != "image/gif" || s.header.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.Contains(s.header.Get("Content-Security-Policy"), "sandbox") || s.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %q %v", s.status, s.body, s.header)
	}
	for kind, content := range map[string]string{
		"text/html": "<!DOCTYPE html><script>alert(1)</script>", "image/svg+xml": `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`,
	} {
		odd := "account=" + alice.DID + "&blob=" + upload(kind, content)
		if s := chief.get(w.URL + "/admin/content/picture?" + odd); s.status != http.StatusNotFound {
			t.Errorf("%s: %d %v", kind, s.status, s.header)
		}
		chief.open("/admin/content?" + odd + "&picture=1")
		if strings.Contains(chief.last.body, `class="shown"`) || strings.Contains(chief.last.body, "Show the picture") {
			t.Errorf("%s is shown", kind)
		}
	}
	chief.open("/admin/content/picture?account=nobody.test&blob=x")
	chief.want(http.StatusNotFound, "")
}
