package e2e

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/server"
)

// patience is how long a test waits for what should come at once.
const patience = 60 * time.Second

func dial(t *testing.T, base string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	c, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:"+mustParse(t, base).Port())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// converse sends bytes as they are and returns all answers until the server
// closes the connection.
func converse(t *testing.T, base, text string) []pdstest.Answer {
	t.Helper()
	c := dial(t, base)
	// The server may answer and close before it has read all.
	go func() { _, _ = io.WriteString(c, text) }()
	return readAnswers(t, bufio.NewReader(c))
}

func readAnswers(t *testing.T, r *bufio.Reader) []pdstest.Answer {
	t.Helper()
	var all []pdstest.Answer
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Fatalf("the server neither answers nor closes, after %d answers", len(all))
			}
			return all
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("answer %d is cut off: %v", len(all), err)
		}
		_ = resp.Body.Close()
		all = append(all, pdstest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: body})
	}
}

func statuses(answers []pdstest.Answer) []int {
	var out []int
	for _, a := range answers {
		out = append(out, a.Status)
	}
	return out
}

// TestInputHTTP sends requests that no client sends: a request that two readers
// could understand differently is refused, or read as RFC 9112 says.
func TestInputHTTP(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		const get, last = "GET /xrpc/_health HTTP/1.1\r\nHost: x\r\n", "GET /xrpc/_health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		post := "POST /xrpc/" + refreshSession + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + made.RefreshJwt + "\r\n"
		for _, c := range []struct {
			name, text string
			want       []int
		}{
			{"one request", last, []int{200}},
			{"pipelined", get + "\r\n" + get + "\r\n" + last, []int{200, 200, 200}},
			{"pipelined behind a body", post + "Content-Length: 2\r\n\r\n{}" + last, []int{200, 200}},
			{"pipelined behind a refused body", post + "Content-Length: 4\r\n\r\nnull" + last, []int{400, 200}},
			{"HTTP/1.0", "GET /xrpc/_health HTTP/1.0\r\n\r\n", []int{200}},
			{"HTTP/3.7", "GET / HTTP/3.7\r\nHost: x\r\n\r\n", []int{505}},
			{"HTTP/0.9", "GET /\r\n\r\n", []int{400}},
			{"absolute form", "GET http://elsewhere.example/xrpc/_health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", []int{200}},
			{"no Host", "GET / HTTP/1.1\r\n\r\n", []int{400}},
			{"two Hosts", get + "Host: y\r\n\r\n", []int{400}},
			{"Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", []int{400}},
			{"two Content-Lengths", post + "Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello" + last, []int{400}},
			{"a list of Content-Lengths", post + "Content-Length: 0, 5\r\n\r\nhello" + last, []int{400}},
			{"signed Content-Length", post + "Content-Length: +2\r\n\r\n{}" + last, []int{400}},
			{"negative Content-Length", post + "Content-Length: -1\r\n\r\n", []int{400}},
			{"hexadecimal Content-Length", post + "Content-Length: 0x2\r\n\r\n{}" + last, []int{400}},
			{"endless Content-Length", post + "Content-Length: 99999999999999999999\r\n\r\n", []int{400}},
			{"Transfer-Encoding counts, not Content-Length", post + "Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + last, []int{200, 200}},
			{"unknown Transfer-Encoding", post + "Transfer-Encoding: xchunked\r\n\r\n", []int{501}},
			{"two Transfer-Encodings", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", []int{501}},
			{"Transfer-Encoding twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", []int{501}},
			{"space before the colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", []int{400}},
			{"chunk size is nonsense", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", []int{400}},
			{"chunk size overflows", post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n", []int{400}},
			{"NUL in a header", get + "X: a\x00b\r\n\r\n", []int{400}},
			{"NUL in the path", "GET /xrpc/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}},
			{"header without a colon", get + "nonsense\r\n\r\n", []int{400}},
			{"method in lower case", "get /xrpc/" + getSession + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", []int{400}},
			{"CONNECT", "CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", []int{405}},
			{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},
			{"unknown expectation", get + "Expect: wonders\r\n\r\n", []int{417}},
			{"upgrade to HTTP/2", get + "Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", []int{200}},
		} {
			t.Run(c.name, func(t *testing.T) {
				answers := converse(t, s.Base, c.text)
				if got := statuses(answers); !slices.Equal(got, c.want) {
					t.Errorf("answers %v, want %v", got, c.want)
				}
			})
		}
		s.wantLive(t, made)
	})
}

// TestInputHeaders: headers up to 32 KiB are read, more is a 431.
func TestInputHeaders(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		for name, c := range map[string]struct {
			header string
			want   int
		}{
			"much":          {"X: " + strings.Repeat("a", 30<<10), 200},
			"one too large": {"X: " + strings.Repeat("a", 40<<10), 431},
			"too many":      {strings.Repeat("X: a\r\n", 10_000) + "Y: z", 431},
		} {
			answers := converse(t, s.Base, "GET /xrpc/_health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+c.header+"\r\n\r\n")
			if got := statuses(answers); !slices.Equal(got, []int{c.want}) {
				t.Errorf("%s: answers %v, want %d", name, got, c.want)
			}
		}
		if got := statuses(converse(t, s.Base, "GET /xrpc/_health?"+strings.Repeat("a", 64<<10)+" HTTP/1.1\r\nHost: x\r\n\r\n")); !slices.Equal(got, []int{431}) {
			t.Errorf("a huge query string: answers %v", got)
		}
		unverified.want(t, s.GetSession(t, strings.Repeat("a", 20<<10)))
		a := s.Do(t, pdstest.Request{NSID: getSession, Auth: pdstest.Bearer(made.AccessJwt), Header: http.Header{"User-Agent": {strings.Repeat("ü\xff", 5000)}}})
		wantStatus(t, a, http.StatusOK)
	})
}

// TestInputPaths: an NSID is exactly what follows /xrpc/.
func TestInputPaths(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		for path, want := range map[string]int{
			"/xrpc/" + getSession:                         200,
			"/xrpc/" + getSession + "?":                   200,
			"/xrpc/" + getSession + "/":                   400,
			"/xrpc/" + getSession + "%2f":                 400,
			"/xrpc/" + getSession + "%00":                 400,
			"/xrpc/" + getSession + "/../" + getSession:   400,
			"/xrpc/" + getSession + ";x=1":                400,
			"/xrpc/com.atproto.server%2egetSession":       400,
			"/xrpc/com%2fatproto.server.getSession":       400,
			"/%78rpc/" + getSession:                       400,
			"/xrpc/./" + getSession:                       400,
			"/xrpc//" + getSession:                        400,
			"/xrpc/":                                      400,
			"/xrpc/x":                                     400,
			"/xrpc/com.atproto.server.describeserver":     501,
			"/xrpc/com.atproto.server.\u00fc":             400,
			"/xrpc/" + strings.Repeat("com.", 2000) + "x": 400,
			"/xrpc/%ff%fe":                                400,
			"/xrpc/com.atproto.server.nothing":            501,
			"/XRPC/" + getSession:                         404,
			"/xrpc%2f" + getSession:                       400,
		} {
			answers := converse(t, s.Base, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "+made.AccessJwt+"\r\n\r\n")
			if got := statuses(answers); !slices.Equal(got, []int{want}) {
				t.Errorf("%.60s: answers %v, want %d", path, got, want)
				continue
			}
			if want == 400 {
				answers[0].WantError(t, 400, "InvalidRequest", "invalid xrpc path")
			}
		}
	})
}

// TestInputQueries: a fault in a query string is the client's.
func TestInputQueries(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		for query, message := range map[string]string{
			"handle=%zz":                            "Malformed query string",
			"handle=%":                              "Malformed query string",
			"handle=a;b=c":                          "Malformed query string",
			"handle=%ff":                            "Invalid UTF-8 at $.handle",
			"handle=alice%00.test":                  "Invalid handle format at $.handle",
			"handle=" + strings.Repeat("a", 20<<10): "Invalid handle format at $.handle",
			strings.Repeat("a=&", 5000):             `Missing required key "handle" at $`,
			"handle[]=alice.test":                   `Missing required key "handle" at $`,
		} {
			s.Do(t, pdstest.Request{NSID: "com.atproto.identity.resolveHandle?" + query}).WantError(t, 400, "InvalidRequest", message)
		}
		a := s.Do(t, pdstest.Request{NSID: "com.atproto.identity.resolveHandle?unknown=1&%68andle=alice%2Etest"})
		wantStatus(t, a, http.StatusOK)
		if !strings.Contains(string(a.Body), made.DID) {
			t.Errorf("%s", a.Body)
		}
	})
}

// TestInputSlow: a client that takes too long to send a request loses the
// connection, even if it sends a byte now and then.
func TestInputSlow(t *testing.T) {
	if d := server.DefaultTimeouts(); d.Header != 10*time.Second || d.Request != 60*time.Second {
		t.Errorf("the contract's limits are 10 s and 60 s: %+v", d)
	}
	const limit = 400 * time.Millisecond
	// Each server has one limit that is short, so that no other explains an end.
	long := server.Timeouts{Header: patience, Request: patience, Answer: patience, Idle: patience}
	headers, requests, idle := long, long, long
	headers.Header, requests.Request, idle.Idle = limit, limit, limit
	body := "POST /xrpc/" + createSession + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
	for _, c := range []struct {
		name, text, drip string
		limits           server.Timeouts
	}{
		{"silence", "", "", headers},
		{"half a header", "GET /xrpc/_health HT", "", headers},
		{"header byte by byte", "GET /xrpc/_health HTTP/1.1\r\nX: ", "a", headers},
		{"half a body", body, "", requests},
		{"body byte by byte", body, " ", requests},
		{"half a chunk", "POST /xrpc/" + createSession + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{", " ", requests},
		{"idle after an answer", "GET /xrpc/_health HTTP/1.1\r\nHost: x\r\n\r\n", "", idle},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := pdstest.Start(t, pdstest.Options{Timeouts: c.limits})
			start, conn := time.Now(), dial(t, s.Base)
			if _, err := io.WriteString(conn, c.text); err != nil {
				t.Fatal(err)
			}
			if c.drip != "" {
				tick := time.NewTicker(20 * time.Millisecond)
				go func() {
					defer tick.Stop()
					for range tick.C {
						if _, err := io.WriteString(conn, c.drip); err != nil {
							return
						}
					}
				}()
			}
			for _, a := range readAnswers(t, bufio.NewReader(conn)) {
				if a.Status == http.StatusOK && c.limits != idle {
					t.Errorf("answered %s", a.Body)
				}
			}
			if took := time.Since(start); took < limit || took > patience/2 {
				t.Errorf("closed after %s, the limit is %s", took, limit)
			}
		})
	}
}
