package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"nestbox/device"
	"nestbox/oauth"
	"nestbox/oauth/client"
)

// TestAnsweredLink: the browser that answered is led back to an app, whatever the scheme of
// its redirect URI; no other link has an odd scheme.
func TestAnsweredLink(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 14, 0, 0, 0, time.UTC)
	p := &FlowPages{
		AccountPages: &AccountPages{Site: &Site{Pages: openPages(t, Settings{})}},
		OAuth:        &oauth.Service{Settings: oauth.Settings{Issuer: "https://pds.example.com"}, CodeKey: []byte("key"), Now: func() time.Time { return now }},
	}
	for _, c := range []struct {
		redirect, uri string
		device        int64
		want          string
	}{
		{"com.example.app:/cb", "", 7, `href="com.example.app:/cb?iss=`},
		{"https://app.example.com/cb?x=1", "", 7, `href="https://app.example.com/cb?x=1&amp;iss=`},
		{"com.example.app:/cb", "javascript:alert(1)", 8, `href="#ZgotmplZ"`}, // another browser gets the document's link
	} {
		w := httptest.NewRecorder()
		x := &flow{
			query:   query{w: w, r: httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/oauth/authorize", http.NoBody), visit: device.Visit{Browser: device.Browser{ID: c.device}}},
			request: &oauth.Request{Decision: oauth.Allow, DecidedAt: now, DeviceID: 7, Parameters: oauth.Parameters{RedirectURI: c.redirect}},
			client:  &client.Client{ID: "http://localhost", Loopback: true, URI: c.uri},
		}
		p.answered(x)
		if body := w.Body.String(); !strings.Contains(body, c.want) {
			t.Errorf("%s: no %s in\n%s", c.redirect, c.want, body)
		}
	}
}
