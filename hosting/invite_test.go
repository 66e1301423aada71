package hosting_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"nestbox/internal/pdstest"
)

var asAdmin = "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:admin"))

// invite makes invite codes as the admin.
func invite(t *testing.T, c pdstest.Client, nsid string, in any) pdstest.Answer {
	t.Helper()
	return c.Do(t, pdstest.Request{NSID: "com.atproto.server." + nsid, Auth: asAdmin, Body: in})
}

// newCode makes one code for so many uses.
func newCode(t *testing.T, c pdstest.Client, uses int) string {
	t.Helper()
	var out struct{ Code string }
	invite(t, c, "createInviteCode", map[string]int{"useCount": uses}).Decode(t, &out)
	if !regexp.MustCompile(`^localhost-[a-z2-7]{5}-[a-z2-7]{5}$`).MatchString(out.Code) {
		t.Fatalf("invite code %q", out.Code)
	}
	return out.Code
}

func TestInviteRequired(t *testing.T) {
	plc := newFaulty(t)
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_INVITE_REQUIRED=true", "PDS_DID_PLC_URL=" + plc.URL}})
	signUp(t, s.Client, "alice", nil).WantError(t, http.StatusBadRequest, "InvalidInviteCode", "No invite code provided")
	signUp(t, s.Client, "alice", map[string]any{"inviteCode": ""}).WantError(t, http.StatusBadRequest, "InvalidInviteCode", "No invite code provided")
	signUp(t, s.Client, "alice", map[string]any{"inviteCode": "localhost-aaaaa-bbbbb"}).
		WantError(t, http.StatusBadRequest, "InvalidInviteCode", "Provided invite code not available")

	code := newCode(t, s.Client, 1)
	with := map[string]any{"inviteCode": code}
	// A sign-up that fails costs no use.
	plc.set(refuse)
	if a := signUp(t, s.Client, "alice", with); a.Status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	plc.set(obey)
	signUp(t, s.Client, "alice", map[string]any{"inviteCode": code, "handle": "www.test"}).
		WantError(t, http.StatusBadRequest, "HandleNotAvailable", "Reserved handle")
	if a := signUp(t, s.Client, "alice", with); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	signUp(t, s.Client, "bob", with).WantError(t, http.StatusBadRequest, "InvalidInviteCode", "Provided invite code not available")
}

// TestInviteRace: a code for three serves three, however many come at once.
func TestInviteRace(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_INVITE_REQUIRED=true"}})
	code := newCode(t, s.Client, 3)
	const n = 12
	answers := make([]pdstest.Answer, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			answers[i], _ = s.Try(t, pdstest.Request{NSID: createAccount, Body: map[string]string{
				"handle": fmt.Sprintf("alice%d.test", i), "email": fmt.Sprintf("a%d@example.com", i), "password": pdstest.Password, "inviteCode": code,
			}})
		})
	}
	all.Wait()
	made := 0
	for _, a := range answers {
		if a.Status == http.StatusOK {
			made++
			continue
		}
		a.WantError(t, http.StatusBadRequest, "InvalidInviteCode", "Provided invite code not available")
	}
	if made != 3 {
		t.Errorf("%d accounts were made with a code for 3", made)
	}
}

func TestCreateInviteCodes(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	var out struct {
		Codes []struct {
			Account string
			Codes   []string
		}
	}
	all := map[string]bool{}
	for _, c := range []struct {
		in       map[string]any
		accounts []string
		each     int
	}{
		{map[string]any{"codeCount": 3, "useCount": 1}, []string{"admin"}, 3},
		{map[string]any{"useCount": 2}, []string{"admin"}, 1},
		{map[string]any{"codeCount": 2, "useCount": 1, "forAccounts": []string{alice.DID, "did:plc:ewvi7nxzyoun6zhxrhs64oiz"}}, []string{alice.DID, "did:plc:ewvi7nxzyoun6zhxrhs64oiz"}, 2},
	} {
		a := invite(t, s.Client, "createInviteCodes", c.in)
		out.Codes = nil
		a.Decode(t, &out)
		if a.Status != http.StatusOK || len(out.Codes) != len(c.accounts) {
			t.Fatalf("%v: %d %s", c.in, a.Status, a.Body)
		}
		for i, group := range out.Codes {
			if group.Account != c.accounts[i] || len(group.Codes) != c.each {
				t.Errorf("%v: group %+v", c.in, group)
			}
			for _, code := range group.Codes {
				if all[code] {
					t.Errorf("%s was made twice", code)
				}
				all[code] = true
			}
		}
	}
	for _, c := range []struct {
		nsid string
		in   any
		says string
	}{
		{"createInviteCode", map[string]any{"useCount": 0}, "useCount must be from 1"},
		{"createInviteCode", map[string]any{"useCount": -1}, "useCount must be from 1"},
		{"createInviteCode", map[string]any{"useCount": 1_000_001}, "useCount must be from 1"},
		{"createInviteCode", map[string]any{}, "useCount"},
		{"createInviteCode", map[string]any{"useCount": "1"}, "useCount"},
		{"createInviteCode", map[string]any{"useCount": 1, "forAccount": "alice.test"}, "Invalid DID"},
		{"createInviteCodes", map[string]any{"useCount": 1, "codeCount": 0}, "codeCount must be from 1"},
		{"createInviteCodes", map[string]any{"useCount": 1, "codeCount": 10_001}, "codeCount must be from 1"},
		{"createInviteCodes", map[string]any{"useCount": 1, "codeCount": 6000, "forAccounts": []string{alice.DID, alice.DID}}, "codeCount must be from 1"},
	} {
		a := invite(t, s.Client, c.nsid, c.in)
		if name, message := a.Error(t); a.Status != http.StatusBadRequest || name != "InvalidRequest" || !strings.Contains(message, c.says) {
			t.Errorf("%s %v: %d %s %s, want %q", c.nsid, c.in, a.Status, name, message, c.says)
		}
	}
	for _, auth := range []string{"", "Basic YWRtaW46d3Jvbmc=", pdstest.Bearer(alice.AccessJwt)} {
		a := s.Do(t, pdstest.Request{NSID: "com.atproto.server.createInviteCode", Auth: auth, Body: map[string]int{"useCount": 1}})
		a.WantError(t, http.StatusUnauthorized, "AuthenticationRequired", "Authentication Required")
	}
}
