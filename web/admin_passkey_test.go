package web_test

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/internal/pdstest"
	"nestbox/signin"
)

// passkey makes a passkey for an account.
func (w *flowWorld) passkey(did string) *pdstest.Authenticator {
	w.t.Helper()
	a, err := account.Find(w.t.Context(), w.SignIns().Accounts, did)
	if err != nil {
		w.t.Fatal(err)
	}
	ask, err := w.SignIns().BeginPasskey(w.t.Context(), a, "f")
	if err != nil {
		w.t.Fatal(err)
	}
	key := pdstest.NewAuthenticator("localhost", w.URL)
	if _, err := w.SignIns().AddPasskey(w.t.Context(), a, signin.NewPasskey{Sealed: ask.Sealed, Answer: key.Make(w.t, ask.Options), Name: "key", Flow: "f"}); err != nil {
		w.t.Fatal(err)
	}
	return key
}

// asked returns what the form of the last page asks a passkey for: its options and the sealed
// ceremony.
func (d *desk) asked() (options, ceremony string) {
	d.w.t.Helper()
	m := regexp.MustCompile(`data-options="([^"]*)"`).FindStringSubmatch(d.last.body)
	c := regexp.MustCompile(`name="ceremony" value="([^"]*)"`).FindStringSubmatch(d.last.body)
	if m == nil || c == nil {
		d.w.t.Fatalf("the page asks for no passkey\n%s", d.last.body)
	}
	return html.UnescapeString(m[1]), html.UnescapeString(c[1])
}

// TestAdminPasskey: an account with a role signs in to the admin page by a passkey alone, or by
// password and passkey, each answer once. One of another origin, without user verification, of
// no account or of one without a role opens nothing.
func TestAdminPasskey(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice, bob := w.account("alice"), w.account("bob")
	key, foreign := w.passkey(alice.DID), w.passkey(bob.DID)
	w.run("admin.add", admin.RoleArgs{Account: "alice.test", Role: admin.RoleModerator})
	const path = "/admin/sign-in"
	// try signs in by a passkey after a change of the authenticator.
	try := func(k *pdstest.Authenticator, change func(*pdstest.Authenticator)) (d *desk, sent []string) {
		t.Helper()
		d = w.desk()
		d.open(path)
		options, ceremony := d.asked()
		if !strings.Contains(options, `"userVerification":"required"`) {
			t.Errorf("it asks for %s", options)
		}
		now := *k
		if change != nil {
			change(&now)
		}
		sent = []string{"ceremony", ceremony, "credential", now.Answer(t, options)}
		d.post(path, sent...)
		return d, sent
	}
	inside := func(d *desk, want bool, after string) {
		t.Helper()
		d.open("/admin/")
		if got := strings.Contains(d.last.body, "@alice.<wbr>test"); got != want {
			t.Errorf("%s: signed in %v\n%.2000s", after, got, d.last.body)
		}
	}
	for name, c := range map[string]struct {
		key    *pdstest.Authenticator
		change func(*pdstest.Authenticator)
		says   string
	}{
		"another origin":            {key, func(k *pdstest.Authenticator) { k.Origin = "https://evil.example" }, "passkey"},
		"another host":              {key, func(k *pdstest.Authenticator) { k.Host = "evil.example" }, "passkey"},
		"without user verification": {key, func(k *pdstest.Authenticator) { k.Flags = pdstest.UserPresent }, "passkey"},
		"without a person":          {key, func(k *pdstest.Authenticator) { k.Flags = pdstest.UserVerified }, "passkey"},
		"of an unknown account":     {key, func(k *pdstest.Authenticator) { k.UserHandle = make([]byte, 64) }, "does not belong to an account"},
		"as another account's":      {foreign, func(k *pdstest.Authenticator) { k.UserHandle = key.UserHandle }, "does not belong to an account"},
		"without a role":            {foreign, nil, "This account may not use the admin page."},
	} {
		d, _ := try(c.key, c.change)
		if d.last.status != http.StatusUnprocessableEntity || !strings.Contains(d.last.body, c.says) {
			t.Errorf("%s: %d, want 422 with %q\n%.3000s", name, d.last.status, c.says, d.last.body)
		}
		inside(d, false, name)
	}

	d, sent := try(key, nil)
	if d.last.status != http.StatusSeeOther {
		t.Fatalf("%d\n%s", d.last.status, d.last.body)
	}
	inside(d, true, "a passkey")
	if got := w.audited()[0]; got != alice.DID+" admin-signed-in" {
		t.Errorf("audited %s", got)
	}
	// What was answered opens no other browser: the form is another one's.
	thief := w.desk()
	thief.open(path)
	thief.post(path, sent...)
	thief.want(http.StatusUnprocessableEntity, "")
	inside(thief, false, "an answer that was used")
	foreignForm := w.desk()
	foreignForm.open(path)
	options, ceremony := foreignForm.asked()
	foreignForm.send(path, true, "ceremony", ceremony, "credential", key.Answer(t, options))
	foreignForm.want(http.StatusForbidden, "")
	inside(foreignForm, false, "a form of another site")

	// As the second step: of an account that asks for it after the password.
	a, err := account.Find(t.Context(), w.SignIns().Accounts, alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.SignIns().Switch(t.Context(), a, signin.SwitchPasskeySecond, true); err != nil {
		t.Fatal(err)
	}
	second := w.desk()
	second.open(path)
	second.post(path, "name", "alice.test", "password", flowPassword)
	second.want(http.StatusOK, "data-passkey")
	options, ceremony = second.asked()
	second.post(path, "step", "factor", "decision", "continue", "ceremony", ceremony, "credential", foreign.Answer(t, options))
	second.want(http.StatusUnprocessableEntity, "")
	options, ceremony = second.asked()
	second.post(path, "step", "factor", "decision", "continue", "ceremony", ceremony, "credential", key.Answer(t, options))
	inside(second, true, "password and passkey")

	w.run("admin.remove", admin.AccountArgs{Account: "alice.test"})
	inside(d, false, "the role is gone")
	d, _ = try(key, nil)
	d.want(http.StatusUnprocessableEntity, "This account may not use the admin page.")
}
