package request

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Client is what is known of the other end of a request before anyone is
// authenticated: where it comes from and what it calls itself.
type Client struct {
	// Addr is the address that the request came from, behind trusted proxies
	// the one that the outermost of them saw.
	Addr netip.Addr
	// UserAgent is the header, cut to MaxUserAgent bytes, with ? for what cannot be printed.
	UserAgent string
	// Unlimited: the operator exempted this client from rate limits.
	Unlimited bool
	// Known: the client's network was here before, and behaved.
	Known bool
	shown Shown
}

// Logged returns what the log has of the client's address; empty for nothing.
func (c Client) Logged() string { return c.shown.Of(c.Addr) }

// MaxUserAgent bounds, in bytes, what is kept of a User-Agent header.
const MaxUserAgent = 256

// state is what a Front keeps of one request.
type state struct {
	writer Writer
	client Client
	asked  http.Header
	header http.Header
	did    string
	key    string // what the log line calls the request, and under which key
	what   string
	quiet  bool
	// foreign: what fails is another host's, which a client named.
	foreign bool
	// refusal: a status of 503 is no failure.
	refusal bool
	notes   []slog.Attr
	failed  failure
	// broken: the connection must not be used again.
	broken bool
	// remember: the request shows that its network is one of the server's own.
	remember bool
	marks    Mark
	route    string
	// id names the request; log gets its events, and is nil where there is none.
	id  string
	log *slog.Logger
}

// Mark is something that happened in a request and is counted. Several may be joined by or.
type Mark uint32

// The marks.
const (
	// RefreshMoved: a refresh moved a session on; RefreshRepeated: it got the newest pair
	// again; RefreshRefused: the session's refresh was refused.
	RefreshMoved Mark = 1 << iota
	RefreshRepeated
	RefreshRefused
	// SignInFailed: a password or a second factor was wrong.
	SignInFailed
	// Written: a repository was changed.
	Written
	// RefreshConverged, RefreshStale and RefreshAhead tell more of a refresh that was repeated,
	// refused or moved on: see session.Outcome.
	RefreshConverged
	RefreshStale
	RefreshAhead
	// SignedIn: a password, and what else was needed, was right.
	SignedIn
	// AccountCreated: an account was made; Arrived: it was made deactivated, by somebody who
	// moves in.
	AccountCreated
	Arrived
	// SessionCreated: a session was opened.
	SessionCreated
	// ClientAllowed: a person allowed an OAuth client something; FirstParty: it is one that the
	// operator trusts.
	ClientAllowed
	FirstParty
)

// SetMark marks the request that ctx belongs to.
func SetMark(ctx context.Context, m Mark) {
	if st := stateOf(ctx); st != nil {
		st.marks |= m
	}
}

// SetRoute notes the path of the request as one of the server's own: there are few.
func SetRoute(ctx context.Context, path string) {
	if st := stateOf(ctx); st != nil {
		st.route = path
	}
}

// Marking returns next behind what collects the marks of each request, for handlers that stand
// behind no Front. log gets its events, and ended, unless it is nil, the marks.
func Marking(next http.Handler, log *slog.Logger, ended func(Mark)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := &state{header: http.Header{}, log: log}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), stateKey{}, st)))
		if ended != nil {
			ended(st.marks)
		}
	})
}

// Outcome is how a request ended, for those who count.
type Outcome struct {
	// Status is the one that was sent, or the worse one that the request failed with.
	Status int
	Took   time.Duration
	Marks  Mark
	// Method is the verb as the client wrote it. Route is the path, if it is one of the server's
	// own (SetRoute), else empty.
	Method, Route string
}

type failure struct {
	status int
	name   string
	cause  error
}

type stateKey struct{}

func stateOf(ctx context.Context) *state {
	st, _ := ctx.Value(stateKey{}).(*state)
	return st
}

// ClientOf returns the client of the request that ctx belongs to.
func ClientOf(ctx context.Context) Client {
	if st := stateOf(ctx); st != nil {
		return st.client
	}
	return Client{}
}

// Header returns the headers of the answer that ctx's request will get, so that
// a handler that sees no ResponseWriter can add to them (rate limits).
// Outside of a request it returns a header that goes nowhere.
func Header(ctx context.Context) http.Header {
	if st := stateOf(ctx); st != nil {
		return st.header
	}
	return http.Header{}
}

// AskedHeader returns the headers of the request that ctx belongs to, nil outside of one.
// They are not to be changed.
func AskedHeader(ctx context.Context) http.Header {
	if st := stateOf(ctx); st != nil {
		return st.asked
	}
	return nil
}

// Remember makes the client's network a known one when it comes again, unless the
// request fails. It is for requests that read a whole file or followed the event
// stream; a request of an account counts anyway.
func Remember(ctx context.Context) {
	if st := stateOf(ctx); st != nil {
		st.remember = true
	}
}

// SetAccount notes the account of the request for the log line.
func SetAccount(ctx context.Context, did string) {
	if st := stateOf(ctx); st != nil {
		st.did = did
	}
}

// SetName replaces the path in the log line by another name of what was asked
// for, under a key of its own.
func SetName(ctx context.Context, key, name string) {
	if st := stateOf(ctx); st != nil {
		st.key, st.what = key, name
	}
}

// SetQuiet keeps a request that succeeds out of the log, unless it shows debug lines.
func SetQuiet(ctx context.Context) {
	if st := stateOf(ctx); st != nil {
		st.quiet = true
	}
}

// SetForeign makes a failure of the request a warning: it depends on a host that the
// client named, and which the operator cannot mend.
func SetForeign(ctx context.Context) {
	if st := stateOf(ctx); st != nil {
		st.foreign = true
	}
}

// SetRefusal marks an answer 503 as the one that the request should get: it is no failure.
func SetRefusal(ctx context.Context) {
	if st := stateOf(ctx); st != nil {
		st.refusal = true
	}
}

// Note adds attributes to the log line of the request.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if st := stateOf(ctx); st != nil {
		st.notes = append(st.notes, attrs...)
	}
}

// Break cuts the connection to the client once the request has been logged: its answer
// ended early, and must not look whole.
func Break(ctx context.Context) {
	if st := stateOf(ctx); st != nil {
		st.broken = true
	}
}

// Fail notes an error for the log line: its status, its name, and its cause,
// which may be nil and is never sent.
func Fail(ctx context.Context, status int, name string, cause error) {
	if st := stateOf(ctx); st != nil {
		st.failed = failure{status, name, cause}
	}
}

// WithClient returns a context as a request of c would have: for tests and for
// callers inside the process.
func WithClient(ctx context.Context, c Client) context.Context {
	return context.WithValue(ctx, stateKey{}, &state{client: c, header: http.Header{}})
}

// languageKey is the context's key of the language of a page.
type languageKey struct{}

// WithLanguage returns a context of a request for a page in a language, by its tag.
func WithLanguage(ctx context.Context, tag string) context.Context {
	return context.WithValue(ctx, languageKey{}, tag)
}

// Language returns the tag of the language of the page that a request is for; empty if it is
// for none.
func Language(ctx context.Context) string {
	tag, _ := ctx.Value(languageKey{}).(string)
	return tag
}

// ClientAddr returns the address of a request's client. X-Forwarded-For is
// believed only if the direct peer is in trusted, and only the part that trusted
// proxies wrote: it is read from the right, and the first address that is not a
// trusted proxy is the client.
func ClientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a unix socket
	}
	addr := peer.Addr().Unmap().WithZone("")
	if len(trusted) == 0 || !contains(trusted, addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(hops) {
		hop, ok := parseHop(text)
		if !ok {
			break // what stands left of nonsense was not written by our proxies
		}
		addr = hop
		if !contains(trusted, addr) {
			break
		}
	}
	return addr
}

func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}, false
	}
	return a.Unmap().WithZone(""), true
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// userAgent returns a text of one line that can be shown anywhere, on a terminal too.
func userAgent(r *http.Request) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == unicode.ReplacementChar {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(clip(r.UserAgent(), MaxUserAgent), "?"))
}
