package account_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/internal/pdstest"
)

type ownInvites struct{ Codes []account.InviteView }

// invites asks for the codes of a session's account.
func invites(t *testing.T, s *pdstest.InProcess, who pdstest.Session, params string) (codes []account.InviteView) {
	t.Helper()
	a := s.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "com.atproto.server.getAccountInviteCodes" + params, Auth: pdstest.Bearer(who.AccessJwt)})
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	var out ownInvites
	a.Decode(t, &out)
	return out.Codes
}

func asAdmin(t *testing.T, s *pdstest.InProcess, nsid string, in any) pdstest.Answer {
	t.Helper()
	a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: "Basic YWRtaW46YWRtaW4=", Body: in})
	if a.Status != http.StatusOK {
		t.Fatalf("%s: %d %s", nsid, a.Status, a.Body)
	}
	return a
}

// TestInvitesOfAccount: an account earns codes, others sign up with them, and the
// owner sees by whom; the operator can end that.
func TestInvitesOfAccount(t *testing.T) {
	clock := struct {
		sync.Mutex
		now time.Time
	}{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	advance := func(d time.Duration) {
		clock.Lock()
		defer clock.Unlock()
		clock.now = clock.now.Add(d)
	}
	s := pdstest.Start(t, pdstest.Options{
		Settings: []string{"PDS_INVITE_REQUIRED=true", "PDS_INVITE_INTERVAL=86400000", "PDS_INVITE_EPOCH=1767225600000", "PDS_ACCESS_TOKEN_TTL=20d", "PDS_REFRESH_TOKEN_TTL=90d"},
		Now:      func() time.Time { clock.Lock(); defer clock.Unlock(); return clock.now },
	})
	join := func(name, code string) pdstest.Session {
		t.Helper()
		var out pdstest.Session
		s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.createAccount", Body: map[string]string{
			"handle": name + ".test", "email": name + "@example.com", "password": pdstest.Password, "inviteCode": code,
		}}).Decode(t, &out)
		if out.DID == "" {
			t.Fatalf("%s did not get in", name)
		}
		return out
	}
	var first struct{ Code string }
	asAdmin(t, s, "com.atproto.server.createInviteCode", map[string]any{"useCount": 1}).Decode(t, &first)
	alice := join("alice", first.Code)
	if codes := invites(t, s, alice, ""); len(codes) != 0 {
		t.Errorf("on the first day: %+v", codes)
	}
	advance(48 * time.Hour)
	if codes := invites(t, s, alice, "?createAvailable=false"); len(codes) != 0 {
		t.Errorf("not asked to make any: %+v", codes)
	}
	// However many ask at once, two were earned.
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, _ = s.Try(t, pdstest.Request{Method: http.MethodGet, NSID: "com.atproto.server.getAccountInviteCodes", Auth: pdstest.Bearer(alice.AccessJwt)})
		})
	}
	all.Wait()
	codes := invites(t, s, alice, "")
	if len(codes) != 2 || codes[0].Available != 1 || codes[0].ForAccount != alice.DID || codes[0].CreatedBy != alice.DID || codes[0].Uses == nil {
		t.Fatalf("%+v", codes)
	}
	bob := join("bob", codes[0].Code)
	if left := invites(t, s, alice, "?includeUsed=false"); len(left) != 1 || left[0].Code != codes[1].Code {
		t.Errorf("unused: %+v", left)
	}
	for _, c := range invites(t, s, alice, "") {
		if used := len(c.Uses) == 1 && c.Uses[0].UsedBy == bob.DID; used != (c.Code == codes[0].Code) {
			t.Errorf("%+v", c)
		}
	}
	var info struct {
		InvitedBy       account.InviteView
		Invites         []account.InviteView
		InvitesDisabled bool
	}
	about := func(did string) {
		t.Helper()
		s.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "com.atproto.admin.getAccountInfo?did=" + did, Auth: "Basic YWRtaW46YWRtaW4="}).Decode(t, &info)
	}
	if about(bob.DID); info.InvitedBy.Code != codes[0].Code || info.InvitedBy.ForAccount != alice.DID || info.InvitesDisabled {
		t.Errorf("bob: %+v", info)
	}

	asAdmin(t, s, "com.atproto.admin.disableAccountInvites", map[string]string{"account": alice.DID, "note": "enough"})
	if about(alice.DID); !info.InvitesDisabled || len(info.Invites) != 2 {
		t.Errorf("alice: %+v", info)
	}
	advance(48 * time.Hour)
	if codes := invites(t, s, alice, ""); len(codes) != 2 {
		t.Errorf("disabled, two days later: %+v", codes)
	}
	asAdmin(t, s, "com.atproto.admin.enableAccountInvites", map[string]string{"account": alice.DID})
	if codes := invites(t, s, alice, ""); len(codes) != 2 {
		t.Errorf("what was earned meanwhile came back: %+v", codes)
	}
	asAdmin(t, s, "com.atproto.admin.disableInviteCodes", map[string]any{"accounts": []string{alice.DID}})
	if codes := invites(t, s, alice, ""); len(codes) != 0 {
		t.Errorf("all disabled: %+v", codes)
	}
	advance(24 * time.Hour)
	if codes := invites(t, s, alice, ""); len(codes) != 1 {
		t.Errorf("the next day: %+v", codes)
	}
}

// TestInvitesNotEarned: without an interval, or where nobody needs a code, none are
// made.
func TestInvitesNotEarned(t *testing.T) {
	for _, settings := range [][]string{
		{"PDS_INVITE_REQUIRED=false", "PDS_INVITE_INTERVAL=1"}, {"PDS_INVITE_REQUIRED=false"},
	} {
		s := pdstest.Start(t, pdstest.Options{Settings: settings})
		alice := s.SignUp(t, "alice")
		asAdmin(t, s, "com.atproto.server.createInviteCodes", map[string]any{"codeCount": 1, "useCount": 3, "forAccounts": []string{alice.DID}})
		if codes := invites(t, s, alice, ""); len(codes) != 1 || codes[0].CreatedBy != "admin" || codes[0].Available != 3 {
			t.Errorf("%v: %+v", settings, codes)
		}
	}
}

// TestInviteCodesListed: pages of all codes, by age and by use.
func TestInviteCodesListed(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	var made struct{ Codes []struct{ Codes []string } }
	asAdmin(t, s, "com.atproto.server.createInviteCodes", map[string]any{"codeCount": 7, "useCount": 5}).Decode(t, &made)
	uses := map[string]int{made.Codes[0].Codes[2]: 2, made.Codes[0].Codes[4]: 1}
	n := 0
	for code, times := range uses {
		for range times {
			n++
			a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.createAccount", Body: map[string]string{
				"handle": fmt.Sprintf("user%d.test", n), "email": fmt.Sprintf("u%d@example.com", n), "password": pdstest.Password, "inviteCode": code,
			}})
			if a.Status != http.StatusOK {
				t.Fatalf("%d %s", a.Status, a.Body)
			}
		}
	}
	for _, sort := range []string{"recent", "usage"} {
		seen, cursor, last := map[string]bool{}, "", 100
		for range 10 {
			var page struct {
				Cursor string
				Codes  []account.InviteView
			}
			s.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "com.atproto.admin.getInviteCodes?limit=3&sort=" + sort + "&cursor=" + cursor, Auth: "Basic YWRtaW46YWRtaW4="}).Decode(t, &page)
			for _, c := range page.Codes {
				if seen[c.Code] || len(c.Uses) != uses[c.Code] || sort == "usage" && len(c.Uses) > last {
					t.Errorf("%s: %+v after %d uses", sort, c, last)
				}
				seen[c.Code], last = true, len(c.Uses)
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
		}
		if len(seen) != 7 || cursor != "" {
			t.Errorf("%s: %d codes, cursor %q", sort, len(seen), cursor)
		}
	}
}
