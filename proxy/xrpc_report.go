package proxy

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/auth"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

const (
	createReport = "com.atproto.moderation.createReport"
	// maxReason is the Lexicon's limit of a report's text, in bytes.
	maxReason = 20_000
	// maxReportAnswer bounds the answer to a report, in bytes.
	maxReportAnswer = 1 << 20
)

// reports limits the reports of one account: moderators are people.
var reports = []ratelimit.Limit{
	{Name: "reports-5m", Points: 30, Window: 5 * time.Minute},
	{Name: "reports-1d", Points: 500, Window: 24 * time.Hour},
}

// CreateReportInput is the input of createReport. The service decides what the subject
// may be.
type CreateReportInput struct {
	ReasonType string         `json:"reasonType"`
	Reason     string         `json:"reason,omitzero"`
	Subject    jsontext.Value `json:"subject"`
	ModTool    jsontext.Value `json:"modTool,omitzero"`
}

// CreateReport is com.atproto.moderation.createReport. A taken-down account may report,
// too.
func (s *Service) CreateReport(ctx context.Context, calling auth.Scoped[auth.StandardOrTakenDownCaller],
	in CreateReportInput,
) (jsontext.Value, error) {
	caller, err := calling.For(s.needs(proxyHeader(request.AskedHeader(ctx)), createReport)...)
	if err != nil {
		return nil, err
	}
	switch {
	case len(in.Reason) > maxReason:
		return nil, xrpc.InvalidRequest("string too big (maximum %d, got %d) at $.reason", maxReason, len(in.Reason))
	case in.Subject.Kind() != '{':
		return nil, xrpc.InvalidRequest("Expected object value type at $.subject")
	}
	if err := auth.Admit(ctx, s.Limits, caller.Holder(), 1, reports...); err != nil {
		return nil, err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, xrpc.Unavailable(err)
	}
	answer, err := s.report(ctx, caller, body)
	if err != nil {
		return nil, wireError(request.Header(ctx), err)
	}
	return answer, nil
}

// report sends a report to the service that the client names, or to the operator's.
func (s *Service) report(ctx context.Context, caller auth.StandardOrTakenDownCaller, body []byte) (jsontext.Value, error) {
	to, err := s.target(ctx, proxyHeader(request.AskedHeader(ctx)), createReport)
	if err != nil {
		return nil, err
	}
	by, err := s.Accounts.ByDID(ctx, caller.DID)
	if err != nil {
		return nil, err
	}
	header := s.ownHeaders()
	header.Set("Content-Type", "application/json")
	raw, err := s.ask(ctx, &call{
		by: by, holder: caller.Holder(), to: to, method: http.MethodPost, nsid: createReport, header: header,
		sent: bytes.NewReader(body), length: int64(len(body)),
	}, maxReportAnswer)
	if err != nil {
		return nil, err
	}
	if answer := jsontext.Value(raw); answer.IsValid() {
		return answer, nil
	}
	return nil, failed(messageFailure, errors.New("the answer to a report is not JSON"))
}
