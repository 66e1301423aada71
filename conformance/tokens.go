package conformance

import (
	"context"
	"slices"
	"strings"
	"time"
)

func tokenForm(_ context.Context, r *runner) verdict {
	var parts []verdict
	for _, token := range r.pair() {
		t, ok := readJWT(token.token)
		iat, whole := t.seconds("iat")
		exp, wholeExp := t.seconds("exp")
		v := passed()
		switch {
		case !ok:
			v = failed("it is not a JWT")
		case !whole || !wholeExp:
			v = failed("iat is %v, exp is %v", t.claims["iat"], t.claims["exp"])
		case exp <= iat:
			v = failed("it expires before it is issued")
		case t.text("sub") != r.main.did:
			v = failed("sub is %q", t.text("sub"))
		}
		parts = append(parts, v.about(token.what))
	}
	return worst(parts...)
}

// token is one of the two of a pair.
type token struct {
	what, token, typ string
	scopes           []string
}

// pair returns the tokens of the first sign-in.
func (r *runner) pair() []token {
	s := r.first.session()
	return []token{
		{"the access token", s.access, "at+jwt", []string{"com.atproto.access", "com.atproto.appPass", "com.atproto.appPassPrivileged"}},
		{"the refresh token", s.refresh, "refresh+jwt", []string{"com.atproto.refresh"}},
	}
}

func tokenClaims(_ context.Context, r *runner) verdict {
	var parts []verdict
	for _, token := range r.pair() {
		t, ok := readJWT(token.token)
		if !ok {
			return skipped("the tokens are not JWTs")
		}
		say := func(format string, args ...any) {
			parts = append(parts, differs(format, args...).about(token.what))
		}
		typ, _ := t.header["typ"].(string)
		if alg, _ := t.header["alg"].(string); strings.EqualFold(alg, "none") || alg == "" {
			parts = append(parts, failed("alg is %q: anybody can write one", alg).about(token.what))
		}
		if !strings.EqualFold(strings.TrimPrefix(typ, "application/"), token.typ) {
			say("typ is %q", typ)
		}
		if !slices.Contains(token.scopes, t.text("scope")) {
			say("scope is %q", t.text("scope"))
		}
		if token.typ == "refresh+jwt" && t.text("jti") == "" {
			say("no jti")
		}
		if aud := t.text("aud"); r.serverDID != "" && aud != r.serverDID {
			say("aud is %q, the server's DID %s", aud, r.serverDID)
		}
	}
	return worst(parts...)
}

// The lives of tokens that clients can do with.
const (
	leastAccess  = 20 * time.Minute
	mostAccess   = 24 * time.Hour
	leastRefresh = 14 * 24 * time.Hour
	mostSkew     = 5 * time.Minute
)

func tokenLives(_ context.Context, r *runner) verdict {
	pair := r.pair()
	access, ok := readJWT(pair[0].token)
	refresh, okRefresh := readJWT(pair[1].token)
	if !ok || !okRefresh {
		return skipped("the tokens are not JWTs")
	}
	iat, _ := access.seconds("iat")
	life := func(t jwt) time.Duration {
		from, _ := t.seconds("iat")
		to, _ := t.seconds("exp")
		return to - from
	}
	skew := (iat - time.Duration(r.opened.Unix())*time.Second).Abs()
	var parts []verdict
	if l := life(access); l < leastAccess || l > mostAccess {
		parts = append(parts, differs("an access token lives %s", l))
	}
	if l := life(refresh); l < leastRefresh {
		parts = append(parts, differs("a refresh token lives %s", l))
	}
	if life(refresh) <= life(access) {
		parts = append(parts, failed("a refresh token lives no longer than an access token"))
	}
	if skew > mostSkew {
		parts = append(parts, differs("the server's clock and this one differ by %s", skew))
	}
	return worst(parts...)
}
