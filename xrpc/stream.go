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
	// streamPatience is how long the other end of a stream may take for one part.
	streamPatience = 60 * time.Second

	// Nor may it hold a stream for ever with a byte a minute: it may fall streamGrace
	// behind a stream at streamPace, in bytes per second. That is 32 kbit/s, the speed
	// of a GPRS phone; EDGE and 3G are several times as fast. 500 KB may take four
	// minutes, 5 MB may take 23. The time that the handler takes does not count.
	streamGrace = 2 * time.Minute
	streamPace  = 4 << 10
)

// pace measures one direction of a stream. The zero value is a stream that has
// not begun.
type pace struct {
	waited time.Duration // for the other end
	moved  int64         // bytes
}

// deadline returns when the next part must be done.
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
// websockets. An error that it returns before it wrote anything is answered like any
// other. It need not write a body to a HEAD.
func Stream[C, Params any](
	auth Auth[C], handle func(context.Context, C, Params, http.ResponseWriter, *http.Request) error,
) Method {
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
	// ContentType is the header as it came; Length is -1 if it is not known.
	ContentType string
	Length      int64

	io.Reader
}

// Receive is a POST endpoint that accepts a body of any type, even an empty one. The
// handler reads it, with a limit of its own, and returns once it has read or refused it.
func Receive[C, Out any](auth Auth[C], handle func(context.Context, C, Upload) (Out, error)) Method {
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
		// The handler may have taken long, and an error needs time to be sent as well.
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
		// The handler may work on the body for long. If the deadline passed meanwhile,
		// the client would seem to have left.
		_ = r.conn.SetReadDeadline(time.Time{}) // that it is supported has been seen
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.Join(ErrBody, err)
	}
	return n, err
}

// ErrBody: the body stopped before its end because the client left or stalled.
var ErrBody = errors.New("body ended early")
