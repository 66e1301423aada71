package auth_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"nestbox/auth"
)

func decodeSecret(tb testing.TB, s string) string {
	tb.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// TestAnotherImplementationReads: others read what we mint as a JWT, with the
// claims of the contract and no more; and we read what they mint.
func TestAnotherImplementationReads(t *testing.T) {
	k := ring(t)
	pair := mint(t, k)
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience(audience), jwt.WithIssuedAt(),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(noon), jwt.WithStrictDecoding(), jwt.WithJSONNumber())
	for _, c := range []struct {
		token, typ string
		scope      string
		life       time.Duration
		claims     string
	}{
		{pair.Access, "at+jwt", "com.atproto.access", 2 * time.Hour, "aud exp iat scope sid sub"},
		{pair.Refresh, "refresh+jwt", "com.atproto.refresh", 90 * 24 * time.Hour, "aud exp iat jti scope sid sub"},
	} {
		claims := jwt.MapClaims{}
		token, err := parser.ParseWithClaims(c.token, claims, func(*jwt.Token) (any, error) { return []byte(secret), nil })
		if err != nil {
			t.Fatalf("%s: %v", c.typ, err)
		}
		header := token.Header
		if len(header) != 3 || header["typ"] != c.typ || header["alg"] != "HS256" || header["kid"] != k.Keys()[0].ID {
			t.Errorf("%s: header %v", c.typ, header)
		}
		if names := strings.Join(slices.Sorted(maps.Keys(claims)), " "); names != c.claims {
			t.Errorf("%s: claims %s, want %s", c.typ, names, c.claims)
		}
		sub, err := claims.GetSubject()
		if err != nil || sub != alice.String() || claims["scope"] != c.scope || claims["sid"] != "s1" || claims["aud"] != audience {
			t.Errorf("%s: claims %v, %v", c.typ, claims, err)
		}
		iat, iatErr := claims.GetIssuedAt()
		exp, expErr := claims.GetExpirationTime()
		if iatErr != nil || expErr != nil || !iat.Equal(noon()) || exp.Sub(iat.Time) != c.life {
			t.Errorf("%s: from %v (%v) to %v (%v)", c.typ, iat, iatErr, exp, expErr)
		}
	}

	theirs := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(refreshClaims()))
	theirs.Header["typ"] = "refresh+jwt"
	token, err := theirs.SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.VerifyRefresh(token, audience, noon(), false); err != nil {
		t.Errorf("a token that another implementation signed: %v", err)
	}
}

// TestTimesAreWhole: iat and exp are integers, whatever the clock and the
// settings say.
func TestTimesAreWhole(t *testing.T) {
	k := ring(t)
	p, err := k.MintPair(auth.Issue{
		Audience: audience, DID: alice, Scope: auth.ScopeAppPass, SID: "s1", JTI: "s1.0",
		Now: noon().Add(999 * time.Millisecond), AccessTTL: 1500 * time.Millisecond, RefreshTTL: 2*time.Second + time.Nanosecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{p.Access, p.Refresh} {
		claims := decodeSecret(t, strings.Split(token, ".")[1])
		want := fmt.Sprintf(`"iat":%d,"exp":%d}`, noon().Unix(), noon().Unix()+2)
		if !strings.HasSuffix(claims, want) {
			t.Errorf("claims %s, want %s at the end", claims, want)
		}
	}
}
