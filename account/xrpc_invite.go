package account

import (
	"context"
	"errors"
	"slices"
	"time"

	"nestbox/auth"
	"nestbox/xrpc"
)

// Invites are the codes that accounts may give away.
type Invites struct {
	Store Store
	// Required: nobody signs up without one. Interval is how long an account lives
	// for each code that it earns, 0 for none; what was before Epoch does not count.
	Required bool
	Interval time.Duration
	Epoch    time.Time
	Hostname string
	Now      func() time.Time
}

// The inputs and outputs of getAccountInviteCodes. Both parameters are true where
// they are absent.
type (
	GetAccountInviteCodesParams struct {
		IncludeUsed     *bool `json:"includeUsed,omitzero"`
		CreateAvailable *bool `json:"createAvailable,omitzero"`
	}
	GetAccountInviteCodesOutput struct {
		Codes []InviteView `json:"codes"`
	}
)

// InviteView is com.atproto.server.defs#inviteCode.
type InviteView struct {
	Code       string          `json:"code"`
	Available  int             `json:"available"`
	Disabled   bool            `json:"disabled"`
	ForAccount string          `json:"forAccount"`
	CreatedBy  string          `json:"createdBy"`
	CreatedAt  string          `json:"createdAt"`
	Uses       []InviteUseView `json:"uses"`
}

// InviteUseView is com.atproto.server.defs#inviteCodeUse.
type InviteUseView struct {
	UsedBy string `json:"usedBy"`
	UsedAt string `json:"usedAt"`
}

// View is the code as the Lexicon has it.
func (c InviteCode) View() InviteView {
	v := InviteView{
		Code: c.Code, Available: c.Available, Disabled: c.Disabled, ForAccount: c.ForAccount, CreatedBy: c.CreatedBy,
		CreatedAt: datetime(c.CreatedAt), Uses: []InviteUseView{},
	}
	for _, u := range c.Uses {
		v.Uses = append(v.Uses, InviteUseView{u.UsedBy.String(), datetime(u.UsedAt)})
	}
	return v
}

// Own is com.atproto.server.getAccountInviteCodes.
func (s *Invites) Own(ctx context.Context, caller auth.FullCaller, p GetAccountInviteCodesParams) (GetAccountInviteCodesOutput, error) {
	a, err := s.Store.ByDID(ctx, caller.DID)
	var codes []InviteCode
	if err == nil {
		codes, err = s.Mine(ctx, a, yes(p.CreateAvailable))
	}
	if errors.Is(err, ErrNotFound) {
		return GetAccountInviteCodesOutput{}, xrpc.BadRequest(xrpc.NameNotFound, "Account not found")
	}
	if err != nil {
		return GetAccountInviteCodesOutput{}, xrpc.Unavailable(err)
	}
	out := GetAccountInviteCodesOutput{Codes: []InviteView{}}
	for _, c := range codes {
		if !yes(p.IncludeUsed) && len(c.Uses) >= c.Available {
			continue
		}
		out.Codes = append(out.Codes, c.View())
	}
	return out, nil
}

// Mine returns the codes that an account may give away, used ones too, the oldest first.
// earn adds those that it has earned.
func (s *Invites) Mine(ctx context.Context, a *Account, earn bool) ([]InviteCode, error) {
	if earn && s.Required && s.Interval > 0 {
		if err := s.Store.EarnInviteCodes(ctx, a.ID, s.earn); err != nil {
			return nil, err
		}
	}
	codes, err := s.Store.InviteCodesFor(ctx, a.DID)
	return slices.DeleteFunc(codes, func(c InviteCode) bool { return c.Disabled }), err
}

func yes(b *bool) bool { return b == nil || *b }

// earn makes the codes that an account has earned. Where its invites are disabled,
// they are made disabled: they do not come back when that is lifted.
func (s *Invites) earn(a *Account, own []InviteCode) (codes []InviteCode) {
	now := s.Now().UTC().Truncate(time.Millisecond)
	for range invitesEarned(a.CreatedAt, s.Epoch, now, s.Interval, own) {
		codes = append(codes, InviteCode{
			Code: NewInviteCode(s.Hostname), Available: 1, Disabled: a.InvitesDisabled,
			ForAccount: a.DID.String(), CreatedBy: a.DID.String(), CreatedAt: now,
		})
	}
	return codes
}
