package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// dial connects to the server and sends a request, byte for byte but for its %s, the
// caller's credentials.
func (p *place) dial(t *testing.T, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.Base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, request, p.auth); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// TestBadBody: a body that is no HTTP is the client's fault, and tells nothing of the
// service.
func TestBadBody(t *testing.T) {
	p := newPlace(t)
	for range 15 {
		_, answer := p.dial(t, "POST /xrpc/app.bsky.graph.muteActor HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
		resp, err := http.ReadResponse(answer, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || err != nil || !strings.Contains(string(body), "could not be read") {
			t.Fatalf("%d %s %v", resp.StatusCode, body, err)
		}
	}
	p.appView.arrived()
	if a := p.get(t, timeline); a.Status != http.StatusOK {
		t.Errorf("another call: %d %s", a.Status, a.Body)
	}
}

// TestBodyOfGet: a GET whose body does not come is refused before it takes a place.
func TestBodyOfGet(t *testing.T) {
	p := newPlace(t)
	conn, answer := p.dial(t, "GET /xrpc/"+timeline+" HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 5\r\n\r\n")
	resp, err := http.ReadResponse(answer, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || !resp.Close || len(p.appView.arrived()) > 0 {
		t.Errorf("%d, the connection closes: %t", resp.StatusCode, resp.Close)
	}
	_ = conn.Close()
}

// TestParts: what came of an answer is passed on before the rest, whether its length is
// known or not.
func TestParts(t *testing.T) {
	p := newPlace(t)
	for _, length := range []string{"", "6"} {
		more := make(chan struct{})
		p.appView.does(func(w http.ResponseWriter, _ *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			_, _ = io.WriteString(w, "abc")
			_ = http.NewResponseController(w).Flush()
			<-more
			_, _ = io.WriteString(w, "def")
		})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Base+"/xrpc/"+timeline, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", p.auth)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 3)
		if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "abc" {
			t.Errorf("length %q: %q %v", length, first, err)
		}
		close(more)
		rest, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(rest) != "def" || err != nil {
			t.Errorf("length %q: then %q %v", length, rest, err)
		}
	}
}

// TestClosedConnection: a kept connection that the service has closed meanwhile is no
// failure of a GET. It is sent again with a token of its own; a POST is not.
func TestClosedConnection(t *testing.T) {
	requests := make(chan *http.Request, 100)
	url := wire(t, nil, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for n := 0; ; n++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			requests <- req
			if n > 0 {
				return // it read the request, and goes
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		}
	})
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_BSKY_APP_VIEW_URL=" + url, "PDS_BSKY_APP_VIEW_DID=" + appView}})
	auth := pdstest.Bearer(s.SignUp(t, "alice").AccessJwt)
	for range 4 {
		if a := s.Do(t, pdstest.Request{NSID: timeline, Auth: auth}); a.Status != http.StatusOK {
			t.Errorf("GET: %d %s", a.Status, a.Body)
		}
	}
	s.Do(t, pdstest.Request{NSID: timeline, Auth: auth})
	if a := s.Do(t, pdstest.Request{NSID: "app.bsky.graph.muteActor", Auth: auth, Body: "{}"}); a.Status != http.StatusBadGateway {
		t.Errorf("POST: %d %s", a.Status, a.Body)
	}
	tokens, posts := map[any]bool{}, 0
	for len(requests) > 0 {
		req := <-requests
		jti := payload(t, req.Header.Get("Authorization"))["jti"]
		if tokens[jti] {
			t.Errorf("token %v was sent twice", jti)
		}
		tokens[jti] = true
		if req.Method == http.MethodPost {
			posts++
		}
	}
	if posts != 1 {
		t.Errorf("the POST arrived %d times", posts)
	}
}
