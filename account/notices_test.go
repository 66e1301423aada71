package account_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// subjects counts the mails to an address, once n of them have come.
func (p *post) subjects(to string, n int) string {
	p.t.Helper()
	count := map[string]int{}
	for range n {
		count[p.box.Wait(p.t, to).Subject]++
	}
	return fmt.Sprint(count)
}

// TestNoticeLimits: a client that makes app passwords without end causes a limited
// number of mails; a failed change uses up no notice; and no other notice is lost.
func TestNoticeLimits(t *testing.T) {
	p := newPost(t)
	p.confirm()
	app := func(name string) int {
		return p.do("createAppPassword", p.alice.AccessJwt, fields{"name": name}).Status
	}
	if status := app("first"); status != http.StatusOK {
		t.Fatal(status)
	}
	for range 40 {
		if status := app("first"); status != http.StatusBadRequest {
			t.Fatalf("a name that is taken: %d", status)
		}
	}
	for i := range 20 {
		if status := app(fmt.Sprint(i)); status != http.StatusOK {
			t.Fatalf("app password %d: %d", i, status)
		}
		p.must("revokeAppPassword", p.alice.AccessJwt, fields{"name": fmt.Sprint(i)})
	}
	p.must("deactivateAccount", p.alice.AccessJwt, fields{})
	p.must("requestPasswordReset", "", fields{"email": aliceMail})
	if got := p.subjects(aliceMail, 12); got != "map[New app password:10 Reset your password:1 Your account was deactivated:1]" {
		t.Error(got)
	}
	for i := range 4 {
		p.clock.Advance(time.Hour)
		p.alice = p.SignIn(t, "alice.test", pdstest.Password)
		for j := range 20 {
			app(fmt.Sprint("later", i, j))
		}
	}
	if got := p.subjects(aliceMail, 20); got != "map[New app password:20]" {
		t.Error(got)
	}
	if n := len(p.box.All()); n != 1+12+20 { // with the code that confirms the address
		t.Errorf("%d mails", n)
	}
}

// TestUnconfirmed: an address that nobody confirmed gets the codes that are asked for, and
// nothing else, whatever happens to the account; no code names the account.
func TestUnconfirmed(t *testing.T) {
	p := newPost(t)
	p.must("createAppPassword", p.alice.AccessJwt, fields{"name": "https://evil.example"})
	a := p.Do(t, pdstest.Request{NSID: "com.atproto.identity.updateHandle", Auth: pdstest.Bearer(p.alice.AccessJwt), Body: fields{"handle": "evil-example.test"}})
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	a = p.Do(t, pdstest.Request{
		NSID: "com.atproto.server.createSession", Body: fields{"identifier": "evil-example.test", "password": pdstest.Password},
		Header: http.Header{"User-Agent": {"https://evil.example"}},
	})
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	p.must("deactivateAccount", p.alice.AccessJwt, fields{"deleteAfter": "2030-01-01T00:00:00Z"})
	p.must("activateAccount", p.alice.AccessJwt, nil)
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": "victim@example.com"})
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": aliceMail})
	var line map[string]any
	for _, command := range []string{"account.email", "account.password", "account.suspend", "account.unsuspend"} {
		args := fields{"account": p.alice.DID, "email": aliceMail, "password": pdstest.Password}
		if err := p.Run(t.Context(), command, args, &line); err != nil {
			t.Fatal(err)
		}
	}
	p.alice = p.SignIn(t, "evil-example.test", pdstest.Password)
	want := map[string]string{"requestEmailConfirmation": "Confirm your email address", "requestAccountDelete": "Delete your account"}
	for nsid, subject := range want {
		p.must(nsid, p.alice.AccessJwt, nil)
		if m := p.box.Wait(t, aliceMail); m.Subject != subject || m.Code() == "" || strings.Contains(m.Text+m.HTML+m.Subject, "evil") {
			t.Errorf("%s: %q\n%s", nsid, m.Subject, m.Text)
		}
	}
	if n := len(p.box.All()); n != len(want) {
		t.Errorf("%d mails, want %d", n, len(want))
	}
}

// TestAddressChangeLimits: an account changes its address a few times, and no more; what
// changes nothing is not counted. None of the addresses gets a mail.
func TestAddressChangeLimits(t *testing.T) {
	p := newPost(t, "PDS_RATE_LIMITS_ENABLED=true")
	for i := range 5 {
		p.must("updateEmail", p.alice.AccessJwt, fields{"email": fmt.Sprintf("victim%d@example.com", i)})
	}
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": "victim5@example.com"}, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": "victim4@example.com"})
	p.clock.Advance(time.Hour)
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": "victim5@example.com"})
	if n := len(p.box.All()); n != 0 {
		t.Errorf("%d mails to addresses that the client chose", n)
	}
}
