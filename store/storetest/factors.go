package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/signin"
)

var factorsTests = tests{
	"Factors":            testFactors,
	"FactorsRefused":     testFactorsRefused,
	"FactorsConcurrent":  testFactorsConcurrent,
	"FactorsOfTheDead":   testFactorsOfTheDead,
	"CodeUsedInFlow":     testCodeUsedInFlow,
	"FactorsAreResealed": testFactorsAreResealed,
}

// factors returns an account's factors.
func factors(t *testing.T, s *Database, a *account.Account) signin.Factors {
	t.Helper()
	f, err := s.Factors.Factors(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// setFactors replaces an account's factors by what set makes of them.
func setFactors(t *testing.T, s *Database, a *account.Account, set func(*signin.Factors)) {
	t.Helper()
	err := s.Factors.ChangeFactors(t.Context(), a.ID, func(_ account.Account, f signin.Factors) (signin.Changed, error) {
		set(&f)
		return signin.Changed{Factors: f}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// everyFactor has one of each.
func everyFactor(name string) signin.Factors {
	return signin.Factors{
		Switches: account.Switches{PasskeySecond: true, DangerousFactor: true, AppsOff: true},
		TOTP:     &signin.Authenticator{SecretSealed: []byte("secret of " + name), ConfirmedAt: at(1), LastStep: 7, LastFlow: "flow", UsedAt: at(2)},
		Passkeys: []signin.Passkey{
			{CredentialID: []byte(name + " 1"), Credential: []byte(`{"a":1}`), Host: "pds.test", Name: "one", MadeAt: at(1)},
			{CredentialID: []byte(name + " 2"), Credential: []byte(`{"a":2}`), Host: "other.test", Name: "two", MadeAt: at(2), UsedAt: at(3), UsedNetwork: "192.0.2.1", WarnedAt: at(4)},
		},
		UserHandle:  bytes.Repeat([]byte(name[:1]), 64),
		Recovery:    []signin.RecoveryCode{{Hash: []byte("a")}, {Hash: []byte("b"), UsedAt: at(5), UsedFlow: "flow"}},
		RecoveryKey: []byte("key of " + name), RecoveryMadeAt: at(1),
	}
}

func testFactors(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	if f := factors(t, s, a); !reflect.DeepEqual(f, signin.Factors{}) {
		t.Fatalf("a new account has %+v", f)
	}
	want := everyFactor("alice")
	setFactors(t, s, a, func(f *signin.Factors) { *f = want })
	same := func(t *testing.T) {
		t.Helper()
		got := factors(t, s, a)
		for i := range got.Passkeys {
			if got.Passkeys[i].ID == 0 {
				t.Error("a passkey without a number")
			}
			if i < len(want.Passkeys) {
				want.Passkeys[i].ID = got.Passkeys[i].ID
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	same(t)
	s.Reopen()
	same(t)
	if got, err := s.Accounts.ByDID(t.Context(), a.DID); err != nil || got.Switches != want.Switches {
		t.Errorf("%+v, %v", got, err)
	}
	if f := factors(t, s, b); !reflect.DeepEqual(f, signin.Factors{}) {
		t.Errorf("another account has %+v", f)
	}
	if got, err := s.Factors.ByUserHandle(t.Context(), want.UserHandle); err != nil || got.DID != a.DID {
		t.Errorf("by user handle: %+v, %v", got, err)
	}
	if _, err := s.Factors.ByUserHandle(t.Context(), []byte("other")); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("by another user handle: %v", err)
	}
	for host, want := range map[string]int64{"pds.test": 1, "other.test": 1, "third.test": 2} {
		if n, err := s.Factors.PasskeysElsewhere(t.Context(), host); err != nil || n != want {
			t.Errorf("%d passkeys of other hosts than %s, want %d: %v", n, host, want, err)
		}
	}
	for name, change := range map[string]func(*signin.Factors){
		"a step":            func(f *signin.Factors) { f.TOTP.LastStep++ },
		"no authenticator":  func(f *signin.Factors) { f.TOTP = nil },
		"a passkey's use":   func(f *signin.Factors) { f.Passkeys[0].UsedAt, f.Passkeys[0].Credential = at(9), []byte(`{}`) },
		"a passkey removed": func(f *signin.Factors) { f.Passkeys = f.Passkeys[1:] },
		"a code used":       func(f *signin.Factors) { f.Recovery[0].UsedAt, f.Recovery[0].UsedFlow = at(9), "x" },
		"other codes": func(f *signin.Factors) {
			f.Recovery, f.RecoveryKey = []signin.RecoveryCode{{Hash: []byte("a")}}, []byte("other key")
		},
		"a switch": func(f *signin.Factors) { f.AppsOff = !f.AppsOff },
	} {
		clone := func(f *signin.Factors) {
			f.Passkeys, f.Recovery = slices.Clone(f.Passkeys), slices.Clone(f.Recovery)
			if f.TOTP != nil {
				f.TOTP = new(*f.TOTP)
			}
		}
		t.Run(name, func(t *testing.T) {
			want = everyFactor("alice")
			want.Passkeys[0].ID, want.Passkeys[1].ID = 0, 0
			setFactors(t, s, a, func(f *signin.Factors) { handle := f.UserHandle; *f = signin.Factors{UserHandle: handle} })
			setFactors(t, s, a, func(f *signin.Factors) { *f = want })
			want = factors(t, s, a)
			clone(&want)
			change(&want)
			setFactors(t, s, a, func(f *signin.Factors) { clone(f); change(f) })
			same(t)
		})
	}
}

func testFactorsRefused(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	setFactors(t, s, a, func(f *signin.Factors) { *f = everyFactor("alice") })
	refused := errors.New("refused")
	err := s.Factors.ChangeFactors(t.Context(), a.ID, func(acc account.Account, f signin.Factors) (signin.Changed, error) {
		if acc.DID != a.DID || !acc.AppsOff {
			t.Errorf("decided for %+v", acc)
		}
		return signin.Changed{}, refused
	})
	if !errors.Is(err, refused) || factors(t, s, a).TOTP == nil {
		t.Errorf("%v", err)
	}
	err = s.Factors.ChangeFactors(t.Context(), b.ID, func(_ account.Account, f signin.Factors) (signin.Changed, error) {
		f = everyFactor("bob")
		f.Passkeys[1].CredentialID = []byte("alice 1")
		return signin.Changed{Factors: f, Entries: []account.Entry{entry(account.EntryPasskeyAdded)}}, nil
	})
	if !errors.Is(err, signin.ErrPasskeyTaken) || !reflect.DeepEqual(factors(t, s, b), signin.Factors{}) {
		t.Errorf("another account's passkey: %v", err)
	}
	if _, err := s.Factors.Factors(t.Context(), 99); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("of nobody: %v", err)
	}
	err = s.Factors.ChangeFactors(t.Context(), 99, func(account.Account, signin.Factors) (signin.Changed, error) {
		t.Error("decided for nobody")
		return signin.Changed{}, nil
	})
	if !errors.Is(err, account.ErrNotFound) {
		t.Errorf("of nobody: %v", err)
	}
	told := signin.Changed{
		Factors: factors(t, s, a), Entries: []account.Entry{entry(account.EntryPasskeyCloned), entry(account.EntryPasskeyBackup)},
	}
	told.Mails = append(told.Mails, note("alice@example.com", "told"))
	if err := s.Factors.ChangeFactors(t.Context(), a.ID, func(account.Account, signin.Factors) (signin.Changed, error) { return told, nil }); err != nil {
		t.Fatal(err)
	}
	trail, err := s.Accounts.Trail(t.Context(), a.ID, 2)
	if err != nil || trail[0].Kind != account.EntryPasskeyBackup || trail[1].Kind != account.EntryPasskeyCloned {
		t.Errorf("%+v, %v", trail, err)
	}
	if got := waiting(t, s, 1); !slices.Equal(got, []string{"told"}) {
		t.Errorf("mails: %q", got)
	}
}

// testFactorsConcurrent: changes of one account's factors see each other.
func testFactorsConcurrent(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	setFactors(t, s, a, func(f *signin.Factors) { *f = everyFactor("alice") })
	var all sync.WaitGroup
	const n = 20
	for range n {
		all.Go(func() {
			setFactors(t, s, a, func(f *signin.Factors) {
				next := *f.TOTP
				next.LastStep++
				f.TOTP = &next
			})
		})
	}
	all.Wait()
	if got := factors(t, s, a).TOTP.LastStep; got != 7+n {
		t.Errorf("step %d after %d changes", got, n)
	}
}

// testFactorsOfTheDead: nothing of a deleted account's factors stays.
func testFactorsOfTheDead(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	want := everyFactor("alice")
	setFactors(t, s, a, func(f *signin.Factors) { *f = want })
	if err := s.Accounts.Delete(t.Context(), a.ID, at(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Factors.ByUserHandle(t.Context(), want.UserHandle); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("%v", err)
	}
	b := newAccount(t, s, "bob")
	setFactors(t, s, b, func(f *signin.Factors) { *f = want }) // its passkeys are free again
}

// testCodeUsedInFlow: a code that a page used up is gone for all but its flow.
func testCodeUsedInFlow(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	proof := send(t, s, a, account.PurposeSignIn, "c")
	for i, c := range []struct {
		flow string
		want error
	}{{"one", nil}, {"one", nil}, {"two", account.ErrCodeInvalid}} {
		if err := s.Codes.UseCodeIn(t.Context(), proof, c.flow, at(i+1)); !errors.Is(err, c.want) {
			t.Errorf("use %d, in %s: %v", i, c.flow, err)
		}
	}
	if code, err := s.Codes.TryCode(t.Context(), a.ID, account.PurposeSignIn); err != nil || code.UsedFlow != "one" || !code.UsedAt.Equal(at(1)) {
		t.Errorf("%+v, %v", code, err)
	}
	if _, err := s.Codes.Code(t.Context(), a.ID, account.PurposeSignIn); !errors.Is(err, account.ErrCodeInvalid) {
		t.Errorf("as one that is on its way: %v", err)
	}
	if _, _, err := s.Codes.FindCode(t.Context(), account.PurposeSignIn, proof.Hash); !errors.Is(err, account.ErrCodeInvalid) {
		t.Errorf("found: %v", err)
	}
	if err := s.Codes.UseCode(t.Context(), proof); !errors.Is(err, account.ErrCodeInvalid) {
		t.Errorf("used for a change: %v", err)
	}
	fresh := send(t, s, a, account.PurposeSignIn, "d")
	if err := s.Codes.UseCodeIn(t.Context(), proof, "one", at(5)); !errors.Is(err, account.ErrCodeInvalid) {
		t.Errorf("one that was replaced: %v", err)
	}
	if err := s.Codes.UseCode(t.Context(), fresh); err != nil {
		t.Errorf("the new one: %v", err)
	}
}

// testFactorsAreResealed: Reseal replaces the secrets of second factors too, each by its
// kind.
func testFactorsAreResealed(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	setFactors(t, s, a, func(f *signin.Factors) { *f = everyFactor("alice") })
	var kinds []string
	n, err := s.Hosting.Reseal(t.Context(), func(kind hosting.SealedKind, did syntax.DID, sealed []byte) ([]byte, error) {
		kinds = append(kinds, string(kind))
		return []byte(fmt.Sprintf("%s of %s, was %s", kind, did, sealed)), nil
	})
	slices.Sort(kinds)
	if err != nil || n != 3 || !slices.Equal(kinds, []string{"recovery code key", "signing key", "totp secret"}) {
		t.Fatalf("%d, %q, %v", n, kinds, err)
	}
	f := factors(t, s, a)
	if got, want := string(f.TOTP.SecretSealed), fmt.Sprintf("totp secret of %s, was secret of alice", a.DID); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := string(f.RecoveryKey), fmt.Sprintf("recovery code key of %s, was key of alice", a.DID); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
