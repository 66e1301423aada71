package account_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

func TestCheckEmail(t *testing.T) {
	for _, good := range []string{
		"alice@example.com", "Alice@Example.COM", "a.b+tag@mail.example.com", "a_b-c@x.io", "o'hara@example.com",
		"alice@bücher.example", "alice@xn--bcher-kva.example",
		strings.Repeat("a", 64) + "@example.com",
	} {
		if got, err := account.CheckEmail(good); err != nil || got != good {
			t.Errorf("%q: %q, %v", good, got, err)
		}
	}
	for _, bad := range []string{
		"", "alice", "alice@", "@example.com", "alice@localhost", "alice@example..com", "alice@.example.com", "alice@example.com.",
		"a@b@example.com", "alice example@example.com", " alice@example.com", "alice@example.com ", "alice@exa mple.com",
		"Alice <alice@example.com>", "<alice@example.com>", "alice@example.com, bob@example.com", "alice@[127.0.0.1]",
		`"alice"@example.com`, `"a b"@example.com`, `"a@b"@example.com`, `"a,b"@example.com`, `a\b@example.com`, "alice(comment)@example.com", ".alice@example.com", "a..b@example.com",
		"alice@example.com\n", "alice@example.com\x00", "alice\r\nBcc: x@example.com", "\xff@example.com", "alice@-example.com", "alice@exa_mple.com",
		"älice@example.com", "аlice@example.com", strings.Repeat("a", 65) + "@example.com", "a@" + strings.Repeat("a.", 126) + "com",
	} {
		if got, err := account.CheckEmail(bad); !errors.Is(err, account.ErrEmail) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}

// TestEmailKey: an address has one key, however its domain is written.
func TestEmailKey(t *testing.T) {
	for email, want := range map[string]string{
		"Alice@Example.COM":       "alice@example.com",
		"a@exämple.com":           "a@xn--exmple-cua.com",
		"A@EXÄMPLE.com":           "a@xn--exmple-cua.com",
		"a@exa\u0308mple.com":     "a@xn--exmple-cua.com",
		"a@XN--EXMPLE-CUA.com":    "a@xn--exmple-cua.com",
		"a@\uff45xample\u3002com": "a@example.com",
		"no address":              "no address",
		"älice@example.com":       "älice@example.com",
		"a@ä\u2028.com":           "a@ä\u2028.com",
	} {
		if got := account.EmailKey(email); got != want {
			t.Errorf("%q: %q, want %q", email, got, want)
		}
	}
}

func FuzzCheckEmail(f *testing.F) {
	for _, s := range []string{"alice@example.com", "a@b", `"a b"@example.com`, "A <a@example.com>", "a@[::1]", "a@ß.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := account.CheckEmail(raw)
		if err != nil {
			if !errors.Is(err, account.ErrEmail) || got != "" {
				t.Fatalf("%q: %q, %v", raw, got, err)
			}
			return
		}
		if got != raw || strings.Count(raw, "@") != 1 || strings.ContainsAny(raw, "\r\n\x00<> ,\"\\()") {
			t.Fatalf("%q is taken as %q", raw, got)
		}
	})
}

func TestStatus(t *testing.T) {
	at := time.Now()
	for _, c := range []struct {
		a    account.Account
		want account.Status
	}{
		{account.Account{}, account.Active},
		{account.Account{DeactivatedAt: at}, account.Deactivated},
		{account.Account{Measures: account.Measures{SuspendedAt: at}}, account.Suspended},
		{account.Account{Measures: account.Measures{TakenDownAt: at}}, account.TakenDown},
		{account.Account{DeactivatedAt: at, Measures: account.Measures{SuspendedAt: at}}, account.Suspended},
		{account.Account{DeactivatedAt: at, Measures: account.Measures{SuspendedAt: at, TakenDownAt: at}}, account.TakenDown},
		{account.Account{Measures: account.Measures{TakedownRef: "7"}, DeleteAfter: at, HandleInvalid: true}, account.Active},
	} {
		if got := c.a.Status(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.a, got, c.want)
		}
	}
}

func TestShownHandle(t *testing.T) {
	for _, c := range []struct {
		a    account.Account
		want syntax.Handle
	}{
		{account.Account{Handle: "alice.test"}, "alice.test"},
		{account.Account{Handle: "alice.test", HandleInvalid: true}, "handle.invalid"},
		{account.Account{}, "handle.invalid"},
	} {
		if got := c.a.ShownHandle(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.a, got, c.want)
		}
	}
}

func TestWith(t *testing.T) {
	before, now, later := time.UnixMilli(1000), time.UnixMilli(2000), time.UnixMilli(3000)
	everything := account.Account{
		ID: 7, DID: "did:plc:abc", Measures: account.Measures{TakenDownAt: before, TakedownRef: "old", SuspendedAt: before}, DeactivatedAt: before, DeleteAfter: later,
	}
	alive := account.Account{ID: 7, Measures: account.Measures{SuspendedAt: before}, DeactivatedAt: before, DeleteAfter: later}
	changed := func(change func(*account.Account)) account.Account {
		a := everything
		change(&a)
		return a
	}
	for name, c := range map[string]struct {
		from   account.Account
		change account.StatusChange
		want   account.Account
		ends   bool
	}{
		"nothing":                           {everything, account.StatusChange{}, everything, false},
		"taken down":                        {account.Account{}, account.StatusChange{Takedown: &account.Applied{Applied: true, Ref: "1"}}, account.Account{Measures: account.Measures{TakenDownAt: now, TakedownRef: "1"}}, true},
		"again":                             {everything, account.StatusChange{Takedown: &account.Applied{Applied: true, Ref: "2"}}, changed(func(a *account.Account) { a.TakedownRef = "2" }), true},
		"lifted":                            {everything, account.StatusChange{Takedown: &account.Applied{}}, changed(func(a *account.Account) { a.TakenDownAt, a.TakedownRef = time.Time{}, "" }), false},
		"suspended":                         {account.Account{}, account.StatusChange{Suspended: new(true)}, account.Account{Measures: account.Measures{SuspendedAt: now}}, false},
		"unsuspended":                       {everything, account.StatusChange{Suspended: new(false)}, changed(func(a *account.Account) { a.SuspendedAt = time.Time{} }), false},
		"deactivated":                       {account.Account{}, account.StatusChange{Deactivated: new(true), DeleteAfter: &later}, account.Account{DeactivatedAt: now, DeleteAfter: later}, false},
		"deactivated again, without a date": {everything, account.StatusChange{Deactivated: new(true), DeleteAfter: new(time.Time{})}, changed(func(a *account.Account) { a.DeleteAfter = time.Time{} }), false},
		"deactivated again, by another":     {everything, account.StatusChange{Deactivated: new(true)}, everything, false},
		"activated":                         {alive, account.StatusChange{Deactivated: new(false)}, account.Account{ID: 7, Measures: account.Measures{SuspendedAt: before}}, false},
		"activated and lifted": {everything, account.StatusChange{Deactivated: new(false), Takedown: &account.Applied{}}, changed(func(a *account.Account) {
			a.DeactivatedAt, a.DeleteAfter, a.TakenDownAt, a.TakedownRef = time.Time{}, time.Time{}, time.Time{}, ""
		}), false},
		"all at once": {
			account.Account{},
			account.StatusChange{Takedown: &account.Applied{Applied: true}, Suspended: new(true), Deactivated: new(true)},
			account.Account{Measures: account.Measures{TakenDownAt: now, SuspendedAt: now}, DeactivatedAt: now},
			true,
		},
	} {
		from := c.from
		got, ends, err := from.With(c.change, now)
		if err != nil || !same(got, c.want) || ends != c.ends {
			t.Errorf("%s: %+v, ends sessions: %v; want %+v, %v", name, got, ends, c.want, c.ends)
		}
		if !same(from, c.from) {
			t.Errorf("%s: changed the account that it was asked about", name)
		}
	}
}

// TestWithTakenDown: an account that is taken down is not activated, nor both at once.
func TestWithTakenDown(t *testing.T) {
	down := account.Account{Measures: account.Measures{TakenDownAt: time.UnixMilli(1)}}
	for _, c := range []struct {
		from   account.Account
		change account.StatusChange
		want   error
	}{
		{down, account.StatusChange{Deactivated: new(false)}, account.ErrTakenDown},
		{account.Account{}, account.StatusChange{Takedown: &account.Applied{Applied: true}, Deactivated: new(false)}, account.ErrTakenDown},
		{down, account.StatusChange{Deactivated: new(true)}, nil},
		{down, account.StatusChange{Takedown: &account.Applied{}, Deactivated: new(false)}, nil},
	} {
		if _, _, err := c.from.With(c.change, time.UnixMilli(2)); !errors.Is(err, c.want) {
			t.Errorf("%+v with %+v: %v, want %v", c.from, c.change, err, c.want)
		}
	}
}

// same compares what a change of status can change, and two that it cannot.
func same(a, b account.Account) bool {
	return a.ID == b.ID && a.DID == b.DID && a.TakenDownAt.Equal(b.TakenDownAt) && a.TakedownRef == b.TakedownRef &&
		a.SuspendedAt.Equal(b.SuspendedAt) && a.DeactivatedAt.Equal(b.DeactivatedAt) && a.DeleteAfter.Equal(b.DeleteAfter)
}

// TestOlderEmailKey: an account that was kept under an address as it is spoken is found
// by, and keeps others from, the same address as it is sent.
func TestOlderEmailKey(t *testing.T) {
	for email, want := range map[string]string{
		"U@xn--bcher-kva.example": "u@bücher.example", "u@Bücher.example": "u@bücher.example",
		"u@example.com": "u@example.com", "u@xn--0.example": "u@xn--0.example",
	} {
		if got := account.OlderEmailKey(email); got != want {
			t.Errorf("%s: %s, want %s", email, got, want)
		}
	}
}
