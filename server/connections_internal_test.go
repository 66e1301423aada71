package server

import (
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
	l := limitConnections(inner, 2)
	accepted := make(chan net.Conn)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
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
