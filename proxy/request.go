package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"time"
)

// The limits of headers that are passed on by their prefix.
const (
	maxExtraHeaders     = 32
	maxExtraHeaderBytes = 8 << 10
	extraHeaders        = "X-Atproto-"
)

// upHeaders returns the headers of a client's request that a service gets. The rest would
// identify the person, or belongs to this hop.
func upHeaders(r *http.Request, userAgent string) (http.Header, error) {
	h := http.Header{
		"User-Agent": {userAgent},
		// Set, even to nothing, so that the transport neither adds one nor decodes.
		"Accept-Encoding": {acceptEncoding(r.Header)},
	}
	pass := func(name string) {
		if v, ok := r.Header[name]; ok {
			h[name] = v
		}
	}
	for _, name := range []string{"Accept-Language", "Atproto-Accept-Labelers", "X-Bsky-Topics"} {
		pass(name)
	}
	if r.Method == http.MethodPost {
		pass("Content-Type")
		pass("Content-Encoding")
	}
	count, size := 0, 0
	for name, values := range r.Header {
		if !strings.HasPrefix(name, extraHeaders) {
			continue
		}
		for _, v := range values {
			count++
			size += len(name) + len(v)
		}
		h[name] = values
	}
	if count > maxExtraHeaders || size > maxExtraHeaderBytes {
		return nil, &refusalError{
			status: http.StatusRequestHeaderFieldsTooLarge, name: nameInvalidRequest,
			message: "too many X-Atproto headers: 32 of them, and 8192 bytes, are passed on",
		}
	}
	return h, nil
}

// ownHeaders returns the headers of a call that this server words itself.
func (s *Service) ownHeaders() http.Header {
	return http.Header{"User-Agent": {s.userAgent}, "Accept-Encoding": {"identity"}}
}

// acceptEncoding returns gzip if a client accepts it, else identity: what is read on the
// way must be readable.
func acceptEncoding(h http.Header) string {
	for coding := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(coding, ";")
		name = strings.ToLower(textproto.TrimString(name))
		if name == "gzip" || name == "x-gzip" || name == "*" {
			if !refusesCoding(params) {
				return "gzip"
			}
			if name != "*" {
				return "identity"
			}
		}
	}
	return "identity"
}

// refusesCoding reports whether the parameters of a coding have a weight of zero
// (RFC 9110, section 12.4.2).
func refusesCoding(params string) bool {
	weight, ok := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(params, " ", "")), "q=")
	return ok && strings.Trim(weight, "0.") == "" && weight != ""
}

// bodyPatience is how long a client may pause in its body.
const bodyPatience = 30 * time.Second

// Errors of a client's body.
var (
	errBodyTooLarge = errors.New("the body is larger than is passed on")
	errBodyStalled  = errors.New("the client sent nothing for too long")
	errAnswered     = errors.New("the service has answered already")
)

// upBody is a client's body on its way up. The transport reads it, perhaps still after
// the service has answered.
type upBody struct {
	from io.Reader
	conn *http.ResponseController
	// patience is how long the client may pause.
	patience time.Duration
	// waiting is called when the service takes the next part, with true, and when that has
	// come.
	waiting func(forClient bool)

	answered chan struct{} // closed once the service has answered
	over     chan struct{} // closed at the end of the call

	mu     sync.Mutex
	left   int64 // bytes that may come
	ended  bool  // it was read to its end
	closed bool
	err    error
}

func newUpBody(from io.Reader, conn *http.ResponseController, limit int64) *upBody {
	return &upBody{from: from, conn: conn, patience: bodyPatience, left: limit, answered: make(chan struct{}), over: make(chan struct{})}
}

// Read implements io.Reader. Once the service has answered it waits for the end of the
// call: an error would make the transport give up the answer.
func (b *upBody) Read(p []byte) (int, error) {
	select {
	case <-b.answered:
		<-b.over
		return 0, errAnswered
	default:
	}
	if !b.begin() {
		return 0, errAnswered
	}
	b.waiting(true)
	n, err := b.from.Read(p)
	b.waiting(false)
	err = b.count(n, err)
	if err != nil && !errors.Is(err, io.EOF) {
		select {
		case <-b.answered:
			<-b.over
		default:
		}
	}
	return n, err
}

// begin gives the client its time for the next part, unless the call is over.
func (b *upBody) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	_ = b.conn.SetReadDeadline(time.Now().Add(b.patience)) // without one the server's own holds
	return true
}

func (b *upBody) count(n int, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left -= int64(n)
	switch {
	case b.left < 0:
		err = errBodyTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errBodyStalled
	}
	if b.ended = errors.Is(err, io.EOF); !b.ended {
		b.err = err
	} else if !b.closed {
		// What follows may take longer than the time to read. If it passed, the client would
		// seem to have left.
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	return err
}

// Close implements io.Closer, for the transport: the body belongs to the server.
func (*upBody) Close() error { return nil }

// whole reports whether the body was read to its end, and else why reading failed.
func (b *upBody) whole() (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended, b.err
}

// end ends the call: nothing reads the client's body from now on.
func (b *upBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	close(b.over)
	if !b.ended {
		_ = b.conn.SetReadDeadline(time.Unix(1, 0)) // wakes a reader; the connection closes anyway
	}
}
