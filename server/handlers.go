package server

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// handlers counts the requests that are being handled, including those that the
// http.Server no longer knows: whose connection was cut off, or became a stream.
type handlers struct {
	mu      sync.Mutex
	running int
	none    chan struct{} // set by wait: closed when the last one has ended
}

// of returns a handler whose requests are counted.
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

// count returns how many requests are being handled.
func (h *handlers) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running
}

// wait waits for a bounded time until no request is being handled, and returns how
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

// cutTimeout is how long requests have to notice that their connections were cut
// off.
const cutTimeout = 5 * time.Second

// settle waits for requests that are still being handled though nobody waits for
// their answers: they use the store, which is about to be closed.
func (s *Server) settle(ctx context.Context) {
	if left := s.handlers.wait(cutTimeout); left > 0 {
		s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "requests did not end in time", slog.Int("left", left))
	}
}
