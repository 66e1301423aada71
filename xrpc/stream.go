package xrpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"nestbox/request"
)

const (
	// streamPatience is how long the other end of a stream may take for one part
	// of it.
	streamPatience = 60 * time.Second

	// Nor may it hold a stream for ever with a byte a minute: it may be as far as
	// streamGrace behind one that goes on at streamPace, in bytes a second. Behind
	// the grace that is 32 kbit/s, what a GPRS phone sends; one on EDGE or 3G
	// is some times as fast. 500 KB may take all of four minutes, the 5 MB that
	// the reference takes for a blob 23. What the handler itself takes in between
	// does not count.
	streamGrace = 2 * time.Minute
	streamPace  = 4 << 10
)

// pace measures one direction of a stream. The zero value is a stream that has
// not begun.
type pace struct {
	waited time.Duration // for the other end
	moved  int64         // bytes
}

// deadline is when the next part must be through.
func (p *pace) deadline(now time.Time) time.Time {
	left := streamGrace + time.Duration(float64(p.moved)/streamPace*float64(time.Second)) - p.waited
	return now.Add(min(streamPatience, left))
}

// part counts a part that began then.
func (p *pace) part(began time.Time, n int) {
	p.waited += time.Since(began)
	p.moved += int64(n)
}

// Stream is a GET endpoint whose handler writes the answer itself: files and
// websockets. What it returns as an error before it wrote anything is answered
// like any other error. To a HEAD it need not write a body.
func Stream[C, Params any](auth func(context.Context, *http.Request) (C, error), handle func(context.Context, C, Params, http.ResponseWriter, *http.Request) error) Method {
	decode := paramsDecoder[Params]()
	return Method{verb: http.MethodGet, serve: func(_ int64, w *request.Writer, r *http.Request) error {
		ctx := r.Context()
		caller, params, err := admit(r, auth, decode)
		if err != nil {
			return err
		}
		return handle(ctx, caller, params, &patientWriter{Writer: w, conn: http.NewResponseController(w)}, r)
	}}
}

// patientWriter gives each part of an answer its own time, and the whole a pace.
type patientWriter struct {
	*request.Writer
	conn *http.ResponseController
	pace pace
}

func (w *patientWriter) Write(b []byte) (int, error) {
	began := time.Now()
	if err := w.conn.SetWriteDeadline(w.pace.deadline(began)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := w.Writer.Write(b)
	w.pace.part(began, n)
	return n, err
}

func (w *patientWriter) Unwrap() http.ResponseWriter { return w.Writer }

// Upload is a body that its handler reads itself.
type Upload struct {
	// ContentType is the header as it came; Length is -1 where it is not known.
	ContentType string
	Length      int64

	io.Reader
}

// Receive is a POST endpoint that takes a body of any type, which may be empty.
// The handler reads it, and sets its own limit; it returns once the body was read
// or refused.
func Receive[C, Out any](auth func(context.Context, *http.Request) (C, error), handle func(context.Context, C, Upload) (Out, error)) Method {
	return Method{verb: http.MethodPost, serve: func(_ int64, w *request.Writer, r *http.Request) error {
		ctx := r.Context()
		caller, err := auth(ctx, r)
		if err != nil {
			return err
		}
		if r.ContentLength == 0 && r.Header.Get("Content-Length") == "" {
			return InvalidRequest("A request body is expected but none was provided")
		}
		if err := checkEncoding(r); err != nil {
			return err
		}
		conn := http.NewResponseController(w)
		out, err := handle(ctx, caller, Upload{
			ContentType: r.Header.Get("Content-Type"), Length: r.ContentLength,
			Reader: &patientReader{body: r.Body, conn: conn},
		})
		// What the handler took for it may have lasted; an error is answered, too.
		if derr := conn.SetWriteDeadline(time.Now().Add(streamPatience)); derr != nil && !errors.Is(derr, http.ErrNotSupported) {
			return errors.Join(err, derr)
		}
		if err != nil {
			return err
		}
		return writeOutput(w, r, out)
	}}
}

// patientReader gives each part of a body its own time, and the whole a pace.
type patientReader struct {
	body io.Reader
	conn *http.ResponseController
	pace pace
}

func (r *patientReader) Read(b []byte) (int, error) {
	began := time.Now()
	if err := r.conn.SetReadDeadline(r.pace.deadline(began)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := r.body.Read(b)
	r.pace.part(began, n)
	if errors.Is(err, io.EOF) {
		// What the handler makes of the body may last: a deadline that passes
		// then, set by a read behind the end, would be taken for a client that
		// has gone.
		_ = r.conn.SetReadDeadline(time.Time{}) // that it is supported has been seen
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.Join(ErrBody, err)
	}
	return n, err
}

// ErrBody: the body stopped before its end; the client has gone, or stalled.
var ErrBody = errors.New("body ended early")
