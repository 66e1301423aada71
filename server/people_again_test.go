package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/store/storetest"
)

// TestSignUpAgain: the form of a new account that comes twice, because its answer was lost or
// because of a double click, is one account and a success; the name is taken for anybody else.
func TestSignUpAgain(t *testing.T) {
	t.Parallel()
	clock := storetest.NewClock(time.Now())
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Settings: box.Settings(), Now: clock.Now})
	fill := func(name string, more ...string) url.Values {
		form := url.Values{
			"handle": {name}, "domain": {".test"}, "email": {name + "@example.com"}, "password": {"a good password"}, "decision": {"sign-up"},
		}
		for i := 0; i+1 < len(more); i += 2 {
			form.Set(more[i], more[i+1])
		}
		return form
	}
	const path = "/account/sign-up"
	made := func(name string, a shown) {
		t.Helper()
		if a.status != http.StatusSeeOther || !strings.HasSuffix(a.location, "/welcome?done=signed-in") {
			t.Errorf("%s: %d %s\n%.2000s", name, a.status, a.location, a.text)
		}
	}
	p := newVisitor(t, s)
	page := p.get(path)
	p.deaf = true
	made("first", p.post(page, path, fill("bobby")))
	p.deaf = false
	made("its answer was lost", p.post(page, path, fill("bobby")))
	if got := p.accounts(); len(got) != 1 {
		t.Errorf("accounts %v", got)
	}
	made("again", p.post(page, path, fill("bobby")))
	if got := p.accounts(); len(got) != 1 {
		t.Errorf("accounts %v", got)
	}
	for name, form := range map[string]url.Values{
		"another password": fill("bobby", "password", "another good password"), "another address": fill("bobby", "email", "else@example.com"),
	} {
		q := newVisitor(t, s)
		q.want(q.post(q.get(path), path, form), http.StatusUnprocessableEntity, "", "This name is taken.")
		if len(q.cookies) != 0 {
			t.Errorf("%s: %v", name, q.cookies)
		}
	}
	if n := len(box.All()); n != 1 {
		t.Errorf("%d mails, want one with the code", n)
	}

	// At once, from two tabs of which one page was shown.
	var both sync.WaitGroup
	double := newVisitor(t, s)
	page = double.get(path)
	answers := make([]shown, 2)
	for i := range answers {
		tab := newVisitor(t, s)
		both.Go(func() { answers[i] = tab.post(page, path, fill("carol")) })
	}
	both.Wait()
	for _, a := range answers {
		made("a double click", a)
	}

	clock.Advance(31 * time.Minute)
	p.want(p.post(page, path, fill("bobby")), http.StatusUnprocessableEntity, "", "This name is taken.")
}
