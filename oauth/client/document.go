package client

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/oauth/jose"
)

// Method is how a client proves itself.
type Method string

// The methods; other servers' methods are refused.
const (
	MethodNone       Method = "none"
	MethodPrivateKey Method = "private_key_jwt"
)

// Client is what a client's document says, checked. It is not changed once it is made.
type Client struct {
	ID string
	// URL is the client_id, parsed.
	URL *url.URL
	// Loopback means an app under development, whose metadata are made up.
	Loopback bool
	// Native is application_type.
	Native bool
	// Trusted means that the operator named it in PDS_OAUTH_TRUSTED_CLIENTS.
	Trusted bool
	// Method is none for public clients; Alg is the only algorithm of the others' assertions.
	Method Method
	Alg    string
	// Scope is what the client may ask for, as it is written.
	Scope string
	// RedirectURIs are those that are registered.
	RedirectURIs []string
	// Refreshes means that grant_types holds refresh_token.
	Refreshes bool
	// Name is for people, as the rest; each may be empty. Only URI is on the client's own
	// host. Nothing proves a name.
	Name, URI, Logo, Terms, Policy string
	// Fetched is when the document was fetched.
	Fetched time.Time

	keySetURI string
	keys      []*jose.Key
}

// Confidential reports whether the client has a key of its own.
func (c *Client) Confidential() bool { return c.Method == MethodPrivateKey }

// HasKey reports whether a key is in the client's set: its thumbprint, as jose.Key.Is knows it.
func (c *Client) HasKey(thumbprint string) bool {
	return slices.ContainsFunc(c.keys, func(k *jose.Key) bool { return k.Is(thumbprint) })
}

// The bounds of a document's lists and texts.
const (
	maxRedirectURIs = 50
	maxScope        = 16 << 10 // bytes
	maxKeys         = 50
	maxName         = 256 // bytes
	maxKeyID        = 256 // bytes
)

// algs are the algorithms of assertions.
func algs() []string {
	return []string{"ES256", "ES256K", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
}

// AssertionAlgs returns token_endpoint_auth_signing_alg_values_supported.
func AssertionAlgs() []string { return algs() }

// document is a document while it is read. The first rule that it breaks stays.
type document struct {
	members map[string]jsontext.Value
	err     *Error
}

// fail notes the rule that a field breaks: its path, and the rule.
func (d *document) fail(field, format string, args ...any) {
	d.failAs(CodeInvalidMetadata, field, format, args...)
}

func (d *document) failAs(code, field, format string, args ...any) {
	if d.err == nil {
		d.err = refuse(code, "%s: %s", field, fmt.Sprintf(format, args...))
	}
}

// text returns a member that is a string, or "" if it is absent.
func (d *document) text(field string) (s string, given bool) {
	raw, given := d.members[field]
	if !given {
		return "", false
	}
	if raw.Kind() != '"' || json.Unmarshal(raw, &s) != nil {
		d.fail(field, "it is not a string")
	}
	return s, true
}

// texts returns a member that is an array of strings.
func (d *document) texts(field string) (list []string, given bool) {
	raw, given := d.members[field]
	if !given {
		return nil, false
	}
	var values []jsontext.Value
	if raw.Kind() != '[' || json.Unmarshal(raw, &values) != nil {
		d.fail(field, "it is not an array")
		return nil, true
	}
	for i, v := range values {
		var s string
		if v.Kind() != '"' || json.Unmarshal(v, &s) != nil {
			d.fail(field+"["+strconv.Itoa(i)+"]", "it is not a string")
			return nil, true
		}
		list = append(list, s)
	}
	return list, true
}

// readDocument checks the document of a client_id, in the contract's order. The keys of a
// jwks_uri are not in it: keySetURI names it.
func readDocument(u *url.URL, id string, raw []byte, dev bool) (*Client, error) {
	d := &document{}
	if json.Unmarshal(raw, &d.members) != nil || d.members == nil {
		return nil, refuse(CodeInvalidMetadata, "the document is not a JSON object, or has a member twice, or is not UTF-8")
	}
	for name, value := range d.members { // null is as good as absent
		if value.Kind() == 'n' {
			delete(d.members, name)
		}
	}
	if got, _ := d.text("client_id"); got != id {
		d.fail("client_id", "it is not the URL of the document, but %.200s", got)
	}
	c := &Client{ID: id, URL: u}
	appType, given := d.text("application_type") // redirect URIs depend on it
	c.Native = appType == "native"
	d.redirects(c, dev)
	d.grants(c)
	c.Scope, _ = d.text("scope")
	if rule := scopeRule(c.Scope); rule != "" {
		d.fail("scope", "%s", rule)
	}
	d.authentication(c)
	if given && appType != "web" && !c.Native {
		d.fail("application_type", "it is neither web nor native")
	}
	if c.Native && c.Confidential() {
		d.fail("application_type", "native demands token_endpoint_auth_method none")
	}
	if string(d.members["dpop_bound_access_tokens"]) != "true" {
		d.fail("dpop_bound_access_tokens", "it is not true")
	}
	d.forPeople(c, dev)
	d.refused()
	if d.err != nil {
		return nil, d.err
	}
	return c, nil
}

func (d *document) redirects(c *Client, dev bool) {
	list, _ := d.texts("redirect_uris")
	if len(list) == 0 || len(list) > maxRedirectURIs {
		d.fail("redirect_uris", "it is not an array of 1 to %d URLs", maxRedirectURIs)
	}
	for i, uri := range list {
		if rule := c.redirectRule(uri, dev); rule != "" {
			d.failAs(CodeInvalidRedirectURI, "redirect_uris["+strconv.Itoa(i)+"]", "%s", rule)
		}
	}
	c.RedirectURIs = list
}

func (d *document) grants(c *Client) {
	if types, given := d.texts("response_types"); given && !slices.Contains(types, "code") {
		d.fail("response_types", "it does not hold code")
	}
	types, given := d.texts("grant_types")
	if !given {
		types = []string{"authorization_code"}
	}
	seen := map[string]bool{}
	for i, t := range types {
		if t != "authorization_code" && t != "refresh_token" || seen[t] {
			d.fail("grant_types["+strconv.Itoa(i)+"]", "it is neither authorization_code nor refresh_token, or is there twice")
		}
		seen[t] = true
	}
	if !seen["authorization_code"] {
		d.fail("grant_types", "it does not hold authorization_code")
	}
	c.Refreshes = seen["refresh_token"]
}

// scopeRule returns the rule that the scope of a client breaks, or "". Scopes that we do
// not know are right: they may be newer than this server.
func scopeRule(scope string) string {
	if scope == "" || len(scope) > maxScope {
		return "it is missing, empty, or larger than 16 KiB"
	}
	tokens := strings.Split(scope, " ")
	seen := map[string]bool{}
	for _, t := range tokens {
		if t == "" || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return "it is not a list of tokens with one space between them"
		}
		if seen[t] {
			return "it holds " + t + " twice"
		}
		seen[t] = true
	}
	if !seen["atproto"] {
		return "it does not hold atproto"
	}
	return ""
}

// authentication reads how the client proves itself, and its keys.
func (d *document) authentication(c *Client) {
	method, _ := d.text("token_endpoint_auth_method")
	c.Method = Method(method)
	alg, hasAlg := d.text("token_endpoint_auth_signing_alg")
	set, hasSet := d.members["jwks"]
	uri, hasURI := d.text("jwks_uri")
	switch {
	case c.Method != MethodNone && c.Method != MethodPrivateKey:
		d.fail("token_endpoint_auth_method", "it is neither none nor private_key_jwt")
	case c.Method == MethodNone && hasAlg:
		d.fail("token_endpoint_auth_signing_alg", "with token_endpoint_auth_method none it must be absent")
	case c.Confidential() && !slices.Contains(algs(), alg):
		d.fail("token_endpoint_auth_signing_alg", "it is not one of %s", strings.Join(algs(), ", "))
	case hasSet && hasURI:
		d.fail("jwks_uri", "jwks is there as well")
	case c.Confidential() && !hasSet && !hasURI:
		d.fail("jwks", "with private_key_jwt there must be jwks or jwks_uri")
	}
	if hasURI {
		if u, err := url.Parse(uri); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil ||
			len(uri) > maxURL || !isURLText(uri) ||
			u.Scheme == "http" && c.URL.Scheme != "http" { // http only under --dev
			d.fail("jwks_uri", "it is not an https URL")
		}
	}
	if !c.Confidential() {
		return
	}
	c.Alg, c.keySetURI = alg, uri
	if hasSet {
		keys, rule := readKeys(set, alg)
		if rule != "" {
			d.fail("jwks", "%s", rule)
		}
		c.keys = keys
	}
}

// readKeys returns the keys of a set that can be used with an algorithm, or the rule that
// the set breaks. A key that cannot be used is left out.
func readKeys(raw []byte, alg string) (keys []*jose.Key, rule string) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if jsontext.Value(raw).Kind() != '{' || json.Unmarshal(raw, &set) != nil || set.Keys == nil {
		return nil, "it is not an object with an array keys"
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Sprintf("it has more than %d keys", maxKeys)
	}
	why := "it has none"
	ids := map[string]int{}
	for i, raw := range set.Keys {
		k, err := jose.ParseKey(raw)
		switch {
		case err != nil:
			why = fmt.Sprintf("keys[%d] %s", i, err)
		case k.ID == "":
			why = fmt.Sprintf("keys[%d] has no kid", i)
		case len(k.ID) > maxKeyID || strings.ContainsFunc(k.ID, unicode.IsControl): // sessions keep it
			why = fmt.Sprintf("keys[%d] has a kid of more than %d bytes, or with control characters", i, maxKeyID)
		case !k.Fits(alg):
			why = fmt.Sprintf("keys[%d] is not for token_endpoint_auth_signing_alg", i)
			ids[k.ID]++
		default:
			ids[k.ID]++
			keys = append(keys, k)
		}
	}
	keys = slices.DeleteFunc(keys, func(k *jose.Key) bool {
		if ids[k.ID] > 1 {
			why = "the kid " + k.ID + " is there twice"
		}
		return ids[k.ID] > 1
	})
	if len(keys) == 0 {
		return nil, "it has no usable key: " + why
	}
	return keys, ""
}

// forPeople reads what is shown to people. A bad logo, or a bad link, is left out.
func (d *document) forPeople(c *Client, dev bool) {
	if raw := d.members["client_name"]; raw.Kind() == '"' {
		_ = json.Unmarshal(raw, &c.Name) // a string decodes
		if len(c.Name) > maxName {
			c.Name = strings.ToValidUTF8(c.Name[:maxName], "")
		}
	}
	if uri, given := d.text("client_uri"); given {
		if u, err := url.Parse(uri); err != nil || !isURLText(uri) || len(uri) > maxURL || u.Scheme != c.URL.Scheme || u.Host != c.URL.Host ||
			u.User != nil ||
			!isAbove(u.EscapedPath(), c.URL.EscapedPath()) {
			d.fail("client_uri", "it is not of the same origin as client_id, and a parent of its path")
		}
		c.URI = uri
	}
	c.Logo, c.Terms, c.Policy = d.link("logo_uri", c), d.link("tos_uri", c), d.link("policy_uri", c)
}

// isAbove reports whether the path of a page holds the path of a document.
func isAbove(page, document string) bool {
	return page == document || strings.HasPrefix(document, strings.TrimSuffix(page, "/")+"/")
}

// link returns a member that is an https URL, or "". One of http is for clients of http, which
// there are only under --dev.
func (d *document) link(field string, c *Client) (uri string) {
	raw := d.members[field]
	if raw.Kind() != '"' || json.Unmarshal(raw, &uri) != nil {
		return ""
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" && (u.Scheme != "http" || c.URL.Scheme != "http") || u.Host == "" || u.User != nil ||
		len(uri) > maxURL || !isURLText(uri) {
		return ""
	}
	return uri
}

// refused are members that ask for what this server does not do, as the reference refuses
// them. Anything else is ignored.
func (d *document) refused() {
	if v, given := d.text("subject_type"); given && v != "public" {
		d.fail("subject_type", "it is not public")
	}
	for _, field := range []string{
		"default_max_age", "userinfo_signed_response_alg", "userinfo_encrypted_response_alg", "id_token_signed_response_alg",
		"authorization_encrypted_response_alg", "authorization_encrypted_response_enc",
	} {
		if _, given := d.members[field]; given {
			d.fail(field, "this server does not support it")
		}
	}
	if string(d.members["tls_client_certificate_bound_access_tokens"]) == "true" {
		d.fail("tls_client_certificate_bound_access_tokens", "this server does not support it")
	}
}
