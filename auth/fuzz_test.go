package auth

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/xrpc"
)

// FuzzAuthorization: a header is a scheme and its value, or is refused with one of
// the contract's answers; a bearer token is returned unchanged.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{
		"", " ", "Bearer", "Bearer ", "Bearer a.b.c", "bearer a b", "Basic YTpi", "DPoP x", "Foo x", "a.b.c",
		"\xff\xfe x", "Bearer\tx", "Bearer x ", strings.Repeat("x", 100) + " y", "\u212aearer x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		kind, value, err := parseAuthorization(header)
		if err != nil {
			e, ok := errors.AsType[*xrpc.Error](err)
			if !ok || e.Status != http.StatusBadRequest || e.Name != xrpc.NameInvalidToken {
				t.Fatalf("%q: error %v", header, err)
			}
			if !utf8.ValidString(e.Message) || len(e.Message) > 80 || kind != schemeNone || value != "" {
				t.Fatalf("%q: %q, %v, %q", header, e.Message, kind, value)
			}
			return
		}
		if kind == schemeNone {
			if header != "" || value != "" {
				t.Fatalf("%q is taken for no header", header)
			}
			return
		}
		name := map[scheme]string{schemeBearer: "bearer", schemeBasic: "basic", schemeDPoP: "dpop"}[kind]
		if len(header) <= len(name) || !strings.EqualFold(header[:len(name)], name) || header[len(name):] != " "+value || strings.Contains(value, " ") {
			t.Fatalf("%q is scheme %v with value %q", header, kind, value)
		}
		token, err := bearer(&http.Request{Header: http.Header{"Authorization": {header}}}, true)
		if isBearer := kind == schemeBearer; isBearer != (err == nil) || isBearer && token != value {
			t.Fatalf("%q: bearer %q, %v", header, token, err)
		}
	})
}

// FuzzToken: no changed token verifies. The only other spellings of a good one
// differ in bytes that base64 ignores (RFC 4648 section 3.3: line ends).
func FuzzToken(f *testing.F) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	k, err := OpenKeyring(filepath.Join(f.TempDir(), "keys.json"), "configured", func() time.Time { return now })
	if err != nil {
		f.Fatal(err)
	}
	const audience = "did:web:pds.test"
	pair, err := k.MintPair(Issue{
		Audience: audience, DID: syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz"), Scope: ScopeAccess, SID: "s", JTI: "j",
		Now: now, AccessTTL: time.Hour, RefreshTTL: time.Hour,
	})
	if err != nil {
		f.Fatal(err)
	}
	minted := map[string]bool{pair.Access: true, pair.Refresh: true}
	for _, token := range []string{pair.Access, pair.Refresh} {
		parts := strings.Split(token, ".")
		for _, seed := range []string{
			token, token + "=", token + "\n", token[1:], token + ".", parts[0] + ".." + parts[2], parts[0] + "." + parts[1] + ".",
			"eyJhbGciOiJub25lIn0." + parts[1] + ".", strings.ToUpper(token),
		} {
			f.Add(seed, 0, byte(0))
		}
		f.Add(token, len(token)-1, byte(1))
		f.Add(token, len(parts[0])+5, byte(3))
	}
	withoutLineEnds := strings.NewReplacer("\r", "", "\n", "")
	f.Fuzz(func(t *testing.T, token string, at int, flip byte) {
		if at >= 0 && at < len(token) {
			changed := []byte(token)
			changed[at] ^= flip
			token = string(changed)
		}
		_, accessErr := k.VerifyAccess(token, audience, now, ScopeAccess)
		_, refreshErr := k.VerifyRefresh(token, audience, now, true)
		if accessErr != nil && refreshErr != nil {
			return
		}
		// What was signed must be as it was; only the signature's own spelling
		// may hold line ends, which no HTTP header can.
		dot := strings.LastIndexByte(token, '.')
		if !minted[token[:dot]+withoutLineEnds.Replace(token[dot:])] {
			t.Fatalf("%q verifies, and nobody minted it", token)
		}
		if accessErr == nil && refreshErr == nil {
			t.Fatalf("%q is a token of both kinds", token)
		}
	})
}
