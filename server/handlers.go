package server

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// handlers counts the requests that are being handled, also those that the
// http.Server knows nothing of any more: whose connection was cut off, or became
// a stream.
type handlers struct {
	mu      sync.Mutex
	running int
	none    chan struct{} // set by wait: closed when the last one has ended
}

// of counts the requests of a handler.
func (h *handlers) of(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.running++
		h.mu.Unlock()
		defer func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.running--; h.running == 0 && h.none != nil {
				close(h.none)
				h.none = nil
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// wait waits until none is being handled, for a bounded time, and returns how
// many are left. It is called once.
func (h *handlers) wait(within time.Duration) (left int) {
	h.mu.Lock()
	if h.running == 0 {
		h.mu.Unlock()
		return 0
	}
	none := make(chan struct{})
	h.none = none
	h.mu.Unlock()
	select {
	case <-none:
	case <-time.After(within):
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running
}

// cutTimeout is how long requests whose connections were cut off have to notice.
const cutTimeout = 5 * time.Second

// settle waits for what is still being handled once nobody waits for its answer:
// it uses the store, which is about to be closed.
func (s *Server) settle(ctx context.Context) {
	if left := s.handlers.wait(cutTimeout); left > 0 {
		s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "requests did not end in time", slog.Int("left", left))
	}
}
