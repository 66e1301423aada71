package safehttp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"nestbox/internal/dnstest"
	"nestbox/internal/safehttp"
)

// hostOf runs a TLS server with a certificate for a name, which is valid for a time from
// now, and returns its port and the roots that trust it.
func hostOf(t *testing.T, name string, from, to time.Duration) (port string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	return portOf(t, s.Listener), roots
}

func portOf(t *testing.T, l net.Listener) string {
	t.Helper()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// rude is a server that treats each connection in its own way.
func rude(t *testing.T, treat func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			treat(c)
			_ = c.Close()
		}
	}()
	return portOf(t, l)
}

// TestReason has each way in which a request can fail, and what a stranger reads of it:
// exactly that, so no address either.
func TestReason(t *testing.T) {
	expired, expiredRoots := hostOf(t, "127.0.0.1.example", -time.Hour, -time.Minute)
	url, _, _ := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
	other, otherRoots := hostOf(t, "other.example", -time.Hour, time.Hour)
	plain := rude(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
	})
	closes := rude(t, func(net.Conn) {})
	silent := make(chan struct{})
	defer close(silent)
	hangs := rude(t, func(net.Conn) { <-silent })
	gone, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refuses := portOf(t, gone)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	here := safehttp.Options{AllowLoopback: true}
	with := func(roots *x509.CertPool) safehttp.Options {
		return safehttp.Options{AllowLoopback: true, Roots: roots}
	}
	resolved := func(address netip.Addr, err error) safehttp.Options {
		return safehttp.Options{Resolver: dnstest.Resolver(t, func() (netip.Addr, error) { return address, err })}
	}
	for name, c := range map[string]struct {
		options   safehttp.Options
		url, want string
	}{
		"a port":              {here, "https://example.com:22", "its URL is not allowed: https alone, on its usual port"},
		"a private address":   {resolved(netip.MustParseAddr("10.1.2.3"), nil), "https://inside.example.com", "address not public"},
		"no such name":        {resolved(netip.Addr{}, dnstest.ErrNoName), "https://nowhere.example.com", "name does not resolve"},
		"a name server fails": {resolved(netip.Addr{}, dnstest.ErrFails), "https://nowhere.example.com", "name does not resolve: its name servers fail"},
		"no name server":      {safehttp.Options{Resolver: nobody()}, "https://nowhere.example.com", "name does not resolve: its name servers fail"},
		"refused":             {here, "https://127.0.0.1:" + refuses, "connection failed: it was refused"},
		"closed":              {here, "http://127.0.0.1:" + closes, "connection failed: the host closed it"},
		"an unknown root":     {here, url, "TLS: the certificate's authority is unknown, or the chain is not complete"},
		"another name":        {with(otherRoots), "https://127.0.0.1:" + other, "TLS: the certificate is for another name"},
		"an old certificate":  {with(expiredRoots), "https://127.0.0.1:" + expired, "TLS: the certificate has expired, or is not valid yet"},
		"no TLS":              {here, "https://127.0.0.1:" + plain, "TLS: the host does not speak it"},
		"a host that hangs":   {safehttp.Options{AllowLoopback: true, Timeout: 50 * time.Millisecond}, "https://127.0.0.1:" + hangs, "timed out"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := get(t, safehttp.Client(c.options), c.url)
			if got := safehttp.Reason(err); got != c.want || (c.want == "timed out") != safehttp.TimedOut(err) {
				t.Errorf("%v: %q, want %q", err, got, c.want)
			}
		})
	}
	// Whether the host closes before the request is written is chance.
	for _, err := range []error{errors.New("http: server closed idle connection"), syscall.EPIPE, io.EOF, syscall.ECONNRESET} {
		if got := safehttp.Reason(fmt.Errorf("get: %w", err)); got != "connection failed: the host closed it" {
			t.Errorf("%v: %q", err, got)
		}
	}
	for _, err := range []error{nil, errors.New("of another kind"), context.Canceled} {
		if got := safehttp.Reason(err); got != "" {
			t.Errorf("%v: %q", err, got)
		}
	}
}
