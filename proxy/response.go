package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"nestbox/request"
)

// Headers of a service's answer that the client gets, besides the body's own.
const (
	headerRev      = "Atproto-Repo-Rev"
	headerLabelers = "Atproto-Content-Labelers"
	headerLag      = "Atproto-Upstream-Lag"
	headerRetry    = "Retry-After"
)

// errorHeaders returns the headers that are passed on with an error.
func errorHeaders(from http.Header) http.Header {
	to := http.Header{}
	copyHeaders(to, from, headerRev, headerLabelers, headerRetry)
	return to
}

func copyHeaders(to, from http.Header, names ...string) {
	for _, name := range names {
		if v, ok := from[name]; ok {
			to[name] = v
		}
	}
}

// refused returns the error that the client gets in place of an answer that is none of
// success, nil if it is one. It reads the body of an error.
func (a *answer) refused() error {
	switch {
	case a.StatusCode < http.StatusOK:
		return failed(fmt.Sprintf("%s: status %d", messageFailure, a.StatusCode), nil)
	case a.StatusCode < http.StatusMultipleChoices:
		if a.ContentLength > a.body.left && a.call.method != http.MethodHead {
			return failed(messageFailure+": the answer is too large", fmt.Errorf("%w: %d bytes", errAnswerTooLarge, a.ContentLength))
		}
		return nil
	case a.StatusCode < http.StatusBadRequest:
		return failed(messageFailure+": redirected", fmt.Errorf("status %d", a.StatusCode))
	case a.StatusCode > 599: // not HTTP
		return failed(fmt.Sprintf("%s: status %d", messageFailure, a.StatusCode), nil)
	}
	body, err := io.ReadAll(io.LimitReader(&a.body, maxErrorBody+1))
	switch {
	case err != nil && !errors.Is(err, errAnswerTooLarge):
		return failed(messageUnreachable, err)
	case err != nil || len(body) > maxErrorBody:
		body = nil
	}
	e := refusal(a.StatusCode, a.Header, body)
	e.cause = fmt.Errorf("%s answered %d %s", a.call.to, a.StatusCode, clip(e.name))
	if e.status == http.StatusBadGateway && a.StatusCode == http.StatusUnauthorized {
		e.cause = fmt.Errorf("%w: it refused our token: %s", e.cause, why(e.name))
	}
	return e
}

// why explains to the operator why a service refused a token.
func why(name string) string {
	switch name {
	case "JwtExpired":
		return "check the clock of this machine"
	case "BadJwtSignature":
		return "after a change of the signing key, or a move to this server, services know the old key for up to an hour"
	case "BadJwtAudience":
		return "the configured DID is not the service's"
	default:
		return "no reason that is known"
	}
}

// commonHeaders sets what every answer that is passed on has. Foreign bytes must not
// become a page of this server's origin.
func commonHeaders(h http.Header) {
	h["Cache-Control"] = []string{"private"}
	h["Vary"] = []string{"Authorization, Accept-Encoding, Atproto-Proxy, Atproto-Accept-Labelers"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Content-Security-Policy"] = []string{"default-src 'none'; sandbox"}
}

// buffers are for bodies on their way.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// errBroken: an answer broke off after its beginning was passed on.
var errBroken = errors.New("the answer broke off")

// pass passes an answer of success on. begun is what was read of its body.
func (a *answer) pass(w http.ResponseWriter, begun []byte) error {
	h := w.Header()
	copyHeaders(h, a.Header, "Content-Type", "Content-Encoding", "Content-Language", headerRev, headerLabelers, headerRetry)
	if h.Get("Content-Type") == "" {
		h["Content-Type"] = nil // not guessed
	}
	length := a.ContentLength
	hasBody := a.call.method != http.MethodHead && a.StatusCode != http.StatusNoContent
	if length > 0 || length == 0 && hasBody {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	if !hasBody {
		w.WriteHeader(a.StatusCode)
		return nil
	}
	return a.copyBody(w, begun, length)
}

// copyBody passes the body on. The answer begins once there is something of it.
func (a *answer) copyBody(w http.ResponseWriter, begun []byte, length int64) (err error) {
	buffer, _ := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	conn := http.NewResponseController(w)
	sent := false
	if len(begun) > 0 {
		sent = true
		w.WriteHeader(a.StatusCode)
		if _, err := w.Write(begun); err != nil { //nolint:gosec // never a page: see commonHeaders
			return fmt.Errorf("%w: the client does not read: %w", errBroken, err)
		}
	}
	for {
		n, err := a.body.Read(buffer[:])
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended && !sent {
			return a.unsent(w, err)
		}
		if !sent {
			sent = true
			w.WriteHeader(a.StatusCode)
		}
		if n > 0 && !errors.Is(err, errAnswerTooLarge) {
			if _, err := w.Write(buffer[:n]); err != nil {
				return fmt.Errorf("%w: the client does not read: %w", errBroken, err)
			}
		}
		switch {
		case ended:
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", errBroken, err)
		case a.body.read != length:
			_ = conn.Flush() // what came does not wait for the rest; if that fails, so does the next write
		}
	}
}

// unsent returns the error for an answer that failed before any of it was passed on.
func (*answer) unsent(w http.ResponseWriter, cause error) error {
	h := w.Header()
	for _, name := range []string{
		"Content-Type", "Content-Encoding", "Content-Language", "Content-Length", headerRev, headerLabelers, headerRetry,
	} {
		delete(h, name)
	}
	return broken(cause)
}

// note writes what is known at the end of a call into the log line.
func (a *answer) note(r *http.Request) {
	request.Note(r.Context(), slog.Int64("bytes", a.body.read), slog.Duration("upstream_all", time.Since(a.began)))
}
