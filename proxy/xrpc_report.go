package proxy

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/request"
	"nestbox/xrpc"
)

// ReportInput is the input of createReport. The service decides what the subject
// may be.
type ReportInput struct {
	ReasonType string         `json:"reasonType"`
	Reason     string         `json:"reason,omitzero"`
	Subject    jsontext.Value `json:"subject"`
	ModTool    jsontext.Value `json:"modTool,omitzero"`
}

// Create is com.atproto.moderation.createReport. A taken-down account may report,
// too.
func (r *Reports) Create(ctx context.Context, caller auth.StandardOrTakenDownCaller, in ReportInput) (jsontext.Value, error) {
	switch {
	case len(in.Reason) > maxReason:
		return nil, xrpc.InvalidRequest("string too big (maximum %d, got %d) at $.reason", maxReason, len(in.Reason))
	case in.Subject.Kind() != '{':
		return nil, xrpc.InvalidRequest("Expected object value type at $.subject")
	}
	if err := auth.Admit(ctx, r.Limits, caller.Holder(), 1, reports...); err != nil {
		return nil, err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, xrpc.Unavailable(err)
	}
	answer, err := r.send(ctx, caller.DID, request.Asked(ctx, "Atproto-Proxy"), body)
	return answer, reportError(err)
}

// reportError returns an error of send as the client sees it.
func reportError(err error) error {
	refused, isRefused := errors.AsType[*refusalError](err)
	unknown, isUnknown := errors.AsType[targetError](err)
	switch {
	case err == nil:
		return nil
	case isRefused:
		return &xrpc.Error{Status: refused.status, Name: refused.name, Message: refused.message}
	case isUnknown:
		return xrpc.InvalidRequest("%s", unknown)
	case errors.Is(err, errUpstream):
		return &xrpc.Error{Status: http.StatusBadGateway, Name: "UpstreamFailure", Message: "The report service cannot be reached", Cause: err}
	case errors.Is(err, account.ErrNotFound):
		return auth.Expired() // deleted since the caller was proven
	default:
		return xrpc.Unavailable(err)
	}
}
