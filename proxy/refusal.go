package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// refusalError is what the client gets in place of an answer: our own refusal, or what is
// passed on of a service's. The official app reads names and messages.
type refusalError struct {
	status        int
	name, message string
	// header is passed on with it.
	header http.Header
	// retryAfter becomes the header of that name.
	retryAfter time.Duration
	// body is that of a service's 400, decoded; nil if it could not be.
	body []byte
	// cause is for the log.
	cause error
}

func (e *refusalError) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.name, e.message, e.cause)
	}
	return e.name + ": " + e.message
}

func (e *refusalError) Unwrap() error { return e.cause }

// Names of errors.
const (
	nameInvalidRequest  = "InvalidRequest"
	nameInvalidToken    = "InvalidToken"
	nameExpiredToken    = "ExpiredToken"
	nameUpstreamFailure = "UpstreamFailure"
	nameUpstreamTimeout = "UpstreamTimeout"
	nameRateLimit       = "RateLimitExceeded"
)

// invalid returns the refusal of a call that cannot be passed on as it is.
func invalid(message string) error {
	return &refusalError{status: http.StatusBadRequest, name: nameInvalidRequest, message: message}
}

// failed returns the refusal of a call whose service failed.
func failed(message string, cause error) *refusalError {
	return &refusalError{status: http.StatusBadGateway, name: nameUpstreamFailure, message: message, cause: cause}
}

// late returns the refusal of a call whose service did not answer in time.
func late(cause error) *refusalError {
	return &refusalError{
		status: http.StatusGatewayTimeout, name: nameUpstreamTimeout, message: messageFailure + ": no answer in time", cause: cause,
	}
}

// broken returns the refusal of a call whose answer broke off before any of it was passed
// on.
func broken(cause error) *refusalError {
	if errors.Is(cause, errAnswerTooLarge) {
		return failed(messageFailure+": the answer is too large", cause)
	}
	return failed(messageUnreachable, cause)
}

// Messages that the official app knows.
const (
	messageUnreachable = "Upstream service unreachable"
	messageFailure     = "Upstream Failure"
)

// maxErrorBody bounds what is read of a service's error, in bytes, and again when it is
// decoded.
const maxErrorBody = 64 << 10

// refusal returns the error that a service answered, as the client gets it. body is as it
// came, nil if it could not be read whole.
func refusal(status int, header http.Header, body []byte) *refusalError {
	out := &refusalError{status: status, header: errorHeaders(header)}
	out.name, out.message = defaultError(status)
	if body != nil {
		body, _ = decoded(header, body, maxErrorBody) // nil where that fails
	}
	if status == http.StatusBadRequest {
		out.body = body
	}
	name, message := readError(header, body)
	if name != "" {
		out.name = name
	}
	if message != "" {
		out.message = message
	}
	switch {
	case status == http.StatusUnauthorized || name == nameExpiredToken:
		// SDKs would refresh their session. But it is our token that was refused.
		out.status = http.StatusBadGateway
		switch name {
		case "", nameExpiredToken, nameInvalidToken, "AccountTakedown", "AuthMissing":
			out.name = nameUpstreamFailure
		}
	case status == http.StatusInternalServerError:
		out.status = http.StatusBadGateway
	}
	return out
}

// defaultError returns the name and the message of a service's error that has none.
func defaultError(status int) (name, message string) {
	switch status {
	case http.StatusForbidden:
		return "Forbidden", "Forbidden"
	case http.StatusNotFound:
		return "XRPCNotSupported", "XRPC Not Supported"
	case http.StatusRequestEntityTooLarge:
		return "PayloadTooLarge", "Payload Too Large"
	case http.StatusUnsupportedMediaType:
		return "UnsupportedMediaType", "Unsupported Media Type"
	case http.StatusTooManyRequests:
		return nameRateLimit, "Rate Limit Exceeded"
	case http.StatusNotImplemented:
		return "MethodNotImplemented", "Method Not Implemented"
	case http.StatusUnauthorized, http.StatusInternalServerError, http.StatusBadGateway:
		return nameUpstreamFailure, messageFailure
	case http.StatusServiceUnavailable:
		return "NotEnoughResources", "Not Enough Resources"
	case http.StatusGatewayTimeout:
		return nameUpstreamTimeout, "Upstream Timeout"
	}
	if status < http.StatusInternalServerError {
		return nameInvalidRequest, "Invalid Request"
	}
	return "InternalServerError", "Internal Server Error"
}

// readError returns the members error and message of a service's answer, "" for one that
// is not there or is not a string.
func readError(header http.Header, body []byte) (name, message string) {
	if media := header.Get("Content-Type"); media != "" && !isJSON(media) {
		return "", ""
	}
	var e struct {
		Error   jsontext.Value `json:"error"`
		Message jsontext.Value `json:"message"`
	}
	if json.Unmarshal(body, &e, jsontext.AllowDuplicateNames(true)) != nil {
		return "", ""
	}
	return text(e.Error), text(e.Message)
}

func text(v jsontext.Value) (out string) {
	if v.Kind() != '"' || json.Unmarshal(v, &out) != nil {
		return ""
	}
	return out
}

// isJSON reports whether a Content-Type is that of JSON.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}

// errDecodedTooLarge: an answer has more bytes than the limit once it is decoded.
var errDecodedTooLarge = errors.New("it is larger than the limit")

// decoded returns a body without its Content-Encoding, up to limit bytes.
func decoded(header http.Header, body []byte, limit int) ([]byte, error) {
	switch encoding := strings.ToLower(strings.TrimSpace(strings.Join(header.Values("Content-Encoding"), ","))); encoding {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		out, err := unzipped(body, limit)
		if err != nil {
			return nil, fmt.Errorf("decode answer: %w", err)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("decode answer: its encoding is %.32q", encoding)
	}
}

// maxUnzipped is how many bytes one byte of gzip can hold.
const maxUnzipped = 1032

// unzippers are readers of gzip, 40 kB each, to be used again.
var unzippers = sync.Pool{New: func() any { return new(gzip.Reader) }}

// unzipped returns what gzip has in it, up to limit bytes.
func unzipped(body []byte, limit int) ([]byte, error) {
	zipped, _ := unzippers.Get().(*gzip.Reader)
	defer unzippers.Put(zipped)
	from := bytes.NewReader(body)
	defer from.Reset(nil) // the pool must not keep the body
	if err := zipped.Reset(from); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	// The last four bytes are the size, in the words of the service.
	if n := int64(binary.LittleEndian.Uint32(body[len(body)-4:])); n <= int64(limit) && n <= maxUnzipped*int64(len(body)) {
		out.Grow(int(n) + bytes.MinRead)
	}
	if _, err := out.ReadFrom(io.LimitReader(zipped, int64(limit)+1)); err != nil {
		return nil, err
	}
	if out.Len() > limit {
		return nil, fmt.Errorf("%w: %d bytes", errDecodedTooLarge, limit)
	}
	return out.Bytes(), nil
}
