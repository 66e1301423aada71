package auth_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
)

const (
	bob     = syntax.DID("did:plc:bobbobbobbobbobbobbobbob")
	ozone   = syntax.DID("did:plc:ozoneozoneozoneozoneozon")
	moveIn  = "com.atproto.server.createAccount"
	lookAt  = "com.atproto.admin.getSubjectStatus"
	uploads = "com.atproto.repo.uploadBlob"
)

// documents are issuers' keys by "DID#name", as they are known and as they are now.
type documents struct{ known, now map[string]string }

func (d documents) SigningKey(_ context.Context, did syntax.DID, name string, fresh bool) (string, error) {
	if did == "did:web:down.example.com" {
		return "", errors.New("nobody answers")
	}
	if did == "did:web:later.example.com" {
		return "", fmt.Errorf("%w: 256 questions", auth.ErrBusy)
	}
	keys := d.known
	if fresh {
		keys = d.now
	}
	if key, ok := keys[did.String()+"#"+name]; ok {
		return key, nil
	}
	return "", auth.ErrNoKey
}

func k256(t *testing.T) (atcrypto.PrivateKey, string) {
	t.Helper()
	k, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	return k, didKey(t, k)
}

func p256(t *testing.T) (atcrypto.PrivateKey, string) {
	t.Helper()
	k, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	return k, didKey(t, k)
}

func didKey(t *testing.T, k atcrypto.PrivateKey) string {
	t.Helper()
	public, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public.DIDKey()
}

type members = map[string]any

// serviceToken signs a service token for createAccount that is valid except for the
// given members; nil removes one.
func serviceToken(t *testing.T, key atcrypto.PrivateKey, header, changed members) string {
	t.Helper()
	h := members{"typ": "JWT", "alg": "ES256K"}
	p := members{"iat": noon().Unix(), "iss": bob, "aud": audience, "exp": noon().Add(time.Minute).Unix(), "lxm": moveIn, "jti": "1"}
	maps.Copy(h, header)
	maps.Copy(p, changed)
	maps.DeleteFunc(p, func(_ string, v any) bool { return v == nil })
	maps.DeleteFunc(h, func(_ string, v any) bool { return v == nil })
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	signed := part(h) + "." + part(p)
	sig, err := key.HashAndSign([]byte(signed))
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func asked(t *testing.T, method, token string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/xrpc/"+method, http.NoBody)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func TestServiceToken(t *testing.T) {
	v := verifier(t)
	key, public := k256(t)
	other, _ := k256(t)
	curve, curvePublic := p256(t)
	fresh, freshPublic := k256(t)
	docs := documents{known: map[string]string{
		bob.String() + "#atproto": public, "did:web:curve.example.com#atproto": curvePublic, "did:web:changed.example.com#atproto": public,
		"did:web:bad.example.com#atproto": "did:key:nonsense", bob.String() + "#atproto_label": curvePublic,
	}}
	docs.now = maps.Clone(docs.known)
	docs.now["did:web:changed.example.com#atproto"] = freshPublic
	v.Issuers = docs
	mismatch := fault{401, "BadJwtSignature", "jwt signature does not match jwt issuer"}
	malformed := fault{401, "BadJwt", "poorly formatted jwt"}
	issuer := fault{401, "BadJwtIss", "jwt iss is not a valid did"}
	noKey := fault{401, "AuthenticationRequired", "missing or bad key in did doc"}
	for name, c := range map[string]struct {
		token string
		want  fault
		owner syntax.DID
	}{
		"good":                  {serviceToken(t, key, nil, nil), fault{}, bob},
		"P-256":                 {serviceToken(t, curve, members{"alg": "ES256"}, members{"iss": "did:web:curve.example.com"}), fault{}, "did:web:curve.example.com"},
		"no typ":                {serviceToken(t, key, members{"typ": nil}, nil), fault{}, bob},
		"a fraction of seconds": {serviceToken(t, key, nil, members{"exp": float64(noon().Unix()) + 60.5}), fault{}, bob},
		"the key was changed":   {serviceToken(t, fresh, nil, members{"iss": "did:web:changed.example.com"}), fault{}, "did:web:changed.example.com"},

		"another's key":      {serviceToken(t, other, nil, nil), mismatch, ""},
		"alg of another key": {serviceToken(t, key, members{"alg": "ES256"}, nil), mismatch, ""},
		"alg none":           {serviceToken(t, key, members{"alg": "none"}, nil), mismatch, ""},
		"a session's alg":    {serviceToken(t, key, members{"alg": "HS256"}, nil), mismatch, ""},
		"no alg":             {serviceToken(t, key, members{"alg": nil}, nil), malformed, ""},
		"crit":               {serviceToken(t, key, members{"crit": []string{"x"}}, nil), malformed, ""},
		"an access token":    {serviceToken(t, key, members{"typ": "AT+jwt"}, nil), fault{401, "BadJwtType", `Invalid jwt type "AT+jwt"`}, ""},
		"a refresh token":    {serviceToken(t, key, members{"typ": "refresh+jwt"}, nil), fault{401, "BadJwtType", `Invalid jwt type "refresh+jwt"`}, ""},
		"a DPoP proof":       {serviceToken(t, key, members{"typ": "application/dpop+jwt"}, nil), fault{401, "BadJwtType", `Invalid jwt type "application/dpop+jwt"`}, ""},
		"expired":            {serviceToken(t, key, nil, members{"exp": noon().Unix()}), fault{401, "JwtExpired", "jwt expired"}, ""},
		"good for ever":      {serviceToken(t, key, nil, members{"exp": noon().Add(25 * time.Hour).Unix()}), fault{401, "BadJwt", "jwt expires later than in 24h0m0s"}, ""},
		"no exp":             {serviceToken(t, key, nil, members{"exp": nil}), malformed, ""},
		"exp a string":       {serviceToken(t, key, nil, members{"exp": "1"}), malformed, ""},
		"no lxm":             {serviceToken(t, key, nil, members{"lxm": nil}), fault{401, "BadJwtLexiconMethod", `missing jwt lexicon method ("lxm"). must match: ` + moveIn}, ""},
		"another lxm":        {serviceToken(t, key, nil, members{"lxm": uploads}), fault{401, "BadJwtLexiconMethod", `bad jwt lexicon method ("lxm"). must match: ` + moveIn}, ""},
		"lxm a list":         {serviceToken(t, key, nil, members{"lxm": []string{moveIn}}), malformed, ""},
		"another aud":        {serviceToken(t, key, nil, members{"aud": "did:web:other.example.com"}), fault{401, "BadJwtAudience", "jwt audience does not match service did"}, ""},
		"aud a list":         {serviceToken(t, key, nil, members{"aud": []string{audience}}), malformed, ""},
		"no iss":             {serviceToken(t, key, nil, members{"iss": nil}), malformed, ""},
		"iss no DID":         {serviceToken(t, key, nil, members{"iss": "alice.test"}), issuer, ""},
		"iss with nothing":   {serviceToken(t, key, nil, members{"iss": bob.String() + "#"}), issuer, ""},
		"iss of two":         {serviceToken(t, key, nil, members{"iss": bob.String() + "#a#b"}), issuer, ""},
		"iss a service":      {serviceToken(t, key, nil, members{"iss": bob.String() + "#x"}), fault{401, "BadJwtIss", "jwt iss is a service, and no account"}, ""},
		"iss unknown":        {serviceToken(t, key, nil, members{"iss": "did:web:unknown.example.com"}), noKey, ""},
		"iss of a bad key":   {serviceToken(t, key, nil, members{"iss": "did:web:bad.example.com"}), noKey, ""},
		"too many issuers":   {serviceToken(t, key, nil, members{"iss": "did:web:later.example.com"}), fault{503, "ServiceUnavailable", "The service cannot answer right now, please try again"}, ""},
		"iss not reached":    {serviceToken(t, key, nil, members{"iss": "did:web:down.example.com"}), fault{401, "AuthenticationRequired", "could not resolve iss did"}, ""},
		"the label's key":    {serviceToken(t, curve, members{"alg": "ES256"}, nil), mismatch, ""},
		"two parts":          {"a.b", malformed, ""},
		"garbage":            {"a.b.c", malformed, ""},
		"empty":              {"..", malformed, ""},
		"huge":               {serviceToken(t, key, nil, members{"x": strings.Repeat("x", 8<<10)}), malformed, ""},
	} {
		caller, err := v.SignUp(t.Context(), asked(t, moveIn, c.token))
		if got := faultOf(t, err); got != c.want || caller.Owner != c.owner {
			t.Errorf("%s: %v %q, want %v %q", name, got, caller.Owner, c.want, c.owner)
		}
	}
	cut := serviceToken(t, key, nil, nil)
	for _, token := range []string{cut[:len(cut)-4], cut + "AAAA", strings.Replace(cut, ".", ".e30", 1)} {
		if _, err := v.SignUp(t.Context(), asked(t, moveIn, token)); err == nil {
			t.Errorf("%s was taken", token)
		}
	}
}

// TestNewServiceToken: we accept the tokens that we make, and they are like the
// reference's.
func TestNewServiceToken(t *testing.T) {
	v := verifier(t)
	for _, makeKey := range []func(*testing.T) (atcrypto.PrivateKey, string){k256, p256} {
		key, public := makeKey(t)
		v.Issuers = documents{known: map[string]string{bob.String() + "#atproto": public}}
		token, err := auth.NewServiceToken(key, bob, audience, moveIn, noon(), noon().Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if c, err := v.SignUp(t.Context(), asked(t, moveIn, token)); err != nil || c.Owner != bob {
			t.Errorf("%+v, %v", c, err)
		}
	}
	key, _ := k256(t)
	seen := map[any]bool{}
	for _, method := range []string{"", moveIn} {
		token, err := auth.NewServiceToken(key, bob, "did:web:x.example.com#y", method, noon(), noon().Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		var p members
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		if _, has := p["lxm"]; has != (method != "") || p["iss"] != bob.String() || p["aud"] != "did:web:x.example.com#y" ||
			p["exp"] != float64(noon().Unix()+60) || p["iat"] != float64(noon().Unix()) || seen[p["jti"]] {
			t.Errorf("%q: %s", method, raw)
		}
		seen[p["jti"]] = true
	}
}

// TestModerator: the admin, and the moderation service that the operator trusts.
func TestModerator(t *testing.T) {
	v := verifier(t)
	key, public := k256(t)
	label, labelPublic := k256(t)
	docs := documents{known: map[string]string{
		ozone.String() + "#atproto": public, ozone.String() + "#atproto_label": labelPublic, bob.String() + "#atproto": public,
	}}
	docs.now = docs.known
	v.Issuers = docs
	untrusted := fault{401, "UntrustedIss", "Untrusted issuer"}
	token := func(key atcrypto.PrivateKey, iss string) string {
		return serviceToken(t, key, nil, members{"iss": iss, "lxm": lookAt})
	}
	for _, iss := range []string{ozone.String(), bob.String()} {
		if _, err := v.Moderator(t.Context(), asked(t, lookAt, token(key, iss))); faultOf(t, err) != untrusted {
			t.Errorf("no service is trusted, %s is: %v", iss, err)
		}
	}
	v.ModService = ozone
	for name, c := range map[string]struct {
		token string
		want  fault
	}{
		"the service":           {token(key, ozone.String()), fault{}},
		"its labeler":           {token(label, ozone.String()+"#atproto_labeler"), fault{}},
		"by the wrong key":      {token(key, ozone.String()+"#atproto_labeler"), fault{401, "BadJwtSignature", "jwt signature does not match jwt issuer"}},
		"another of its":        {token(key, ozone.String()+"#other"), untrusted},
		"somebody":              {token(key, bob.String()), untrusted},
		"for another method":    {serviceToken(t, key, nil, members{"iss": ozone}), fault{401, "BadJwtLexiconMethod", `bad jwt lexicon method ("lxm"). must match: ` + lookAt}},
		"a session of somebody": {mint(t, v.Keyring).Access, fault{401, "BadJwtType", `Invalid jwt type "at+jwt"`}},
	} {
		caller, err := v.Moderator(t.Context(), asked(t, lookAt, c.token))
		if got := faultOf(t, err); got != c.want || err == nil && caller.Service != ozone {
			t.Errorf("%s: %v, %+v, want %v", name, got, caller, c.want)
		}
	}
	r := asked(t, lookAt, "")
	r.SetBasicAuth("admin", password)
	if c, err := v.Moderator(t.Context(), r); err != nil || c.Service != "" {
		t.Errorf("the admin: %+v, %v", c, err)
	}
}

// TestOwnerOrService: a signed-in owner, for themselves, and the moderation service
// that the operator trusts; no other service.
func TestOwnerOrService(t *testing.T) {
	v := verifier(t)
	key, public := k256(t)
	v.Issuers = documents{known: map[string]string{ozone.String() + "#atproto": public, bob.String() + "#atproto": public}}
	v.ModService = ozone
	for name, c := range map[string]struct {
		token   string
		want    fault
		did     syntax.DID
		service syntax.DID
	}{
		"a session":         {mint(t, v.Keyring).Access, fault{}, alice, ""},
		"the service":       {serviceToken(t, key, nil, members{"iss": ozone, "lxm": lookAt}), fault{}, "", ozone},
		"an owner's token":  {serviceToken(t, key, nil, members{"iss": bob, "lxm": lookAt}), fault{401, "UntrustedIss", "Untrusted issuer"}, "", ""},
		"a refresh token":   {mint(t, v.Keyring).Refresh, fault{400, "InvalidToken", "Token could not be verified"}, "", ""},
		"nothing of a kind": {"garbage", fault{400, "InvalidToken", "Token could not be verified"}, "", ""},
	} {
		got, err := v.OwnerOrService(t.Context(), asked(t, lookAt, c.token))
		if f := faultOf(t, err); f != c.want || got.DID != c.did || got.Service != c.service {
			t.Errorf("%s: %v, %+v, want %v", name, f, got, c.want)
		}
	}
	r := asked(t, lookAt, "")
	r.SetBasicAuth("admin", password)
	if c, err := v.OwnerOrService(t.Context(), r); err == nil {
		t.Errorf("the admin: %+v", c)
	}
}

// TestUpload: a session of the account, or a service that has a token of the
// account.
func TestUpload(t *testing.T) {
	v := verifier(t)
	key, public := k256(t)
	v.Issuers = documents{known: map[string]string{bob.String() + "#atproto": public}}
	v.HostDID = "did:web:host.example.com"
	if _, err := v.SignUp(t.Context(), asked(t, moveIn, serviceToken(t, key, nil, members{"aud": v.HostDID}))); err == nil {
		t.Error("a token for the host name moves an account in")
	}
	for name, c := range map[string]struct {
		token string
		want  fault
		did   syntax.DID
	}{
		"for the host": {serviceToken(t, key, nil, members{"lxm": uploads, "aud": v.HostDID}), fault{}, bob},
		"for another host": {
			serviceToken(t, key, nil, members{"lxm": uploads, "aud": "did:web:other.example.com"}),
			fault{401, "BadJwtAudience", "jwt audience does not match service did"},
			"",
		},
		"a session":       {mint(t, v.Keyring).Access, fault{}, alice},
		"a service":       {serviceToken(t, key, nil, members{"lxm": uploads}), fault{}, bob},
		"another method":  {serviceToken(t, key, nil, nil), fault{401, "BadJwtLexiconMethod", `bad jwt lexicon method ("lxm"). must match: ` + uploads}, ""},
		"no method":       {serviceToken(t, key, nil, members{"lxm": nil}), fault{400, "InvalidToken", "Token could not be verified"}, ""},
		"a service's own": {serviceToken(t, key, nil, members{"lxm": uploads, "iss": bob.String() + "#x"}), fault{401, "BadJwtIss", "jwt iss is a service, and no account"}, ""},
		"a refresh token": {mint(t, v.Keyring).Refresh, fault{400, "InvalidToken", "Token could not be verified"}, ""},
	} {
		caller, err := v.Upload(t.Context(), asked(t, uploads, c.token))
		if got := faultOf(t, err); got != c.want || err == nil && caller.DID != c.did {
			t.Errorf("%s: %v, %+v, want %v %s", name, got, caller, c.want, c.did)
		}
	}
}
