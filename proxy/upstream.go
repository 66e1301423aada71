package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/internal/safehttp"
	"nestbox/request"
)

// The limits of an exchange with a service.
const (
	connectTime = 5 * time.Second // with TLS
	answerTime  = 5 * time.Minute // for a whole answer
	// idleTime is below the 60 s after which load balancers close connections.
	idleTime      = 50 * time.Second
	idleOfDefault = 64
	idleOfNamed   = 4
	maxNamed      = 256 // hosts whose connections are kept
	maxHeaders    = 32 << 10
)

// transport returns the connections to services, so many of each host and in all being
// kept while nobody uses them. It sends a request twice only if nothing of it was written.
func (s *Service) transport(idle, all int) *http.Transport {
	dialer := &net.Dialer{Timeout: connectTime}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    connectTime,
		MaxResponseHeaderBytes: maxHeaders,
		MaxIdleConns:           all,
		MaxIdleConnsPerHost:    idle,
		IdleConnTimeout:        idleTime,
		DisableCompression:     true,
		ForceAttemptHTTP2:      s.HTTP2,
		WriteBufferSize:        4 << 10,
		ReadBufferSize:         16 << 10,
	}
}

// Why an exchange was ended.
var (
	errConnect = errors.New("no connection in time")
	errSilent  = errors.New("no answer in time")
	errStalled = errors.New("the answer stalled")
	errEnded   = errors.New("the call is over")
)

// call is one call of a service.
type call struct {
	// by is the account that calls, holder its credential; nil and empty without a token.
	by     *account.Account
	holder auth.Holder
	to     Target
	// method is the HTTP method, nsid the method in the path, query what follows.
	method, nsid, query string
	forceQuery          bool // a ? follows even if query is empty
	// audience and lxm are the token's, to.DID and nsid if they are empty.
	audience, lxm string
	header        http.Header
	// aside: the call is a part of another one, which alone is logged.
	aside bool
	// body is nil if there is none; length is -1 if it is not known.
	body   *upBody
	sent   io.Reader // a body of our own
	length int64
}

// answer is what a service answered. It must be closed.
type answer struct {
	*http.Response

	call  *call
	body  downBody
	began time.Time
	end   func()
}

// close ends the exchange.
func (a *answer) close() {
	a.end()
	_ = a.Response.Body.Close() // an answer that was not read to its end ends with its connection
}

// send makes a call. Its errors are refusals, those of the client's body, or the context's
// once the client has left.
func (s *Service) send(ctx context.Context, c *call) (*answer, error) {
	c.note(ctx, slog.String("target", c.to.String()))
	if c.to.Named {
		request.SetForeign(ctx)
	}
	key := c.to.key()
	if s.breakers.broken(key, time.Now()) {
		return nil, left()
	}
	leave, err := s.room.enter(ctx, c.holder, c.to)
	if err != nil {
		return nil, err
	}
	a, err := s.attempt(ctx, c, key)
	if err != nil {
		leave()
		return nil, err
	}
	end := a.end
	a.end = func() { end(); leave() }
	return a, nil
}

// left returns the refusal of a call to a service that is left alone.
func left() error {
	e := failed(messageFailure+": the service does not answer", errors.New("calls failed in a row, so it is left alone for some seconds"))
	e.retryAfter = breakFor
	return e
}

// maxAttempts bounds how often a call is sent whose kept connections turn out to be closed.
const maxAttempts = 3

// attempt makes a call that has its place, each time with a new token.
func (s *Service) attempt(ctx context.Context, c *call, key string) (*answer, error) {
	for n := 1; ; n++ {
		req, err := s.request(ctx, c)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if !s.breakers.admit(key, c.body == nil && c.sent == nil, began) {
			return nil, left()
		}
		a, reused, err := s.exchange(ctx, c, req)
		s.breakers.done(key, began, time.Now(), outcomeOf(ctx, c, err))
		if err == nil {
			return a, nil
		}
		if n < maxAttempts && reused && ctx.Err() == nil && (c.method == http.MethodGet || c.method == http.MethodHead) && isClosed(err) {
			continue
		}
		return nil, s.explain(ctx, c, err)
	}
}

// isClosed reports whether the other end closed a connection before it answered.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(err.Error(), "server closed idle connection") // net/http keeps that error to itself
}

// note adds to the request's log line, unless the call is only a part of another.
func (c *call) note(ctx context.Context, attrs ...slog.Attr) {
	if !c.aside {
		request.Note(ctx, attrs...)
	}
}

// exchange sends a call and waits for the headers of the answer. reused: the connection was
// a kept one.
func (s *Service) exchange(ctx context.Context, c *call, req *http.Request) (_ *answer, reused bool, err error) {
	within, cancel := context.WithCancelCause(ctx)
	w, down := &watch{cancel: cancel}, &watch{cancel: cancel}
	w.until(connectTime, errConnect)
	if c.body != nil {
		c.body.waiting = func(forClient bool) {
			if forClient {
				w.stop()
			} else {
				w.until(s.BodyTimeout, errSilent)
			}
		}
	}
	var kept atomic.Bool
	trace := &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) {
			kept.Store(got.Reused)
			w.until(s.HeadersTimeout, errSilent)
		},
		WroteRequest: func(httptrace.WroteRequestInfo) { w.until(s.HeadersTimeout, errSilent) },
	}
	over := func() {
		w.close()
		down.close()
		cancel(errEnded)
		if c.body != nil {
			c.body.end()
		}
	}
	next := s.ownHosts
	if c.to.Named {
		next = s.strangers
	}
	began := time.Now()
	resp, err := next.RoundTrip(req.WithContext(httptrace.WithClientTrace(within, trace))) //nolint:bodyclose // answer.close
	if s.Took != nil {
		s.Took(s.word(c.to), time.Since(began))
	}
	if err != nil {
		if cause := context.Cause(within); cause != nil && ctx.Err() == nil {
			err = cause
		}
		over()
		return nil, kept.Load(), err
	}
	if c.body != nil {
		close(c.body.answered)
	}
	w.close()
	a := &answer{Response: resp, call: c, began: began, end: over}
	a.body = downBody{from: resp.Body, watch: down, pause: s.BodyTimeout, last: time.Now().Add(answerTime), left: s.MaxAnswer}
	c.note(ctx, slog.Int("upstream_status", resp.StatusCode), slog.Duration("upstream_took", time.Since(began)))
	return a, kept.Load(), nil
}

// nothing is the body of a GET, so that the transport does not send it again by itself: the
// token would be the same.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }
func (nothing) Close() error             { return nil }

// request returns the request of a call, with its token.
func (s *Service) request(ctx context.Context, c *call) (*http.Request, error) {
	u, err := url.Parse(c.to.URL)
	if err != nil {
		return nil, failed(messageUnreachable, err)
	}
	u.Path, u.RawQuery, u.ForceQuery = "/xrpc/"+c.nsid, c.query, c.forceQuery
	h := c.header.Clone()
	if c.by != nil {
		to, lxm := c.to, c.nsid
		if c.audience != "" {
			to.DID = c.audience
		}
		if c.lxm != "" {
			lxm = c.lxm
		}
		token, err := s.token(ctx, c.by, to, lxm)
		if err != nil {
			return nil, err
		}
		h["Authorization"] = []string{"Bearer " + token}
	}
	req := &http.Request{Method: c.method, URL: u, Host: u.Host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	switch {
	case c.body != nil:
		req.Body, req.ContentLength = c.body, c.length
	case c.sent != nil:
		req.Body, req.ContentLength = io.NopCloser(c.sent), c.length
	case c.method == http.MethodPost:
		req.Body = http.NoBody
	default:
		req.Body = nothing{}
	}
	return req.WithContext(ctx), nil
}

// outcomeOf returns what the end of an exchange says of the service.
func outcomeOf(ctx context.Context, c *call, err error) outcome {
	switch {
	case err == nil:
		return answered
	case ctx.Err() != nil, c.bodyError() != nil, errors.Is(err, safehttp.ErrForbidden):
		return unknown
	default:
		return silent
	}
}

// bodyError returns why the client's body could not be read, nil if it could.
func (c *call) bodyError() (err error) {
	if c.body != nil {
		_, err = c.body.whole()
	}
	return err
}

// explain returns the error for the client of an exchange that failed.
func (s *Service) explain(ctx context.Context, c *call, err error) error {
	bodyErr := c.bodyError()
	if bodyErr != nil {
		err = bodyErr
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errBodyTooLarge):
		return &refusalError{status: http.StatusRequestEntityTooLarge, name: "PayloadTooLarge", message: "request entity too large", cause: err}
	case errors.Is(err, errBodyStalled):
		return &refusalError{
			status: http.StatusRequestTimeout, name: nameInvalidRequest, message: "The request body did not arrive in time", cause: err,
		}
	case bodyErr != nil:
		return &refusalError{
			status: http.StatusBadRequest, name: nameInvalidRequest, message: "The request body could not be read", cause: err,
		}
	case errors.Is(err, errSilent):
		return late(err)
	}
	if c.to.Named && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errConnect)) {
		s.askAgain(ctx, c.to)
	}
	return failed(messageUnreachable, err)
}

// askAgain asks for the document of a service that refuses connections: it may have
// moved. It does so once a minute at most, and the next call benefits.
func (s *Service) askAgain(ctx context.Context, to Target) {
	if !s.asked.first(to.DID, time.Now()) {
		return
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		within, cancel := context.WithTimeout(ctx, resolveTime)
		defer cancel()
		if _, err := s.Resolver.Fresh(within, syntax.DID(to.DID)); err != nil {
			s.Log.LogAttrs(within, slog.LevelInfo, "a service refuses connections, and its document was not found",
				slog.String("target", to.String()), slog.String("cause", err.Error()))
		}
	}()
}

// recent remembers for a minute what was done.
type recent struct {
	mu sync.Mutex
	at map[string]time.Time
}

const (
	recently  = time.Minute
	maxRecent = 1024
)

// first reports whether a key was not seen for a minute, and notes it. If too many were
// seen, the answer is no.
func (r *recent) first(key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.at[key]) < recently {
		return false
	}
	if len(r.at) >= maxRecent {
		for k, at := range r.at {
			if now.Sub(at) >= recently {
				delete(r.at, k)
			}
		}
		if len(r.at) >= maxRecent {
			return false
		}
	}
	if r.at == nil {
		r.at = map[string]time.Time{}
	}
	r.at[key] = now
	return true
}

// watch ends an exchange that takes too long.
type watch struct {
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	timer    *time.Timer
	why      error // nil while nothing is waited for
	deadline time.Time
	closed   bool
}

// until ends the exchange unless until or stop is called in time.
func (w *watch) until(d time.Duration, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.why, w.deadline = why, time.Now().Add(d)
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.fire)
		return
	}
	w.timer.Reset(d)
}

func (w *watch) fire() {
	w.mu.Lock()
	why, early := w.why, time.Until(w.deadline)
	w.mu.Unlock()
	if why != nil && early <= 0 { // else it was for an earlier wait
		w.cancel(why)
	}
}

// stop waits without an end.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.why = nil
	if w.timer != nil {
		w.timer.Stop()
	}
}

// close makes later calls do nothing.
func (w *watch) close() {
	w.stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// errAnswerTooLarge: an answer has more bytes than are passed on.
var errAnswerTooLarge = errors.New("the answer is too large")

// downBody is a service's answer as it is read: bounded in size, pauses and time.
type downBody struct {
	from  io.Reader
	watch *watch
	pause time.Duration
	last  time.Time // by when it must be whole
	left  int64
	read  int64
}

// Read implements io.Reader. Every error but io.EOF means that the answer is not whole.
func (b *downBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errAnswerTooLarge
	}
	b.watch.until(min(b.pause, time.Until(b.last)), errStalled)
	n, err := b.from.Read(p)
	b.watch.stop()
	b.read += int64(n)
	if b.left -= int64(n); b.left < 0 {
		return n, errAnswerTooLarge
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read answer: %w", err)
	}
	return n, err
}
