package client_test

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/oauth/client"
	"nestbox/oauth/oauthtest"
)

// TestAssertion: each row of the contract, broken alone.
func TestAssertion(t *testing.T) {
	w := newWorld(t)
	key, other, dpop := oauthtest.NewSigner("ES256"), oauthtest.NewSigner("ES256"), oauthtest.NewSigner("ES256")
	c, err := w.load(t, jsonOf(confidential(nil, keyOf(key, "k1", nil), keyOf(other, "k2", nil))))
	if err != nil {
		t.Fatal(err)
	}
	now := float64(w.clock().Unix())
	claims := func(changes map[string]any) map[string]any {
		m := map[string]any{"iss": appID, "sub": appID, "aud": issuer, "iat": now, "exp": now + 60, "jti": "j"}
		maps.Copy(m, changes)
		maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
		return m
	}
	kid := map[string]any{"kid": "k1"}
	sign := func(changes map[string]any) string { return key.Sign(kid, claims(changes)) }
	type m = map[string]any
	for name, a := range map[string]struct{ jwt, code, says string }{
		"right":                  {sign(nil), "", ""},
		"typ":                    {key.Sign(m{"kid": "k1", "typ": "whatever"}, claims(nil)), "", ""},
		"aud with a slash":       {sign(m{"aud": issuer + "/"}), "", ""},
		"aud in an array":        {sign(m{"aud": []string{"https://x", issuer}}), "", ""},
		"no exp":                 {sign(m{"exp": nil}), "", ""},
		"exp 4 minutes ago":      {sign(m{"exp": now - 240}), "", ""},
		"nbf in 4 minutes":       {sign(m{"nbf": now + 240}), "", ""},
		"iat 5 minutes ago":      {sign(m{"iat": now - 300}), "", ""},
		"iat in 5 minutes":       {sign(m{"iat": now + 300}), "", ""},
		"iat 40 ms ahead":        {sign(m{"iat": now + 0.04}), "", ""},
		"jti of 255":             {sign(m{"jti": strings.Repeat("j", 255)}), "", ""},
		"the other key":          {other.Sign(m{"kid": "k2"}, claims(nil)), "", ""},
		"missing":                {"", client.CodeInvalidRequest, "required"},
		"not a JWT":              {"x", client.CodeInvalidClient, "is not a JWT"},
		"too large":              {strings.Repeat("x", 8<<10+1), client.CodeInvalidClient, "larger"},
		"alg none":               {key.Sign(m{"kid": "k1", "alg": "none"}, claims(nil)), client.CodeInvalidClient, "alg is not the client's"},
		"alg of another":         {key.Sign(m{"kid": "k1", "alg": "ES384"}, claims(nil)), client.CodeInvalidClient, "alg is not the client's"},
		"no kid":                 {key.Sign(nil, claims(nil)), client.CodeInvalidClient, "it has no kid"},
		"unknown kid":            {key.Sign(m{"kid": "k3"}, claims(nil)), client.CodeInvalidClient, "kid is not in the client's jwks"},
		"another's kid":          {key.Sign(m{"kid": "k2"}, claims(nil)), client.CodeInvalidClient, "signature is wrong"},
		"an unknown key":         {dpop.Sign(kid, claims(nil)), client.CodeInvalidClient, "signature is wrong"},
		"iss absent":             {sign(m{"iss": nil}), client.CodeInvalidClient, "iss"},
		"iss of another":         {sign(m{"iss": "https://x"}), client.CodeInvalidClient, "iss"},
		"sub absent":             {sign(m{"sub": nil}), client.CodeInvalidClient, "sub"},
		"sub of another":         {sign(m{"sub": "https://x"}), client.CodeInvalidClient, "sub"},
		"aud absent":             {sign(m{"aud": nil}), client.CodeInvalidClient, "aud"},
		"aud the endpoint":       {sign(m{"aud": issuer + "/oauth/token"}), client.CodeInvalidClient, "aud is not " + issuer},
		"aud of another":         {sign(m{"aud": []string{"https://x"}}), client.CodeInvalidClient, "aud"},
		"aud a number":           {sign(m{"aud": []any{1, issuer}}), client.CodeInvalidClient, "aud"},
		"iat absent":             {sign(m{"iat": nil}), client.CodeInvalidClient, "no iat"},
		"iat a string":           {sign(m{"iat": "1"}), client.CodeInvalidClient, "malformed"},
		"iat 301 seconds ago":    {sign(m{"iat": now - 301}), client.CodeInvalidClient, "iat is more than 5 minutes away"},
		"iat in 301 seconds":     {sign(m{"iat": now + 301}), client.CodeInvalidClient, "iat is more than 5 minutes away"},
		"iat at the end of time": {sign(m{"iat": 1e300}), client.CodeInvalidClient, "iat is more than 5 minutes away"},
		"exp 5 minutes ago":      {sign(m{"exp": now - 300}), client.CodeInvalidClient, "expired"},
		"nbf in 301 seconds":     {sign(m{"nbf": now + 301}), client.CodeInvalidClient, "not valid yet"},
		"jti absent":             {sign(m{"jti": nil}), client.CodeInvalidClient, "jti"},
		"jti of 256":             {sign(m{"jti": strings.Repeat("j", 256)}), client.CodeInvalidClient, "jti"},
		"claims malformed":       {key.SignRaw(`{"alg":"ES256","kid":"k1"}`, `[]`), client.CodeInvalidClient, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := w.Authenticate(t.Context(), c, client.Assertion{Type: client.AssertionType, JWT: a.jwt, ProofKey: dpop.Thumbprint()})
			if a.code != "" {
				refused(t, err, a.code, a.says)
				return
			}
			want, id := key.Thumbprint(), "k1"
			if name == "the other key" {
				want, id = other.Thumbprint(), "k2"
			}
			if err != nil || p.KeyID != id || p.Alg != "ES256" || p.Thumbprint != want || p.Client.ID != appID {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
	_, err = w.Authenticate(t.Context(), c, client.Assertion{Type: "x", JWT: sign(nil)})
	refused(t, err, client.CodeInvalidClient, "client_assertion_type is not "+client.AssertionType)
	_, err = w.Authenticate(t.Context(), c, client.Assertion{JWT: sign(nil)})
	refused(t, err, client.CodeInvalidRequest, "required")
	_, err = w.Authenticate(t.Context(), c, client.Assertion{Type: client.AssertionType, JWT: sign(nil), ProofKey: key.Thumbprint()})
	refused(t, err, client.CodeInvalidRequest, "DPoP key must not be the key of the client assertion")
	public, err := w.Load(t.Context(), "http://localhost", client.ForRequest)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Authenticate(t.Context(), public, client.Assertion{Type: "x", JWT: "y"})
	if err != nil || p.Record() != nil || p.Thumbprint != "" {
		t.Errorf("a public client: %+v, %v", p, err)
	}
}

// TestAssertionAlgs: every algorithm that is announced works.
func TestAssertionAlgs(t *testing.T) {
	w := newWorld(t)
	for _, alg := range client.AssertionAlgs() {
		key := oauthtest.NewSigner(alg)
		c, err := w.load(t, jsonOf(confidential(map[string]any{"token_endpoint_auth_signing_alg": alg}, keyOf(key, "1", nil))))
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		p, err := w.Authenticate(t.Context(), c, client.Assertion{Type: client.AssertionType, JWT: key.Assertion("1", appID, issuer, w.clock())})
		if err != nil || p.Thumbprint != key.Thumbprint() {
			t.Errorf("%s: %+v, %v", alg, p, err)
		}
	}
}

// TestAssertionOnce: an assertion may be presented until one request records it, and then
// for ten minutes never again; another client's of the same jti is another.
func TestAssertionOnce(t *testing.T) {
	w := newWorld(t)
	key := oauthtest.NewSigner("ES256")
	c, err := w.load(t, jsonOf(confidential(nil, keyOf(key, "1", nil))))
	if err != nil {
		t.Fatal(err)
	}
	at := func(iat time.Time) client.Assertion {
		return client.Assertion{Type: client.AssertionType, JWT: key.Sign(map[string]any{"kid": "1"}, map[string]any{
			"iss": appID, "sub": appID, "aud": issuer, "iat": iat.Unix(), "jti": "one",
		})}
	}
	prove := func(a client.Assertion) client.Proof {
		t.Helper()
		p, err := w.Authenticate(t.Context(), c, a)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := at(w.clock().Add(5 * time.Minute))
	first, again := prove(a), prove(a) // asked for a nonce, the client sends it again
	if err := again.Record(); err != nil {
		t.Fatal(err)
	}
	refused(t, first.Record(), client.CodeInvalidClient, "used before")
	w.pass(10 * time.Minute)
	refused(t, prove(a).Record(), client.CodeInvalidClient, "used before")
	w.pass(2 * time.Minute)
	if err := prove(at(w.clock())).Record(); err != nil {
		t.Errorf("the jti again, later: %v", err)
	}
	var won atomic.Int32
	var all sync.WaitGroup
	w.pass(time.Hour)
	for range 20 {
		p := prove(at(w.clock()))
		all.Go(func() {
			if p.Record() == nil {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 20 at once used one assertion", won.Load())
	}
}

// TestChangedKeys: a key that the set lacks is looked for once more, in a fresh one; if the
// host is down that is no refusal; and what a removed key's sessions await is one hour.
func TestChangedKeys(t *testing.T) {
	w := newWorld(t)
	old, fresh := oauthtest.NewSigner("ES256"), oauthtest.NewSigner("ES256")
	document := func(extra map[string]any) string {
		m := map[string]any{"jwks": nil, "jwks_uri": setURL}
		maps.Copy(m, extra)
		return jsonOf(confidential(m))
	}
	set := func(keys ...map[string]any) {
		w.serve(setURL, answer{body: jsonOf(map[string]any{"keys": keys})})
	}
	w.serve(appID, answer{body: document(nil)})
	set(keyOf(old, "old", nil))
	c, err := w.Load(t.Context(), appID, client.ForSession)
	if err != nil || !c.HasKey(old.Thumbprint()) {
		t.Fatal(err)
	}
	prove := func(s *oauthtest.Signer, kid string) (client.Proof, error) {
		c, err := w.Load(t.Context(), appID, client.ForSession)
		if err != nil {
			t.Fatal(err)
		}
		return w.Authenticate(t.Context(), c, client.Assertion{Type: client.AssertionType, JWT: s.Assertion(kid, appID, issuer, w.clock()), For: client.ForSession})
	}
	removed := func(want ...string) {
		t.Helper()
		var got []string
		if err := w.RemovedKeys(t.Context(), func(k client.RemovedKey) error { got = append(got, k.Thumbprint); return nil }); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("removed keys %q, want %q", got, want)
		}
	}
	w.fetched(setURL)
	w.pass(5 * time.Second) // it is new
	_, err = prove(fresh, "new")
	refused(t, err, client.CodeInvalidClient, "kid is not in the client's jwks")
	if n := w.fetched(setURL); n != 0 {
		t.Errorf("a new set was fetched %d times", n)
	}

	set(keyOf(fresh, "new", nil))
	w.pass(6 * time.Second)
	p, err := prove(fresh, "new")
	if err != nil || !p.Client.HasKey(fresh.Thumbprint()) || p.Client.HasKey(old.Thumbprint()) {
		t.Errorf("the new key: %+v, %v", p, err)
	}
	_, err = prove(old, "old")
	refused(t, err, client.CodeInvalidClient, "kid is not")
	since, err := w.KeyMissing(t.Context(), p.Client, old.Thumbprint())
	if err != nil || !since.Equal(start.Add(11*time.Second)) {
		t.Errorf("missing since %v, %v", since, err)
	}
	removed()

	w.pass(30 * time.Minute)
	w.serve(setURL, answer{status: 500})
	if _, err = prove(old, "old"); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("an old key while the host is down: %v", err)
	}
	w.pass(time.Minute)
	if _, err = prove(fresh, "new"); err != nil {
		t.Errorf("the new key while the host is down: %v", err)
	}
	w.pass(time.Hour)
	removed() // the set is old
	set(keyOf(fresh, "new", nil))
	w.pass(time.Minute)
	removed(old.Thumbprint())

	set(keyOf(fresh, "new", nil), keyOf(old, "old", nil)) // it is back
	w.pass(time.Minute)
	if _, err := prove(old, "old"); err != nil {
		t.Error(err)
	}
	w.pass(2 * time.Hour)
	removed()
	if _, err := w.KeyMissing(t.Context(), &client.Client{ID: "https://x.example.com/y"}, "z"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a client that nobody knows: %v", err)
	}
}
