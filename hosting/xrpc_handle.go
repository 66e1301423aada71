package hosting

import (
	"context"
	"errors"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/identity"
	"nestbox/xrpc"
)

// UpdateHandleInput is the input of updateHandle.
type UpdateHandleInput struct {
	Handle string `json:"handle"`
}

// UpdateHandle is com.atproto.identity.updateHandle.
func (s *Service) UpdateHandle(ctx context.Context, caller auth.StandardCaller, in UpdateHandleInput) (xrpc.None, error) {
	if err := auth.Admit(ctx, s.Limits, caller.Holder(), 1, handleChanges...); err != nil {
		return xrpc.None{}, err
	}
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if err == nil {
		err = s.SetHandle(ctx, a, in.Handle, account.ActorOwner)
	}
	return xrpc.None{}, HandleError(err, in.Handle)
}

// HandleError returns an error of SetHandle as the client sees it, in the
// reference's words.
func HandleError(err error, handle string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, account.ErrNotFound):
		return auth.Expired() // deleted since the caller was proven
	case errors.Is(err, account.ErrStatusConflict):
		return xrpc.InvalidRequest("The handle is being changed already; please try again in a minute")
	case errors.Is(err, ErrMovedOut):
		return xrpc.InvalidRequest("The DID document names another host: the account has moved out")
	case errors.Is(err, ErrNotNamed):
		return xrpc.InvalidRequest("The DID document does not name the handle; add it there first")
	case errors.Is(err, identity.ErrNotRegistered):
		return xrpc.InvalidRequest("Could not resolve DID")
	case errors.Is(err, identity.ErrRefused):
		e := xrpc.InvalidRequest("The PLC directory refused the change: it may be that this server's rotation key is not among the DID's")
		e.Cause = err
		return e
	default:
		return wireError(err, CreateAccountInput{Handle: handle})
	}
}
