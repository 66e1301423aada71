package account_test

import (
	"fmt"
	"net/http"
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

// TestNoticeLimits: who makes app passwords without end does not have mails sent
// without end; what fails uses up no notice; and no other notice is lost to them.
func TestNoticeLimits(t *testing.T) {
	p := newPost(t)
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
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": "typo@example.com"})
	p.box.Wait(t, aliceMail)
	for i := range 4 {
		p.pass(time.Hour)
		p.alice = p.SignIn(t, "alice.test", pdstest.Password)
		for j := range 20 {
			app(fmt.Sprint("later", i, j))
		}
	}
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": aliceMail})
	if got := p.subjects("typo@example.com", 22); got != "map[New app password:20 Your email address was changed:1 Your new email address:1]" {
		t.Error(got)
	}
	p.box.Wait(t, aliceMail)
	if n := len(p.box.All()); n != 12+2+20+2 {
		t.Errorf("%d mails", n)
	}
}

// TestAddressChangeLimits: an account writes to a few addresses that its client
// chose, and no more; what changes nothing is not counted.
func TestAddressChangeLimits(t *testing.T) {
	p := newPost(t, "PDS_RATE_LIMITS_ENABLED=true")
	for i := range 5 {
		p.must("updateEmail", p.alice.AccessJwt, fields{"email": fmt.Sprintf("victim%d@example.com", i)})
	}
	p.refused("updateEmail", p.alice.AccessJwt, fields{"email": "victim5@example.com"}, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": "victim4@example.com"})
	for i := range 5 {
		p.box.Wait(t, fmt.Sprintf("victim%d@example.com", i))
	}
	p.pass(time.Hour)
	p.must("updateEmail", p.alice.AccessJwt, fields{"email": "victim5@example.com"})
	p.box.Wait(t, "victim5@example.com")
}
