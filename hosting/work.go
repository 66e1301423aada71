package hosting

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

// begin reserves an account's identity for one request, so that Resume leaves it
// alone. account.ErrStatusConflict if another request is making or changing it
// already, and the error of Held; otherwise call end.
func (s *Service) begin(did syntax.DID) (end func(), err error) {
	if s.Held != nil {
		if err := s.Held(); err != nil {
			return nil, err
		}
	}
	end, ok := s.work.TryLock(did)
	if !ok {
		return nil, account.ErrStatusConflict
	}
	return end, nil
}

// young reports whether a submission begun at begunAt could still reach the
// directory, even if the process that sent it has died.
func (s *Service) young(begunAt time.Time) bool { return !s.older(begunAt, submitTimeout+time.Second) }

// older reports whether begunAt is at least d ago. While the clock cannot be trusted,
// nothing is.
func (s *Service) older(begunAt time.Time, d time.Duration) bool {
	now := s.now()
	return s.sure() && now.Sub(begunAt) >= d
}

// submitting returns a context for submitting a change. It outlives the request: a
// client that disconnects must not leave the change half done.
func (s *Service) submitting(ctx context.Context, begunAt time.Time) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), submitTimeout-s.now().Sub(begunAt))
}

// acting returns ctx with who as the acting admin; an empty who leaves ctx
// unchanged.
func acting(ctx context.Context, who string) context.Context {
	if who == "" {
		return ctx
	}
	return account.ActingAs(ctx, who)
}
