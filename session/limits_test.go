package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/request"
	"nestbox/xrpc"
)

const (
	home      = "192.0.2.1"
	elsewhere = "198.51.100.1"
	wrongApp  = "aaaa-bbbb-cccc-dddd" // has the form of an app password
)

// attempts makes n sign-ins from one address and fails the test unless each gets
// want.
func (w *world) attempts(n int, addr, identifier, password, want string) {
	w.t.Helper()
	for i := range n {
		if _, err := w.signIn(from(w.t.Context(), addr, "test"), identifier, password); wire(err) != want {
			w.t.Fatalf("attempt %d by %s as %q: got %q, want %q", i+1, addr, identifier, wire(err), want)
		}
	}
}

// signInHeader signs in once, and returns the answer's headers and error.
func (w *world) signInHeader(addr, identifier, password string) (http.Header, error) {
	w.t.Helper()
	ctx := from(w.t.Context(), addr, "test")
	_, err := w.signIn(ctx, identifier, password)
	return request.Header(ctx), err
}

// TestLimitOfFailures: 30 failures in five minutes by one network at one account,
// whichever of its names is used.
func TestLimitOfFailures(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.account("alice", cheapHash(password))
	w.account("bob", cheapHash(password))
	for i := range 30 {
		names := []string{"alice.test", "ALICE@example.com", "did:plc:alice", "@Alice.Test", "al\u200bice@example.com"}
		w.attempts(1, home, names[i%len(names)], "wrong", wireWrong)
	}
	for _, name := range []string{"alice.test", "alice@example.com", "did:plc:alice"} {
		w.attempts(1, home, name, "wrong", wireTooMany)
		w.attempts(1, home, name, password, wireTooMany)
	}
	w.attempts(1, home, "bob.test", password, wireOK) // a neighbour
	w.clock.Advance(5*time.Minute - time.Second)
	w.attempts(1, home, "alice.test", password, wireTooMany)
	w.clock.Advance(time.Second)
	w.attempts(30, home, "alice.test", "wrong", wireWrong)
	w.attempts(1, home, "alice.test", password, wireTooMany)
	w.attempts(1, elsewhere, "alice.test", password, wireOK) // the owner, from elsewhere
}

// TestLimitOfACustomer: a customer with a /48 guesses four times as often at one
// account as one network does, and does not lock out its owner elsewhere.
func TestLimitOfACustomer(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.account("alice", cheapHash(password))
	for n := range 4 {
		w.attempts(30, fmt.Sprintf("2001:db8:1:%x::1", n), "alice.test", "wrong", wireWrong)
	}
	for n := range 8 {
		w.attempts(1, fmt.Sprintf("2001:db8:1:%x::1", n), "alice.test", "wrong", wireTooMany)
	}
	w.attempts(1, "2001:db8:2::1", "alice.test", password, wireOK)
	w.attempts(1, home, "alice.test", password, wireOK)
}

// TestLimitOfUnknown: an identifier that belongs to nobody is counted like one
// that does.
func TestLimitOfUnknown(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.account("alice", cheapHash(password))
	w.attempts(30, home, "nobody.test", "wrong", wireWrong)
	w.attempts(1, home, "@NOBODY.test", "wrong", wireTooMany)
	w.attempts(1, home, "alice.test", password, wireOK)
}

// TestLimitOfADay: 300 failures a day by one network at one account.
func TestLimitOfADay(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.account("alice", cheapHash(password))
	for range 10 {
		w.attempts(30, home, "alice.test", "wrong", wireWrong)
		w.clock.Advance(5 * time.Minute)
	}
	_, err := w.signInHeader(home, "alice.test", password)
	if wire(err) != wireTooMany {
		t.Fatalf("attempt 301: %q", wire(err))
	}
	if e, _ := errors.AsType[*xrpc.Error](err); e.RetryAfter != day-50*time.Minute {
		t.Errorf("retry after %s", e.RetryAfter)
	}
	w.attempts(1, elsewhere, "alice.test", password, wireOK)
	w.clock.Advance(day - 50*time.Minute - time.Second)
	w.attempts(1, home, "alice.test", password, wireTooMany)
	w.clock.Advance(time.Second)
	w.attempts(1, home, "alice.test", password, wireOK)
}

// TestLimitOfANetwork: 100 failures in five minutes by one network, at however
// many accounts. An IPv6 network is a /64.
func TestLimitOfANetwork(t *testing.T) {
	for _, c := range []struct{ name, other string }{
		{home, elsewhere},
		{"2001:db8:0:1::%x", "2001:db8:0:2::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			address := func(i int) string {
				if a, err := netip.ParseAddr(c.name); err == nil {
					return a.String()
				}
				return fmt.Sprintf(c.name, i+1)
			}
			for i := range 5 {
				w.account("a"+strconv.Itoa(i), cheapHash(password))
			}
			for i := range 100 {
				w.attempts(1, address(i), fmt.Sprintf("a%d.test", i%4), "wrong", wireWrong)
			}
			w.attempts(1, address(200), "a4.test", password, wireTooMany)
			w.attempts(1, c.other, "a4.test", password, wireOK)
			w.clock.Advance(5 * time.Minute)
			w.attempts(1, address(0), "a4.test", password, wireOK)
		})
	}
}

// TestLimitOfSuccesses: successes take nothing from the failures, nor the other
// way round; they have a bucket ten times as wide.
func TestLimitOfSuccesses(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	app := w.appPassword(a, "phone", false)
	w.attempts(29, home, "alice.test", "wrong", wireWrong)
	w.attempts(3, home, "alice.test", password, wireOK)
	w.attempts(1, home, "alice.test", "wrong", wireWrong)
	w.attempts(1, home, "alice.test", "wrong", wireTooMany)
	w.attempts(297, home, "alice.test", app, wireOK) // app passwords cost no computation
	w.attempts(1, home, "alice.test", app, wireTooMany)
	w.attempts(1, elsewhere, "alice.test", app, wireOK)
	w.clock.Advance(5 * time.Minute)
	w.attempts(1, home, "alice.test", app, wireOK)
}

// TestLimitOfApps: one app with a revoked password, trying for ever, does not
// lock the owner out.
func TestLimitOfApps(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	app := w.appPassword(a, "phone", false)
	w.attempts(30, home, "alice.test", wrongApp, wireWrong)
	w.attempts(10, home, "alice.test", wrongApp, wireTooMany)
	w.attempts(29, home, "alice.test", "wrong", wireWrong) // the owner's own tries are all there
	w.attempts(1, home, "alice.test", password, wireOK)
	w.attempts(1, home, "alice.test", app, wireTooMany) // apps of one network share their bucket
	w.clock.Advance(5 * time.Minute)
	w.attempts(1, home, "alice.test", app, wireOK)

	// 100 failures of apps stop the network's apps, and still not the owner.
	for i := range 4 {
		w.account("b"+strconv.Itoa(i), cheapHash(password))
	}
	for i := range 100 {
		w.attempts(1, home, fmt.Sprintf("b%d.test", i%4), wrongApp, wireWrong)
	}
	w.attempts(1, home, "alice.test", app, wireTooMany)
	w.attempts(1, home, "alice.test", password, wireOK)
}

// TestLimitCountsAttemptsOnly: a sign-in that is not a guess costs nothing.
func TestLimitCountsAttemptsOnly(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	w.takedown(a, true)
	w.attempts(40, home, "alice.test", string(make([]rune, 513)), wireTooLong)
	w.attempts(2, home, "alice.test", password, wireTakedown)
	gone, cancel := context.WithCancel(from(t.Context(), home, "test"))
	cancel()
	for range 40 {
		if _, err := w.signIn(gone, "alice.test", "wrong"); err == nil {
			t.Fatal("signed in for a client that left")
		}
	}
	if h, err := w.signInHeader(home, "alice.test", "wrong"); wire(err) != wireWrong || h.Get("RateLimit-Remaining") != "29" {
		t.Errorf("first guess: %q, %v", wire(err), h)
	}
}

// TestLimitUnlimited: clients that the operator exempted are not counted, and get
// no headers.
func TestLimitUnlimited(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.account("alice", cheapHash(password))
	ctx := request.WithClient(t.Context(), request.Client{Addr: netip.MustParseAddr(home), Unlimited: true})
	for range 40 {
		if _, err := w.signIn(ctx, "alice.test", "wrong"); wire(err) != wireWrong {
			t.Fatal(wire(err))
		}
	}
	if h := request.Header(ctx); len(h) > 0 {
		t.Errorf("headers %v", h)
	}
	w.attempts(30, home, "alice.test", "wrong", wireWrong)
}

// TestLimitTogether: attempts at the same time cannot pass a limit together.
func TestLimitTogether(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.account("alice", cheapHash(password))
	var wrong, many atomic.Int64
	var all sync.WaitGroup
	for range 120 {
		all.Go(func() {
			switch _, err := w.signIn(from(t.Context(), home, "test"), "alice.test", "wrong"); wire(err) {
			case wireWrong:
				wrong.Add(1)
			case wireTooMany:
				many.Add(1)
			}
		})
	}
	all.Wait()
	if wrong.Load() != 30 || many.Load() != 90 {
		t.Errorf("%d were tried and %d refused, of 120", wrong.Load(), many.Load())
	}
}

// TestLimitHeaders: RateLimit-* on every answer, Retry-After on refusals.
func TestLimitHeaders(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	app := w.appPassword(a, "phone", false)
	reset := strconv.FormatInt(w.clock.Now().Add(5*time.Minute).Unix(), 10)
	check := func(what, password, want, remaining string, retry time.Duration) {
		t.Helper()
		h, err := w.signInHeader(home, "alice.test", password)
		if wire(err) != want {
			t.Fatalf("%s: got %q, want %q", what, wire(err), want)
		}
		for name, want := range map[string]string{
			"RateLimit-Limit": "30", "RateLimit-Remaining": remaining, "RateLimit-Reset": reset, "RateLimit-Policy": "30;w=300",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q, want %q", what, name, h.Get(name), want)
			}
		}
		if e, ok := errors.AsType[*xrpc.Error](err); ok && e.RetryAfter != retry {
			t.Errorf("%s: retry after %s, want %s", what, e.RetryAfter, retry)
		}
	}
	check("a first failure", "wrong", wireWrong, "29", 0)
	check("an app's success", app, wireOK, "30", 0)
	w.clock.Advance(100 * time.Second)
	for i := 28; i >= 1; i-- {
		check("a failure", "wrong", wireWrong, strconv.Itoa(i), 0)
	}
	check("a success", password, wireOK, "1", 0)
	check("the last failure", "wrong", wireWrong, "0", 0)
	check("one too many", "wrong", wireTooMany, "0", 200*time.Second)
	w.clock.Advance(199*time.Second + 500*time.Millisecond)
	check("one too many, at the end", "wrong", wireTooMany, "0", time.Second)
}

// TestLimitOfTakenDown: the right password of a taken-down account is a guess
// that succeeded.
func TestLimitOfTakenDown(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	app := w.appPassword(a, "phone", false)
	w.takedown(a, true)
	w.attempts(29, home, "alice.test", "wrong", wireWrong)
	w.attempts(1, home, "alice.test", password, wireTakedown)
	w.attempts(1, home, "alice.test", "wrong", wireWrong)
	w.attempts(1, home, "alice.test", password, wireTooMany)
	// Its app passwords are wrong now, and count as wrong.
	if h, err := w.signInHeader(home, "alice.test", app); wire(err) != wireWrong || h.Get("RateLimit-Remaining") != "29" {
		t.Errorf("app password: %q, %v", wire(err), h)
	}
}
