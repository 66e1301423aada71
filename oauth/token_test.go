package oauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/oauth"
)

// TestTokens: the answer to a code, and to a refresh token.
func TestTokens(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	for _, id := range []string{publicID, confidentialID, trustedID} {
		a := w.app(id)
		got := a.granted("scope", "repo:com.example.post atproto include:app.bsky.authCreatePosts")
		for i := range 2 {
			if got.Status != http.StatusOK || got.text("token_type") != "DPoP" || got.Body["expires_in"] != 1500.0 ||
				got.text("sub") != w.alice.DID.String() || got.text("refresh_token") == "" || got.Header.Get("Pragma") != "no-cache" {
				t.Errorf("%s: %d %v", id, got.Status, got.Body)
			}
			scope := got.text("scope")
			if !strings.HasPrefix(scope, "atproto ") || strings.Contains(scope, "include:") || !strings.Contains(scope, "repo?") && !strings.Contains(scope, "app.bsky.feed.post") {
				t.Errorf("%s: scope %q", id, scope)
			}
			if i == 0 {
				got = a.refresh(got.text("refresh_token"))
			}
		}
		if !w.live(got.text("access_token")) {
			t.Errorf("%s: its session is not live", id)
		}
	}
	// A client whose document lacks the grant gets no refresh token.
	w.network.set(publicID, "grant_types", []string{"authorization_code"})
	w.clock.Advance(time.Hour)
	a := w.app(publicID)
	got := a.granted()
	if _, ok := got.Body["refresh_token"]; ok {
		t.Error("a refresh token for a client that takes none")
	}
	if got := a.refresh("x"); got.String() != "400 unauthorized_client: grant_types of the client metadata lacks refresh_token" {
		t.Errorf("refreshing all the same: %s", got)
	}
}

// TestLives: how long tokens and sessions live.
func TestLives(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	for id, c := range map[string]struct{ refresh, session time.Duration }{
		publicID: {14 * day, 14 * day}, trustedID: {90 * day, 730 * day}, confidentialID: {90 * day, 730 * day},
	} {
		got := w.app(id).granted()
		token, err := w.Keyring.VerifyOAuthRefresh(got.text("refresh_token"), issuer, w.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		_, st, err := w.Sessions.FindGrant(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		near := func(at time.Time, d time.Duration) bool { return at.Sub(w.clock.Now().Add(d)).Abs() < time.Minute }
		if !near(token.Expires, c.refresh) || !near(st.Grant.EndsAt, c.session) || !near(st.Expires, c.refresh) {
			t.Errorf("%s: refresh token until %s, session until %s (%s)", id, token.Expires, st.Grant.EndsAt, st.Expires)
		}
	}
	// A session ends when its time is over, however it is used.
	a := w.app(publicID)
	got := a.granted()
	for range 13 {
		w.clock.Advance(day)
		if got = a.refresh(got.text("refresh_token")); got.Status != http.StatusOK {
			t.Fatalf("%s", got)
		}
	}
	w.clock.Advance(day - 10*time.Minute)
	got = a.refresh(got.text("refresh_token"))
	if ttl, _ := got.Body["expires_in"].(float64); ttl < 590 || ttl > 600 {
		t.Errorf("ten minutes before the end: %s, expires_in %v", got, got.Body["expires_in"])
	}
	w.clock.Advance(10 * time.Minute)
	if got := a.refresh(got.text("refresh_token")); got.String() != "400 invalid_grant: Session has expired" {
		t.Errorf("at the end: %s", got)
	}
}

// TestTokenRequests: what is wrong with a request for tokens, whatever its grant.
func TestTokenRequests(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.Limits = nil
	a := w.app(publicID)
	const form = "application/x-www-form-urlencoded"
	if got := a.send(oauth.PathToken, form, "grant_type=refresh_token", ""); got.String() != "400 invalid_dpop_proof: DPoP proof required" {
		t.Errorf("no proof: %s", got)
	}
	proof := a.dpop.Proof(http.MethodPost, issuer+oauth.PathToken, "", "")
	if got := a.send(oauth.PathToken, form, "grant_type=refresh_token", proof); got.String() != "400 use_dpop_nonce: Authorization server requires nonce in DPoP proof" {
		t.Errorf("no nonce: %s", got)
	}
	for _, c := range []struct{ grant, want string }{
		{"", "400 invalid_request: grant_type is missing"},
		{"password", "400 unsupported_grant_type: grant_type must be authorization_code or refresh_token"},
		{"authorization_code", "400 invalid_grant: Invalid code"},
		{"refresh_token", "400 invalid_request: refresh_token is missing"},
	} {
		if got := a.post(oauth.PathToken, url.Values{"grant_type": {c.grant}, "client_id": {a.id}}); got.String() != c.want {
			t.Errorf("%q: %s, want %s", c.grant, got, c.want)
		}
	}
	access := a.granted().text("access_token")
	for name, token := range map[string]string{"garbage": "x", "an access token": access} {
		if got := a.refresh(token); got.String() != "400 invalid_grant: Invalid refresh token" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestCode is the contract's table of authorization_code.
func TestCode(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.Limits = nil
	for _, c := range []struct {
		name string
		do   func(a *app, code string) answer
		want string
	}{
		{"no code", func(a *app, _ string) answer { return a.redeem("") }, "Invalid code"},
		{"garbage", func(a *app, code string) answer { return a.redeem(strings.Repeat("x", len(code))) }, "Invalid code"},
		{"another MAC", func(a *app, code string) answer { return a.redeem(code[:len(code)-2] + "AA") }, "Invalid code"},
		{"another client", func(a *app, code string) answer {
			return w.app(trustedID).redeem(code, "redirect_uri", a.redirect())
		}, "This code was issued to another client, or to another key of it"},
		{"another redirect_uri", func(a *app, code string) answer { return a.redeem(code, "redirect_uri", a.redirect()+"?x") }, "redirect_uri is not that of the request"},
		{"no redirect_uri", func(a *app, code string) answer { return a.redeem(code, "redirect_uri", "") }, "redirect_uri is not that of the request"},
		{"another verifier", func(a *app, code string) answer { return a.redeem(code, "code_verifier", verifier+"x") }, "code_verifier is not that of code_challenge"},
		{"short verifier", func(a *app, code string) answer { return a.redeem(code, "code_verifier", "abc") }, "code_verifier must have 43 to 128 characters of A-Z a-z 0-9 - . _ ~"},
		{"another key", func(a *app, code string) answer { return w.app(a.id).redeem(code) }, "The request was bound to another DPoP key"},
		{"too late", func(a *app, code string) answer { w.clock.Advance(5 * time.Minute); return a.redeem(code) }, "This code has expired"},
		{"new password", func(a *app, code string) answer {
			if err := w.World.Accounts.SetPassword(t.Context(), w.alice.ID, "new", 0, account.Entry{At: w.clock.Now(), Kind: account.EntryPasswordChanged}); err != nil {
				t.Fatal(err)
			}
			return a.redeem(code)
		}, "Invalid code"},
		{"signed out everywhere", func(a *app, code string) answer {
			if _, err := w.Sessions.RevokeAll(t.Context(), w.alice.DID, false, account.ActorOwner); err != nil {
				t.Fatal(err)
			}
			return a.redeem(code)
		}, "Invalid code"},
		{"taken down", func(a *app, code string) answer {
			w.takedown(true)
			defer w.takedown(false)
			return a.redeem(code)
		}, "Invalid code"},
	} {
		a := w.app(publicID)
		uri, _ := a.push()
		code := a.allow(uri, "").Get("code")
		if got := c.do(a, code); got.String() != "400 invalid_grant: "+c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
	if list, err := w.World.Sessions.List(t.Context(), w.alice.ID); err != nil || len(list) != 0 {
		t.Errorf("sessions %v, %v", list, err)
	}
	// None of them has consumed anything: a code that was shown wrongly works.
	a := w.app(publicID)
	code := a.code()
	a.redeem(code, "code_verifier", verifier+"x")
	if got := a.redeem(code); got.Status != http.StatusOK {
		t.Errorf("after a wrong verifier: %s", got)
	}
	// A challenge is good for one code.
	if got := a.redeem(a.code()); got.String() != "400 invalid_grant: code_challenge was used before" {
		t.Errorf("its challenge again: %s", got)
	}
}

func (w *world) takedown(applied bool) {
	w.t.Helper()
	kind := account.EntryTakedown
	if !applied {
		kind = account.EntryTakedownLifted
	}
	change := account.StatusChange{Takedown: &account.Applied{Applied: applied}}
	if _, err := w.World.Accounts.SetStatus(w.t.Context(), w.alice.ID, change, account.Entry{At: w.clock.Now(), Kind: kind, By: account.ActorAdmin}); err != nil {
		w.t.Fatal(err)
	}
}

// TestCodeReplayed: a code that is used a second time.
func TestCodeReplayed(t *testing.T) {
	t.Parallel()
	const replayed = "400 invalid_grant: Invalid code"
	for _, c := range []struct {
		name string
		do   func(w *world, a *app, code string) answer
		want string
		ends bool
	}{
		{"at once, by the same key", func(_ *world, a *app, code string) answer { return a.redeem(code) }, replayed, false},
		{"late, by the same key", func(w *world, a *app, code string) answer { w.clock.Advance(time.Minute); return a.redeem(code) }, replayed, true},
		{"at once, by another key", func(w *world, a *app, code string) answer { return w.app(a.id).redeem(code) }, replayed, true},
		{"late, with a wrong verifier", func(w *world, a *app, code string) answer {
			w.clock.Advance(time.Hour)
			return a.redeem(code, "code_verifier", verifier+"x")
		}, "400 invalid_grant: code_verifier is not that of code_challenge", false},
		{"late, by another client", func(w *world, a *app, code string) answer {
			w.clock.Advance(time.Hour)
			return w.app(trustedID).redeem(code, "redirect_uri", a.redirect())
		}, "400 invalid_grant: This code was issued to another client, or to another key of it", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newTestWorld(t)
			w.confirmEmail()
			a := w.app(publicID)
			code := a.code()
			got := a.redeem(code)
			if got.Status != http.StatusOK {
				t.Fatal(got)
			}
			if again := c.do(w, a, code); again.String() != c.want {
				t.Errorf("%s, want %s", again, c.want)
			}
			list, err := w.World.Sessions.List(t.Context(), w.alice.ID)
			if err != nil || len(list) == 1 == c.ends {
				t.Errorf("sessions %v, %v; should have ended: %t", list, err, c.ends)
			}
			if n := w.trail(account.EntryCodeReplayed); n == 1 != c.ends {
				t.Errorf("%d entries", n)
			}
			if n := w.mails(string(mail.NoticeReplay)); n == 1 != c.ends {
				t.Errorf("%d mails", n)
			}
		})
	}
}

// confirmEmail lets alice get notices.
func (w *world) confirmEmail() {
	w.t.Helper()
	at := w.clock.Now()
	code := account.Code{Purpose: account.PurposeConfirmEmail, Hash: []byte("c"), MadeAt: at, Expires: at.Add(account.CodeLife)}
	err := w.Codes.SetCode(w.t.Context(), w.alice.ID, code, mail.Message{To: w.alice.Email, Subject: "code", Text: "x", HTML: "x"})
	if err == nil {
		proof := account.Proof{AccountID: w.alice.ID, Purpose: code.Purpose, Hash: code.Hash}
		err = w.World.Accounts.ConfirmEmail(w.t.Context(), proof, account.Entry{At: at, Kind: account.EntryEmailConfirmed, By: account.ActorOwner})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if w.alice, err = w.World.Accounts.ByDID(w.t.Context(), w.alice.DID); err != nil {
		w.t.Fatal(err)
	}
}

// mails returns how many notices of a kind wait for alice.
func (w *world) mails(kind string) (n int) {
	w.t.Helper()
	subject := map[string]string{
		string(mail.NoticeReplay): "The access of an app to your account was ended", string(mail.NoticeTheft): "A token of an app was used elsewhere",
		string(mail.NoticeApp): "An app got access to your account",
	}[kind]
	due, err := w.Outbox.Due(w.t.Context(), w.clock.Now(), 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range due {
		if m.Subject == subject {
			n++
		}
	}
	return n
}

// TestAssertions: an assertion is used up by a request that is right, and by no other.
func TestAssertions(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a := w.app(confidentialID)
	code := a.code()
	assertion := func() string { return a.key.Assertion(a.kid, a.id, issuer, a.clock.Now()) }
	one := assertion()
	with := []string{"client_assertion", one, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
	if got := a.redeem(code, append(with, "code_verifier", verifier+"x")...); got.Error != "invalid_grant" {
		t.Fatal(got)
	}
	got := a.redeem(code, with...)
	if got.Status != http.StatusOK {
		t.Errorf("with a request that was wrong before: %s", got)
	}
	if again := a.post(oauth.PathToken, url.Values{
		"grant_type": {"refresh_token"}, "client_id": {a.id}, "refresh_token": {got.text("refresh_token")},
		"client_assertion": {one}, "client_assertion_type": {with[3]},
	}); again.String() != "400 invalid_client: client_assertion: its jti was used before" {
		t.Errorf("again: %s", again)
	}
	if next := a.refresh(got.text("refresh_token")); next.Status != http.StatusOK {
		t.Errorf("with another: %s", next)
	}
}

// TestRevoke: any token ends the whole session, and what is not the client's is left alone.
func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a, other := w.app(publicID), w.app(trustedID)
	got := a.granted()
	for _, token := range []string{"garbage", got.text("access_token") + "x"} {
		if r := a.revoke(token); r.Status != http.StatusOK || len(r.Body) != 0 {
			t.Errorf("%s", r)
		}
	}
	if r := other.revoke(got.text("refresh_token")); r.Status != http.StatusOK || !w.live(got.text("access_token")) {
		t.Errorf("by another client: %s", r)
	}
	if r := a.revoke(""); r.String() != "400 invalid_request: token is missing" {
		t.Errorf("none: %s", r)
	}
	w.clock.Advance(time.Hour) // the access token has expired
	if r := a.revoke(got.text("access_token")); r.Status != http.StatusOK {
		t.Errorf("%s", r)
	}
	if w.liveSessions() != 0 {
		t.Error("the session lives on")
	}
	if r := a.revoke(got.text("refresh_token")); r.Status != http.StatusOK {
		t.Errorf("again: %s", r)
	}
	c := w.app(confidentialID)
	got = c.granted()
	form := url.Values{"client_id": {c.id}, "token": {got.text("refresh_token")}, "client_assertion": {"x.y.z"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}
	if r := c.send(oauth.PathRevoke, "application/x-www-form-urlencoded", form.Encode(), ""); r.Error != "invalid_client" || !w.live(got.text("access_token")) {
		t.Errorf("a client that does not prove itself: %s", r)
	}
	if r := c.revoke(got.text("access_token")); r.Status != http.StatusOK || w.live(got.text("access_token")) {
		t.Errorf("%s", r)
	}
}

// TestAppAuthorized: a client that is allowed in for the first time is mailed about.
func TestAppAuthorized(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.confirmEmail()
	a := w.app(publicID)
	a.granted()
	a.granted()
	w.app(trustedID).granted()
	if n := w.trail(account.EntryAppAuthorized); n != 3 {
		t.Errorf("%d entries, want 3", n)
	}
	if n := w.mails(string(mail.NoticeApp)); n != 2 {
		t.Errorf("%d mails, want one for each client", n)
	}
	entries, err := w.World.Accounts.Trail(context.Background(), w.alice.ID, 1)
	if err != nil || entries[0].Reason != trustedID || !strings.HasPrefix(entries[0].UserAgent, "Mozilla") || entries[0].Network != "198.51.100.1" {
		t.Errorf("%+v, %v", entries, err)
	}
}

// TestConsentRemembered: what was allowed is remembered, and what was unticked is not.
func TestConsentRemembered(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	remembered := func(id string) string {
		t.Helper()
		k, err := w.World.OAuth.Consent(t.Context(), w.alice.ID, id)
		if err != nil {
			t.Fatal(err)
		}
		if k == nil {
			return ""
		}
		return k.Scopes
	}
	grant := func(a *app, asked, granted, v string) {
		t.Helper()
		uri, got := a.push("scope", asked, "code_challenge", challenge(v))
		if got.Status != http.StatusCreated {
			t.Fatal(got)
		}
		if got := a.redeem(a.allow(uri, granted).Get("code"), "code_verifier", v); got.Status != http.StatusOK {
			t.Fatal(got)
		}
	}
	grant(w.app(publicID), "atproto", "atproto", verifier+"0")
	if got := remembered(publicID); got != "" {
		t.Errorf("a public client: %q", got)
	}
	a := w.app(confidentialID)
	grant(a, "atproto repo:com.example.post repo:com.example.like", "atproto repo:com.example.post", verifier+"1")
	if got := remembered(confidentialID); got != "atproto repo:com.example.post" {
		t.Errorf("what was unticked: %q", got)
	}
	grant(a, "atproto repo:com.example.like", "atproto repo:com.example.like", verifier+"2")
	if got := remembered(confidentialID); got != "atproto repo:com.example.like repo:com.example.post" && got != "atproto repo:com.example.post repo:com.example.like" {
		t.Errorf("what was allowed later: %q", got)
	}
	grant(a, "atproto repo:com.example.post", "atproto", verifier+"3")
	if got := remembered(confidentialID); got != "atproto repo:com.example.like" {
		t.Errorf("what was taken back: %q", got)
	}
}

// TestConsentNarrowed: what was unticked is forgotten at once, by what it means, whether or
// not the app exchanges its code, and no older code brings it back.
func TestConsentNarrowed(t *testing.T) {
	t.Parallel()
	const all = "atproto repo:* repo:com.example.post repo:com.example.like transition:generic identity:handle account:email include:app.bsky.authCreatePosts"
	for name, c := range map[string]struct{ before, asked, granted, want string }{
		"itself":           {"atproto repo:com.example.post identity:handle", "atproto repo:com.example.post", "atproto", "atproto identity:handle"},
		"a wider one":      {"atproto repo:* identity:handle", "atproto repo:com.example.post", "atproto", "atproto identity:handle"},
		"a narrower one":   {"atproto repo:com.example.post identity:handle", "atproto repo:*", "atproto", "atproto identity:handle"},
		"nearly all":       {"atproto transition:generic", "atproto repo:com.example.post", "atproto", "atproto"},
		"a set":            {"atproto include:app.bsky.authCreatePosts account:email", "atproto repo:*", "atproto", "atproto account:email"},
		"others":           {"atproto repo:com.example.like account:email", "atproto repo:com.example.post", "atproto", "atproto account:email repo:com.example.like"},
		"all of it ticked": {"atproto repo:com.example.like", "atproto repo:com.example.post", "atproto repo:com.example.post", "atproto repo:com.example.like"},
	} {
		w := newTestWorld(t)
		w.network.set(confidentialID, "scope", all)
		a, n := w.app(confidentialID), 0
		decide := func(asked, granted string) (redeem func()) {
			t.Helper()
			n++
			v := fmt.Sprint(verifier, n)
			w.clock.Advance(time.Second)
			uri, got := a.push("scope", asked, "code_challenge", challenge(v))
			if got.Status != http.StatusCreated {
				t.Fatalf("%s: %s", name, got)
			}
			code := a.allow(uri, granted).Get("code")
			return func() {
				t.Helper()
				if got := a.redeem(code, "code_verifier", v); got.Status != http.StatusOK {
					t.Fatalf("%s: %s", name, got)
				}
			}
		}
		remembered := func(when string) {
			t.Helper()
			k, err := w.World.OAuth.Consent(t.Context(), w.alice.ID, confidentialID)
			if err != nil || k == nil || k.Scopes != c.want {
				t.Errorf("%s, %s: %+v, %v; want %q", name, when, k, err, c.want)
			}
		}
		decide(c.before, c.before)()
		older := decide(c.before, c.before)
		redeem := decide(c.asked, c.granted)
		remembered("before the code is exchanged")
		if c.asked == c.granted {
			continue
		}
		older()
		remembered("after an older code")
		redeem()
		remembered("after the code")
	}
}

// TestConsentNarrowedFirst: what was unticked is not remembered by way of an older code where
// nothing was remembered yet.
func TestConsentNarrowedFirst(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a := w.app(confidentialID)
	older, v := a.code(), verifier
	w.clock.Advance(time.Second)
	uri, _ := a.push("code_challenge", challenge(verifier+"2"))
	a.allow(uri, "atproto")
	if got := a.redeem(older, "code_verifier", v); got.Status != http.StatusOK {
		t.Fatal(got)
	}
	if k, err := w.World.OAuth.Consent(t.Context(), w.alice.ID, confidentialID); err != nil || k == nil || k.Scopes != "" {
		t.Errorf("%+v, %v", k, err)
	}
}

// TestLimits: a client that is right is never kept out by those that are not.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	a := w.app(publicID)
	got := a.granted()
	for range 60 {
		if r := a.refresh("garbage"); r.Error != "invalid_grant" {
			t.Fatal(r)
		}
	}
	if r := a.refresh("garbage"); r.String() != "429 temporarily_unavailable: Too many requests" {
		t.Errorf("one too many: %s", r)
	}
	for i := range 120 {
		if got = a.refresh(got.text("refresh_token")); got.Status != http.StatusOK {
			t.Fatalf("refresh %d: %s", i, got)
		}
	}
	if r := a.refresh(got.text("refresh_token")); r.Status != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
		t.Errorf("more than 120 of a session: %s", r)
	}
	w.clock.Advance(5 * time.Minute)
	if r := a.refresh(got.text("refresh_token")); r.Status != http.StatusOK {
		t.Errorf("five minutes later: %s", r)
	}
}
