package hosting

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

// begin keeps an account's identity for one request, and Resume away from it.
// account.ErrStatusConflict where another request makes or changes it already; else
// end is to be called.
func (s *Service) begin(did syntax.DID) (end func(), err error) {
	end, ok := s.work.TryLock(did)
	if !ok {
		return nil, account.ErrStatusConflict
	}
	return end, nil
}

// young says whether a directory may still come to take what was begun then, though
// the process that has sent it is gone.
func (s *Service) young(begunAt time.Time) bool {
	return s.now().Sub(begunAt) < submitTimeout+time.Second
}

// submitting bounds the submission of what has begun then. It cannot be called off,
// so a client that leaves must not leave things half done.
func (s *Service) submitting(ctx context.Context, begunAt time.Time) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), submitTimeout-s.now().Sub(begunAt))
}

// acting is ctx with who began it as the admin who acts, unless nobody is named.
func acting(ctx context.Context, who string) context.Context {
	if who == "" {
		return ctx
	}
	return account.ActingAs(ctx, who)
}
