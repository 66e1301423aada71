package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

const generator = "did:web:feed.example.com"

// TestGetFeed: the token is for the feed's generator, which its record names; that is
// asked once, at the service that makes the feed.
func TestGetFeed(t *testing.T) {
	p := newPlace(t)
	feed := "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.generator/abc"
	record := `{"uri":"` + feed + `","cid":"x","value":{"did":"` + generator + `"}}`
	p.appView.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, ".getRecord") {
			if r.Header.Get("Authorization") != "" {
				t.Error("the record is asked for with a token")
			}
			if r.URL.Query().Get("rkey") == "missing" {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"error":"RecordNotFound","message":"no"}`)
				return
			}
			_, _ = io.WriteString(w, strings.Replace(record, generator, map[bool]string{true: generator, false: "x"}[r.URL.Query().Get("rkey") == "abc"], 1))
			return
		}
		_, _ = io.WriteString(w, `{"feed":[]}`)
	})
	ask := func(feed string) pdstest.Answer {
		return p.get(t, "app.bsky.feed.getFeed?limit=3&feed="+url.QueryEscape(feed), "Accept-Language", "de")
	}
	for range 2 {
		if a := ask(feed); a.Status != http.StatusOK || string(a.Body) != `{"feed":[]}` {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	all := p.appView.arrived()
	if len(all) != 3 {
		t.Fatalf("%d requests", len(all))
	}
	up := all[2]
	claims := payload(t, up.Header.Get("Authorization"))
	if claims["aud"] != generator || claims["lxm"] != "app.bsky.feed.getFeedSkeleton" || up.Header.Get("Accept-Language") != "de" ||
		up.RequestURI != "/xrpc/app.bsky.feed.getFeed?limit=3&feed="+url.QueryEscape(feed) {
		t.Errorf("%s, token %v", up.RequestURI, claims)
	}
	ask(strings.Replace(feed, "abc", "missing", 1)).WantError(t, 400, "RecordNotFound", "no")
	ask(strings.Replace(feed, "abc", "none", 1)).WantError(t, 400, "UnknownFeed", "could not resolve feed did")
	// What one caller's headers cause is not what the next one gets.
	p.appView.does(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, ".getRecord") {
			if len(r.Header) > 3 || r.Header.Get("X-Atproto-Bad") != "" {
				t.Errorf("the record is asked for with %v", r.Header)
			}
			w.Header().Set("Retry-After", "9999")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"InvalidRequest","message":"no"}`)
		}
	})
	other := strings.Replace(feed, "abc", "other", 1)
	for range 2 {
		p.get(t, "app.bsky.feed.getFeed?feed="+url.QueryEscape(other), "X-Atproto-Bad", "1").WantError(t, 400, "InvalidRequest", "no")
	}
	if n := len(p.appView.arrived()); n < 2 {
		t.Errorf("an error of any kind is kept: %d questions", n)
	}
	for _, bad := range []string{"", "at://x", "https://x.example.com", "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.generator"} {
		if a := ask(bad); a.Status != http.StatusBadRequest {
			t.Errorf("%q: %d %s", bad, a.Status, a.Body)
		}
	}
	p.appView.arrived()

	// A feed of an account here needs no question.
	own := p.Do(t, pdstest.Request{NSID: "com.atproto.repo.putRecord", Auth: p.auth, Body: map[string]any{
		"repo": p.alice.DID, "collection": "app.bsky.feed.generator", "rkey": "mine",
		"record": map[string]any{"$type": "app.bsky.feed.generator", "did": generator, "displayName": "x", "createdAt": "2026-01-01T00:00:00Z"},
	}})
	if own.Status != http.StatusOK {
		t.Fatalf("%d %s", own.Status, own.Body)
	}
	for _, name := range []string{p.alice.DID, p.alice.Handle} {
		if a := ask("at://" + name + "/app.bsky.feed.generator/mine"); a.Status != http.StatusOK {
			t.Errorf("own feed: %d %s", a.Status, a.Body)
		}
		if claims := payload(t, p.appView.one(t).Header.Get("Authorization")); claims["aud"] != generator {
			t.Errorf("own feed: token %v", claims)
		}
	}
	ask("at://"+p.alice.DID+"/app.bsky.feed.generator/other").WantError(t, 400, "RecordNotFound",
		"Could not locate record: at://"+p.alice.DID+"/app.bsky.feed.generator/other")

	// Another AppView that the client names is asked itself.
	elsewhere := newService(t)
	elsewhere.says(http.StatusOK, record, "Content-Type", "application/json")
	a := p.get(t, "app.bsky.feed.getFeed?feed="+url.QueryEscape(feed), "Atproto-Proxy", elsewhere.did+"#bsky_appview")
	if a.Status != http.StatusOK || len(elsewhere.arrived()) != 2 || len(p.appView.arrived()) != 0 {
		t.Errorf("another AppView: %d %s", a.Status, a.Body)
	}
}

// TestPush: the body names the service, the header does not; members that are not known
// here arrive.
func TestPush(t *testing.T) {
	p := newPlace(t)
	push := newService(t)
	push.mu.Lock()
	push.entries = `{"id":"#bsky_notif","type":"BskyNotificationService","serviceEndpoint":"` + push.URL + `"}`
	push.mu.Unlock()
	untyped := newService(t)
	untyped.mu.Lock()
	untyped.entries = `{"id":"#bsky_notif","type":"Other","serviceEndpoint":"` + untyped.URL + `"}`
	untyped.mu.Unlock()
	body := func(did string) string {
		return `{"serviceDid":"` + did + `","token":"t","platform":"web","appId":"a","ageRestricted":true}`
	}
	for _, method := range []string{"app.bsky.notification.registerPush", "app.bsky.notification.unregisterPush"} {
		send := func(body string) pdstest.Answer {
			return p.Do(t, pdstest.Request{
				Method: http.MethodPost, NSID: method, Auth: p.auth, Body: body, Header: headersOf([]string{"Atproto-Proxy", "did:web:x.example.com#bsky_notif"}),
			})
		}
		for did, to := range map[string]*service{push.did: push, appView: p.appView} {
			a := send(body(did))
			up := to.one(t)
			claims := payload(t, up.Header.Get("Authorization"))
			if a.Status != http.StatusOK || len(a.Body) > 0 || up.body != body(did) || claims["aud"] != did || claims["lxm"] != method {
				t.Errorf("%s: %d %q, arrived %s, token %v", did, a.Status, a.Body, up.body, claims)
			}
		}
		send(body("did:web:localhost%3A1")).WantError(t, 400, "InvalidRequest", "could not resolve did document: did:web:localhost%3A1")
		send(body("did:plc:short")).WantError(t, 400, "InvalidRequest", "could not resolve did document: did:plc:short")
		send(body(untyped.did)).WantError(t, 400, "InvalidRequest", "invalid notification service details in did document: "+untyped.did)
		for _, bad := range []string{`{}`, `{"serviceDid":"` + push.did + `","token":"t","platform":"web"}`, `{"serviceDid":1,"token":"t","platform":"web","appId":"a"}`, `[]`, ``} {
			if a := send(bad); a.Status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", bad, a.Status, a.Body)
			}
		}
		if a := send(`{"x":"` + strings.Repeat("x", 150<<10) + `"}`); a.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("a large body: %d %s", a.Status, a.Body)
		}
		p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: method, Body: body(push.did)}).WantError(t, 401, "AuthMissing", "Authentication Required")
		if len(push.arrived()) > 0 {
			t.Error("what was refused arrived")
		}
	}
	p.appView.says(501, `{"error":"MethodNotImplemented","message":"no courier"}`, "Content-Type", "application/json")
	p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "app.bsky.notification.registerPush", Auth: p.auth, Body: body(appView)}).
		WantError(t, 501, "MethodNotImplemented", "no courier")
}

// TestPreferences: they are kept here, whatever AppView the client names; another service
// gets the call.
func TestPreferences(t *testing.T) {
	p := newPlace(t)
	const get, put = "app.bsky.actor.getPreferences", "app.bsky.actor.putPreferences"
	set := `{"preferences":[{"$type":"app.bsky.actor.defs#adultContentPref","enabled":true}]}`
	for _, header := range []string{"", appView + "#bsky_appview", "did:web:api.bsky.app#bsky_appview", "did:plc:ewvi7nxzyoun6zhxrhs64oiz#bsky_appview"} {
		h := headersOf([]string{"Atproto-Proxy", header})
		if a := p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: put, Auth: p.auth, Body: set, Header: h}); a.Status != http.StatusOK {
			t.Errorf("%s: %d %s", header, a.Status, a.Body)
		}
		if a := p.Do(t, pdstest.Request{NSID: get, Auth: p.auth, Header: h}); string(a.Body) != set {
			t.Errorf("%s: %d %s", header, a.Status, a.Body)
		}
	}
	if all := p.appView.arrived(); len(all) > 0 {
		t.Errorf("%s arrived", all[0].RequestURI)
	}
	other := newService(t)
	other.mu.Lock()
	other.entries = `{"id":"#other","type":"x","serviceEndpoint":"` + other.URL + `"}`
	other.mu.Unlock()
	if a := p.get(t, get, "Atproto-Proxy", other.did+"#other"); string(a.Body) != `{"ok":true}` || len(other.arrived()) != 1 {
		t.Errorf("another service: %d %s", a.Status, a.Body)
	}
	p.get(t, get, "Atproto-Proxy", "x").WantError(t, 400, "InvalidRequest", "no service id specified in proxy header")
}

// TestGetRecordElsewhere: records of others come from the AppView, without a token; a
// stranger cannot choose from where.
func TestGetRecordElsewhere(t *testing.T) {
	p := newPlace(t)
	other := newService(t)
	const nsid = "com.atproto.repo.getRecord?repo=did:plc:ewvi7nxzyoun6zhxrhs64oiz&collection=app.bsky.feed.post&rkey=3jzfcijpj2z2a"
	named := []string{"Atproto-Proxy", other.did + "#bsky_appview"}
	for _, c := range []struct {
		auth    string
		headers []string
		to      *service
	}{{"", nil, p.appView}, {p.auth, nil, p.appView}, {"", named, p.appView}, {p.auth, named, other}} {
		a := p.Do(t, pdstest.Request{NSID: nsid, Auth: c.auth, Header: headersOf(c.headers)})
		up := c.to.one(t)
		if a.Status != http.StatusOK || string(a.Body) != `{"ok":true}` || up.Header.Get("Authorization") != "" || up.RequestURI != "/xrpc/"+nsid {
			t.Errorf("%v: %d %s; %s %v", c.headers, a.Status, a.Body, up.RequestURI, up.Header)
		}
	}
	a := p.Do(t, pdstest.Request{NSID: nsid, Auth: "Bearer x", Header: headersOf(named)})
	if a.Status != http.StatusOK || len(other.arrived()) > 0 || len(p.appView.arrived()) != 1 {
		t.Errorf("a bad token: %d %s", a.Status, a.Body)
	}
	here := fmt.Sprintf("com.atproto.repo.getRecord?repo=%s&collection=app.bsky.feed.post&rkey=3jzfcijpj2z2a", p.alice.DID)
	p.get(t, here).WantError(t, 400, "RecordNotFound", "Could not locate record: at://"+p.alice.DID+"/app.bsky.feed.post/3jzfcijpj2z2a")
	p.Do(t, pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Auth: p.auth, Body: "{}"})
	p.get(t, here).WantError(t, 400, "InvalidRequest", "Could not find repo: "+p.alice.DID)
	if all := p.appView.arrived(); len(all) > 0 {
		t.Errorf("%s arrived", all[0].RequestURI)
	}
	alone := pdstest.Start(t, pdstest.Options{})
	alone.Do(t, pdstest.Request{NSID: nsid}).WantError(t, 400, "InvalidRequest", "Could not find repo: did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	if a := alone.Do(t, pdstest.Request{NSID: "com.atproto.temp.checkSignupQueue", Auth: pdstest.Bearer(alone.SignUp(t, "carol").AccessJwt)}); string(a.Body) != `{"activated":true}` {
		t.Errorf("checkSignupQueue: %d %s", a.Status, a.Body)
	}
}
