package admin

import (
	"context"
	"slices"
	"strings"

	"nestbox/auth"
)

func (s *Service) disableInvites(ctx context.Context, codes, owners []string) (int, error) {
	details := quote(strings.Join(slices.Concat(codes, owners), " "))
	if err := s.Store.Note(ctx, s.action(ctx, ActionInvitesDisabled, "", "", details)); err != nil {
		return 0, err
	}
	return s.Accounts.DisableInviteCodes(ctx, codes, owners)
}

// The arguments of commands about invite codes.
type (
	InviteArgs struct {
		Codes   int    `json:"codes"`
		Uses    int    `json:"uses"`
		Account string `json:"account"` // the account that may give them away; empty means the admin
	}
	InviteListArgs struct {
		ByUsage bool   `json:"byUsage"`
		Cursor  string `json:"cursor"`
	}
	InviteDisableArgs struct {
		Codes   []string `json:"codes"`
		Account string   `json:"account"` // all of those
	}
)

// Disabled is how many invite codes a command disabled.
type Disabled struct {
	Codes int `json:"codes"`
}

func (s *Service) createInvites(ctx context.Context, a InviteArgs) (AccountCodes, error) {
	in := InvitesInput{CodeCount: new(int64(a.Codes)), UseCount: int64(a.Uses)}
	if a.Account != "" {
		acc, err := s.find(ctx, a.Account)
		if err != nil {
			return AccountCodes{}, err
		}
		in.ForAccounts = []string{acc.DID.String()}
	}
	out, err := s.CreateInviteCodes(ctx, auth.AdminCaller{}, in)
	if err != nil {
		return AccountCodes{}, err
	}
	return out.Codes[0], nil
}

func (s *Service) listInvites(ctx context.Context, a InviteListArgs) (InviteCodesOutput, error) {
	p := InviteCodesParams{Cursor: a.Cursor}
	if a.ByUsage {
		p.Sort = "usage"
	}
	return s.GetInviteCodes(ctx, auth.ModeratorCaller{}, p)
}

func (s *Service) disableInviteCommand(ctx context.Context, a InviteDisableArgs) (Disabled, error) {
	var owners []string
	if a.Account != "" {
		acc, err := s.find(ctx, a.Account)
		if err != nil {
			return Disabled{}, err
		}
		owners = []string{acc.DID.String()}
	}
	n, err := s.disableInvites(ctx, a.Codes, owners)
	return Disabled{n}, err
}
