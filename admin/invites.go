package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

// Limits of one call that makes invite codes.
const (
	maxInviteCodes = 10_000
	maxInviteUses  = 1_000_000
)

// Errors of makeInvites and inviteCodes, as clients see them.
var (
	errInviteUses   = fmt.Errorf("useCount must be from 1 to %d", maxInviteUses)
	errInviteCount  = fmt.Errorf("codeCount must be from 1 to %d in all", maxInviteCodes)
	errInviteCursor = errors.New("Malformed cursor") //nolint:staticcheck // as the endpoints word it
)

// makeInvites makes invite codes, each for so many uses: perAccount of them for each
// account, by its DID, or for account.InvitesByAdmin. Errors: errInviteUses,
// errInviteCount.
func (s *Service) makeInvites(ctx context.Context, accounts []string, perAccount, uses int64) ([]AccountCodes, error) {
	if uses < 1 || uses > maxInviteUses {
		return nil, errInviteUses
	}
	if perAccount < 1 || perAccount > maxInviteCodes || perAccount*int64(len(accounts)) > maxInviteCodes {
		return nil, errInviteCount
	}
	now := s.Now().UTC().Truncate(time.Millisecond)
	var out []AccountCodes
	var codes []account.InviteCode
	for _, who := range accounts {
		group := AccountCodes{Account: who}
		for range perAccount {
			code := account.NewInviteCode(s.Hosting.Hostname)
			group.Codes = append(group.Codes, code)
			codes = append(codes, account.InviteCode{
				Code: code, Available: int(uses), ForAccount: who, CreatedBy: account.InvitesByAdmin, CreatedAt: now,
			})
		}
		out = append(out, group)
	}
	details := fmt.Sprintf("%d codes for %d uses each", len(codes), uses)
	for _, who := range accounts {
		did := syntax.DID(who)
		if who == account.InvitesByAdmin {
			did = ""
		}
		if err := s.Store.Note(ctx, s.action(ctx, ActionInvites, did, "", details)); err != nil {
			return nil, err
		}
	}
	if err := s.Accounts.AddInviteCodes(ctx, codes); err != nil {
		return nil, err
	}
	return out, nil
}

// inviteCodes returns a page of invite codes: the newest, or the most used, first. Error:
// errInviteCursor.
func (s *Service) inviteCodes(ctx context.Context, byUsage bool, limit int, cursor string) (GetInviteCodesOutput, error) {
	q := account.InviteQuery{ByUsage: byUsage, Limit: limit}
	if cursor != "" {
		var err error
		if q.After, err = invitePlace(cursor, byUsage); err != nil {
			return GetInviteCodesOutput{}, errInviteCursor
		}
	}
	codes, err := s.Accounts.ListInviteCodes(ctx, q)
	if err != nil {
		return GetInviteCodesOutput{}, err
	}
	out := GetInviteCodesOutput{Codes: []account.InviteView{}}
	for _, c := range codes {
		out.Codes = append(out.Codes, c.View())
		primary := c.CreatedAt.UnixMilli()
		if byUsage {
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
		// Limit is how many, the default if it is 0.
		Limit int `json:"limit,omitzero"`
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
	owner := account.InvitesByAdmin
	if a.Account != "" {
		acc, err := s.find(ctx, a.Account)
		if err != nil {
			return AccountCodes{}, err
		}
		owner = acc.DID.String()
	}
	out, err := s.makeInvites(ctx, []string{owner}, int64(a.Codes), int64(a.Uses))
	if err != nil {
		return AccountCodes{}, err
	}
	return out[0], nil
}

func (s *Service) listInvites(ctx context.Context, a InviteListArgs) (GetInviteCodesOutput, error) {
	limit := defaultInviteList
	if a.Limit > 0 {
		limit = min(a.Limit, maxInviteList)
	}
	return s.inviteCodes(ctx, a.ByUsage, limit, a.Cursor)
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
