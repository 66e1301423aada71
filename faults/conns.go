package faults

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// connections are those to the public server, so that they can be ended as a network or a crash
// ends them.
type connections struct {
	mu   sync.Mutex
	open map[string]*net.TCPConn // by the client's address
	// away is until when new ones are reset.
	away     time.Time
	restarts atomic.Int64 // how often all were reset
}

// Listener returns l, whose connections are known. Those of other networks than TCP are not.
func (f *Faults) Listener(l net.Listener) net.Listener {
	return &listener{l, &f.connections, sync.OnceFunc(f.stop)}
}

type listener struct {
	net.Listener

	all  *connections
	stop func()
}

// Close implements net.Listener. The server stops: those who watch must not hold it up.
func (l *listener) Close() error {
	l.stop()
	return l.Listener.Close()
}

// stop ends what waits for calls or lasts: no account stays down, and those who watch leave.
func (f *Faults) stop() {
	close(f.stopped())
	f.liftAll(context.Background())
}

// Accept returns the next connection. While the server is away it resets them.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			return c, nil
		}
		if l.all.add(tcp) {
			return &known{tcp, l.all}, nil
		}
		reset(tcp)
	}
}

// known is a connection that is forgotten when it is closed.
type known struct {
	*net.TCPConn

	all *connections
}

// Close implements net.Conn.
func (c *known) Close() error {
	c.all.remove(c.TCPConn)
	return c.TCPConn.Close()
}

// add reports whether a new connection may stay.
func (a *connections) add(c *net.TCPConn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Now().Before(a.away) {
		return false
	}
	if a.open == nil {
		a.open = map[string]*net.TCPConn{}
	}
	a.open[c.RemoteAddr().String()] = c
	return true
}

func (a *connections) remove(c *net.TCPConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if from := c.RemoteAddr().String(); a.open[from] == c {
		delete(a.open, from)
	}
}

// back ends a restart.
func (a *connections) back() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away = time.Time{}
}

// reset resets the connection from an address, and reports whether it knew one.
func (a *connections) reset(from string) bool {
	a.mu.Lock()
	c := a.open[from]
	a.mu.Unlock()
	if c == nil {
		return false
	}
	reset(c)
	return true
}

// restart resets all connections, and those that come within the next time.
func (a *connections) restart(away time.Duration) {
	a.restarts.Add(1)
	a.mu.Lock()
	a.away = time.Now().Add(away)
	all := a.open
	a.open = nil
	a.mu.Unlock()
	for _, c := range all {
		reset(c)
	}
}

// reset ends a connection as a crash does: what the client has not read is gone.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close() // it may have ended by itself
}
