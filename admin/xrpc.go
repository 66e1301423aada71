package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/xrpc"
)

// UpdateAccountPasswordInput is the input of updateAccountPassword.
type UpdateAccountPasswordInput struct {
	DID      string `json:"did"`
	Password string `json:"password"`
}

// UpdateAccountPassword is com.atproto.admin.updateAccountPassword.
func (s *Service) UpdateAccountPassword(ctx context.Context, _ auth.AdminCaller, in UpdateAccountPasswordInput) (xrpc.None, error) {
	did, err := parseDID(in.DID, "did")
	if err != nil {
		return xrpc.None{}, err
	}
	if account.CheckNewPassword(in.Password) != nil {
		return xrpc.None{}, xrpc.InvalidRequest("Invalid password length.")
	}
	return xrpc.None{}, wireError(s.SetPassword(ctx, did, in.Password))
}

// DeleteAccountInput is the input of deleteAccount.
type DeleteAccountInput struct {
	DID string `json:"did"`
}

// DeleteAccount is com.atproto.admin.deleteAccount. An account that is gone
// already is not an error.
func (s *Service) DeleteAccount(ctx context.Context, _ auth.AdminCaller, in DeleteAccountInput) (xrpc.None, error) {
	did, err := parseDID(in.DID, "did")
	if err != nil {
		return xrpc.None{}, err
	}
	if err := s.Delete(ctx, did); err != nil && !isUnknown(err) {
		return xrpc.None{}, wireError(err)
	}
	return xrpc.None{}, nil
}

// AccountView is com.atproto.admin.defs#accountView.
type AccountView struct {
	DID              syntax.DID           `json:"did"`
	Handle           syntax.Handle        `json:"handle"`
	Email            string               `json:"email,omitzero"`
	IndexedAt        string               `json:"indexedAt"`
	EmailConfirmedAt string               `json:"emailConfirmedAt,omitzero"`
	InvitedBy        *account.InviteView  `json:"invitedBy,omitzero"`
	Invites          []account.InviteView `json:"invites"`
	InvitesDisabled  bool                 `json:"invitesDisabled"`
	DeactivatedAt    string               `json:"deactivatedAt,omitzero"`
}

// GetAccountInfoParams and GetAccountInfosParams are the parameters of getAccountInfo and
// getAccountInfos.
type (
	GetAccountInfoParams struct {
		DID string `json:"did"`
	}
	GetAccountInfosParams struct {
		DIDs []string `json:"dids"`
	}
	GetAccountInfosOutput struct {
		Infos []AccountView `json:"infos"`
	}
)

// maxInfos bounds one getAccountInfos.
const maxInfos = 500

// GetAccountInfo is com.atproto.admin.getAccountInfo.
func (s *Service) GetAccountInfo(ctx context.Context, _ auth.ModeratorCaller, p GetAccountInfoParams) (AccountView, error) {
	did, err := parseDID(p.DID, "did")
	if err != nil {
		return AccountView{}, err
	}
	a, err := s.Accounts.ByDID(ctx, did)
	if isUnknown(err) {
		return AccountView{}, xrpc.BadRequest(xrpc.NameNotFound, "Account not found")
	}
	if err != nil {
		return AccountView{}, xrpc.Unavailable(err)
	}
	return s.view(ctx, a)
}

// GetAccountInfos is com.atproto.admin.getAccountInfos. Unknown DIDs are left
// out.
func (s *Service) GetAccountInfos(ctx context.Context, _ auth.ModeratorCaller, p GetAccountInfosParams) (GetAccountInfosOutput, error) {
	if len(p.DIDs) > maxInfos {
		return GetAccountInfosOutput{}, xrpc.InvalidRequest("At most %d dids", maxInfos)
	}
	out := GetAccountInfosOutput{Infos: []AccountView{}}
	for i, raw := range p.DIDs {
		did, err := parseDID(raw, fmt.Sprintf("dids[%d]", i))
		if err != nil {
			return GetAccountInfosOutput{}, err
		}
		a, err := s.Accounts.ByDID(ctx, did)
		if isUnknown(err) {
			continue
		}
		if err != nil {
			return GetAccountInfosOutput{}, xrpc.Unavailable(err)
		}
		v, err := s.view(ctx, a)
		if err != nil {
			return GetAccountInfosOutput{}, err
		}
		out.Infos = append(out.Infos, v)
	}
	return out, nil
}

func (s *Service) view(ctx context.Context, a *account.Account) (AccountView, error) {
	v := AccountView{
		DID: a.DID, Handle: a.Handle, Email: a.ShownEmail(), IndexedAt: datetime(a.CreatedAt),
		EmailConfirmedAt: datetime(a.EmailConfirmedAt), DeactivatedAt: datetime(a.DeactivatedAt),
		Invites: []account.InviteView{}, InvitesDisabled: a.InvitesDisabled,
	}
	own, err := s.Accounts.InviteCodesFor(ctx, a.DID)
	if err != nil {
		return AccountView{}, xrpc.Unavailable(err)
	}
	for _, c := range own {
		v.Invites = append(v.Invites, c.View())
	}
	if a.InvitedWith != "" {
		codes, err := s.Accounts.InviteCodes(ctx, []string{a.InvitedWith})
		if err != nil {
			return AccountView{}, xrpc.Unavailable(err)
		}
		for _, c := range codes {
			by := c.View()
			v.InvitedBy = &by
		}
	}
	return v, nil
}

// datetime is a time as the Lexicon has it, "" for one that never was.
func datetime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func parseDID(raw, where string) (syntax.DID, error) {
	did, err := syntax.ParseDID(raw)
	if err != nil {
		return "", xrpc.InvalidRequest("Invalid DID at $.%s", where)
	}
	return did, nil
}

func wireError(err error) error {
	switch {
	case err == nil:
		return nil
	case isUnknown(err):
		return xrpc.BadRequest("AccountNotFound", "Account not found")
	case errors.Is(err, errInviteUses), errors.Is(err, errInviteCount), errors.Is(err, errInviteCursor):
		return xrpc.InvalidRequest("%s", err)
	case errors.Is(err, account.ErrTakenDown): // an account that is taken down is not activated
		return xrpc.BadRequest("AccountNotFound", "user not found")
	default:
		return hosting.StatusError(err)
	}
}
