package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"nestbox/admin"
	"nestbox/internal/pdstest"
	"nestbox/web"
)

// filled returns what a test types into the fields of an action.
func filled(name string) []string {
	return map[string][]string{
		"invite-create": {"codes", "2", "uses", "3"},
		"mail-test":     {"to", "operator@example.com"},
		"mail":          {"subject", "Hello", "text", "How are you?"},
		"email":         {"email", "new@example.com"},
		"handle":        {"handle", "alice2.test"},
		"delete":        {"handle", "alice2.test"},

		"account-create":   {"handle", "newcomer.test", "email", "newcomer@example.com"},
		"takedown":         {"case", "number 7"},
		"content-takedown": {"case", "number 7"},
	}[name]
}

// TestAdminActs walks every action of every page: it asks first, a form of another site is
// refused, one without a session leads to the sign-in, one of a moderator works only if it is
// a moderator's; done, it is in the audit log with the actor and the note.
func TestAdminActs(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, box.Settings()...)
	alice, mod := w.account("alice"), w.account("molly")
	w.run("admin.add", admin.RoleArgs{Account: "molly.test", Role: admin.RoleModerator})
	code := w.authenticator(mod.DID)
	chief, helper, stranger := w.desk(), w.desk(), w.desk()
	helper.open("/admin/sign-in")
	helper.post("/admin/sign-in", "name", "molly.test", "password", flowPassword)
	helper.post("/admin/sign-in", "step", "factor", "decision", "continue", "code", code())
	chief.enter()
	acts := web.ActNames()
	if len(acts) < 28 {
		t.Fatalf("only %d actions", len(acts))
	}
	for _, a := range acts {
		if a.Name == "session-end" {
			w.Client.SignIn(t, "alice.test", flowPassword)
		}
		if a.Name == "factors-off" {
			w.authenticator(alice.DID)
		}
		path := strings.ReplaceAll(a.Path, "{did}", alice.DID)
		ask := path + "?act=" + a.Name
		if a.Name == "session-end" {
			chief.open(path)
			found := regexp.MustCompile(`act=session-end&amp;session=([0-9]+)`).FindStringSubmatch(chief.last.body)
			if found == nil {
				t.Fatal(chief.last.body)
			}
			ask += "&session=" + found[1]
		}
		if about := map[string]string{
			"content-takedown": "uri=at://" + mod.DID + "/a.b.c/self", "content-lift": "uri=at://" + mod.DID + "/a.b.c/self",
			"client-end": "client=https://app.example/c.json", "client-fetch": "client=https://app.example/c.json", "crawl": "relay=https://relay.example", "invite-disable": "code=some-code", "disconnect": "subscriber=1",
		}[a.Name]; about != "" {
			ask += "&" + about
		}
		if a.Name == "disconnect" {
			conn, resp, err := websocket.DefaultDialer.DialContext(t.Context(), strings.Replace(w.URL, "http", "ws", 1)+"/xrpc/com.atproto.sync.subscribeRepos", nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = conn.Close(), resp.Body.Close() })
		}
		if a.Fresh {
			chief.open(path)
			if w.clock.Advance(admin.FreshLife); chief.get(w.URL+ask).location.Path != "/admin/sign-in" {
				t.Errorf("%s: an old sign-in is enough", a.Name)
			}
			chief.enter()
		}
		fields := append([]string{"decision", "confirm", "note", "case " + a.Name}, filled(a.Name)...)

		helper.open(ask)
		if got := helper.last.status; a.Role == admin.RoleModerator && got != http.StatusOK || a.Role == admin.RoleAdmin && got != http.StatusForbidden {
			t.Errorf("%s of a moderator: %d", a.Name, got)
		}
		if a.Role == admin.RoleAdmin { // with the form of another page
			helper.open(path + "?act=mail")
			if got := helper.post(path, append(slices.Clone(fields), "act", a.Name)...).status; got != http.StatusForbidden {
				t.Errorf("%s by a moderator's form: %d", a.Name, got)
			}
		}
		if s := stranger.post(path, append(slices.Clone(fields), "act", a.Name)...); s.status != http.StatusSeeOther || s.location.Path != "/admin/sign-in" {
			t.Errorf("%s without a session: %d to %v", a.Name, s.status, s.location)
		}

		actor, d := "admin", chief
		if a.Role == admin.RoleModerator {
			actor, d = mod.DID, helper
		}
		d.open(ask)
		if got := d.post(path, append(slices.Clone(fields), "note", strings.Repeat("ß", 201))...); got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s with a long note: %d", a.Name, got.status)
		}
		d.open(ask)
		d.want(http.StatusOK, "nestbox ")
		asked := d.last
		if got := d.send(path, true, fields...).status; got != http.StatusForbidden {
			t.Errorf("%s from another site: %d", a.Name, got)
		}
		before := w.audited()
		d.last = asked
		s := d.post(path, append(slices.Clone(fields), "csrf", "x")...)
		if s.status != http.StatusForbidden {
			t.Errorf("%s without its token: %d", a.Name, s.status)
		}
		if after := w.audited(); len(after) != len(before) {
			t.Errorf("%s: refused, and yet %q", a.Name, after[0])
		}
		d.last = asked
		s = d.post(path, fields...)
		if s.location != nil {
			s = d.open(s.location.RequestURI())
		}
		// There is no relay to ask, and no such app: the attempt is in the log all the same.
		if (a.Name == "crawl" || a.Name == "client-fetch") && s.status == http.StatusUnprocessableEntity && strings.Contains(s.body, "That did not work") {
			s.status = http.StatusOK
		} else if s.status != http.StatusOK || strings.Contains(s.body, `role="alert"`) {
			t.Errorf("%s: %d %.2500s", a.Name, s.status, s.body)
			continue
		}
		after := w.audited()
		lines := after[:len(after)-len(before)]
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, actor+" ") && strings.Contains(l, `"case `+a.Name) }) {
			t.Errorf("%s: the audit log has %q", a.Name, lines)
		}
		t.Log(a.Name, lines)
		if a.Name == "takedown" {
			chief.open(path)
			if body := chief.last.body; !strings.Contains(body, "Case <bdi>number 7</bdi>") && !strings.Contains(body, "Case number 7") {
				t.Errorf("the case of the takedown is not shown: %s", body)
			}
		}
		if slices.Contains([]string{"takedown", "untakedown", "suspend", "signout", "session-end", "invites-off", "invite-disable", "disconnect"}, a.Name) {
			d.last = asked
			if s := d.post(path, fields...); s.status != http.StatusSeeOther {
				t.Errorf("%s, posted again: %d %.1500s", a.Name, s.status, s.body)
			}
		}
	}
}

// TestAdminPagesShow: each page is shown to whom it is for.
func TestAdminPagesShow(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice, mod := w.account("alice"), w.account("molly")
	w.run("admin.add", admin.RoleArgs{Account: "molly.test", Role: admin.RoleModerator})
	code := w.authenticator(mod.DID)
	chief, helper := w.desk(), w.desk()
	helper.open("/admin/sign-in")
	helper.post("/admin/sign-in", "name", "molly.test", "password", flowPassword)
	helper.post("/admin/sign-in", "step", "factor", "decision", "continue", "code", code())
	chief.enter()
	for _, page := range web.DeskPaths() {
		path := strings.ReplaceAll(page.Path, "{did}", alice.DID)
		chief.open(path)
		chief.want(http.StatusOK, `<h1>`)
		want := http.StatusOK
		if page.Role == admin.RoleAdmin {
			want = http.StatusForbidden
		}
		helper.open(path)
		helper.want(want, `<h1>`)
		if s := w.desk().get(w.URL + path); s.status != http.StatusSeeOther || s.location.Path != "/admin/sign-in" {
			t.Errorf("%s without a session: %d", path, s.status)
		}
	}
	chief.open("/admin/accounts?q=LIC")
	chief.want(http.StatusOK, "@alice.<wbr>test")
	if strings.Contains(chief.last.body, "@molly.") {
		t.Error("a search for alice finds mod")
	}
	chief.open("/admin/accounts?q=" + url.QueryEscape(alice.DID))
	chief.want(http.StatusOK, "DID, its permanent name")
	chief.open("/admin/accounts?network=127.0.0.1")
	chief.want(http.StatusOK, "@alice.<wbr>test")
	helper.open("/admin/accounts?network=10.0.0.1")
	helper.want(http.StatusOK, "@alice.<wbr>test")
	if strings.Contains(helper.last.body, `name="network"`) {
		t.Error("a moderator is asked for a network")
	}
	chief.open("/admin/accounts/did:plc:nobody")
	chief.want(http.StatusNotFound, "")
	chief.open("/admin/accounts/" + alice.DID + "?identity=1")
	chief.want(http.StatusOK, "This server may change the identity")
	helper.open("/admin/accounts/" + alice.DID)
	for _, secret := range []string{"What happened", "127.0.", "Recovery codes"} {
		if strings.Contains(helper.last.body, secret) {
			t.Errorf("a moderator sees %s", secret)
		}
	}
	w.run("invite.create", admin.InviteArgs{Codes: 101, Uses: 2})
	chief.open("/admin/invites")
	chief.want(http.StatusOK, "0 of 2")
	more := regexp.MustCompile(`href="(/admin/invites\?cursor=[^"]+)"`).FindStringSubmatch(chief.last.body)
	if more == nil {
		t.Fatal("no second page of invite codes")
	}
	chief.open(strings.ReplaceAll(more[1], "&amp;", "&"))
	chief.want(http.StatusOK, "0 of 2")
	chief.open("/admin/invites?cursor=x")
	chief.want(http.StatusNotFound, "")
	rec := w.Client.Do(t, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: "Bearer " + alice.AccessJwt, Body: map[string]any{
		"repo": alice.DID, "collection": "com.example.note", "rkey": "one", "record": map[string]any{"$type": "com.example.note", "text": "<b>hi</b>"},
	}})
	if rec.Status != http.StatusOK {
		t.Fatalf("%d %s", rec.Status, rec.Body)
	}
	helper.open("/admin/content?uri=at://alice.test/com.example.note/one")
	helper.want(http.StatusOK, "&lt;b&gt;hi&lt;/b&gt;")
	helper.open("/admin/content?uri=at://alice.test/com.example.note/two")
	helper.want(http.StatusOK, "The account does not have it now.")
	helper.open("/admin/content?uri=nonsense")
	helper.want(http.StatusUnprocessableEntity, "not the URI of a record")
	chief.open("/admin/sessions?show=new")
	chief.want(http.StatusOK, "@molly.<wbr>test")
	chief.open("/admin/sessions?show=suspected")
	chief.want(http.StatusOK, "There are none.")
	chief.open("/admin/audit?what=admin-signed-in&who=" + url.QueryEscape(mod.DID))
	chief.want(http.StatusOK, "admin-signed-in")
	chief.open("/admin/audit?since=yesterday")
	chief.want(http.StatusUnprocessableEntity, "Write the day as")
	chief.open("/admin/audit?account=nobody.test")
	chief.want(http.StatusUnprocessableEntity, "No such account was ever here.")
	s := chief.get(w.URL + "/admin/audit?download=1")
	if got := strings.Count(s.body, "\n"); s.header.Get("Content-Type") != "application/x-ndjson" || got != len(w.audited()) {
		t.Errorf("%d lines of %s", got, s.header.Get("Content-Type"))
	}
	for i := range 55 {
		w.account(fmt.Sprintf("many%d", i))
	}
	chief.open("/admin/accounts?q=many")
	more = regexp.MustCompile(`href="(/admin/accounts\?before=[^"]+)"`).FindStringSubmatch(chief.last.body)
	if n := strings.Count(chief.last.body, "<tr>"); n != 51 || more == nil {
		t.Fatalf("%d rows, more %v", n, more)
	}
	chief.open(strings.ReplaceAll(more[1], "&amp;", "&"))
	if n := strings.Count(chief.last.body, "<tr>"); n != 6 || strings.Contains(chief.last.body, `class="rest"`) {
		t.Errorf("%d rows on the second page", n)
	}
}
