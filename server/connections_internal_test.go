package server

import (
	"context"
	"net"
	"testing"
	"time"
)

// TestLimitedListener: connections over the limit wait until others end; each can be
// closed in one direction; closing the listener ends a waiting Accept.
func TestLimitedListener(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	l := limitConnections(inner, 2, func(net.Conn) string { return "" }, func(string) { t.Error("a connection was refused") })
	accepted := make(chan net.Conn)
	ended := make(chan struct{})
	go acceptAll(l, accepted, ended)
	for range 3 {
		c, err := net.Dial("tcp", inner.Addr().String()) //nolint:noctx // at once
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Fatal("three connections are open, two are allowed")
	case <-time.After(50 * time.Millisecond):
	}
	half, ok := first.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("a connection cannot be closed in one direction")
	}
	if err := half.CloseWrite(); err != nil {
		t.Error(err)
	}
	for range 2 { // a second Close gives back no second place
		_ = first.Close()
	}
	third := <-accepted
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	<-ended
	_, _ = second.Close(), third.Close()
}

// TestConnectionShares: a network that opens as many connections as it can leaves
// places to every other one, and gets its own back when it closes some.
func TestConnectionShares(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	const most = 100
	networks := make(chan string, 1)
	accepted, refused := make(chan net.Conn), make(chan string)
	l := limitConnections(inner, most, func(net.Conn) string { return <-networks }, func(network string) { refused <- network })
	ended := make(chan struct{})
	go acceptAll(l, accepted, ended)
	t.Cleanup(func() { _ = l.Close() })
	// Shares that are broken fill the places, so that the next connection waits for ever.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	waits := func(network string, n int) {
		t.Helper()
		t.Fatalf("connection %d of %q is neither accepted nor refused: others hold all places", n, network)
	}
	// open dials as often as a network gets in, and returns the server's ends.
	open := func(network string, times int) (held []net.Conn) {
		t.Helper()
		for n := range times {
			select {
			case networks <- network:
			case <-ctx.Done():
				waits(network, n+1)
			}
			c, err := net.Dial("tcp", inner.Addr().String()) //nolint:noctx // at once
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			select {
			case s := <-accepted:
				held = append(held, s)
				t.Cleanup(func() { _ = s.Close() })
			case who := <-refused:
				if who != network {
					t.Errorf("%s was refused, not %s", who, network)
				}
				return held
			case <-ctx.Done():
				waits(network, n+1)
			}
		}
		return held
	}
	flood := open("a flood", most)
	if got := len(flood); got != most/5 {
		t.Errorf("one network holds %d of %d places", got, most)
	}
	for i := range 10 {
		network := string(rune('a' + i))
		if got := len(open(network, most)); got == 0 {
			t.Errorf("network %d found no place", i)
		}
	}
	if got := len(open("a person", 1)); got != 1 {
		t.Error("a person found no place behind eleven floods")
	}
	if got := len(open("", 2)); got != 2 {
		t.Errorf("%d connections through a proxy, want 2: they are not counted", got)
	}
	for _, c := range flood {
		_ = c.Close()
	}
	if got := len(open("a flood", 3)); got != 3 {
		t.Errorf("%d connections after all were closed", got)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	<-ended
}

// acceptAll passes on what a listener accepts until it is closed, and then closes ended.
func acceptAll(l net.Listener, accepted chan<- net.Conn, ended chan<- struct{}) {
	defer close(ended)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		accepted <- c
	}
}
