package admin

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/xrpc"
)

// InviteInput and InvitesInput are the inputs of createInviteCode and
// createInviteCodes.
type (
	InviteInput struct {
		UseCount   int64  `json:"useCount"`
		ForAccount string `json:"forAccount,omitzero"`
	}
	InvitesInput struct {
		CodeCount   *int64   `json:"codeCount,omitzero"` // 1 if absent
		UseCount    int64    `json:"useCount"`
		ForAccounts []string `json:"forAccounts,omitzero"`
	}
	InviteOutput struct {
		Code string `json:"code"`
	}
	AccountCodes struct {
		Account string   `json:"account"`
		Codes   []string `json:"codes"`
	}
	InvitesOutput struct {
		Codes []AccountCodes `json:"codes"`
	}
)

// Limits of one call that makes invite codes.
const (
	maxInviteCodes = 10_000
	maxInviteUses  = 1_000_000
)

// CreateInviteCode is com.atproto.server.createInviteCode.
func (s *Service) CreateInviteCode(ctx context.Context, caller auth.AdminCaller, in InviteInput) (InviteOutput, error) {
	many := InvitesInput{UseCount: in.UseCount}
	if in.ForAccount != "" {
		many.ForAccounts = []string{in.ForAccount}
	}
	out, err := s.CreateInviteCodes(ctx, caller, many)
	if err != nil {
		return InviteOutput{}, err
	}
	return InviteOutput{out.Codes[0].Codes[0]}, nil
}

// CreateInviteCodes is com.atproto.server.createInviteCodes.
func (s *Service) CreateInviteCodes(ctx context.Context, _ auth.AdminCaller, in InvitesInput) (InvitesOutput, error) {
	for _, did := range in.ForAccounts {
		if _, err := syntax.ParseDID(did); err != nil {
			return InvitesOutput{}, xrpc.InvalidRequest("Invalid DID: invite codes are for accounts")
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
	if in.UseCount < 1 || in.UseCount > maxInviteUses {
		return InvitesOutput{}, xrpc.InvalidRequest("useCount must be from 1 to %d", maxInviteUses)
	}
	if perAccount < 1 || perAccount > maxInviteCodes || perAccount*int64(len(accounts)) > maxInviteCodes {
		return InvitesOutput{}, xrpc.InvalidRequest("codeCount must be from 1 to %d in all", maxInviteCodes)
	}
	now := s.Now().UTC().Truncate(time.Millisecond)
	var out InvitesOutput
	var codes []account.InviteCode
	for _, who := range accounts {
		group := AccountCodes{Account: who}
		for range perAccount {
			code := account.NewInviteCode(s.Hosting.Hostname)
			group.Codes = append(group.Codes, code)
			codes = append(codes, account.InviteCode{Code: code, Available: int(in.UseCount), ForAccount: who, CreatedBy: account.InvitesByAdmin, CreatedAt: now})
		}
		out.Codes = append(out.Codes, group)
	}
	details := fmt.Sprintf("%d codes for %d uses each", len(codes), in.UseCount)
	for _, who := range accounts {
		did := syntax.DID(who)
		if who == account.InvitesByAdmin {
			did = ""
		}
		if err := s.Store.Note(ctx, s.action(ctx, ActionInvites, did, "", details)); err != nil {
			return InvitesOutput{}, xrpc.Unavailable(err)
		}
	}
	if err := s.Accounts.AddInviteCodes(ctx, codes); err != nil {
		return InvitesOutput{}, xrpc.Unavailable(err)
	}
	return out, nil
}

// The inputs and outputs of the other endpoints of invite codes.
type (
	InviteCodesParams struct {
		Sort   string `json:"sort,omitzero"` // recent, or usage
		Limit  *int64 `json:"limit,omitzero"`
		Cursor string `json:"cursor,omitzero"`
	}
	InviteCodesOutput struct {
		Cursor string               `json:"cursor,omitzero"`
		Codes  []account.InviteView `json:"codes"`
	}
	DisableCodesInput struct {
		Codes    []string `json:"codes,omitzero"`
		Accounts []string `json:"accounts,omitzero"`
	}
	AccountInvitesInput struct {
		Account string `json:"account"`
		Note    string `json:"note,omitzero"`
	}
)

const (
	defaultInviteList = 100
	maxInviteList     = 500
)

// GetInviteCodes is com.atproto.admin.getInviteCodes.
func (s *Service) GetInviteCodes(ctx context.Context, _ auth.ModeratorCaller, p InviteCodesParams) (InviteCodesOutput, error) {
	q := account.InviteQuery{Limit: defaultInviteList}
	switch p.Sort {
	case "", "recent":
	case "usage":
		q.ByUsage = true
	default:
		return InviteCodesOutput{}, xrpc.InvalidRequest("unknown sort method: %s", p.Sort)
	}
	if p.Limit != nil {
		if *p.Limit < 1 || *p.Limit > maxInviteList {
			return InviteCodesOutput{}, xrpc.InvalidRequest("limit must be from 1 to %d", maxInviteList)
		}
		q.Limit = int(*p.Limit)
	}
	if p.Cursor != "" {
		var err error
		if q.After, err = invitePlace(p.Cursor, q.ByUsage); err != nil {
			return InviteCodesOutput{}, xrpc.InvalidRequest("Malformed cursor")
		}
	}
	codes, err := s.Accounts.ListInviteCodes(ctx, q)
	if err != nil {
		return InviteCodesOutput{}, xrpc.Unavailable(err)
	}
	out := InviteCodesOutput{Codes: []account.InviteView{}}
	for _, c := range codes {
		out.Codes = append(out.Codes, c.View())
		primary := c.CreatedAt.UnixMilli()
		if q.ByUsage {
			primary = int64(len(c.Uses))
		}
		out.Cursor = strconv.FormatInt(primary, 10) + "::" + c.Code
	}
	return out, nil
}

// invitePlace reads a cursor: a time in milliseconds or a number of uses, "::", and
// a code.
func invitePlace(cursor string, byUsage bool) (*account.InvitePlace, error) {
	primary, code, ok := strings.Cut(cursor, "::")
	n, err := strconv.ParseInt(primary, 10, 64)
	if err == nil && !ok {
		err = strconv.ErrSyntax
	}
	if byUsage {
		return &account.InvitePlace{Uses: n, Code: code}, err
	}
	return &account.InvitePlace{CreatedAt: time.UnixMilli(n), Code: code}, err
}

// DisableInviteCodes is com.atproto.admin.disableInviteCodes.
func (s *Service) DisableInviteCodes(ctx context.Context, caller auth.ModeratorCaller, in DisableCodesInput) (xrpc.None, error) {
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
	return xrpc.None{}, s.setInvites(as(ctx, caller), in, account.EventInvitesDisabled)
}

// EnableAccountInvites is com.atproto.admin.enableAccountInvites.
func (s *Service) EnableAccountInvites(ctx context.Context, caller auth.ModeratorCaller, in AccountInvitesInput) (xrpc.None, error) {
	return xrpc.None{}, s.setInvites(as(ctx, caller), in, account.EventInvitesEnabled)
}

func (s *Service) setInvites(ctx context.Context, in AccountInvitesInput, kind account.EventKind) error {
	did, err := parseDID(in.Account, "account")
	if err != nil {
		return err
	}
	e := s.event(ctx, kind)
	if in.Note != "" {
		e.Reason = quote(in.Note)
	}
	_, err = s.measure(ctx, did, account.StatusChange{InvitesDisabled: new(kind == account.EventInvitesDisabled)}, e)
	return wireError(err)
}
