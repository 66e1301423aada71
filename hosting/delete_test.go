package hosting_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/internal/pdstest"
	"nestbox/mail"
	"nestbox/ratelimit"
	"nestbox/xrpc"
)

// TestDeleteDue: an account is deleted when its owner wished, unless it was
// activated before, however often the process restarts.
func TestDeleteDue(t *testing.T) {
	p := newPlace(t)
	deactivate := func(a *account.Account, after time.Duration) {
		t.Helper()
		c := account.StatusChange{Deactivated: new(true), DeleteAfter: new(p.clock().Add(after))}
		if after == 0 {
			c.DeleteAfter = nil
		}
		if _, err := p.Accounts.SetStatus(t.Context(), a.ID, c, account.NewEntry(t.Context(), p.clock(), account.EntryDeactivated, account.ActorOwner)); err != nil {
			t.Fatal(err)
		}
	}
	due := func() {
		t.Helper()
		if err := p.DeleteDue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	soon, later, never, back := p.mustCreate("soon"), p.mustCreate("later"), p.mustCreate("never"), p.mustCreate("back")
	deactivate(soon, time.Hour)
	deactivate(later, 48*time.Hour)
	deactivate(never, 0)
	deactivate(back, time.Hour)
	c := account.StatusChange{Deactivated: new(false)}
	if _, err := p.Accounts.SetStatus(t.Context(), back.ID, c, account.NewEntry(t.Context(), p.clock(), account.EntryActivated, account.ActorOwner)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		wait time.Duration
		left string
	}{
		{59 * time.Minute, "soon later never back"}, {time.Minute, "later never back"}, {46 * time.Hour, "later never back"}, {time.Hour, "never back"}, {9999 * time.Hour, "never back"},
	} {
		p.advance(step.wait)
		p.restart()
		due()
		var left []string
		for _, name := range []string{"soon", "later", "never", "back"} {
			if p.exists(name) {
				left = append(left, name)
			}
		}
		if got := strings.Join(left, " "); got != step.left {
			t.Errorf("left are %q, want %q", got, step.left)
		}
	}
	if _, err := p.Accounts.ByDID(t.Context(), soon.DID); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	p.mustCreate("soon") // its names are free
}

// TestDeleteAccount: it requires the password and the code, and afterwards nothing
// of the account works any more.
func TestDeleteAccount(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Settings: box.Settings()})
	alice := s.SignUp(t, "alice")
	bob := s.SignUp(t, "bob")
	ask := func(who pdstest.Session, email string) string {
		t.Helper()
		a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.requestAccountDelete", Auth: pdstest.Bearer(who.AccessJwt)})
		if a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		return box.Code(t, email)
	}
	remove := func(did, password, token string) pdstest.Answer {
		t.Helper()
		return s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.deleteAccount", Body: map[string]string{"did": did, "password": password, "token": token}})
	}
	code, other := ask(alice, "alice@example.com"), ask(bob, "bob@example.com")
	remove(alice.DID, "wrong", code).WantError(t, 401, "AuthenticationRequired", "Invalid did or password")
	remove(alice.DID, pdstest.Password, "AAAAA-AAAAA").WantError(t, 400, "InvalidToken", "Token is invalid")
	remove(alice.DID, pdstest.Password, other).WantError(t, 400, "InvalidToken", "Token is invalid")
	remove("did:plc:ewvi7nxzyoun6zhxrhs64oiz", pdstest.Password, code).WantError(t, 400, "InvalidRequest", "account not found")
	remove("alice.test", pdstest.Password, code).WantError(t, 400, "InvalidRequest", "Invalid DID at $.did")
	remove(alice.DID, strings.Repeat("x", 600), code).WantError(t, 401, "AuthenticationRequired", "Password too long. Consider resetting your password.")
	if a := s.GetSession(t, alice.AccessJwt); a.Status != http.StatusOK {
		t.Fatalf("after what was refused: %d %s", a.Status, a.Body)
	}
	if a := remove(alice.DID, pdstest.Password, code); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	s.GetSession(t, alice.AccessJwt).WantError(t, 400, "ExpiredToken", "Token has expired")
	s.Refresh(t, alice.RefreshJwt).WantError(t, 400, "ExpiredToken", "Token has been revoked")
	remove(alice.DID, pdstest.Password, code).WantError(t, 400, "InvalidRequest", "account not found")
	if a := s.GetSession(t, bob.AccessJwt); a.Status != http.StatusOK {
		t.Errorf("another account: %d %s", a.Status, a.Body)
	}
	s.SignUp(t, "alice")
}

// TestDeletionGrace: deactivateAccount deletes nothing before the owner had time to
// read the notice, and the owner gets a notice of each change, but not without
// limit.
func TestDeletionGrace(t *testing.T) {
	p := newPlace(t)
	p.DeleteGrace = 7 * 24 * time.Hour
	p.Notices = &account.Notices{Templates: &mail.Templates{Hostname: "localhost"}, Limits: ratelimit.New(1000, p.clock)}
	a := p.confirm(p.mustCreate("alice"))
	week := p.clock().Add(p.DeleteGrace).UTC()
	for _, step := range []struct{ what, after, due, told string }{
		{"no date", "", "", "Your account was deactivated"},
		{"no date again", "", "", ""},
		{"long ago", "2000-01-01T00:00:00Z", "2026-03-08T12:00:00Z", "Your account will be deleted"},
		{"now", "2026-03-01T12:00:00Z", "2026-03-08T12:00:00Z", ""},
		{"later", "2026-05-01T00:00:00+02:00", "2026-04-30T22:00:00Z", "Your account will be deleted"},
		{"later again", "2026-04-30T22:00:00Z", "2026-04-30T22:00:00Z", ""},
		{"never", "", "", "Your account was deactivated"},
		{"at once", "2026-03-01T12:00:01Z", "2026-03-08T12:00:00Z", "Your account will be deleted"},
	} {
		if _, err := p.DeactivateAccount(t.Context(), auth.FullOrTakenDownCaller{Access: auth.Access{DID: a.DID}}, hosting.DeactivateAccountInput{DeleteAfter: given(step.after)}); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		now, err := p.Accounts.ByDID(t.Context(), a.DID)
		if err != nil {
			t.Fatal(err)
		}
		due := ""
		if !now.DeleteAfter.IsZero() {
			due = now.DeleteAfter.UTC().Format(time.RFC3339)
		}
		if due != step.due || now.Status() != account.Deactivated {
			t.Errorf("%s: %s, to be deleted at %q, want %q", step.what, now.Status(), due, step.due)
		}
		told := ""
		for _, m := range p.mails() {
			told = m.Subject
			if strings.Contains(m.Subject, "deleted") && !strings.Contains(m.Text, now.DeleteAfter.UTC().Format("2 January 2006, 15:04:05")+" UTC") {
				t.Errorf("%s: %s", step.what, m.Text)
			}
		}
		if told != step.told {
			t.Errorf("%s: told %q, want %q", step.what, told, step.told)
		}
	}
	for _, step := range []struct {
		at   time.Time
		left bool
	}{{week.Add(-time.Second), true}, {week, false}} {
		p.Clock.Set(step.at)
		if err := p.DeleteDue(t.Context()); err != nil || p.exists("alice") != step.left {
			t.Errorf("at %s: %v, %v left", step.at, err, p.exists("alice"))
		}
	}

	a = p.confirm(p.mustCreate("alice"))
	caller := auth.FullOrTakenDownCaller{Access: auth.Access{DID: a.DID}}
	told := 0
	for i := range 30 {
		in := hosting.DeactivateAccountInput{DeleteAfter: new(p.clock().AddDate(1, 0, i).Format(time.RFC3339))}
		_, err := p.DeactivateAccount(t.Context(), caller, in)
		if wire, ok := errors.AsType[*xrpc.Error](err); err != nil && (!ok || wire.Name != "RateLimitExceeded" || i < 10) {
			t.Fatal(err)
		}
		mails := len(p.mails())
		if told += mails; (err == nil) != (mails == 1) {
			t.Errorf("wish %d: %v, %d mails", i, err, mails)
		}
	}
	if told != 10 {
		t.Errorf("told %d times within an hour, want 10", told)
	}
}

// TestDeletionGuesses: the limits of sign-ins count wrong passwords and codes for an
// account, and refuse its right password too; the password's length counts in characters,
// and a NUL proves nothing.
func TestDeletionGuesses(t *testing.T) {
	p := newPlace(t)
	p.SignIns.Limits = ratelimit.New(1000, p.clock)
	a, b := p.mustCreate("alice"), p.mustCreate("bob")
	try := func(of *account.Account, password string) string {
		t.Helper()
		_, err := p.DeleteAccount(t.Context(), auth.Anyone{}, hosting.DeleteAccountInput{DID: of.DID.String(), Password: password, Token: "AAAAA-AAAAA"})
		wire, ok := errors.AsType[*xrpc.Error](err)
		if !ok {
			t.Fatal(err)
		}
		return wire.Name + ": " + wire.Message
	}
	const wrong, tooMany = "AuthenticationRequired: Invalid did or password", "RateLimitExceeded: Rate Limit Exceeded"
	p.SignIns.Codes = &account.Codes{Store: p.World.Codes, Now: p.clock}
	for range 28 { // a wrong code is a guess, too
		if got := try(b, "correct-horse-battery"); got != "InvalidToken: Token is invalid" {
			t.Fatal(got)
		}
	}
	if got := try(b, "correct-horse-battery\x00"); got != wrong {
		t.Errorf("a NUL: %s", got)
	}
	if got := try(b, strings.Repeat("é", account.MaxUsedPassword)); got != wrong {
		t.Errorf("as long as may be: %s", got)
	}
	for i := range 30 {
		if got := try(a, "wrong"); got != wrong {
			t.Errorf("guess %d: %s", i, got)
		}
	}
	for _, of := range []*account.Account{a, b} {
		for _, password := range []string{"wrong", "correct-horse-battery"} {
			if got := try(of, password); got != tooMany {
				t.Errorf("%s of %s after 30 guesses: %s", password, of.Handle, got)
			}
		}
	}
	p.advance(5 * time.Minute)
	if got := try(a, "correct-horse-battery"); got != "InvalidToken: Token is invalid" {
		t.Errorf("later: %s", got)
	}
}

// given is a value that a client sends, nil for "".
func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// TestDeleteClock: while the clock cannot be trusted no account is deleted, no sign-up or
// change of a key is undone, and no reserved key is dropped because of its age.
func TestDeleteClock(t *testing.T) {
	p := newPlace(t)
	a := p.mustCreate("alice")
	c := account.StatusChange{Deactivated: new(true), DeleteAfter: new(p.clock().Add(time.Hour))}
	if _, err := p.Accounts.SetStatus(t.Context(), a.ID, c, account.NewEntry(t.Context(), p.clock(), account.EntryDeactivated, account.ActorOwner)); err != nil {
		t.Fatal(err)
	}
	const did = "did:web:moves.example.com"
	key := p.reserve("192.0.2.1", did)
	p.plc.set(fail)
	if _, err := p.create("bob", ""); err == nil {
		t.Fatal("the directory failed, and the account exists")
	}
	p.plc.set(obey)
	bob := p.mustCreate("carol")
	p.withRepo()
	p.Repos = p.repos()
	p.plc.set(fail)
	if err := p.ChangeKey(t.Context(), bob); err == nil {
		t.Fatal("the directory failed, and the key was changed")
	}
	p.plc.set(obey)
	doubt := errors.New("the clock is ahead")
	p.Doubt = func() error { return doubt }
	for _, sure := range []bool{false, true} {
		p.advance(1000 * time.Hour)
		if err := errors.Join(p.Resume(t.Context()), p.ResumeKeys(t.Context()), p.DeleteDue(t.Context())); err != nil {
			t.Error(err)
		}
		again := p.reserve("192.0.2.1", did)
		pending, err := p.Store.Pending(t.Context())
		changes, kerr := p.SigningKeys.KeyChanges(t.Context())
		if err := errors.Join(err, kerr); err != nil {
			t.Fatal(err)
		}
		if p.exists("alice") == sure || (again == key) == sure || (len(pending) == 0) != sure || (len(changes) == 0) != sure {
			t.Errorf("sure %v: alice is there: %v, the same key: %v, %d sign-ups and %d changes of keys are not settled", sure, p.exists("alice"), again == key, len(pending), len(changes))
		}
		doubt = nil
	}
}
