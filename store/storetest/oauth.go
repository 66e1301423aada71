package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/oauth"
	"nestbox/session"
)

var oauthTests = tests{
	"GrantCreate":       testGrantCreate,
	"GrantLimit":        testGrantLimit,
	"GrantRotate":       testGrantRotate,
	"GrantRotateTheft":  testGrantRotateTheft,
	"GrantCalled":       testGrantCalled,
	"GrantEndKey":       testGrantEndKey,
	"GrantEnds":         testGrantEnds,
	"OAuthWaitingEnds":  testOAuthWaitingEnds,
	"GrantAuthorized":   testGrantAuthorized,
	"OAuthPush":         testOAuthPush,
	"OAuthWaiting":      testOAuthWaiting,
	"OAuthChange":       testOAuthChange,
	"OAuthFirst":        testOAuthFirst,
	"OAuthRedeem":       testOAuthRedeem,
	"OAuthRedeemOnce":   testOAuthRedeemOnce,
	"OAuthRedeemEpoch":  testOAuthRedeemEpoch,
	"OAuthConsents":     testOAuthConsents,
	"OAuthNarrow":       testOAuthNarrow,
	"OAuthCollect":      testOAuthCollect,
	"OAuthGoneAccounts": testOAuthGoneAccounts,
}

const aClient = "https://app.example/client.json"

// pushed is an authorization request as a client pushes it.
func pushed(id string) oauth.Request {
	age := int64(60)
	return oauth.Request{
		ID: id, Holder: session.Holder{ClientID: aClient, AuthMethod: session.AuthPrivateKey, KID: "k", Alg: "ES256", ClientJKT: "ck", DPoPJKT: "dk"},
		Parameters: oauth.Parameters{
			RedirectURI: "https://app.example/back", Scope: "atproto", State: "s\x00\u2028é", Challenge: "c",
			ResponseMode: oauth.ModeQuery, Prompt: oauth.Prompt{Login: true}, MaxAge: &age, Dropped: []string{"x"},
		},
		Made: at(0), Expires: at(10),
	}
}

func push(t *testing.T, s *Database, r oauth.Request) {
	t.Helper()
	if err := s.OAuth.Push(t.Context(), r, 100); err != nil {
		t.Fatal(err)
	}
}

func testOAuthPush(t *testing.T, s *Database) {
	t.Helper()
	want := pushed("one")
	push(t, s, want)
	for range 2 {
		if got, err := s.OAuth.Request(t.Context(), "one"); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%+v, %v\nwant %+v", got, err, want)
		}
		s.Reopen()
	}
	if _, err := s.OAuth.Request(t.Context(), "two"); !errors.Is(err, oauth.ErrUnknown) {
		t.Errorf("no request: %v", err)
	}
}

// testOAuthWaiting: beyond the limit the client that has most requests loses those that
// expire first, opened or not. Another's stay, however old.
func testOAuthWaiting(t *testing.T, s *Database) {
	t.Helper()
	of := func(client string, i int) oauth.Request {
		q := pushed(fmt.Sprint(client, i))
		q.ClientID, q.Expires = "https://"+client+".example/c", at(10+i)
		return q
	}
	left := func(client string, want ...bool) {
		t.Helper()
		for i, kept := range want {
			if _, err := s.OAuth.Request(t.Context(), fmt.Sprint(client, i)); (err == nil) != kept {
				t.Errorf("request %d of %s: %v, want it kept: %t", i, client, err, kept)
			}
		}
	}
	push(t, s, of("small", 0))
	a := newAccount(t, s, "alice")
	for i := range 4 {
		push(t, s, of("large", i))
	}
	open := func(r oauth.Request) (oauth.Request, error) { r.Opened, r.Expires = at(1), at(30); return r, nil }
	if _, err := s.OAuth.Change(t.Context(), "large0", open); err != nil {
		t.Fatal(err)
	}
	allowed(t, s, a, "redeemed") // counts against nothing
	r := redemption(t, s, a, "redeemed")
	if _, err := s.OAuth.Redeem(t.Context(), "redeemed", func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) { return r, nil }); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := s.OAuth.Push(t.Context(), of("other", i), 4); err != nil {
			t.Fatal(err)
		}
	}
	left("large", true, false, false, false)
	left("small", true)
	left("other", true, true)
	for i := range 3 {
		if err := s.OAuth.Push(t.Context(), of("flood", i), 4); err != nil {
			t.Fatal(err)
		}
	}
	left("small", true)
	left("large", true)
	if _, err := s.OAuth.Request(t.Context(), "redeemed"); err != nil {
		t.Errorf("a redeemed request: %v", err)
	}
}

func testOAuthChange(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	push(t, s, pushed("one"))
	want := pushed("one")
	want.Opened, want.Expires, want.Decision, want.DecidedAt, want.AccountID = at(2), at(30), oauth.Allow, at(3), a.ID
	want.DID = a.DID
	want.Epoch, want.Granted, want.DeviceID, want.Network, want.UserAgent = 4, "atproto", 9, "192.0.2.7", "browser"
	got, err := s.OAuth.Change(t.Context(), "one", func(oauth.Request) (oauth.Request, error) { return want, nil })
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	s.Reopen()
	if got, err := s.OAuth.Request(t.Context(), "one"); err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	refused := errors.New("refused")
	_, err = s.OAuth.Change(t.Context(), "one", func(r oauth.Request) (oauth.Request, error) { r.Granted = "all"; return r, refused })
	if got, _ := s.OAuth.Request(t.Context(), "one"); !errors.Is(err, refused) || got.Granted != "atproto" {
		t.Errorf("refused: %v, %+v", err, got)
	}
	if _, err := s.OAuth.Change(t.Context(), "two", func(r oauth.Request) (oauth.Request, error) { return r, nil }); !errors.Is(err, oauth.ErrUnknown) {
		t.Errorf("no request: %v", err)
	}
	_, err = s.OAuth.Change(t.Context(), "one", func(r oauth.Request) (oauth.Request, error) { r.AccountID = 999; return r, nil })
	if !errors.Is(err, oauth.ErrUnknown) {
		t.Errorf("no account: %v", err)
	}
}

// testOAuthFirst: of decisions at once one is the first, and the others see it.
func testOAuthFirst(t *testing.T, s *Database) {
	t.Helper()
	push(t, s, pushed("one"))
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for i := range 8 {
		all.Go(func() {
			r, err := s.OAuth.Change(t.Context(), "one", func(r oauth.Request) (oauth.Request, error) {
				if r.Decision == "" {
					r.Decision, r.DecidedAt, r.UserAgent = oauth.Deny, at(1), fmt.Sprint(i)
				}
				return r, nil
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			seen[r.UserAgent]++
			mu.Unlock()
		})
	}
	all.Wait()
	if len(seen) != 1 {
		t.Errorf("decisions by browser: %v, want all to see the first", seen)
	}
}

// redemption is that of a request which the account's owner allowed.
func redemption(t *testing.T, s *Database, a *account.Account, challenge string) oauth.Redemption {
	t.Helper()
	n := newSession(t, s, a)
	granted(&n, aClient)
	return oauth.Redemption{
		At: at(5), Session: n, Challenge: []byte(challenge),
		Consent: &oauth.Consent{AccountID: a.ID, ClientID: aClient, Scopes: "atproto", At: at(4), UsedAt: at(5)},
	}
}

// allowed pushes a request and has it allowed.
func allowed(t *testing.T, s *Database, a *account.Account, id string) {
	t.Helper()
	push(t, s, pushed(id))
	_, err := s.OAuth.Change(t.Context(), id, func(r oauth.Request) (oauth.Request, error) {
		r.Opened, r.Decision, r.DecidedAt, r.AccountID, r.Granted = at(1), oauth.Allow, at(2), a.ID, "atproto"
		return r, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testOAuthRedeem(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	allowed(t, s, a, "one")
	r := redemption(t, s, a, "challenge")
	r.Session.Mails = []mail.Message{{To: "a@example.com", Subject: "new app", Text: "x", HTML: "x"}}
	refused := errors.New("refused")
	if _, err := s.OAuth.Redeem(t.Context(), "one", func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) { return r, refused }); !errors.Is(err, refused) {
		t.Errorf("refused: %v", err)
	}
	st, err := s.OAuth.Redeem(t.Context(), "one", func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) { return r, nil })
	if err != nil {
		t.Fatal(err)
	}
	same(t, s, st)
	got, err := s.OAuth.Request(t.Context(), "one")
	if err != nil || !got.RedeemedAt.Equal(at(5)) || got.SessionID != st.ID {
		t.Errorf("request %+v, %v", got, err)
	}
	if k, err := s.OAuth.Consent(t.Context(), a.ID, aClient); err != nil || !reflect.DeepEqual(k, r.Consent) {
		t.Errorf("consent %+v, %v", k, err)
	}
	if mails, err := s.Outbox.Due(t.Context(), at(100), 10); err != nil || len(mails) != 1 {
		t.Errorf("mails %v, %v", mails, err)
	}
	if got := kinds(t, s, a); got[0] != account.EntryAppAuthorized {
		t.Errorf("trail %q", got)
	}
	// Another code of the same challenge is refused, and leaves nothing.
	allowed(t, s, a, "two")
	_, err = s.OAuth.Redeem(t.Context(), "two", func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) {
		return redemption(t, s, a, "challenge"), nil
	})
	if list, lerr := s.Sessions.List(t.Context(), a.ID); !errors.Is(err, oauth.ErrChallengeUsed) || lerr != nil || len(list) != 1 {
		t.Errorf("the challenge again: %v, sessions %v, %v", err, list, lerr)
	}
	if _, err := s.OAuth.Redeem(t.Context(), "no", func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) { return r, nil }); !errors.Is(err, oauth.ErrUnknown) {
		t.Errorf("no request: %v", err)
	}
}

// testOAuthRedeemOnce: of redemptions at once one makes a session.
func testOAuthRedeemOnce(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	allowed(t, s, a, "one")
	r, used := redemption(t, s, a, "challenge"), errors.New("used")
	var all sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 8 {
		all.Go(func() {
			_, err := s.OAuth.Redeem(t.Context(), "one", func(q oauth.Request, _ *oauth.Consent) (oauth.Redemption, error) {
				if q.SessionID != 0 {
					return oauth.Redemption{}, used
				}
				return r, nil
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if !errors.Is(err, used) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if list, err := s.Sessions.List(t.Context(), a.ID); made != 1 || err != nil || len(list) != 1 {
		t.Errorf("%d redeemed it, sessions %v, %v", made, list, err)
	}
}

// testOAuthWaitingEnds: what ends all sessions of an account ends the codes that wait, and
// what was proven for other ones.
func testOAuthWaitingEnds(t *testing.T, s *Database) {
	t.Helper()
	for name, end := range map[string]func(*account.Account) error{
		"all": func(a *account.Account) error {
			_, err := s.Sessions.EndAll(t.Context(), a.ID, false, entry(account.EntryAllSignedOut))
			return err
		},
		"others": func(a *account.Account) error {
			_, _, err := s.Devices.EndAll(t.Context(), a.ID, 7, entry(account.EntryAllSignedOut))
			return err
		},
		"new": func(a *account.Account) error {
			return s.Accounts.SetPassword(t.Context(), a.ID, "new", 0, entry(account.EntryPasswordChanged))
		},
		"takedown": func(a *account.Account) error {
			_, err := s.Accounts.SetStatus(t.Context(), a.ID, account.StatusChange{Takedown: &account.Applied{Applied: true}}, entry(account.EntryTakedown))
			return err
		},
		"deleted": func(a *account.Account) error { return s.Accounts.Delete(t.Context(), a.ID, at(2)) },
	} {
		a, b := newAccount(t, s, name), newAccount(t, s, name+"-other")
		for _, id := range []string{"used", "waits"} {
			allowed(t, s, a, name+id)
		}
		allowed(t, s, b, name+"others")
		before := redemption(t, s, a, name)
		if _, err := s.OAuth.Redeem(t.Context(), name+"used", func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) { return before, nil }); err != nil {
			t.Fatal(err)
		}
		if err := end(a); err != nil {
			t.Fatal(err)
		}
		if _, err := s.OAuth.Request(t.Context(), name+"waits"); !errors.Is(err, oauth.ErrUnknown) {
			t.Errorf("%s: a code that waits survives: %v", name, err)
		}
		if _, err := s.OAuth.Request(t.Context(), name+"others"); err != nil {
			t.Errorf("%s: another's code: %v", name, err)
		}
		if _, err := s.OAuth.Request(t.Context(), name+"used"); (err == nil) != (name != "deleted") {
			t.Errorf("%s: a code that was used: %v", name, err) // so that nobody uses it again
		}
		// A decision that was on its way.
		push(t, s, pushed(name+"late"))
		late := before
		late.Challenge = []byte(name + "late")
		_, err := s.OAuth.Redeem(t.Context(), name+"late", func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) { return late, nil })
		if !errors.Is(err, session.ErrUnknown) {
			t.Errorf("%s: what was proven before it makes a session: %v", name, err)
		}
	}
}

// testOAuthRedeemEpoch: what the owner allowed before a new password is worth nothing.
func testOAuthRedeemEpoch(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	r := redemption(t, s, a, "challenge")
	if err := s.Accounts.SetPassword(t.Context(), a.ID, "new", 0, entry(account.EntryPasswordChanged)); err != nil {
		t.Fatal(err)
	}
	allowed(t, s, a, "one")
	_, err := s.OAuth.Redeem(t.Context(), "one", func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) { return r, nil })
	q, qerr := s.OAuth.Request(t.Context(), "one")
	k, kerr := s.OAuth.Consent(t.Context(), a.ID, aClient)
	if !errors.Is(err, session.ErrUnknown) || qerr != nil || q.SessionID != 0 || k != nil || kerr != nil {
		t.Errorf("%v; request %+v, %v; consent %+v, %v", err, q, qerr, k, kerr)
	}
}

func testOAuthConsents(t *testing.T, s *Database) {
	t.Helper()
	a, b := newAccount(t, s, "alice"), newAccount(t, s, "bob")
	remember := func(a *account.Account, n int, clientID string) {
		t.Helper()
		id := fmt.Sprint(a.ID, n)
		allowed(t, s, a, id)
		r := redemption(t, s, a, id)
		r.Consent.ClientID, r.Consent.UsedAt = clientID, at(n)
		if _, err := s.OAuth.Redeem(t.Context(), id, func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) { return r, nil }); err != nil {
			t.Fatal(err)
		}
	}
	remember(a, 1, "one")
	remember(a, 2, "two")
	remember(a, 3, "one")
	remember(b, 4, "one")
	all, err := s.OAuth.Consents(t.Context(), a.ID)
	if err != nil || len(all) != 2 || all[0].ClientID != "one" || !all[0].UsedAt.Equal(at(3)) || all[1].ClientID != "two" {
		t.Errorf("%+v, %v", all, err)
	}
	allowed(t, s, a, "waiting")
	if err := s.OAuth.Forget(t.Context(), a.ID, aClient); err != nil {
		t.Error(err)
	}
	if _, err := s.OAuth.Request(t.Context(), "waiting"); !errors.Is(err, oauth.ErrUnknown) {
		t.Errorf("a code that waits survives: %v", err)
	}
	for range 2 {
		if err := s.OAuth.Forget(t.Context(), a.ID, "one"); err != nil {
			t.Error(err)
		}
	}
	if k, err := s.OAuth.Consent(t.Context(), a.ID, "one"); k != nil || err != nil {
		t.Errorf("forgotten: %+v, %v", k, err)
	}
	if err := s.Accounts.SetPassword(t.Context(), a.ID, "new", 0, entry(account.EntryPasswordChanged)); err != nil {
		t.Fatal(err)
	}
	mine, err := s.OAuth.Consents(t.Context(), a.ID)
	others, oerr := s.OAuth.Consents(t.Context(), b.ID)
	if len(mine) != 0 || err != nil || len(others) != 1 || oerr != nil {
		t.Errorf("after a new password: %+v, %v; bob's %+v, %v", mine, err, others, oerr)
	}
}

func testOAuthCollect(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	for i := range 6 {
		q := pushed(fmt.Sprint(i))
		q.Expires = at(i)
		push(t, s, q)
	}
	allowed(t, s, a, "consent")
	r := redemption(t, s, a, "c")
	r.Consent.UsedAt = at(9)
	if _, err := s.OAuth.Redeem(t.Context(), "consent", func(oauth.Request, *oauth.Consent) (oauth.Redemption, error) { return r, nil }); err != nil {
		t.Fatal(err)
	}
	if n, err := s.OAuth.Collect(t.Context(), at(3), at(9)); err != nil || n != 3 {
		t.Errorf("collected %d, %v; want 3", n, err)
	}
	for i := range 6 {
		if _, err := s.OAuth.Request(t.Context(), fmt.Sprint(i)); (err == nil) != (i >= 3) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if n, err := s.OAuth.Collect(t.Context(), at(3), at(9).Add(time.Minute)); err != nil || n != 1 {
		t.Errorf("collected %d, %v; want the consent", n, err)
	}
}

// testOAuthGoneAccounts: a deleted account leaves neither requests nor consents.
func testOAuthGoneAccounts(t *testing.T, s *Database) {
	t.Helper()
	a := newAccount(t, s, "alice")
	allowed(t, s, a, "one")
	if err := s.Accounts.Delete(t.Context(), a.ID, at(9)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OAuth.Request(t.Context(), "one"); !errors.Is(err, oauth.ErrUnknown) {
		t.Errorf("%v", err)
	}
}
