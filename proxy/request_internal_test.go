package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestUpBodyEnds: a client that pauses for too long, or sends too much, ends its body with
// an error that says so; one that leaves with another.
func TestUpBodyEnds(t *testing.T) {
	for name, c := range map[string]struct {
		sent  string
		leave bool
		want  error
	}{
		"whole":     {"0\r\n\r\n", false, nil},
		"a pause":   {"1\r\nx\r\n", false, errBodyStalled},
		"too much":  {"9\r\nxxxxxxxxx\r\n", false, errBodyTooLarge},
		"it leaves": {"1\r\nx\r\n", true, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan error, 1)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b := newUpBody(r.Body, http.NewResponseController(w), 8)
				b.patience, b.waiting = 100*time.Millisecond, func(bool) {}
				_, _ = io.ReadAll(b)
				whole, err := b.whole()
				if whole != (err == nil) {
					t.Errorf("whole %t, %v", whole, err)
				}
				b.end()
				got <- err
			}))
			t.Cleanup(s.Close)
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+c.sent); err != nil {
				t.Fatal(err)
			}
			if c.leave {
				_ = conn.Close()
			}
			if err := <-got; !errors.Is(err, c.want) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}
