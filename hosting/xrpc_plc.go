package hosting

import (
	"context"
	"encoding/json"
	"errors"

	didplc "github.com/did-method-plc/go-didplc"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/identity"
	"nestbox/plc"
	"nestbox/request"
	"nestbox/xrpc"
)

// The inputs and outputs of com.atproto.identity's operations.
type (
	GetRecommendedDIDCredentialsOutput struct {
		RotationKeys        []string                    `json:"rotationKeys,omitzero"`
		AlsoKnownAs         []string                    `json:"alsoKnownAs"`
		VerificationMethods map[string]string           `json:"verificationMethods"`
		Services            map[string]didplc.OpService `json:"services"`
	}
	SignPLCOperationInput struct {
		Token               string                      `json:"token,omitzero"`
		RotationKeys        []string                    `json:"rotationKeys,omitzero"`
		AlsoKnownAs         []string                    `json:"alsoKnownAs,omitzero"`
		VerificationMethods map[string]string           `json:"verificationMethods,omitzero"`
		Services            map[string]didplc.OpService `json:"services,omitzero"`
	}
	SignPLCOperationOutput struct {
		Operation jsontext.Value `json:"operation"`
	}
	SubmitPLCOperationInput struct {
		Operation jsontext.Value `json:"operation"`
	}
)

// GetRecommendedDIDCredentials is
// com.atproto.identity.getRecommendedDidCredentials: what the DID document of an
// account hosted here should say.
func (s *Service) GetRecommendedDIDCredentials(
	ctx context.Context, caller auth.StandardCaller, _ xrpc.None,
) (GetRecommendedDIDCredentialsOutput, error) {
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if err != nil {
		return GetRecommendedDIDCredentialsOutput{}, StatusError(err)
	}
	c, err := s.Recommended(a)
	if err != nil {
		return c, xrpc.Unavailable(err)
	}
	return c, nil
}

// Recommended returns what the DID document of an account should say here.
func (s *Service) Recommended(a *account.Account) (GetRecommendedDIDCredentialsOutput, error) {
	server, err := s.serverKey()
	if err != nil {
		return GetRecommendedDIDCredentialsOutput{}, err
	}
	c := GetRecommendedDIDCredentialsOutput{
		RotationKeys:        []string{server},
		AlsoKnownAs:         []string{"at://" + a.Handle.String()},
		VerificationMethods: map[string]string{"atproto": a.SigningKey},
		Services:            map[string]didplc.OpService{"atproto_pds": {Type: typePDS, Endpoint: s.URL}},
	}
	if s.RecoveryKey != "" {
		c.RotationKeys = []string{s.RecoveryKey, server}
	}
	return c, nil
}

// RequestPLCOperationSignature is
// com.atproto.identity.requestPlcOperationSignature: it sends the code that signing
// requires.
func (s *Service) RequestPLCOperationSignature(ctx context.Context, caller auth.FullOrTakenDownCaller, _ xrpc.None) (xrpc.None, error) {
	if err := request.Admit(ctx, s.Limits, caller.DID.String(), 1, account.CodeMails(string(account.PurposePLCOperation))...); err != nil {
		return xrpc.None{}, err
	}
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if err == nil {
		err = s.Codes.Send(ctx, a, account.PurposePLCOperation)
	}
	if err != nil {
		return xrpc.None{}, account.CodeError(err)
	}
	return xrpc.None{}, nil
}

// SignPLCOperation is com.atproto.identity.signPlcOperation. It submits nothing.
func (s *Service) SignPLCOperation(
	ctx context.Context, caller auth.FullOrTakenDownCaller, in SignPLCOperationInput,
) (SignPLCOperationOutput, error) {
	if in.Token == "" {
		return SignPLCOperationOutput{}, xrpc.InvalidRequest("email confirmation token required to sign PLC operations")
	}
	op, err := s.SignOperation(ctx, caller.DID, in.Token, plc.Change{
		RotationKeys: in.RotationKeys, AlsoKnownAs: in.AlsoKnownAs, VerificationMethods: in.VerificationMethods, Services: in.Services,
	})
	switch {
	case errors.Is(err, identity.ErrDeactivated):
		return SignPLCOperationOutput{}, xrpc.InvalidRequest("Did is tombstoned")
	case errors.Is(err, identity.ErrNotRegistered):
		return SignPLCOperationOutput{}, xrpc.InvalidRequest("Could not resolve DID")
	case errors.Is(err, plc.ErrOperation):
		return SignPLCOperationOutput{}, xrpc.InvalidRequest("Invalid operation: %v", err)
	case err != nil:
		return SignPLCOperationOutput{}, codeError(err)
	}
	raw, err := json.Marshal(op)
	if err != nil {
		return SignPLCOperationOutput{}, xrpc.Unavailable(err)
	}
	return SignPLCOperationOutput{raw}, nil
}

// SubmitPLCOperation is com.atproto.identity.submitPlcOperation: only for an
// operation after which the account is hosted here and this server can help it.
func (s *Service) SubmitPLCOperation(ctx context.Context, caller auth.StandardCaller, in SubmitPLCOperationInput) (xrpc.None, error) {
	err := s.SubmitOperation(ctx, caller.DID, in.Operation)
	if unfit, ok := errors.AsType[operationError](err); ok {
		return xrpc.None{}, xrpc.InvalidRequest("%s", unfit)
	}
	switch {
	case errors.Is(err, account.ErrStatusConflict):
		return xrpc.None{}, xrpc.InvalidRequest("The identity is being changed already; please try again in a minute")
	case errors.Is(err, identity.ErrRefused):
		e := xrpc.InvalidRequest("The PLC directory refused the operation")
		e.Cause = err
		return xrpc.None{}, e
	default:
		return xrpc.None{}, StatusError(err)
	}
}
