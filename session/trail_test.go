package session_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/xrpc"
)

// TestTrailSignIn: which client signed in, with what, from where.
func TestTrailSignIn(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	app := w.appPassword(a, "phone", false)
	for i, c := range []struct{ password, reason, addr, network, userAgent string }{
		{password, "password", "192.0.2.7", "192.0.2.7", "Firefox"},
		{app, `app password "phone"`, "2001:db8:1:2:3::4", "2001:db8:1:2::/64", "curl/8"},
	} {
		ctx := from(t.Context(), c.addr, c.userAgent)
		if _, err := w.signIn(ctx, "alice.test", "wrong"); wire(err) != wireWrong {
			t.Fatal(wire(err)) // a wrong password makes no entry: anyone could fill the trail
		}
		out, err := w.signIn(ctx, "alice.test", c.password)
		if err != nil {
			t.Fatal(err)
		}
		trail := w.trail(a)
		want := account.Entry{
			At: w.Now(), Kind: account.EntrySignIn, By: account.ActorOwner, Session: w.number(a, out.RefreshJwt),
			Reason: c.reason, Network: c.network, UserAgent: c.userAgent,
		}
		if trail[0] != want {
			t.Errorf("trail says %+v\nwant       %+v", trail[0], want)
		}
		if n := len(w.reasons(a, account.EntrySignIn)); n != i+1 {
			t.Errorf("%d sign-ins on the trail after %d", n, i+1)
		}
	}
}

// TestTrailRefusals: each refusal of a refresh says why, once an hour however
// often it is repeated.
func TestTrailRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		arrange func(w *world, a *account.Account, token *auth.Token)
		reason  string
		wire    string
		number  bool // the session's number is known
	}{
		{
			"session ended", func(w *world, a *account.Account, _ *auth.Token) {
				if _, err := w.RevokeAll(w.t.Context(), a.DID, false, account.ActorAdmin); err != nil {
					w.t.Fatal(err)
				}
			}, "session was ended", wireRevoked, true,
		},
		{
			"account taken down", func(w *world, a *account.Account, _ *auth.Token) { w.takedown(a, true) },
			"account is taken down", wireTakedown, true,
		},
		{
			"another server's token", func(_ *world, _ *account.Account, token *auth.Token) { token.SID, token.JTI = "", "random" },
			"token of another server", wireRevoked, false,
		},
		{
			"superseded", func(w *world, _ *account.Account, token *auth.Token) {
				for range 2 {
					signed, err := w.Refresh(w.t.Context(), *token)
					if err != nil {
						w.t.Fatal(err)
					}
					*token = w.token(signed.Refresh)
				}
				token.JTI = strings.TrimSuffix(token.JTI, ".2") + ".0"
				w.clock.Advance(25 * time.Hour)
			}, "token was superseded before the reuse window", wireRevoked, true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			a := w.account("alice", "none")
			signed := w.mustBegin(a, "")
			id, token := w.number(a, signed.Refresh), w.token(signed.Refresh)
			c.arrange(w, a, &token)
			began := w.Now()
			refuse := func() {
				_, err := w.RefreshSession(from(t.Context(), home, "phone"), auth.RefreshCaller{Token: token}, xrpc.None{})
				if wire(err) != c.wire {
					t.Fatalf("got %q, want %q", wire(err), c.wire)
				}
			}
			for range 10 {
				refuse()
			}
			w.clock.Advance(time.Hour - time.Millisecond)
			refuse()
			if got := w.reasons(a, account.EntryRefreshRefused); !slices.Equal(got, []string{c.reason}) {
				t.Fatalf("refusals on the trail: %q", got)
			}
			w.clock.Advance(time.Millisecond)
			refuse()
			refuse()
			if got := w.reasons(a, account.EntryRefreshRefused); !slices.Equal(got, []string{c.reason, c.reason}) {
				t.Errorf("refusals on the trail an hour later: %q", got)
			}
			want := account.Entry{
				At: began, Kind: account.EntryRefreshRefused, By: account.ActorServer, Reason: c.reason, Network: home, UserAgent: "phone",
			}
			if c.number {
				want.Session = id
			}
			if !slices.Contains(w.trail(a), want) {
				t.Errorf("trail lacks %+v: %+v", want, w.trail(a))
			}
		})
	}
}

// TestTrailActors: the trail names who ended a session.
func TestTrailActors(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", "none")
	for _, by := range []account.Actor{account.ActorOwner, account.ActorAdmin} {
		id := w.number(a, w.mustBegin(a, "").Refresh)
		if err := w.Revoke(from(t.Context(), home, "page"), a.DID, id, by); err != nil {
			t.Fatal(err)
		}
		want := account.Entry{At: w.Now(), Kind: account.EntrySessionRevoked, By: by, Session: id, Network: home, UserAgent: "page"}
		if got := w.trail(a)[0]; got != want {
			t.Errorf("trail says %+v, want %+v", got, want)
		}
	}
}

// TestTrailSharing: a replay from another place by another client is on the
// trail, with both.
func TestTrailSharing(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", "none")
	first := w.mustBegin(a, "").Refresh
	if _, err := w.refresh(from(t.Context(), home, "phone"), first); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := w.refresh(from(t.Context(), elsewhere, "laptop"), first); err != nil {
			t.Fatal(err)
		}
	}
	var got []account.Entry
	for _, e := range w.trail(a) {
		if e.Kind == account.EntrySuspectedSharing {
			got = append(got, e)
		}
	}
	want := account.Entry{
		At: w.Now(), Kind: account.EntrySuspectedSharing, By: account.ActorServer, Session: w.number(a, first),
		Reason: "generation 0 presented, head was 1", Network: elsewhere, UserAgent: "laptop", OtherNetwork: home, OtherUserAgent: "phone",
	}
	if len(got) != 1 || got[0] != want {
		t.Errorf("trail says %+v\nwant       %+v", got, want)
	}
}

// TestTrailIsBounded: the oldest entries of the kind that has most go first, so that the one of
// the account's making stays; another account's stay.
func TestTrailIsBounded(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.Limit = 5
	a, b := w.account("alice", "none"), w.account("bob", "none")
	w.mustBegin(b, "")
	for i := range account.TrailLimit + 20 {
		e := w.entry(account.EntryRefreshRefused)
		e.Reason = fmt.Sprint(i)
		if err := w.Accounts.AddEntry(t.Context(), a.ID, e); err != nil {
			t.Fatal(err)
		}
	}
	got := w.reasons(a, account.EntryRefreshRefused)
	if len(got) != account.TrailLimit-1 || got[0] != fmt.Sprint(account.TrailLimit+19) || got[len(got)-1] != "21" {
		t.Errorf("%d entries, from %s to %s", len(got), got[0], got[len(got)-1])
	}
	for range 10 {
		w.mustBegin(a, "")
	}
	if got := len(w.trail(a)); got != account.TrailLimit {
		t.Errorf("%d entries after more sign-ins", got)
	}
	if got := len(w.trail(b)); got != 2 {
		t.Errorf("%d entries of the other account", got)
	}
}
