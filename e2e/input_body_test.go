package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/internal/system"
)

// maxBody is the contract's limit of a JSON body.
const maxBody = 150 << 10

// signInOfSize is a sign-in whose body has that many bytes.
func signInOfSize(n int) string {
	const before, after = `{"identifier":"nobody.test","password":"wrong-password","unknown":"`, `"}`
	return before + strings.Repeat("a", n-len(before)-len(after)) + after
}

// TestInputSize: a body up to 150 KiB is read, a larger one is refused, with
// and without a Content-Length, and without waiting for it.
func TestInputSize(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		tooLarge := wireError{413, "PayloadTooLarge", "request entity too large"}
		send := func(body io.Reader) pdstest.Answer {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Base+"/xrpc/"+createSession, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", jsonType)
			return roundTrip(t, req)
		}
		wrongPassword.want(t, send(strings.NewReader(signInOfSize(maxBody))))
		wrongPassword.want(t, send(chunked{strings.NewReader(signInOfSize(maxBody))}))
		tooLarge.want(t, send(strings.NewReader(signInOfSize(maxBody+1))))
		tooLarge.want(t, send(chunked{strings.NewReader(signInOfSize(maxBody + 1))}))

		made := s.SignUp(t, "alice")
		for _, c := range []struct{ nsid, auth string }{{createSession, ""}, {refreshSession, made.RefreshJwt}} {
			// Nothing of the body is sent, so nothing of it is awaited.
			answers := converse(t, s.Base, "POST /xrpc/"+c.nsid+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer "+
				c.auth+"\r\nContent-Length: 99999999999\r\n\r\n")
			if len(answers) != 1 {
				t.Fatalf("%d answers", len(answers))
			}
			tooLarge.want(t, answers[0])
		}
		// The server gives up an endless chunked body.
		conn := dial(t, s.Base)
		go func() {
			text := "POST /xrpc/" + createSession + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
			for err := error(nil); err == nil; text = "1000\r\n" + strings.Repeat(" ", 0x1000) + "\r\n" {
				_, err = io.WriteString(conn, text)
			}
		}()
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", answer.StatusCode)
		}
	})
}

// TestInputJSON: invalid or ambiguous JSON gets a 400 from every endpoint.
func TestInputJSON(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		deep := func(open, shut string, n int) string {
			return `{"identifier":"alice.test","password":"x","x":` + strings.Repeat(open, n) + strings.Repeat(shut, n) + `}`
		}
		for name, body := range map[string]string{
			"not UTF-8":                "{\"identifier\":\"alice\xff.test\",\"password\":\"x\"}",
			"overlong UTF-8":           "{\"identifier\":\"alice\xc0\xaftest\",\"password\":\"x\"}",
			"surrogate in UTF-8":       "{\"identifier\":\"alice\xed\xa0\x80test\",\"password\":\"x\"}",
			"lone surrogate":           `{"identifier":"alice\ud800.test","password":"x"}`,
			"UTF-16":                   "\xff\xfe{\x00}\x00",
			"duplicate name":           `{"identifier":"alice.test","identifier":"alice.test","password":"x"}`,
			"duplicate by an escape":   `{"identifier":"alice.test","\u0069dentifier":"bob.test","password":"x"}`,
			"duplicate unknown name":   `{"identifier":"alice.test","password":"x","x":1,"x":2}`,
			"duplicate deep inside":    `{"identifier":"alice.test","password":"x","x":{"y":[{"z":1,"z":2}]}}`,
			"raw NUL":                  "{\"identifier\":\"alice\x00.test\",\"password\":\"x\"}",
			"raw newline in a string":  "{\"identifier\":\"alice\n.test\",\"password\":\"x\"}",
			"deep arrays, unclosed":    `{"identifier":` + strings.Repeat("[", 140_000),
			"deep objects, unclosed":   strings.Repeat(`{"a":`, 28_000),
			"arrays nested too deep":   deep("[", "]", 70_000),
			"comment":                  `{"identifier":"alice.test",/* */"password":"x"}`,
			"trailing comma":           `{"identifier":"alice.test","password":"x",}`,
			"single quotes":            `{'identifier':'alice.test','password':'x'}`,
			"two values":               `{"identifier":"alice.test","password":"x"}{}`,
			"nonsense behind":          `{"identifier":"alice.test","password":"x"}x`,
			"a string too short":       `{"identifier":"alice`,
			"number for a member name": `{1:"alice.test"}`,
			"NaN":                      `{"identifier":"alice.test","password":NaN}`,
			"form":                     "identifier=alice.test&password=x",
		} {
			t.Run(name, func(t *testing.T) {
				a := s.signIn(t, body)
				wantStatus(t, a, http.StatusBadRequest)
				if got, message := a.Error(t); got != "InvalidRequest" || message == "" {
					t.Errorf("%s", a.Body)
				}
				a = s.Do(t, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(made.AccessJwt), Body: body})
				wantStatus(t, a, http.StatusBadRequest)
			})
		}
		for name, body := range map[string]string{
			"names are case-sensitive": `{"Identifier":"bob.test","identifier":"alice.test","password":"` + pdstest.Password + `"}`,
			"unknown members":          `{"identifier":"alice.test","password":"` + pdstest.Password + `","x":{"y":[1e999,null]}}`,
			"escaped":                  `{"\u0069dentifier":"alice\u002etest","password":"` + pdstest.Password + `"}`,
			"white space":              " \r\n\t{ \"identifier\" : \"alice.test\" , \"password\" : \"" + pdstest.Password + "\" } \n",
		} {
			t.Run(name, func(t *testing.T) { wantStatus(t, s.signIn(t, body), http.StatusOK) })
		}
		// Valid JSON that is not a valid name is refused where it would be
		// stored.
		for _, body := range []string{
			`{"handle":"bo\u0000b.test","email":"bob@example.com","password":"` + pdstest.Password + `"}`,
			`{"handle":"bob.test","email":"bob\u0000@example.com","password":"` + pdstest.Password + `"}`,
			`{"handle":"bob.test","email":"bob@example.com","password":"correct\u0000horse"}`,
			`{"handle":"bob.test","email":"bob@example.com\r\nBcc: a@example.com","password":"` + pdstest.Password + `"}`,
		} {
			wantStatus(t, s.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: body}), http.StatusBadRequest)
		}
		wantStatus(t, s.Do(t, pdstest.Request{
			NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(made.AccessJwt), Body: `{"name":"a\u0000b"}`,
		}), http.StatusBadRequest)
		wantStatus(t, s.GetSession(t, made.AccessJwt), http.StatusOK)
	})
}

// TestInputIdle holds ten thousand connections open. The server answers others
// meanwhile, and a second wave takes no more memory than the first.
func TestInputIdle(t *testing.T) {
	s := pdstest.Launch(t, "")
	made := s.SignUp(t, "alice")
	n := idleConnections(t)
	before := residentOf(t, s.PID())
	first := wave(t, s, n)
	made = subject{s.Client, s.Dir}.wantLive(t, made)
	wantStatus(t, s.Do(t, pdstest.Request{NSID: "_health"}), http.StatusOK)
	full := residentOf(t, s.PID())
	hangUp(first)
	second := wave(t, s, n)
	again := residentOf(t, s.PID())
	subject{s.Client, s.Dir}.wantLive(t, made)
	hangUp(second)
	t.Logf("%d connections: %d MiB before, %d with the first wave, %d with the second", n, before>>20, full>>20, again>>20)
	if again > full+full/2 {
		t.Errorf("the second wave took %d MiB, the first %d MiB", again>>20, full>>20)
	}
	if each := (full - before) / int64(n); each > 64<<10 {
		t.Errorf("a connection takes %d bytes", each)
	}
}

// idleConnections returns ten thousand, or what the limit of open files allows: the
// server takes connections for half of it.
func idleConnections(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	// The Go runtime has raised the soft limit to the hard one, in the test and
	// in the server.
	n := min(int(min(limit.Max, 1<<20))/2-500, 10_000)
	if n < 1000 {
		t.Fatalf("only %d open files are allowed", limit.Max)
	}
	return n
}

// wave opens n connections and gets one answer on each.
func wave(t *testing.T, s *pdstest.Process, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	address := mustParse(t, s.Base).Host
	var workers sync.WaitGroup
	const parallel = 32
	for w := range parallel {
		workers.Go(func() {
			d := net.Dialer{Timeout: patience}
			buf := make([]byte, 4096)
			for i := w; i < n; i += parallel {
				c, err := d.DialContext(t.Context(), "tcp", address)
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				conns[i] = c
				_ = c.SetDeadline(time.Now().Add(patience)) // a failure shows in what follows
				if _, err = io.WriteString(c, "GET /xrpc/_health HTTP/1.1\r\nHost: x\r\n\r\n"); err == nil {
					_, err = c.Read(buf)
				}
				if err != nil || !strings.HasPrefix(string(buf), "HTTP/1.1 200 OK\r\n") {
					t.Errorf("connection %d: %v %.40q", i, err, buf)
					return
				}
			}
		})
	}
	workers.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return conns
}

// hangUp resets connections: each would keep its port for a minute otherwise.
func hangUp(conns []net.Conn) {
	for _, c := range conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// residentOf returns the memory of a process, in bytes.
func residentOf(t *testing.T, pid int) int64 {
	t.Helper()
	n, err := system.Resident(pid)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
