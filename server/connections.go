package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"nestbox/ratelimit"
	"nestbox/request"
)

// mostConnections bounds the connections to the server's address. Further ones wait
// until others end; idle and slow ones end by their timeouts.
const mostConnections = 16_384

// maxConnections returns mostConnections, or half of the files that the process may
// open if that is less: the database, blobs and requests to others need some as well.
func maxConnections() (int, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("look up how many files may be open: %w", err)
	}
	return int(min(uint64(mostConnections), max(1, uint64(files.Cur)/2))), nil //nolint:unconvert // small; the type differs between systems
}

// networkPart: a network may hold at most one in so many of the places that are free.
// So one network alone holds a fifth of all at most, the next one a fifth of the rest:
// it takes dozens of networks to leave nobody a place.
const networkPart = 4

// limitedListener accepts a connection only while fewer than a limit are open, and
// closes one whose network has its share. Unlike netutil's, its connections can be
// closed in one direction, which net/http needs: it lets a client read a refusal before
// the rest of its request is cut off.
type limitedListener struct {
	net.Listener

	// network names what a connection's share is counted by; "" counts nothing.
	network func(net.Conn) string
	// refused is called for each connection that is closed for its network's share.
	refused func(network string)
	places  chan struct{}
	closed  chan struct{}
	once    sync.Once

	mu   sync.Mutex
	held map[string]int // by network
}

func limitConnections(l net.Listener, most int, network func(net.Conn) string, refused func(network string)) net.Listener {
	return &limitedListener{
		Listener: l, network: network, refused: refused,
		places: make(chan struct{}, most), closed: make(chan struct{}), held: map[string]int{},
	}
}

// Accept waits for a place, then for a connection that may have it.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.places
			return nil, err
		}
		network := l.network(c)
		if l.enter(network) {
			return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(network) })}, nil
		}
		_ = c.Close()
		l.refused(network)
	}
}

// enter counts a connection for its network, and reports whether it may stay.
func (l *limitedListener) enter(network string) bool {
	if network == "" {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if free := cap(l.places) - len(l.places); l.held[network]*networkPart > free {
		return false
	}
	l.held[network]++
	return true
}

// leave gives the place of a connection back.
func (l *limitedListener) leave(network string) {
	defer func() { <-l.places }()
	if network == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[network]--; l.held[network] == 0 {
		delete(l.held, network)
	}
}

// sharesPlaces returns the network that a connection is counted for: none if it comes
// from this machine or through a trusted proxy, behind which everybody is.
func (s *Server) sharesPlaces(c net.Conn) string {
	peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return ""
	}
	addr := peer.Addr().Unmap()
	if addr.IsLoopback() || s.trusts(addr) {
		return ""
	}
	return request.NetworkOf(addr).Widest()
}

// crowded limits the log lines about networks with too many connections.
var crowded = ratelimit.Limit{Name: "crowded", Points: 1, Window: time.Minute}

// logCrowded returns a function that writes down, once a minute, that a network has its
// share of connections.
func (s *Server) logCrowded(ctx context.Context) func(network string) {
	lines := ratelimit.New(1, s.opts.Now)
	return func(network string) {
		if lines.Take("", crowded).Allowed {
			s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "connections refused: one network has its share of them",
				slog.String("network", s.shownNetwork(network)))
		}
	}
}

// Close makes a waiting Accept return.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn gives its place back when it is closed.
type limitedConn struct {
	net.Conn

	leave func()
}

func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite ends what the server sends; the client's rest can still be read.
func (c *limitedConn) CloseWrite() error {
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return tcp.CloseWrite()
	}
	return nil
}
