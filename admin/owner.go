package admin

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

// The arguments of commands about an owner's ways in.
type (
	HandleArgs struct {
		Account string `json:"account"`
		Handle  string `json:"handle"`
	}
)

// setHandle gives an account another handle, as updateAccountHandle does.
func (s *Service) setHandle(ctx context.Context, a HandleArgs) (AccountLine, error) {
	return s.change(ctx, a.Account, func(acc *account.Account) (*account.Account, error) {
		if err := s.Hosting.SetHandle(ctx, acc, a.Handle, account.ActorAdmin); err != nil {
			return nil, err
		}
		return s.Accounts.ByDID(ctx, acc.DID)
	})
}

// mailReset sends the owner the code for a new password. The limits of strangers who ask for
// it do not count.
func (s *Service) mailReset(ctx context.Context, a AccountArgs) (AccountLine, error) {
	return s.change(ctx, a.Account, func(acc *account.Account) (*account.Account, error) {
		if acc.Email == "" {
			return nil, errNoAddress
		}
		if err := s.Store.Note(ctx, s.action(ctx, ActionResetMail, acc.DID, "", "")); err != nil {
			return nil, err
		}
		return acc, s.Codes.Send(ctx, acc, account.PurposeResetPassword)
	})
}

// setOwnInvites lets an account earn invite codes that work, or stops it.
func (s *Service) setOwnInvites(ctx context.Context, a SwitchArgs) (AccountLine, error) {
	kind := account.EntryInvitesDisabled
	if a.On {
		kind = account.EntryInvitesEnabled
	}
	return s.moderate(ctx, a.Account, func(did syntax.DID) (*account.Account, error) {
		return s.measure(ctx, did, account.StatusChange{InvitesDisabled: new(!a.On)}, s.entry(ctx, kind))
	})
}
