package e2e

import (
	"bufio"
	"debug/elf"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nestbox/internal/pdstest"
)

// serveFails runs `nestbox serve` when it must fail, and returns its error.
func serveFails(t *testing.T, settings []string, args ...string) string {
	t.Helper()
	r := pdstest.Exec(t, pdstest.Invocation{Args: append([]string{"serve"}, args...), Settings: settings})
	if r.Code != 1 || r.Stdout != "" || !strings.HasPrefix(r.Stderr, "nestbox: ") {
		t.Errorf("serve %q: %+v, want status 1 and nothing on standard output", args, r)
	}
	return r.Stderr
}

func wantContains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// TestProcessReady: one line on standard output has all that a script needs.
func TestProcessReady(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "")
	other := pdstest.Launch(t, "")
	if p.Ready.URL == other.Ready.URL || p.Ready.PLC == other.Ready.PLC {
		t.Errorf("two servers say %+v and %+v", p.Ready, other.Ready)
	}
	if !strings.HasPrefix(p.Ready.URL, "http://localhost:") || p.Ready.DID != "did:web:localhost" || p.Ready.Data != p.Dir || p.Ready.PID != p.PID() {
		t.Errorf("READY says %+v", p.Ready)
	}
	if _, port, ok := strings.Cut(strings.TrimPrefix(p.Ready.URL, "http://"), ":"); !ok || p.Ready.Listen != "127.0.0.1:"+port {
		t.Errorf("READY says that %s listens on %s", p.Ready.URL, p.Ready.Listen)
	}
	doc := p.Do(t, pdstest.Request{NSID: "com.atproto.server.describeServer"})
	wantContains(t, string(doc.Body), p.Ready.DID)
	p.SignUp(t, "alice")
	p.Stop()
	if out := p.Stdout(); strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "READY {") {
		t.Errorf("standard output is %q", out)
	}
	wantContains(t, p.Log(), "msg=request", "nsid=com.atproto.server.createAccount", "stopping")
}

// TestProcessRefuses: an unusable setup is reported before anything is changed.
func TestProcessRefuses(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "")
	address := mustParse(t, p.Base).Host
	missing := filepath.Join(t.TempDir(), "data")
	for name, c := range map[string]struct {
		settings, args, why []string
	}{
		"data directory in use": {
			args: []string{"--dev", "--listen", "127.0.0.1:0", "--data", p.Dir},
			why:  []string{"data directory is in use", fmt.Sprintf("process %d", p.PID())},
		},
		"address in use": {
			args: []string{"--dev", "--listen", "127.0.0.1:" + address[strings.LastIndexByte(address, ':')+1:], "--data", t.TempDir()},
			why:  []string{"address already in use"},
		},
		"nothing is set": {
			args: []string{"--data", missing},
			why:  []string{"3 fault(s)", "PDS_HOSTNAME", "PDS_EMAIL_SMTP_URL", "PDS_EMAIL_FROM_ADDRESS", "serve --dev"},
		},
		"all faults at once": {
			settings: []string{"PDS_PORT=many", "PDS_ACCESS_TOKEN_TTL=90", "PDS_SESSION_REUSE_POLICY=forgive", "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=abc123"},
			args:     []string{"--dev", "--data", missing},
			why:      []string{"4 fault(s)", "PDS_PORT", "PDS_ACCESS_TOKEN_TTL", `"90"`, "1500ms", "PDS_SESSION_REUSE_POLICY", "report, revoke", "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"},
		},
		"development for everyone": {
			args: []string{"--dev", "--listen", "0.0.0.0:0", "--data", missing},
			why:  []string{"not on loopback", "127.0.0.1"},
		},
		"development on every interface": {
			args: []string{"--dev", "--listen", ":0", "--data", missing},
			why:  []string{"not on loopback"},
		},
		"no such file": {
			args: []string{"--dev", "--env-file", missing, "--data", missing},
			why:  []string{"--env-file", missing},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := serveFails(t, c.settings, c.args...)
			wantContains(t, got, c.why...)
			if strings.Contains(got, "abc123") {
				t.Errorf("a secret is told: %s", got)
			}
			if _, err := os.Stat(missing); !os.IsNotExist(err) {
				t.Errorf("a data directory was made: %v", err)
			}
		})
	}
	p.SignUp(t, "alice") // the server that was there is not disturbed
}

func TestProcessNewerSchema(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "")
	s := p.SignUp(t, "alice")
	p.Stop()
	schema, reader := readDatabase(t, p.Dir, "PRAGMA user_version;"), readDatabase(t, p.Dir, "SELECT min_reader FROM standing;")
	alterDatabase(t, p.Dir, "PRAGMA user_version = 1001; UPDATE standing SET min_reader = 1001;")
	wantContains(t, serveFails(t, nil, "--dev", "--listen", "127.0.0.1:0", "--data", p.Dir), "newer nestbox", "schema 1001")
	alterDatabase(t, p.Dir, fmt.Sprintf("PRAGMA user_version = %d; UPDATE standing SET min_reader = %d;", schema, reader))
	p.Restart()
	p.MustRefresh(t, s.RefreshJwt)
}

// running is a request that the server has begun and waits to read the rest of.
type running struct {
	conn net.Conn
	body string
}

func beginSignIn(t *testing.T, p *pdstest.Process) running {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", mustParse(t, p.Base).Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	body := fmt.Sprintf(`{"identifier":"alice.test","password":%q}`, pdstest.Password)
	_, err = fmt.Fprintf(conn, "POST /xrpc/com.atproto.server.createSession HTTP/1.1\r\nHost: localhost\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body))
	if err != nil {
		t.Fatal(err)
	}
	// The server asks for the body once it reads it.
	line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := conn.Read(line); err != nil || !strings.Contains(string(line), "100 Continue") {
		t.Fatalf("server says %q, %v", line, err)
	}
	return running{conn, body}
}

func (r running) finish(t *testing.T) *http.Response {
	t.Helper()
	if _, err := r.conn.Write([]byte(r.body)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(r.conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestProcessStops(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String()+" finishes what runs", func(t *testing.T) {
			t.Parallel()
			p := pdstest.Launch(t, "")
			p.SignUp(t, "alice")
			request := beginSignIn(t, p)
			p.Signal(signal)
			p.AwaitLog("stopping")
			resp := request.finish(t)
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("the request that ran: %s", resp.Status)
			}
			if code := p.Wait(); code != 0 {
				t.Errorf("exit status %d", code)
			}
		})
	}
	t.Run("a request without end is cut off", func(t *testing.T) {
		t.Parallel()
		p := pdstest.Launch(t, "")
		p.SignUp(t, "alice")
		beginSignIn(t, p)
		p.Stop() // fails unless the status is 0
	})
	t.Run("a second signal ends it at once", func(t *testing.T) {
		t.Parallel()
		p := pdstest.Launch(t, "")
		p.SignUp(t, "alice")
		beginSignIn(t, p)
		p.Signal(syscall.SIGTERM)
		p.AwaitLog("stopping")
		p.Signal(syscall.SIGINT)
		if code := p.Wait(); code != 1 {
			t.Errorf("exit status %d", code)
		}
	})
}

func TestProcessUnknownSettings(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "", "PDS_ZEBRA=1", "PDS_APE=secret-of-the-ape", "PDS_BLOBSTORE_S3_BUCKET=blobs")
	for _, one := range []string{"unknown settings are ignored: PDS_APE PDS_ZEBRA", "no effect here yet: PDS_BLOBSTORE_S3_BUCKET"} {
		if strings.Count(p.Log(), one) != 1 {
			t.Errorf("log has no single %q:\n%s", one, p.Log())
		}
	}
	if strings.Count(p.Log(), "level=WARN") != 2 || strings.Contains(p.Log(), "secret-of-the-ape") {
		t.Errorf("log:\n%s", p.Log())
	}
}

// TestProcessProxy: the log reports an unknown proxy once, and a trusted one
// never.
func TestProcessProxy(t *testing.T) {
	t.Parallel()
	const warning = "requests come through a proxy that PDS_TRUSTED_PROXIES does not name"
	for _, c := range []struct {
		settings []string
		said     int
	}{{nil, 1}, {[]string{"PDS_TRUSTED_PROXIES=127.0.0.0/8,::1"}, 0}} {
		p := pdstest.Launch(t, "", c.settings...)
		for range 3 {
			p.Do(t, pdstest.Request{NSID: "com.atproto.server.describeServer", Header: http.Header{"X-Forwarded-For": {"192.0.2.1"}}})
		}
		p.Stop()
		if n := strings.Count(p.Log(), warning); n != c.said {
			t.Errorf("%v: said %d times, want %d:\n%s", c.settings, n, c.said, p.Log())
		}
	}
}

// TestProcessStatic: the binary needs no library of the system's.
func TestProcessStatic(t *testing.T) {
	f, err := elf.Open(pdstest.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has a segment %s: it is linked dynamically", p.Type)
		}
	}
}
