package xrpc_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nestbox/xrpc"
)

// pipeListener hands one connection to a server.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// TestReceiveWorksOn: once the body is there, a handler may take its time. The
// deadline of the body's last part is not the client's leaving, and the answer
// has its own.
func TestReceiveWorksOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone error
		s, _ := server(map[string]xrpc.Method{
			"com.example.slow": xrpc.Receive(anyone, func(ctx context.Context, _ struct{}, in xrpc.Upload) (struct{ N int }, error) {
				body, err := io.ReadAll(in)
				if err != nil {
					return struct{ N int }{}, err
				}
				if n, err := in.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) { // as readers with a buffer may
					t.Errorf("behind the end: %d, %v", n, err)
				}
				select {
				case <-time.After(30 * time.Minute):
				case <-ctx.Done():
				}
				gone = ctx.Err()
				return struct{ N int }{len(body)}, nil
			}),
		})
		l := &pipeListener{make(chan net.Conn), make(chan struct{})}
		srv := &http.Server{Handler: s, ReadTimeout: time.Minute, WriteTimeout: time.Minute}
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(l) }()
		client, end := net.Pipe()
		l.conns <- end
		_, err := io.WriteString(client, "POST /xrpc/com.example.slow HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "5") || gone != nil {
			t.Errorf("status %d, body %q, %v; the handler saw %v", resp.StatusCode, body, err, gone)
		}
		_ = client.Close()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
}
