package e2e

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// gate is a proxy, at the address that clients know, before a server that is
// killed and started again. A client that connects meanwhile waits: indigo's
// programs stay away for seconds from a port that nobody listens on, and would
// miss the next kill.
type gate struct {
	// address is the clients', backend the server's: the same port, on another
	// address of the loopback, since the server's URL has the port that it listens on.
	address, backend string

	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
}

// otherLoopback returns a host on the loopback beside 127.0.0.1: macOS has no
// other in 127.0.0.0/8, and Linux not always one in IPv6.
func otherLoopback() string {
	if runtime.GOOS == "darwin" {
		return "[::1]"
	}
	return "127.0.0.2"
}

// newGate makes a gate that is shut, until the end of the test.
func newGate(t *testing.T) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	g := &gate{address: address, backend: strings.Replace(address, "127.0.0.1", otherLoopback(), 1), open: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			passing.Go(func() { g.pass(ctx, client) })
		}
	})
	t.Cleanup(func() { cancel(); _ = l.Close(); passing.Wait() })
	return g
}

// pass lets a client through once the gate is open.
func (g *gate) pass(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
	case <-ctx.Done():
		return
	}
	var d net.Dialer
	server, err := d.DialContext(ctx, "tcp", g.backend)
	if err != nil {
		return // killed in this moment
	}
	end := func() { _, _ = client.Close(), server.Close() }
	defer context.AfterFunc(ctx, end)()
	var copying sync.WaitGroup
	for to, from := range map[net.Conn]net.Conn{client: server, server: client} {
		copying.Go(func() {
			_, _ = io.Copy(to, from) // until one of them is gone
			end()
		})
	}
	copying.Wait()
}

// past dials the server behind the gate. A request that waits at the gate would
// be carried out after its client has given up, and has checked what was done.
func (g *gate) past(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, g.backend)
}

// swing opens or shuts the gate; connected clients stay connected.
func (g *gate) swing(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if open {
		close(g.open)
	} else {
		g.open = make(chan struct{})
	}
}
