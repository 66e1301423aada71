package admin

import (
	"context"

	"nestbox/hosting"
)

// RepairArgs are the arguments of identity.repair.
type RepairArgs struct {
	Account string `json:"account"`
	// Force brings an account back that has moved out.
	Force bool `json:"force"`
}

func (s *Service) showIdentity(ctx context.Context, a AccountArgs) (hosting.IdentityReport, error) {
	acc, err := s.find(ctx, a.Account)
	if err != nil {
		return hosting.IdentityReport{}, err
	}
	return s.Hosting.ShowIdentity(ctx, acc)
}

func (s *Service) rotateSigningKey(ctx context.Context, a AccountArgs) (hosting.IdentityReport, error) {
	acc, err := s.find(ctx, a.Account)
	if err == nil {
		err = s.Hosting.ChangeKey(ctx, acc)
	}
	if err != nil {
		return hosting.IdentityReport{}, err
	}
	return s.showIdentity(ctx, a)
}

func (s *Service) repairIdentity(ctx context.Context, a RepairArgs) (hosting.IdentityReport, error) {
	acc, err := s.find(ctx, a.Account)
	if err != nil {
		return hosting.IdentityReport{}, err
	}
	if err := s.Store.Note(ctx, s.action(ctx, ActionIdentityRepaired, acc.DID, "", "")); err != nil {
		return hosting.IdentityReport{}, err
	}
	return s.Hosting.RepairIdentity(ctx, acc, a.Force)
}
