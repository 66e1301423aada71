package xrpc_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"nestbox/ratelimit"
	"nestbox/xrpc"
)

// TestLimits: of several limits that count a request its answer names the one of
// which the least is left; the one that refuses before all others; and exempt
// clients none.
func TestLimits(t *testing.T) {
	wide, narrow := ratelimit.Limit{Name: "wide", Points: 100, Window: time.Minute}, ratelimit.Limit{Name: "narrow", Points: 6, Window: time.Hour}
	var limits *ratelimit.Limiter
	counted := func(which ...ratelimit.Limit) func(context.Context) error {
		return func(ctx context.Context) error {
			for _, l := range which {
				if err := xrpc.Admit(ctx, limits, "k", 2, l); err != nil {
					return err
				}
			}
			return nil
		}
	}
	s, _ := server(map[string]xrpc.Method{
		"a.b.wide": does(counted(wide)), "a.b.both": does(counted(wide, narrow)), "a.b.turned": does(counted(narrow, wide)),
	})
	s.Unlimited = func(r *http.Request, _ xrpc.Client) bool { return r.Header.Get("X-Pass") == "yes" }
	for what, path := range map[string]string{"both": "a.b.both", "the other first": "a.b.turned"} {
		limits = ratelimit.New(1000, time.Now) // room that two keys never share
		for _, want := range []struct {
			path            string
			status          int
			left, of, retry string
		}{
			{"a.b.wide", 200, "98", "100;w=60", ""},
			{path, 200, "4", "6;w=3600", ""},
			{path, 200, "2", "6;w=3600", ""},
			{path, 200, "0", "6;w=3600", ""},
			{path, 429, "0", "6;w=3600", "3600"},
		} {
			w := serve(s, get(t, want.path))
			h := w.Header()
			if w.Code != want.status || h.Get("RateLimit-Remaining") != want.left || h.Get("RateLimit-Policy") != want.of || h.Get("Retry-After") != want.retry {
				t.Errorf("%s: %s: %d %v, want %+v", what, want.path, w.Code, h, want)
			}
		}
		r := get(t, path)
		r.Header.Set("X-Pass", "yes")
		if w := serve(s, r); w.Code != 200 || w.Header().Get("RateLimit-Limit") != "" {
			t.Errorf("%s: exempt: %d %v", what, w.Code, w.Header())
		}
	}
	limits = nil
	if w := serve(s, get(t, "a.b.both")); w.Code != 200 || w.Header().Get("RateLimit-Limit") != "" {
		t.Errorf("no limits: %d %v", w.Code, w.Header())
	}
}
