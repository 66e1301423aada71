package admin_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/identity"
	"nestbox/internal/pdstest"
	"nestbox/plc"
	"nestbox/store/storetest"
)

var (
	asAdmin = "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:admin"))
	ghost   = "did:plc:ewvi7nxzyoun6zhxrhs64oiz" // not an account here
	someCID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
)

// office is a server with one account, alice, and the time that the test sets.
type office struct {
	*pdstest.InProcess

	t     *testing.T
	clock *storetest.Clock // the server's
	alice pdstest.Session
}

func newOffice(t *testing.T, settings ...string) *office {
	t.Helper()
	o := &office{t: t, clock: storetest.NewClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	o.InProcess = pdstest.Start(t, pdstest.Options{Settings: settings, Now: o.clock.Now})
	o.alice = o.SignUp(t, "alice")
	return o
}

func (o *office) get(nsid string, query url.Values) pdstest.Answer {
	o.t.Helper()
	return o.Do(o.t, pdstest.Request{NSID: "com.atproto.admin." + nsid + "?" + query.Encode(), Auth: asAdmin})
}

func (o *office) post(nsid string, in any) pdstest.Answer {
	o.t.Helper()
	return o.Do(o.t, pdstest.Request{NSID: "com.atproto.admin." + nsid, Auth: asAdmin, Body: in})
}

type object = map[string]any

func subject(did string) object {
	return object{"$type": "com.atproto.admin.defs#repoRef", "did": did}
}

// want compares a whole answer, as JSON.
func want(t *testing.T, what string, a pdstest.Answer, status int, body string) {
	t.Helper()
	if got := strings.TrimSpace(string(a.Body)); a.Status != status || got != body {
		t.Errorf("%s:\ngot  %d %s\nwant %d %s", what, a.Status, got, status, body)
	}
}

func (o *office) takedown(applied bool, ref string) pdstest.Answer {
	o.t.Helper()
	measure := object{"applied": applied}
	if ref != "" {
		measure["ref"] = ref
	}
	return o.post("updateSubjectStatus", object{"subject": subject(o.alice.DID), "takedown": measure})
}

func (o *office) wantStatus(what string, takedown, deactivated string) {
	o.t.Helper()
	want(o.t, what, o.get("getSubjectStatus", url.Values{"did": {o.alice.DID}}), 200, fmt.Sprintf(
		`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q},"takedown":%s,"deactivated":%s}`, o.alice.DID, takedown, deactivated))
}

// TestTakedown: every session ends at once, and lifting it brings none of them
// back.
func TestTakedown(t *testing.T) {
	o := newOffice(t)
	o.wantStatus("at first", `{"applied":false}`, `{"applied":false}`)
	var made struct{ Password string }
	o.Do(t, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(o.alice.AccessJwt), Body: object{"name": "app"}}).Decode(t, &made)
	app := o.SignIn(t, "alice.test", made.Password)

	want(t, "takedown", o.takedown(true, "case 7"), 200, fmt.Sprintf(
		`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q},"takedown":{"applied":true,"ref":"case 7"}}`, o.alice.DID))
	o.wantStatus("taken down", `{"applied":true,"ref":"case 7"}`, `{"applied":false}`)
	for _, s := range []pdstest.Session{o.alice, app} {
		o.GetSession(t, s.AccessJwt).WantError(t, http.StatusUnauthorized, "AccountTakedown", "Account has been taken down")
		o.Refresh(t, s.RefreshJwt).WantError(t, http.StatusUnauthorized, "AccountTakedown", "Account has been taken down")
	}
	for password, message := range map[string]string{pdstest.Password: "AccountTakedown", made.Password: "AuthenticationRequired"} {
		a := o.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: object{"identifier": "alice.test", "password": password}})
		if name, _ := a.Error(t); a.Status != http.StatusUnauthorized || name != message {
			t.Errorf("signing in: %d %s", a.Status, a.Body)
		}
	}

	want(t, "lifted", o.takedown(false, ""), 200, fmt.Sprintf(
		`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q},"takedown":{"applied":false}}`, o.alice.DID))
	o.wantStatus("lifted", `{"applied":false}`, `{"applied":false}`)
	for _, s := range []pdstest.Session{o.alice, app} {
		o.GetSession(t, s.AccessJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has expired")
		o.Refresh(t, s.RefreshJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
	}
	for _, password := range []string{pdstest.Password, made.Password} {
		if s := o.SignIn(t, "alice.test", password); s.DID != o.alice.DID || !*s.Active {
			t.Errorf("after it was lifted: %+v", s)
		}
	}
}

// TestActivateElsewhere: an account whose DID names another host is not activated by
// an admin either.
func TestActivateElsewhere(t *testing.T) {
	o := newOffice(t)
	key, public := newKey(t)
	var bob pdstest.Session
	o.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.createAccount", Body: map[string]string{
		"handle": "bob.test", "email": "bob@example.com", "password": pdstest.Password, "recoveryKey": public.DIDKey(),
	}}).Decode(t, &bob)
	directory := &identity.Directory{URL: o.PLC, Client: http.DefaultClient}
	point := func(host string) {
		t.Helper()
		last, err := directory.Last(t.Context(), syntax.DID(bob.DID))
		if err != nil {
			t.Fatal(err)
		}
		op, err := plc.Amend(last, plc.Data{PDS: host}, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := directory.Submit(t.Context(), syntax.DID(bob.DID), op); err != nil {
			t.Fatal(err)
		}
	}
	switched := func(deactivated bool) pdstest.Answer {
		t.Helper()
		return o.post("updateSubjectStatus", object{"subject": subject(bob.DID), "deactivated": object{"applied": deactivated}})
	}
	if a := switched(true); a.Status != http.StatusOK {
		t.Errorf("deactivate: %d %s", a.Status, a.Body)
	}
	point("https://elsewhere.example")
	switched(false).WantError(t, http.StatusBadRequest, "InvalidRequest", "DID document atproto_pds service endpoint does not match PDS public url")
	if s := o.SignIn(t, "bob.test", pdstest.Password); *s.Active {
		t.Error("it is active all the same")
	}
	point(o.URL)
	if a := switched(false); a.Status != http.StatusOK {
		t.Errorf("activate: %d %s", a.Status, a.Body)
	}
	if s := o.SignIn(t, "bob.test", pdstest.Password); !*s.Active {
		t.Error("it is not active")
	}
}

func TestUpdateSubjectStatus(t *testing.T) {
	o := newOffice(t)
	both := func(takedown, deactivated bool) pdstest.Answer {
		return o.post("updateSubjectStatus", object{
			"subject": subject(o.alice.DID), "takedown": object{"applied": takedown}, "deactivated": object{"applied": deactivated},
		})
	}
	for _, c := range []struct{ takedown, deactivated bool }{{true, true}, {false, false}, {false, true}} {
		if a := both(c.takedown, c.deactivated); a.Status != http.StatusOK {
			t.Errorf("%+v: %d %s", c, a.Status, a.Body)
		}
		o.wantStatus(fmt.Sprintf("%+v", c), fmt.Sprintf(`{"applied":%v}`, c.takedown), fmt.Sprintf(`{"applied":%v}`, c.deactivated))
	}
	both(true, false).WantError(t, http.StatusBadRequest, "InvalidRequest", "Cannot activate and takedown an account at the same time")
	o.wantStatus("refused", `{"applied":false}`, `{"applied":true}`)
	if a := o.post("updateSubjectStatus", object{"subject": subject(o.alice.DID)}); a.Status != http.StatusOK {
		t.Errorf("no change: %d %s", a.Status, a.Body)
	}
	o.wantStatus("no change", `{"applied":false}`, `{"applied":true}`)

	for _, c := range []struct {
		in            object
		name, message string
	}{
		{object{}, "InvalidRequest", `Missing required key "subject" at $`},
		{object{"subject": object{"did": o.alice.DID}}, "InvalidRequest", `Missing required key "$type" at $.subject`},
		{object{"subject": object{"$type": "x.y.z", "did": o.alice.DID}}, "InvalidRequest", "Invalid subject (x.y.z)"},
		{object{"subject": object{"$type": "com.atproto.admin.defs#repoRef"}}, "InvalidRequest", `Missing required key "did" at $.subject`},
		{object{"subject": object{"$type": "com.atproto.repo.strongRef", "uri": "at://x"}}, "InvalidRequest", `Missing required key "cid" at $.subject`},
		{object{"subject": object{"$type": "com.atproto.repo.strongRef", "uri": "at://x", "cid": "y"}}, "InvalidRequest", "Invalid CID at $.subject.cid"},
		{object{"subject": object{"$type": "com.atproto.repo.strongRef", "cid": someCID}}, "InvalidRequest", `Missing required key "uri" at $.subject`},
		{object{"subject": object{"$type": "com.atproto.repo.strongRef", "uri": "https://x", "cid": someCID}}, "InvalidRequest", "Invalid AT URI at $.subject.uri"},
		{object{"subject": object{"$type": "com.atproto.repo.strongRef", "uri": "at://alice.test/a.b.c/d", "cid": someCID}}, "InvalidRequest", "Invalid AT URI at $.subject.uri: it must name a record of a DID"},
		{object{"subject": object{"$type": "com.atproto.repo.strongRef", "uri": "at://" + o.alice.DID, "cid": someCID}}, "InvalidRequest", "Invalid AT URI at $.subject.uri: it must name a record of a DID"},
		{object{"subject": object{"$type": "com.atproto.repo.strongRef", "uri": "at://" + ghost + "/a.b.c/d", "cid": someCID}, "takedown": object{"applied": true}}, "NotFound", "Repo not found"},
		{object{"subject": object{"$type": "com.atproto.admin.defs#repoBlobRef", "did": o.alice.DID, "cid": "y"}}, "InvalidRequest", "Invalid CID at $.subject.cid"},
		{object{"subject": object{"$type": "com.atproto.admin.defs#repoBlobRef", "cid": someCID}}, "InvalidRequest", `Missing required key "did" at $.subject`},
		{object{"subject": object{"$type": "com.atproto.admin.defs#repoBlobRef", "did": "alice.test", "cid": someCID}}, "InvalidRequest", "Invalid DID at $.subject.did"},
		{object{"subject": subject("alice.test")}, "InvalidRequest", "Invalid DID at $.subject.did"},
		{object{"subject": subject(ghost), "takedown": object{"applied": true}}, "AccountNotFound", "Account not found"},
		{object{"subject": subject(o.alice.DID), "takedown": object{}}, "InvalidRequest", `Missing required key "applied" at $.takedown`},
		{object{"subject": subject(o.alice.DID), "takedown": object{"applied": "yes"}}, "InvalidRequest", "Expected boolean value type (got string) at $.takedown.applied"},
		{object{"subject": subject(o.alice.DID), "takedown": true}, "InvalidRequest", "Expected object value type (got boolean) at $.takedown"},
	} {
		o.post("updateSubjectStatus", c.in).WantError(t, http.StatusBadRequest, c.name, c.message)
	}
	o.wantStatus("after refusals", `{"applied":false}`, `{"applied":true}`)

	for _, c := range []struct {
		query         url.Values
		name, message string
	}{
		{url.Values{}, "InvalidRequest", "No provided subject"},
		{url.Values{"did": {"alice.test"}}, "InvalidRequest", "Invalid DID at $.did"},
		{url.Values{"did": {ghost}}, "NotFound", "Subject not found"},
		{url.Values{"uri": {"at://" + o.alice.DID + "/a.b.c/d"}}, "NotFound", "Subject not found"},
		{url.Values{"blob": {"bafy"}}, "InvalidRequest", "Must provide a did to request blob state"},
		{url.Values{"uri": {"at://" + ghost + "/a.b.c/d"}}, "NotFound", "Subject not found"},
		{url.Values{"uri": {"at://alice.test/a.b.c/d"}}, "InvalidRequest", "Invalid AT URI at $.uri: it must name a record of a DID"},
		{url.Values{"blob": {"bafy"}, "did": {o.alice.DID}}, "InvalidRequest", "Invalid CID at $.blob"},
		{url.Values{"blob": {someCID}, "did": {"alice.test"}}, "InvalidRequest", "Invalid DID at $.did"},
		{url.Values{"blob": {someCID}, "did": {o.alice.DID}}, "NotFound", "Subject not found"},
	} {
		o.get("getSubjectStatus", c.query).WantError(t, http.StatusBadRequest, c.name, c.message)
	}
}

// TestNoCredential: every request without the operator's password is refused,
// whatever else it sends.
func TestNoCredential(t *testing.T) {
	o := newOffice(t)
	adminOnly := map[string]bool{"updateAccountPassword": true, "deleteAccount": true, "updateAccountEmail": true, "updateAccountHandle": true}
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for nsid, in := range map[string]any{
		"updateSubjectStatus":   object{"subject": subject(o.alice.DID), "takedown": object{"applied": true}},
		"getSubjectStatus":      nil,
		"getAccountInfo":        nil,
		"getAccountInfos":       nil,
		"updateAccountPassword": object{"did": o.alice.DID, "password": "another-password"},
		"deleteAccount":         object{"did": o.alice.DID},
		"searchAccounts":        nil,
		"sendEmail":             object{"recipientDid": o.alice.DID, "senderDid": o.alice.DID, "content": "Hello"},
		"updateAccountEmail":    object{"account": o.alice.DID, "email": "eve@example.com"},
		"updateAccountHandle":   object{"did": o.alice.DID, "handle": "eve.test"},
		"getInviteCodes":        nil,
		"disableInviteCodes":    object{"accounts": []string{o.alice.DID}},
		"disableAccountInvites": object{"account": o.alice.DID},
		"enableAccountInvites":  object{"account": o.alice.DID},
	} {
		for _, auth := range []string{
			"", basic("admin:wrong"), basic("Admin:admin"), basic("root:admin"), basic("admin:"), basic("admin"), basic("admin:admin "), basic(""),
			"Basic", "Basic !!", "Basic YWRtaW46YWRtaW4 x", "Foo YWRtaW46YWRtaW4=",
			pdstest.Bearer(o.alice.AccessJwt), pdstest.Bearer(o.alice.RefreshJwt), pdstest.Bearer("YWRtaW46YWRtaW4="), "DPoP x",
		} {
			a := o.Do(t, pdstest.Request{NSID: "com.atproto.admin." + nsid + "?did=" + o.alice.DID + "&dids=" + o.alice.DID, Auth: auth, Body: in})
			name, message := "AuthenticationRequired", "Authentication Required"
			if strings.HasPrefix(auth, "Bearer ") && !adminOnly[nsid] { // treated as a moderation service's
				name, message = "UntrustedIss", "Untrusted issuer" // no service is trusted
			}
			a.WantError(t, http.StatusUnauthorized, name, message)
		}
	}
	if a := o.GetSession(t, o.alice.AccessJwt); a.Status != http.StatusOK {
		t.Errorf("alice after all that: %d %s", a.Status, a.Body)
	}
	if a := o.Do(t, pdstest.Request{NSID: "com.atproto.admin.getAccountInfo?did=" + o.alice.DID, Auth: "basic YWRtaW46YWRtaW4="}); a.Status != http.StatusOK {
		t.Errorf("the scheme in small letters: %d %s", a.Status, a.Body)
	}
}

func TestUpdateAccountPassword(t *testing.T) {
	o := newOffice(t)
	const second = "another-password"
	a := o.post("updateAccountPassword", object{"did": o.alice.DID, "password": second})
	if a.Status != http.StatusOK || len(a.Body) != 0 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	o.GetSession(t, o.alice.AccessJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has expired")
	o.Refresh(t, o.alice.RefreshJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
	o.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: object{"identifier": "alice.test", "password": pdstest.Password}}).
		WantError(t, http.StatusUnauthorized, "AuthenticationRequired", "Invalid identifier or password")
	o.SignIn(t, "alice.test", second)
	for _, c := range []struct {
		in            object
		name, message string
	}{
		{object{"did": o.alice.DID, "password": "short"}, "InvalidRequest", "Invalid password length."},
		{object{"did": o.alice.DID, "password": strings.Repeat("a", 257)}, "InvalidRequest", "Invalid password length."},
		{object{"did": o.alice.DID, "password": "password\x00"}, "InvalidRequest", "Invalid password length."},
		{object{"did": ghost, "password": second}, "AccountNotFound", "Account not found"},
		{object{"did": "alice.test", "password": second}, "InvalidRequest", "Invalid DID at $.did"},
		{object{"did": o.alice.DID}, "InvalidRequest", `Missing required key "password" at $`},
	} {
		o.post("updateAccountPassword", c.in).WantError(t, http.StatusBadRequest, c.name, c.message)
	}
	o.SignIn(t, "alice.test", second)
}

func TestDeleteAccount(t *testing.T) {
	o := newOffice(t)
	for range 2 { // a deleted account is not an error
		if a := o.post("deleteAccount", object{"did": o.alice.DID}); a.Status != http.StatusOK || len(a.Body) != 0 {
			t.Errorf("%d %s", a.Status, a.Body)
		}
		o.GetSession(t, o.alice.AccessJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has expired")
		o.Refresh(t, o.alice.RefreshJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
		o.get("getAccountInfo", url.Values{"did": {o.alice.DID}}).WantError(t, http.StatusBadRequest, "NotFound", "Account not found")
	}
	o.post("deleteAccount", object{"did": "alice.test"}).WantError(t, http.StatusBadRequest, "InvalidRequest", "Invalid DID at $.did")
	if again := o.SignUp(t, "alice"); again.DID == o.alice.DID {
		t.Error("the name is free, the DID is not")
	}
}

func TestGetAccountInfo(t *testing.T) {
	o := newOffice(t, "PDS_INVITE_REQUIRED=false")
	var code struct{ Code string }
	o.Do(t, pdstest.Request{NSID: "com.atproto.server.createInviteCode", Auth: asAdmin, Body: object{"useCount": 2, "forAccount": o.alice.DID}}).Decode(t, &code)
	o.clock.Advance(time.Hour)
	var bob pdstest.Session
	o.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: object{
		"handle": "bob.test", "email": "Bob@example.com", "password": pdstest.Password, "inviteCode": code.Code,
	}}).Decode(t, &bob)
	used := fmt.Sprintf(`{"code":%q,"available":2,"disabled":false,"forAccount":%q,"createdBy":"admin","createdAt":"2026-03-01T12:00:00.000Z",`+
		`"uses":[{"usedBy":%q,"usedAt":"2026-03-01T13:00:00.000Z"}]}`, code.Code, o.alice.DID, bob.DID)
	alice := fmt.Sprintf(`{"did":%q,"handle":"alice.test","email":"alice@example.com","indexedAt":"2026-03-01T12:00:00.000Z","invites":[%s],"invitesDisabled":false}`, o.alice.DID, used)
	invited := fmt.Sprintf(`{"did":%q,"handle":"bob.test","email":"bob@example.com","indexedAt":"2026-03-01T13:00:00.000Z","invitedBy":%s,"invites":[],"invitesDisabled":false}`, bob.DID, used)
	want(t, "alice", o.get("getAccountInfo", url.Values{"did": {o.alice.DID}}), 200, alice)
	want(t, "bob", o.get("getAccountInfo", url.Values{"did": {bob.DID}}), 200, invited)
	want(t, "both", o.get("getAccountInfos", url.Values{"dids": {bob.DID, ghost, o.alice.DID}}), 200, `{"infos":[`+invited+","+alice+`]}`)
	want(t, "nobody", o.get("getAccountInfos", url.Values{"dids": {ghost}}), 200, `{"infos":[]}`)

	if a := o.post("updateSubjectStatus", object{"subject": subject(bob.DID), "deactivated": object{"applied": true}}); a.Status != http.StatusOK {
		t.Fatalf("deactivate: %d %s", a.Status, a.Body)
	}
	var view map[string]json.RawMessage
	o.get("getAccountInfo", url.Values{"did": {bob.DID}}).Decode(t, &view)
	if string(view["deactivatedAt"]) != `"2026-03-01T13:00:00.000Z"` {
		t.Errorf("deactivated at %s", view["deactivatedAt"])
	}

	o.get("getAccountInfo", url.Values{"did": {ghost}}).WantError(t, http.StatusBadRequest, "NotFound", "Account not found")
	o.get("getAccountInfo", url.Values{"did": {"bob.test"}}).WantError(t, http.StatusBadRequest, "InvalidRequest", "Invalid DID at $.did")
	o.get("getAccountInfos", url.Values{"dids": {bob.DID, "bob.test"}}).WantError(t, http.StatusBadRequest, "InvalidRequest", "Invalid DID at $.dids[1]")
	for nsid := range map[string]bool{"getAccountInfo": true, "getAccountInfos": true} {
		if name, message := o.get(nsid, nil).Error(t); name != "InvalidRequest" || !strings.Contains(message, "did") {
			t.Errorf("%s of nobody: %s %s", nsid, name, message)
		}
	}
	o.get("getAccountInfos", url.Values{"dids": slices.Repeat([]string{ghost}, 501)}).
		WantError(t, http.StatusBadRequest, "InvalidRequest", "At most 500 dids")
}
