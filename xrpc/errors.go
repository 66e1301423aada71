package xrpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"nestbox/request"
)

// Error is what a client gets: a status, a name that programs switch on and a
// message for people. Cause is for the log alone.
type Error struct {
	Status  int
	Name    string
	Message string
	// RetryAfter, when set, becomes the header of that name, in whole seconds.
	RetryAfter time.Duration
	// Challenge, when set, becomes the header WWW-Authenticate.
	Challenge string
	// Cause is logged and never sent.
	Cause error
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Name, e.Message, e.Cause)
	}
	return e.Name + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// Names of the errors that the framework itself, or several domains, answer.
const (
	NameInvalidRequest       = "InvalidRequest"
	NameAuthMissing          = "AuthMissing"
	NameInvalidToken         = "InvalidToken"
	NameExpiredToken         = "ExpiredToken"
	NameAuthRequired         = "AuthenticationRequired"
	NameAccountTakedown      = "AccountTakedown"
	NameForbidden            = "Forbidden"
	NameNotFound             = "NotFound"
	NamePayloadTooLarge      = "PayloadTooLarge"
	NameRateLimitExceeded    = "RateLimitExceeded"
	NameInternal             = "InternalServerError"
	NameUnavailable          = "ServiceUnavailable"
	NameMethodNotImplemented = "MethodNotImplemented"
)

// BadRequest returns a 400 with the given name.
func BadRequest(name, message string) *Error {
	return &Error{Status: http.StatusBadRequest, Name: name, Message: message}
}

// InvalidRequest returns a 400 InvalidRequest.
func InvalidRequest(format string, args ...any) *Error {
	return BadRequest(NameInvalidRequest, fmt.Sprintf(format, args...))
}

// Unauthorized returns a 401 with the given name.
func Unauthorized(name, message string) *Error {
	return &Error{Status: http.StatusUnauthorized, Name: name, Message: message}
}

// PayloadTooLarge returns the 413 for a body over the size limit.
func PayloadTooLarge() *Error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Name: NamePayloadTooLarge, Message: "request entity too large"}
}

// UnreadableBody returns the 400 for a body that could not be read to its end.
func UnreadableBody(cause error) *Error {
	return &Error{Status: http.StatusBadRequest, Name: NameInvalidRequest, Message: "The request body could not be read", Cause: cause}
}

// WrongType returns the 400 for a value of another type than the schema has. It
// names the type that was sent but not the value, which may be part of a password.
func WrongType(want string, got jsontext.Value, path string) *Error {
	return InvalidRequest("Expected %s value type (got %s) at %s", want, kindName(got), path)
}

// Unavailable returns the answer when storage or another dependency fails: a 503
// with Retry-After. Clients keep their session on a 503, whereas some drop it on a
// 400 or 401. If cause is a limit that was reached, the answer is a 429; if it is
// request.ErrHeld, it has that message.
func Unavailable(cause error) *Error {
	if many, ok := errors.AsType[request.ErrTooMany](cause); ok {
		return TooManyRequests(many.Wait)
	}
	e := &Error{
		Status:     http.StatusServiceUnavailable,
		Name:       NameUnavailable,
		Message:    "The service cannot answer right now, please try again",
		RetryAfter: 2 * time.Second,
		Cause:      cause,
	}
	if held, ok := errors.AsType[request.ErrHeld](cause); ok {
		e.Message, e.RetryAfter = held.Message, heldFor
	}
	return e
}

// heldFor is when clients may try again what the operator has to allow first.
const heldFor = time.Minute

// TooManyRequests returns the 429 of a rate limit.
func TooManyRequests(retryAfter time.Duration) *Error {
	return &Error{
		Status:     http.StatusTooManyRequests,
		Name:       NameRateLimitExceeded,
		Message:    "Rate Limit Exceeded",
		RetryAfter: retryAfter,
	}
}

// statusClientGone is the status in the log of a request whose client left.
const statusClientGone = 499

// AsError returns what the client gets for an error that a handler returned. If the
// client has left, that is most likely what caused a failure: the database, for one,
// stops working on a canceled request.
func AsError(ctx context.Context, err error) *Error {
	e, ok := errors.AsType[*Error](err)
	if many, full := errors.AsType[request.ErrTooMany](err); full && !ok {
		return TooManyRequests(many.Wait)
	}
	_, isPanic := errors.AsType[*request.Panic](err)
	switch {
	case ok && e.Status < http.StatusInternalServerError:
		return e
	case ctx.Err() != nil && !isPanic:
		return &Error{Status: statusClientGone, Name: "ClientGone", Message: "Client closed the request", Cause: err}
	case ok:
		return e
	default:
		return &Error{Status: http.StatusInternalServerError, Name: NameInternal, Message: "Internal Server Error", Cause: err}
	}
}
