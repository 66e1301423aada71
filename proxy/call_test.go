package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

const timeline = "app.bsky.feed.getFeedGenerators"

// TestUp: path, query and body arrive byte for byte, of the headers only those of the
// allow-list, and the token is for this call.
func TestUp(t *testing.T) {
	p := newPlace(t)
	passed := map[string]string{
		"Accept-Language": "de, en;q=0.5", "Atproto-Accept-Labelers": "did:plc:ar7c4by46qjdydhdevvrndac;redact, did:web:x.example.com",
		"X-Bsky-Topics": "a,b", "X-Atproto-Anything": "1",
	}
	kept := []string{
		"Cookie", "DPoP", "Origin", "Referer", "X-Forwarded-For", "X-Real-IP", "Via", "If-None-Match", "Range", "Accept", "Traceparent",
		"X-Ratelimit-Bypass", "Forwarded", "True-Client-Ip", "Cf-Connecting-Ip", "Proxy-Authorization", "X-Custom", "Sec-Fetch-Site", "Content-Language",
	}
	header := http.Header{}
	for name, value := range passed {
		header.Set(name, value)
	}
	for _, name := range kept {
		header.Set(name, "secret")
	}
	header.Set("User-Agent", "secret")
	header.Set("Accept-Encoding", "br, gzip;q=0.5, zstd")
	const query = "?a=1&a=%2f+%20&b=%C3%A9&%zz&=&"
	a := p.Do(t, pdstest.Request{NSID: timeline + query, Auth: p.auth, Header: header})
	if a.Status != http.StatusOK || string(a.Body) != `{"ok":true}` {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	up := p.appView.one(t)
	if want := "/xrpc/" + timeline + query; up.RequestURI != want || up.Method != http.MethodGet || up.body != "" {
		t.Errorf("arrived as %s %s", up.Method, up.RequestURI)
	}
	claims := payload(t, up.Header.Get("Authorization"))
	if claims["iss"] != p.alice.DID || claims["aud"] != appView || claims["lxm"] != timeline || len(fmt.Sprint(claims["jti"])) != 32 || len(claims) != 6 {
		t.Errorf("token %v", claims)
	}
	want := map[string]string{"Accept-Encoding": "gzip", "User-Agent": "nestbox/test", "Authorization": up.Header.Get("Authorization")}
	maps.Copy(want, passed)
	got := map[string]string{}
	for name, values := range up.Header {
		got[name] = strings.Join(values, "|")
	}
	if !equal(got, want) {
		t.Errorf("headers %v\nwant    %v", got, want)
	}

	for accepted, want := range map[string]string{
		"identity": "identity", "br": "identity", "gzip": "gzip", "*": "gzip", "gzip;q=0": "identity", "GZIP; q=0.001": "gzip", "gzip;q=0.0, *": "identity",
	} {
		p.get(t, timeline, "Accept-Encoding", accepted)
		if got := p.appView.one(t).Header["Accept-Encoding"]; !slices.Equal(got, []string{want}) {
			t.Errorf("a client that accepts %q: %q went up", accepted, got)
		}
	}
}

// TestUpBody: the body of a POST arrives as it came, with its type, encoding and length;
// that of a GET does not.
func TestUpBody(t *testing.T) {
	p := newPlace(t)
	for _, c := range []struct {
		name, verb string
		body       io.Reader
		length     int64
		want       string
		wantLength int64
	}{
		{"a known length", http.MethodPost, strings.NewReader(`{"a": 1}`), 8, `{"a": 1}`, 8},
		{"chunked", http.MethodPost, io.MultiReader(strings.NewReader("ab"), strings.NewReader("cd")), -1, "abcd", -1},
		{"none", http.MethodPost, nil, 0, "", 0},
		{"of a GET", http.MethodGet, strings.NewReader("abcd"), 4, "", 0},
		{"HEAD", http.MethodHead, nil, 0, "", 0},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.verb, p.Base+"/xrpc/app.bsky.graph.muteActor", c.body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = c.length
		req.Header = headersOf([]string{"Authorization", p.auth, "Content-Type", "text/x; a=b", "Content-Encoding", "br"})
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		up := p.appView.one(t)
		if resp.StatusCode != http.StatusOK || up.Method != c.verb || up.body != c.want || up.ContentLength != c.wantLength {
			t.Errorf("%s: %d, %s of %d bytes %q", c.name, resp.StatusCode, up.Method, up.ContentLength, up.body)
		}
		if hasType := up.Header.Get("Content-Type") == "text/x; a=b" && up.Header.Get("Content-Encoding") == "br"; hasType != (c.verb == http.MethodPost) {
			t.Errorf("%s: headers %v", c.name, up.Header)
		}
	}
}

// TestPaths: what is not one valid NSID goes nowhere, nor do other verbs.
func TestPaths(t *testing.T) {
	p := newPlace(t)
	for _, path := range []string{"", "foo", "a.b", "a..b.c", "a.b.c/", "app.bsky.feed.getTimeline/x", "app.bsky.feed.get%54imeline", "app.bsky.feed.getTimeline%2F"} {
		p.get(t, path).WantError(t, 400, "InvalidRequest", "invalid xrpc path")
	}
	for _, verb := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, "PROPFIND"} {
		p.Do(t, pdstest.Request{Method: verb, NSID: timeline, Auth: p.auth}).WantError(t, 400, "InvalidRequest", "XRPC requests only supports GET and POST")
	}
	if a := p.Do(t, pdstest.Request{Method: http.MethodOptions, NSID: timeline}); a.Status != http.StatusNoContent {
		t.Errorf("preflight %d", a.Status)
	}
	a := p.get(t, timeline, "Upgrade", "websocket", "Connection", "Upgrade")
	a.WantError(t, 501, "MethodNotImplemented", "Method Not Implemented")
	if a := p.get(t, timeline, "Upgrade", "h2c", "Connection", "Upgrade, HTTP2-Settings"); a.Status != http.StatusOK {
		t.Errorf("an upgrade to HTTP/2, which may be ignored: %d %s", a.Status, a.Body)
	}
	p.appView.arrived()
	for _, nsid := range []string{"com.atproto.repo.nothing", "com.atproto.SYNC.nothing", "com.atproto.temp.fetchLabels", "com.atproto.repo.CREATERECORD"} {
		p.get(t, nsid).WantError(t, 501, "MethodNotImplemented", "Method Not Implemented")
	}
	if all := p.appView.arrived(); len(all) > 0 {
		t.Errorf("%s arrived", all[0].RequestURI)
	}
	// What is served here stays here, whatever the header says.
	if a := p.get(t, "com.atproto.server.getSession", "Atproto-Proxy", p.appView.did+"#bsky_appview"); a.Status != http.StatusOK || len(p.appView.arrived()) > 0 {
		t.Errorf("getSession %d", a.Status)
	}
	alone := pdstest.Start(t, pdstest.Options{})
	token := pdstest.Bearer(alone.SignUp(t, "bob").AccessJwt)
	alone.Do(t, pdstest.Request{NSID: timeline, Auth: token}).WantError(t, 400, "InvalidRequest", "No service configured for "+timeline)
}

// TestWho: which caller may have which call passed on.
func TestWho(t *testing.T) {
	p := newPlace(t)
	password := func(privileged bool) string {
		var made struct{ Password string }
		p.Do(t, pdstest.Request{
			NSID: "com.atproto.server.createAppPassword", Auth: p.auth,
			Body: map[string]any{"name": fmt.Sprint("app ", privileged), "privileged": privileged},
		}).Decode(t, &made)
		return pdstest.Bearer(p.SignIn(t, p.alice.Handle, made.Password).AccessJwt)
	}
	plain, privileged := password(false), password(true)
	const (
		chat, move, admin, read = "chat.bsky.convo.getLog", "com.atproto.server.createaccount", "com.atproto.admin.other", timeline
		method                  = "Bad token method"
	)
	named := p.appView.did + "#bsky_appview"
	for _, c := range []struct {
		who, auth, nsid string
		status          int
		name, message   string
	}{
		{"the owner", p.auth, read, 200, "", ""},
		{"the owner", p.auth, chat, 200, "", ""},
		{"the owner", p.auth, admin, 200, "", ""},
		{"the owner", p.auth, move, 200, "", ""},
		{"the owner", p.auth, "COM.ATPROTO.server.getSession", 400, "InvalidToken", method},
		{"the owner", p.auth, "com.atproto.server.GETSERVICEAUTH", 400, "InvalidToken", method},
		{"an app", plain, read, 200, "", ""},
		{"an app", plain, chat, 400, "InvalidToken", method},
		{"an app", plain, "CHAT.bsky.convo.addReaction", 400, "InvalidToken", method},
		{"an app", plain, move, 400, "InvalidToken", method},
		{"an app", plain, admin, 400, "InvalidToken", method},
		{"a privileged app", privileged, chat, 200, "", ""},
		{"a privileged app", privileged, move, 200, "", ""},
		{"a privileged app", privileged, admin, 400, "InvalidToken", method},
		{"a refresh token", pdstest.Bearer(p.alice.RefreshJwt), read, 400, "InvalidToken", "Token could not be verified"},
		{"the admin", "Basic YWRtaW46YWRtaW4=", read, 400, "InvalidToken", "Unexpected authorization type"},
		{"nobody", "", read, 401, "AuthMissing", "Authentication Required"},
	} {
		a := p.Do(t, pdstest.Request{NSID: c.nsid, Auth: c.auth, Header: headersOf([]string{"Atproto-Proxy", named})})
		if c.status == http.StatusOK {
			if up := p.appView.arrived(); a.Status != c.status || len(up) != 1 || payload(t, up[0].Header.Get("Authorization"))["lxm"] != c.nsid {
				t.Errorf("%s, %s: %d %s", c.who, c.nsid, a.Status, a.Body)
			}
			continue
		}
		if name, message := a.Error(t); a.Status != c.status || name != c.name || message != c.message || len(p.appView.arrived()) > 0 {
			t.Errorf("%s, %s: %d %s", c.who, c.nsid, a.Status, a.Body)
		}
	}
	p.Do(t, pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Auth: p.auth, Body: "{}"})
	if a := p.get(t, read); a.Status != http.StatusOK {
		t.Errorf("deactivated: %d %s", a.Status, a.Body)
	}
}

// TestTarget: the header atproto-proxy, row by row. What is malformed is refused before
// the caller is proven, and a caller that is not proven makes us look for nothing.
func TestTarget(t *testing.T) {
	p := newPlace(t)
	other := newService(t)
	other.mu.Lock()
	entry := func(id, endpoint string) string {
		return `{"id":"` + id + `","type":"x","serviceEndpoint":` + endpoint + `}`
	}
	other.entries = strings.Join([]string{
		entry("#first", `"`+other.URL+`/"`), entry("#first", `"http://localhost:1"`), entry(other.did+"#absolute", `"`+other.URL+`"`),
		entry("#list", `["`+other.URL+`"]`), entry("#number", "7"), entry("#path", `"`+other.URL+`/xrpc"`), entry("#query", `"`+other.URL+`?a"`),
		entry("#fragment", `"`+other.URL+`#a"`), entry("#user", `"`+strings.Replace(other.URL, "//", "//me@", 1)+`"`), entry("#scheme", `"ftp://localhost"`),
		entry("#self", `"`+p.URL+`"`), `{"id":"#none","type":"x"}`,
	}, ",")
	other.mu.Unlock()
	const (
		noDID, noService, bad, spaces = "no did specified in proxy header", "no service id specified in proxy header", "invalid proxy header format", "proxy header cannot contain spaces"
		unresolved, noURL             = "could not resolve proxy did", "could not resolve proxy did service url"
	)
	for _, c := range []struct {
		header, message string
		malformed       bool
	}{
		{"#bsky_appview", noDID, true},
		{"did:web:x.example.com", noService, true},
		{"did:web:x.example.com#", noService, true},
		{"did:web:x.example.com#a#b", bad, true},
		{"did:web:x.example.com#a b", spaces, true},
		{"did:web:x.example.com #a", spaces, true},
		{"did:web:x.example.com#a,did:web:x.example.com", spaces, true},
		{"did:web:x.example.com#a\xe9", spaces, true},
		{"did:web:x.example.com#" + strings.Repeat("a", 512), spaces, true},
		{"x.example.com#a", unresolved, true},
		{"did:plc:short#a", unresolved, true},
		{"did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme#a", unresolved, true},
		{"did:web:x.example.com:path#a", unresolved, true},
		{"did:web:127.0.0.1#a", unresolved, true},
		{"did:plc:ewvi7nxzyoun6zhxrhs64oiz#a", unresolved, false},
		{other.did + "#nothing", noURL, false},
		{other.did + "#list", noURL, false},
		{other.did + "#number", noURL, false},
		{other.did + "#none", noURL, false},
		{other.did + "#path", noURL, false},
		{other.did + "#query", noURL, false},
		{other.did + "#fragment", noURL, false},
		{other.did + "#user", noURL, false},
		{other.did + "#scheme", noURL, false},
		{other.did + "#self", noURL, false},
	} {
		p.get(t, timeline, "Atproto-Proxy", c.header).WantError(t, 400, "InvalidRequest", c.message)
		a := p.Do(t, pdstest.Request{NSID: timeline, Header: headersOf([]string{"Atproto-Proxy", c.header})})
		if c.malformed {
			a.WantError(t, 400, "InvalidRequest", c.message)
		} else {
			a.WantError(t, 401, "AuthMissing", "Authentication Required")
		}
	}
	a := p.get(t, timeline, "Atproto-Proxy", other.did+"#first", "Atproto-Proxy", other.did+"#first")
	a.WantError(t, 400, "InvalidRequest", bad)
	for _, header := range []string{other.did + "#first", "  " + other.did + "#absolute\t"} {
		if a := p.get(t, timeline, "Atproto-Proxy", header); a.Status != http.StatusOK {
			t.Errorf("%s: %d %s", header, a.Status, a.Body)
			continue
		}
		if claims := payload(t, other.one(t).Header.Get("Authorization")); claims["aud"] != other.did {
			t.Errorf("%s: token %v", header, claims)
		}
	}
	if all := p.appView.arrived(); len(all) > 0 {
		t.Errorf("%s went to the AppView", all[0].RequestURI)
	}
	for _, header := range []string{"", " ", appView + "#bsky_appview"} { // the DID of the settings need not resolve
		if a := p.get(t, timeline, "Atproto-Proxy", header); a.Status != http.StatusOK || len(p.appView.arrived()) != 1 {
			t.Errorf("%q: %d %s", header, a.Status, a.Body)
		}
	}
	long := timeline + "?uris=" + strings.Repeat("x", 10_000)
	if a := p.get(t, long, "Atproto-Proxy", other.did+"#first"); a.Status != http.StatusOK || other.one(t).RequestURI != "/xrpc/"+long {
		t.Errorf("a long query: %d %s", a.Status, a.Body)
	}
	gone := newService(t)
	gone.Close()
	p.get(t, timeline, "Atproto-Proxy", gone.did+"#a").WantError(t, 502, "UpstreamFailure", unresolved)
}

// TestExtraHeaders: too many headers of X-Atproto are refused, none is dropped.
func TestExtraHeaders(t *testing.T) {
	p := newPlace(t)
	for _, c := range []struct {
		count, size int
		want        int
	}{{32, 10, 200}, {33, 10, 431}, {8, 1000, 200}, {8, 1024, 431}} {
		h := http.Header{"Authorization": {p.auth}}
		for i := range c.count {
			h.Set(textproto.CanonicalMIMEHeaderKey(fmt.Sprintf("X-Atproto-%02d", i)), strings.Repeat("x", c.size))
		}
		a := p.Do(t, pdstest.Request{NSID: timeline, Auth: p.auth, Header: h})
		if a.Status != c.want {
			t.Errorf("%d headers of %d bytes: %d %s", c.count, c.size, a.Status, a.Body)
		}
		if up := p.appView.arrived(); c.want == 200 && len(up[0].Header) != c.count+3 {
			t.Errorf("%d headers arrived", len(up[0].Header))
		}
	}
}

// TestClientLeaves: the service sees at once that the client has left, before its answer
// as well as in the middle.
func TestClientLeaves(t *testing.T) {
	p := newPlace(t)
	for _, begun := range []bool{false, true} {
		came, left := make(chan struct{}), make(chan struct{})
		p.appView.does(func(w http.ResponseWriter, r *http.Request) {
			if begun {
				_, _ = io.WriteString(w, "[")
				_ = http.NewResponseController(w).Flush()
			}
			close(came)
			<-r.Context().Done()
			close(left)
		})
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Base+"/xrpc/"+timeline, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", p.auth)
		ended := make(chan error, 1)
		go func() {
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			ended <- err
		}()
		<-came
		cancel()
		<-left
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("begun %t: %v", begun, err)
		}
	}
}
