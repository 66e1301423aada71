// Package safehttp is the way to hosts that a stranger can name: identities,
// services, clients. It reaches public addresses only, over https, and takes no
// more time and memory than it was given.
package safehttp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Errors of a Client and of ReadAll.
var (
	// ErrForbidden: a stranger may not make us request the URL, or the address
	// behind its name.
	ErrForbidden = errors.New("not a public address")
	// ErrTooLarge: the answer has more bytes than were allowed.
	ErrTooLarge = errors.New("the answer is too large")

	// errURL is ErrForbidden because of the URL, whatever its name resolves to.
	errURL = fmt.Errorf("%w", ErrForbidden)
)

const (
	// DefaultTimeout bounds a request, its redirects and its body together.
	DefaultTimeout = 10 * time.Second

	connectTimeout   = 5 * time.Second
	maxRedirects     = 5
	maxHeader        = 32 << 10 // bytes
	maxConns         = 4        // of one host
	maxIdle          = 64
	idleTimeout      = 30 * time.Second
	defaultMaxURL    = 2048 // bytes
	defaultHTTPSPort = "443"
	firstHighPort    = 1024 // below it are services of machines, not of people
)

// Options of a Client.
type Options struct {
	// AllowLoopback allows requests to this machine, on any port and also by
	// plain http: for development and tests.
	AllowLoopback bool
	// OnlyLoopback allows requests to this machine by any name that resolves to it, on any
	// port and also by plain http, and nowhere else.
	OnlyLoopback bool
	// Timeout is DefaultTimeout if 0.
	Timeout time.Duration
	// Resolver and Roots are the system's if nil.
	Resolver *net.Resolver
	Roots    *x509.CertPool
	// HighPorts allows ports from 1024 on, besides 443.
	HighPorts bool
	// MaxURL bounds a URL, in bytes; 2048 if 0.
	MaxURL int
}

// Client returns a client whose every connection is checked after its name was
// resolved, so that a name cannot change its address in between, and whose every
// redirect is checked like the first URL. It follows no proxy of the environment:
// that one would resolve names itself.
func Client(o Options) *http.Client {
	return &http.Client{
		Transport: RoundTripper(o, &http.Transport{
			TLSHandshakeTimeout:    connectTimeout,
			ResponseHeaderTimeout:  o.timeout(),
			MaxResponseHeaderBytes: maxHeader,
			MaxConnsPerHost:        maxConns,
			MaxIdleConns:           maxIdle,
			IdleConnTimeout:        idleTimeout,
			ForceAttemptHTTP2:      true,
		}),
		Timeout: o.timeout(),
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("%w: more than %d redirects", ErrForbidden, maxRedirects)
			}
			return nil
		},
	}
}

// RoundTripper returns what makes the requests of a Client, over a transport with limits
// of its own: its connections go only where o allows. It follows no redirect.
func RoundTripper(o Options, transport *http.Transport) http.RoundTripper {
	dialer := &net.Dialer{
		Timeout: connectTimeout, Resolver: o.Resolver,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error { return o.checkAddress(address) },
	}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, o.place(address))
	}
	if o.Roots != nil {
		transport.TLSClientConfig = tlsConfig(o.Roots)
	}
	return &checked{transport, o}
}

// place returns where an address is dialled: names under .localhost are this machine (RFC
// 6761 section 6.3), which DNS servers need not know.
func (o Options) place(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err == nil && (o.AllowLoopback || o.OnlyLoopback) && strings.HasSuffix(host, ".localhost") {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

func (o Options) timeout() time.Duration {
	if o.Timeout == 0 {
		return DefaultTimeout
	}
	return o.Timeout
}

// checked is an http.RoundTripper that checks each URL, a redirect's too.
type checked struct {
	next    *http.Transport
	options Options
}

func (c *checked) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := c.options.checkURL(r.URL); err != nil {
		return nil, err
	}
	return c.next.RoundTrip(r)
}

// CloseIdleConnections is called by http.Client's method of that name.
func (c *checked) CloseIdleConnections() { c.next.CloseIdleConnections() }

func (o Options) checkURL(u *url.URL) error {
	switch {
	case len(u.String()) > cmp.Or(o.MaxURL, defaultMaxURL):
		return fmt.Errorf("%w: its URL has more than %d bytes", errURL, cmp.Or(o.MaxURL, defaultMaxURL))
	case u.User != nil:
		return fmt.Errorf("%w: its URL holds a user name", errURL)
	case o.OnlyLoopback, o.AllowLoopback && isLoopback(u.Hostname()):
		return nil
	case u.Scheme != "https":
		return fmt.Errorf("%w: it is asked over %s", errURL, u.Scheme)
	case !o.allowsPort(u.Port()):
		return fmt.Errorf("%w: it is asked on port %s", errURL, u.Port())
	default:
		return nil
	}
}

// allowsPort reports whether strangers may name a port; "" is that of https.
func (o Options) allowsPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || port == defaultHTTPSPort || o.HighPorts && err == nil && n >= firstHighPort
}

// isLoopback reports whether a URL's host names this machine. A name that
// resolves to it does not count: plain http and other ports need an explicit
// address.
func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// checkAddress is called before each connection.
func (o Options) checkAddress(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrForbidden, address)
	}
	if here := at.Addr().Unmap().IsLoopback(); here && (o.AllowLoopback || o.OnlyLoopback) || Public(at.Addr()) && !o.OnlyLoopback {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrForbidden, at.Addr())
}

// ReadAll reads an answer's body of at most limit bytes, and closes it.
func ReadAll(resp *http.Response, limit int64) ([]byte, error) {
	defer func() { _ = resp.Body.Close() }() // what was read is all that is wanted
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, resp.ContentLength)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return raw, nil
}

// ReadText is ReadAll without a byte order mark, which browsers and Node take from texts and
// JSON (https://fetch.spec.whatwg.org/#body-mixin, https://encoding.spec.whatwg.org/#utf-8-decode).
func ReadText(resp *http.Response, limit int64) ([]byte, error) {
	raw, err := ReadAll(resp, limit)
	return bytes.TrimPrefix(raw, []byte("\xEF\xBB\xBF")), err
}
