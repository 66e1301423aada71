package client_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
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
	"nestbox/oauth/client"
)

// overHTTP makes the service fetch by the real network code, with a name server that
// returns one address for every name.
func (w *world) overHTTP(t *testing.T, dev bool, roots *x509.CertPool, address func() (netip.Addr, error)) {
	t.Helper()
	w.Close()
	w.Service = client.New(client.Options{
		Store: w.db.Clients, HTTP: client.HTTP(safehttp.Options{Resolver: dnstest.Resolver(t, address), Roots: roots}, dev), Issuer: issuer, Dev: dev,
		Now: w.clock, Log: slog.New(slog.DiscardHandler),
	})
}

// TestPrivateAddresses: a name that resolves to an address that is not public, at once or
// only when it is asked again, leads nowhere, and the error says so.
func TestPrivateAddresses(t *testing.T) {
	w := newWorld(t)
	var reached atomic.Bool
	host := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer host.Close()
	var asked atomic.Int32
	for i, address := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1"} {
		w.overHTTP(t, false, nil, func() (netip.Addr, error) { asked.Add(1); return netip.MustParseAddr(address), nil })
		_, err := w.Load(t.Context(), fmt.Sprintf("https://rebound%d.example.com/client.json", i), client.ForRequest)
		refused(t, err, client.CodeInvalidMetadata, "address not public")
	}
	if asked.Load() == 0 || reached.Load() {
		t.Errorf("asked %d times, reached: %v", asked.Load(), reached.Load())
	}
	w.overHTTP(t, false, nil, func() (netip.Addr, error) { return netip.Addr{}, dnstest.ErrNoName })
	_, err := w.Load(t.Context(), "https://nowhere.example.com/client.json", client.ForRequest)
	refused(t, err, client.CodeInvalidMetadata, "name does not resolve")
}

// TestHostileHosts: what real hosts can do wrong, over TLS on this machine.
func TestHostileHosts(t *testing.T) {
	release := make(chan struct{})
	var headers atomic.Pointer[http.Header]
	host := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Clone()
		headers.Store(&header)
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte(strings.Repeat(" ", 1<<10)))
			}
		case "/declared":
			w.Header().Set("Content-Length", "1000000000")
		case "/redirect":
			http.Redirect(w, r, "/right", http.StatusFound)
		case "/header":
			w.Header().Set("X-Long", strings.Repeat("x", 64<<10))
		case "/closes":
			panic(http.ErrAbortHandler)
		case "/waits":
			<-release
		default:
			_, _ = w.Write([]byte(jsonOf(metadata(map[string]any{"client_id": "https://" + r.Host + r.URL.Path}))))
		}
	}))
	host.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer host.Close()
	defer close(release)
	roots := x509.NewCertPool()
	roots.AddCert(host.Certificate())
	w := newWorld(t)
	w.overHTTP(t, true, roots, func() (netip.Addr, error) { return netip.MustParseAddr("127.0.0.1"), nil })
	for path, says := range map[string]string{
		"/endless": "too large", "/declared": "too large", "/redirect": "redirect to /right (redirects are not followed)", "/header": "connection failed", "/closes": "connection failed",
	} {
		_, err := w.Load(t.Context(), host.URL+path, client.ForRequest)
		refused(t, err, client.CodeInvalidMetadata, says)
	}
	if _, err := w.Load(t.Context(), host.URL+"/right", client.ForRequest); err != nil {
		t.Error(err)
	}
	if h := *headers.Load(); h.Get("Accept") != "application/json" || h.Get("Cookie") != "" {
		t.Errorf("asked with %v", h)
	}
	_, port, _ := net.SplitHostPort(host.Listener.Addr().String())
	// The certificate is not for this name, which is dialled without a name server.
	_, err := w.Load(t.Context(), "https://app.localhost:"+port+"/right", client.ForRequest)
	refused(t, err, client.CodeInvalidMetadata, "TLS: ")
	_, err = w.Load(t.Context(), "http://127.0.0.1:"+port+"/plain", client.ForRequest)
	refused(t, err, client.CodeInvalidMetadata, "status 400")

	slow := client.HTTP(safehttp.Options{Roots: roots}, true)
	slow.Timeout = 100 * time.Millisecond
	w.Close()
	w.Service = client.New(client.Options{Store: w.db.Clients, HTTP: slow, Issuer: issuer, Dev: true, Now: w.clock, Log: slog.New(slog.DiscardHandler)})
	_, err = w.Load(t.Context(), host.URL+"/waits", client.ForRequest)
	refused(t, err, client.CodeInvalidMetadata, "timed out after 10 s")
}

// TestPlainHTTP: under --dev a name that resolves to this machine may be asked by plain
// http, and another one may not.
func TestPlainHTTP(t *testing.T) {
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(jsonOf(metadata(map[string]any{"client_id": "http://" + r.Host + r.URL.Path}))))
	}))
	defer host.Close()
	_, port, _ := net.SplitHostPort(host.Listener.Addr().String())
	w := newWorld(t)
	var public atomic.Bool
	w.overHTTP(t, true, nil, func() (netip.Addr, error) {
		if public.Load() {
			return netip.MustParseAddr("93.184.215.14"), nil
		}
		return netip.MustParseAddr("127.0.0.1"), nil
	})
	for _, name := range []string{"app.localhost", "127.0.0.1", "dev.example.com"} {
		if _, err := w.Load(t.Context(), "http://"+name+":"+port+"/client.json", client.ForRequest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	public.Store(true)
	_, err := w.Load(t.Context(), "http://public.example.com:"+port+"/client.json", client.ForRequest)
	refused(t, err, client.CodeInvalidMetadata, "address not public")
}
