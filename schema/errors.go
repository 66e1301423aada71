package schema

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// ErrBusy: the network was not asked, since too many questions are on their way or the
// client's network has caused too many. It passes.
var ErrBusy = errors.New("too many Lexicons are being looked up")

// UnresolvedError: a Lexicon cannot be had, and none is known from before.
type UnresolvedError struct {
	NSID syntax.NSID
	// Why is the first step that failed, and how.
	Why string
}

// Error is printable ASCII without quotes and backslashes, as RFC 6749 §5.2 demands of
// descriptions.
func (e *UnresolvedError) Error() string {
	return plain(fmt.Sprintf("Could not resolve Lexicon for NSID (%s): %s", e.NSID, e.Why))
}

// maxFailure bounds what is said and kept of a failure, in bytes.
const maxFailure = 400

// plain makes a text fit for an error's description.
func plain(text string) string {
	if len(text) > maxFailure {
		text = text[:maxFailure]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < ' ' || r > '~' || r == '\\':
			return '?'
		}
		return r
	}, text)
}

// stepError is a step to a Lexicon that failed because of a network or a store. What it
// says is for the asker, who may be anybody: it reveals nothing of this server. cause is
// for the log.
type stepError struct {
	said  string
	cause error
}

func fail(cause error, format string, args ...any) error {
	return &stepError{fmt.Sprintf(format, args...), cause}
}

func (e *stepError) Error() string { return e.said + ": " + e.cause.Error() }
func (e *stepError) Unwrap() error { return e.cause }

// said returns what the asker reads of an error of find.
func said(err error) string {
	if e, ok := errors.AsType[*stepError](err); ok {
		return e.said
	}
	return err.Error()
}
