package signin_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/internal/pdstest"
	"nestbox/signin"
)

// TestPasskeyOptions: what browsers are asked for.
func TestPasskeyOptions(t *testing.T) {
	d := newDoor(t)
	d.passkey()
	q, err := d.BeginPasskey(t.Context(), d.alice, "x")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"residentKey":"required"`, `"requireResidentKey":true`, `"userVerification":"required"`, `"attestation":"none"`, `"excludeCredentials":[{`,
		`"alg":-7`, `"alg":-257`, `"alg":-8`, `"rp":{"name":"pds.test","id":"pds.test"}`, `"name":"alice.test"`,
	} {
		if !strings.Contains(q.Options, want) {
			t.Errorf("to make one: no %s in %s", want, q.Options)
		}
	}
	if n := strings.Count(q.Options, `"alg"`); n != 3 {
		t.Errorf("%d algorithms", n)
	}
	for _, conditional := range []bool{false, true} {
		q, err := d.AskPasskey("x", conditional)
		if err != nil || !strings.Contains(q.Options, `"userVerification":"required"`) || strings.Contains(q.Options, "allowCredentials") ||
			strings.Contains(q.Options, `"mediation":"conditional"`) != conditional {
			t.Errorf("to sign in: %s, %v", q.Options, err)
		}
	}
}

// TestPasskeySignIn: which answers prove a person.
func TestPasskeySignIn(t *testing.T) {
	d := newDoor(t)
	key, _ := d.passkey()
	stranger := pdstest.NewAuthenticator("pds.test", origin)
	if q, err := d.BeginPasskey(t.Context(), d.alice, "elsewhere"); err != nil || stranger.Make(t, q.Options) == "" {
		t.Fatal(err) // never registered
	}
	with := func(change func(*pdstest.Authenticator)) *pdstest.Authenticator {
		other := *key
		change(&other)
		return &other
	}
	for _, c := range []struct {
		name string
		key  *pdstest.Authenticator
		flow string
		want error // nil: proven; errWrong: a *WrongFactor
	}{
		{"right", key, "f", nil},
		{"the user was not verified", with(func(a *pdstest.Authenticator) { a.Flags &^= pdstest.UserVerified }), "f", errWrong},
		{"the user was not present", with(func(a *pdstest.Authenticator) { a.Flags &^= pdstest.UserPresent }), "f", errWrong},
		{"another site's page", with(func(a *pdstest.Authenticator) { a.Origin = "https://evil.example" }), "f", errWrong},
		{"of another host name", with(func(a *pdstest.Authenticator) { a.Host = "evil.example" }), "f", errWrong},
		{"not registered", stranger, "f", errWrong},
		{"of nobody", with(func(a *pdstest.Authenticator) { a.UserHandle = make([]byte, 64) }), "f", errWrong},
		{"without a user handle", with(func(a *pdstest.Authenticator) { a.UserHandle = nil }), "f", errWrong},
		{"backed up, though it cannot be", with(func(a *pdstest.Authenticator) { a.Flags |= pdstest.BackedUp }), "f", errWrong},
		{"to another page's question", key, "g", signin.ErrCeremony},
	} {
		in := d.assertion(c.key, "f")
		in.Flow = c.flow
		p, err := d.ProvePasskey(t.Context(), in)
		switch _, wrong := errors.AsType[*signin.WrongFactor](err); {
		case c.want == nil:
			if err != nil || p.By != signin.ByPasskey || p.Account.DID != d.alice.DID {
				t.Errorf("%s: %+v, %v", c.name, p, err)
			}
		case c.want == errWrong && !wrong, c.want == signin.ErrCeremony && !errors.Is(err, c.want): //nolint:errorlint // a row names the very value
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if f := d.factors(); !f.Passkeys[0].UsedAt.Equal(d.Clock.Now()) {
		t.Errorf("last use: %+v", f.Passkeys[0].UsedAt)
	}
	for _, junk := range []string{"", "{}", "null", `{"id":1}`, strings.Repeat("[", 10_000)} {
		in := d.assertion(key, "f")
		in.Answer = junk
		if _, err := d.ProvePasskey(t.Context(), in); !signin.WrongCode(err) {
			t.Errorf("%.10q: %v", junk, err)
		}
		in = d.assertion(key, "f")
		in.Sealed = junk
		if _, err := d.ProvePasskey(t.Context(), in); !errors.Is(err, signin.ErrCeremony) {
			t.Errorf("question %.10q: %v", junk, err)
		}
	}
	late := d.assertion(key, "f")
	d.Clock.Advance(signin.CeremonyLife)
	if _, err := d.ProvePasskey(t.Context(), late); !errors.Is(err, signin.ErrCeremony) {
		t.Errorf("half an hour later: %v", err)
	}
}

var errWrong = errors.New("a wrong factor")

// TestPasskeyOnce: an answer counts once, except from the page that sent it, whose answer
// was lost.
func TestPasskeyOnce(t *testing.T) {
	d := newDoor(t)
	key, _ := d.passkey()
	key.Counter = 7
	in := d.assertion(key, "f")
	var all sync.WaitGroup
	results := make([]error, 4)
	for i := range results {
		all.Go(func() { _, results[i] = d.ProvePasskey(t.Context(), in) })
	}
	all.Wait()
	for _, err := range results {
		if err != nil {
			t.Errorf("the same answer from the same page: %v", err)
		}
	}
	if got := d.kinds(1); got[0] != account.EntryPasskeyAdded {
		t.Errorf("repeated posts count as a copy: %v", got)
	}
	stolen := d.assertion(key, "f")
	stolen.Sealed = in.Sealed
	if _, err := d.ProvePasskey(t.Context(), stolen); !errors.Is(err, signin.ErrCeremony) {
		t.Errorf("another answer to an answered question: %v", err)
	}
	d.Clock.Advance(account.RepeatFor)
	if _, err := d.ProvePasskey(t.Context(), in); !errors.Is(err, signin.ErrCeremony) {
		t.Errorf("the same answer two minutes later: %v", err)
	}
}

// TestPasskeyCounter: a counter that does not grow is noted each time and mailed once a
// day; the sign-in goes on, by the counter as it came.
func TestPasskeyCounter(t *testing.T) {
	d := newDoor(t)
	d.confirmed()
	key, _ := d.passkey()
	sign := func(counter uint32) (cloned bool) {
		t.Helper()
		key.Counter = counter
		before := len(d.kinds(account.TrailLimit))
		if _, err := d.ProvePasskey(t.Context(), d.assertion(key, "f")); err != nil {
			t.Fatal(err)
		}
		return len(d.kinds(account.TrailLimit)) > before
	}
	for i, c := range []struct {
		counter uint32
		cloned  bool
		wait    time.Duration
		mails   int
	}{
		{0, false, 0, 0}, {5, false, 0, 0}, {5, true, 0, 1}, {3, true, time.Hour, 1}, {4, false, 0, 1}, {2, true, 23 * time.Hour, 2}, {0, true, 0, 2}, {0, false, 0, 2},
	} {
		d.Clock.Advance(c.wait)
		if got := sign(c.counter); got != c.cloned {
			t.Errorf("sign-in %d with counter %d: copy suspected %v", i, c.counter, got)
		}
		if got := count(d.mailed(), "There may be a copy of your passkey"); got != c.mails {
			t.Errorf("sign-in %d: %d mails, want %d", i, got, c.mails)
		}
	}
	if got := d.kinds(1); got[0] != account.EntryPasskeyCloned {
		t.Errorf("%v", got)
	}
}

func count(list []string, s string) (n int) {
	for _, x := range list {
		if x == s {
			n++
		}
	}
	return n
}

// TestPasskeyBackup: a passkey may become one that is backed up, which is noted once; the
// other way is refused.
func TestPasskeyBackup(t *testing.T) {
	d := newDoor(t)
	key, _ := d.passkey()
	key.Flags |= pdstest.BackupEligible
	for i := range 2 {
		if _, err := d.ProvePasskey(t.Context(), d.assertion(key, "f")); err != nil {
			t.Fatalf("sign-in %d: %v", i, err)
		}
		if got := d.kinds(2); !slices.Equal(got, []account.EntryKind{account.EntryPasskeyBackup, account.EntryPasskeyAdded}) {
			t.Errorf("sign-in %d: the trail has %v", i, got)
		}
	}
	key.Flags |= pdstest.BackedUp
	if _, err := d.ProvePasskey(t.Context(), d.assertion(key, "f")); err != nil {
		t.Errorf("backed up: %v", err)
	}
	key.Flags &^= pdstest.BackupEligible | pdstest.BackedUp
	if _, err := d.ProvePasskey(t.Context(), d.assertion(key, "f")); !signin.WrongCode(err) {
		t.Errorf("no longer one that can be backed up: %v", err)
	}
}

// TestPasskeyMaking: the bounds of new passkeys, and their names.
func TestPasskeyMaking(t *testing.T) {
	d := newDoor(t)
	first := pdstest.NewAuthenticator("pds.test", origin)
	one, err := d.BeginPasskey(t.Context(), d.alice, "one")
	if err != nil {
		t.Fatal(err)
	}
	two, err := d.BeginPasskey(t.Context(), d.alice, "two")
	if err != nil {
		t.Fatal(err)
	}
	in := signin.NewPasskey{Sealed: one.Sealed, Answer: first.Make(t, one.Options), Flow: "one", Name: strings.Repeat("x", 65)}
	if _, err := d.AddPasskey(t.Context(), d.alice, in); !errors.Is(err, signin.ErrPasskeyName) {
		t.Errorf("a long name: %v", err)
	}
	in.Name = ""
	var recovery []string
	for i := range 2 {
		codes, err := d.AddPasskey(t.Context(), d.alice, in)
		if err != nil || len(codes) != signin.RecoveryCodes || i > 0 && !slices.Equal(codes, recovery) {
			t.Fatalf("post %d: %q, %v", i, codes, err)
		}
		recovery = codes
	}
	if f := d.factors(); len(f.Passkeys) != 1 || f.Passkeys[0].Name != "Passkey 2026-03-01" {
		t.Errorf("%+v", f.Passkeys)
	}
	late := pdstest.NewAuthenticator("pds.test", origin)
	_, err = d.AddPasskey(t.Context(), d.alice, signin.NewPasskey{Sealed: two.Sealed, Answer: late.Make(t, two.Options), Flow: "two"})
	if !errors.Is(err, signin.ErrCeremony) {
		t.Errorf("another user handle than the account has meanwhile: %v", err)
	}
	unverified := pdstest.NewAuthenticator("pds.test", origin)
	unverified.Flags = pdstest.UserPresent
	q, err := d.BeginPasskey(t.Context(), d.alice, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.AddPasskey(t.Context(), d.alice, signin.NewPasskey{Sealed: q.Sealed, Answer: unverified.Make(t, q.Options), Flow: "x"}); !signin.WrongCode(err) {
		t.Errorf("a user who was not verified: %v", err)
	}
	id := d.factors().Passkeys[0].ID
	for name, want := range map[string]error{"": signin.ErrPasskeyName, "  My   key ": nil, strings.Repeat("é", 65): signin.ErrPasskeyName} { //nolint:gocritic // typed by a person
		if err := d.RenamePasskey(t.Context(), d.alice, id, name); !errors.Is(err, want) {
			t.Errorf("name %q: %v, want %v", name, err, want)
		}
	}
	if err := d.RenamePasskey(t.Context(), d.alice, id+1, "x"); !errors.Is(err, signin.ErrNoFactor) {
		t.Errorf("another's: %v", err)
	}
	if got := d.factors().Passkeys[0].Name; got != "My key" {
		t.Errorf("%q", got)
	}
	for range signin.MaxPasskeys - 1 {
		d.passkey()
	}
	if _, err := d.BeginPasskey(t.Context(), d.alice, "x"); !errors.Is(err, signin.ErrTooManyPasskeys) {
		t.Errorf("one too many: %v", err)
	}
}

// TestPasskeyTakenDown: a passkey of an account that is taken down opens only what its
// owner may still do.
func TestPasskeyTakenDown(t *testing.T) {
	d := newDoor(t)
	key, _ := d.passkey()
	_, err := d.Service.Accounts.SetStatus(t.Context(), d.alice.ID, account.StatusChange{Takedown: &account.Applied{Applied: true}},
		account.Entry{At: d.Clock.Now(), Kind: account.EntryTakedown, By: account.ActorAdmin})
	if err != nil {
		t.Fatal(err)
	}
	in := d.assertion(key, "f")
	if _, err := d.ProvePasskey(t.Context(), in); !errors.Is(err, account.ErrTakenDown) {
		t.Errorf("%v", err)
	}
	in = d.assertion(key, "f")
	in.AllowTakenDown = true
	if _, err := d.ProvePasskey(t.Context(), in); err != nil {
		t.Errorf("allowed: %v", err)
	}
}
