package hosting

import (
	"context"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

// work knows whose identity a request is making or changing: one at a time, and Resume
// leaves it alone. The zero value is ready.
type work struct {
	mu   sync.Mutex
	dids map[syntax.DID]struct{}
}

// begin returns account.ErrStatusConflict where a request is at it already; else end
// is to be called.
func (w *work) begin(did syntax.DID) (end func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, busy := w.dids[did]; busy {
		return nil, account.ErrStatusConflict
	}
	if w.dids == nil {
		w.dids = map[syntax.DID]struct{}{}
	}
	w.dids[did] = struct{}{}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.dids, did)
	}, nil
}

func (w *work) busy(did syntax.DID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, busy := w.dids[did]
	return busy
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
