package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"nestbox/internal/safehttp"
)

const (
	statusOK = http.StatusOK

	connectTime = 5 * time.Second
	callTime    = 10 * time.Second // of a call, with its answer
	maxHeader   = 32 << 10         // bytes
	maxAnswer   = 512 << 10        // bytes
	// gap is between two calls to a host that is not loopback.
	gap = 100 * time.Millisecond
)

// The NSIDs that are called.
const (
	createSession  = "com.atproto.server.createSession"
	getSession     = "com.atproto.server.getSession"
	refreshSession = "com.atproto.server.refreshSession"
	deleteSession  = "com.atproto.server.deleteSession"
	describeServer = "com.atproto.server.describeServer"
	resolveHandle  = "com.atproto.identity.resolveHandle"
)

var (
	// errStopped: no more calls are made.
	errStopped = errors.New("interrupted")
	errLimited = errors.New("the server limits requests")
	errBudget  = errors.New("more calls than were announced")
)

// client makes calls to one server. It counts them, keeps a distance between them, and
// remembers what it must sign out of.
type client struct {
	http   *http.Client
	origin string
	agent  string
	gap    time.Duration

	mu      sync.Mutex
	left    int    // calls that it may still make
	count   int    // calls that it has made
	limited string // why it makes no more, after a 429
	ready   time.Time
	free    int       // calls that go at once: those behind them wait longer
	tokens  []string  // of refresh, as they came
	unseen  int       // sign-ins without an answer: each may have opened a session
	end     time.Time // when no call goes on
	seen    []seen
}

// seen is a call to the server's methods and its answer.
type seen struct {
	call   call
	answer answer
}

// newClient returns a client that makes so many calls.
func newClient(t Target, version string, calls int) *client {
	transport := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: connectTime}).DialContext,
		TLSHandshakeTimeout:    connectTime,
		MaxResponseHeaderBytes: maxHeader,
		MaxConnsPerHost:        atOnce,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // clients compare the Content-Length
	}
	c := &client{origin: t.Origin, agent: "nestbox-conformance/" + version, gap: gap, left: calls, end: time.Now().Add(longest)}
	var trip http.RoundTripper = transport
	if t.Loopback {
		trip, c.gap = safehttp.RoundTripper(safehttp.Options{OnlyLoopback: true}, transport), 0
	}
	// A redirect is an answer: no credential goes to where a server points.
	c.http = &http.Client{Transport: trip, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c
}

// call is one request.
type call struct {
	method string // GET if empty
	path   string // with the query
	auth   string // the Authorization header
	body   string
	kind   string // the body's Content-Type
	header map[string]string
	// page: a browser opens it as a page. Other calls come from a script of another site.
	page bool
}

// xrpc returns a call of an XRPC method without a body.
func xrpc(method, nsid, auth string) call {
	return call{method: method, path: "/xrpc/" + nsid, auth: auth}
}

func bearer(token string) string { return "Bearer " + token }

// do makes a call. One that has begun is not interrupted, so that no session is lost whose
// tokens are on their way.
func (c *client) do(ctx context.Context, q call) answer {
	if err := c.admit(ctx); err != nil {
		return answer{err: err}
	}
	end := time.Now().Add(callTime)
	if c.end.Before(end) {
		end = c.end
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
	defer cancel()
	req, err := c.request(ctx, q)
	if err != nil {
		return answer{err: err}
	}
	resp, err := c.http.Do(req) //nolint:bodyclose // ReadAll closes it
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the URL, which every line would repeat
		}
		return answer{err: err, lost: true}
	}
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.body, a.err = safehttp.ReadAll(resp, maxAnswer)
	a.lost = a.err != nil
	if json.Unmarshal(a.body, &a.object) != nil {
		a.object = nil
	}
	c.note(q, a)
	if a.status == http.StatusTooManyRequests {
		return answer{err: c.pause()}
	}
	return a
}

func (c *client) request(ctx context.Context, q call) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, c.origin+q.path, strings.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	if q.body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Header.Set("User-Agent", c.agent)
	if q.page {
		maps.Copy(req.Header, http.Header{
			"Accept": {"text/html"}, "Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"},
		})
	} else {
		req.Header.Set("Origin", somewhere)
	}
	for name, value := range q.header {
		req.Header.Set(name, value)
	}
	if q.auth != "" {
		req.Header.Set("Authorization", q.auth)
	}
	if q.kind != "" {
		req.Header.Set("Content-Type", q.kind)
	}
	return req, nil
}

// pause returns why no more calls are made, nil if they are.
func (c *client) pause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limited == "" {
		return nil
	}
	return fmt.Errorf("%w: %s", errLimited, c.limited)
}

// admit waits for the turn of a call, and counts it.
func (c *client) admit(ctx context.Context) error {
	if err := c.pause(); err != nil {
		return err
	}
	c.mu.Lock()
	now := time.Now()
	wait := max(0, c.ready.Sub(now))
	c.ready = now.Add(wait + c.gap)
	if c.free > 0 {
		c.free--
		wait = 0
	}
	c.mu.Unlock()
	turn := time.NewTimer(wait)
	defer turn.Stop()
	select {
	case <-ctx.Done():
		return errStopped
	case <-turn.C:
	}
	if ctx.Err() != nil {
		return errStopped
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		return errBudget
	}
	c.left--
	c.count++
	return nil
}

// note keeps what later checks, and signing out, need of an answer.
func (c *client) note(q call, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(q.path, "/xrpc/") {
		c.seen = append(c.seen, seen{q, a})
	}
	if token := a.text("refreshJwt"); token != "" {
		id := tokenID(token)
		if !slices.ContainsFunc(c.tokens, func(t string) bool { return tokenID(t) == id }) {
			c.tokens = append(c.tokens, token)
		}
	}
	if a.status == http.StatusTooManyRequests {
		c.limited = "it answered 429"
		if wait := a.header.Get("Retry-After"); wait != "" {
			c.limited += ", Retry-After: " + wait
		}
	}
}

// burst lets so many calls go at once.
func (c *client) burst(calls int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = calls
}

// made returns how many calls were made.
func (c *client) made() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// leave signs out of everything that was opened, and returns how many tokens were refused, and how many
// got no answer. A server may know each refresh token apart, so each of them is presented, the newest
// first. Those that got no answer, or a 5xx, are presented once more, if calls are left.
func (c *client) leave(ctx context.Context) (refused, unanswered int) {
	c.mu.Lock()
	tokens := slices.Clone(c.tokens)
	c.limited = "" // it may answer these
	c.mu.Unlock()
	slices.Reverse(tokens)
	out := func(token string) answer { return c.do(ctx, xrpc(http.MethodPost, deleteSession, bearer(token))) }
	failed := map[string]answer{}
	for _, token := range tokens {
		if a := out(token); a.err != nil || a.status != statusOK {
			failed[token] = a
		}
	}
	for _, token := range tokens {
		a, still := failed[token]
		if still && (a.lost || a.status >= http.StatusInternalServerError) {
			if b := out(token); b.lost || b.err == nil {
				a = b
			}
		}
		switch {
		case !still || a.err == nil && a.status == statusOK:
		case a.err == nil, errors.Is(a.err, errLimited):
			refused++
		default:
			unanswered++
		}
	}
	return refused, unanswered
}

// answer is what a server answered. err means that there is no answer to judge.
type answer struct {
	status int
	header http.Header
	body   []byte
	object map[string]any // the body, if it is a JSON object
	err    error
	lost   bool // the server may have done what was asked
}

// text returns a member that is a text.
func (a answer) text(name string) string {
	s, _ := a.object[name].(string)
	return s
}

// said returns status and error in short.
func (a answer) said() string {
	switch {
	case a.err != nil:
		return "no answer: " + a.err.Error()
	case a.text("error") != "":
		return fmt.Sprintf("%d %s", a.status, a.text("error"))
	default:
		return fmt.Sprint(a.status)
	}
}

// isJSON reports whether the body is a JSON object that is declared as one.
func (a answer) isJSON() bool {
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	return err == nil && kind == "application/json" && a.object != nil
}

// session is a pair of tokens.
type session struct{ access, refresh, did, handle string }

func (a answer) session() session {
	return session{a.text("accessJwt"), a.text("refreshJwt"), a.text("did"), a.text("handle")}
}

// signIn opens a session; more are pairs of members that createSession need not know.
func (r *runner) signIn(ctx context.Context, identifier string, more ...string) (session, answer) {
	in := map[string]string{"identifier": identifier, "password": r.password}
	for i := 0; i+1 < len(more); i += 2 {
		in[more[i]] = more[i+1]
	}
	a := r.do(ctx, signInCall(in))
	if a.lost && a.session().refresh == "" {
		r.mu.Lock()
		r.unseen++
		r.mu.Unlock()
	}
	return a.session(), a
}

func signInCall(in map[string]string) call {
	q := xrpc(http.MethodPost, createSession, "")
	body, _ := json.Marshal(in)
	q.body, q.kind = string(body), "application/json"
	return q
}

// fresh returns a session that no check has used.
func (r *runner) fresh(ctx context.Context) (session, verdict) {
	if n := len(r.spare); n > 0 {
		s := r.spare[n-1]
		r.spare = r.spare[:n-1]
		return s, passed()
	}
	s, a := r.signIn(ctx, r.identifier)
	if v := a.is(statusOK); v.outcome != Pass {
		return s, skipped("no session to try it with: createSession answered %s", a.said())
	}
	return s, passed()
}

// refresh presents a refresh token.
func (r *runner) refresh(ctx context.Context, token string) answer {
	return r.do(ctx, xrpc(http.MethodPost, refreshSession, bearer(token)))
}

// works returns Fail unless getSession accepts an access token.
func (r *runner) works(ctx context.Context, token, what string) verdict {
	a := r.do(ctx, xrpc(http.MethodGet, getSession, bearer(token)))
	return a.is(statusOK).about("getSession with " + what)
}
