package xrpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// DefaultMaxBody is the limit of a JSON body in bytes: 150 KiB, as the
// reference has it.
const DefaultMaxBody = 150 << 10

// Server answers everything below /xrpc/. Its fields are set before the first
// request and not changed afterwards.
type Server struct {
	// Methods maps an NSID to its endpoint.
	Methods map[string]Method
	// MaxBody limits a JSON body, in bytes, unless its method has its own limit.
	MaxBody int64
	// TrustedProxies are the peers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Unlimited, when set, says whether a client is exempt from rate limits.
	Unlimited func(*http.Request, Client) bool
	// Admit, when set, is asked before each request that reaches a method, unless
	// that is CountedApart: a place for a rate limit over everything.
	Admit func(context.Context, *http.Request) error
	Log   *slog.Logger
	Now   func() time.Time
}

// prefix is the path below which XRPC lives.
const prefix = "/xrpc/"

// ServeHTTP implements http.Handler for paths below /xrpc/.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	start := s.Now()
	client := Client{Addr: ClientAddr(r, s.TrustedProxies), UserAgent: userAgent(r)}
	client.Unlimited = s.Unlimited != nil && s.Unlimited(r, client)
	st := &requestState{client: client, asked: r.Header, header: rw.Header()}
	r = r.WithContext(context.WithValue(r.Context(), stateKey{}, st))
	w := &responseWriter{ResponseWriter: rw}
	// The path as it came: an NSID has nothing to escape, and a proxy before us
	// that looks at paths must not be led astray by one that has.
	nsid := strings.TrimPrefix(r.URL.EscapedPath(), prefix)
	setCommonHeaders(w.Header())
	err := s.dispatch(w, r, nsid)
	var e *Error
	if err != nil {
		e = asError(r.Context(), err)
		if !w.wrote {
			writeError(w, r, e)
		}
	}
	s.logRequest(r, nsid, w, e, st, s.Now().Sub(start))
}

func (s *Server) dispatch(w *responseWriter, r *http.Request, nsid string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicked{p, debug.Stack()}
		}
	}()
	if r.Method == http.MethodOptions {
		preflight(w, r)
		return nil
	}
	m, ok := s.Methods[nsid]
	if !ok {
		return unknownMethod(nsid)
	}
	count := s.Admit
	if m.apart != nil {
		count = m.apart
	}
	if count != nil {
		if err := count(r.Context(), r); err != nil {
			return err
		}
	}
	if err := checkVerb(m.verb, r.Method); err != nil {
		return err
	}
	// What an auth-checked route answers is for its caller alone, errors too.
	w.Header()["Cache-Control"] = headerPrivate
	w.Header()["Vary"] = headerVary
	maxBody := s.MaxBody
	if m.maxBody > 0 {
		maxBody = m.maxBody
	}
	return m.serve(maxBody, w, r)
}

func unknownMethod(nsid string) error {
	if _, err := syntax.ParseNSID(nsid); err != nil {
		return InvalidRequest("invalid xrpc path")
	}
	return &Error{Status: http.StatusNotImplemented, Name: NameMethodNotImplemented, Message: "Method Not Implemented"}
}

func checkVerb(want, got string) error {
	switch got {
	case want:
		return nil
	case http.MethodHead:
		if want == http.MethodGet {
			return nil
		}
		// The reference treats HEAD as the GET that it stands for.
		return InvalidRequest("Incorrect HTTP method (GET) expected %s", want)
	case http.MethodGet, http.MethodPost:
		return InvalidRequest("Incorrect HTTP method (%s) expected %s", got, want)
	default:
		return InvalidRequest("XRPC requests only supports GET and POST")
	}
}

// maxCause bounds, in bytes, what the log says of an error: a stack fits.
const maxCause = 8 << 10

func (s *Server) logRequest(r *http.Request, nsid string, w *responseWriter, e *Error, st *requestState, took time.Duration) {
	level := slog.LevelInfo
	status := w.status()
	if e != nil && e.Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	ctx := context.WithoutCancel(r.Context())
	if !s.Log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs,
		slog.String("nsid", clip(nsid, 128)),
		slog.String("method", clip(r.Method, 16)),
		slog.Int("status", status),
		slog.Duration("took", took),
		slog.String("client", st.client.Addr.String()),
	)
	if st.did != "" {
		attrs = append(attrs, slog.String("did", clip(st.did, 128)))
	}
	if e != nil {
		attrs = append(attrs, slog.String("error", e.Name))
		if e.Cause != nil && !errors.Is(e.Cause, context.Canceled) {
			attrs = append(attrs, slog.String("cause", clip(e.Cause.Error(), maxCause)))
		}
	}
	s.Log.LogAttrs(ctx, level, "request", attrs...)
}

func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}
