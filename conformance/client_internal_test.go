package conformance

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// TestGap: calls to a host that is not on this machine keep their distance, but for those
// that are to come at once; the next one waits for them, too.
func TestGap(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	c := newClient(Target{Origin: srv.URL}, "test", 5)
	q := call{path: "/"}
	began := time.Now()
	c.do(t.Context(), q)
	c.do(t.Context(), q)
	if d := time.Since(began); d < gap {
		t.Errorf("two calls in %s", d)
	}

	c.gap = time.Hour
	c.do(t.Context(), q) // the next is an hour away
	patient, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	c.burst(2)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if a := c.do(patient, q); a.status != statusOK {
				t.Errorf("one of two at once: %+v", a)
			}
		})
	}
	all.Wait()
	if wait := time.Until(c.ready); wait < 2*time.Hour {
		t.Errorf("the call after them waits for %s", wait)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if a := c.do(stopped, q); a.err == nil {
		t.Errorf("a call after the end: %+v", a)
	}
	c.ready = time.Time{}
	if a := c.do(t.Context(), q); a.err == nil || c.made() != 5 {
		t.Errorf("a sixth call of five: %+v, %d", a, c.made())
	}
}

// TestEnd: no call goes on beyond the end of the run.
func TestEnd(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	c := newClient(Target{Origin: srv.URL}, "test", 1)
	c.end = time.Now().Add(30 * time.Millisecond)
	began := time.Now()
	if a := c.do(t.Context(), call{path: "/"}); !a.lost || time.Since(began) > callTime/2 {
		t.Errorf("%+v after %s", a, time.Since(began))
	}
}
