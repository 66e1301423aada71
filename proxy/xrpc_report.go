package proxy

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

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
func (r *Reports) Create(ctx context.Context, caller auth.StandardOrTakendownCaller, in ReportInput) (jsontext.Value, error) {
	switch {
	case len(in.Reason) > maxReason:
		return nil, xrpc.InvalidRequest("string too big (maximum %d, got %d) at $.reason", maxReason, len(in.Reason))
	case in.Subject.Kind() != '{':
		return nil, xrpc.InvalidRequest("Expected object value type at $.subject")
	}
	if err := auth.Admit(ctx, r.Limits, caller.Holder(), 1, reports...); err != nil {
		return nil, err
	}
	to, err := r.target(ctx, request.Asked(ctx, "Atproto-Proxy"))
	if err != nil {
		return nil, err
	}
	token, err := r.token(ctx, caller.DID, to)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, xrpc.Unavailable(err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	status, answer, err := r.post(ctx, to, token, body)
	if err != nil {
		return nil, upstream(err)
	}
	if status != http.StatusOK {
		return nil, refusal(status, answer)
	}
	if !answer.IsValid() {
		return nil, upstream(errors.New("the report service answered no JSON"))
	}
	return answer, nil
}
