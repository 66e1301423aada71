package oauth

import (
	"errors"
	"net/http"

	"nestbox/auth"
	"nestbox/oauth/client"
)

// ServeRevoke answers POST /oauth/revoke (RFC 7009): it ends the whole session of a token, and
// answers the same for one that has ended, is another client's or is none.
func (s *Service) ServeRevoke(w http.ResponseWriter, r *http.Request) { s.serve(s.revoke)(w, r) }

func (s *Service) revoke(w http.ResponseWriter, r *http.Request) (int, any, error) {
	ctx := r.Context()
	p, err := readBody(w, r)
	if err != nil {
		return 0, nil, err
	}
	jkt, err := s.proof(r)
	if err != nil {
		return 0, nil, s.countFailure(ctx, err, codeFailures)
	}
	who, err := s.authenticate(ctx, p, jkt, client.ForSession, func(*client.Client) error { return nil })
	if err != nil {
		return 0, nil, s.countFailure(ctx, err, codeFailures)
	}
	if p["token"] == "" {
		return 0, nil, badRequest("token is missing")
	}
	t, err := s.endingToken(ctx, p["token"])
	if errors.Is(err, auth.ErrOAuthInvalid) {
		return http.StatusOK, struct{}{}, nil
	}
	if err != nil {
		return 0, nil, err
	}
	if err := who.Record(); err != nil {
		return 0, nil, err
	}
	if err := s.Sessions.SignOutGrant(ctx, t, who.Client.ID); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, struct{}{}, nil
}
