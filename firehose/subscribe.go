package firehose

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"nestbox/firehose/event"
	"nestbox/internal/gate"
	"nestbox/request"
)

// Reasons for which a stream ends.
var (
	errGone     = errors.New("subscriber has gone")
	errTooSlow  = errors.New("subscriber is too slow")
	errFuture   = errors.New("cursor is in the future")
	errJumped   = errors.New("event numbers have jumped")
	errStopping = errors.New("server is stopping")
)

// The info for a subscriber whose cursor is before the oldest event kept.
const (
	outdatedName    = "OutdatedCursor"
	outdatedMessage = "Requested cursor exceeded limit. Possibly missing events"
)

const (
	// sendBuffer is how many bytes the kernel holds for a slow subscriber.
	sendBuffer = 256 << 10
	// maxReceived is the largest message that a client may send, for nothing.
	maxReceived = 4 << 10
	// retryFull is how long a subscriber without a place should wait before it tries
	// again.
	retryFull = time.Minute
)

// member is a subscriber. The fields after conn are set once it is connected.
type member struct {
	id     int64 // numbers the members of this process, from 1
	client request.Client
	place  *gate.Place[string]
	since  time.Time
	start  int64 // the newest event when it came
	sent   atomic.Int64
	sentAt atomic.Pointer[time.Time] // when the event sent was made
	end    context.CancelCauseFunc

	conn   *websocket.Conn
	raw    *patientConn
	frames net.Buffers // used by send alone
}

// errFull: every place is taken.
var errFull = errors.New("there are too many subscribers")

// enter admits a subscriber. Errors: errStopping; errFull; request.ErrTooMany if its
// network has too many.
func (h *Hub) enter(m *member) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errStopping
	}
	all := h.opts.Subscribers
	room, share := gate.Room{All: m.client.Open(all, h.opts.Kept)}, gate.Share[string]{Most: h.opts.PerNetwork}
	place, err := h.places.Try(room, m.client.Shares(share, all)...)
	switch {
	case errors.Is(err, gate.ErrShare):
		return request.ErrTooMany{Wait: retryFull}
	case err != nil:
		return errFull
	}
	h.entered++
	m.id, m.place = h.entered, place
	h.members[m] = struct{}{}
	h.running.Add(1)
	m.start = h.last
	m.sent.Store(m.start)
	return nil
}

func (h *Hub) leave(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.members, m)
	m.place.Leave()
	h.running.Done()
}

func (h *Hub) logSlow(ctx context.Context, m *member) {
	h.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "subscriber is too slow",
		slog.String("client", m.client.Logged()), slog.Int64("sent", m.sent.Load()))
}

// listen reads what the client sends: pongs, a close, and messages that mean nothing.
// It returns when the connection has ended.
func (h *Hub) listen(m *member) {
	heard := func() error { return m.conn.SetReadDeadline(time.Now().Add(h.opts.SilentFor)) }
	m.conn.SetReadLimit(maxReceived)
	m.conn.SetPongHandler(func(string) error { return heard() })
	m.conn.SetPingHandler(func(data string) error {
		return errors.Join(heard(), m.conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(h.opts.Patience)))
	})
	for err := heard(); err == nil; {
		_, _, err = m.conn.NextReader()
	}
}

// stream sends events until the stream ends, and returns why.
func (h *Hub) stream(ctx context.Context, m *member, cursor *int64) error {
	after, err := h.begin(ctx, m, cursor)
	if err != nil {
		return err
	}
	ping := time.NewTicker(h.opts.PingEvery)
	defer ping.Stop()
	entries, release := make([]*entry, 0, takeEvents), func() {}
	defer func() { release() }()
	for {
		var behind bool
		var news <-chan struct{}
		if entries, behind, news = h.next(after, entries[:0]); behind {
			if entries, release, err = h.replay(ctx, after, entries); err != nil {
				return err
			}
		}
		if len(entries) == 0 {
			select {
			case <-ctx.Done():
			case <-ping.C:
				err = h.ping(m)
			case <-news:
			}
		} else {
			select {
			case <-ping.C: // even if there is always something to send
				err = h.ping(m)
			default:
			}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case len(entries) == 0:
			continue
		}
		if err := h.send(m, entries); err != nil {
			return err
		}
		after = entries[len(entries)-1].Seq
		at := entries[len(entries)-1].At
		m.sent.Store(after)
		m.sentAt.Store(&at)
		clear(entries) // release what was sent
		release()
	}
}

func (h *Hub) ping(m *member) error {
	if m.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(h.opts.Patience)) != nil {
		return errGone
	}
	return nil
}

// begin returns the number after which a subscriber's stream starts.
func (h *Hub) begin(ctx context.Context, m *member, cursor *int64) (int64, error) {
	if cursor == nil {
		return m.start, nil
	}
	after := max(*cursor, 0)
	b, err := h.opts.Log.Bounds(ctx)
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case err != nil:
		return 0, err
	case after > b.Last:
		return 0, errFuture
	case after < b.Oldest-1:
		if err := m.write(net.Buffers{binaryFrame(event.Info(outdatedName, outdatedMessage))}); err != nil {
			return 0, err
		}
		after = b.Oldest - 1
	}
	m.sent.Store(after)
	return after, nil
}

// send sends events with one write: a write's cost does not depend on its size.
func (h *Hub) send(m *member, entries []*entry) error {
	m.frames = m.frames[:0]
	for _, e := range entries {
		if !e.Removed() {
			m.frames = append(m.frames, e.encoded())
		}
	}
	defer clear(m.frames)
	return m.write(m.frames)
}

func (m *member) write(frames net.Buffers) error {
	err := m.raw.writeAll(frames)
	switch {
	case m.raw.slow.Load():
		return errTooSlow
	case err != nil:
		return errGone
	default:
		return nil
	}
}

// finish sends a subscriber the reason why its stream ends, and closes the connection.
// gone is closed when nothing more is read from the connection.
func (h *Hub) finish(ctx context.Context, m *member, cause error, gone <-chan struct{}) {
	var last []byte // an error frame
	code, reason, word := 0, "", ""
	switch {
	case errors.Is(cause, errGone):
	case errors.Is(cause, errTooSlow):
		code, reason, word = websocket.ClosePolicyViolation, "ConsumerTooSlow", DropSlow
		last = event.Error(reason, "Stream consumer too slow")
	case errors.Is(cause, errFuture):
		code, reason, word = websocket.ClosePolicyViolation, "FutureCursor", DropFuture
		last = event.Error(reason, "Cursor in the future.")
	case errors.Is(cause, errStopping):
		code, reason, word = websocket.CloseGoingAway, "the server stops", DropStopping
	case errors.Is(cause, errDisconnected):
		code, reason, word = websocket.CloseGoingAway, "disconnected by the operator", DropDisconnected
	case errors.Is(cause, errJumped):
		code, reason, word = websocket.CloseServiceRestart, "the stream starts again", DropJumped
	default:
		code, reason, word = websocket.CloseInternalServerErr, "the server cannot read its events", DropFailed
		h.opts.Logger.LogAttrs(ctx, slog.LevelError, "stream ended", slog.String("cause", cause.Error()))
	}
	if reason != "" {
		h.dropped.Add(word, 1)
		h.keep(m, reason)
	}
	deadline := time.Now().Add(h.opts.Grace)
	err := m.raw.endBy(deadline)
	if last != nil && err == nil {
		err = m.conn.WriteMessage(websocket.BinaryMessage, last)
	}
	if code != 0 && err == nil && m.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), deadline) == nil {
		// A connection that is closed with something unread is reset, and the last
		// message is lost: the client closes it first.
		select {
		case <-gone:
		case <-time.After(h.opts.Grace):
		}
	}
	_ = m.conn.Close() // nothing depends on it any more
	<-gone
}

// hijacker hands the connection over as a patientConn.
type hijacker struct {
	http.ResponseWriter

	patience, grace time.Duration
	tooSlow         func()
	conn            *patientConn
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetWriteBuffer(sendBuffer); err != nil {
			return nil, nil, errors.Join(err, conn.Close())
		}
	}
	h.conn = &patientConn{Conn: conn, patience: h.patience, grace: h.grace, tooSlow: h.tooSlow}
	return h.conn, rw, nil
}

// patientConn notices when its other end is too slow. An error frame can only follow
// a whole frame: so the rest of a frame that was written in part gets a last
// deadline, and so does all that comes after. Events are written to it directly; the
// websocket.Conn writes pings, pongs and the end, each as a whole.
type patientConn struct {
	net.Conn

	patience, grace time.Duration
	tooSlow         func() // called once
	slow            atomic.Bool
	end             atomic.Pointer[time.Time] // nothing is written after it

	mu    sync.Mutex // held by the writer
	until time.Time  // the deadline
}

// SetWriteDeadline does nothing. The websocket.Conn sets one before it waits for its
// turn, which may take as long as a large frame does; patience begins with the turn.
func (c *patientConn) SetWriteDeadline(time.Time) error { return nil }

// endBy gives all that is still written a last deadline.
func (c *patientConn) endBy(t time.Time) error {
	c.end.Store(&t)
	if c.slow.Load() {
		return nil // it has one
	}
	return c.Conn.SetWriteDeadline(t)
}

// begin sets the deadline of a write.
func (c *patientConn) begin() error {
	if c.slow.Load() {
		return nil
	}
	until := time.Now().Add(c.patience)
	if end := c.end.Load(); end != nil && end.Before(until) {
		until = *end
	}
	// Moving the deadline a little is not worth the cost.
	if !c.until.Before(until.Add(-c.patience/8)) && !c.until.After(until) {
		return nil
	}
	c.until = until
	return c.Conn.SetWriteDeadline(until)
}

func (c *patientConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if !c.late(err) {
		return n, err
	}
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.grace)); err != nil {
		return n, err
	}
	more, err := c.Conn.Write(b[n:])
	return n + more, err
}

// writeAll writes frames, within patience. It uses up the slice, not the bytes.
func (c *patientConn) writeAll(frames net.Buffers) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin(); err != nil {
		return err
	}
	_, err := frames.WriteTo(c.Conn)
	if !c.late(err) {
		return err
	}
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.grace)); err != nil {
		return err
	}
	_, err = frames.WriteTo(c.Conn)
	return err
}

// late reports whether a write is the first one that took too long.
func (c *patientConn) late(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || c.slow.Swap(true) {
		return false
	}
	c.tooSlow()
	return true
}
