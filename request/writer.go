package request

import (
	"bufio"
	"net"
	"net/http"
)

// Writer remembers what was sent, for the log and so that an error is not
// written behind an answer.
type Writer struct {
	http.ResponseWriter
	code  int
	wrote bool
}

// WriterOf returns w if a Front made it, or else a Writer around it.
func WriterOf(w http.ResponseWriter) *Writer {
	if own, ok := w.(*Writer); ok {
		return own
	}
	return &Writer{ResponseWriter: w}
}

// WriteHeader implements http.ResponseWriter.
func (w *Writer) WriteHeader(code int) {
	if !w.wrote {
		w.wrote, w.code = true, code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *Writer) Write(b []byte) (int, error) {
	if !w.wrote {
		w.wrote, w.code = true, http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Hijack implements http.Hijacker, which an upgrade to a websocket needs. The
// connection's new owner decides what is sent from then on.
func (w *Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.wrote, w.code = true, http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Wrote reports whether the answer has begun.
func (w *Writer) Wrote() bool { return w.wrote }

// Status returns the status that was sent: 200 if nothing was written.
func (w *Writer) Status() int {
	if !w.wrote {
		return http.StatusOK
	}
	return w.code
}
