package request_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	"nestbox/internal/gate"
	"nestbox/ratelimit"
	"nestbox/request"
)

// customer is the n-th /64 of one provider's customer, who has a /48.
func customer(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:1:%x::1", n)) }

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]struct{ customer, widest string }{
		"192.0.2.1":                 {"192.0.2.1", "192.0.2.1"},
		"2001:db8:1:2:3:4:5:6":      {"2001:db8:1:2::/64", "2001:db8:1::/48"},
		"2001:db8:1:2:ffff:ffff::1": {"2001:db8:1:2::/64", "2001:db8:1::/48"},
		"2001:db8:1:3::1":           {"2001:db8:1:3::/64", "2001:db8:1::/48"},
		"2001:db8:2:3::1":           {"2001:db8:2:3::/64", "2001:db8:2::/48"},
		"::1":                       {"::/64", "::/48"},
	} {
		if got := (request.Client{Addr: netip.MustParseAddr(addr)}).Network(); got.String() != want.customer || got.Widest() != want.widest {
			t.Errorf("%s: %q, %q, want %+v", addr, got, got.Widest(), want)
		}
	}
	if got := (request.Client{}).Network(); got.String() != "" || got.Widest() != "" || got.Shares(gate.Share[string]{Most: 1}, 10) != nil {
		t.Errorf("no address: %q", got)
	}
}

// TestShares: a /48 has four times what a /64 has, but never more than half of all;
// nothing bounds a client that the operator exempted.
func TestShares(t *testing.T) {
	v6 := request.Client{Addr: customer(2)}
	each := gate.Share[string]{Most: 16, Waiting: 64}
	want := []gate.Share[string]{{Key: "2001:db8:1:2::/64", Most: 16, Waiting: 64}, {Key: "2001:db8:1::/48", Most: 64, Waiting: 64}}
	if got := v6.Shares(each, 128); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	want[1].Most, want[1].Waiting = 64, 256
	if got := v6.Shares(each, 1000); !slices.Equal(got, want) {
		t.Errorf("of many: %v, want %v", got, want)
	}
	each.Most, each.Waiting = 0, 100
	want = []gate.Share[string]{{Key: "2001:db8:1:2::/64", Waiting: 100}, {Key: "2001:db8:1::/48", Waiting: 100}}
	if got := v6.Shares(each, 128); !slices.Equal(got, want) {
		t.Errorf("nearly all, and no bound: %v, want %v", got, want)
	}
	if got := (request.Client{Addr: netip.MustParseAddr("192.0.2.1")}).Shares(each, 128); len(got) != 1 || got[0].Key != "192.0.2.1" {
		t.Errorf("IPv4: %v", got)
	}
	if got := (request.Client{Addr: customer(2), Unlimited: true}).Shares(each, 128); got != nil {
		t.Errorf("exempt: %v", got)
	}
}

// TestOpen: some places are kept for networks that are known.
func TestOpen(t *testing.T) {
	for _, c := range []struct {
		client          request.Client
		all, kept, open int
	}{
		{request.Client{Addr: customer(1)}, 128, 16, 112},
		{request.Client{Addr: customer(1)}, 4, 200, 3},
		{request.Client{Addr: customer(1)}, 1, 1, 1},
		{request.Client{Addr: customer(1), Known: true}, 128, 16, 128},
		{request.Client{Addr: customer(1), Unlimited: true}, 128, 16, 128},
		{request.Client{}, 128, 16, 128}, // the command line
	} {
		if got := c.client.Open(c.all, c.kept); got != c.open {
			t.Errorf("%+v: %d of %d, want %d", c.client, got, c.all, c.open)
		}
	}
}

// TestAdmitNetwork: a customer with a whole /48 has four times the points of a limit,
// from however many networks; an attempt that the /48 refuses takes no points of its
// own network.
func TestAdmitNetwork(t *testing.T) {
	limit := ratelimit.Limit{Name: "l", Points: 10, Window: time.Minute}
	for name, admit := range map[string]func(context.Context, *ratelimit.Limiter, int, ...ratelimit.Limit) error{
		"admit": request.AdmitNetwork, "charge": request.ChargeNetwork,
	} {
		l := ratelimit.New(100_000, time.Now)
		try := func(addr netip.Addr) bool {
			err := admit(request.WithClient(t.Context(), request.Client{Addr: addr}), l, 1, limit)
			if many := (request.ErrTooMany{}); err != nil && !errors.As(err, &many) {
				t.Fatal(err)
			}
			return err == nil
		}
		admitted := 0
		for n := range 100 {
			for range 20 {
				if try(customer(n)) {
					admitted++
				}
			}
		}
		if admitted != 40 {
			t.Errorf("%s: a /48 was admitted %d times, want 40", name, admitted)
		}
		if r := l.TakeKeys([]ratelimit.Key{{Name: request.NetworkOf(customer(99)).String(), Times: 1}}, 10, limit); !r.Allowed {
			t.Errorf("%s: the /64 lost points by what the /48 refused", name)
		}
		neighbours := 0
		for range 20 {
			if try(netip.MustParseAddr("2001:db8:2::1")) {
				neighbours++
			}
			if try(netip.MustParseAddr("192.0.2.1")) {
				neighbours++
			}
		}
		if neighbours != 20 {
			t.Errorf("%s: neighbours were admitted %d times, want 20", name, neighbours)
		}
	}
}

// TestKnown: a network is known if an account's request, or one to be remembered,
// succeeded from it at least ten minutes ago; failures and strangers do not count.
func TestKnown(t *testing.T) {
	now := time.Unix(0, 0)
	f := &request.Front{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}
	known := false
	var do func(ctx context.Context) int
	h := f.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		known = request.ClientOf(r.Context()).Known
		w.WriteHeader(do(r.Context()))
	}))
	visit := func(addr string, with func(context.Context) int) bool {
		do = with
		r := get(t, "/")
		r.RemoteAddr = addr
		h.ServeHTTP(httptest.NewRecorder(), r)
		return known
	}
	for what, c := range map[string]struct {
		with func(context.Context) int
		want bool
	}{
		"[2001:db8:1::1]:1": {func(ctx context.Context) int { request.SetAccount(ctx, "did:plc:a"); return 200 }, true},
		"[2001:db8:2::1]:1": {func(ctx context.Context) int { request.Remember(ctx); return 200 }, true},
		"[2001:db8:3::1]:1": {func(ctx context.Context) int { request.SetAccount(ctx, "did:plc:a"); return 401 }, false},
		"[2001:db8:4::1]:1": {func(context.Context) int { return 200 }, false},
		"192.0.2.1:1":       {func(ctx context.Context) int { request.Remember(ctx); return 200 }, true},
		"192.0.2.2:1": {func(ctx context.Context) int {
			request.Remember(ctx)
			request.Fail(ctx, 503, "x", nil)
			return 200
		}, false},
	} {
		for range 3 {
			if visit(what, c.with) {
				t.Errorf("%s is known at once", what)
			}
		}
		now = now.Add(10 * time.Minute)
		visit(what, c.with)
		if got := visit(what, c.with); got != c.want {
			t.Errorf("%s: known %t, want %t", what, got, c.want)
		}
	}
	if !visit("[2001:db8:1:5::1]:1", func(context.Context) int { return 200 }) {
		t.Error("another network of a known /48 is not known")
	}
	// A stream that lasts so long is enough by itself.
	visit("192.0.2.3:1", func(ctx context.Context) int {
		request.Remember(ctx)
		now = now.Add(time.Hour)
		return 200
	})
	if !visit("192.0.2.3:1", func(context.Context) int { return 200 }) {
		t.Error("a stream of an hour is not remembered")
	}
}
