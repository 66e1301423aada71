package oauth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"nestbox/account"
	"nestbox/oauth/client"
	"nestbox/request"
	"nestbox/session"
)

// tokens is the answer of the token endpoint (RFC 6749 section 5.1), with the DID of the
// account.
type tokens struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitzero"`
	Scope        string `json:"scope"`
	Sub          string `json:"sub"`
}

// The grant types.
const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
)

// ServeToken answers POST /oauth/token.
func (s *Service) ServeToken(w http.ResponseWriter, r *http.Request) { s.serve(s.token)(w, r) }

// token is both grants, in this order: the body, the proof and its nonce, the client's
// document, the client itself, the grant; then the assertion is used up, and one transaction
// follows. Nothing is consumed before that.
func (s *Service) token(w http.ResponseWriter, r *http.Request) (int, any, error) {
	ctx := r.Context()
	p, err := readBody(w, r)
	if err != nil {
		return 0, nil, err
	}
	limit := codeFailures
	if p["grant_type"] == grantRefresh {
		limit = refreshFailures
	}
	jkt, err := s.requireProof(r)
	if err != nil {
		return 0, nil, s.countFailure(ctx, err, limit)
	}
	var answer tokens
	switch p["grant_type"] {
	case grantCode:
		answer, err = s.redeem(ctx, p, jkt)
	case grantRefresh:
		answer, err = s.refresh(ctx, p, jkt)
	case "":
		err = badRequest("grant_type is missing")
	default:
		err = refuse(codeUnsupportedGrant, "grant_type must be authorization_code or refresh_token")
	}
	if err != nil {
		return 0, nil, s.countFailure(ctx, err, limit)
	}
	return http.StatusOK, answer, nil
}

// answer returns what a client gets for its session's newest pair.
func answer(signed session.SignedGrant, c *client.Client) tokens {
	t := tokens{
		AccessToken: signed.Access, TokenType: "DPoP", ExpiresIn: int64(signed.AccessTTL / time.Second),
		Scope: signed.State.Grant.Effective, Sub: signed.Account.DID.String(),
	}
	if c.Refreshes {
		t.RefreshToken = signed.Refresh
	}
	return t
}

// redeem exchanges a code.
func (s *Service) redeem(ctx context.Context, p parameters, jkt string) (tokens, error) {
	who, err := s.authenticate(ctx, p, jkt, client.ForRequest, func(*client.Client) error { return nil })
	if err != nil {
		return tokens{}, err
	}
	x := exchange{code: p["code"], redirect: p["redirect_uri"], verifier: p["code_verifier"], holder: who.Holder}
	id, ok := idOf(x.code)
	if !ok {
		return tokens{}, badGrant("Invalid code")
	}
	q, err := s.Store.Request(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return tokens{}, badGrant("Invalid code")
	}
	if err != nil {
		return tokens{}, err
	}
	if err := s.check(q, x, s.now()); err != nil {
		return tokens{}, s.replayed(ctx, q, x, err)
	}
	a, err := s.Accounts.ByDID(ctx, q.DID)
	if errors.Is(err, account.ErrNotFound) || err == nil && a.Status() == account.TakenDown {
		return tokens{}, badGrant("The account is not available")
	}
	if err != nil {
		return tokens{}, err
	}
	authorization, err := s.authorization(ctx, a, q, who)
	if err != nil {
		return tokens{}, err
	}
	if err := who.Record(); err != nil {
		return tokens{}, err
	}
	st, err := s.openSession(ctx, id, x, authorization, remembers(who.Client))
	if err != nil {
		return tokens{}, s.replayed(ctx, q, x, err)
	}
	request.SetAccount(ctx, a.DID.String())
	request.Event(ctx, request.EventSessionCreated, a.DID.String(), request.Source(request.SourceOAuth), request.ForClient(q.ClientID))
	signed, err := s.Sessions.MintGrant(a, st)
	return answer(signed, who.Client), err
}

// authorization returns what an allowed request becomes.
func (s *Service) authorization(
	ctx context.Context, a *account.Account, q *Request, who authenticated,
) (session.Authorization, error) {
	effective, sets, err := s.expandNew(ctx, q.Granted)
	if err != nil {
		if e := s.answerOf(ctx, err); e.Status == http.StatusBadRequest { // it was found when the request was pushed
			err = &Error{http.StatusServiceUnavailable, codeUnavailable, e.Description, retryAfter}
		}
		return session.Authorization{}, err
	}
	ttl := s.Sessions.OAuth.TTL
	if !who.Client.Confidential() && !who.Client.Trusted {
		ttl = s.Sessions.OAuth.PublicTTL
	}
	return session.Authorization{
		Account: a, Epoch: q.Epoch,
		Grant: session.Grant{
			Holder: who.Holder, Requested: q.Parameters.Scope, Granted: q.Granted, Effective: effective, Sets: sets,
			EndsAt: q.DecidedAt.Add(ttl), DeviceID: q.DeviceID,
		},
		Entry: account.Entry{
			At: s.now(), Kind: account.EntryAppAuthorized, By: account.ActorOwner, Reason: q.ClientID, Network: q.Network, UserAgent: q.UserAgent,
		},
	}, nil
}

// openSession redeems a request: one transaction.
func (s *Service) openSession(
	ctx context.Context, id string, x exchange, a session.Authorization, remember bool,
) (*session.State, error) {
	n, err := s.Sessions.PrepareGrant(ctx, a)
	if err != nil {
		return nil, err
	}
	st, err := s.Store.Redeem(ctx, id, func(q Request, before *Consent) (Redemption, error) {
		if err := s.check(&q, x, n.At); err != nil {
			return Redemption{}, err
		}
		r := Redemption{At: n.At, Session: n, Challenge: challengeHash(q.Parameters.Challenge)}
		if remember {
			r.Consent = before.remembered(&q, n.At)
		}
		return r, nil
	})
	if err != nil {
		s.Sessions.DropGrant(a, n)
	}
	switch {
	case errors.Is(err, ErrUnknown):
		return nil, badGrant("Invalid code")
	case errors.Is(err, ErrChallengeUsed):
		return nil, badGrant("code_challenge was used before")
	case errors.Is(err, session.ErrUnknown):
		return nil, badGrant("The account has changed since this was allowed")
	case err != nil:
		return nil, err
	}
	request.SetMark(ctx, request.SessionCreated)
	return st, nil
}

// replayed returns what a client is answered to an error of an exchange. A code that is
// redeemed again, with everything right, by another key or late, ends the session that came of
// it: somebody else has seen it.
func (s *Service) replayed(ctx context.Context, q *Request, x exchange, err error) error {
	if !errors.Is(err, errReplayed) {
		return err
	}
	if q.RedeemedAt.IsZero() { // another request was faster
		if q, err = s.Store.Request(ctx, q.ID); err != nil {
			return err
		}
	}
	refused := badGrant("Invalid code")
	a, err := s.Accounts.ByDID(ctx, q.DID)
	if errors.Is(err, account.ErrNotFound) {
		return refused
	}
	if err != nil {
		return err
	}
	st, err := s.Sessions.Store.Load(ctx, q.SessionID)
	if errors.Is(err, session.ErrUnknown) || err == nil && st.Grant == nil {
		return refused
	}
	if err != nil {
		return err
	}
	if st.Grant.DPoPJKT == x.holder.DPoPJKT && s.now().Sub(q.RedeemedAt) < replayForgiven {
		return refused
	}
	if err := s.Sessions.Replayed(ctx, a, q.SessionID, q.ClientID); err != nil {
		return err
	}
	return refused
}

// remembers reports whether what people allow a client is remembered: it can prove who it
// is.
func remembers(c *client.Client) bool {
	return !c.Loopback && (c.Confidential() || c.Trusted)
}
