package device_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"nestbox/device"
	"nestbox/hosting"
	"nestbox/store/storetest"
	"nestbox/takeover"
)

// oldBrowsers are what a take-over reads.
type oldBrowsers []takeover.Browser

func (o oldBrowsers) Browsers(_ context.Context, yield func(takeover.Browser) error) error {
	for _, b := range o {
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

func oldID(prefix string, digit string) string { return prefix + strings.Repeat(digit, 32) }

// TestInherited: the old server's cookies prove what they proved there, until the browser has
// one of ours.
func TestInherited(t *testing.T) {
	t.Parallel()
	w := storetest.NewWorld(t)
	s := &device.Service{Store: w.Devices, Now: w.Clock.Now, Log: slog.New(slog.DiscardHandler)}
	alice, bob := w.Account(hosting.Pending{Handle: "alice.test"}), w.Account(hosting.Pending{Handle: "bob.test"})
	now := w.Clock.Now()
	dev, ses := oldID("dev-", "a"), oldID("ses-", "b")
	numbers, counts, err := takeover.BringBrowsers(t.Context(), oldBrowsers{
		{ID: dev, Session: ses, UserAgent: "Firefox/1", Address: "::ffff:192.0.2.7", Seen: now.Add(-time.Minute), SignIns: []takeover.BrowserSignIn{
			{DID: alice.DID.String(), At: now.Add(-2 * 24 * time.Hour)},
			{DID: bob.DID.String(), At: now.Add(-20 * 24 * time.Hour)},
			{DID: "did:plc:stranger", At: now},
			{DID: "", At: now},
		}},
		{ID: oldID("dev-", "c"), Session: oldID("ses-", "c"), Seen: now.Add(-40 * 24 * time.Hour), SignIns: []takeover.BrowserSignIn{
			{DID: alice.DID.String(), At: now.Add(-50 * 24 * time.Hour)},
		}},
		{ID: "dev-x", Session: oldID("ses-", "d"), Seen: now, SignIns: []takeover.BrowserSignIn{{DID: alice.DID.String(), At: now}}},
		{ID: oldID("dev-", "e"), Session: oldID("ses-", "e"), SignIns: []takeover.BrowserSignIn{{DID: alice.DID.String(), At: now}}},
	}, w.Legacy, now)
	if err != nil || counts != (takeover.BrowserCounts{Browsers: 1, SignIns: 2, Dropped: 5}) || numbers[dev] == 0 {
		t.Fatalf("%v, %+v, %v", numbers, counts, err)
	}
	cookie := func(dev, ses string) string {
		t.Helper()
		c, err := s.Inherited(t.Context(), dev, ses)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, got := range map[string]string{
		"another session": cookie(dev, oldID("ses-", "f")), "another browser": cookie(oldID("dev-", "f"), ses),
		"exchanged": cookie(ses, dev), "too short": cookie("dev-a", ses), "capitals": cookie(strings.ToUpper(dev), ses),
		"no digits": cookie(oldID("dev-", "z"), ses), "dropped": cookie(oldID("dev-", "c"), oldID("ses-", "c")), "none": cookie("", ""),
	} {
		if got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	visit := func(c string) device.Visit {
		t.Helper()
		v, err := s.Visit(t.Context(), c, 0)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	old := cookie(dev, ses)
	first := visit(old)
	if len(first.Live()) != 2 || first.Cookie == "" || first.Network != "192.0.2.7" || first.UserAgent != "Firefox/1" {
		t.Fatalf("%+v", first)
	}
	in, ok := first.SignIn(alice.ID)
	if !ok || !in.MayAuthorize(now) || in.Factors != "password" || in.Trusted(now) {
		t.Errorf("alice, two days ago: %+v", in)
	}
	if in, ok := first.SignIn(bob.ID); !ok || in.MayAuthorize(now) || !in.MayLook(now) {
		t.Errorf("bob, twenty days ago: %+v", in)
	}
	// The answer was lost: the same again. Once it has come, the old cookies prove nothing.
	if again := visit(cookie(dev, ses)); again.Cookie != first.Cookie {
		t.Errorf("a lost answer: %q, want %q", again.Cookie, first.Cookie)
	}
	if ours := visit(first.Cookie); len(ours.Live()) != 2 {
		t.Errorf("our cookie: %+v", ours)
	}
	if late := visit(cookie(dev, ses)); late.Known() {
		t.Errorf("the old cookies, afterwards: %+v", late)
	}
	if late := visit(old); late.Known() {
		t.Error("the old secret lives on")
	}
}

// TestInheritedForgotten: 30 days after the take-over nothing is known of old cookies.
func TestInheritedForgotten(t *testing.T) {
	t.Parallel()
	w := storetest.NewWorld(t)
	alice := w.Account(hosting.Pending{Handle: "alice.test"})
	now := w.Clock.Now()
	if err := w.Legacy.BeginSessions(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	dev, ses := oldID("dev-", "a"), oldID("ses-", "b")
	_, _, err := takeover.BringBrowsers(t.Context(), oldBrowsers{
		{ID: dev, Session: ses, Seen: now, SignIns: []takeover.BrowserSignIn{{DID: alice.DID.String(), At: now}}},
	}, w.Legacy, now)
	if err != nil {
		t.Fatal(err)
	}
	s := &device.Service{Store: w.Devices, Now: w.Clock.Now, Log: slog.New(slog.DiscardHandler)}
	for _, c := range []struct {
		before time.Time
		known  bool
	}{{now, true}, {now.Add(time.Millisecond), false}} {
		if err := w.Devices.ForgetInherited(t.Context(), c.before); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Inherited(t.Context(), dev, ses); err != nil || (got != "") != c.known {
			t.Errorf("taken over before %s: %q, %v", c.before, got, err)
		}
	}
}
