package auth_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/auth"
)

const oauthIssuer = "https://pds.test"

func oauthIssue(now time.Time) auth.OAuthIssue {
	return auth.OAuthIssue{
		Issuer: oauthIssuer, Audience: "did:web:pds.test", DID: "did:plc:alice", ClientID: "https://app.example.com/c.json", SID: "1-nonce", JTI: "1-nonce.4",
		JKT: "thumbprint", Now: now, AccessExpires: now.Add(25 * time.Minute), RefreshExpires: now.Add(14 * 24 * time.Hour),
	}
}

// TestOAuthTokens: each of the four kinds of token is its own kind alone.
func TestOAuthTokens(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	keys, err := auth.OpenKeyring(filepath.Join(t.TempDir(), "keyring.json"), "", func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	i := oauthIssue(now)
	pair, err := keys.MintOAuth(i)
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := keys.MintPair(auth.Issue{
		Audience: i.Audience, DID: i.DID, Scope: auth.ScopeAccess, SID: i.SID, JTI: i.JTI, Now: now, AccessTTL: time.Hour, RefreshTTL: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	access := func(token string) error {
		_, err := keys.VerifyOAuthAccess(token, oauthIssuer, i.Audience, now)
		return err
	}
	refresh := func(token string) error { _, err := keys.VerifyOAuthRefresh(token, oauthIssuer, now); return err }
	ending := func(token string) error { _, err := keys.VerifyOAuthEnding(token, oauthIssuer, i.Audience); return err }
	oldAccess := func(token string) error {
		_, err := keys.VerifyAccess(token, i.Audience, now, auth.ScopeAccess)
		return err
	}
	oldRefresh := func(token string) error {
		_, err := keys.VerifyRefresh(token, i.Audience, now, false)
		return err
	}
	for name, c := range map[string]struct {
		token  string
		verify []func(string) error // those that take it
	}{
		"OAuth access": {pair.Access, []func(string) error{access, ending}}, "OAuth refresh": {pair.Refresh, []func(string) error{refresh, ending}},
		"access": {legacy.Access, []func(string) error{oldAccess}}, "refresh": {legacy.Refresh, []func(string) error{oldRefresh}},
	} {
		taken := 0
		for _, verify := range []func(string) error{access, refresh, ending, oldAccess, oldRefresh} {
			if verify(c.token) == nil {
				taken++
			}
			for at := range []int{0, 40, len(c.token) - 5} {
				if changed := c.token[:at] + flip(c.token[at:at+1]) + c.token[at+1:]; verify(changed) == nil {
					t.Errorf("%s: taken after byte %d was changed", name, at)
				}
			}
		}
		for n, verify := range c.verify {
			if err := verify(c.token); err != nil {
				t.Errorf("%s: %d: %v", name, n, err)
			}
		}
		if taken != len(c.verify) {
			t.Errorf("%s: taken by %d, want %d", name, taken, len(c.verify))
		}
		if auth.IsOAuth(c.token) != (name == "OAuth access") {
			t.Errorf("%s: IsOAuth is wrong", name)
		}
	}
}

func flip(s string) string {
	if s == "A" {
		return "B"
	}
	return "A"
}

// TestOAuthTokenContent: what tokens say, for whom, and for how long.
func TestOAuthTokenContent(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	keys, err := auth.OpenKeyring(filepath.Join(t.TempDir(), "keyring.json"), "", func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	i := oauthIssue(now)
	pair, err := keys.MintOAuth(i)
	if err != nil {
		t.Fatal(err)
	}
	want := auth.OAuthToken{DID: i.DID, ClientID: i.ClientID, SID: i.SID, IssuedAt: now, Expires: i.AccessExpires, JKT: i.JKT}
	got, err := keys.VerifyOAuthAccess(pair.Access, oauthIssuer, i.Audience, now)
	if want.JTI = got.JTI; err != nil || got != want || len(got.JTI) < 16 {
		t.Errorf("access %+v, %v", got, err)
	}
	again, _ := keys.MintOAuth(i)
	if other, _ := keys.VerifyOAuthAccess(again.Access, oauthIssuer, i.Audience, now); other.JTI == got.JTI {
		t.Error("two access tokens have one jti")
	}
	if again.Refresh != pair.Refresh {
		t.Error("the refresh token of a generation is another one the second time")
	}
	want = auth.OAuthToken{DID: i.DID, ClientID: i.ClientID, SID: i.SID, JTI: i.JTI, IssuedAt: now, Expires: i.RefreshExpires}
	if got, err := keys.VerifyOAuthRefresh(pair.Refresh, oauthIssuer, now); err != nil || got != want {
		t.Errorf("refresh %+v, %v", got, err)
	}
	if strings.Contains(pair.Access, "c2NvcGU") {
		t.Error("a scope in an access token")
	}
	for name, c := range map[string]struct {
		issuer, audience string
		now              time.Time
		access, refresh  error
	}{
		"another issuer":   {"https://other.test", i.Audience, now, auth.ErrOAuthInvalid, auth.ErrOAuthInvalid},
		"another audience": {oauthIssuer, "did:web:other.test", now, auth.ErrOAuthInvalid, nil},
		"the last second":  {oauthIssuer, i.Audience, i.AccessExpires.Add(-time.Second), nil, nil},
		"access expired":   {oauthIssuer, i.Audience, i.AccessExpires, auth.ErrOAuthExpired, nil},
		"both expired":     {oauthIssuer, i.Audience, i.RefreshExpires, auth.ErrOAuthExpired, auth.ErrOAuthExpired},
	} {
		if _, err := keys.VerifyOAuthAccess(pair.Access, c.issuer, c.audience, c.now); err != c.access { //nolint:errorlint // they are never wrapped
			t.Errorf("%s: access %v, want %v", name, err, c.access)
		}
		if _, err := keys.VerifyOAuthRefresh(pair.Refresh, c.issuer, c.now); err != c.refresh { //nolint:errorlint // they are never wrapped
			t.Errorf("%s: refresh %v, want %v", name, err, c.refresh)
		}
	}
	if _, err := keys.Rotate(); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.VerifyOAuthRefresh(pair.Refresh, oauthIssuer, now); err != nil {
		t.Errorf("after a rotation of the keys: %v", err)
	}
}

// TestInheritedOAuthAccess: what the reference issued to OAuth clients before its key came here
// is taken for an OAuth access token, and for nothing else.
func TestInheritedOAuthAccess(t *testing.T) {
	t.Parallel()
	came := noon()
	k := openRing(t, filepath.Join(t.TempDir(), "keys.json"), secret)
	header := object{"typ": "at+jwt", "alg": "HS256"}
	claims := object{
		"jti": "tok-0123456789abcdef0123456789abcdef", "sub": "did:plc:alice", "iat": came.Add(-time.Minute).Unix(),
		"exp": came.Add(59 * time.Minute).Unix(), "aud": "did:web:pds.test", "cnf": object{"jkt": "thumbprint"},
		"client_id": "https://app.example.com/c.json", "iss": oauthIssuer,
	}
	verify := func(token string, at time.Time) (auth.OAuthToken, error) {
		return k.VerifyOAuthAccess(token, oauthIssuer, "did:web:pds.test", at)
	}
	good := forge(t, secret, header, claims)
	got, err := verify(good, came)
	if err != nil || got.SID != "" || got.JTI != claims["jti"] || got.JKT != "thumbprint" || got.ClientID != claims["client_id"] {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := verify(good, came.Add(59*time.Minute)); !errors.Is(err, auth.ErrOAuthExpired) {
		t.Errorf("expired: %v", err)
	}
	if _, err := k.VerifyOAuthEnding(good, oauthIssuer, "did:web:pds.test"); err != nil {
		t.Errorf("to end its session: %v", err)
	}
	if _, err := k.VerifyAccess(good, "did:web:pds.test", came, auth.ScopeAccess); err == nil {
		t.Error("it is taken as a session's")
	}
	if _, err := k.VerifyOAuthRefresh(good, oauthIssuer, came); err == nil {
		t.Error("it is taken as a refresh token")
	}
	for name, token := range map[string]string{
		"issued afterwards":     forge(t, secret, header, claims.with(object{"iat": came.Add(time.Second).Unix()})),
		"too long a life":       forge(t, secret, header, claims.with(object{"exp": came.Add(2 * time.Hour).Unix()})),
		"another secret":        forge(t, secret+"x", header, claims),
		"no proof of key":       forge(t, secret, header, claims.with(object{"cnf": nil})),
		"an empty key":          forge(t, secret, header, claims.with(object{"cnf": object{"jkt": ""}})),
		"another server":        forge(t, secret, header, claims.with(object{"iss": "https://other.test"})),
		"for another server":    forge(t, secret, header, claims.with(object{"aud": "did:web:other.test"})),
		"no client":             forge(t, secret, header, claims.with(object{"client_id": ""})),
		"names a session":       forge(t, secret, header, claims.with(object{"sid": "1-nonce"})),
		"no name":               forge(t, secret, header, claims.with(object{"jti": ""})),
		"a refresh token's":     forge(t, secret, object{"typ": "refresh+jwt", "alg": "HS256"}, claims),
		"without a signature":   strings.TrimRight(good, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
		"of a key that is ours": forge(t, secret, header.with(object{"kid": "k-1"}), claims),
	} {
		if _, err := verify(token, came); !errors.Is(err, auth.ErrOAuthInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
