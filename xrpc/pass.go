package xrpc

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/request"
)

// Handler serves a request itself: it reads the body and writes the answer. An error
// that it returns before it wrote anything is answered like any other; after that, the
// connection is cut, so that the answer cannot seem whole.
type Handler func(http.ResponseWriter, *http.Request) error

// Raw is an endpoint whose handler does all: it proves the caller, reads and writes.
// verb is GET (HEAD comes with it) or POST.
func Raw(verb string, handle Handler) Method {
	return Method{verb: verb, serve: func(_ int64, w *request.Writer, r *http.Request) error { return handle(w, r) }}
}

// Unless returns the method for requests that divert lets through. Those for which it
// returns a Handler are served by that, and its errors are answered; both come before
// the caller is proven.
func (m Method) Unless(divert func(*http.Request) (Handler, error)) Method {
	serve := m.serve
	m.serve = func(maxBody int64, w *request.Writer, r *http.Request) error {
		other, err := divert(r)
		switch {
		case err != nil:
			return err
		case other != nil:
			return other(w, r)
		default:
			return serve(maxBody, w, r)
		}
	}
	return m
}

// Else returns the method with another way for requests that it refuses with an error
// that is when.
func (m Method) Else(when error, next func(refused error) Handler) Method {
	serve := m.serve
	m.serve = func(maxBody int64, w *request.Writer, r *http.Request) error {
		err := serve(maxBody, w, r)
		if errors.Is(err, when) && !w.Wrote() {
			return next(err)(w, r)
		}
		return err
	}
	return m
}

// NSID returns the method that a request's path names, as it came: an NSID has nothing
// to escape.
func NSID(r *http.Request) string { return r.URL.EscapedPath()[len(prefix):] }

// pass serves a request for a method that is not here.
func (s *Server) pass(w *request.Writer, r *http.Request, nsid string) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		return InvalidRequest("XRPC requests only supports GET and POST")
	}
	if _, err := syntax.ParseNSID(nsid); err != nil {
		return InvalidRequest("invalid xrpc path")
	}
	if s.Pass == nil || strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return NotImplemented()
	}
	return s.Pass(w, r)
}

// NotImplemented returns the 501 for a method that is not served.
func NotImplemented() *Error {
	return &Error{Status: http.StatusNotImplemented, Name: NameMethodNotImplemented, Message: "Method Not Implemented"}
}

// Patient returns a writer that gives each part of an answer its own time, and the
// whole a pace, in place of the server's time for an answer.
func Patient(w http.ResponseWriter) http.ResponseWriter {
	return &patientWriter{Writer: request.WriterOf(w), conn: http.NewResponseController(w)}
}

// Wait gives a request that waits for something else than its client that much time,
// before its answer begins.
func Wait(ctx context.Context, w http.ResponseWriter, most time.Duration) error {
	conn := http.NewResponseController(w)
	// If the time to read passed, the client would seem to have left.
	err := errors.Join(conn.SetReadDeadline(time.Time{}), conn.SetWriteDeadline(time.Now().Add(most+streamPatience)))
	if errors.Is(err, http.ErrNotSupported) || ctx.Err() != nil {
		return nil //nolint:nilerr // a connection without times, or none any more
	}
	return err
}
