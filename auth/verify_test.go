package auth_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/auth"
	"nestbox/firehose/event"
)

// row is a token, and what a route that accepts its kind answers. If refused is the
// zero fault the token is good.
type row struct {
	name    string
	token   string
	refused fault
}

// both returns the rows that access and refresh tokens share: header and claims are
// those of a good token of the kind.
func both(t *testing.T, header, claims object) []row {
	t.Helper()
	good := forge(t, secret, header, claims)
	parts := strings.Split(good, ".")
	last := good[len(good)-1]
	padded := parts[0] + "." + parts[1] + "." + parts[2] + "="
	sign := func(h, c any) string { return forge(t, secret, h, c) }
	old := noon().Add(-time.Second).Unix()
	typ, _ := header["typ"].(string)
	twice := func(o object, member string) raw {
		text, _ := base64.RawURLEncoding.DecodeString(encode(t, o))
		return raw(strings.Replace(string(text), "{", "{"+member+",", 1))
	}
	return []row{
		{"good", good, fault{}},
		{"typ in capitals", sign(header.with(object{"typ": strings.ToUpper(typ)}), claims), fault{}},
		{"typ with application/", sign(header.with(object{"typ": "application/" + typ}), claims), fault{}},
		{"typ with Application/", sign(header.with(object{"typ": "Application/" + typ}), claims), fault{}},
		{"unknown members", sign(header.with(object{"x": []any{1}}), claims.with(object{"x": object{"y": nil}})), fault{}},

		{"garbage", "garbage", unverified},
		{"two dots alone", "..", unverified},
		{"four parts", good + ".", unverified},
		{"two parts", parts[0] + "." + parts[1], unverified},
		{"no signature", parts[0] + "." + parts[1] + ".", unverified},
		{"short signature", good[:len(good)-2], unverified},
		{"padded signature", padded, unverified},
		{"other trailing bits in the signature", good[:len(good)-1] + string(sibling(last)), unverified},
		{"standard alphabet", parts[0] + "." + parts[1] + "." + strings.Repeat("+/", 21) + "A", unverified},
		{"tampered claims", parts[0] + "." + encode(t, claims.with(object{"sub": "did:plc:mallory"})) + "." + parts[2], unverified},
		{"padded claims", parts[0] + "." + parts[1] + "=." + parts[2], unverified},
		{"wrong secret", forge(t, "another secret", header, claims), unverified},
		{"empty secret", forge(t, "", header, claims), unverified},
		{"very long", good + strings.Repeat("A", 1<<20), unverified},
		{"very long and signed", sign(header, claims.with(object{"x": strings.Repeat("x", 8<<10)})), unverified},

		{"alg none", parts[0] + "." + parts[1] + ".", unverified},
		{"alg none, unsigned", encode(t, header.with(object{"alg": "none"})) + "." + parts[1] + ".", unverified},
		{"alg none, signed", sign(header.with(object{"alg": "none"}), claims), unverified},
		{"alg HS512", forge512(t, header.with(object{"alg": "HS512"}), claims), unverified},
		{"alg HS256 signed as HS512", forge512(t, header, claims), unverified},
		{"alg HS512 signed as HS256", sign(header.with(object{"alg": "HS512"}), claims), unverified},
		{"alg RS256", sign(header.with(object{"alg": "RS256"}), claims), unverified},
		{"alg ES256K", sign(header.with(object{"alg": "ES256K"}), claims), unverified},
		{"alg in small letters", sign(header.with(object{"alg": "hs256"}), claims), unverified},
		{"alg missing", sign(header.with(object{"alg": nil}), claims), unverified},
		{"alg no string", sign(header.with(object{"alg": []string{"HS256"}}), claims), unverified},
		{"alg twice", sign(twice(header, `"alg":"none"`), claims), unverified},
		{"typ twice", sign(twice(header, `"typ":"JWT"`), claims), unverified},
		{"typ missing", sign(header.with(object{"typ": nil}), claims), unverified},
		{"typ JWT", sign(header.with(object{"typ": "JWT"}), claims), unverified},
		{"typ no string", sign(header.with(object{"typ": 1}), claims), unverified},
		{"typ with application/ twice", sign(header.with(object{"typ": "application/application/" + typ}), claims), unverified},
		{"crit", sign(header.with(object{"crit": []string{"b64"}, "b64": false}), claims), unverified},
		{"kid of no key", sign(header.with(object{"kid": "k-unknown"}), claims), unverified},
		{"kid empty", sign(header.with(object{"kid": ""}), claims), unverified},
		{"kid null", sign(header.with(object{"kid": raw("null")}), claims), unverified},
		{"kid no string", sign(header.with(object{"kid": 7}), claims), unverified},
		{"header no object", sign(raw(`"HS256"`), claims), unverified},
		{"header with more behind it", sign(raw(`{"typ":"`+typ+`","alg":"HS256"} {}`), claims), unverified},

		{"aud of another server", sign(header, claims.with(object{"aud": "did:web:other.test"})), unverified},
		{"aud missing", sign(header, claims.with(object{"aud": nil})), unverified},
		{"aud array", sign(header, claims.with(object{"aud": []string{audience}})), malformed},
		{"aud null", sign(header, claims.with(object{"aud": raw("null")})), malformed},
		{"claims no object", sign(header, raw(`[]`)), unverified},
		{"claims null", sign(header, raw(`null`)), unverified},
		{"claims with a member twice", sign(header, twice(claims, `"sub":"did:plc:mallory"`)), unverified},
		{"claims not UTF-8", sign(header, twice(claims, "\"x\":\"\xff\"")), unverified},
		{"claims of another letter case", sign(header, claims.with(object{"aud": nil, "AUD": audience})), unverified},

		{"nbf in the future", sign(header, claims.with(object{"nbf": noon().Unix() + 1})), unverified},
		{"nbf now", sign(header, claims.with(object{"nbf": noon().Unix()})), fault{}},
		{"nbf a fraction", sign(header, claims.with(object{"nbf": 1.5})), fault{}},
		{"nbf a string", sign(header, claims.with(object{"nbf": "0"})), unverified},
		{"nbf huge", sign(header, claims.with(object{"nbf": raw("1e400")})), unverified},
		{"nbf in the future before exp", sign(header, claims.with(object{"nbf": noon().Unix() + 1, "exp": old})), unverified},
		{"exp missing", sign(header, claims.with(object{"exp": nil})), unverified},
		{"exp null", sign(header, claims.with(object{"exp": raw("null")})), unverified},
		{"exp a string", sign(header, claims.with(object{"exp": "99999999999"})), unverified},
		{"exp true", sign(header, claims.with(object{"exp": true})), unverified},
		{"exp negative", sign(header, claims.with(object{"exp": -1})), unverified},
		{"exp huge", sign(header, claims.with(object{"exp": raw("1e300")})), unverified},
		{"exp more than a float", sign(header, claims.with(object{"exp": raw("1e400")})), unverified},
		{"exp a fraction", sign(header, claims.with(object{"exp": float64(noon().Unix()) + 1.5})), fault{}},
		{"iat a string", sign(header, claims.with(object{"iat": "now"})), unverified},
		{"iat missing", sign(header, claims.with(object{"iat": nil})), fault{}},

		{"sub no DID", sign(header, claims.with(object{"sub": "alice.test"})), malformed},
		{"sub missing", sign(header, claims.with(object{"sub": nil})), malformed},
		{"sub no string", sign(header, claims.with(object{"sub": 1})), malformed},
		{"sid no string", sign(header, claims.with(object{"sid": 1})), malformed},
		{"jti no string", sign(header, claims.with(object{"jti": 1})), malformed},
		{"jti null", sign(header, claims.with(object{"jti": raw("null")})), malformed},
		{"lxm", sign(header, claims.with(object{"lxm": "com.atproto.server.createAccount"})), malformed},
		{"cnf", sign(header, claims.with(object{"cnf": object{"jkt": "x"}})), malformed},

		{"scope missing", sign(header, claims.with(object{"scope": nil})), badScope},
		{"scope unknown", sign(header, claims.with(object{"scope": "com.atproto.everything"})), badScope},
		{"scope no string", sign(header, claims.with(object{"scope": []string{"com.atproto.access", "com.atproto.refresh"}})), badScope},
		{"scope in capitals", sign(header, claims.with(object{"scope": "COM.ATPROTO.ACCESS"})), badScope},

		// Signature, typ and aud come before exp, exp before scope.
		{"expired and wrong secret", forge(t, "another secret", header, claims.with(object{"exp": old})), unverified},
		{"expired and wrong typ", sign(header.with(object{"typ": "JWT"}), claims.with(object{"exp": old})), unverified},
		{"expired and wrong aud", sign(header, claims.with(object{"exp": old, "aud": "did:web:other.test"})), unverified},
		{"expired and aud array", sign(header, claims.with(object{"exp": old, "aud": []string{audience}})), malformed},
	}
}

// expiredRows returns the shared rows of expiry, which ending a session ignores.
func expiredRows(t *testing.T, header, claims object) []row {
	t.Helper()
	old := claims.with(object{"exp": noon().Add(-time.Second).Unix()})
	return []row{
		{"expired", forge(t, secret, header, old), expired},
		{"expired this second", forge(t, secret, header, claims.with(object{"exp": noon().Unix()})), expired},
		{"expired and bad scope", forge(t, secret, header, old.with(object{"scope": "x"})), expired},
		{"expired long ago", forge(t, secret, header, claims.with(object{"exp": 0})), expired},
	}
}

// sibling returns another letter of base64url that has the same first four bits: in
// the last letter of 32 bytes two bits are unused.
func sibling(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

func TestRefresh(t *testing.T) {
	v := verifier(t)
	pair := mint(t, v.Keyring)
	rows := append(both(t, refreshHeader(), refreshClaims()), expiredRows(t, refreshHeader(), refreshClaims())...)
	rows = append(rows,
		row{"minted", pair.Refresh, fault{}},
		row{"an access token", pair.Access, unverified},
		row{"a service token", forge(t, secret, object{"typ": "JWT", "alg": "ES256K"}, object{"iss": alice, "aud": audience, "lxm": "a.b.c", "exp": noon().Unix() + 60}), unverified},
		row{"access scope", forge(t, secret, refreshHeader(), refreshClaims().with(object{"scope": "com.atproto.access"})), badScope},
		row{"no jti", forge(t, secret, refreshHeader(), refreshClaims().with(object{"jti": nil})), noTokenID},
		row{"jti empty", forge(t, secret, refreshHeader(), refreshClaims().with(object{"jti": ""})), noTokenID},
		row{"no jti and expired", forge(t, secret, refreshHeader(), refreshClaims().with(object{"jti": nil, "exp": 1})), expired},
		row{"no jti and bad scope", forge(t, secret, refreshHeader(), refreshClaims().with(object{"jti": nil, "scope": "x"})), badScope},
	)
	for _, c := range rows {
		caller, err := v.Refresh(t.Context(), bearing(t, "Bearer "+c.token))
		if got := faultOf(t, err); got != c.refused {
			t.Errorf("%s: got %v, want %v", c.name, got, c.refused)
		}
		if good := err == nil && caller.Token.DID == alice; good != (c.refused == fault{}) {
			t.Errorf("%s: caller %+v", c.name, caller)
		}
	}
	caller, err := v.Refresh(t.Context(), bearing(t, "Bearer "+pair.Refresh))
	want := auth.Token{
		Scope: auth.ScopeRefresh, DID: alice, SID: "s1", JTI: "s1.0",
		IssuedAt: noon().Local(), Expires: noon().Add(90 * 24 * time.Hour).Local(),
	}
	if err != nil || caller.Token != want {
		t.Errorf("got %+v, %v\nwant %+v", caller.Token, err, want)
	}
}

// TestEnding shows that deleteSession accepts what refreshSession accepts, and
// expired tokens as well.
func TestEnding(t *testing.T) {
	v := verifier(t)
	for _, c := range both(t, refreshHeader(), refreshClaims()) {
		_, err := v.Ending(t.Context(), bearing(t, "Bearer "+c.token))
		if got := faultOf(t, err); got != c.refused {
			t.Errorf("%s: got %v, want %v", c.name, got, c.refused)
		}
	}
	claims := refreshClaims().with(object{"exp": 1})
	for name, c := range map[string]struct {
		claims object
		want   fault
	}{
		"expired":                {claims, fault{}},
		"expired, access scope":  {claims.with(object{"scope": "com.atproto.access"}), badScope},
		"expired, future nbf":    {claims.with(object{"nbf": noon().Unix() + 1}), unverified},
		"expired, without a jti": {claims.with(object{"jti": nil}), noTokenID},
	} {
		caller, err := v.Ending(t.Context(), bearing(t, "Bearer "+forge(t, secret, refreshHeader(), c.claims)))
		if got := faultOf(t, err); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
		if err == nil && caller.Token.JTI != "s1.0" {
			t.Errorf("%s: caller %+v", name, caller)
		}
	}
	_, err := v.Ending(t.Context(), bearing(t, "Bearer "+forge(t, secret, accessHeader(), accessClaims())))
	if got := faultOf(t, err); got != unverified {
		t.Errorf("an access token ends a session: %v", got)
	}
}

func TestAccess(t *testing.T) {
	v := verifier(t)
	pair := mint(t, v.Keyring)
	rows := append(both(t, accessHeader(), accessClaims()), expiredRows(t, accessHeader(), accessClaims())...)
	rows = append(rows,
		row{"minted", pair.Access, fault{}},
		row{"a refresh token", pair.Refresh, unverified},
		row{"refresh scope", forge(t, secret, accessHeader(), accessClaims().with(object{"scope": "com.atproto.refresh"})), badScope},
	)
	for _, c := range rows {
		caller, err := v.Standard(t.Context(), bearing(t, "Bearer "+c.token))
		if got := faultOf(t, err); got != c.refused {
			t.Errorf("%s: got %v, want %v", c.name, got, c.refused)
		}
		if good := err == nil && caller.DID == alice; good != (c.refused == fault{}) {
			t.Errorf("%s: caller %+v", c.name, caller)
		}
	}
}

// TestScopes is the table of which access token opens which kind of route.
func TestScopes(t *testing.T) {
	v := verifier(t)
	routes := map[string]func(*http.Request) (auth.Access, error){
		"standard": func(r *http.Request) (auth.Access, error) {
			c, err := v.Standard(r.Context(), r)
			return c.Access, err
		},
		"full": func(r *http.Request) (auth.Access, error) {
			c, err := v.Full(r.Context(), r)
			return c.Access, err
		},
		"takendown": func(r *http.Request) (auth.Access, error) {
			c, err := v.For(auth.UseLeave).FullOrTakenDown(r.Context(), r)
			return c.Access, err
		},
	}
	for _, c := range []struct {
		scope auth.Scope
		opens string
	}{
		{auth.ScopeAccess, "standard full takendown"},
		{auth.ScopeAppPass, "standard"},
		{auth.ScopeAppPassPrivileged, "standard"},
		{auth.ScopeTakenDown, "takendown"},
		{auth.ScopeRefresh, ""},
	} {
		token := forge(t, secret, accessHeader(), accessClaims().with(object{"scope": c.scope}))
		for name, route := range routes {
			got, err := route(bearing(t, "Bearer "+token))
			if strings.Contains(c.opens, name) {
				if want := (auth.Access{DID: alice, Scope: c.scope, SID: "s1"}); err != nil || got != want {
					t.Errorf("%s on %s: %+v, %v", c.scope, name, got, err)
				}
			} else if f := faultOf(t, err); f != badScope {
				t.Errorf("%s on %s: %v, want %v", c.scope, name, f, badScope)
			}
		}
	}
}

// TestStanding: the token itself is judged first, then the account, then the
// session; a failing store is a 503 whatever the token was.
func TestStanding(t *testing.T) {
	v := verifier(t)
	for _, c := range []struct {
		name     string
		standing auth.Standing
		err      error
		changes  object
		want     fault
	}{
		{"live", auth.Standing{Live: true}, nil, nil, fault{}},
		{"ended", auth.Standing{}, nil, nil, expired},
		{"taken down", auth.Standing{Status: event.StatusTakenDown, Live: true}, nil, nil, takendown},
		{"taken down and ended", auth.Standing{Status: event.StatusTakenDown}, nil, nil, takendown},
		{"taken down and expired", auth.Standing{Status: event.StatusTakenDown}, nil, object{"exp": 1}, expired},
		{"taken down and bad scope", auth.Standing{Status: event.StatusTakenDown}, nil, object{"scope": "x"}, badScope},
		{"store fails", auth.Standing{}, errors.New("disk on fire"), nil, unavailable},
		{"store fails for an expired token", auth.Standing{}, errors.New("disk on fire"), object{"exp": 1}, expired},
		{"signed in while taken down", auth.Standing{Status: event.StatusTakenDown, Live: true}, nil, object{"scope": auth.ScopeTakenDown}, fault{}},
		{"the same, ended", auth.Standing{Status: event.StatusTakenDown}, nil, object{"scope": auth.ScopeTakenDown}, expired},
	} {
		v.Sessions = standing(func(got auth.Token) (auth.Standing, error) {
			if got.DID != alice || got.SID != "s1" {
				t.Errorf("%s: asked for %+v", c.name, got)
			}
			return c.standing, c.err
		})
		token := forge(t, secret, accessHeader(), accessClaims().with(c.changes))
		_, err := v.For(auth.UseLeave).FullOrTakenDown(t.Context(), bearing(t, "Bearer "+token))
		if got := faultOf(t, err); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		if c.err != nil && c.want == unavailable && !errors.Is(err, c.err) {
			t.Errorf("%s: the cause is lost: %v", c.name, err)
		}
	}
}

// TestWithoutSession: an access token that names no session is accepted only under
// a legacy key, if it was issued before that key came here, and at most as long as
// the reference's tokens hold.
func TestWithoutSession(t *testing.T) {
	inherited := accessClaims().with(object{"sid": nil, "iat": noon().Add(-time.Second).Unix(), "exp": noon().Add(time.Hour).Unix()})
	path := filepath.Join(t.TempDir(), "keys.json")
	k := openRing(t, path, secret)
	configured := wantKeys(t, k, 1)
	kid := accessHeader().with(object{"kid": configured.ID})
	for _, c := range []struct {
		name   string
		header object
		claims object
		taken  bool
	}{
		{"issued before the key came", accessHeader(), inherited, true},
		{"the same with our kid", kid, inherited, true},
		{"issued when the key came", accessHeader(), inherited.with(object{"iat": noon().Unix()}), false},
		{"issued afterwards", kid, inherited.with(object{"iat": noon().Add(time.Minute).Unix()}), false},
		{"without the time of its issue", accessHeader(), inherited.with(object{"iat": nil}), false},
		{"for longer than two hours", accessHeader(), inherited.with(object{"exp": noon().Add(2 * time.Hour).Unix()}), false},
		{"for ever", accessHeader(), inherited.with(object{"iat": 0, "exp": noon().AddDate(10, 0, 0).Unix()}), false},
		{"an empty sid", accessHeader(), inherited.with(object{"sid": "", "iat": noon().Unix()}), false},
	} {
		_, err := k.VerifyAccess(forge(t, secret, c.header, c.claims), audience, noon(), auth.ScopeAccess)
		if c.taken && err != nil || !c.taken && (err == nil || faultOf(t, err) != unverified) {
			t.Errorf("%s: %v, want taken: %v", c.name, err, c.taken)
		}
	}

	// Not under a key that is not marked as legacy, even one that came later.
	own, err := auth.OpenKeyring(filepath.Join(t.TempDir(), "keys.json"), "", noon)
	if err != nil {
		t.Fatal(err)
	}
	issue := auth.Issue{Audience: audience, DID: alice, Scope: auth.ScopeAccess, Now: noon().Add(-time.Minute), AccessTTL: time.Hour, RefreshTTL: time.Hour}
	pair, err := own.MintPair(issue)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.VerifyAccess(pair.Access, audience, noon(), auth.ScopeAccess); err == nil || faultOf(t, err) != unverified {
		t.Errorf("a generated key's token without sid: %v", err)
	}
}
