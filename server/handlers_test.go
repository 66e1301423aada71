package server

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// TestHandlers: wait returns when the last request has ended, or when that takes
// too long.
func TestHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h handlers
		if left := h.wait(time.Hour); left != 0 {
			t.Errorf("%d are left of none", left)
		}
		end := make(chan struct{})
		counted := h.of(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
		handle := func() {
			defer func() { _ = recover() }()
			counted.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
		}
		go handle()
		go handle()
		synctest.Wait()
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			end <- struct{}{}
			time.Sleep(time.Second)
			end <- struct{}{}
		}()
		if left := h.wait(time.Hour); left != 0 || time.Since(began) != 2*time.Second {
			t.Errorf("%d are left after %s", left, time.Since(began))
		}
		go handle()
		synctest.Wait()
		if left := h.wait(time.Minute); left != 1 {
			t.Errorf("%d are left of one that does not end", left)
		}
		close(end)
	})
}
