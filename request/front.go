package request

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"nestbox/internal/gate"
)

// Front stands before every handler of the public server: it learns who the
// client is, recovers from panics and writes the log line. Its fields are set
// before the first request and not changed afterwards.
type Front struct {
	// TrustedProxies are the peers whose X-Forwarded-For and X-Request-Id are believed.
	TrustedProxies []netip.Prefix
	// Shown is how much of a client's address the log has.
	Shown Shown
	// Skip, when set, reports whether the log does without the line of a request whose status is
	// below 500.
	Skip func(*http.Request) bool
	// Unlimited, when set, reports whether a client is exempt from rate limits.
	Unlimited func(*http.Request, Client) bool
	// Ended, when set, is called with the outcome of each request. It must not block.
	Ended func(Outcome)
	Log   *slog.Logger
	Now   func() time.Time
}

// Handler returns next behind the front. A panic in next that was not answered
// is answered with a 500 in plain text.
func (f *Front) Handler(next http.Handler) http.Handler {
	known := &gate.Regulars[string]{} // networks that were here before
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := f.Now()
		st := &state{asked: r.Header, header: rw.Header(), id: idOf(r, f.TrustedProxies), log: f.Log}
		st.header[HeaderID] = []string{st.id}
		st.client = Client{Addr: ClientAddr(r, f.TrustedProxies), UserAgent: userAgent(r), shown: f.Shown}
		st.client.Unlimited = f.Unlimited != nil && f.Unlimited(r, st.client)
		network := st.client.Network().Widest()
		st.client.Known = network != "" && known.Is(network, start)
		st.writer.ResponseWriter = rw
		r = r.WithContext(context.WithValue(r.Context(), stateKey{}, st))
		if err := serve(next, &st.writer, r); err != nil {
			Fail(r.Context(), http.StatusInternalServerError, "InternalServerError", err)
			if !st.writer.wrote {
				http.Error(&st.writer, "Internal Server Error", http.StatusInternalServerError) //nolint:gocritic // the log line follows
			}
		}
		end := f.Now()
		if f.Ended != nil {
			f.Ended(Outcome{
				Status: max(st.writer.Status(), st.failed.status), Took: end.Sub(start), Marks: st.marks, Method: r.Method, Route: st.route,
			})
		}
		if network != "" && (st.did != "" || st.remember) && max(st.writer.Status(), st.failed.status) < http.StatusBadRequest {
			known.Came(network, start)
			known.Came(network, end)
		}
		f.log(r, st, end.Sub(start))
		if st.broken {
			panic(http.ErrAbortHandler)
		}
	})
}

func serve(next http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer Recover(&err)
	next.ServeHTTP(w, r)
	return nil
}

// Panic is a handler's panic as an error.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprintf("handler panicked: %v\n%s", p.Value, p.Stack) }

// Recover is deferred: it turns a panic into a *Panic in err.
func Recover(err *error) {
	if p := recover(); p != nil {
		*err = &Panic{p, debug.Stack()}
	}
}

// maxCause bounds, in bytes, what the log shows of an error: a stack fits.
const maxCause = 8 << 10

// log writes the line. It is an error if the server failed, even when the
// answer had begun with another status; a warning if a host failed that the client named.
func (f *Front) log(r *http.Request, st *state, took time.Duration) {
	status := st.writer.Status()
	level, worst := slog.LevelInfo, max(status, st.failed.status)
	if worst < http.StatusInternalServerError && f.Skip != nil && f.Skip(r) {
		return
	}
	switch {
	case st.foreign && (worst == http.StatusBadGateway || worst == http.StatusGatewayTimeout):
		level = slog.LevelWarn
	case st.refusal && worst == http.StatusServiceUnavailable && st.failed.status == 0:
	case worst >= http.StatusInternalServerError:
		level = slog.LevelError
	case st.quiet:
		level = slog.LevelDebug
	}
	ctx := context.WithoutCancel(r.Context())
	if !f.Log.Enabled(ctx, level) {
		return
	}
	key, what := "path", r.URL.EscapedPath()
	if st.key != "" {
		key, what = st.key, st.what
	}
	attrs := make([]slog.Attr, 0, 9)
	attrs = append(attrs,
		slog.String(key, clip(what, 128)),
		slog.String("method", clip(r.Method, 16)),
		slog.Int("status", status),
		slog.Duration("took", took),
		slog.String("request_id", st.id),
	)
	if client := st.client.Logged(); client != "" {
		attrs = append(attrs, slog.String("client", client))
	}
	if st.did != "" {
		attrs = append(attrs, slog.String("did", clip(st.did, 128)))
	}
	if st.failed.name != "" {
		attrs = append(attrs, slog.String("error", clip(st.failed.name, 128)))
	}
	if cause := st.failed.cause; cause != nil && !errors.Is(cause, context.Canceled) {
		attrs = append(attrs, slog.String("cause", clip(f.Shown.hide(cause.Error(), st.client.Addr), maxCause)))
	}
	f.Log.LogAttrs(ctx, level, "request", append(attrs, st.notes...)...)
}

func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}
