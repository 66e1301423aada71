package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/device"
	"nestbox/mail"
)

var deviceTests = tests{
	"DeviceSignIn":  testDeviceSignIn,
	"DeviceEpoch":   testDeviceEpoch,
	"DeviceBounds":  testDeviceBounds,
	"DeviceChange":  testDeviceChange,
	"DeviceEndings": testDeviceEndings,
	"DeviceList":    testDeviceList,
	"DeviceCollect": testDeviceCollect,
}

// newBrowser describes a sign-in on a browser that is not known.
func newBrowser(t *testing.T, s *Database, a *account.Account) device.New {
	t.Helper()
	cred, err := s.Accounts.Credentials(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	return device.New{
		Secret: device.Secret{Hash: [device.HashSize]byte{1}, Salt: [device.HashSize]byte{2}},
		SignIn: device.SignIn{
			AccountID: a.ID, DID: a.DID, At: at(0), UsedAt: at(0), Factors: "password", Remember: true,
			StepUp: device.StepUp{At: at(0), Level: 1, Factors: "password"}, TrustedUntil: at(60),
		},
		Epoch: cred.Epoch, Network: "192.0.2.7", UserAgent: "a browser", Entry: entry(account.EntrySignIn),
	}
}

func signInOn(t *testing.T, s *Database, n device.New) device.Browser {
	t.Helper()
	b, err := s.Devices.SignIn(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// on returns n on a browser that is known, whose secrets stay.
func on(b device.Browser, n device.New) device.New {
	n.Browser = b.ID
	n.Turn = func(b device.Browser) (device.Browser, device.SignIn, bool) { return b, n.SignIn, true }
	return n
}

// browser returns a browser as it is stored, nil if it is not.
func browser(t *testing.T, s *Database, id int64) *device.Browser {
	t.Helper()
	var found device.Browser
	_, err := s.Devices.Change(t.Context(), id, func(b device.Browser) (device.Change, error) { found = b; return device.Change{}, nil })
	if errors.Is(err, device.ErrUnknown) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return &found
}

func testDeviceSignIn(t *testing.T, s *Database) {
	t.Helper()
	a, other := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	n := newBrowser(t, s, a)
	b := signInOn(t, s, n)
	want := device.Browser{
		ID: b.ID, Secrets: []device.Secret{n.Secret}, RotatedAt: at(0), MadeAt: at(0), SeenAt: at(0), Network: n.Network, UserAgent: n.UserAgent,
		SignIns: []device.SignIn{n.SignIn},
	}
	if b.ID == 0 || !reflect.DeepEqual(b, want) {
		t.Errorf("a new browser %+v\nwant          %+v", b, want)
	}
	if trail, err := s.Accounts.Trail(t.Context(), a.ID, 1); err != nil || len(trail) != 1 || trail[0].Browser != b.ID || trail[0].Session != 0 {
		t.Errorf("the trail says %+v, %v", trail, err)
	}
	second := newBrowser(t, s, other)
	second.Browser, second.SignIn.UsedAt = b.ID, at(2)
	second.Turn = func(was device.Browser) (device.Browser, device.SignIn, bool) {
		if !reflect.DeepEqual(was, want) {
			t.Errorf("Turn sees %+v\nwant      %+v", was, want)
		}
		was.Secrets = append(was.Secrets, device.Secret{Hash: [device.HashSize]byte{3}})
		was.Earned, was.Generation, was.RotatedAt = true, 1, at(2)
		in := second.SignIn
		in.Generation = 1
		return was, in, true
	}
	b = signInOn(t, s, second)
	want.Secrets = append(want.Secrets, device.Secret{Hash: [device.HashSize]byte{3}})
	want.Earned, want.Generation, want.RotatedAt = true, 1, at(2)
	in := second.SignIn
	in.Generation = 1
	want.SignIns = []device.SignIn{in, n.SignIn}
	s.Reopen()
	if got := browser(t, s, b.ID); !reflect.DeepEqual(b, want) || !reflect.DeepEqual(*got, want) {
		t.Errorf("with a second account %+v\nstored %+v\nwant   %+v", b, *got, want)
	}
	stranger := newBrowser(t, s, a)
	stranger.Browser = b.ID
	stranger.Turn = func(device.Browser) (device.Browser, device.SignIn, bool) {
		return device.Browser{}, device.SignIn{}, false
	}
	if apart := signInOn(t, s, stranger); apart.ID == b.ID || len(apart.SignIns) != 1 {
		t.Errorf("a cookie that is not the browser's signs in on %+v", apart)
	}
	if got := kinds(t, s, other); got[0] != account.EntrySignIn {
		t.Errorf("trail %q", got)
	}
	gone := newBrowser(t, s, a)
	gone.Browser = 999
	if b := signInOn(t, s, gone); b.ID == 999 || b.ID == 0 {
		t.Errorf("a browser that is forgotten: %+v", b)
	}
	alone := newBrowser(t, s, other)
	alone.Browser = b.ID
	alone.Turn = func(was device.Browser) (device.Browser, device.SignIn, bool) {
		was.SignIns = nil
		return was, alone.SignIn, true
	}
	if b := signInOn(t, s, alone); len(b.SignIns) != 1 || b.SignIns[0].AccountID != other.ID {
		t.Errorf("what Turn leaves out is there still: %+v", b.SignIns)
	}
}

// testDeviceEpoch: a sign-in is only stored if what was checked still holds, and its code
// is used up with it.
func testDeviceEpoch(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	checked := newBrowser(t, s, a)
	if err := s.Accounts.SetPassword(t.Context(), a.ID, "new", 0, entry(account.EntryPasswordChanged)); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Devices.SignIn(t.Context(), checked); !errors.Is(err, device.ErrChanged) {
		t.Errorf("password changed between check and sign-in: %+v, %v", b, err)
	}
	n := newBrowser(t, s, a)
	n.SignIn.AccountID = 999
	if b, err := s.Devices.SignIn(t.Context(), n); !errors.Is(err, device.ErrChanged) {
		t.Errorf("no account: %+v, %v", b, err)
	}
	code := account.Code{Purpose: account.PurposeSignIn, Hash: []byte("code"), MadeAt: at(0), Expires: at(9)}
	if err := s.Codes.SetCode(t.Context(), a.ID, code, mail.Message{To: "a@example.com", Subject: "code"}); err != nil {
		t.Fatal(err)
	}
	n = newBrowser(t, s, a)
	n.Code = &account.Proof{AccountID: a.ID, Purpose: code.Purpose, Hash: code.Hash}
	signInOn(t, s, n)
	if b, err := s.Devices.SignIn(t.Context(), n); !errors.Is(err, account.ErrCodeInvalid) {
		t.Errorf("a code for the second time: %+v, %v", b, err)
	}
	if all, err := s.Devices.List(t.Context(), a.ID); err != nil || len(all) != 1 {
		t.Errorf("refused sign-ins left %d browsers, %v", len(all), err)
	}
}

// testDeviceBounds: the longest unused give way, on the browser and of the account.
func testDeviceBounds(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	n := newBrowser(t, s, a)
	var first, last device.Browser
	for i := range device.MaxBrowsers + 1 {
		n.SignIn.UsedAt = at(i)
		last = signInOn(t, s, n)
		if i == 0 {
			first = last
		}
	}
	if b := browser(t, s, first.ID); b == nil || len(b.SignIns) != 0 {
		t.Errorf("the longest unused browser: %+v", b)
	}
	if all, err := s.Devices.List(t.Context(), a.ID); err != nil || len(all) != device.MaxBrowsers || all[0].ID != last.ID {
		t.Errorf("%d browsers, %v", len(all), err)
	}
	for i := range device.MaxAccounts {
		n := newBrowser(t, s, newAccount(t, s, string(rune('b'+i))))
		n.SignIn.UsedAt = at(1000 + i)
		last = signInOn(t, s, on(last, n))
	}
	if _, ok := last.SignIn(a.ID); ok || len(last.SignIns) != device.MaxAccounts {
		t.Errorf("%d accounts on a browser, the longest unused: %v", len(last.SignIns), ok)
	}
	for range 2 { // the same account again displaces none
		last = signInOn(t, s, on(last, n))
	}
	if len(last.SignIns) != device.MaxAccounts {
		t.Errorf("%d accounts", len(last.SignIns))
	}
}

func testDeviceChange(t *testing.T, s *Database) {
	t.Helper()
	a, other := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	b := signInOn(t, s, newBrowser(t, s, a))
	b = signInOn(t, s, on(b, newBrowser(t, s, other)))
	refused := errors.New("refused")
	change := func(was device.Browser) (device.Change, error) {
		next := was
		next.Generation, next.SeenAt, next.Network, next.UserAgent = 5, at(7), "198.51.100.1", "another"
		kept, _ := was.SignIn(a.ID)
		in := *kept
		in.UsedAt, in.StepUp, in.TrustedUntil = at(7), device.StepUp{At: at(7), Level: 2, Factors: "totp"}, time.Time{}
		next.SignIns = []device.SignIn{in}
		return device.Change{Next: next, Changed: true, Entries: []device.Noted{{AccountID: other.ID, Entry: entry(account.EntrySignOut)}}}, nil
	}
	_, err := s.Devices.Change(t.Context(), b.ID, func(was device.Browser) (device.Change, error) {
		c, _ := change(was)
		return c, refused
	})
	if got := browser(t, s, b.ID); !errors.Is(err, refused) || !reflect.DeepEqual(*got, b) {
		t.Errorf("a decision that fails: %v, %+v", err, got)
	}
	_, err = s.Devices.Change(t.Context(), b.ID, func(was device.Browser) (device.Change, error) {
		c, _ := change(was)
		c.Code = &account.Proof{AccountID: a.ID, Purpose: account.PurposeSignIn, Hash: []byte("none")}
		return c, nil
	})
	if got := browser(t, s, b.ID); !errors.Is(err, account.ErrCodeInvalid) || !reflect.DeepEqual(*got, b) {
		t.Errorf("a code that is used up: %v, %+v", err, got)
	}
	c, err := s.Devices.Change(t.Context(), b.ID, change)
	if err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	if got := browser(t, s, b.ID); !reflect.DeepEqual(*got, c.Next) {
		t.Errorf("stored %+v\nwant   %+v", *got, c.Next)
	}
	if got := kinds(t, s, other); got[0] != account.EntrySignOut {
		t.Errorf("trail %q", got)
	}
	if _, err := s.Devices.Change(t.Context(), 999, change); !errors.Is(err, device.ErrUnknown) {
		t.Errorf("no browser: %v", err)
	}
}

// testDeviceEndings: what an account's sign-ins and its trust come to, by each change.
func testDeviceEndings(t *testing.T, s *Database) {
	t.Helper()
	ctx := t.Context()
	yes, no, n := true, false, 0
	status := func(c account.StatusChange, kind account.EntryKind) func(*account.Account) error {
		return func(a *account.Account) error {
			_, err := s.Accounts.SetStatus(ctx, a.ID, c, entry(kind))
			return err
		}
	}
	for name, c := range map[string]struct {
		change func(*account.Account) error
		// signedIn, trusted: after it
		signedIn, trusted bool
	}{
		"password": {func(a *account.Account) error {
			return s.Accounts.SetPassword(ctx, a.ID, "new", 0, entry(account.EntryPasswordChanged))
		}, false, false},
		"reset": {func(a *account.Account) error {
			code := account.Code{Purpose: account.PurposeResetPassword, Hash: []byte("reset"), MadeAt: at(0), Expires: at(9)}
			if err := s.Codes.SetCode(ctx, a.ID, code, mail.Message{To: "a@example.com", Subject: "code"}); err != nil {
				return err
			}
			return s.Accounts.ResetPassword(ctx, account.Proof{AccountID: a.ID, Purpose: code.Purpose, Hash: code.Hash}, "new", entry(account.EntryPasswordChanged))
		}, false, false},
		"takedown":     {status(account.StatusChange{Takedown: &account.Applied{Applied: true}}, account.EntryTakedown), false, false},
		"suspension":   {status(account.StatusChange{Suspended: &yes}, account.EntrySuspended), true, true},
		"deactivation": {status(account.StatusChange{Deactivated: &yes}, account.EntryDeactivated), true, true},
		"all signed out": {func(a *account.Account) error {
			_, err := s.Sessions.EndAll(ctx, a.ID, false, entry(account.EntryAllSignedOut))
			return err
		}, false, false},
		"all but none": {func(a *account.Account) error {
			_, n, err := s.Devices.EndAll(ctx, a.ID, 0, entry(account.EntryAllSignedOut))
			if n != 1 {
				t.Errorf("EndAll ended %d", n)
			}
			return err
		}, false, false},
		"factor": {func(a *account.Account) error {
			return s.Accounts.SetEmail(ctx, a.ID, account.EmailChange{Factor: &yes}, entry(account.EntryFactorOn))
		}, true, false},
		"factor off": {func(a *account.Account) error {
			return s.Accounts.SetEmail(ctx, a.ID, account.EmailChange{Factor: &no}, entry(account.EntryFactorOff))
		}, true, true},
		"another app's password": {func(a *account.Account) error {
			addAppPassword(t, s, a, "app") //nolint:contextcheck // the test's is used
			return s.Accounts.RevokeAppPassword(ctx, a.ID, "app", entry(account.EntryAppPasswordRevoked))
		}, true, true},
		"a session": {func(a *account.Account) error {
			return s.Sessions.End(ctx, signIn(t, s, a).ID, entry(account.EntrySignOut)) //nolint:contextcheck // the test's is used
		}, true, true},
		"deletion": {func(a *account.Account) error { return s.Accounts.Delete(ctx, a.ID, at(2)) }, false, false},
	} {
		n++
		a, other := newAccount(t, s, fmt.Sprintf("alice%d", n)), newAccount(t, s, fmt.Sprintf("bob%d", n))
		b := signInOn(t, s, newBrowser(t, s, a))
		signInOn(t, s, on(b, newBrowser(t, s, other)))
		if err := c.change(a); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.Reopen()
		after := browser(t, s, b.ID)
		if after == nil {
			t.Fatalf("%s: the browser is gone", name)
		}
		in, signedIn := after.SignIn(a.ID)
		if trusted := signedIn && !in.TrustedUntil.IsZero(); signedIn != c.signedIn || trusted != c.trusted {
			t.Errorf("%s: signed in %v, trusted %v, want %v, %v", name, signedIn, trusted, c.signedIn, c.trusted)
		}
		if in, ok := after.SignIn(other.ID); !ok || in.TrustedUntil.IsZero() {
			t.Errorf("%s: the other account on the browser: %+v", name, in)
		}
	}
}

// testDeviceList: an account's browsers, without other accounts; EndAll spares one, and
// ends sessions.
func testDeviceList(t *testing.T, s *Database) {
	t.Helper()
	a, other := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	n := newBrowser(t, s, a)
	first := signInOn(t, s, n)
	first = signInOn(t, s, on(first, newBrowser(t, s, other)))
	n.SignIn.UsedAt = at(1)
	second := signInOn(t, s, n)
	signInOn(t, s, newBrowser(t, s, other))
	all, err := s.Devices.List(t.Context(), a.ID)
	if err != nil || len(all) != 2 || all[0].ID != second.ID || all[1].ID != first.ID {
		t.Fatalf("%+v, %v", all, err)
	}
	mine, _ := first.SignIn(a.ID)
	first.SignIns = []device.SignIn{*mine}
	if !reflect.DeepEqual(all[1], first) {
		t.Errorf("%+v\nwant %+v", all[1], first)
	}
	signIn(t, s, a)
	signIn(t, s, a)
	sessions, browsers, err := s.Devices.EndAll(t.Context(), a.ID, first.ID, entry(account.EntryAllSignedOut))
	if err != nil || sessions != 2 || browsers != 1 {
		t.Errorf("EndAll: %d sessions, %d browsers, %v", sessions, browsers, err)
	}
	if left, err := s.Devices.List(t.Context(), a.ID); err != nil || len(left) != 1 || left[0].ID != first.ID {
		t.Errorf("EndAll left %+v, %v", left, err)
	}
	if got := kinds(t, s, a); got[0] != account.EntryAllSignedOut {
		t.Errorf("trail %q", got)
	}
}

// testDeviceCollect: what has ended by itself goes, in steps, and nothing else.
func testDeviceCollect(t *testing.T, s *Database) {
	t.Helper()
	a, other := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	now := at(0)
	sign := func(who *account.Account, unused time.Duration, remember bool, trust time.Time) device.Browser {
		n := newBrowser(t, s, who)
		n.SignIn.At, n.SignIn.UsedAt, n.SignIn.Remember, n.SignIn.TrustedUntil = now.Add(-unused), now.Add(-unused), remember, trust
		return signInOn(t, s, n)
	}
	live := sign(a, time.Hour, false, time.Time{})
	over := sign(a, device.TabLife, false, time.Time{})
	remembered := sign(a, 29*24*time.Hour, true, time.Time{})
	trusted := sign(other, 20*24*time.Hour, false, now.Add(time.Hour))
	gone := sign(other, device.RememberLife, true, time.Time{})
	left := func() (ids []int64, signIns int) {
		for _, b := range []device.Browser{live, over, remembered, trusted, gone} {
			if b := browser(t, s, b.ID); b != nil {
				ids, signIns = append(ids, b.ID), signIns+len(b.SignIns)
			}
		}
		return ids, signIns
	}
	next, removed, err := s.Devices.Collect(t.Context(), 0, now)
	ids, signIns := left()
	if err != nil || next != 0 || removed != 1 || signIns != 3 || !slices.Equal(ids, []int64{live.ID, over.ID, remembered.ID, trusted.ID}) {
		t.Errorf("Collect = %d, %d, %v; left %v with %d sign-ins", next, removed, err, ids, signIns)
	}
	_, removed, err = s.Devices.Collect(t.Context(), 0, now.Add(device.TabLife+device.EmptyLife))
	if ids, _ := left(); err != nil || removed != 4 || len(ids) != 0 {
		t.Errorf("a week later: %d, %v; left %v", removed, err, ids)
	}
}
