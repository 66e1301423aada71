package client_test

import (
	"strings"
	"testing"

	"nestbox/oauth/client"
)

// TestRegisteredRedirects: the contract's table, for web and native clients.
func TestRegisteredRedirects(t *testing.T) {
	w := newWorld(t)
	const both, native, never = 2, 1, 0
	for uri, c := range map[string]struct {
		who  int
		says string
	}{
		"https://app.example.com/callback":                     {both, ""},
		"https://app.example.com":                              {both, ""},
		"https://app.example.com:8443/callback?x=y":            {both, ""},
		"https://other.example.org/callback":                   {both, ""},
		"https://APP.example.com/callback":                     {both, ""},
		"https://localhost/callback":                           {never, "with a dot"},
		"https://app/callback":                                 {never, "with a dot"},
		"https://app.local/callback":                           {never, "under .local"},
		"https://app.test/callback":                            {never, "under .test"},
		"https://127.0.0.1/callback":                           {never, "IP address"},
		"https://[::1]/callback":                               {never, "IP address"},
		"https:callback":                                       {never, "no host"},
		"https:///callback":                                    {never, "no host"},
		"http://127.0.0.1/callback":                            {native, "application_type is native"},
		"http://127.0.0.1:8080/callback":                       {native, "application_type is native"},
		"http://[::1]:8080":                                    {native, "application_type is native"},
		"http://localhost/callback":                            {never, ""}, // for native clients: see below
		"http://127.0.0.2/callback":                            {never, ""},
		"http://app.example.com/callback":                      {never, ""},
		"http://[::ffff:127.0.0.1]/callback":                   {never, ""},
		"http://127.0.0.1.example.com/callback":                {never, ""},
		"com.example.app:/callback":                            {native, "application_type is native"},
		"com.example.app:/":                                    {native, "application_type is native"},
		"com.example.app://callback":                           {never, ""},
		"com.example.app:callback":                             {never, ""},
		"com.example.app:///callback":                          {never, ""},
		"com.example:/callback":                                {never, ""},
		"com.example.other:/callback":                          {never, ""},
		"COM.example.app:/callback":                            {never, ""},
		"app.example.com:/callback":                            {never, ""},
		"app:/callback":                                        {never, "its scheme is neither"},
		"javascript:alert(1)":                                  {never, "its scheme is neither"},
		"data:text/html,x":                                     {never, "its scheme is neither"},
		"HTTPS://app.example.com/callback":                     {never, "its scheme is neither"},
		"":                                                     {never, "not a URL"},
		"/callback":                                            {never, "not a URL"},
		"https://app.example.com/callback#":                    {never, "fragment"},
		"https://app.example.com/callback#x":                   {never, "fragment"},
		"com.example.app:/callback#x":                          {never, "fragment"},
		"https://u@app.example.com/callback":                   {never, "user name"},
		"http://u:p@127.0.0.1/callback":                        {never, "user name"},
		"https://app.example.com/\n":                           {never, "not a URL"},
		"https://app.example.com/ x":                           {never, "not a URL"},
		"https://app.example.com/\u00e4":                       {never, "not a URL"},
		"https://app.example.com/" + strings.Repeat("x", 2025): {never, "2048 bytes"},
		"https://app.example.com/" + strings.Repeat("x", 2024): {both, ""},
	} {
		for who, kind := range map[int]string{both: "web", native: "native"} {
			got, err := w.load(t, jsonOf(metadata(map[string]any{"application_type": kind, "redirect_uris": []string{"https://app.example.com/first", uri}})))
			if who <= c.who {
				if err != nil || len(got.RedirectURIs) != 2 || got.RedirectURIs[1] != uri {
					t.Errorf("%.60q of a %s client: %v", uri, kind, err)
				}
				continue
			}
			refused(t, err, client.CodeInvalidRedirectURI, "redirect_uris[1]: ")
			refused(t, err, client.CodeInvalidRedirectURI, c.says)
		}
	}
	for uri, says := range map[string]string{
		"http://localhost/callback":  "use http://127.0.0.1 instead of http://localhost",
		"com.example.app://callback": "com.example.app:/callback",
		"com.example:/callback":      "reverse order",
	} {
		_, err := w.load(t, jsonOf(metadata(map[string]any{"application_type": "native", "redirect_uris": []string{uri}})))
		refused(t, err, client.CodeInvalidRedirectURI, says)
	}
}

// TestRedirect: how a request's redirect URI is compared.
func TestRedirect(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		registered, asked string
		same              bool
	}{
		{"https://app.example.com/cb", "https://app.example.com/cb", true},
		{"https://app.example.com/cb", "https://app.example.com/cb?", false},
		{"https://app.example.com/cb", "https://app.example.com:443/cb", false},
		{"https://app.example.com/cb", "https://app.example.com/cb/", false},
		{"https://app.example.com/cb", "https://APP.example.com/cb", false},
		{"https://app.example.com/%63b", "https://app.example.com/cb", false},
		{"com.example.app:/cb", "com.example.app:/cb", true},
		{"com.example.app:/cb", "com.example.app:/cb?x", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1/cb", true},
		{"http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", true},
		{"http://127.0.0.1/cb?x=1", "http://127.0.0.1:49152/cb?x=1", true},
		{"http://127.0.0.1", "http://127.0.0.1:49152/", true},
		{"http://127.0.0.1/", "http://127.0.0.1:49152", true},
		{"http://[::1]/cb", "http://[::1]:49152/cb", true},
		{"http://127.0.0.1:8080/cb", "http://127.0.0.1:8080/cb", true},
		{"http://127.0.0.1:8080/cb", "http://127.0.0.1:49152/cb", false},
		{"http://127.0.0.1:8080/cb", "http://127.0.0.1/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:49152/other", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:49152/cb?x=1", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:49152/cb?", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:49152/cb#x", false},
		{"http://127.0.0.1/cb", "http://[::1]:49152/cb", false},
		{"http://127.0.0.1/cb", "http://localhost:49152/cb", false},
		{"http://127.0.0.1/cb", "https://127.0.0.1:49152/cb", false},
		{"http://127.0.0.1/cb", "http://u@127.0.0.1:49152/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:x/cb", false},
		{"http://127.0.0.1/cb", "http://127.0.0.1:1\r\n/cb", false},
	} {
		d, err := w.load(t, jsonOf(metadata(map[string]any{"application_type": "native", "redirect_uris": []string{c.registered}})))
		if err != nil {
			t.Fatalf("%s: %v", c.registered, err)
		}
		err = d.Redirect(c.asked)
		if (err == nil) != c.same {
			t.Errorf("%s for %s: %v, want it the same: %v", c.asked, c.registered, err, c.same)
		}
		if err != nil {
			refused(t, err, client.CodeInvalidRequest, "Invalid redirect_uri")
		}
	}
	for uris, want := range map[string]string{
		"https://app.example.com/cb": "https://app.example.com/cb", "http://127.0.0.1:8080/cb": "http://127.0.0.1:8080/cb", "http://127.0.0.1/cb": "",
		"https://app.example.com/cb https://app.example.com/other": "", "com.example.app:/cb": "com.example.app:/cb",
	} {
		d, err := w.load(t, jsonOf(metadata(map[string]any{"application_type": "native", "redirect_uris": strings.Fields(uris)})))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := d.SoleRedirect(); got != want || ok != (want != "") {
			t.Errorf("%s: left out is %q, %v", uris, got, ok)
		}
	}
	d, err := w.load(t, jsonOf(metadata(nil)))
	if err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]string{"https://app.example.com/cb": "", "https://other.example.com/cb": "other.example.com", "com.example.app:/cb": "", "http://127.0.0.1/": ""} {
		if host, foreign := d.ForeignRedirect(uri); host != want || foreign != (want != "") {
			t.Errorf("%s: %q, %v", uri, host, foreign)
		}
	}
}
