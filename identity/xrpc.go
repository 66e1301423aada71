package identity

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/auth"
	"nestbox/xrpc"
)

// The inputs and outputs of com.atproto.identity's look-ups.
type (
	ResolveHandleParams struct {
		Handle string `json:"handle"`
	}
	ResolveHandleOutput struct {
		DID syntax.DID `json:"did"`
	}
	ResolveDIDParams struct {
		DID string `json:"did"`
	}
	ResolveDIDOutput struct {
		DIDDoc jsontext.Value `json:"didDoc"`
	}
	IdentifierParams struct {
		Identifier string `json:"identifier"`
	}
	Info struct {
		DID    syntax.DID     `json:"did"`
		Handle syntax.Handle  `json:"handle"`
		DIDDoc jsontext.Value `json:"didDoc"`
	}
)

// ResolveHandle is com.atproto.identity.resolveHandle.
func (s *Service) ResolveHandle(ctx context.Context, _ auth.Anyone, p ResolveHandleParams) (ResolveHandleOutput, error) {
	h, err := syntax.ParseHandle(p.Handle)
	if err != nil {
		return ResolveHandleOutput{}, xrpc.InvalidRequest("Invalid handle format at $.handle")
	}
	did, err := s.Resolver.forAnybody().Handle(ctx, h)
	if err != nil {
		return ResolveHandleOutput{}, lookupError("handle", err)
	}
	return ResolveHandleOutput{did}, nil
}

// ResolveDID is com.atproto.identity.resolveDid.
func (s *Service) ResolveDID(ctx context.Context, _ auth.Anyone, p ResolveDIDParams) (ResolveDIDOutput, error) {
	did, err := syntax.ParseDID(p.DID)
	if err != nil {
		return ResolveDIDOutput{}, xrpc.InvalidRequest("Invalid DID at $.did")
	}
	d, err := s.Resolver.forAnybody().DID(ctx, did)
	if err != nil {
		return ResolveDIDOutput{}, lookupError("DID", err)
	}
	return ResolveDIDOutput{d.Raw}, nil
}

// ResolveIdentity is com.atproto.identity.resolveIdentity: the handle is proven
// both ways, or handle.invalid.
func (s *Service) ResolveIdentity(ctx context.Context, _ auth.Anyone, p IdentifierParams) (Info, error) {
	return s.identity(ctx, p.Identifier, false)
}

// RefreshIdentity is com.atproto.identity.refreshIdentity. Its caller must be signed
// in, since it asks the network, unless that answered a few seconds ago.
func (s *Service) RefreshIdentity(ctx context.Context, _ auth.StandardCaller, in IdentifierParams) (Info, error) {
	return s.identity(ctx, in.Identifier, true)
}

func (s *Service) identity(ctx context.Context, identifier string, fresh bool) (Info, error) {
	did, err := s.did(ctx, identifier, fresh)
	if err != nil {
		return Info{}, err
	}
	d, handle, err := s.Resolver.forAnybody().Identity(ctx, did, fresh)
	if err != nil {
		return Info{}, lookupError("DID", err)
	}
	return Info{did, handle, d.Raw}, nil
}

func (s *Service) did(ctx context.Context, identifier string, fresh bool) (syntax.DID, error) {
	id, err := syntax.ParseAtIdentifier(identifier)
	if err != nil {
		return "", xrpc.InvalidRequest("Invalid DID or handle at $.identifier")
	}
	if did, err := id.AsDID(); err == nil {
		return did, nil
	}
	h, err := id.AsHandle()
	if err != nil {
		return "", xrpc.InvalidRequest("Invalid DID or handle at $.identifier")
	}
	find := s.Resolver.forAnybody().Handle
	if fresh {
		find = s.Resolver.forAnybody().FreshHandle
	}
	did, err := find(ctx, h)
	if err != nil {
		return "", lookupError("handle", err)
	}
	return did, nil
}

// lookupError returns an error of Resolver as the endpoints answer it. A question that
// the network did not answer is not a fault of this server: 400, as at the reference.
func lookupError(what string, err error) error {
	switch {
	case errors.Is(err, ErrHandleNotFound):
		return xrpc.BadRequest("HandleNotFound", "Unable to resolve handle")
	case errors.Is(err, ErrHandleConflict):
		return xrpc.BadRequest("HandleNotFound", "Unable to resolve handle: it leads to more than one DID")
	case errors.Is(err, ErrDeactivated):
		return xrpc.BadRequest("DidDeactivated", "DID is deactivated")
	case errors.Is(err, ErrNotRegistered), errors.Is(err, ErrUnsupported):
		return xrpc.BadRequest("DidNotFound", "Unable to resolve DID")
	case errors.Is(err, ErrHere), errors.Is(err, ErrBusy):
		return xrpc.Unavailable(err)
	default:
		return &xrpc.Error{Status: http.StatusBadRequest, Name: xrpc.NameInvalidRequest, Message: "Unable to resolve " + what, Cause: err}
	}
}
