package firehose_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"nestbox/auth"
	"nestbox/dagcbor"
	"nestbox/firehose"
	"nestbox/request"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// world is a stream over a real database and a real HTTP server.
type world struct {
	*storetest.World

	t        *testing.T
	settings firehose.Settings
	timeouts time.Duration // of the HTTP server
	logger   *slog.Logger
	hub      *firehose.Hub
	server   *httptest.Server
	logged   *lines
}

func newWorld(t *testing.T, change func(*firehose.Settings)) *world {
	t.Helper()
	w := &world{t: t, settings: firehose.DefaultSettings(), logged: &lines{}, timeouts: time.Minute}
	w.logger = slog.New(slog.NewTextHandler(w.logged, nil))
	w.World = storetest.NewWorld(t, storetest.Options{Log: w.logger})
	if change != nil {
		change(&w.settings)
	}
	w.open()
	t.Cleanup(w.close)
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	w.hub, err = firehose.NewHub(w.t.Context(), firehose.Options{Settings: w.settings, Log: w.Log, Logger: w.logger, Now: time.Now})
	if err != nil {
		w.t.Fatal(err)
	}
	verifier := &auth.Verifier{}
	front := &request.Front{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Unlimited:      func(r *http.Request, _ request.Client) bool { return r.Header.Get("X-Unlimited") != "" },
		Log:            w.logger, Now: time.Now,
	}
	w.server = httptest.NewUnstartedServer(front.Handler(&xrpc.Server{
		Methods: map[string]xrpc.Method{"com.atproto.sync.subscribeRepos": xrpc.Stream(verifier.Anyone, w.hub.Subscribe)},
	}))
	w.server.Config.ReadTimeout, w.server.Config.WriteTimeout = w.timeouts, w.timeouts
	w.server.Start()
}

func (w *world) close() {
	w.hub.Close()
	w.server.Close()
}

// reopen restarts the world.
func (w *world) reopen() {
	w.t.Helper()
	w.close()
	w.Reopen()
	w.open()
}

func (w *world) last() int64 {
	w.t.Helper()
	b, err := w.Log.Bounds(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return b.Last
}

// holds reports whether the log has a row of an account besides its deletion, which
// is the last.
func (w *world) holds(did syntax.DID) bool {
	w.t.Helper()
	all, err := w.Inspect.Open(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = all.Close() }()
	rows := 0
	if err := all.Events(func(e firehose.Logged, _ int64) error {
		if e.DID == did {
			rows++
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return rows > 1
}

// lines is a log in which a test can wait for a line.
type lines struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return l.buf.Write(p)
}

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		if l.more == nil {
			l.more = make(chan struct{})
		}
		log, more := l.buf.String(), l.more
		l.mu.Unlock()
		if strings.Contains(log, text) {
			return
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("%q was not logged:\n%s", text, log)
		}
	}
}

// stream is a subscriber's end.
type stream struct {
	*websocket.Conn

	t *testing.T
}

// live stands for no cursor.
const live = "live"

func from(seq int64) string { return strconv.FormatInt(seq, 10) }

func (w *world) url(cursor string) string {
	u := "ws" + strings.TrimPrefix(w.server.URL, "http") + "/xrpc/com.atproto.sync.subscribeRepos"
	if cursor != live {
		u += "?cursor=" + cursor
	}
	return u
}

// try connects, with additional headers.
func (w *world) try(d *websocket.Dialer, cursor string, header http.Header) (*stream, *http.Response, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	conn, resp, err := d.DialContext(ctx, w.url(cursor), header)
	if err != nil {
		return nil, resp, err
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	return &stream{conn, w.t}, resp, nil
}

func (w *world) subscribe(cursor string) *stream {
	w.t.Helper()
	s, _, err := w.try(&websocket.Dialer{}, cursor, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// lazy returns a subscriber whose kernel keeps little of what it does not read.
func (w *world) lazy(cursor string) *stream {
	w.t.Helper()
	s, _, err := w.try(&websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if tcp, ok := c.(*net.TCPConn); ok {
			err = errors.Join(err, tcp.SetReadBuffer(128<<10))
		}
		return c, err
	}}, cursor, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// message is a frame.
type message struct {
	kind string // "error" for an error frame
	seq  int64
	name string // of an info or error
}

// read returns the next frame.
func (s *stream) read() (message, error) {
	typ, data, err := s.ReadMessage()
	if err != nil {
		return message{}, err
	}
	if typ != websocket.BinaryMessage {
		return message{}, errors.New("a frame that is not binary")
	}
	return decode(data)
}

func decode(data []byte) (message, error) {
	var m message
	for _, kind := range []string{"#commit", "#sync", "#identity", "#account", "#info", ""} {
		header := map[string]any{"op": int64(1), "t": kind}
		if kind == "" {
			header, kind = map[string]any{"op": int64(-1)}, "error"
		}
		prefix, err := dagcbor.Encode(header)
		if err != nil {
			return m, err
		}
		body, ok := bytes.CutPrefix(data, prefix)
		if !ok {
			continue
		}
		v, err := dagcbor.Decode(body)
		fields, ok := v.(map[string]any)
		if err != nil || !ok {
			return m, errors.Join(errors.New("body of a frame"), err)
		}
		m.kind = kind
		m.seq, _ = fields["seq"].(int64)
		m.name, _ = fields[map[string]string{"error": "error", "#info": "name"}[kind]].(string)
		return m, nil
	}
	return m, errors.New("header of a frame")
}

// want reads the next frame, which must be want.
func (s *stream) want(want message) {
	s.t.Helper()
	got, err := s.read()
	if err != nil || got != want {
		s.t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
}

// wantEvents reads the events from a number to another.
func (s *stream) wantEvents(first, last int64) {
	s.t.Helper()
	for seq := first; seq <= last; seq++ {
		got, err := s.read()
		if err != nil || got.seq != seq || got.kind == "error" {
			s.t.Fatalf("got %+v, %v; want event %d of %d to %d", got, err, seq, first, last)
		}
	}
}

// wantClose reads the end of the stream.
func (s *stream) wantClose(code int, reason string) {
	s.t.Helper()
	m, err := s.read()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != code || reason != "" && closed.Text != reason {
		s.t.Errorf("got %+v, %v; want close %d %q", m, err, code, reason)
	}
}

// wantError reads an error frame and the close that follows.
func (s *stream) wantError(name string) {
	s.t.Helper()
	s.want(message{kind: "error", name: name})
	s.wantClose(websocket.ClosePolicyViolation, name)
}
