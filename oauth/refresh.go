package oauth

import (
	"context"
	"errors"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/oauth/client"
	"nestbox/request"
	"nestbox/session"
)

// refresh gives the holder of a refresh token the session's newest pair.
func (s *Service) refresh(ctx context.Context, p parameters, jkt string) (tokens, error) {
	who, err := s.authenticate(ctx, p, jkt, client.ForSession, func(c *client.Client) error {
		if !c.Refreshes {
			return refuse(codeUnauthorizedClient, "grant_types of the client metadata lacks refresh_token")
		}
		return nil
	})
	if err != nil {
		return tokens{}, s.noteMissingKey(ctx, p, err)
	}
	if p["refresh_token"] == "" {
		return tokens{}, badRequest("refresh_token is missing")
	}
	t, err := s.refreshToken(ctx, p["refresh_token"])
	if err != nil {
		return tokens{}, refusedRefresh(err)
	}
	a, st, err := s.Sessions.FindGrant(ctx, t)
	if err != nil {
		return tokens{}, refusedRefresh(err)
	}
	request.SetAccount(ctx, a.DID.String())
	if who.Is(st.Grant.ClientJKT) { // by any of its thumbprints
		who.Holder.ClientJKT = st.Grant.ClientJKT
	}
	if who.Holder == st.Grant.Holder { // a client with a useless copy uses up nothing of the owner's
		if err := request.Charge(ctx, s.Limits, t.SID, 1, refreshes); err != nil {
			return tokens{}, err
		}
	}
	shown := session.Presented{Token: t, Holder: who.Holder, Granted: st.Grant.Granted}
	if shown.Effective, shown.Sets, err = s.expandGranted(ctx, st.Grant); err != nil {
		return tokens{}, err
	}
	if err := s.Sessions.CheckGrant(ctx, a, st, shown); err != nil {
		return tokens{}, refusedRefresh(err)
	}
	if err := who.Record(); err != nil {
		return tokens{}, err
	}
	signed, err := s.Sessions.RefreshGrant(ctx, a, shown)
	if err != nil {
		return tokens{}, refusedRefresh(err)
	}
	request.Event(ctx, request.EventSessionRefreshed, a.DID.String(), request.Source(request.SourceOAuth), request.ForClient(who.Client.ID))
	return answer(signed, who.Client), nil
}

// refusedRefresh words why a refresh was refused. Any other error is a dependency that
// failed.
func refusedRefresh(err error) error {
	switch {
	case errors.Is(err, auth.ErrOAuthExpired), errors.Is(err, session.ErrEnded):
		return badGrant("Session has expired")
	case errors.Is(err, auth.ErrOAuthInvalid), errors.Is(err, session.ErrMismatch):
		return badGrant("Invalid refresh token")
	case errors.Is(err, session.ErrUnknown), errors.Is(err, account.ErrTakenDown):
		return badGrant("Session has ended")
	case errors.Is(err, session.ErrReused):
		return badGrant("Refresh token was superseded")
	case errors.Is(err, session.ErrTheft):
		return badGrant("Refresh token does not match the client or its key")
	default:
		return err
	}
}

// noteMissingKey notes that the key which a session is bound to is not in its client's set any
// more, if that is why the client could not prove itself. It returns err.
func (s *Service) noteMissingKey(ctx context.Context, p parameters, err error) error {
	if e, ok := client.IsRefusal(err); !ok || e.Code != client.CodeInvalidClient {
		return err
	}
	t, verifyErr := s.refreshToken(ctx, p["refresh_token"])
	if verifyErr != nil || t.ClientID != p["client_id"] {
		return err
	}
	_, st, findErr := s.Sessions.FindGrant(ctx, t)
	c, loadErr := s.Clients.Load(ctx, t.ClientID, client.ForSession)
	if findErr != nil || loadErr != nil || st.Grant.ClientJKT == "" || c.HasKey(st.Grant.ClientJKT) {
		return err
	}
	if _, noteErr := s.Clients.KeyMissing(ctx, c, st.Grant.ClientJKT); noteErr != nil {
		return noteErr
	}
	return err
}
