package client_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"nestbox/oauth/client"
)

func TestClientID(t *testing.T) {
	w := newWorld(t)
	for id, rule := range map[string]string{
		"": "not a URL", "app": "not a URL", "https:": "not a URL", "https:app.example.com/x": "not a URL", "https:///x": "not a URL",
		"https://app.example.com/ x": "not a URL", "https://app.example.com/\u00e9": "not a URL", "https://app.example.com/<x>": "not a URL",
		"http://app.example.com/x":                             "scheme is not https",
		"ftp://app.example.com/x":                              "scheme is not https",
		"HTTPS://app.example.com/x":                            "normal form",
		"did:web:app.example.com":                              "not a URL",
		"https://user@app.example.com/x":                       "user name",
		"https://user:pass@app.example.com/x":                  "user name",
		"https://app.example.com/x#":                           "fragment",
		"https://app.example.com/x#y":                          "fragment",
		"https://app.example.com:443/x":                        "port",
		"https://app.example.com:8443/x":                       "port",
		"https://app.example.com:/x":                           "port",
		"https://127.0.0.1/x":                                  "IP address",
		"https://8.8.8.8/x":                                    "IP address",
		"https://[2606:4700::1111]/x":                          "IP address",
		"https://2130706433/x":                                 "with a dot",
		"https://0x7f.1/x":                                     "domain name",
		"https://1.2.3.4.5/x":                                  "domain name",
		"https://localhost/x":                                  "with a dot",
		"https://app/x":                                        "with a dot",
		"https://app.local/x":                                  "under .local",
		"https://app.localhost/x":                              "under .localhost",
		"https://app.test/x":                                   "under .test",
		"https://app.invalid/x":                                "under .invalid",
		"https://app.example/x":                                "under .example",
		"https://app.internal/x":                               "under .internal",
		"https://1.0.0.10.in-addr.arpa/x":                      "under .arpa",
		"https://App.example.com/x":                            "lower case",
		"https://app.example.com./x":                           "domain name",
		"https://app..example.com/x":                           "domain name",
		"https://-app.example.com/x":                           "domain name",
		"https://app_1.example.com/x":                          "domain name",
		"https://app%2eexample.com/x":                          "not a URL",
		"https://app.example.com":                              "no path",
		"https://app.example.com/":                             "no path",
		"https://app.example.com?x":                            "no path",
		"https://app.example.com/x/":                           "ends with a slash",
		"https://app.example.com/./x":                          "dot segments",
		"https://app.example.com/x/..":                         "dot segments",
		"https://app.example.com/x/%2e%2E/y":                   "dot segments",
		"https://app.example.com/" + strings.Repeat("x", 2048): "2048 bytes",
		"http://localhost:3000":                                "scheme is not https",
		"http://localhost/x":                                   "scheme is not https",
		"http://localhost#x":                                   "scheme is not https",
		"http://localhost.example.com":                         "scheme is not https",
		"http://127.0.0.1":                                     "scheme is not https",
		"https://localhost":                                    "with a dot",
	} {
		_, err := w.Load(t.Context(), id, client.ForRequest)
		refused(t, err, client.CodeInvalidID, rule)
	}
	for _, id := range []string{
		appID, "https://example.com/x", "https://xn--bcher-kva.example.com/x", "https://app.example.com/x?y=z", "https://app.example.com/a%20b",
		"https://app.example.com/..x", "https://3.example.com/x", "https://app.example.com/" + strings.Repeat("x", 2024),
	} {
		w.serve(id, answer{body: jsonOf(metadata(map[string]any{"client_id": id}))})
		if c, err := w.Load(t.Context(), id, client.ForRequest); err != nil || c.ID != id {
			t.Errorf("%.60s: %v", id, err)
		}
	}
}

func TestLoopbackClient(t *testing.T) {
	w := newWorld(t)
	both := []string{"http://127.0.0.1/", "http://[::1]/"}
	for id, want := range map[string]struct {
		scope     string
		redirects []string
	}{
		"http://localhost":                               {"atproto", both},
		"http://localhost/":                              {"atproto", both},
		"http://localhost?":                              {"atproto", both},
		"http://localhost/?scope=atproto%20repo:*":       {"atproto repo:*", both},
		"http://localhost?scope=atproto+transition:chat": {"atproto transition:chat", both},
		"http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%3A8080%2Fcb&redirect_uri=http://[::1]/cb": {"atproto", []string{"http://127.0.0.1:8080/cb", "http://[::1]/cb"}},
	} {
		c, err := w.Load(t.Context(), id, client.ForRequest)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if c.ID != id || !c.Loopback || !c.Native || c.Confidential() || !c.Refreshes || c.Trusted || c.Name != "Development client" ||
			c.Scope != want.scope || !slices.Equal(c.RedirectURIs, want.redirects) {
			t.Errorf("%s: %+v", id, c)
		}
	}
	for id, parameter := range map[string]string{
		"http://localhost?x=1":                                        "x: only scope and redirect_uri",
		"http://localhost?scope=":                                     "scope: it is missing",
		"http://localhost?scope=repo:*":                               "scope: it does not hold atproto",
		"http://localhost?scope=atproto&scope=atproto":                "scope: it may be there once",
		"http://localhost?scope=atproto+atproto":                      "scope: it holds atproto twice",
		"http://localhost?redirect_uri=":                              "redirect_uri: its scheme",
		"http://localhost?redirect_uri=http://localhost/":             "redirect_uri: use http://127.0.0.1 instead of http://localhost",
		"http://localhost?redirect_uri=http://example.com/":           "redirect_uri: http is for 127.0.0.1",
		"http://localhost?redirect_uri=https://example.com/":          "redirect_uri: its scheme",
		"http://localhost?redirect_uri=localhost:/cb":                 "redirect_uri: its scheme",
		"http://localhost?redirect_uri=http://127.0.0.1/%23x":         "redirect_uri: it has a fragment",
		"http://localhost?redirect_uri=http://127.0.0.1/&scope=%zz":   "query: it is malformed",
		"http://localhost?redirect_uri=http%3A%2F%2Fu%40127.0.0.1%2F": "redirect_uri: it holds a user name",
	} {
		_, err := w.Load(t.Context(), id, client.ForRequest)
		refused(t, err, client.CodeInvalidMetadata, parameter)
	}
	if len(w.asked) != 0 {
		t.Errorf("asked %v", w.asked)
	}
}

// TestDevelopmentIDs: under --dev, and only then, a client may be on this machine.
func TestDevelopmentIDs(t *testing.T) {
	w := newWorld(t)
	ids := []string{
		"http://localhost:3000/client.json", "http://127.0.0.1:3000/client.json", "http://[::1]:3000/client.json", "http://app.localhost:3000/client.json",
		"http://app.localhost/client.json", "https://app.localhost:8443/client.json", "https://app.example.com:8443/client.json", "http://dev.example.com/client.json",
		"http://localhost/client.json",
	}
	for _, dev := range []bool{false, true} {
		w.Dev = dev
		for _, id := range ids {
			origin := id[:strings.LastIndexByte(id, '/')]
			w.serve(id, answer{body: jsonOf(metadata(map[string]any{"client_id": id, "client_uri": origin, "redirect_uris": []string{
				strings.Replace(strings.Replace(origin, "//localhost", "//127.0.0.1", 1), "http://dev.example.com", "http://127.0.0.1", 1) + "/callback",
			}}))})
			_, err := w.Load(t.Context(), id, client.ForRequest)
			var e *client.Error
			if (err == nil) != dev || err != nil && (!errors.As(err, &e) || e.Code != client.CodeInvalidID) {
				t.Errorf("%s with development %v: %v", id, dev, err)
			}
		}
	}
	for _, id := range []string{"http://localhost:3000", "http://app.localhost:3000/", "https://app.local/x", "https://10.0.0.1/x", "http://localhost:80/x"} {
		_, err := w.Load(t.Context(), id, client.ForRequest)
		refused(t, err, client.CodeInvalidID, "")
	}
	w.serve("https://app.example.com/client.json", answer{status: http.StatusOK, body: jsonOf(metadata(map[string]any{
		"client_id": "https://app.example.com/client.json", "redirect_uris": []string{"http://127.0.0.1/callback"},
	}))})
	_, err := w.Load(t.Context(), "https://app.example.com/client.json", client.ForRequest)
	refused(t, err, client.CodeInvalidRedirectURI, "native")
}
