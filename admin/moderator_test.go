package admin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/admin"
	"nestbox/auth"
	"nestbox/internal/pdstest"
)

func newKey(t *testing.T) (atcrypto.PrivateKey, atcrypto.PublicKey) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

// moderation is a moderation service: a did:web on loopback, and its key.
func moderation(t *testing.T) (did syntax.DID, key atcrypto.PrivateKey) {
	t.Helper()
	key, public := newKey(t)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(object{"id": did, "verificationMethod": []object{
			{"id": did.String() + "#atproto", "type": "Multikey", "controller": did, "publicKeyMultibase": public.Multibase()},
		}})
	}))
	t.Cleanup(web.Close)
	u, err := url.Parse(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	did = syntax.DID("did:web:localhost%3A" + u.Port())
	return did, key
}

// TestModeratorAudit: whatever a moderation service does is in the audit log with its
// name, and what the admin does is not.
func TestModeratorAudit(t *testing.T) {
	did, key := moderation(t)
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Settings: append(box.Settings(), "PDS_MOD_SERVICE_DID="+did.String())})
	alice := s.SignUp(t, "alice")
	post := s.Do(t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(alice.AccessJwt),
		Body: object{"repo": alice.DID, "collection": "com.example.note", "rkey": "1", "record": object{"text": "x"}},
	})
	var record struct{ CID string }
	post.Decode(t, &record)
	var code admin.CreateInviteCodeOutput
	s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.createInviteCode", Auth: asAdmin, Body: object{"useCount": 1, "forAccount": alice.DID}}).Decode(t, &code)
	strong := object{"$type": "com.atproto.repo.strongRef", "uri": "at://" + alice.DID + "/com.example.note/1", "cid": record.CID}
	calls := []struct {
		nsid string
		body object
		what []string
	}{
		{"sendEmail", object{"recipientDid": alice.DID, "senderDid": did, "content": "hello"}, []string{"mail-sent"}},
		{"disableAccountInvites", object{"account": alice.DID}, []string{"invites-disabled"}},
		{"enableAccountInvites", object{"account": alice.DID}, []string{"invites-enabled"}},
		{"disableInviteCodes", object{"codes": []string{code.Code}}, []string{"invite-codes-disabled"}},
		{"updateSubjectStatus", object{"subject": strong, "takedown": object{"applied": true}}, []string{"content-takedown"}},
		{"updateSubjectStatus", object{"subject": strong, "takedown": object{"applied": false}}, []string{"content-takedown-lifted"}},
		{"updateSubjectStatus", object{"subject": subject(alice.DID), "deactivated": object{"applied": true}}, []string{"deactivated"}},
		{"updateSubjectStatus", object{"subject": subject(alice.DID), "deactivated": object{"applied": false}}, []string{"activated"}},
		{"updateSubjectStatus", object{"subject": subject(alice.DID), "takedown": object{"applied": true}}, []string{"takedown"}},
		{"updateSubjectStatus", object{"subject": subject(alice.DID), "takedown": object{"applied": false}}, []string{"takedown-lifted"}},
	}
	for _, who := range []string{did.String(), "admin"} {
		for _, c := range calls {
			before := log(t, s)
			credentials := asAdmin
			if who != "admin" {
				credentials = serviceToken(t, did, key, s.DID, "com.atproto.admin."+c.nsid)
			}
			a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.admin." + c.nsid, Auth: credentials, Body: c.body})
			if a.Status != http.StatusOK {
				t.Errorf("%s by %s: %d %s", c.nsid, who, a.Status, a.Body)
				continue
			}
			actions := log(t, s)
			var what []string
			for _, l := range actions[:len(actions)-len(before)] {
				what = append(what, l.What)
				if l.Who != who {
					t.Errorf("%s by %s is logged as by %s", l.What, who, l.Who)
				}
			}
			if !slices.Equal(what, c.what) {
				t.Errorf("%s by %s: logged %q, want %q", c.nsid, who, what, c.what)
			}
		}
	}
}

func log(t *testing.T, s *pdstest.InProcess) []admin.AuditLine {
	t.Helper()
	var page admin.AuditPage
	if err := s.Run(t.Context(), "audit", admin.AuditArgs{}, &page); err != nil {
		t.Fatal(err)
	}
	return page.Actions
}

func serviceToken(t *testing.T, did syntax.DID, key atcrypto.PrivateKey, aud, method string) string {
	t.Helper()
	token, err := auth.NewServiceToken(key, did, aud, method, time.Now(), time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return pdstest.Bearer(token)
}
