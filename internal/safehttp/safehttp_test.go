package safehttp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/internal/dnstest"
	"nestbox/internal/safehttp"
)

func TestPublic(t *testing.T) {
	for _, a := range []string{
		"1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0",
		"223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888", "2a00::1", "::ffff:1.1.1.1", "64:ff9b::101:101",
	} {
		if !safehttp.Public(netip.MustParseAddr(a)) {
			t.Errorf("%s is public", a)
		}
	}
	for _, a := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254", "169.254.169.254",
		"172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
		"203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1",
		"100::1", "2001::1", "2001:0:7f00:1::", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1",
		"64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
	} {
		if safehttp.Public(netip.MustParseAddr(a)) {
			t.Errorf("%s is not public", a)
		}
	}
	if safehttp.Public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

// get returns the error of requesting a URL.
func get(t *testing.T, c *http.Client, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req) //nolint:bodyclose // by ReadAll
	if err != nil {
		return "", err
	}
	raw, err := safehttp.ReadAll(resp, 100)
	return string(raw), err
}

// serve runs an https server and returns its port, and the roots that it is
// trusted by for example.com.
func serve(t *testing.T, h http.HandlerFunc) (url, port string, roots *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	roots = x509.NewCertPool()
	roots.AddCert(s.Certificate())
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return s.URL, port, roots
}

func TestForbidden(t *testing.T) {
	reached := false
	url, port, roots := serve(t, func(http.ResponseWriter, *http.Request) { reached = true })
	c := safehttp.Client(safehttp.Options{Roots: roots})
	for _, u := range []string{
		url, "https://127.0.0.1", "https://localhost", "https://[::1]", "https://169.254.169.254", "http://1.1.1.1",
		"https://1.1.1.1:8443", "https://user@1.1.1.1", "https://1.1.1.1/" + strings.Repeat("x", 2048), "ftp://1.1.1.1", "https://2130706433",
	} {
		if _, err := get(t, c, u); !errors.Is(err, safehttp.ErrForbidden) && !strings.Contains(u, "2130706433") || err == nil {
			t.Errorf("%.60s: %v", u, err)
		}
	}
	// Development allows requests to this machine, and to no other private one.
	dev := safehttp.Client(safehttp.Options{Roots: roots, AllowLoopback: true})
	if _, err := get(t, dev, url); err != nil || !reached {
		t.Errorf("loopback in development: %v", err)
	}
	for _, u := range []string{"http://192.168.0.1", "https://10.0.0.1", "https://1.1.1.1:" + port, "http://127.0.0.1.example.com"} {
		if _, err := get(t, dev, u); !errors.Is(err, safehttp.ErrForbidden) {
			t.Errorf("%s in development: %v", u, err)
		}
	}
}

// TestAddressIsChecked: the address counts, whatever the name resolved to
// before: each connection is checked when it is made.
func TestAddressIsChecked(t *testing.T) {
	_, _, roots := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
	var asked atomic.Int32
	c := safehttp.Client(safehttp.Options{Roots: roots, Resolver: dnstest.Resolver(t, func() (netip.Addr, error) {
		asked.Add(1)
		return netip.MustParseAddr("127.0.0.1"), nil
	})})
	if _, err := get(t, c, "https://rebound.example.com"); !errors.Is(err, safehttp.ErrForbidden) || asked.Load() == 0 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}

func TestRedirects(t *testing.T) {
	var target string
	hops := 0
	url, _, roots := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hops++
		if r.URL.Path == "/end" {
			_, _ = w.Write([]byte("here"))
			return
		}
		http.Redirect(w, r, target, http.StatusFound)
	})
	c := safehttp.Client(safehttp.Options{Roots: roots, AllowLoopback: true})
	target = "/end"
	if got, err := get(t, c, url); got != "here" || err != nil {
		t.Errorf("one redirect: %q, %v", got, err)
	}
	for _, target = range []string{"https://192.168.1.1/", "https://169.254.169.254/latest/meta-data", "http://example.com/", "https://example.com:22/", "file:///etc/passwd"} {
		if _, err := get(t, c, url); err == nil || !errors.Is(err, safehttp.ErrForbidden) {
			t.Errorf("to %s: %v", target, err)
		}
	}
	hops, target = 0, "/again"
	if _, err := get(t, c, url); !errors.Is(err, safehttp.ErrForbidden) || hops != 6 {
		t.Errorf("for ever: %d hops, %v", hops, err)
	}
}

func TestLimits(t *testing.T) {
	release := make(chan struct{})
	url, _, roots := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/exact":
			_, _ = w.Write(make([]byte, 100))
		case "/declared":
			_, _ = w.Write(make([]byte, 101))
		case "/streamed":
			for range 200 {
				_, _ = w.Write([]byte("x"))
				_ = http.NewResponseController(w).Flush()
			}
		case "/header":
			w.Header().Set("X-Long", strings.Repeat("x", 64<<10))
		case "/slow":
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			<-release
		}
	})
	defer close(release)
	c := safehttp.Client(safehttp.Options{Roots: roots, AllowLoopback: true})
	if got, err := get(t, c, url+"/exact"); len(got) != 100 || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for _, path := range []string{"/declared", "/streamed"} {
		if _, err := get(t, c, url+path); !errors.Is(err, safehttp.ErrTooLarge) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := get(t, c, url+"/header"); err == nil {
		t.Error("a header of 64 KiB was taken")
	}
	hasty := safehttp.Client(safehttp.Options{Roots: roots, AllowLoopback: true, Timeout: 100 * time.Millisecond})
	if _, err := get(t, hasty, url+"/slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a body that does not end: %v", err)
	}
}

// TestCertificate: a server without a valid certificate gets no request.
func TestCertificate(t *testing.T) {
	url, _, _ := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
	var unknown *tls.CertificateVerificationError
	if _, err := get(t, safehttp.Client(safehttp.Options{AllowLoopback: true}), url); !errors.As(err, &unknown) {
		t.Errorf("%v", err)
	}
}

// TestPorts: strangers may name the port of https, and with HighPorts the ports from 1024
// on.
func TestPorts(t *testing.T) {
	for _, high := range []bool{false, true} {
		c := safehttp.Client(safehttp.Options{HighPorts: high, Timeout: time.Second, Resolver: nobody()})
		for port, want := range map[string]bool{"": true, ":443": true, ":1": false, ":80": false, ":1023": false, ":1024": high, ":8443": high, ":65535": high} {
			_, err := get(t, c, "https://service.example.com"+port)
			if asked := errors.Is(err, safehttp.ErrForbidden); asked == want {
				t.Errorf("high ports %t, port %q: %v", high, port, err)
			}
		}
	}
}

// nobody is a resolver that knows no name.
func nobody() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no name server") }}
}
