//go:build reference

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// TestReferenceCodes sends both servers the same requests about mailed codes,
// and expects the same status, error and message. Intended differences are in
// docs/divergences.md.
func TestReferenceCodes(t *testing.T) {
	plc := startPLC(t)
	ours, theirs := pdstest.NewMailbox(t, pdstest.MailboxOptions{}), pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	server := pdstest.Launch(t, "", append(ours.Settings(), "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc)...)
	for _, kv := range theirs.Settings() {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	reference := pdstest.Client{Base: startReference(t, plc)}
	got, want := codeStory(t, server.Client, ours), codeStory(t, reference, theirs)
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("ours:      %s\nreference: %s", line(got, i), line(want, i))
		}
	}
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// codeStory returns a server's answers, a line each.
func codeStory(t *testing.T, c pdstest.Client, box *pdstest.Mailbox) (lines []string) {
	t.Helper()
	alice, bob := c.SignUp(t, "alice"), c.SignUp(t, "bob")
	type fields = map[string]string
	call := func(nsid string, s *pdstest.Session, in any) {
		t.Helper()
		r := pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server." + nsid, Body: in}
		if s != nil {
			r.Auth = pdstest.Bearer(s.AccessJwt)
		}
		a := c.Do(t, r)
		lines = append(lines, fmt.Sprintf("%s: %d %s", nsid, a.Status, a.Body))
	}
	code := func(to string) string {
		t.Helper()
		for {
			if found := codeForm.FindString(box.Wait(t, to).Text); found != "" { // ours sends notices too
				return found
			}
		}
	}
	const mail, wrong = "alice@example.com", "AAAAA-AAAAA"
	call("confirmEmail", &alice, fields{"email": mail, "token": wrong})
	call("confirmEmail", &alice, fields{"email": "bob@example.com", "token": wrong})
	call("requestEmailConfirmation", nil, nil)
	call("requestEmailConfirmation", &alice, nil)
	confirm := code(mail)
	call("requestEmailUpdate", &alice, nil)
	call("updateEmail", &alice, fields{"email": "no address"})
	call("updateEmail", &alice, fields{"email": "bob@example.com"})
	call("updateEmail", &alice, fields{"email": mail, "token": confirm})
	call("confirmEmail", &alice, fields{"email": strings.ToUpper(mail), "token": strings.ToLower(confirm)})
	call("confirmEmail", &alice, fields{"email": mail, "token": confirm})
	call("updateEmail", &alice, fields{"email": "new@example.com"})
	call("requestEmailUpdate", &alice, nil)
	update := code(mail)
	call("updateEmail", &alice, fields{"email": "new@example.com", "token": wrong})
	call("updateEmail", &alice, fields{"email": "bob@example.com", "token": update})
	call("updateEmail", &alice, fields{"email": "new@example.com", "token": update})
	call("updateEmail", &alice, fields{"email": "newer@example.com", "token": update})
	call("requestPasswordReset", nil, fields{"email": "BOB@example.com"})
	reset := code("bob@example.com")
	call("resetPassword", nil, fields{"token": wrong, "password": "another-horse"})
	call("resetPassword", nil, fields{"token": reset, "password": strings.Repeat("x", 257)})
	call("resetPassword", nil, fields{"token": strings.ToLower(reset), "password": "another-horse"})
	call("resetPassword", nil, fields{"token": reset, "password": "another-horse"})
	call("requestAccountDelete", nil, nil)
	call("requestAccountDelete", &alice, nil)
	code("new@example.com")
	_ = bob
	for _, nsid := range []string{"confirmEmail", "updateEmail", "requestPasswordReset", "resetPassword"} {
		call(nsid, &alice, fields{})
	}
	return lines
}
