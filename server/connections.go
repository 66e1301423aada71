package server

import (
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"
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

// limitedListener accepts a connection only while fewer than a limit are open. Unlike
// netutil's, its connections can be closed in one direction, which net/http needs:
// it lets a client read a refusal before the rest of its request is cut off.
type limitedListener struct {
	net.Listener

	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func limitConnections(l net.Listener, most int) net.Listener {
	return &limitedListener{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept waits for a place, then for a connection.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
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
