package xrpc

import (
	"context"
	"net/http"
	"strings"

	"nestbox/request"
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
	// Admit, when set, is called before each request except a CORS preflight, even if
	// there is no such method, unless the method is CountedApart. It is for a rate
	// limit over everything.
	Admit func(context.Context, *http.Request) error
	// Pass, when set, serves GET, HEAD and POST requests for methods that are not in
	// Methods, once their path was found to be an NSID. Without it they are not
	// implemented.
	Pass Handler
}

// prefix is the path below which XRPC lives.
const prefix = "/xrpc/"

// ServeHTTP implements http.Handler for paths below /xrpc/. It is served behind
// a request.Front, which writes the log line.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	ctx, w := r.Context(), request.WriterOf(rw)
	// The path as it came: an NSID has nothing to escape, and an escaped one must not
	// slip past a proxy in front that matches paths.
	nsid := strings.TrimPrefix(r.URL.EscapedPath(), prefix)
	request.SetName(ctx, "nsid", nsid)
	setCommonHeaders(w.Header())
	err := s.dispatch(w, r, nsid)
	if err == nil {
		return
	}
	e := AsError(ctx, err)
	request.Fail(ctx, e.Status, e.Name, e.Cause)
	if w.Wrote() {
		request.Break(ctx) // its end must not look like the end of the answer
		return
	}
	writeError(w, r, e)
}

func (s *Server) dispatch(w *request.Writer, r *http.Request, nsid string) (err error) {
	defer request.Recover(&err)
	if r.Method == http.MethodOptions {
		preflight(w, r)
		return nil
	}
	m, ok := s.Methods[nsid]
	if ok {
		request.SetRoute(r.Context(), r.URL.Path)
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
	if !ok {
		return s.pass(w, r, nsid)
	}
	if err := checkVerb(m.verb, r.Method); err != nil {
		return err
	}
	// The answer of an authenticated route is for its caller alone, even an error.
	w.Header()["Cache-Control"] = headerPrivate
	w.Header()["Vary"] = headerVary
	maxBody := s.MaxBody
	if m.maxBody > 0 {
		maxBody = m.maxBody
	}
	return m.serve(maxBody, w, r)
}

func checkVerb(want, got string) error {
	switch got {
	case want:
		return nil
	case http.MethodHead:
		if want == http.MethodGet {
			return nil
		}
		// The reference treats a HEAD as a GET.
		return InvalidRequest("Incorrect HTTP method (GET) expected %s", want)
	case http.MethodGet, http.MethodPost:
		return InvalidRequest("Incorrect HTTP method (%s) expected %s", got, want)
	default:
		return InvalidRequest("XRPC requests only supports GET and POST")
	}
}

func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}
