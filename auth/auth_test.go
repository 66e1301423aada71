package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/xrpc"
)

const (
	audience = "did:web:pds.test"
	alice    = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	// secret is the PDS_JWT_SECRET with which tests forge tokens: they may not have the
	// bytes of the other keys.
	secret   = "the configured secret of these tests"
	password = "admin:päss"
)

// noon returns the time at which the tests happen; tokens have whole seconds.
func noon() time.Time { return time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC) }

// object is a JSON object; a member that is nil is left out.
type object map[string]any

// with returns o with other members, those that are nil left out.
func (o object) with(changes object) object {
	out := object{}
	for _, members := range []object{o, changes} {
		for name, value := range members {
			out[name] = value
			if value == nil {
				delete(out, name)
			}
		}
	}
	return out
}

// raw is JSON as it is, for what no encoder writes.
type raw = json.RawMessage

func refreshHeader() object { return object{"typ": "refresh+jwt", "alg": "HS256"} }

func accessHeader() object { return object{"typ": "at+jwt", "alg": "HS256"} }

func accessClaims() object {
	return object{
		"scope": "com.atproto.access", "aud": audience, "sub": alice, "sid": "s1",
		"iat": noon().Unix(), "exp": noon().Add(2 * time.Hour).Unix(),
	}
}

func refreshClaims() object {
	return accessClaims().with(object{"scope": "com.atproto.refresh", "jti": "s1.0"})
}

// encode returns the base64url form of v's JSON; text is used as it is.
func encode(tb testing.TB, v any) string {
	tb.Helper()
	b, isText := v.(raw)
	if !isText {
		var err error
		if b, err = json.Marshal(v); err != nil {
			tb.Fatal(err)
		}
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// forge signs a token that need not be valid.
func forge(tb testing.TB, key string, header, claims any) string {
	tb.Helper()
	return forgeWith(tb, sha256.New, key, header, claims)
}

func forgeWith(tb testing.TB, h func() hash.Hash, key string, header, claims any) string {
	tb.Helper()
	signed := encode(tb, header) + "." + encode(tb, claims)
	mac := hmac.New(h, []byte(key))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func forge512(tb testing.TB, header, claims any) string {
	tb.Helper()
	return forgeWith(tb, sha512.New, secret, header, claims)
}

// ring opens a keyring of its own whose first key is secret.
func ring(tb testing.TB) *auth.Keyring {
	tb.Helper()
	return openRing(tb, filepath.Join(tb.TempDir(), "keys.json"), secret)
}

func openRing(tb testing.TB, path, configured string) *auth.Keyring {
	tb.Helper()
	k, err := auth.OpenKeyring(path, configured, noon)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// standing answers for every session.
type standing func(auth.Token) (auth.Standing, error)

func (s standing) Standing(_ context.Context, t auth.Token) (auth.Standing, error) { return s(t) }

func live(auth.Token) (auth.Standing, error) { return auth.Standing{Live: true}, nil }

func verifier(tb testing.TB) *auth.Verifier {
	tb.Helper()
	return &auth.Verifier{
		Keyring: ring(tb), Audience: audience, Sessions: standing(live), AdminPassword: password, Now: noon,
	}
}

func mint(tb testing.TB, k *auth.Keyring) auth.Pair {
	tb.Helper()
	p, err := k.MintPair(auth.Issue{
		Audience: audience, DID: alice, Scope: auth.ScopeAccess, SID: "s1", JTI: "s1.0",
		Now: noon(), AccessTTL: 2 * time.Hour, RefreshTTL: 90 * 24 * time.Hour,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// bearing returns a request with an Authorization header, or without one if it is
// empty.
func bearing(tb testing.TB, authorization string) *http.Request {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/xrpc/a.b.c", http.NoBody)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

// fault is the error that a client gets.
type fault struct {
	status        int
	name, message string
}

func (f fault) String() string {
	b, err := json.Marshal([]any{f.status, f.name, f.message})
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// faultOf returns an error as a client sees it, the zero fault if err is nil.
func faultOf(tb testing.TB, err error) fault {
	tb.Helper()
	if err == nil {
		return fault{}
	}
	e, ok := errors.AsType[*xrpc.Error](err)
	if !ok {
		tb.Fatalf("error without an answer: %v", err)
	}
	return fault{e.Status, e.Name, e.Message}
}

// The answers of the session contract.
var (
	authMissing  = fault{401, "AuthMissing", "Authentication Required"}
	notAdmin     = fault{401, "AuthenticationRequired", "Authentication Required"}
	badHeader    = fault{400, "InvalidToken", "Malformed authorization header"}
	unverified   = fault{400, "InvalidToken", "Token could not be verified"}
	malformed    = fault{400, "InvalidToken", "Malformed token"}
	badScope     = fault{400, "InvalidToken", "Bad token scope"}
	wrongKind    = fault{400, "InvalidToken", "Unexpected authorization type"}
	noTokenID    = fault{401, "MissingTokenId", "Unexpected missing refresh token id"}
	expired      = fault{400, "ExpiredToken", "Token has expired"}
	takendown    = fault{401, "AccountTakedown", "Account has been taken down"}
	unavailable  = fault{503, "ServiceUnavailable", "The service cannot answer right now, please try again"}
	unsupportedX = fault{400, "InvalidToken", "Unsupported authorization type: Foo"}
)
