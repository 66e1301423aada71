package client_test

import (
	"strings"
	"testing"

	"nestbox/oauth/client"
	"nestbox/oauth/oauthtest"
)

// load serves a document and loads its client, as if it was new.
func (w *world) load(t *testing.T, document string) (*client.Client, error) {
	t.Helper()
	w.serve(appID, answer{body: document})
	w.pass(client.RetryAfter)
	_, err := w.With(t.Context(), appID, client.ForRequest, func(*client.Client) error { return client.ErrNotFound }) // so that it looks again
	if err != nil && err != client.ErrNotFound {                                                                      //nolint:errorlint // its own
		return nil, err
	}
	return w.Load(t.Context(), appID, client.ForRequest)
}

// TestDocument: each rule of the contract's table, broken alone, and kept.
func TestDocument(t *testing.T) {
	w := newWorld(t)
	key := oauthtest.NewSigner("ES256")
	many := make([]string, 51)
	for i := range many {
		many[i] = "https://app.example.com/callback"
	}
	type m = map[string]any
	keys := func(k ...map[string]any) m { return m{"keys": k} }
	for name, c := range map[string]struct {
		document map[string]any
		says     string // "": it is right
	}{
		"public":                      {metadata(nil), ""},
		"confidential":                {confidential(nil, keyOf(key, "1", nil)), ""},
		"client_id absent":            {metadata(m{"client_id": nil}), "client_id: it is not the URL of the document"},
		"client_id of another":        {metadata(m{"client_id": appID + "x"}), "client_id: it is not the URL of the document, but " + appID + "x"},
		"client_id not a string":      {metadata(m{"client_id": 1}), "client_id: it is not a string"},
		"redirect_uris absent":        {metadata(m{"redirect_uris": nil}), "redirect_uris: it is not an array of 1 to 50"},
		"redirect_uris empty":         {metadata(m{"redirect_uris": []string{}}), "redirect_uris: it is not an array of 1 to 50"},
		"redirect_uris too many":      {metadata(m{"redirect_uris": many}), "redirect_uris: it is not an array of 1 to 50"},
		"redirect_uris 50":            {metadata(m{"redirect_uris": many[:50]}), ""},
		"redirect_uris a string":      {metadata(m{"redirect_uris": many[0]}), "redirect_uris: it is not an array"},
		"redirect_uris a number":      {metadata(m{"redirect_uris": []any{many[0], 1}}), "redirect_uris[1]: it is not a string"},
		"response_types without code": {metadata(m{"response_types": []string{"token"}}), "response_types: it does not hold code"},
		"response_types with more":    {metadata(m{"response_types": []string{"code", "code id_token"}}), ""},
		"response_types absent":       {metadata(m{"response_types": nil}), ""},
		"grant_types absent":          {metadata(m{"grant_types": nil}), ""},
		"grant_types without code":    {metadata(m{"grant_types": []string{"refresh_token"}}), "grant_types: it does not hold authorization_code"},
		"grant_types with more":       {metadata(m{"grant_types": []string{"authorization_code", "implicit"}}), "grant_types[1]"},
		"grant_types twice":           {metadata(m{"grant_types": []string{"authorization_code", "authorization_code"}}), "grant_types[1]"},
		"scope absent":                {metadata(m{"scope": nil}), "scope: it is missing"},
		"scope empty":                 {metadata(m{"scope": ""}), "scope: it is missing"},
		"scope too large":             {metadata(m{"scope": "atproto " + strings.Repeat("x", 16<<10)}), "scope: it is missing, empty, or larger"},
		"scope without atproto":       {metadata(m{"scope": "transition:generic"}), "scope: it does not hold atproto"},
		"scope twice":                 {metadata(m{"scope": "atproto atproto"}), "scope: it holds atproto twice"},
		"scope two spaces":            {metadata(m{"scope": "atproto  x"}), "scope: it is not a list of tokens"},
		"scope with quotes":           {metadata(m{"scope": `atproto x"`}), "scope: it is not a list of tokens"},
		"scope unknown":               {metadata(m{"scope": "atproto repo:* never:heard?of=it"}), ""},
		"method absent":               {metadata(m{"token_endpoint_auth_method": nil}), "token_endpoint_auth_method: it is neither none nor private_key_jwt"},
		"method other":                {metadata(m{"token_endpoint_auth_method": "client_secret_basic"}), "token_endpoint_auth_method: it is neither"},
		"alg of a public client":      {metadata(m{"token_endpoint_auth_signing_alg": "ES256"}), "token_endpoint_auth_signing_alg: with token_endpoint_auth_method none"},
		"alg absent":                  {confidential(m{"token_endpoint_auth_signing_alg": nil}, keyOf(key, "1", nil)), "token_endpoint_auth_signing_alg: it is not one of"},
		"alg none":                    {confidential(m{"token_endpoint_auth_signing_alg": "none"}, keyOf(key, "1", nil)), "token_endpoint_auth_signing_alg: it is not one of"},
		"alg HS256":                   {confidential(m{"token_endpoint_auth_signing_alg": "HS256"}, keyOf(key, "1", nil)), "token_endpoint_auth_signing_alg: it is not one of"},
		"jwks of a public client":     {metadata(m{"jwks": keys()}), ""},
		"jwks and jwks_uri":           {confidential(m{"jwks_uri": setURL}, keyOf(key, "1", nil)), "jwks_uri: jwks is there as well"},
		"both, public":                {metadata(m{"jwks": keys(), "jwks_uri": setURL}), "jwks_uri: jwks is there as well"},
		"neither":                     {confidential(m{"jwks": nil}), "jwks: with private_key_jwt there must be"},
		"jwks_uri http":               {confidential(m{"jwks": nil, "jwks_uri": "http://keys.example.com/x"}), "jwks_uri: it is not an https URL"},
		"jwks_uri of a user":          {confidential(m{"jwks": nil, "jwks_uri": "https://u@keys.example.com/x"}), "jwks_uri: it is not an https URL"},
		"jwks empty":                  {confidential(nil), "jwks: it is not an object with an array keys"},
		"jwks no keys":                {confidential(m{"jwks": m{"keys": []any{}}}), "jwks: it has no usable key: it has none"},
		"jwks an array":               {confidential(m{"jwks": []any{}}), "jwks: it is not an object with an array keys"},
		"key without kid":             {confidential(nil, key.JWK()), "keys[0] has no kid"},
		"kid with NUL":                {confidential(nil, keyOf(key, "a\x00", nil)), "keys[0] has a kid of more than 256 bytes, or with control characters"},
		"long kid":                    {confidential(nil, keyOf(key, strings.Repeat("k", 257), nil)), "keys[0] has a kid of more than 256 bytes, or with control characters"},
		"kid twice":                   {confidential(nil, keyOf(key, "1", nil), keyOf(oauthtest.NewSigner("ES256"), "1", nil)), "the kid 1 is there twice"},
		"private key":                 {confidential(nil, keyOf(key, "1", m{"d": "AA"})), "keys[0] has private members"},
		"key for encryption":          {confidential(nil, keyOf(key, "1", m{"use": "enc"})), "keys[0] use is not sig"},
		"key for signatures":          {confidential(nil, keyOf(key, "1", m{"use": "sig", "key_ops": []string{"verify"}})), ""},
		"key_ops private":             {confidential(nil, keyOf(key, "1", m{"key_ops": []string{"sign", "verify"}})), "keys[0] key_ops has private uses"},
		"key revoked":                 {confidential(nil, keyOf(key, "1", m{"revoked": m{"revoked_at": 1}})), "keys[0] is revoked"},
		"key of another type":         {confidential(nil, keyOf(oauthtest.NewSigner("ES384"), "1", nil)), "keys[0] is not for token_endpoint_auth_signing_alg"},
		"one usable key of three":     {confidential(nil, key.JWK(), keyOf(oauthtest.NewSigner("ES384"), "2", nil), keyOf(key, "3", nil)), ""},
		"application_type absent":     {metadata(m{"application_type": nil}), ""},
		"application_type other":      {metadata(m{"application_type": "mobile"}), "application_type: it is neither web nor native"},
		"native and confidential":     {confidential(m{"application_type": "native"}, keyOf(key, "1", nil)), "application_type: native demands"},
		"not bound":                   {metadata(m{"dpop_bound_access_tokens": nil}), "dpop_bound_access_tokens: it is not true"},
		"bound false":                 {metadata(m{"dpop_bound_access_tokens": false}), "dpop_bound_access_tokens: it is not true"},
		"bound a string":              {metadata(m{"dpop_bound_access_tokens": "true"}), "dpop_bound_access_tokens: it is not true"},
		"client_uri":                  {metadata(m{"client_uri": "https://app.example.com"}), ""},
		"client_uri a parent":         {metadata(m{"client_uri": "https://app.example.com/oauth/"}), ""},
		"client_uri itself":           {metadata(m{"client_uri": appID}), ""},
		"client_uri beside":           {metadata(m{"client_uri": "https://app.example.com/other"}), "client_uri: it is not of the same origin"},
		"client_uri half a name":      {metadata(m{"client_uri": "https://app.example.com/oau"}), "client_uri: it is not of the same origin"},
		"client_uri of another":       {metadata(m{"client_uri": "https://example.com"}), "client_uri: it is not of the same origin"},
		"client_uri http":             {metadata(m{"client_uri": "http://app.example.com"}), "client_uri: it is not of the same origin"},
		"subject_type public":         {metadata(m{"subject_type": "public"}), ""},
		"subject_type pairwise":       {metadata(m{"subject_type": "pairwise"}), "subject_type: it is not public"},
		"default_max_age":             {metadata(m{"default_max_age": 60}), "default_max_age: this server"},
		"userinfo_signed":             {metadata(m{"userinfo_signed_response_alg": "ES256"}), "userinfo_signed_response_alg: this server"},
		"userinfo_encrypted":          {metadata(m{"userinfo_encrypted_response_alg": "ECDH-ES"}), "userinfo_encrypted_response_alg: this server"},
		"id_token_signed":             {metadata(m{"id_token_signed_response_alg": "ES256"}), "id_token_signed_response_alg: this server"},
		"authorization_encrypted alg": {metadata(m{"authorization_encrypted_response_alg": "x"}), "authorization_encrypted_response_alg: this server"},
		"authorization_encrypted enc": {metadata(m{"authorization_encrypted_response_enc": "x"}), "authorization_encrypted_response_enc: this server"},
		"tls bound":                   {metadata(m{"tls_client_certificate_bound_access_tokens": true}), "tls_client_certificate_bound_access_tokens: this server"},
		"tls not bound":               {metadata(m{"tls_client_certificate_bound_access_tokens": false}), ""},
		"null members":                {metadata(m{"contacts": nil, "x": []any{nil, m{"y": 1}}}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := w.load(t, jsonOf(c.document))
			if c.says == "" {
				if err != nil || got.ID != appID {
					t.Errorf("%v", err)
				}
				return
			}
			refused(t, err, client.CodeInvalidMetadata, "Unable to obtain client metadata for '"+appID+"': ")
			refused(t, err, client.CodeInvalidMetadata, c.says)
		})
	}
	for name, document := range map[string]string{
		"array": "[]", "text": "hello", "null": "null", "cut": `{"client_id":`, "more": "{} {}", "a member twice": `{"x":1,"x":2}`, "not UTF-8": "{\"x\":\"\xff\"}",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.load(t, document)
			refused(t, err, client.CodeInvalidMetadata, "not a JSON object")
		})
	}
}

// TestOrderOfChecks: of several faults the first in the contract's order is answered.
func TestOrderOfChecks(t *testing.T) {
	w := newWorld(t)
	d := metadata(map[string]any{
		"client_id": "x", "redirect_uris": []string{"x"}, "response_types": []string{}, "grant_types": []string{}, "scope": "", "token_endpoint_auth_method": "x",
		"application_type": "x", "dpop_bound_access_tokens": false, "client_uri": "x", "subject_type": "x",
	})
	right := metadata(map[string]any{"client_uri": "https://app.example.com", "subject_type": "public"})
	for _, field := range []string{
		"client_id", "redirect_uris", "response_types", "grant_types", "scope", "token_endpoint_auth_method", "application_type",
		"dpop_bound_access_tokens", "client_uri", "subject_type",
	} {
		_, err := w.load(t, jsonOf(d))
		code := client.CodeInvalidMetadata
		if field == "redirect_uris" {
			code = client.CodeInvalidRedirectURI
		}
		refused(t, err, code, "': "+field)
		d[field] = right[field]
	}
	if _, err := w.load(t, jsonOf(d)); err != nil {
		t.Error(err)
	}
}

// TestForPeople: bad links are left out, and a long name is cut; a trusted client is one
// that the operator named.
func TestForPeople(t *testing.T) {
	w := newWorld(t)
	c, err := w.load(t, jsonOf(metadata(map[string]any{
		"client_name": strings.Repeat("ä", 200), "logo_uri": "https://cdn.example.com/logo.png", "tos_uri": "http://app.example.com/tos", "policy_uri": "javascript:alert(1)",
		"client_uri": "https://app.example.com",
	})))
	if err != nil || c.Name != strings.Repeat("ä", 128) || c.Logo != "https://cdn.example.com/logo.png" || c.Terms != "" || c.Policy != "" || c.URI != "https://app.example.com" || c.Trusted {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = w.load(t, jsonOf(metadata(map[string]any{"client_name": 7, "logo_uri": 7})))
	if err != nil || c.Name != "" || c.Logo != "" {
		t.Errorf("%+v, %v", c, err)
	}
	const trusted = "https://trusted.example.com/client.json"
	w.serve(trusted, answer{body: jsonOf(metadata(map[string]any{"client_id": trusted}))})
	if c, err := w.Load(t.Context(), trusted, client.ForRequest); err != nil || !c.Trusted {
		t.Errorf("%+v, %v", c, err)
	}
}
