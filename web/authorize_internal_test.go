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
	"nestbox/session"
)

// TestTitle: the document's title is the heading as text; what a stranger wrote stays text.
func TestTitle(t *testing.T) {
	t.Parallel()
	p := openPages(t, Settings{Hostname: "pds.example.com"})
	for _, c := range []struct {
		page Page
		want string
	}{
		{&Consent{Frame: Frame{Client: &Client{Host: "app.example.com"}}}, "app.example.com"},
		{&Consent{Frame: Frame{Client: &Client{Name: "<b>A & B</b>"}}}, "&lt;b&gt;A &amp; B&lt;/b&gt;"},
		{&Confirm{Title: Msg("confirm.session", "name", Stranger("My <i> phone")), Button: Msg("confirm.session-button")}, "My &lt;i&gt; phone"},
	} {
		_, rest, _ := strings.Cut(get(t, p, "/account", c.page).Body.String(), "<title>")
		title, _, _ := strings.Cut(rest, "</title>")
		if !strings.Contains(title, c.want) || strings.Contains(title, "bdi") || strings.Contains(title, "wbr") {
			t.Errorf("title %q, want %q in it", title, c.want)
		}
	}
}

// TestAnsweredLink: the browser that answered is led back to an app, whatever the scheme of
// its redirect URI; no other link has an odd scheme.
func TestAnsweredLink(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 14, 0, 0, 0, time.UTC)
	p := &FlowPages{
		AccountPages: &AccountPages{
			Site:  &Site{Pages: openPages(t, Settings{})},
			OAuth: &oauth.Service{Settings: oauth.Settings{Issuer: "https://pds.example.com"}, CodeKey: []byte("key"), Now: func() time.Time { return now }},
		},
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

// TestLoopbackSession: an app on this computer has no host that the list of sessions could show.
func TestLoopbackSession(t *testing.T) {
	t.Parallel()
	p := openPages(t, Settings{})
	who := &Account{DID: "did:plc:alice", Handle: "alice.test"}
	for id, want := range map[string]string{
		"http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2F": "An app on this computer",
		"http://localhost":               "An app on this computer",
		"https://app.example.com/c.json": "app.<wbr>example.<wbr>com",
	} {
		row := sessionRow(&session.State{ID: 1, Grant: &session.Grant{Holder: session.Holder{ClientID: id}, Granted: "atproto"}})
		page := &Sessions{Frame: Frame{Account: who}, Rows: []SessionRow{row}, Ended: []EndedSession{{
			Subject: Subject{OAuthSession, row.Name, row.Loopback}, Why: Msg("why.takedown"),
		}}}
		body := get(t, p, "/account/u/did:plc:alice/sessions", page).Body.String()
		if n := strings.Count(body, want); n != 4 || strings.Contains(body, ">localhost<") {
			t.Errorf("%s: %d times %q\n%s", id, n, want, body)
		}
	}
}
