package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"nestbox/internal/safehttp"
)

// The bounds of a fetch.
const (
	maxDocument  = 128 << 10 // bytes
	fetchTimeout = safehttp.DefaultTimeout
)

// How long what was fetched is not fetched again.
const (
	minFresh     = 30 * time.Second
	maxFresh     = time.Hour
	defaultFresh = 10 * time.Minute
)

// HTTP returns what fetches documents: public addresses only, on port 443, no redirects,
// and little time. Under --dev this machine may be asked as well, and over http nothing but
// this machine.
func HTTP(o safehttp.Options, dev bool) *http.Client {
	transport := func(o safehttp.Options) http.RoundTripper {
		return safehttp.RoundTripper(o, &http.Transport{
			TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: fetchTimeout, MaxResponseHeaderBytes: 32 << 10,
			MaxConnsPerHost: 4, MaxIdleConns: maxFetches, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
		})
	}
	byScheme := schemes{}
	o.AllowLoopback, o.HighPorts = dev, dev
	byScheme["https"] = transport(o)
	if dev {
		o.OnlyLoopback = true
		byScheme["http"] = transport(o)
	}
	return &http.Client{
		Transport: byScheme, Timeout: fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// schemes makes requests by the scheme of their URL.
type schemes map[string]http.RoundTripper

// RoundTrip implements http.RoundTripper.
func (s schemes) RoundTrip(r *http.Request) (*http.Response, error) {
	if t := s[r.URL.Scheme]; t != nil {
		return t.RoundTrip(r)
	}
	return nil, fmt.Errorf("%w: it is asked over %s", safehttp.ErrForbidden, r.URL.Scheme)
}

// fault is why a document was not obtained.
type fault struct {
	// message is for the asker, who may be anybody: it reveals nothing of this server's
	// network. cause is for the log, nil if message is all.
	message string
	cause   error
	// invalid means that the host answered, with a document that breaks a rule: code says
	// which kind. It is a statement of the client's, and not a host that is down.
	invalid bool
	code    string
}

func (f *fault) Error() string {
	if f.cause != nil {
		return f.message + ": " + f.cause.Error()
	}
	return f.message
}

func (f *fault) Unwrap() error { return f.cause }

func faultf(format string, args ...any) *fault {
	return &fault{message: fmt.Sprintf(format, args...), code: CodeInvalidMetadata}
}

// get fetches a JSON document, and how long it is fresh.
func get(ctx context.Context, c *http.Client, u string, now time.Time) (body []byte, fresh time.Time, f *fault) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, time.Time{}, faultf("it is not a URL")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "nestbox")
	resp, err := c.Do(req)
	if err != nil {
		return nil, time.Time{}, explain(err)
	}
	if f = headerFault(resp); f != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
		_ = resp.Body.Close()
		return nil, time.Time{}, f
	}
	if body, err = safehttp.ReadText(resp, maxDocument); err != nil {
		return nil, time.Time{}, explain(err)
	}
	return body, now.Add(freshness(resp.Header.Values("Cache-Control"))), nil
}

func headerFault(resp *http.Response) *fault {
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return faultf("redirect to %.200s (redirects are not followed)", resp.Header.Get("Location"))
	case resp.StatusCode != http.StatusOK:
		return faultf("status %d", resp.StatusCode)
	}
	contentType := resp.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/json" && (!strings.HasPrefix(kind, "application/") || !strings.HasSuffix(kind, "+json")) {
		return faultf("content type is %.100s, not application/json", contentType)
	}
	return nil
}

// explain returns which part of a request failed.
func explain(err error) *fault {
	reason := cmp.Or(safehttp.Reason(err), "connection failed")
	switch {
	case errors.Is(err, safehttp.ErrTooLarge):
		reason = fmt.Sprintf("too large: more than %d bytes", maxDocument)
	case safehttp.TimedOut(err):
		reason = fmt.Sprintf("timed out after %d s: the app's own server must answer while it waits for this request",
			int(fetchTimeout/time.Second))
	}
	return &fault{message: reason, code: CodeInvalidMetadata, cause: err}
}

// freshness returns how long an answer with these Cache-Control headers is fresh.
func freshness(headers []string) time.Duration {
	fresh := defaultFresh
	for directive := range strings.SplitSeq(strings.ToLower(strings.Join(headers, ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "no-store", "no-cache":
			return minFresh
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				fresh = min(max(time.Duration(seconds)*time.Second, minFresh), maxFresh)
			}
		}
	}
	return fresh
}
