package dpop_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"nestbox/oauth/dpop"
	"nestbox/oauth/oauthtest"
)

const (
	origin = "https://pds.example"
	path   = "/xrpc/app.example.get"
	token  = "access.token"
)

var secret = []byte(strings.Repeat("s", dpop.SecretSize))

// start is in the middle of a window.
var start = time.Date(2026, 11, 29, 12, 0, 30, 0, time.UTC)

// world is a checker on a clock that the test sets.
type world struct {
	*dpop.Checker

	now time.Time
}

// newWorld has been running for an hour.
func newWorld() *world {
	w := &world{now: start}
	w.Checker = &dpop.Checker{
		Nonces: dpop.NewNonces(secret), Replays: dpop.NewReplays(start.Add(-time.Hour), 0), Origin: origin,
		Now: func() time.Time { return w.now },
	}
	return w
}

func (w *world) call(proof string) (string, error) {
	return w.Check(dpop.Request{Headers: []string{proof}, Method: "GET", Path: path, Token: token})
}

func (w *world) push(proof string) (string, error) {
	return w.Check(dpop.Request{Headers: []string{proof}, Method: "POST", Path: "/oauth/par"})
}

// wants fails unless err has the code, and a message that clients can be shown.
func wants(t *testing.T, err error, code, message string) {
	t.Helper()
	var e *dpop.Error
	if code == "" && err == nil {
		return
	}
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, message) {
		t.Errorf("got %v, want %s with %q", err, code, message)
		return
	}
	if strings.ContainsFunc(e.Message, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		t.Errorf("%q does not fit into error_description", e.Message)
	}
}

// TestAlgorithms: each accepted algorithm's proof passes, with the thumbprint of its key,
// and no other algorithm's.
func TestAlgorithms(t *testing.T) {
	w := newWorld()
	for _, alg := range []string{"ES256", "ES256K", "ES384", "ES512", "RS256", "PS256"} {
		key := oauthtest.NewSigner(alg)
		got, err := w.call(key.Proof("GET", origin+path, w.Nonce(), token))
		if err != nil || got != key.Thumbprint() {
			t.Errorf("%s: %q, %v, want %q", alg, got, err, key.Thumbprint())
		}
	}
	for _, alg := range []string{"RS384", "RS512", "PS384", "PS512"} {
		_, err := w.call(oauthtest.NewSigner(alg).Proof("GET", origin+path, w.Nonce(), token))
		wants(t, err, dpop.CodeInvalidProof, "alg is not accepted")
	}
}

// TestShortCoordinate: a coordinate without its leading zeros, as indigo writes one, is that
// of the key; the thumbprint is of what the proof holds, as at the reference.
func TestShortCoordinate(t *testing.T) {
	w := newWorld()
	for _, alg := range []string{"ES256", "ES256K"} {
		for _, member := range []string{"x", "y"} {
			var key *oauthtest.Signer
			var short []byte
			for key == nil || short[0] != 0 {
				key = oauthtest.NewSigner(alg)
				short, _ = base64.RawURLEncoding.DecodeString(key.JWK()[member].(string))
			}
			jwk := key.JWK()
			jwk[member] = base64.RawURLEncoding.EncodeToString(bytes.TrimLeft(short, "\x00"))
			header := key.ProofHeader()
			header["jwk"] = jwk
			text, _ := json.Marshal(jwk) // its members are sorted, and only those of RFC 7638
			sum := sha256.Sum256(text)
			got, err := w.call(key.Sign(header, oauthtest.Claims("GET", origin+path, w.Nonce(), token)))
			if want := base64.RawURLEncoding.EncodeToString(sum[:]); err != nil || got != want {
				t.Errorf("%s, short %s: %q, %v, want %q", alg, member, got, err, want)
			}
		}
	}
}

// TestForm: everything that a proof's form can have wrong.
func TestForm(t *testing.T) {
	w := newWorld()
	key, other, large := oauthtest.NewSigner("ES256"), oauthtest.NewSigner("ES256"), oauthtest.NewSigner("RS256")
	claims := func() map[string]any { return oauthtest.Claims("GET", origin+path, w.Nonce(), token) }
	header := func(change map[string]any) map[string]any {
		h := key.ProofHeader()
		maps.Copy(h, change)
		return h
	}
	jwk := func(k *oauthtest.Signer, change map[string]any) map[string]any {
		j := k.JWK()
		maps.Copy(j, change)
		return map[string]any{"jwk": j}
	}
	good := key.Proof("GET", origin+path, w.Nonce(), token)
	parts := strings.Split(good, ".")
	zeros := base64.RawURLEncoding.EncodeToString(make([]byte, 31))
	long := base64.RawURLEncoding.EncodeToString(make([]byte, 33))
	for name, c := range map[string]struct{ proof, message string }{
		"empty":                  {"", "is not a JWT"},
		"two parts":              {parts[0] + "." + parts[1], "is not a JWT"},
		"four parts":             {good + ".x", "is not a JWT"},
		"padded":                 {parts[0] + "=." + parts[1] + "." + parts[2], "is not a JWT"},
		"header not JSON":        {"YQ." + parts[1] + "." + parts[2], "is not a JWT"},
		"two proofs in one":      {good + ", " + good, "is not a JWT"},
		"too large":              {strings.Repeat("a", dpop.MaxProof+1), "too large"},
		"typ":                    {key.Sign(header(map[string]any{"typ": "JWT"}), claims()), "typ is not dpop+jwt"},
		"no typ":                 {key.Sign(map[string]any{"jwk": key.JWK()}, claims()), "typ is not dpop+jwt"},
		"alg none":               {key.Sign(header(map[string]any{"alg": "none"}), claims()), "alg is not accepted"},
		"alg HS256":              {key.Sign(header(map[string]any{"alg": "HS256"}), claims()), "alg is not accepted"},
		"alg of another curve":   {key.Sign(header(map[string]any{"alg": "ES384"}), claims()), "not of the type of alg"},
		"alg of another type":    {key.Sign(header(map[string]any{"alg": "RS256"}), claims()), "not of the type of alg"},
		"crit":                   {key.Sign(header(map[string]any{"crit": []string{"exp"}}), claims()), "demands an extension"},
		"no jwk":                 {key.Sign(map[string]any{"typ": "dpop+jwt"}, claims()), "jwk is missing"},
		"jwk not an object":      {key.Sign(map[string]any{"typ": "dpop+jwt", "jwk": "x"}, claims()), "is not a JSON Web Key"},
		"another's key":          {key.Sign(header(jwk(other, nil)), claims()), "signature is wrong"},
		"private key":            {key.Sign(header(jwk(key, map[string]any{"d": "AA"})), claims()), "has private members"},
		"symmetric key":          {key.Sign(header(map[string]any{"jwk": map[string]any{"kty": "oct", "k": "AA"}}), claims()), "has private members"},
		"kty":                    {key.Sign(header(jwk(key, map[string]any{"kty": "OKP"})), claims()), "kty is neither"},
		"crv":                    {key.Sign(header(jwk(key, map[string]any{"crv": "P-224"})), claims()), "crv is not one of"},
		"coordinate of zeros":    {key.Sign(header(jwk(key, map[string]any{"x": zeros})), claims()), "not a point"},
		"long coordinate":        {key.Sign(header(jwk(key, map[string]any{"x": long})), claims()), "missing or too long"},
		"no coordinate":          {key.Sign(header(jwk(key, map[string]any{"y": ""})), claims()), "missing or too long"},
		"line break":             {key.Sign(header(jwk(key, map[string]any{"x": "\n" + key.JWK()["x"].(string)})), claims()), "is not base64url"},
		"not on the curve":       {key.Sign(header(jwk(key, map[string]any{"x": key.JWK()["y"], "y": key.JWK()["x"]})), claims()), "not a point"},
		"for another use":        {key.Sign(header(jwk(key, map[string]any{"use": "enc"})), claims()), "use is not sig"},
		"for signing":            {key.Sign(header(jwk(key, map[string]any{"key_ops": []string{"sign"}})), claims()), "key_ops has private uses"},
		"for another alg":        {key.Sign(header(jwk(key, map[string]any{"alg": "ES384"})), claims()), "not of the type of alg"},
		"RSA with leading zeros": {large.Sign(map[string]any{"typ": "dpop+jwt", "jwk": map[string]any{"kty": "RSA", "n": large.JWK()["n"], "e": "AAEAAQ"}}, claims()), "leading zeros"},
		"RSA of 1,024 bits":      {large.Sign(map[string]any{"typ": "dpop+jwt", "jwk": map[string]any{"kty": "RSA", "n": strings.Repeat("_", 170) + "8", "e": "AQAB"}}, claims()), ""},
		"RSA with exponent 1":    {large.Sign(map[string]any{"typ": "dpop+jwt", "jwk": map[string]any{"kty": "RSA", "n": large.JWK()["n"], "e": "AQ"}}, claims()), "not that of an RSA key"},
		"changed claims":         {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{}`)) + "." + parts[2], "signature is wrong"},
		"no signature":           {parts[0] + "." + parts[1] + ".", "signature is wrong"},
		"claims not JSON":        {key.SignRaw(`{"typ":"dpop+jwt","alg":"ES256","jwk":`+jsonOf(key.JWK())+`}`, "x"), "malformed"},
		"claim twice":            {key.SignRaw(`{"typ":"dpop+jwt","alg":"ES256","jwk":`+jsonOf(key.JWK())+`}`, `{"jti":"a","jti":"b"}`), "malformed"},
		"header member twice":    {key.SignRaw(`{"typ":"x","typ":"dpop+jwt","alg":"ES256","jwk":`+jsonOf(key.JWK())+`}`, `{}`), "is not a JWT"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.call(c.proof)
			wants(t, err, dpop.CodeInvalidProof, c.message)
		})
	}
	_, err := w.Check(dpop.Request{Method: "GET", Path: path})
	wants(t, err, dpop.CodeInvalidProof, "DPoP proof required")
	_, err = w.Check(dpop.Request{Headers: []string{good, good}, Method: "GET", Path: path, Token: token})
	wants(t, err, dpop.CodeInvalidProof, "once")
	if _, err := w.call(good); err != nil {
		t.Errorf("the good proof, after all these: %v", err)
	}
	if _, err := w.call(key.Sign(header(map[string]any{"typ": "application/DPoP+jwt"}), claims())); err != nil {
		t.Errorf("typ as a media type: %v", err)
	}
}

// TestClaims: the rows of the contract after the form, each claim wrong alone.
func TestClaims(t *testing.T) {
	w := newWorld()
	key := oauthtest.NewSigner("ES256")
	for name, c := range map[string]struct {
		claim string
		value any // nil: absent
		code  string
		says  string
	}{
		"htm absent":        {"htm", nil, dpop.CodeInvalidProof, "htm mismatch"},
		"htm of another":    {"htm", "POST", dpop.CodeInvalidProof, "htm mismatch"},
		"htm in lower case": {"htm", "get", dpop.CodeInvalidProof, "htm mismatch"},
		"htm not a string":  {"htm", 1, dpop.CodeInvalidProof, "malformed"},
		"htu absent":        {"htu", nil, dpop.CodeInvalidProof, "htu mismatch: this server is " + origin},
		"htu of another":    {"htu", "https://other.example" + path, dpop.CodeInvalidProof, "htu mismatch"},
		"nonce absent":      {"nonce", nil, dpop.CodeUseNonce, "Resource server requires nonce in DPoP proof"},
		"nonce of another":  {"nonce", "AAAAAAAAAAAAAAAAAAAAAA", dpop.CodeUseNonce, "Resource server requires nonce"},
		"iat absent":        {"iat", nil, dpop.CodeInvalidProof, "iat"},
		"iat not a number":  {"iat", "1", dpop.CodeInvalidProof, "iat"},
		"iat long ago":      {"iat", 0, "", ""},
		"iat in 2100":       {"iat", 4102444800.5, "", ""},
		"expired":           {"exp", 1, "", ""},
		"not yet valid":     {"nbf", int64(4102444800), "", ""},
		"iss":               {"iss", "https://app.example", "", ""},
		"unknown":           {"x", map[string]any{}, "", ""},
		"ath absent":        {"ath", nil, dpop.CodeInvalidProof, "ath mismatch"},
		"ath of another":    {"ath", "AAAA", dpop.CodeInvalidProof, "ath mismatch"},
		"jti absent":        {"jti", nil, dpop.CodeInvalidProof, "jti"},
		"jti empty":         {"jti", "", dpop.CodeInvalidProof, "jti"},
		"jti of 255":        {"jti", strings.Repeat("j", 255), "", ""},
		"jti of 256":        {"jti", strings.Repeat("j", 256), dpop.CodeInvalidProof, "jti"},
	} {
		t.Run(name, func(t *testing.T) {
			claims := oauthtest.Claims("GET", origin+path, w.Nonce(), token)
			claims[c.claim] = c.value
			if c.value == nil {
				delete(claims, c.claim)
			}
			_, err := w.call(key.Sign(key.ProofHeader(), claims))
			wants(t, err, c.code, c.says)
		})
	}
}

// TestOrder: of several faults the one that comes first in the contract is answered, and
// a proof that is refused is not remembered.
func TestOrder(t *testing.T) {
	w := newWorld()
	key := oauthtest.NewSigner("ES256")
	claims := map[string]any{"htm": "POST", "htu": "x", "nonce": "x", "iat": "x", "ath": "x", "jti": ""}
	for _, c := range []struct {
		claim string
		right any
		code  string
		says  string
	}{
		{"htm", "GET", dpop.CodeInvalidProof, "htm"},
		{"htu", origin + path, dpop.CodeInvalidProof, "htu"},
		{"nonce", w.Nonce(), dpop.CodeUseNonce, "nonce"},
		{"iat", 1, dpop.CodeInvalidProof, "iat"},
		{"ath", oauthtest.Claims("GET", "", "", token)["ath"], dpop.CodeInvalidProof, "ath"},
		{"jti", "one", dpop.CodeInvalidProof, "jti"},
	} {
		_, err := w.call(key.Sign(key.ProofHeader(), claims))
		wants(t, err, c.code, c.says)
		claims[c.claim] = c.right
	}
	proof := key.Sign(key.ProofHeader(), claims)
	if _, err := w.call(proof); err != nil {
		t.Errorf("everything right: %v", err)
	}
	_, err := w.call(proof)
	wants(t, err, dpop.CodeInvalidProof, "DPoP proof replayed")
	if _, err := w.call(oauthtest.NewSigner("ES256").Sign(key.ProofHeader(), claims)); err == nil {
		t.Error("another key signed it")
	}
	other := oauthtest.NewSigner("ES256")
	if _, err := w.call(other.Sign(other.ProofHeader(), claims)); err != nil {
		t.Errorf("the jti of another key: %v", err)
	}
	w.now = w.now.Add(time.Minute)
	claims["nonce"] = w.Nonce()
	_, err = w.call(key.Sign(key.ProofHeader(), claims))
	wants(t, err, dpop.CodeInvalidProof, "DPoP proof replayed") // its first nonce lives
}

// TestAuthorizationServer: it has no token, so it ignores ath, and words its demand for a
// nonce for itself.
func TestAuthorizationServer(t *testing.T) {
	w := newWorld()
	key := oauthtest.NewSigner("ES256")
	if _, err := w.push(key.Proof("POST", origin+"/oauth/par", w.Nonce(), "whatever")); err != nil {
		t.Error(err)
	}
	_, err := w.push(key.Proof("POST", origin+"/oauth/par", "", ""))
	wants(t, err, dpop.CodeUseNonce, "Authorization server requires nonce in DPoP proof")
}

// TestTarget: what names the request's target, and what does not.
func TestTarget(t *testing.T) {
	w := newWorld()
	key := oauthtest.NewSigner("ES256")
	check := func(method, path, htu string) error {
		_, err := w.Check(dpop.Request{Headers: []string{key.Proof(method, htu, w.Nonce(), "")}, Method: method, Path: path})
		return err
	}
	for _, c := range []struct {
		path, htu string
		same      bool
	}{
		{"/a/b", origin + "/a/b", true},
		{"/a/b", origin + "/a/b?x=1&y", true},
		{"/a/b", origin + "/a/b#x", true},
		{"/a/b", origin + "/a/b?x#y", true},
		{"/a/b", "HTTPS://PDS.Example/a/b", true},
		{"/a/b", "https://pds.example:443/a/b", true},
		{"/a/b", origin + "/%61/b", true},
		{"/%61/b", origin + "/a/b", true},
		{"/a%2fb", origin + "/a%2Fb", true},
		{"/a%2fb", origin + "/a/b", false},
		{"/a/b", origin + "/a/b/", false},
		{"/a/b", origin + "/A/b", false},
		{"/a/b", origin + "/a%zzb", false},
		{"/a/b", origin + "/a/b%", false},
		{"/a/b", origin, false},
		{"/", origin, true},
		{"/", origin + "/", true},
		{"/", origin + "?x", true},
		{"/a/b", "http://pds.example/a/b", false},
		{"/a/b", "https://pds.example:8443/a/b", false},
		{"/a/b", "https://user@pds.example/a/b", false},
		{"/a/b", "https://pds.example.evil.example/a/b", false},
		{"/a/b", "https://pds.example%2Fa/b", false},
		{"/a/b", "/a/b", false},
		{"/a/b", "pds.example/a/b", false},
		{"/a/b", "https:/pds.example/a/b", false},
	} {
		if err := check("GET", c.path, c.htu); (err == nil) != c.same {
			t.Errorf("%s for %s: %v, want it taken: %v", c.htu, c.path, err, c.same)
		}
	}
	for _, c := range []struct {
		origin, htu string
		dev, same   bool
	}{
		{"http://localhost:2583", "http://127.0.0.1:2583/a", true, true},
		{"http://localhost:2583", "http://localhost:2583/a", true, true},
		{"http://127.0.0.1:2583", "http://localhost:2583/a", true, true},
		{"http://localhost:2583", "http://127.0.0.1:2584/a", true, false},
		{"http://localhost:2583", "http://127.0.0.2:2583/a", true, false},
		{"http://localhost:2583", "http://127.0.0.1:2583/a", false, false},
		{"http://localhost", "http://127.0.0.1:80/a", true, true},
	} {
		w.Origin, w.Dev = c.origin, c.dev
		if err := check("GET", "/a", c.htu); (err == nil) != c.same {
			t.Errorf("%s at %s (development: %v): %v, want it taken: %v", c.htu, c.origin, c.dev, err, c.same)
		}
	}
}
