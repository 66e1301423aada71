package oauth

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/internal/pause"
	"nestbox/internal/seal"
	"nestbox/oauth/client"
	"nestbox/oauth/dpop"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/schema"
	"nestbox/session"
	"nestbox/signin"
)

// Settings of a Service.
type Settings struct {
	// Issuer is the origin: the server's own URL, without a slash at the end.
	Issuer string
	// Audience is the server's DID.
	Audience string
	// SignUp means that people can make accounts on the page.
	SignUp bool
	// Locales are the languages of the pages.
	Locales []string
	// PolicyURL and TermsURL are the operator's; empty for none.
	PolicyURL string
	TermsURL  string
	// Inherited: grants live that were taken over from another server, whose clients' DPoP keys
	// are of any algorithm. A library gives up a session if its key's is not announced.
	Inherited bool
}

// Service is the authorization server. Its fields are set once.
type Service struct {
	Settings

	Store    Store
	Sessions *session.Service
	Accounts account.Store
	Factors  signin.Store
	Keyring  *auth.Keyring
	Clients  *client.Service
	Schemas  *schema.Service
	DPoP     *dpop.Checker
	// CodeKey makes codes, Box seals what a page keeps between its steps.
	CodeKey []byte
	Box     *seal.Box
	// Limits counts requests; nil counts nothing.
	Limits *ratelimit.Limiter
	Now    func() time.Time
	// Doubt returns an error while Now cannot be trusted: then nothing is collected. If it is
	// nil, Now is always trusted.
	Doubt func() error
	Log   *slog.Logger
}

// now returns the time in the precision that is stored.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

// Endpoint is a handler of the authorization server that clients call.
type endpoint func(w http.ResponseWriter, r *http.Request) (status int, answer any, err error)

// serve returns the HTTP handler of an endpoint. The nonce is on every answer.
func (s *Service) serve(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, answer, err := e(w, r)
		if err != nil {
			s.Refuse(w, r, err)
			return
		}
		s.write(w, status, answer)
	}
}

// Refuse answers a request with an error.
func (s *Service) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := s.answerOf(r.Context(), err)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", request.ErrTooMany{Wait: e.RetryAfter}.RetryAfter())
	}
	s.write(w, e.Status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{e.Code, e.Description})
}

// write writes an answer. It ignores a write error: that means the client has left.
func (s *Service) write(w http.ResponseWriter, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil { // structs of valid strings always encode
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error","error_description":"Internal error"}`)
	}
	h := w.Header()
	h.Set("DPoP-Nonce", s.DPoP.Nonce())
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// proof checks the request's proof; a request without one has no key.
func (s *Service) proof(r *http.Request) (jkt string, err error) {
	if len(r.Header.Values("DPoP")) == 0 {
		return "", nil
	}
	return s.requireProof(r)
}

func (s *Service) requireProof(r *http.Request) (jkt string, err error) {
	return s.DPoP.Check(dpop.Request{Headers: r.Header.Values("DPoP"), Method: r.Method, Path: r.URL.EscapedPath()})
}

// authenticated is a client that has proven itself, but for the last step: Proof.Record.
type authenticated struct {
	client.Proof

	// Holder is the client as sessions are bound to it.
	Holder session.Holder
}

// authenticate proves the client of a request. check is that of the client's document: it returns
// an error if the document does not allow the request.
func (s *Service) authenticate(
	ctx context.Context, p parameters, jkt string, why client.Purpose, check func(*client.Client) error,
) (authenticated, error) {
	id := p["client_id"]
	if id == "" {
		return authenticated{}, badRequest("client_id is missing")
	}
	c, err := s.Clients.With(ctx, id, why, check)
	if err != nil {
		return authenticated{}, err
	}
	proof, err := s.Clients.Authenticate(ctx, c, client.Assertion{
		Type: p["client_assertion_type"], JWT: p["client_assertion"], ProofKey: jkt, For: why,
	})
	if err != nil {
		return authenticated{}, err
	}
	return authenticated{proof, session.Holder{
		ClientID: id, AuthMethod: string(proof.Client.Method), KID: proof.KeyID, Alg: proof.Alg, ClientJKT: proof.Thumbprint, DPoPJKT: jkt,
	}}, nil
}

// SweepKeys ends the sessions of keys that their clients have taken out of their sets for good.
func (s *Service) SweepKeys(ctx context.Context) error {
	return s.Clients.RemovedKeys(ctx, func(k client.RemovedKey) error { return s.Sessions.EndKey(ctx, k.ClientID, k.Thumbprint) })
}

// Clean-up.
const (
	collectEvery = time.Hour
	collectPause = 50 * time.Millisecond
)

// Collect removes old requests and consents, and ends the sessions of clients' keys that are
// gone, hourly and in small steps, until ctx ends.
func (s *Service) Collect(ctx context.Context) {
	for pause.For(ctx, collectEvery) {
		if s.Doubt != nil && s.Doubt() != nil {
			continue
		}
		for {
			now := s.now()
			n, err := s.Store.Collect(ctx, now.Add(-requestKept), now.Add(-consentLife))
			if err != nil && ctx.Err() == nil {
				s.Log.LogAttrs(ctx, slog.LevelError, "collecting authorization requests failed", slog.String("cause", err.Error()))
			}
			if err != nil || n == 0 || !pause.For(ctx, collectPause) {
				break
			}
		}
		err := s.SweepKeys(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, slog.LevelError, "ending sessions of removed keys failed", slog.String("cause", err.Error()))
		}
	}
}
