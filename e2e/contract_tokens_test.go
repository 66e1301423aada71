package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"nestbox/internal/pdstest"
)

// TestContractTokens shows the form of both tokens.
func TestContractTokens(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		for _, c := range []struct {
			token, typ, scope string
			life              time.Duration
			claims            []string
		}{
			{made.AccessJwt, "at+jwt", "com.atproto.access", 2 * time.Hour, []string{"scope", "aud", "sub", "iat", "exp", "sid"}},
			{made.RefreshJwt, "refresh+jwt", "com.atproto.refresh", 90 * 24 * time.Hour, []string{"scope", "aud", "sub", "iat", "exp", "sid", "jti"}},
		} {
			header, claims := readToken(t, c.token)
			if header["typ"] != c.typ || header["alg"] != "HS256" || header["kid"] != newForger(t, s.dir).kid || len(header) != 3 {
				t.Errorf("%s: header %v", c.typ, header)
			}
			if claims["scope"] != c.scope || claims["aud"] != "did:web:localhost" || claims["sub"] != made.DID {
				t.Errorf("%s: claims %v", c.typ, claims)
			}
			iat, ok1 := claims["iat"].(float64)
			exp, ok2 := claims["exp"].(float64)
			if !ok1 || !ok2 || iat != float64(int64(iat)) || exp-iat != c.life.Seconds() {
				t.Errorf("%s: iat %v, exp %v", c.typ, claims["iat"], claims["exp"])
			}
			if sid, ok := claims["sid"].(string); !ok || sid == "" {
				t.Errorf("%s: sid %v", c.typ, claims["sid"])
			}
			for _, name := range c.claims {
				delete(claims, name)
			}
			if len(claims) > 0 {
				t.Errorf("%s: more claims: %v", c.typ, claims)
			}
		}
	})
}

// headerRow is an Authorization header that holds no token.
type headerRow struct {
	header string
	want   wireError
}

func commonHeaders() []headerRow {
	return []headerRow{
		{"", authMissing},
		{"Bearer", badHeader},
		{"Bearer ", badHeader},
		{"Bearer a b", badHeader},
		{"Bearer  a", badHeader},
		{"eyJhbGciOiJIUzI1NiJ9.e30.x", badHeader},
		{"Foo x", wireError{400, "InvalidToken", "Unsupported authorization type: Foo"}},
		{"Bearer garbage", unverified},
		{"Bearer a.b.c", unverified},
		{"Bearer a.b.c.d.e", unverified},
		{"Bearer " + strings.Repeat("a", 9<<10), unverified},
	}
}

// tokenRow is a token that is wrong in one way, or in two, to show which
// counts. good is the real token of the route's kind.
type tokenRow struct {
	name string
	make func(t *testing.T, f forger, good string) string
	want wireError
}

func forgery(name string, want wireError, changes ...change) tokenRow {
	return tokenRow{name, func(t *testing.T, f forger, good string) string { t.Helper(); return f.forge(t, good, changes...) }, want}
}

// commonTokens are the rows that hold for access and refresh tokens alike.
func commonTokens() []tokenRow {
	past, future := claim("exp", seconds(-time.Minute)), seconds(time.Hour)
	return []tokenRow{
		{"tampered signature", func(_ *testing.T, _ forger, good string) string {
			i := strings.LastIndexByte(good, '.') + 1
			return good[:i] + strings.Repeat("A", len(good)-i)
		}, unverified},
		{"tampered claims", func(t *testing.T, f forger, good string) string {
			t.Helper()
			other := strings.Split(f.forge(t, good, claim("sub", "did:web:mallory.example")), ".")
			parts := strings.Split(good, ".")
			return parts[0] + "." + other[1] + "." + parts[2]
		}, unverified},
		{"another spelling of the signature", func(_ *testing.T, _ forger, good string) string { return good + "=" }, unverified},
		{"wrong secret", func(t *testing.T, f forger, good string) string {
			t.Helper()
			return forger{f.kid, []byte("another secret of 32 bytes length")}.forge(t, good)
		}, unverified},
		{"alg none", func(t *testing.T, _ forger, good string) string {
			t.Helper()
			header, claims := readToken(t, good)
			header["alg"] = "none"
			made := jwt.NewWithClaims(jwt.SigningMethodNone, claims)
			made.Header = header
			signed, err := made.SignedString(jwt.UnsafeAllowNoneSignatureType)
			if err != nil {
				t.Fatal(err)
			}
			return signed
		}, unverified},
		{"alg HS512", func(t *testing.T, f forger, good string) string {
			t.Helper()
			header, claims := readToken(t, good)
			header["alg"] = "HS512"
			made := jwt.NewWithClaims(jwt.SigningMethodHS512, claims)
			made.Header = header
			signed, err := made.SignedString(f.secret)
			if err != nil {
				t.Fatal(err)
			}
			return signed
		}, unverified},
		forgery("alg says ES256", unverified, header("alg", "ES256")),
		forgery("alg is no string", unverified, header("alg", 1)),
		forgery("no typ", unverified, header("typ", nil)),
		forgery("typ JWT", unverified, header("typ", "JWT")),
		forgery("unknown kid", unverified, header("kid", "nobody")),
		forgery("no kid, and no legacy key", unverified, header("kid", nil)),
		forgery("kid is no string", unverified, header("kid", 1)),
		forgery("wrong aud", unverified, claim("aud", "did:web:elsewhere.example")),
		forgery("no aud", unverified, claim("aud", nil)),
		forgery("wrong aud, expired", unverified, claim("aud", "did:web:elsewhere.example"), past),
		forgery("future nbf", unverified, claim("nbf", future)),
		forgery("aud array", malformed, claim("aud", []string{"did:web:localhost"})),
		forgery("sub no DID", malformed, claim("sub", "alice.test")),
		forgery("no sub", malformed, claim("sub", nil)),
		forgery("lxm", malformed, claim("lxm", "com.atproto.repo.uploadBlob")),
		forgery("cnf", malformed, claim("cnf", map[string]string{"jkt": "x"})),
		forgery("sid no string", malformed, claim("sid", 1)),
		forgery("no scope", badScope, claim("scope", nil)),
		forgery("unknown scope", badScope, claim("scope", "com.example.everything")),
		forgery("scope no string", badScope, claim("scope", []string{"com.atproto.access", "com.atproto.refresh"})),
	}
}

// TestContractRefreshErrors shows every row of refreshSession's second table
// that is about the credential.
func TestContractRefreshErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made, f := s.SignUp(t, "alice"), newForger(t, s.dir)
		headers := append(commonHeaders(),
			headerRow{basic("admin:admin"), authMissing},
			headerRow{"DPoP " + made.RefreshJwt, authMissing},
			headerRow{pdstest.Bearer(made.AccessJwt), unverified})
		for _, c := range headers {
			t.Run("header "+clip(c.header), func(t *testing.T) {
				a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: refreshSession, Auth: c.header})
				c.want.want(t, a)
				wantPrivate(t, a)
			})
		}
		rows := append(commonTokens(),
			forgery("typ of an access token", unverified, header("typ", "at+jwt")),
			forgery("a service token", unverified, header("typ", "JWT"), claim("iss", made.DID), claim("lxm", refreshSession)),
			forgery("jti no string", malformed, claim("jti", 7)),
			forgery("scope of an access token", badScope, claim("scope", "com.atproto.access")),
			forgery("no jti", wireError{401, "MissingTokenId", "Unexpected missing refresh token id"}, claim("jti", nil)),
			forgery("jti does not fit sid", unverified, claim("jti", "1-elsewhere.0")),
			forgery("jti is no generation", unverified, claim("jti", strings.TrimSuffix(jti(t, made.RefreshJwt), "0")+"-1")),
			forgery("expired", expired, claim("exp", seconds(-time.Minute))),
			forgery("expired, bad scope", expired, claim("exp", seconds(-time.Minute)), claim("scope", "x")),
			forgery("session unknown", revoked, claim("sid", "zzzz-unknown"), claim("jti", "zzzz-unknown.0")),
			forgery("account gone", revoked, claim("sub", "did:plc:ragtjsm2j2vknwkz3zp4oxrd")))
		for _, c := range rows {
			t.Run(c.name, func(t *testing.T) {
				a := s.Refresh(t, c.make(t, f, made.RefreshJwt))
				c.want.want(t, a)
				wantPrivate(t, a)
			})
		}
		for name, c := range map[string]change{
			"as it was": header("typ", "refresh+jwt"), "typ in capitals": header("typ", "REFRESH+JWT"),
			"typ with application/": header("typ", "application/refresh+jwt"), "past nbf": claim("nbf", seconds(-time.Minute)),
			"exp with a fraction": claim("exp", float64(seconds(time.Hour))+0.5), "an unknown claim": claim("x", 1),
		} {
			t.Run(name, func(t *testing.T) { s.MustRefresh(t, f.forge(t, made.RefreshJwt, c)) })
		}
		a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: refreshSession, Auth: "bEaReR " + made.RefreshJwt})
		wantStatus(t, a, http.StatusOK)
	})
}

// TestContractGetSessionErrors shows getSession's rows. The answer to an
// expired token is compared byte for byte, as SDKs do.
func TestContractGetSessionErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made, f := s.SignUp(t, "alice"), newForger(t, s.dir)
		headers := append(commonHeaders(),
			headerRow{basic("admin:admin"), wireError{400, "InvalidToken", "Unexpected authorization type"}},
			headerRow{pdstest.Bearer(made.RefreshJwt), unverified})
		for _, c := range headers {
			t.Run("header "+clip(c.header), func(t *testing.T) {
				a := s.Do(t, pdstest.Request{NSID: getSession, Auth: c.header})
				c.want.want(t, a)
				wantPrivate(t, a)
			})
		}
		rows := append(commonTokens(),
			forgery("typ of a refresh token", unverified, header("typ", "refresh+jwt")),
			forgery("scope takendown", badScope, claim("scope", "com.atproto.takendown")),
			forgery("scope of a refresh token", badScope, claim("scope", "com.atproto.refresh")),
			forgery("expired", expired, claim("exp", seconds(-time.Minute))),
			forgery("expired, scope takendown", expired, claim("exp", seconds(-time.Minute)), claim("scope", "com.atproto.takendown")),
			forgery("session unknown", expired, claim("sid", "zzzz-unknown")),
			forgery("account gone", expired, claim("sub", "did:plc:ragtjsm2j2vknwkz3zp4oxrd")))
		for _, c := range rows {
			t.Run(c.name, func(t *testing.T) {
				a := s.GetSession(t, c.make(t, f, made.AccessJwt))
				c.want.want(t, a)
				wantPrivate(t, a)
			})
		}
		a := s.GetSession(t, f.forge(t, made.AccessJwt, claim("exp", seconds(-time.Minute))))
		if got := string(a.Body); got != `{"error":"ExpiredToken","message":"Token has expired"}` || a.Header.Get("Content-Length") != "54" {
			t.Errorf("%s, Content-Length %s", got, a.Header.Get("Content-Length"))
		}
		for _, typ := range []string{"AT+JWT", "application/at+jwt"} {
			wantStatus(t, s.GetSession(t, f.forge(t, made.AccessJwt, header("typ", typ))), http.StatusOK)
		}
	})
}

// TestContractDeleteSessionErrors: the credential's rows hold for deleteSession
// too, but an expired token and one of a session that is gone succeed.
func TestContractDeleteSessionErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made, f := s.SignUp(t, "alice"), newForger(t, s.dir)
		for _, c := range append(commonHeaders(), headerRow{pdstest.Bearer(made.AccessJwt), unverified}) {
			t.Run("header "+clip(c.header), func(t *testing.T) {
				c.want.want(t, s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: deleteSession, Auth: c.header}))
			})
		}
		for _, c := range commonTokens() {
			t.Run(c.name, func(t *testing.T) { c.want.want(t, s.post(t, deleteSession, c.make(t, f, made.RefreshJwt))) })
		}
		// None of these ended the session.
		made = s.wantLive(t, made)
		for name, changes := range map[string][]change{
			"session unknown": {claim("sid", "zzzz-unknown"), claim("jti", "zzzz-unknown.0")},
			"account gone":    {claim("sub", "did:plc:ragtjsm2j2vknwkz3zp4oxrd")},
		} {
			t.Run(name, func(t *testing.T) { wantEmpty(t, s.post(t, deleteSession, f.forge(t, made.RefreshJwt, changes...))) })
		}
		s.wantLive(t, made)
		wantEmpty(t, s.post(t, deleteSession, f.forge(t, made.RefreshJwt, claim("exp", seconds(-time.Hour)))))
		s.wantEnded(t, made)
		wantEmpty(t, s.post(t, deleteSession, made.RefreshJwt))
	})
}

// wantEmpty fails the test unless an answer is that of deleteSession.
func wantEmpty(t *testing.T, a pdstest.Answer) {
	t.Helper()
	_, typed := a.Header["Content-Type"]
	if a.Status != http.StatusOK || len(a.Body) > 0 || typed {
		t.Errorf("%d %q, Content-Type %q", a.Status, a.Body, a.Header.Get("Content-Type"))
	}
	wantPrivate(t, a)
}

// wantPrivate fails the test unless an answer has the headers of an
// auth-checked route.
func wantPrivate(t *testing.T, a pdstest.Answer) {
	t.Helper()
	wantHeader(t, a, "Cache-Control", "private")
	wantHeader(t, a, "Vary", "Authorization")
}

// clip makes a test's name out of any text.
func clip(s string) string {
	if len(s) > 40 {
		s = s[:40]
	}
	return s
}
