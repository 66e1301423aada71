package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/session"
)

var mailTests = tests{
	"Outbox":       testOutbox,
	"OutboxBounds": testOutboxBounds,
	"Codes":        testCodes,
	"CodeOnce":     testCodeOnce,
	"EmailChange":  testEmailChange,
	"Language":     testLanguage,
	"SessionCode":  testSessionCode,
	"Mails":        testMails,
}

// note is a message to somebody.
func note(to, subject string) mail.Message {
	return mail.Message{To: to, Subject: subject, Text: "text of " + subject, HTML: "<p>" + subject}
}

// waiting returns the subjects of the mails that are due by some minutes into
// the story, in their order.
func waiting(t *testing.T, s *Database, minutes int) []string {
	t.Helper()
	list, err := s.Outbox.Due(t.Context(), at(minutes), mail.MaxWaiting+1)
	if err != nil {
		t.Fatal(err)
	}
	subjects := []string{}
	for _, m := range list {
		subjects = append(subjects, m.Subject)
	}
	return subjects
}

func testOutbox(t *testing.T, s *Database) {
	t.Helper()
	until := note("alice@example.com", "second")
	until.Until = at(20)
	if err := s.Outbox.Queue(t.Context(), at(1), note("Alice@example.com", "first"), until); err != nil {
		t.Fatal(err)
	}
	if err := s.Outbox.Queue(t.Context(), at(2), note("bob@example.com", "third")); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	if n, err := s.Outbox.Waiting(t.Context()); err != nil || n != 3 {
		t.Errorf("%d wait, %v", n, err)
	}
	if got := waiting(t, s, 0); len(got) != 0 {
		t.Errorf("due before its time: %q", got)
	}
	if got := waiting(t, s, 1); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("due after a minute: %q", got)
	}
	list, err := s.Outbox.Due(t.Context(), at(2), 2)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	want := mail.Queued{Message: until, ID: list[1].ID, QueuedAt: at(1)}
	if !reflect.DeepEqual(list[1], want) || list[0].To != "Alice@example.com" || list[0].ID == list[1].ID {
		t.Errorf("%+v\nwant %+v", list, want)
	}
	if err := s.Outbox.Retry(t.Context(), list[0].ID, 3, at(30)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is gone
		if err := s.Outbox.Done(t.Context(), list[1].ID); err != nil {
			t.Fatal(err)
		}
	}
	s.Reopen()
	if got := waiting(t, s, 29); !slices.Equal(got, []string{"third"}) {
		t.Errorf("after one was put off and one was sent: %q", got)
	}
	list, err = s.Outbox.Due(t.Context(), at(30), 10)
	if err != nil || len(list) != 2 || list[1].Subject != "first" || list[1].Attempts != 3 || !list[1].QueuedAt.Equal(at(1)) {
		t.Errorf("%+v, %v", list, err)
	}
}

func testOutboxBounds(t *testing.T, s *Database) {
	t.Helper()
	t.Run("a message over the limit is refused with all beside it", func(t *testing.T) {
		large := note("alice@example.com", "large")
		large.Text = string(make([]byte, mail.MaxMessage))
		if err := s.Outbox.Queue(t.Context(), at(1), note("alice@example.com", "with it"), large); !errors.Is(err, mail.ErrTooLarge) {
			t.Errorf("a message over the limit: %v", err)
		}
		if got := waiting(t, s, 1); len(got) != 0 {
			t.Errorf("half of what was refused is there: %q", got)
		}
	})
	t.Run("the newest to a recipient take the places of the older", func(t *testing.T) {
		for i := range mail.MaxPerRecipient + 2 {
			if err := s.Outbox.Queue(t.Context(), at(1), note([]string{"alice@example.com", "ALICE@example.com"}[i%2], fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		if got := waiting(t, s, 1); len(got) != mail.MaxPerRecipient || got[0] != "2" || got[len(got)-1] != fmt.Sprint(mail.MaxPerRecipient+1) {
			t.Errorf("%d for one recipient: %q", len(got), got)
		}
	})
	var more []mail.Message
	for i := mail.MaxPerRecipient; i < mail.MaxBeforeNotices; i++ {
		more = append(more, mail.Message{To: fmt.Sprintf("user%d@example.com", i/10), Subject: "s"})
	}
	if err := s.Outbox.Queue(t.Context(), at(2), more...); err != nil {
		t.Fatal(err)
	}
	t.Run("the last places are kept for codes", func(t *testing.T) { testRoomForCodes(t, s) })
	more = nil
	for i := mail.MaxBeforeNotices + 1; i < mail.MaxWaiting; i++ {
		more = append(more, mail.Message{To: fmt.Sprintf("more%d@example.com", i/10), Subject: "s"})
	}
	more[0].Until = at(10)
	if err := s.Outbox.Queue(t.Context(), at(2), more...); err != nil {
		t.Fatal(err)
	}
	t.Run("a full one takes a message only in the place of another", func(t *testing.T) {
		if err := s.Outbox.Queue(t.Context(), at(2), note("zoe@example.com", "one too many")); !errors.Is(err, mail.ErrFull) {
			t.Errorf("a full outbox takes one more: %v", err)
		}
		if err := s.Outbox.Queue(t.Context(), at(3), note("alice@example.com", "in the place of an older one")); err != nil {
			t.Errorf("a full outbox takes none in the place of another: %v", err)
		}
	})
	a := newAccount(t, s, "bob")
	t.Run("a change is made whose notice cannot be queued", func(t *testing.T) {
		if err := s.Accounts.SetPassword(t.Context(), a.ID, "new", 0, entry(account.EntryPasswordChanged), note("bob@Example.com", "x")); err != nil {
			t.Errorf("the outbox is full, and the password stays: %v", err)
		}
		if cred, err := s.Accounts.Credentials(t.Context(), a.ID); err != nil || cred.PasswordHash != "new" {
			t.Errorf("%+v, %v", cred, err)
		}
	})
	t.Run("a code that cannot be sent is not made", func(t *testing.T) {
		if err := s.Codes.SetCode(t.Context(), a.ID, code(account.PurposeResetPassword, "h"), note("bob@Example.com", "x")); !errors.Is(err, mail.ErrFull) {
			t.Errorf("a code into a full outbox: %v", err)
		}
		if _, err := s.Codes.Code(t.Context(), a.ID, account.PurposeResetPassword); !errors.Is(err, account.ErrCodeInvalid) {
			t.Errorf("it is there: %v", err)
		}
		if err := s.Codes.Decoy(t.Context(), at(9)); !errors.Is(err, mail.ErrFull) {
			t.Errorf("a decoy beside a full outbox: %v", err)
		}
	})
	t.Run("what has expired, or is given up, leaves its place", func(t *testing.T) {
		if err := s.Codes.Decoy(t.Context(), at(10)); err != nil {
			t.Errorf("an expired message keeps its place: %v", err)
		}
		if err := s.Outbox.Queue(t.Context(), at(10), note("zoe@example.com", "in its place"), note("zoe@example.com", "one too many")); !errors.Is(err, mail.ErrFull) {
			t.Errorf("it left more places than its own: %v", err)
		}
		if err := s.Outbox.Queue(t.Context(), at(3).Add(mail.GiveUpAfter), note("zoe@example.com", "later")); err != nil {
			t.Errorf("messages that are given up keep their places: %v", err)
		}
	})
}

// testRoomForCodes: in an outbox with mail.MaxBeforeNotices messages the rest is
// kept for codes. The test leaves one more there.
func testRoomForCodes(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "carol")
	told := []mail.Message{note(a.Email, "a notice"), note("alice@example.com", "in the place of an older one")}
	if err := s.Accounts.SetPassword(t.Context(), a.ID, "new", 0, entry(account.EntryPasswordChanged), told...); err != nil {
		t.Fatal(err)
	}
	if err := s.Codes.SetCode(t.Context(), a.ID, code(account.PurposeResetPassword, "c"), note(a.Email, "a code")); err != nil {
		t.Errorf("a code beside notices: %v", err)
	}
	all := waiting(t, s, 60)
	if slices.Contains(all, "a notice") || !slices.Contains(all, "in the place of an older one") || !slices.Contains(all, "a code") || len(all) != mail.MaxBeforeNotices+1 {
		t.Errorf("%d wait; a notice: %t, a code: %t", len(all), slices.Contains(all, "a notice"), slices.Contains(all, "a code"))
	}
}

// code is a code whose hash is of the given text.
func code(p account.Purpose, hash string) account.Code {
	return account.Code{Purpose: p, Hash: []byte(hash), MadeAt: at(5), Expires: at(20)}
}

// send stores a code, and returns the proof of knowing it.
func send(t *testing.T, s *Database, a *account.Account, p account.Purpose, hash string) account.Proof {
	t.Helper()
	if err := s.Codes.SetCode(t.Context(), a.ID, code(p, hash), note(a.Email, hash)); err != nil {
		t.Fatal(err)
	}
	return account.Proof{AccountID: a.ID, Purpose: p, Hash: []byte(hash)}
}

func testCodes(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	const p = account.PurposeResetPassword
	send(t, s, a, p, "old")
	send(t, s, a, p, "hash a")
	send(t, s, a, account.PurposeSignIn, "another purpose")
	send(t, s, b, p, "hash b")
	if err := s.Codes.SetCode(t.Context(), 999, code(p, "x"), note("x@example.com", "x")); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
	given := code(account.PurposePLCOperation, "given")
	if err := s.Codes.GiveCode(t.Context(), 999, given, entry(account.EntryCodeGiven)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
	for _, hash := range []string{"an older one", "given"} {
		given.Hash = []byte(hash)
		if err := s.Codes.GiveCode(t.Context(), b.ID, given, entry(account.EntryCodeGiven)); err != nil {
			t.Fatal(err)
		}
	}
	s.Reopen()
	if got, err := s.Codes.Code(t.Context(), b.ID, account.PurposePLCOperation); err != nil || string(got.Hash) != "given" || !got.Expires.Equal(given.Expires) {
		t.Errorf("a code that no mail brings: %+v, %v", got, err)
	}
	if trail, err := s.Accounts.Trail(t.Context(), b.ID, 1); err != nil || len(trail) != 1 || trail[0].Kind != account.EntryCodeGiven {
		t.Errorf("the trail: %+v, %v", trail, err)
	}
	if got := waiting(t, s, 5); !slices.Equal(got, []string{"old", "hash a", "another purpose", "hash b"}) {
		t.Errorf("mails %q", got)
	}
	t.Run("the newest of a purpose counts", func(t *testing.T) {
		if got, err := s.Codes.Code(t.Context(), a.ID, p); err != nil || !reflect.DeepEqual(got, code(p, "hash a")) {
			t.Errorf("%+v, %v", got, err)
		}
	})
	for hash, want := range map[string]*account.Account{"hash a": a, "hash b": b, "old": nil, "another purpose": nil, "": nil} {
		t.Run(fmt.Sprintf("find %q", hash), func(t *testing.T) {
			got, c, err := s.Codes.FindCode(t.Context(), p, []byte(hash))
			switch {
			case want == nil:
				if !errors.Is(err, account.ErrCodeInvalid) {
					t.Errorf("%+v, %v", got, err)
				}
			case err != nil || got.DID != want.DID || !bytes.Equal(c.Hash, []byte(hash)):
				t.Errorf("%+v, %+v, %v", got, c, err)
			}
		})
	}
	t.Run("a code can be tried so many times, also over a restart", func(t *testing.T) {
		for i := range account.MaxCodeTries {
			if got, err := s.Codes.TryCode(t.Context(), a.ID, p); err != nil || !reflect.DeepEqual(got, code(p, "hash a")) {
				t.Fatalf("try %d: %+v, %v", i, got, err)
			}
		}
		s.Reopen()
		if _, err := s.Codes.TryCode(t.Context(), a.ID, p); !errors.Is(err, account.ErrCodeInvalid) {
			t.Errorf("one try too many: %v", err)
		}
		if _, err := s.Codes.TryCode(t.Context(), b.ID, p); err != nil {
			t.Errorf("another account's code: %v", err)
		}
		send(t, s, a, p, "new")
		if _, err := s.Codes.TryCode(t.Context(), a.ID, p); err != nil {
			t.Errorf("a new code: %v", err)
		}
	})
	t.Run("those of a deleted account go, with their mails", func(t *testing.T) {
		if err := s.Codes.Decoy(t.Context(), at(6)); err != nil {
			t.Error(err)
		}
		if err := s.Accounts.Delete(t.Context(), a.ID, at(7)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Codes.FindCode(t.Context(), p, []byte("new")); !errors.Is(err, account.ErrCodeInvalid) {
			t.Errorf("a code of nobody: %v", err)
		}
		if got := waiting(t, s, 60); !slices.Equal(got, []string{"hash b"}) {
			t.Errorf("after one was deleted there wait %q", got)
		}
	})
}

// testCodeOnce: of many callers with the same code, one succeeds.
func testCodeOnce(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	proof := send(t, s, a, account.PurposeResetPassword, "h")
	st := signIn(t, s, a)
	var done atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			err := s.Accounts.ResetPassword(t.Context(), proof, fmt.Sprint(i), entry(account.EntryPasswordChanged), note(a.Email, "changed"))
			if err == nil {
				done.Add(1)
			} else if !errors.Is(err, account.ErrCodeInvalid) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if done.Load() != 1 {
		t.Errorf("one code was good for %d passwords", done.Load())
	}
	if got := waiting(t, s, 60); !slices.Equal(got, []string{"changed", "h"}) { // in the order of when
		t.Errorf("mails %q", got)
	}
	alive(t, s, map[*session.State]bool{st: false})
	if got := kinds(t, s, a); got[0] != account.EntryPasswordChanged {
		t.Errorf("trail %q", got)
	}
	// A new password ends the codes that could replace it, or that are a factor
	// beside it.
	reset, signin, confirm := send(t, s, a, account.PurposeResetPassword, "r"), send(t, s, a, account.PurposeSignIn, "s"), send(t, s, a, account.PurposeConfirmEmail, "c")
	if err := s.Accounts.SetPassword(t.Context(), a.ID, "by admin", 0, entry(account.EntryPasswordChanged)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []account.Proof{reset, signin} {
		if _, err := s.Codes.Code(t.Context(), a.ID, p.Purpose); !errors.Is(err, account.ErrCodeInvalid) {
			t.Errorf("%s is left: %v", p.Purpose, err)
		}
	}
	if err := s.Accounts.ConfirmEmail(t.Context(), confirm, entry(account.EntryEmailConfirmed)); err != nil {
		t.Error(err)
	}
}

// testEmailDomains: the two forms of an international domain are one address.
func testEmailDomains(t *testing.T, s *Database, a *account.Account) {
	t.Helper()
	p := pending("inga")
	p.Email = "inga@exämple.com"
	id, err := s.Hosting.Reserve(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hosting.Activate(t.Context(), id, []byte(`{}`), nil, entry(account.EntrySignUp)); err != nil {
		t.Fatal(err)
	}
	const other = "Inga@xn--exmple-cua.com"
	again := pending("ingo")
	again.Email = other
	if _, err := s.Hosting.Reserve(t.Context(), again); !errors.Is(err, account.ErrEmailTaken) {
		t.Errorf("a second account of one mailbox: %v", err)
	}
	if err := s.Accounts.SetEmail(t.Context(), a.ID, account.EmailChange{Email: other}, entry(account.EntryEmailChanged)); !errors.Is(err, account.ErrEmailTaken) {
		t.Errorf("another account changes to it: %v", err)
	}
	for _, email := range []string{p.Email, other} {
		if got, err := s.Accounts.ByEmail(t.Context(), email); err != nil || got.DID != p.DID || got.Email != p.Email {
			t.Errorf("%s: %+v, %v", email, got, err)
		}
	}
	for _, text := range []string{"xn--exmple", "inga@exämple"} {
		if found, err := s.Admin.Search(t.Context(), text, 0, 10); err != nil || len(found) != 1 || found[0].DID != p.DID {
			t.Errorf("search for %s: %+v, %v", text, found, err)
		}
	}
}

func testEmailChange(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	now := func(t *testing.T) *account.Account {
		t.Helper()
		got, err := s.Accounts.ByDID(t.Context(), a.DID)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	set := func(t *testing.T, c account.EmailChange, want error) *account.Account {
		t.Helper()
		if err := s.Accounts.SetEmail(t.Context(), a.ID, c, entry(account.EntryEmailChanged), note(c.Email, "changed")); !errors.Is(err, want) {
			t.Errorf("%+v: %v, want %v", c, err, want)
		}
		return now(t)
	}
	t.Run("no second factor is sent to an unconfirmed address", func(t *testing.T) {
		if got := set(t, account.EmailChange{Email: a.Email, Factor: new(true)}, nil); got.EmailFactor {
			t.Error("codes go to an address that nobody confirmed")
		}
	})
	t.Run("it is confirmed once, with a code", func(t *testing.T) {
		confirm := send(t, s, a, account.PurposeConfirmEmail, "c")
		for _, want := range []error{nil, account.ErrCodeInvalid} {
			if err := s.Accounts.ConfirmEmail(t.Context(), confirm, entry(account.EntryEmailConfirmed)); !errors.Is(err, want) {
				t.Errorf("confirm: %v, want %v", err, want)
			}
		}
		if got := now(t); !got.EmailConfirmedAt.Equal(at(1)) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("another spelling is the same address", func(t *testing.T) {
		set(t, account.EmailChange{Email: "x@example.com", Unconfirmed: true}, account.ErrStatusConflict)
		if got := set(t, account.EmailChange{Email: "ALICE@example.com", Factor: new(true)}, nil); !got.EmailFactor || got.EmailConfirmedAt.IsZero() || got.Email != a.Email {
			t.Errorf("%+v", got)
		}
	})
	update, reset := send(t, s, a, account.PurposeUpdateEmail, "u"), send(t, s, a, account.PurposeResetPassword, "r")
	t.Run("a refused change changes nothing, not even its code", func(t *testing.T) {
		if got := set(t, account.EmailChange{Email: "BOB@example.com", Proof: &update}, account.ErrEmailTaken); !got.EmailFactor || got.Email != a.Email {
			t.Errorf("%+v", got)
		}
		if got := set(t, account.EmailChange{Email: "new@example.com", Proof: &update}, nil); got.EmailFactor || !got.EmailConfirmedAt.IsZero() || got.Email != "new@example.com" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("the two forms of a domain are one address", func(t *testing.T) { testEmailDomains(t, s, a) })
	t.Run("the codes of the old address are invalid", func(t *testing.T) {
		set(t, account.EmailChange{Email: "newer@example.com", Proof: &update}, account.ErrCodeInvalid)
		if err := s.Accounts.ResetPassword(t.Context(), reset, "x", entry(account.EntryPasswordChanged)); !errors.Is(err, account.ErrCodeInvalid) {
			t.Errorf("a code that went to the old address: %v", err)
		}
	})
	s.Reopen()
	t.Run("accounts are found by their new addresses", func(t *testing.T) {
		if got, err := s.Accounts.ByEmail(t.Context(), "NEW@example.com"); err != nil || got.DID != a.DID {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err := s.Accounts.ByEmail(t.Context(), "bob@example.com"); err != nil || got.DID != b.DID {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("an address that was confirmed before keeps the sign-in codes", func(t *testing.T) { testNewEmail(t, s, a) })
	t.Run("notices are switched off and on", func(t *testing.T) { testNotices(t, s, a) })
}

// accountNow returns an account as it is stored now.
func accountNow(t *testing.T, s *Database, a *account.Account) *account.Account {
	t.Helper()
	got, err := s.Accounts.ByDID(t.Context(), a.DID)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func testNewEmail(t *testing.T, s *Database, a *account.Account) {
	t.Helper()
	set := func(c account.EmailChange, want error) *account.Account {
		t.Helper()
		if err := s.Accounts.SetEmail(t.Context(), a.ID, c, entry(account.EntryEmailChanged)); !errors.Is(err, want) {
			t.Errorf("%+v: %v, want %v", c, err, want)
		}
		return accountNow(t, s, a)
	}
	if err := s.Accounts.ConfirmEmail(t.Context(), send(t, s, a, account.PurposeConfirmEmail, "c2"), entry(account.EntryEmailConfirmed)); err != nil {
		t.Fatal(err)
	}
	set(account.EmailChange{Factor: new(true)}, nil)
	proof := send(t, s, a, account.PurposeNewEmail, "n")
	if got := set(account.EmailChange{Email: "third@example.com", Proof: &proof, ConfirmedAt: at(7)}, nil); !got.EmailFactor || !got.EmailConfirmedAt.Equal(at(7)) {
		t.Errorf("%+v", got)
	}
	set(account.EmailChange{Email: "fourth@example.com", Proof: &proof, ConfirmedAt: at(8)}, account.ErrCodeInvalid)
}

func testNotices(t *testing.T, s *Database, a *account.Account) {
	t.Helper()
	for on, kind := range map[bool]account.EntryKind{false: account.EntryNoticesOff, true: account.EntryNoticesOn} {
		if err := s.Accounts.SetNotices(t.Context(), a.ID, on, entry(kind), note("third@example.com", string(kind))); err != nil {
			t.Fatal(err)
		}
		if got := accountNow(t, s, a); got.NoticesOff == on {
			t.Errorf("notices on: %t; %+v", on, got)
		}
		trail, err := s.Accounts.Trail(t.Context(), a.ID, 1)
		if err != nil || len(trail) != 1 || trail[0].Kind != kind {
			t.Errorf("the trail: %+v, %v", trail, err)
		}
		if all := waiting(t, s, 60); !slices.Contains(all, string(kind)) {
			t.Errorf("mails %q", all)
		}
	}
	if err := s.Accounts.SetNotices(t.Context(), 999, true, entry(account.EntryNoticesOn)); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
}

// testLanguage: the language of mails is kept.
func testLanguage(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	for _, want := range []string{"", "de", "en"} {
		if want != "" {
			if err := s.Accounts.SetLanguage(t.Context(), a.ID, want); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.Accounts.ByDID(t.Context(), a.DID); err != nil || got.Language != want {
			t.Errorf("%+v, %v; want %q", got, err, want)
		}
	}
	if err := s.Accounts.SetLanguage(t.Context(), 999, "de"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
}

// testSessionCode: a session that took a code uses it up, or is not made.
func testSessionCode(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	proof := send(t, s, a, account.PurposeSignIn, "c")
	n := newSession(t, s, a)
	n.Code = &proof
	st := create(t, s, n)
	if _, err := s.Sessions.Create(t.Context(), n); !errors.Is(err, account.ErrCodeInvalid) {
		t.Errorf("a second session by one code: %v", err)
	}
	alive(t, s, map[*session.State]bool{st: true})
	if list, err := s.Sessions.List(t.Context(), a.ID); err != nil || len(list) != 1 {
		t.Errorf("%d sessions, %v", len(list), err)
	}
	n = newSession(t, s, a)
	n.Network, n.UserAgent, n.Entry.Network, n.Entry.UserAgent = "203.0.113.5", "elsewhere", "203.0.113.5", "elsewhere"
	n.Mails = []mail.Message{note(a.Email, "told")}
	gone := create(t, s, n)
	if err := s.Sessions.End(t.Context(), gone.ID, entry(account.EntrySignOut)); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	for network, want := range map[string][]string{"192.0.2.7": {"a client"}, "203.0.113.5": {"elsewhere"}, "192.0.2.1": {"test"}, "198.51.100.1": nil} {
		if got, err := s.Sessions.Seen(t.Context(), a.ID, network); err != nil || !slices.Equal(got, want) {
			t.Errorf("seen in %s: %q, %v; want %q", network, got, err, want)
		}
	}
	if got := waiting(t, s, 60); !slices.Equal(got, []string{"told", "c"}) {
		t.Errorf("mails %q", got)
	}
}

// testMails: the messages about a change are queued with it, and not without
// it.
func testMails(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	p := account.AppPassword{Name: "app", Hash: "h", CreatedAt: start}
	for _, want := range []error{nil, account.ErrNameTaken} {
		if err := s.Accounts.AddAppPassword(t.Context(), a.ID, p, entry(account.EntryAppPasswordCreated), note(a.Email, "app")); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if err := s.Accounts.SetPassword(t.Context(), a.ID, "new", 0, entry(account.EntryPasswordChanged), note(a.Email, "password")); err != nil {
		t.Fatal(err)
	}
	if err := s.Accounts.SetPassword(t.Context(), 999, "new", 0, entry(account.EntryPasswordChanged), note(a.Email, "nobody")); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
	s.Reopen()
	if got := waiting(t, s, 1); !slices.Equal(got, []string{"app", "password"}) {
		t.Errorf("mails %q", got)
	}
}
