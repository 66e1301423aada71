package auth_test

import (
	"errors"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"nestbox/auth"
)

// TestCheckForeign: a token proves which secret another server has.
func TestCheckForeign(t *testing.T) {
	t.Parallel()
	const secret, did = "the old server's own secret, long", "did:web:pds.test"
	token := func(typ, kid, secret, aud string) string {
		made := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"scope": "com.atproto.access", "aud": aud, "exp": 1})
		made.Header["typ"] = typ
		if kid != "" {
			made.Header["kid"] = kid
		}
		text, err := made.SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"access":        {token("at+jwt", "", secret, did), nil},
		"refresh":       {token("refresh+jwt", "", secret, did), nil},
		"other secret":  {token("at+jwt", "", "hunter2", did), auth.ErrForeignSecret},
		"other server":  {token("at+jwt", "", secret, "did:web:other.test"), auth.ErrForeignAudience},
		"other kind":    {token("dpop+jwt", "", secret, did), auth.ErrNotForeign},
		"ours":          {token("at+jwt", "k-1", secret, did), auth.ErrNotForeign},
		"a text":        {"hunter2", auth.ErrNotForeign},
		"empty":         {"", auth.ErrNotForeign},
		"without parts": {"..", auth.ErrNotForeign},
	} {
		if err := auth.CheckForeign(c.token, secret, did); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
