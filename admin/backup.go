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
