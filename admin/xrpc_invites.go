package admin

import (
	"context"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/xrpc"
)

// CreateInviteCodeInput and CreateInviteCodesInput are the inputs of createInviteCode and
// createInviteCodes.
type (
	CreateInviteCodeInput struct {
		UseCount   int64  `json:"useCount"`
		ForAccount string `json:"forAccount,omitzero"`
	}
	CreateInviteCodesInput struct {
		CodeCount   *int64   `json:"codeCount,omitzero"` // 1 if absent
		UseCount    int64    `json:"useCount"`
		ForAccounts []string `json:"forAccounts,omitzero"`
	}
	CreateInviteCodeOutput struct {
		Code string `json:"code"`
	}
	AccountCodes struct {
		Account string   `json:"account"`
		Codes   []string `json:"codes"`
	}
	CreateInviteCodesOutput struct {
		Codes []AccountCodes `json:"codes"`
	}
)

// CreateInviteCode is com.atproto.server.createInviteCode.
func (s *Service) CreateInviteCode(ctx context.Context, caller auth.AdminCaller, in CreateInviteCodeInput) (CreateInviteCodeOutput, error) {
	many := CreateInviteCodesInput{UseCount: in.UseCount}
	if in.ForAccount != "" {
		many.ForAccounts = []string{in.ForAccount}
	}
	out, err := s.CreateInviteCodes(ctx, caller, many)
	if err != nil {
		return CreateInviteCodeOutput{}, err
	}
	return CreateInviteCodeOutput{out.Codes[0].Codes[0]}, nil
}

// CreateInviteCodes is com.atproto.server.createInviteCodes.
func (s *Service) CreateInviteCodes(ctx context.Context, _ auth.AdminCaller, in CreateInviteCodesInput) (CreateInviteCodesOutput, error) {
	for _, did := range in.ForAccounts {
		if _, err := syntax.ParseDID(did); err != nil {
			return CreateInviteCodesOutput{}, xrpc.InvalidRequest("Invalid DID: invite codes are for accounts")
		}
	}
	accounts := in.ForAccounts
	if accounts == nil {
		accounts = []string{account.InvitesByAdmin}
	}
	perAccount := int64(1)
	if in.CodeCount != nil {
		perAccount = *in.CodeCount
	}
	codes, err := s.makeInvites(ctx, accounts, perAccount, in.UseCount)
	return CreateInviteCodesOutput{codes}, wireError(err)
}

// The inputs and outputs of the other endpoints of invite codes.
type (
	GetInviteCodesParams struct {
		Sort   string `json:"sort,omitzero"` // sortRecent or sortUsage; empty is sortRecent
		Limit  *int64 `json:"limit,omitzero"`
		Cursor string `json:"cursor,omitzero"`
	}
	GetInviteCodesOutput struct {
		Cursor string               `json:"cursor,omitzero"`
		Codes  []account.InviteView `json:"codes"`
	}
	DisableInviteCodesInput struct {
		Codes    []string `json:"codes,omitzero"`
		Accounts []string `json:"accounts,omitzero"`
	}
	AccountInvitesInput struct {
		Account string `json:"account"`
		Note    string `json:"note,omitzero"`
	}
)

// The orders and page sizes of getInviteCodes.
const (
	sortRecent        = "recent"
	sortUsage         = "usage"
	defaultInviteList = 100
	maxInviteList     = 500
)

// GetInviteCodes is com.atproto.admin.getInviteCodes.
func (s *Service) GetInviteCodes(ctx context.Context, _ auth.ModeratorCaller, p GetInviteCodesParams) (GetInviteCodesOutput, error) {
	limit := int64(defaultInviteList)
	if p.Limit != nil {
		limit = *p.Limit
	}
	switch {
	case p.Sort != "" && p.Sort != sortRecent && p.Sort != sortUsage:
		return GetInviteCodesOutput{}, xrpc.InvalidRequest("unknown sort method: %s", p.Sort)
	case limit < 1 || limit > maxInviteList:
		return GetInviteCodesOutput{}, xrpc.InvalidRequest("limit must be from 1 to %d", maxInviteList)
	}
	out, err := s.inviteCodes(ctx, p.Sort == sortUsage, int(limit), p.Cursor)
	return out, wireError(err)
}

// DisableInviteCodes is com.atproto.admin.disableInviteCodes.
func (s *Service) DisableInviteCodes(ctx context.Context, caller auth.ModeratorCaller, in DisableInviteCodesInput) (xrpc.None, error) {
	if slices.Contains(in.Accounts, account.InvitesByAdmin) {
		return xrpc.None{}, xrpc.InvalidRequest("cannot disable admin invite codes")
	}
	if len(in.Codes)+len(in.Accounts) > maxInviteCodes {
		return xrpc.None{}, xrpc.InvalidRequest("at most %d codes and accounts", maxInviteCodes)
	}
	_, err := s.disableInvites(as(ctx, caller), in.Codes, in.Accounts)
	return xrpc.None{}, wireError(err)
}

// DisableAccountInvites is com.atproto.admin.disableAccountInvites.
func (s *Service) DisableAccountInvites(ctx context.Context, caller auth.ModeratorCaller, in AccountInvitesInput) (xrpc.None, error) {
	return xrpc.None{}, s.setInvites(as(ctx, caller), in, account.EntryInvitesDisabled)
}

// EnableAccountInvites is com.atproto.admin.enableAccountInvites.
func (s *Service) EnableAccountInvites(ctx context.Context, caller auth.ModeratorCaller, in AccountInvitesInput) (xrpc.None, error) {
	return xrpc.None{}, s.setInvites(as(ctx, caller), in, account.EntryInvitesEnabled)
}

func (s *Service) setInvites(ctx context.Context, in AccountInvitesInput, kind account.EntryKind) error {
	did, err := parseDID(in.Account, "account")
	if err != nil {
		return err
	}
	e := s.entry(ctx, kind)
	if in.Note != "" {
		e.Reason = quote(in.Note)
	}
	_, err = s.measure(ctx, did, account.StatusChange{InvitesDisabled: new(kind == account.EntryInvitesDisabled)}, e)
	return wireError(err)
}
