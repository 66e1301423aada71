package admin

import (
	"context"
	"fmt"
)

// DropArgs name a record by its key in the tree, collection/rkey.
type DropArgs struct {
	Account string `json:"account"`
	Key     string `json:"key"`
}

// DropLine is the repository's commit after a record was dropped.
type DropLine struct {
	DID string `json:"did"`
	CID string `json:"cid"`
	Rev string `json:"rev"`
}

// dropRecord removes a record that no client can delete.
func (s *Service) dropRecord(ctx context.Context, a DropArgs) (DropLine, error) {
	acc, err := s.find(ctx, a.Account)
	if err != nil {
		return DropLine{}, err
	}
	of, err := s.Repos.Accounts.Find(ctx, acc.DID.AtIdentifier())
	if err != nil {
		return DropLine{}, fmt.Errorf("%q: %w", a.Account, err)
	}
	// Logged first, so that no removal is missing from the audit log.
	if err := s.Store.Note(ctx, s.action(ctx, ActionDrop, of.DID, a.Key, "")); err != nil {
		return DropLine{}, err
	}
	head, err := s.Repos.Drop(ctx, of, a.Key)
	if err != nil {
		return DropLine{}, err
	}
	return DropLine{DID: of.DID.String(), CID: head.CID.String(), Rev: head.Rev.String()}, nil
}
