package admin

import (
	"context"

	"nestbox/account"
)

// NoteBackup writes to the audit log that the operator makes a backup: in which store, and
// how.
func (s *Service) NoteBackup(ctx context.Context, store, how string) error {
	return s.Store.Note(ctx, s.action(account.ActingAs(ctx, operator), ActionBackup, "", store, how))
}

// BeginExport finds the account of which the operator takes an archive, and writes that to the
// audit log. The context that it returns is the operator's.
func (s *Service) BeginExport(ctx context.Context, who string) (context.Context, *account.Account, error) {
	a, err := s.find(ctx, who)
	if err != nil {
		return ctx, nil, err
	}
	ctx = account.ActingAs(ctx, operator)
	return ctx, a, s.Store.Note(ctx, s.action(ctx, ActionExport, a.DID, "", "everything"))
}
