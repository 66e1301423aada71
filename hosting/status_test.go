package hosting_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// call makes a call with an access token; without a body it is a GET.
func call(t *testing.T, c pdstest.Client, nsid, token string, body any) pdstest.Answer {
	t.Helper()
	return c.Do(t, pdstest.Request{NSID: "com.atproto.server." + nsid, Auth: pdstest.Bearer(token), Body: body})
}

func activate(t *testing.T, c pdstest.Client, token string) pdstest.Answer {
	t.Helper()
	return c.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.activateAccount", Auth: pdstest.Bearer(token)})
}

// TestDeactivate: the owner's switch ends no session and shows in each answer.
func TestDeactivate(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	want := func(what string, active bool) {
		t.Helper()
		var checked struct{ Activated, ValidDID bool }
		call(t, s.Client, "checkAccountStatus", alice.AccessJwt, nil).Decode(t, &checked)
		var got pdstest.Session
		s.GetSession(t, alice.AccessJwt).Decode(t, &got)
		status := "deactivated"
		if active {
			status = ""
		}
		if checked.Activated != active || !checked.ValidDID || got.Active == nil || *got.Active != active || got.Status != status {
			t.Errorf("%s: checkAccountStatus %+v, active %v, status %q", what, checked, got.Active, got.Status)
		}
		alice = s.MustRefresh(t, alice.RefreshJwt)
		if *alice.Active != active || alice.Status != status {
			t.Errorf("%s: refreshed to %v, %q", what, *alice.Active, alice.Status)
		}
	}
	want("as made", true)
	for _, in := range []any{map[string]any{}, map[string]any{"deleteAfter": "2027-01-01T00:00:00Z"}} {
		if a := call(t, s.Client, "deactivateAccount", alice.AccessJwt, in); a.Status != http.StatusOK || len(a.Body) != 0 {
			t.Fatalf("%v: %d %s", in, a.Status, a.Body)
		}
		want("deactivated", false)
	}
	if in := s.SignIn(t, "alice.test", pdstest.Password); *in.Active || in.Status != "deactivated" {
		t.Errorf("signed in to %v, %q", *in.Active, in.Status)
	}
	for range 2 {
		if a := activate(t, s.Client, alice.AccessJwt); a.Status != http.StatusOK || len(a.Body) != 0 {
			t.Fatalf("activate: %d %s", a.Status, a.Body)
		}
		want("active again", true)
	}
	for _, in := range []any{map[string]any{"deleteAfter": "tomorrow"}, map[string]any{"deleteAfter": 5}} {
		if a := call(t, s.Client, "deactivateAccount", alice.AccessJwt, in); a.Status != http.StatusBadRequest || !strings.Contains(string(a.Body), "$.deleteAfter") {
			t.Errorf("%v: %d %s", in, a.Status, a.Body)
		}
	}
	want("after refused calls", true)
}

// TestStatusCallers: which callers may turn the switch.
func TestStatusCallers(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	var made struct{ Password string }
	call(t, s.Client, "createAppPassword", alice.AccessJwt, map[string]any{"name": "app", "privileged": true}).Decode(t, &made)
	app := s.SignIn(t, "alice.test", made.Password)
	call(t, s.Client, "deactivateAccount", app.AccessJwt, map[string]any{}).WantError(t, http.StatusBadRequest, "InvalidToken", "Bad token scope")
	activate(t, s.Client, app.AccessJwt).WantError(t, http.StatusBadRequest, "InvalidToken", "Bad token scope")
	if a := call(t, s.Client, "checkAccountStatus", app.AccessJwt, nil); a.Status != http.StatusOK {
		t.Errorf("an app asks for the status: %d %s", a.Status, a.Body)
	}
	for _, nsid := range []string{"deactivateAccount", "activateAccount"} {
		a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server." + nsid, Body: nil})
		a.WantError(t, http.StatusUnauthorized, "AuthMissing", "Authentication Required")
		call(t, s.Client, nsid, alice.RefreshJwt, map[string]any{}).WantError(t, http.StatusBadRequest, "InvalidToken", "Token could not be verified")
	}

	// A caller that signed in to a taken-down account may deactivate it, and nothing
	// else.
	a := s.Do(t, pdstest.Request{NSID: "com.atproto.admin.updateSubjectStatus", Auth: asAdmin, Body: map[string]any{
		"subject": map[string]string{"$type": "com.atproto.admin.defs#repoRef", "did": alice.DID}, "takedown": map[string]any{"applied": true},
	}})
	if a.Status != http.StatusOK {
		t.Fatalf("takedown: %d %s", a.Status, a.Body)
	}
	a = s.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]any{
		"identifier": "alice.test", "password": pdstest.Password, "allowTakendown": true,
	}})
	var down pdstest.Session
	a.Decode(t, &down)
	if a := call(t, s.Client, "deactivateAccount", down.AccessJwt, map[string]any{}); a.Status != http.StatusOK {
		t.Errorf("deactivate while taken down: %d %s", a.Status, a.Body)
	}
	activate(t, s.Client, down.AccessJwt).WantError(t, http.StatusBadRequest, "InvalidToken", "Bad token scope")
	call(t, s.Client, "checkAccountStatus", down.AccessJwt, nil).WantError(t, http.StatusBadRequest, "InvalidToken", "Bad token scope")
}

// TestCheckAccountStatus: the counts are those of the repository, which an owner
// who moves in looks at.
func TestCheckAccountStatus(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	want := func(what string, blocks, records, blobs int) {
		t.Helper()
		var head struct{ CID, Rev string }
		s.Do(t, pdstest.Request{NSID: "com.atproto.sync.getLatestCommit?did=" + alice.DID}).Decode(t, &head)
		a := call(t, s.Client, "checkAccountStatus", alice.AccessJwt, nil)
		want := fmt.Sprintf(`{"activated":true,"validDid":true,"repoCommit":%q,"repoRev":%q,"repoBlocks":%d,"indexedRecords":%d,"privateStateValues":0,"expectedBlobs":%d,"importedBlobs":%d}`,
			head.CID, head.Rev, blocks, records, blobs, blobs)
		if got := strings.TrimSpace(string(a.Body)); a.Status != http.StatusOK || got != want {
			t.Errorf("%s: %d %s\nwant %s", what, a.Status, got, want)
		}
	}
	want("as made", 2, 0, 0)
	var up struct{ Blob any }
	s.Do(t, pdstest.Request{
		NSID: "com.atproto.repo.uploadBlob", Auth: pdstest.Bearer(alice.AccessJwt), Header: http.Header{"Content-Type": {"image/png"}},
		Body: "\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR",
	}).Decode(t, &up)
	want("with an upload that nothing refers to", 2, 0, 0)
	a := s.Do(t, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]any{
		"repo": alice.DID, "collection": "app.bsky.actor.profile", "rkey": "self", "record": map[string]any{"$type": "app.bsky.actor.profile", "avatar": up.Blob},
	}})
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	want("with a profile", 3, 1, 1)
}

func TestDescribeServer(t *testing.T) {
	for _, c := range []struct {
		settings []string
		want     string
	}{
		{nil, `{"did":"did:web:localhost","availableUserDomains":[".test"],"inviteCodeRequired":false,"blobUploadLimit":314572800,"links":{},"contact":{}}`},
		{
			[]string{
				"PDS_SERVICE_DID=did:web:pds.example.com", "PDS_SERVICE_HANDLE_DOMAINS=.example.com,.Example.org", "PDS_INVITE_REQUIRED=true",
				"PDS_BLOB_UPLOAD_LIMIT=1000", "PDS_PRIVACY_POLICY_URL=https://a.example", "PDS_TERMS_OF_SERVICE_URL=https://b.example",
				"PDS_CONTACT_EMAIL_ADDRESS=c@example.com",
			},
			`{"did":"did:web:pds.example.com","availableUserDomains":[".example.com",".example.org"],"inviteCodeRequired":true,"blobUploadLimit":1000,` +
				`"links":{"privacyPolicy":"https://a.example","termsOfService":"https://b.example"},"contact":{"email":"c@example.com"}}`,
		},
	} {
		s := pdstest.Start(t, pdstest.Options{Settings: c.settings})
		a := s.Do(t, pdstest.Request{NSID: "com.atproto.server.describeServer"})
		if got := strings.TrimSpace(string(a.Body)); a.Status != http.StatusOK || got != c.want {
			t.Errorf("%d %s\nwant %s", a.Status, got, c.want)
		}
	}
}
