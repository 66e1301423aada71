package client

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The codes of Error.
const (
	CodeInvalidID          = "invalid_client_id"
	CodeInvalidMetadata    = "invalid_client_metadata"
	CodeInvalidRedirectURI = "invalid_redirect_uri"
	CodeInvalidClient      = "invalid_client"
	CodeInvalidRequest     = "invalid_request"
)

// Error is a client that is refused, with status 400.
type Error struct {
	// Code is OAuth's.
	Code string
	// Message is for the developer of the client: printable ASCII without " and \.
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// refuse makes an Error whose message can be sent, whatever a stranger's text in it holds.
func refuse(code, format string, args ...any) *Error {
	return &Error{code, Printable(fmt.Sprintf(format, args...))}
}

// maxMessage bounds a message, in bytes.
const maxMessage = 1000

// Printable makes text fit into error_description (RFC 6749 section 5.2), and bounds it.
func Printable(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '"', r == '\\':
			return '\''
		case r < ' ', r > '~':
			return '?'
		default:
			return r
		}
	}, text)
	if len(text) > maxMessage {
		text = text[:maxMessage-3] + "..."
	}
	return text
}

// ErrUnavailable: the client's host did not answer, or this server fetches too much
// already, and nothing that is known is young enough. The client may try again after
// RetryAfter.
var ErrUnavailable = errors.New("client metadata cannot be fetched")

// RetryAfter is when it is worth asking again after ErrUnavailable.
const RetryAfter = failureLife + time.Second

// ErrNotFound: nothing is kept of the client.
var ErrNotFound = errors.New("client is not known")
