package session

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/oauth/scope"
	"nestbox/request"
	"nestbox/signin"
	"nestbox/xrpc"
)

// CreateSessionOutput is the answer of createSession and refreshSession.
type CreateSessionOutput struct {
	AccessJwt  string `json:"accessJwt"`
	RefreshJwt string `json:"refreshJwt"`
	GetSessionOutput
}

// GetSessionOutput is the answer of getSession: the account as its session's clients
// see it. Every field is always sent: two SDKs make an extra call if emailConfirmed or
// didDoc is missing. Except the didDoc of an account hosted elsewhere, which would
// send clients there, and the three fields about e-mail for OAuth clients whose scope
// does not show it.
type GetSessionOutput struct {
	Handle          syntax.Handle  `json:"handle"`
	DID             syntax.DID     `json:"did"`
	DIDDoc          jsontext.Value `json:"didDoc,omitzero"`
	Email           string         `json:"email,omitzero"`
	EmailConfirmed  *bool          `json:"emailConfirmed,omitzero"`
	EmailAuthFactor *bool          `json:"emailAuthFactor,omitzero"`
	Active          bool           `json:"active"`
	Status          account.Status `json:"status,omitzero"`
}

// CreateSessionInput is the input of createSession.
type CreateSessionInput struct {
	Identifier      string `json:"identifier"`
	Password        string `json:"password"`
	AuthFactorToken string `json:"authFactorToken,omitzero"`
	AllowTakenDown  bool   `json:"allowTakendown,omitzero"`
}

func (s *Service) info(a *account.Account) GetSessionOutput {
	status := a.Status()
	confirmed, factor := !a.EmailConfirmedAt.IsZero(), a.EmailFactor
	return GetSessionOutput{
		Handle: a.ShownHandle(), DID: a.DID, DIDDoc: s.Document(a), Email: a.ShownEmail(), EmailConfirmed: &confirmed,
		EmailAuthFactor: &factor, Active: status == account.Active, Status: status,
	}
}

// Output returns the answer for the holder of a new pair.
func (s *Service) Output(signed Signed) CreateSessionOutput {
	return CreateSessionOutput{AccessJwt: signed.Access, RefreshJwt: signed.Refresh, GetSessionOutput: s.info(signed.Account)}
}

// CreateSession is com.atproto.server.createSession.
func (s *Service) CreateSession(ctx context.Context, _ auth.Anyone, in CreateSessionInput) (CreateSessionOutput, error) {
	signed, err := s.SignIn(ctx, signin.Attempt{
		Identifier: in.Identifier, Password: in.Password, Code: in.AuthFactorToken, AllowTakenDown: in.AllowTakenDown,
	})
	if err != nil {
		return CreateSessionOutput{}, wireError(err)
	}
	request.SetAccount(ctx, signed.Account.DID.String())
	request.Event(ctx, request.EventSessionCreated, signed.Account.DID.String(), request.Source(request.SourceCreateSession))
	return s.Output(signed), nil
}

// RefreshSession is com.atproto.server.refreshSession.
func (s *Service) RefreshSession(ctx context.Context, caller auth.RefreshCaller, _ xrpc.None) (CreateSessionOutput, error) {
	signed, err := s.Refresh(ctx, caller.Token)
	if err != nil {
		return CreateSessionOutput{}, wireError(err)
	}
	request.Event(ctx, request.EventSessionRefreshed, signed.Account.DID.String(), request.Source(request.SourceRefreshSession))
	return s.Output(signed), nil
}

// GetSession is com.atproto.server.getSession.
func (s *Service) GetSession(ctx context.Context, caller auth.StandardCaller, _ xrpc.None) (GetSessionOutput, error) {
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if errors.Is(err, account.ErrNotFound) {
		return GetSessionOutput{}, auth.Expired() // deleted since the caller was proven
	}
	if err != nil {
		return GetSessionOutput{}, wireError(err)
	}
	info := s.info(a)
	if !caller.Allows(scope.NeedAccount(scope.Email, false)) {
		info.Email, info.EmailConfirmed, info.EmailAuthFactor = "", nil, nil
	}
	return info, nil
}

// DeleteSession is com.atproto.server.deleteSession.
func (s *Service) DeleteSession(ctx context.Context, caller auth.EndingCaller, _ xrpc.None) (xrpc.None, error) {
	if err := s.SignOut(ctx, caller.Token); err != nil {
		return xrpc.None{}, wireError(err)
	}
	return xrpc.None{}, nil
}

// wireError returns the package's errors as the session contract words them. Any
// other error is a dependency that failed: a 503, on which clients keep their
// session.
func wireError(err error) error {
	if paused, ok := errors.AsType[*signin.Paused](err); ok {
		return paused.ErrTooMany
	}
	if needed, ok := errors.AsType[*signin.FactorNeeded](err); ok {
		return xrpc.Unauthorized("AuthFactorTokenRequired", factorNeeded(needed))
	}
	switch {
	case errors.Is(err, ErrUnknown), errors.Is(err, ErrReused):
		return xrpc.BadRequest(xrpc.NameExpiredToken, "Token has been revoked")
	case errors.Is(err, ErrMismatch):
		return xrpc.BadRequest(xrpc.NameInvalidToken, "Token could not be verified")
	case errors.Is(err, account.ErrTakenDown):
		return auth.TakenDown()
	case errors.Is(err, signin.ErrWrong):
		return xrpc.Unauthorized(xrpc.NameAuthRequired, "Invalid identifier or password")
	case errors.Is(err, signin.ErrTooLong):
		return xrpc.Unauthorized(xrpc.NameAuthRequired, "Password too long. Consider resetting your password.")
	case errors.Is(err, signin.ErrAppsOff):
		return xrpc.Unauthorized(xrpc.NameAuthRequired, "This account's owner allows app passwords and sign-in through the browser only")
	case signin.WrongCode(err):
		// For an expired one too: the official app knows these words alone.
		return xrpc.BadRequest(xrpc.NameInvalidToken, "Token is invalid")
	case errors.Is(err, account.ErrNoMail):
		return xrpc.InvalidRequest("A sign in code is needed, and this server sends no mail; ask its operator")
	default:
		return xrpc.Unavailable(err)
	}
}

// factorNeeded asks for the second factor. Apps have one field for all.
func factorNeeded(e *signin.FactorNeeded) string {
	switch {
	case e.Offers(signin.TOTP):
		return "Enter the code of your authenticator app"
	case e.Mailed:
		return "A sign in code has been sent to your email address"
	default:
		return "Use an app password, or sign in with the browser"
	}
}
