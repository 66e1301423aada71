package admin

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// repeatStatus appends an account's status to the event log again: operators use it
// for relays that missed it.
func (s *Service) repeatStatus(ctx context.Context, did syntax.DID) error {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return err
	}
	if err := s.Store.Note(ctx, s.action(ctx, ActionStatusRepeated, did, "", "")); err != nil {
		return err
	}
	return s.Accounts.RepeatStatus(ctx, a.ID, s.Now())
}

// TakedownContent takes a record or a blob of an account down, or lifts the
// takedown.
func (s *Service) TakedownContent(ctx context.Context, did syntax.DID, t Takedown, applied bool) error {
	what, details := ActionTakedownLifted, ""
	if applied {
		what = ActionTakedown
		if t.Ref != "" {
			details = "ref " + quote(t.Ref)
		}
	}
	return s.Store.SetTakedown(ctx, did, t, applied, s.action(ctx, what, did, t.Subject, details))
}
