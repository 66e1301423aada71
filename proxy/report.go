// Package proxy passes calls of accounts on to other services, with a token that
// the account's key signs. So far that is one call: a report to moderators.
//
// Invariant: what another service answers is bounded in size and time, and only
// JSON goes back to the client.
package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/identity"
	"nestbox/internal/safehttp"
	"nestbox/ratelimit"
)

const createReport = "com.atproto.moderation.createReport"

const (
	// tokenLife is how long the token of a call is valid.
	tokenLife = time.Minute
	// answerTime and maxAnswer bound a service's answer; bytes.
	answerTime = 20 * time.Second
	maxAnswer  = 1 << 20
	// maxReason is the Lexicon's limit of a report's text, in bytes.
	maxReason = 20_000
)

// reports limits the reports of one account: moderators are people.
var reports = []ratelimit.Limit{
	{Name: "reports-5m", Points: 30, Window: 5 * time.Minute},
	{Name: "reports-1d", Points: 500, Window: 24 * time.Hour},
}

// Accounts finds the account that reports.
type Accounts interface {
	ByDID(ctx context.Context, did syntax.DID) (*account.Account, error)
}

// Keys are the accounts' signing keys.
type Keys interface {
	SigningKey(ctx context.Context, accountID int64) (atcrypto.PrivateKey, error)
}

// Resolver finds services that the client names.
type Resolver interface {
	DID(ctx context.Context, did syntax.DID) (*identity.Document, error)
}

// Target is a service to which calls are passed on.
type Target struct {
	// DID is the audience of the token, URL where the service is reached, without a
	// slash at its end.
	DID, URL string
}

// Reports sends reports to the service that the client names in its header
// atproto-proxy, as "did#service", or to the one that the operator chose.
type Reports struct {
	// Default is the operator's choice; empty if there is none.
	Default  Target
	Resolver Resolver
	Accounts Accounts
	Keys     Keys
	HTTP     *http.Client
	// Limits counts reports; nil counts nothing.
	Limits *ratelimit.Limiter
	Now    func() time.Time
	Log    *slog.Logger
}

// errUpstream: the report may have arrived, but the client gets no answer.
var errUpstream = errors.New("the report service gave no answer that can be passed on")

type (
	// targetError: the client or the operator named no service that can be called. It is
	// in the reference's words.
	targetError string
	// refusalError is the error that the service answered.
	refusalError struct {
		status        int
		name, message string
	}
)

func (e targetError) Error() string   { return string(e) }
func (e *refusalError) Error() string { return e.name + ": " + e.message }

// send passes a report of an account on to the service that the header names, and
// returns its answer. Errors: targetError, *refusalError, errUpstream,
// account.ErrNotFound.
func (r *Reports) send(ctx context.Context, did syntax.DID, header string, body []byte) (jsontext.Value, error) {
	to, err := r.target(ctx, header)
	if err != nil {
		return nil, err
	}
	token, err := r.token(ctx, did, to)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	status, answer, err := r.post(ctx, to, token, body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errUpstream, err)
	case status != http.StatusOK:
		return nil, refusal(status, answer)
	case !answer.IsValid():
		return nil, fmt.Errorf("%w: it is not JSON", errUpstream)
	default:
		return answer, nil
	}
}

// target returns the service that a header names, as the reference reads it.
func (r *Reports) target(ctx context.Context, header string) (Target, error) {
	if header == "" {
		if r.Default.URL == "" {
			return Target{}, targetError("No service configured for " + createReport)
		}
		return r.Default, nil
	}
	name, service, _ := strings.Cut(header, "#")
	switch {
	case name == "":
		return Target{}, targetError("no did specified in proxy header")
	case service == "":
		return Target{}, targetError("no service id specified in proxy header")
	case strings.Contains(service, "#"):
		return Target{}, targetError("invalid proxy header format")
	case strings.Contains(header, " "):
		return Target{}, targetError("proxy header cannot contain spaces")
	}
	did, err := syntax.ParseDID(name)
	if err != nil {
		return Target{}, targetError("could not resolve proxy did")
	}
	document, err := r.Resolver.DID(ctx, did)
	switch {
	case errors.Is(err, identity.ErrNotRegistered), errors.Is(err, identity.ErrDeactivated), errors.Is(err, identity.ErrUnsupported):
		return Target{}, targetError("could not resolve proxy did")
	case errors.Is(err, identity.ErrBusy):
		return Target{}, err
	case err != nil:
		return Target{}, fmt.Errorf("%w: %w", errUpstream, err)
	}
	url := document.Service(service)
	if url == "" {
		return Target{}, targetError("could not resolve proxy did service url")
	}
	return Target{DID: name, URL: strings.TrimRight(url, "/")}, nil
}

// token returns a service token that speaks for the account to the service, for
// this call.
func (r *Reports) token(ctx context.Context, did syntax.DID, to Target) (string, error) {
	a, err := r.Accounts.ByDID(ctx, did)
	if err != nil {
		return "", err
	}
	key, err := r.Keys.SigningKey(ctx, a.ID)
	if err != nil {
		return "", err
	}
	now := r.Now()
	return auth.NewServiceToken(key, did, to.DID, createReport, now, now.Add(tokenLife))
}

func (r *Reports) post(ctx context.Context, to Target, token string, body []byte) (status int, answer jsontext.Value, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL+"/xrpc/"+createReport, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("ask report service: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := r.HTTP.Do(req) //nolint:bodyclose // ReadAll closes it
	if err != nil {
		return 0, nil, fmt.Errorf("ask report service: %w", err)
	}
	raw, err := safehttp.ReadAll(resp, maxAnswer)
	return resp.StatusCode, raw, err
}

// refusal returns the error that the service answered, as far as it names one.
func refusal(status int, answer jsontext.Value) error {
	var e struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &e) != nil || e.Error == "" || status < http.StatusBadRequest || status >= http.StatusInternalServerError {
		return fmt.Errorf("%w: its status is %d", errUpstream, status)
	}
	return &refusalError{status, e.Error, e.Message}
}
