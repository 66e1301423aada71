package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"nestbox/oauth/client"
	"nestbox/oauth/dpop"
	"nestbox/oauth/scope"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/schema"
)

// The codes of Error (RFC 6749 sections 4.1.2.1 and 5.2, OpenID Connect Core section
// 3.1.2.6), besides those of packages client and dpop.
const (
	codeInvalidRequest      = "invalid_request"
	codeInvalidGrant        = "invalid_grant"
	codeInvalidScope        = "invalid_scope"
	codeUnauthorizedClient  = "unauthorized_client"
	codeUnsupportedGrant    = "unsupported_grant_type"
	codeUnsupportedResponse = "unsupported_response_type"
	codeUnavailable         = "temporarily_unavailable"

	codeAccessDenied        = "access_denied"
	codeServerError         = "server_error"
	codeLoginRequired       = "login_required"
	codeConsentRequired     = "consent_required"
	codeSelectionRequired   = "account_selection_required"
	codeInteractionRequired = "interaction_required"
)

// Error is an answer of the authorization server that refuses.
type Error struct {
	Status int
	Code   string
	// Description is for the developer of the client: printable ASCII without " and \.
	Description string
	// RetryAfter is when to ask again; 0 for nothing.
	RetryAfter time.Duration
}

// ErrMethod is the answer of an endpoint that another method is for.
var ErrMethod = &Error{Status: http.StatusMethodNotAllowed, Code: codeInvalidRequest, Description: "The method must be POST"}

func (e *Error) Error() string { return e.Code + ": " + e.Description }

// refuse makes an Error of status 400.
func refuse(code, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: code, Description: client.Printable(fmt.Sprintf(format, args...))}
}

func badRequest(format string, args ...any) *Error {
	return refuse(codeInvalidRequest, format, args...)
}

func badGrant(description string) *Error { return refuse(codeInvalidGrant, "%s", description) }

// retryAfter is how long clients should wait when something of ours fails.
const retryAfter = 5 * time.Second

// answerOf returns the answer to an error. One that it does not know is a fault of ours, or of a
// host that we asked: 503, on which clients keep their session.
func (s *Service) answerOf(ctx context.Context, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return refuse(e.Code, "%s", e.Message)
	}
	if e, ok := errors.AsType[*dpop.Error](err); ok {
		return refuse(e.Code, "%s", e.Message)
	}
	if e, ok := errors.AsType[*schema.UnresolvedError](err); ok {
		return refuse(codeInvalidScope, "%s", e.Error())
	}
	if e, ok := errors.AsType[request.ErrTooMany](err); ok {
		return &Error{http.StatusTooManyRequests, codeUnavailable, "Too many requests", e.Wait}
	}
	switch {
	case errors.Is(err, scope.ErrLimit):
		return refuse(codeInvalidScope, "%s", err.Error())
	case errors.Is(err, client.ErrUnavailable):
		return &Error{http.StatusServiceUnavailable, codeUnavailable, client.Printable(err.Error()), client.RetryAfter}
	case errors.Is(err, schema.ErrBusy):
		return &Error{http.StatusServiceUnavailable, codeUnavailable, client.Printable(err.Error()), retryAfter}
	}
	request.Fail(ctx, http.StatusServiceUnavailable, codeUnavailable, err)
	return &Error{http.StatusServiceUnavailable, codeUnavailable, "The server cannot answer now", retryAfter}
}

// Limits of the endpoints.
var (
	pushesPerNetwork = ratelimit.Limit{Name: "oauth-pushes", Points: 100, Window: 5 * time.Minute}
	pushesPerClient  = ratelimit.Limit{Name: "oauth-pushes-client", Points: 1000, Window: 5 * time.Minute}
	codeFailures     = ratelimit.Limit{Name: "oauth-code-failures", Points: 60, Window: 5 * time.Minute}
	refreshFailures  = ratelimit.Limit{Name: "oauth-refresh-failures", Points: 60, Window: 5 * time.Minute}
	refreshes        = ratelimit.Limit{Name: "oauth-refreshes", Points: 120, Window: 5 * time.Minute}
)

// countFailure counts a refusal against its network, and returns what is answered: the refusal,
// or that there were too many. A request that is right is never kept out by those that
// are not, and one that lacks a nonce is none.
func (s *Service) countFailure(ctx context.Context, err error, limit ratelimit.Limit) error {
	refused := s.answerOf(ctx, err)
	if refused.Status != http.StatusBadRequest || refused.Code == dpop.CodeUseNonce {
		return refused
	}
	if err := request.ChargeNetwork(ctx, s.Limits, 1, limit); err != nil {
		return err
	}
	return refused
}
