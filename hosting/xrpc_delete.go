package hosting

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/signin"
	"nestbox/xrpc"
)

// DeleteAccountInput is the input of com.atproto.server.deleteAccount.
type DeleteAccountInput struct {
	DID      string `json:"did"`
	Password string `json:"password"`
	Token    string `json:"token"`
}

// deletions limits attempts by one client network to delete accounts.
var deletions = ratelimit.Limit{Name: "deletions", Points: 50, Window: 5 * time.Minute}

// DeleteAccount is com.atproto.server.deleteAccount.
func (s *Service) DeleteAccount(ctx context.Context, _ auth.Anyone, in DeleteAccountInput) (xrpc.None, error) {
	if err := request.AdmitNetwork(ctx, s.Limits, 1, deletions); err != nil {
		return xrpc.None{}, err
	}
	did, err := syntax.ParseDID(in.DID)
	if err != nil {
		return xrpc.None{}, xrpc.InvalidRequest("Invalid DID at $.did")
	}
	err = s.Delete(ctx, did, in.Password, in.Token)
	if !errors.Is(err, account.ErrNotFound) && !errors.Is(err, signin.ErrTooLong) {
		request.SetAccount(ctx, did.String())
	}
	return xrpc.None{}, s.deleteError(ctx, did, err)
}

// deleteError returns an error of Delete as the client sees it.
func (s *Service) deleteError(ctx context.Context, did syntax.DID, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, signin.ErrTooLong):
		return xrpc.Unauthorized(xrpc.NameAuthRequired, "Password too long. Consider resetting your password.")
	case errors.Is(err, account.ErrNotFound):
		return xrpc.InvalidRequest("account not found")
	case errors.Is(err, signin.ErrWrong):
		return xrpc.Unauthorized(xrpc.NameAuthRequired, "Invalid did or password")
	case signin.WrongCode(err), errors.Is(err, signin.ErrDigitsNeeded):
		return codeError(err)
	case errors.Is(err, account.ErrHeld):
		return s.heldNow(ctx, did)
	default:
		return xrpc.Unavailable(err)
	}
}

// heldNow returns the error for the client if a moderation measure forbids the deletion,
// even if it has been lifted since.
func (s *Service) heldNow(ctx context.Context, did syntax.DID) error {
	a, err := s.Accounts.ByDID(ctx, did)
	if err == nil {
		err = auth.May(auth.UseDelete, string(a.Status()), "")
	}
	if err == nil {
		err = xrpc.Unavailable(account.ErrHeld)
	}
	return err
}

// codeError is account.CodeError for a call that may want a code of the authenticator app
// as well.
func codeError(err error) error {
	if errors.Is(err, signin.ErrDigitsNeeded) {
		return xrpc.BadRequest(xrpc.NameInvalidToken, "Token is invalid: add the code of your authenticator app")
	}
	return account.CodeError(err)
}
