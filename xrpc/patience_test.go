package xrpc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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

// serveConn returns one connection to a server that has s for its handler.
func serveConn(t *testing.T, s http.Handler) net.Conn {
	t.Helper()
	l := &pipeListener{make(chan net.Conn), make(chan struct{})}
	closed := make(chan struct{})
	srv := &http.Server{Handler: s, ReadTimeout: time.Minute, WriteTimeout: time.Minute, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(closed)
		}
	}}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	client, end := net.Pipe()
	l.conns <- end
	t.Cleanup(func() {
		_ = client.Close()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-ended
		<-closed // it lingers for a moment, so that the other end can read an error
	})
	return client
}

// TestReceiveWorksOn: once the body is there, a handler may take its time. When
// the deadline of the body's last part passes, the client has not left, and the
// answer has a deadline of its own.
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
		client := serveConn(t, s)
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
	})
}

// TestSlowUpload: a client may send slowly, and stop for a while, but not hold a
// connection with a byte now and then.
func TestSlowUpload(t *testing.T) {
	const size = 1 << 20
	for _, c := range []struct {
		name        string
		part        int // bytes
		every, work time.Duration
		want        int
		after       time.Duration // it is answered; 0: when it is all there
	}{
		{"as slow as may be", 4 << 10, time.Second, 0, http.StatusOK, 0},
		{"late within the grace", 60 << 10, 20 * time.Second, 0, http.StatusOK, 0},
		{"stalled", size / 2, 61 * time.Second, 0, http.StatusBadRequest, time.Minute},
		{"a byte now and then", 1, 50 * time.Second, 0, http.StatusBadRequest, 2 * time.Minute},
		{"half as fast", 2 << 10, time.Second, 0, http.StatusBadRequest, 4 * time.Minute},
		{"held up by the handler", 4 << 10, 0, 50 * time.Second, http.StatusOK, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := server(map[string]xrpc.Method{
					"com.example.slow": xrpc.Receive(anyone, func(_ context.Context, _ struct{}, in xrpc.Upload) (struct{ N int }, error) {
						sum, buffer := 0, make([]byte, 4<<10)
						for {
							n, err := in.Read(buffer)
							sum += n
							if errors.Is(err, io.EOF) {
								return struct{ N int }{sum}, nil
							}
							if err != nil {
								return struct{ N int }{}, xrpc.UnreadableBody(err)
							}
							time.Sleep(c.work)
						}
					}),
				})
				conn := serveConn(t, s)
				began, sender := time.Now(), make(chan struct{})
				go func() {
					defer close(sender)
					_, err := fmt.Fprintf(conn, "POST /xrpc/com.example.slow HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
					for sent := 0; err == nil && sent < size; sent += c.part {
						if _, err = conn.Write(make([]byte, min(c.part, size-sent))); err == nil {
							time.Sleep(c.every)
						}
					}
				}()
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				_ = resp.Body.Close()
				_ = conn.Close()
				<-sender
				if resp.StatusCode != c.want || c.after > 0 && (took < c.after || took > c.after+10*time.Second) {
					t.Errorf("status %d after %s", resp.StatusCode, took)
				}
			})
		})
	}
}

// TestSlowDownload: the same for a client that reads an answer.
func TestSlowDownload(t *testing.T) {
	const size = 1 << 20
	for _, c := range []struct {
		name  string
		part  int64
		every time.Duration
		whole bool
		after time.Duration // it is cut
	}{
		{"as slow as may be", 4 << 10, time.Second, true, 0},
		{"a byte now and then", 1, 50 * time.Second, false, 2 * time.Minute},
		{"half as fast", 2 << 10, time.Second, false, 4 * time.Minute},
		{"stalled", size / 2, 70 * time.Second, false, 3 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ended time.Duration
				began := time.Now()
				s, _ := server(map[string]xrpc.Method{
					"com.example.file": xrpc.Stream(anyone, func(_ context.Context, _ struct{}, _ xrpc.None, w http.ResponseWriter, _ *http.Request) error {
						defer func() { ended = time.Since(began) }()
						_, err := io.Copy(w, io.LimitReader(zeros{}, size))
						return err
					}),
				})
				conn := serveConn(t, s)
				if _, err := io.WriteString(conn, "GET /xrpc/com.example.file HTTP/1.0\r\nHost: x\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				var got int64
				for {
					n, err := io.CopyN(io.Discard, conn, c.part)
					got += n
					if err != nil {
						break
					}
					time.Sleep(c.every)
				}
				synctest.Wait()
				if (got >= size) != c.whole || !c.whole && ended > c.after+time.Minute {
					t.Errorf("%d bytes; the handler ended after %s", got, ended)
				}
			})
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
