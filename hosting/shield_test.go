package hosting_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/internal/pdstest"
)

// TestSignupSettings: which setting admits whom, and what clients see of it.
func TestSignupSettings(t *testing.T) {
	for _, c := range []struct {
		setting string
		says    string // to whom has no code; "" lets in
		invite  bool   // as describeServer answers
	}{
		{"PDS_SIGNUP=open", "", false},
		{"PDS_SIGNUP=invite", "No invite code provided", true},
		{"PDS_SIGNUP=migration-only", "This server takes only accounts that move here from another server", false},
		{"PDS_SIGNUP=closed", "This server takes no new accounts", true},
	} {
		s := pdstest.Start(t, pdstest.Options{Settings: []string{c.setting}})
		a := signUp(t, s.Client, "alice", nil)
		if c.says == "" && a.Status != http.StatusOK || c.says != "" && (a.Status != http.StatusBadRequest || !strings.Contains(string(a.Body), c.says)) {
			t.Errorf("%s: %d %s", c.setting, a.Status, a.Body)
		}
		var described struct{ InviteCodeRequired bool }
		s.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "com.atproto.server.describeServer"}).Decode(t, &described)
		if described.InviteCodeRequired != c.invite {
			t.Errorf("%s: describeServer says %t", c.setting, described.InviteCodeRequired)
		}
		// A code admits if codes are required.
		a = signUp(t, s.Client, "bob", map[string]any{"inviteCode": newCode(t, s.Client, 1)})
		if in := c.setting == "PDS_SIGNUP=open" || c.setting == "PDS_SIGNUP=invite"; (a.Status == http.StatusOK) != in {
			t.Errorf("%s, with a code: %d %s", c.setting, a.Status, a.Body)
		}
	}
}

// TestFloodBrake: uninvited sign-ups are limited by the hour, wherever they come
// from; a failed one takes no place, and somebody with a code is not held up.
func TestFloodBrake(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := pdstest.Start(t, pdstest.Options{
		Settings: []string{"PDS_SIGNUPS_PER_HOUR=3", "PDS_RATE_LIMITS_ENABLED=true", "PDS_TRUSTED_PROXIES=127.0.0.1"},
		Now:      func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
	})
	try := func(n int, code string) pdstest.Answer {
		t.Helper()
		name := "user" + strconv.Itoa(n)
		in := map[string]string{"handle": name + ".test", "email": name + "@example.com", "password": pdstest.Password}
		if code != "" {
			in["inviteCode"] = code
		}
		return s.Do(t, pdstest.Request{
			Method: http.MethodPost, NSID: createAccount, Body: in, Header: http.Header{"X-Forwarded-For": {"192.0.2." + strconv.Itoa(n)}},
		})
	}
	for n := range 3 {
		if a := try(n, ""); a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		if a := try(n, ""); a.Status != http.StatusBadRequest { // the handle is taken, so this takes no place
			t.Errorf("again: %d %s", a.Status, a.Body)
		}
	}
	a := try(4, "")
	if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); a.Status != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 3600 {
		t.Errorf("one too many: %d %s, Retry-After %q", a.Status, a.Body, a.Header.Get("Retry-After"))
	}
	a.WantError(t, http.StatusTooManyRequests, "RateLimitExceeded", "Too many people are signing up right now, please try again later")
	if a := try(5, newCode(t, s.Client, 1)); a.Status != http.StatusOK {
		t.Errorf("with a code: %d %s", a.Status, a.Body)
	}
	mu.Lock()
	now = now.Add(time.Hour)
	mu.Unlock()
	if a := try(4, ""); a.Status != http.StatusOK {
		t.Errorf("an hour later: %d %s", a.Status, a.Body)
	}
}

// TestSignupsOfACustomer: a customer with a /48 can make half of the accounts that
// the server accepts in an hour, an address a quarter of them.
func TestSignupsOfACustomer(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{
		Settings: []string{"PDS_SIGNUPS_PER_HOUR=24", "PDS_RATE_LIMITS_ENABLED=true", "PDS_TRUSTED_PROXIES=127.0.0.1"},
	})
	made := 0
	signUp := func(addr string) bool {
		name := "user" + strconv.Itoa(made)
		a := s.Do(t, pdstest.Request{
			Method: http.MethodPost, NSID: createAccount, Header: http.Header{"X-Forwarded-For": {addr}},
			Body: map[string]string{"handle": name + ".test", "email": name + "@example.com", "password": pdstest.Password},
		})
		if a.Status != http.StatusOK && a.Status != http.StatusTooManyRequests {
			t.Errorf("%d %s", a.Status, a.Body)
		}
		if a.Status == http.StatusOK {
			made++
		}
		return a.Status == http.StatusOK
	}
	for n := range 20 {
		signUp("2001:db8:1:" + strconv.Itoa(n) + "::1")
	}
	if made != 12 {
		t.Errorf("a /48 made %d accounts, want 12", made)
	}
	for range 10 {
		signUp("192.0.2.1")
	}
	if made != 18 {
		t.Errorf("an address made %d accounts, want 6", made-12)
	}
	if !signUp("192.0.2.2") {
		t.Error("nobody else signs up any more")
	}
}

// TestHosted counts the accounts that relays count.
func TestHosted(t *testing.T) {
	p := newPlace(t)
	count := func(what string, want int64) {
		t.Helper()
		if n, err := p.Store.Hosted(t.Context()); err != nil || n != want {
			t.Errorf("%s: %d accounts, %v; want %d", what, n, err, want)
		}
	}
	count("nobody", 0)
	alice := p.mustCreate("alice")
	p.mustCreate("bob")
	count("two", 2)
	e := account.NewEntry(t.Context(), p.clock(), account.EntryDeactivated, account.ActorOwner)
	if _, err := p.Accounts.SetStatus(t.Context(), alice.ID, account.StatusChange{Deactivated: new(true)}, e); err != nil {
		t.Fatal(err)
	}
	count("one deactivated", 1)
}
