package proxy_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// TestDown: status, body and the headers of the allow-list come back, and nothing else.
func TestDown(t *testing.T) {
	p := newPlace(t)
	zipped := gzipped(t, `{"a":1}`)
	passed := []string{
		"Content-Type", "application/x; a=b", "Content-Language", "de", "Atproto-Repo-Rev", "x", "Atproto-Content-Labelers", "did:plc:x;redact", "Retry-After", "7",
	}
	kept := []string{
		"Set-Cookie", "Etag", "Ratelimit-Limit", "Ratelimit-Policy", "Www-Authenticate", "Dpop-Nonce", "Location", "Server", "Link", "X-Frame-Options", "Clear-Site-Data", "Last-Modified",
	}
	for _, c := range []struct {
		status   int
		body     string
		encoding string
	}{{200, "abc", ""}, {200, zipped, "gzip"}, {200, "abc", "br"}, {201, "{}", ""}, {204, "", ""}, {206, "x", ""}} {
		headers := append([]string{"Access-Control-Allow-Origin", "https://evil.example.com", "Cache-Control", "public", "Vary", "x"}, passed...)
		for _, name := range kept {
			headers = append(headers, name, "secret")
		}
		if c.encoding != "" {
			headers = append(headers, "Content-Encoding", c.encoding)
		}
		p.appView.says(c.status, c.body, headers...)
		a := p.get(t, timeline, "Accept-Encoding", "identity")
		if a.Status != c.status || string(a.Body) != c.body || a.Header.Get("Content-Encoding") != c.encoding {
			t.Errorf("%d: %d %q %v", c.status, a.Status, a.Body, a.Header)
		}
		want := map[string]string{
			"Cache-Control": "private", "Vary": "Authorization, Accept-Encoding, Atproto-Proxy, Atproto-Accept-Labelers", "Access-Control-Allow-Origin": "*",
			"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox",
		}
		for i := 0; i < len(passed); i += 2 {
			want[passed[i]] = passed[i+1]
		}
		for name, value := range want {
			if got := a.Header.Values(name); len(got) != 1 || got[0] != value {
				t.Errorf("%d: %s: %q", c.status, name, got)
			}
		}
		for _, name := range kept {
			if got := a.Header.Values(name); got != nil {
				t.Errorf("%d: %s: %q", c.status, name, got)
			}
		}
	}
	p.appView.says(200, "x", "Content-Length", "1")
	a := p.Do(t, pdstest.Request{Method: http.MethodHead, NSID: timeline, Auth: p.auth})
	if a.Status != 200 || a.Header.Get("Content-Length") != "1" || len(a.Body) > 0 {
		t.Errorf("HEAD: %d %v", a.Status, a.Header)
	}
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestErrors is the table of what services answer and what the client gets.
func TestErrors(t *testing.T) {
	p := newPlace(t)
	const failure = "Upstream Failure"
	long := `{"error":"X","message":"` + strings.Repeat("x", 64<<10) + `"}`
	for _, c := range []struct {
		status        int
		body          string
		headers       []string
		want          int
		name, message string
	}{
		{400, `{"error":"A","message":"b","more":1}`, nil, 400, "A", "b"},
		{400, `{"error":1,"message":null}`, nil, 400, "InvalidRequest", "Invalid Request"},
		{400, `{"message":"b"}`, nil, 400, "InvalidRequest", "b"},
		{400, `{"error":"A"}`, nil, 400, "A", "Invalid Request"},
		{404, `{"error":"A","message":"b"}`, nil, 404, "A", "b"},
		{401, `{"error":"BadJwtAudience","message":"b"}`, nil, 502, "BadJwtAudience", "b"},
		{401, `{"error":"ExpiredToken","message":"b"}`, nil, 502, "UpstreamFailure", "b"},
		{401, `{"error":"InvalidToken","message":"b"}`, nil, 502, "UpstreamFailure", "b"},
		{401, `{"error":"AccountTakedown","message":"b"}`, nil, 502, "UpstreamFailure", "b"},
		{401, `{"error":"AuthMissing","message":"b"}`, nil, 502, "UpstreamFailure", "b"},
		{401, `no`, nil, 502, "UpstreamFailure", failure},
		{400, `{"error":"ExpiredToken","message":"b"}`, nil, 502, "UpstreamFailure", "b"},
		{503, `{"error":"ExpiredToken","message":"b"}`, nil, 502, "UpstreamFailure", "b"},
		{500, `{"error":"A","message":"b"}`, nil, 502, "A", "b"},
		{500, ``, nil, 502, "UpstreamFailure", failure},
		{501, `{"error":"A","message":"b"}`, nil, 501, "A", "b"},
		{599, `{"error":"A","message":"b"}`, nil, 599, "A", "b"},
		{301, `{"error":"A"}`, []string{"Location", "https://x.example.com"}, 502, "UpstreamFailure", failure + ": redirected"},
		{304, ``, nil, 502, "UpstreamFailure", failure + ": redirected"},
		{402, `<html>`, nil, 402, "InvalidRequest", "Invalid Request"},
		{403, `<html>`, nil, 403, "Forbidden", "Forbidden"},
		{404, `<html>`, []string{"Content-Type", "text/html"}, 404, "XRPCNotSupported", "XRPC Not Supported"},
		{404, `{"error":"A"}`, []string{"Content-Type", "text/html"}, 404, "XRPCNotSupported", "XRPC Not Supported"},
		{413, ``, nil, 413, "PayloadTooLarge", "Payload Too Large"},
		{415, ``, nil, 415, "UnsupportedMediaType", "Unsupported Media Type"},
		{418, `[]`, nil, 418, "InvalidRequest", "Invalid Request"},
		{429, ``, []string{"Retry-After", "9"}, 429, "RateLimitExceeded", "Rate Limit Exceeded"},
		{501, ``, nil, 501, "MethodNotImplemented", "Method Not Implemented"},
		{502, ``, nil, 502, "UpstreamFailure", failure},
		{503, ``, nil, 503, "NotEnoughResources", "Not Enough Resources"},
		{504, ``, nil, 504, "UpstreamTimeout", "Upstream Timeout"},
		{520, ``, nil, 520, "InternalServerError", "Internal Server Error"},
		{400, long, nil, 400, "InvalidRequest", "Invalid Request"},
		{400, gzipped(t, `{"error":"A","message":"b"}`), []string{"Content-Encoding", "gzip"}, 400, "A", "b"},
		{400, gzipped(t, long), []string{"Content-Encoding", "gzip"}, 400, "InvalidRequest", "Invalid Request"},
		{400, gzipped(t, `{"error":"A","message":"b"}`)[:20], []string{"Content-Encoding", "gzip"}, 400, "InvalidRequest", "Invalid Request"},
		{400, `{"error":"A","message":"b"}`, []string{"Content-Encoding", "br"}, 400, "InvalidRequest", "Invalid Request"},
	} {
		headers := append([]string{"Atproto-Repo-Rev", "r", "Atproto-Content-Labelers", "l", "Set-Cookie", "x"}, c.headers...)
		if len(c.headers) == 0 || c.headers[0] != "Content-Type" {
			headers = append(headers, "Content-Type", "application/json")
		}
		p.appView.says(c.status, c.body, headers...)
		for _, nsid := range []string{timeline, "app.bsky.feed.getTimeline"} {
			a := p.get(t, nsid)
			if name, message := a.Error(t); a.Status != c.want || name != c.name || message != c.message {
				t.Errorf("%s, %d %.60s: %d %s", nsid, c.status, c.body, a.Status, a.Body)
			}
			var members map[string]any
			if json.Unmarshal(a.Body, &members) != nil || len(members) != 2 {
				t.Errorf("%d %.60s: %s", c.status, c.body, a.Body)
			}
			redirected := c.status < 400
			if a.Header.Get("Set-Cookie") != "" || a.Header.Get("Location") != "" || (a.Header.Get("Atproto-Repo-Rev") == "r") == redirected ||
				(a.Header.Get("Atproto-Content-Labelers") == "l") == redirected || c.status == 429 && a.Header.Get("Retry-After") != "9" {
				t.Errorf("%d %.60s: %v", c.status, c.body, a.Header)
			}
		}
	}
}

// wire is a service below HTTP: for each connection it reads a request's headers and then
// does what answer does, or leaves all to serve.
func wire(t *testing.T, answer, serve func(net.Conn)) (url string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			open.Go(func() {
				defer func() { _ = conn.Close() }()
				if serve != nil {
					serve(conn)
					return
				}
				var got []byte
				for buffer := make([]byte, 4096); !bytes.Contains(got, []byte("\r\n\r\n")); {
					n, err := conn.Read(buffer)
					if err != nil {
						return
					}
					got = append(got, buffer[:n]...)
				}
				answer(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		open.Wait()
	})
	return "http://" + l.Addr().String()
}

func write(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// stuck writes and then does nothing until the other end leaves.
func stuck(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, c)
	}
}

// drip writes a beginning, and then a part again and again.
func drip(begin, part string) func(net.Conn) {
	return func(c net.Conn) {
		for _, err := io.WriteString(c, begin); err == nil; _, err = io.WriteString(c, part) {
		}
	}
}

// TestHostile: whatever a service sends, the client gets a clear error or a transfer that
// is visibly broken.
func TestHostile(t *testing.T) {
	const (
		ok          = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		unreachable = "Upstream service unreachable"
		tooLarge    = "Upstream Failure: the answer is too large"
	)
	for name, c := range map[string]struct {
		answer func(net.Conn)
		// status is 0 for a transfer that breaks.
		status        int
		name, message string
	}{
		"closed":                         {func(net.Conn) {}, 502, "UpstreamFailure", unreachable},
		"no HTTP":                        {write("SSH-2.0-OpenSSH_9.9\r\n"), 502, "UpstreamFailure", unreachable},
		"headers that break off":         {write("HTTP/1.1 200 OK\r\nContent-"), 502, "UpstreamFailure", unreachable},
		"endless headers":                {drip("HTTP/1.1 200 OK\r\n", "X-A: "+strings.Repeat("x", 1000)+"\r\n"), 502, "UpstreamFailure", unreachable},
		"endless interim answers":        {drip("", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), 502, "UpstreamFailure", unreachable},
		"another protocol":               {write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), 502, "UpstreamFailure", "Upstream Failure: status 101"},
		"a status that is not HTTP's":    {write("HTTP/1.1 777 X\r\nContent-Length: 0\r\n\r\n"), 502, "UpstreamFailure", "Upstream Failure: status 777"},
		"two lengths":                    {write(ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 502, "UpstreamFailure", unreachable},
		"no answer":                      {stuck(""), 504, "UpstreamTimeout", "Upstream Failure: no answer in time"},
		"no body":                        {stuck(ok + "Content-Length: 9\r\n\r\n"), 502, "UpstreamFailure", unreachable},
		"a body that is short":           {write(ok + "Content-Length: 9\r\n\r\n{\"a\":"), 0, "", ""},
		"a body that stalls":             {stuck(ok + "Content-Length: 9\r\n\r\n{\"a\":"), 0, "", ""},
		"chunks that end early":          {write(ok + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n"), 0, "", ""},
		"chunks that are none":           {write(ok + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\nzz\r\n"), 0, "", ""},
		"an endless body":                {drip(ok+"Transfer-Encoding: chunked\r\n\r\n", "3e8\r\n"+strings.Repeat("x", 1000)+"\r\n"), 0, "", ""},
		"an endless body without an end": {drip(ok+"\r\n", strings.Repeat("x", 1000)), 0, "", ""},
		"a body said to be too large":    {stuck(ok + "Content-Length: 100001\r\n\r\n"), 502, "UpstreamFailure", tooLarge},
		"an error that breaks off":       {write("HTTP/1.1 400 X\r\nContent-Length: 90\r\n\r\n{"), 502, "UpstreamFailure", unreachable},
		"an error that stalls":           {stuck("HTTP/1.1 400 X\r\nContent-Length: 90\r\n\r\n{"), 502, "UpstreamFailure", unreachable},
		"an endless error":               {drip("HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n", "3e8\r\n"+strings.Repeat("x", 1000)+"\r\n"), 400, "InvalidRequest", "Invalid Request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pdstest.Start(t, pdstest.Options{Settings: []string{
				"PDS_BSKY_APP_VIEW_URL=" + wire(t, c.answer, nil), "PDS_BSKY_APP_VIEW_DID=" + appView,
				"PDS_PROXY_HEADERS_TIMEOUT=300", "PDS_PROXY_BODY_TIMEOUT=300", "PDS_PROXY_MAX_RESPONSE_SIZE=100000",
			}})
			auth := pdstest.Bearer(s.SignUp(t, "alice").AccessJwt)
			for _, nsid := range []string{timeline, "app.bsky.feed.getTimeline"} {
				a, err := s.Try(t, pdstest.Request{NSID: nsid, Auth: auth})
				switch {
				case c.status == 0 && err == nil && a.Status == http.StatusBadGateway: // nothing of it was passed on yet
				case c.status == 0 && err == nil:
					t.Errorf("%s: a whole answer: %d, %d bytes", nsid, a.Status, len(a.Body))
				case c.status != 0 && err != nil:
					t.Errorf("%s: %v", nsid, err)
				case c.status != 0:
					a.WantError(t, c.status, c.name, c.message)
				}
			}
		})
	}
}

// TestEarlyAnswer: a service that answers before the body was sent is heard at once, and
// the rest of the body is not waited for.
func TestEarlyAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		status int
	}{
		"success": {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200},
		"refusal": {"HTTP/1.1 413 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 413},
	} {
		t.Run(name, func(t *testing.T) {
			s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_BSKY_APP_VIEW_URL=" + wire(t, stuck(c.answer), nil), "PDS_BSKY_APP_VIEW_DID=" + appView}})
			auth := pdstest.Bearer(s.SignUp(t, "alice").AccessJwt)
			body, more := io.Pipe()
			defer func() { _ = more.Close() }()
			go func() { _, _ = more.Write([]byte("x")) }() // and no more
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Base+"/xrpc/app.bsky.graph.muteActor", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", auth)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != c.status || err != nil || !resp.Close {
				t.Errorf("%d, %v, the connection closes: %t", resp.StatusCode, err, resp.Close)
			}
		})
	}
}

// TestBodyLimit: a body that is too large is refused before the service is asked if its
// length is known, and else the call is cut. What net/http still reads of a body that was refused,
// 256 KiB, has all of the body's rest, so the connection is not reset before the answer is read.
func TestBodyLimit(t *testing.T) {
	p := newPlace(t, "PDS_BLOB_UPLOAD_LIMIT=1000000")
	for _, c := range []struct {
		size  int
		known bool
		want  int
	}{{1_000_000, true, 200}, {1_000_001, true, 413}, {1_000_000, false, 200}, {1_200_000, false, 413}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Base+"/xrpc/app.bsky.graph.muteActor", bytes.NewReader(make([]byte, c.size)))
		if err != nil {
			t.Fatal(err)
		}
		if !c.known {
			req.ContentLength = -1
		}
		req.Header.Set("Authorization", p.auth)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("%d bytes: %v", c.size, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%d bytes, known %t: %d", c.size, c.known, resp.StatusCode)
		}
		if up := p.appView.arrived(); c.want == 413 && c.known && len(up) > 0 || c.want == 413 && len(up) > 0 && up[0].body != "broke off" {
			t.Errorf("%d bytes, known %t: it arrived", c.size, c.known)
		}
	}
}

// TestPlaces: calls of one caller that hang do not take the places of others, which are
// neither refused nor late; the call over the limit is refused.
func TestPlaces(t *testing.T) {
	p := newPlace(t)
	bob := pdstest.Bearer(p.SignUp(t, "bob").AccessJwt)
	named := newService(t)
	const record = "com.atproto.repo.getRecord?repo=did:plc:ewvi7nxzyoun6zhxrhs64oiz&collection=app.bsky.feed.post&rkey=3jzfcijpj2z2a"
	for name, c := range map[string]struct {
		to            *service
		nsid, auth    string
		proxy         string
		most, status  int
		error, reason string
	}{
		"an account":             {p.appView, timeline, p.auth, "", 64, 429, "RateLimitExceeded", "Rate Limit Exceeded"},
		"an account at a host":   {named, timeline, p.auth, named.did + "#bsky_appview", 32, 502, "UpstreamFailure", "Upstream Failure: too many calls"},
		"a network of strangers": {p.appView, record, "", "", 8, 429, "RateLimitExceeded", "Rate Limit Exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			call := func(auth string) pdstest.Answer {
				return p.Do(t, pdstest.Request{NSID: c.nsid, Auth: auth, Header: headersOf([]string{"Atproto-Proxy", c.proxy})})
			}
			came, release := make(chan struct{}, c.most), make(chan struct{})
			c.to.does(func(_ http.ResponseWriter, r *http.Request) {
				if payloadIssuer(r) == p.alice.DID || c.auth == "" && r.Header.Get("Authorization") == "" {
					came <- struct{}{}
					<-release
				}
			})
			var hanging sync.WaitGroup
			for range c.most {
				hanging.Go(func() { call(c.auth) })
			}
			for range c.most {
				<-came
			}
			a := call(c.auth)
			a.WantError(t, c.status, c.error, c.reason)
			if a.Header.Get("Retry-After") != "2" {
				t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
			}
			if a := p.Do(t, pdstest.Request{NSID: timeline, Auth: bob, Header: headersOf([]string{"Atproto-Proxy", c.proxy})}); a.Status != 200 {
				t.Errorf("another account: %d %s", a.Status, a.Body)
			}
			close(release)
			hanging.Wait()
			if a := call(c.auth); a.Status != 200 {
				t.Errorf("afterwards: %d %s", a.Status, a.Body)
			}
		})
	}
}

// payloadIssuer returns the account that a service token speaks for, "" without one.
func payloadIssuer(r *http.Request) string {
	var claims struct {
		Issuer string `json:"iss"`
	}
	parts := strings.Split(r.Header.Get("Authorization"), ".")
	if len(parts) != 3 {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(raw, &claims) != nil {
		return ""
	}
	return claims.Issuer
}

// TestBreaker: a service that does not answer is left alone for a while; others are not.
func TestBreaker(t *testing.T) {
	p := newPlace(t)
	dead := newService(t)
	dead.entries = `{"id":"#x","type":"x","serviceEndpoint":"http://localhost:1"}`
	header := []string{"Atproto-Proxy", dead.did + "#x"}
	for range 10 {
		p.get(t, timeline, header...).WantError(t, 502, "UpstreamFailure", "Upstream service unreachable")
	}
	a := p.get(t, timeline, header...)
	a.WantError(t, 502, "UpstreamFailure", "Upstream Failure: the service does not answer")
	if a.Header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
	}
	if a := p.get(t, timeline); a.Status != 200 {
		t.Errorf("another service: %d %s", a.Status, a.Body)
	}
}

// TestNothingLeft: calls that broke off, were left or refused leave no goroutine and no
// place behind.
func TestNothingLeft(t *testing.T) {
	p := newPlace(t, "PDS_PROXY_HEADERS_TIMEOUT=200", "PDS_PROXY_BODY_TIMEOUT=200")
	answers := []http.HandlerFunc{
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "whole") },
	}
	round := func() {
		for i, answer := range answers {
			p.appView.does(answer)
			_, _ = p.Try(t, pdstest.Request{NSID: timeline, Auth: p.auth})
			_, _ = p.Try(t, pdstest.Request{NSID: "app.bsky.graph.muteActor", Auth: p.auth, Body: strings.Repeat("x", 1<<(4*i))})
		}
	}
	round()
	before := settled(t, 1_000_000)
	for range 8 {
		round()
	}
	if after := settled(t, before+10); after > before+10 {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

// settled returns the number of goroutines once it is at most most, or has not been for
// long.
func settled(t *testing.T, most int) (n int) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	for range 100 {
		if n = runtime.NumGoroutine(); n <= most {
			return n
		}
		select {
		case <-t.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return n
}
