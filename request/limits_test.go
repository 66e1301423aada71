package request_test

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"testing"
	"time"

	"nestbox/ratelimit"
	"nestbox/request"
)

// TestLimits: if several limits count a request, its answer names the one that
// refuses, else the one with the least left; an exempt client's answer names
// none.
func TestLimits(t *testing.T) {
	wide, narrow := ratelimit.Limit{Name: "wide", Points: 100, Window: time.Minute}, ratelimit.Limit{Name: "narrow", Points: 6, Window: time.Hour}
	var limits *ratelimit.Limiter
	which := map[string][]ratelimit.Limit{"/wide": {wide}, "/both": {wide, narrow}, "/turned": {narrow, wide}}
	handle := func(w http.ResponseWriter, r *http.Request) {
		for _, l := range which[r.URL.Path] {
			err := request.Admit(r.Context(), limits, "k", 2, l)
			if many, ok := errors.AsType[request.ErrTooMany](err); ok {
				w.Header().Set("Retry-After", strconv.Itoa(int(many.Wait.Round(time.Second).Seconds())))
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
		}
	}
	s := front(slog.DiscardHandler)
	s.Unlimited = func(r *http.Request, _ request.Client) bool { return r.Header.Get("X-Pass") == "yes" }
	for what, path := range map[string]string{"both": "/both", "the other first": "/turned"} {
		limits = ratelimit.New(1000, time.Now) // room that two keys never share
		for _, want := range []struct {
			path            string
			status          int
			left, of, retry string
		}{
			{"/wide", 200, "98", "100;w=60", ""},
			{path, 200, "4", "6;w=3600", ""},
			{path, 200, "2", "6;w=3600", ""},
			{path, 200, "0", "6;w=3600", ""},
			{path, 429, "0", "6;w=3600", "3600"},
		} {
			w := serve(s, handle, get(t, want.path))
			h := w.Header()
			if w.Code != want.status || h.Get("RateLimit-Remaining") != want.left || h.Get("RateLimit-Policy") != want.of || h.Get("Retry-After") != want.retry {
				t.Errorf("%s: %s: %d %v, want %+v", what, want.path, w.Code, h, want)
			}
		}
		r := get(t, path)
		r.Header.Set("X-Pass", "yes")
		if w := serve(s, handle, r); w.Code != 200 || w.Header().Get("RateLimit-Limit") != "" {
			t.Errorf("%s: exempt: %d %v", what, w.Code, w.Header())
		}
	}
	limits = nil
	if w := serve(s, handle, get(t, "/both")); w.Code != 200 || w.Header().Get("RateLimit-Limit") != "" {
		t.Errorf("no limits: %d %v", w.Code, w.Header())
	}
}
