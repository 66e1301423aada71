package client_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"nestbox/oauth/client"
	"nestbox/oauth/oauthtest"
)

// FuzzDocument: whatever a host sends, the check neither panics nor lets through a client
// that lacks what every other package relies on.
func FuzzDocument(f *testing.F) {
	key := oauthtest.NewSigner("ES256")
	f.Add(jsonOf(metadata(nil)))
	f.Add(jsonOf(confidential(nil, keyOf(key, "1", nil))))
	f.Add(jsonOf(metadata(map[string]any{"application_type": "native", "redirect_uris": []string{"http://127.0.0.1/", "com.example.app:/cb"}})))
	f.Add(`{"client_id":"` + appID + `","redirect_uris":[null]}`)
	f.Fuzz(func(t *testing.T, document string) {
		c, err := client.ReadDocument(appID, []byte(document))
		var e *client.Error
		if err != nil {
			if !errors.As(err, &e) || e.Code != client.CodeInvalidMetadata && e.Code != client.CodeInvalidRedirectURI {
				t.Fatalf("%q: %v", document, err)
			}
			refused(t, err, e.Code, "")
			return
		}
		if c.ID != appID || len(c.RedirectURIs) == 0 || !strings.Contains(" "+c.Scope+" ", " atproto ") ||
			c.Confidential() && (c.Alg == "" || c.Native) || !c.Confidential() && c.Method != client.MethodNone {
			t.Errorf("%q: %+v", document, c)
		}
		for _, link := range []string{c.Logo, c.Terms, c.Policy} {
			if link != "" && !strings.HasPrefix(link, "https://") {
				t.Errorf("%q: link %q", document, link)
			}
		}
		for _, uri := range c.RedirectURIs {
			if c.Redirect(uri) != nil {
				t.Errorf("%q: its own redirect %q is refused", document, uri)
			}
		}
	})
}

// FuzzRedirectURI: a redirect URI that is registered leads to an https host, to this
// machine, or to the app of the client's own host, in any reading of URLs; and a request's
// that passes differs from it in the port at most.
func FuzzRedirectURI(f *testing.F) {
	for _, uri := range []string{
		"https://app.example.com/cb", "http://127.0.0.1/cb", "http://[::1]:80/", "com.example.app:/cb", "com.example.app://cb", "javascript:alert(1)",
		"http://127.0.0.1@evil.example.com/", "https:\\\\evil", "http://127.0.0.1#@x", "https://app.example.com\t/",
	} {
		f.Add(uri, strings.Replace(uri, "127.0.0.1", "127.0.0.1:8080", 1))
	}
	f.Fuzz(func(t *testing.T, registered, asked string) {
		c, err := client.ReadDocument(appID, []byte(jsonOf(metadata(map[string]any{"application_type": "native", "redirect_uris": []string{registered}}))))
		if err != nil {
			return
		}
		u, err := url.Parse(registered)
		if err != nil || u.User != nil || u.Fragment != "" || strings.ContainsAny(registered, "#\\ \t\r\n\x00") {
			t.Fatalf("registered %q: %v", registered, err)
		}
		switch {
		case strings.HasPrefix(registered, "https://") && strings.Contains(u.Hostname(), "."):
		case strings.HasPrefix(registered, "http://127.0.0.1") && u.Hostname() == "127.0.0.1", strings.HasPrefix(registered, "http://[::1]") && u.Hostname() == "::1":
		case strings.HasPrefix(registered, "com.example.app:/") && !strings.HasPrefix(registered, "com.example.app://"):
		default:
			t.Errorf("registered %q", registered)
		}
		if c.Redirect(asked) != nil || asked == registered {
			return
		}
		a, err := url.Parse(asked)
		if err != nil || a.Scheme != "http" || a.Hostname() != u.Hostname() || a.RawQuery != u.RawQuery || a.User != nil || strings.ContainsAny(asked, "#\\ \t\r\n\x00") ||
			strings.TrimPrefix(a.Path, "/") != strings.TrimPrefix(u.Path, "/") || u.Port() != "" {
			t.Errorf("%q passes for %q", asked, registered)
		}
	})
}
