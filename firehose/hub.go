package firehose

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/firehose/event"
	"nestbox/internal/gate"
	"nestbox/internal/tally"
)

// Settings bound the resources of the stream.
type Settings struct {
	// Subscribers bounds how many subscribers there are, PerNetwork how many of them
	// come from one client network. The last Kept of their places are for networks that
	// were here before.
	Subscribers, PerNetwork, Kept int
	// RingEvents and RingBytes bound the newest events, which are kept in memory
	// and encoded once for all subscribers.
	RingEvents, RingBytes int
	// ReplayBytes bounds what all replays from the log hold in memory together;
	// it must be at least replayMost.
	ReplayBytes int
	// Pace is the shortest time from one waking of the subscribers to the next:
	// a burst of events wakes them once. It is at least PaceEach for each subscriber,
	// several times the cost of sending to one: any number of subscribers takes only a
	// part of one core.
	Pace, PaceEach time.Duration
	// Patience is how long a subscriber may take for a frame, or for the few
	// that it gets at a time. Then it is too slow; it has Grace for the rest of
	// them and for the error.
	Patience, Grace time.Duration
	// PingEvery is the time between pings; a subscriber that sent nothing for
	// SilentFor is gone.
	PingEvery, SilentFor time.Duration
}

// DefaultSettings returns the settings of a server.
func DefaultSettings() Settings {
	return Settings{
		Subscribers: 2000, PerNetwork: 50, Kept: 200,
		RingEvents: 4096, RingBytes: 16 << 20, ReplayBytes: 128 << 20,
		Pace: 5 * time.Millisecond, PaceEach: 80 * time.Microsecond,
		Patience: 30 * time.Second, Grace: 5 * time.Second,
		PingEvery: 30 * time.Second, SilentFor: 2 * time.Minute,
	}
}

// MaxJump is the highest number that Jump accepts: it leaves as many again, since
// numbers must stay below 2^53 (https://atproto.com/specs/event-stream).
const MaxJump = 1 << 52

// ErrTooHigh: a number above MaxJump.
var ErrTooHigh = errors.New("a number of an event must stay below 2^53")

const (
	// takeEvents and takeBytes bound what a subscriber takes from the ring at a time,
	// and so holds while it is slow.
	takeEvents = 64
	takeBytes  = 128 << 10
	// replayEvents and replayBytes bound what a subscriber behind the ring reads from
	// the log at a time, replayReaders how many read at once: the rest of the server
	// reads that database, too.
	replayEvents  = 200
	replayBytes   = 128 << 10
	replayReaders = 2
	// replayMost is what one replay reads at most, since it ends with a whole event:
	// its blocks, and its operations, of at most 1 KiB each.
	replayMost = replayBytes + event.MaxBlocks + event.MaxOps<<10
	// closeWithin is how long subscribers have to read the close message when the
	// server stops.
	closeWithin = time.Second
)

// Options are the options of a Hub; all except Notify are required.
type Options struct {
	Settings

	Log    Log
	Logger *slog.Logger
	Now    func() time.Time
	// Notify is called after each event and must not block.
	Notify func()
}

// Hub serves com.atproto.sync.subscribeRepos from a Log.
//
// It keeps the newest events in a ring without gaps. A subscriber asks for what
// follows the last event that it was sent: the ring has it, or the log has it, or
// there is none yet, and the subscriber waits. So replay passes into live without a
// gap or a duplicate, and a slow subscriber holds up only itself.
type Hub struct {
	opts    Options
	replays chan struct{} // a semaphore of readers of the log
	// held has a value for each replayBytes that replays hold. Only a goroutine that
	// has a place in replays adds to it, so few can wait, and those that hold memory
	// never wait: no deadlock.
	held chan struct{}
	// jumps is full from before the log is dropped until the members are disconnected.
	jumps chan struct{}
	kick  chan struct{} // has a value if there is something to announce
	// places are the places of members, by client network.
	places gate.Places[string]

	mu      sync.Mutex
	ring    []*entry
	bytes   int           // of the ring
	last    int64         // number of the newest event
	news    chan struct{} // closed when there is more than waiting members have seen
	waking  bool          // timer is about to close news
	woken   time.Time
	timer   *time.Timer
	members map[*member]struct{}
	entered int64 // how many members there were
	ended   []Ended
	dropped tally.Words // by the words of Dropped
	closed  bool
	running sync.WaitGroup // the members
}

// NewHub returns the hub of a log, and watches the log from now on.
func NewHub(ctx context.Context, o Options) (*Hub, error) {
	b, err := o.Log.Bounds(ctx)
	if err != nil {
		return nil, fmt.Errorf("open event stream: %w", err)
	}
	h := &Hub{
		opts: o, last: b.Last, replays: make(chan struct{}, replayReaders), jumps: make(chan struct{}, 1),
		held: make(chan struct{}, max(o.ReplayBytes, replayMost)/replayBytes+1), kick: make(chan struct{}, 1),
		news: make(chan struct{}), members: map[*member]struct{}{},
	}
	h.timer = time.AfterFunc(time.Hour, h.wake)
	h.timer.Stop()
	o.Log.Watch(h.append)
	return h, nil
}

// entry is an event on its way out. The first subscriber to send it encodes it.
type entry struct {
	Logged

	size  int
	once  sync.Once
	frame []byte
}

func newEntry(ev Logged) *entry { return &entry{Logged: ev, size: len(ev.Body)} }

// encoded returns the event as a WebSocket frame.
func (e *entry) encoded() []byte {
	e.once.Do(func() {
		e.frame = binaryFrame(e.Frame(e.Seq))
		e.Body = nil // the frame has it
	})
	return e.frame
}

// binaryFrame returns a binary message in one WebSocket frame (RFC 6455, 5.2).
func binaryFrame(message []byte) []byte {
	const whole, bits16, bits64 = 0x82, 126, 127
	frame := make([]byte, 0, 10+len(message))
	switch n := len(message); {
	case n < bits16:
		frame = append(frame, whole, byte(n))
	case n <= math.MaxUint16:
		frame = binary.BigEndian.AppendUint16(append(frame, whole, bits16), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, whole, bits64), uint64(n))
	}
	return append(frame, message...)
}

// append adds an event to the ring. The log calls it for each event, on its writer's
// goroutine.
func (h *Hub) append(ev Logged) {
	h.mu.Lock()
	if ev.Seq != h.last+1 {
		h.dropRing() // the numbers have jumped
	}
	if ev.Ends {
		h.forget(ev.DID)
	}
	e := newEntry(ev)
	h.last = ev.Seq
	h.ring = append(h.ring, e)
	h.bytes += e.size
	for len(h.ring) > h.opts.RingEvents || h.bytes > h.opts.RingBytes {
		h.bytes -= h.ring[0].size
		h.ring[0] = nil // its array lives on for a while
		h.ring = h.ring[1:]
	}
	if len(h.members) > 0 && !h.waking {
		h.waking = true
		pace := max(h.opts.Pace, time.Duration(len(h.members))*h.opts.PaceEach)
		h.timer.Reset(max(0, pace-time.Since(h.woken)))
	}
	h.mu.Unlock()
	if h.opts.Notify != nil {
		h.opts.Notify()
	}
}

// forget removes an account's events from the ring.
func (h *Hub) forget(did syntax.DID) {
	for i, e := range h.ring {
		if e.DID == did {
			h.bytes -= e.size
			h.ring[i] = newEntry(Logged{Seq: e.Seq, At: e.At})
		}
	}
}

func (h *Hub) dropRing() { h.ring, h.bytes = nil, 0 }

func (h *Hub) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waking, h.woken = false, time.Now()
	close(h.news)
	h.news = make(chan struct{})
}

// next appends to dst a bounded part of what follows the event after. If there is
// nothing, news is closed once there may be more; behind means that the ring no
// longer has it.
func (h *Hub) next(after int64, dst []*entry) (got []*entry, behind bool, news <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if after >= h.last {
		return dst, false, h.news
	}
	first := h.last + 1 - int64(len(h.ring))
	if after+1 < first {
		return dst, true, nil
	}
	bytes := 0
	for _, e := range h.ring[after+1-first:] {
		if bytes += e.size; len(dst) > 0 && (bytes > takeBytes || len(dst) == takeEvents) {
			break
		}
		dst = append(dst, e)
	}
	return dst, false, nil
}

// replay appends to dst what follows the event after in the log. Even after an error,
// the memory that it may hold counts until release is called.
func (h *Hub) replay(ctx context.Context, after int64, dst []*entry) (got []*entry, release func(), err error) {
	held := 0
	keep := func(n int) {
		for ; held > n; held-- {
			<-h.held
		}
	}
	release = func() { keep(0) }
	select {
	case h.replays <- struct{}{}:
	case <-ctx.Done():
		return nil, release, context.Cause(ctx)
	}
	defer func() { <-h.replays }()
	for held*replayBytes < replayMost {
		select {
		case h.held <- struct{}{}:
			held++
		case <-ctx.Done():
			return nil, release, context.Cause(ctx)
		}
	}
	events, err := h.opts.Log.Read(ctx, after, replayEvents, replayBytes)
	if ctx.Err() != nil {
		return nil, release, context.Cause(ctx)
	}
	if err != nil {
		return nil, release, err
	}
	if len(events) == 0 || events[0].Seq != after+1 {
		// The next event was pruned, or is before a jump.
		select {
		case h.jumps <- struct{}{}:
			<-h.jumps
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil, release, context.Cause(ctx)
		}
		return nil, release, errTooSlow
	}
	size := 0
	for _, ev := range events {
		size += len(ev.Body)
		dst = append(dst, newEntry(ev))
	}
	keep(size/replayBytes + 1)
	return dst, release, nil
}

// Jump gives the next event a number above to, and drops the log (Log.Jump).
// It disconnects subscribers: the numbers with which they return lead them to the new
// log. Announce then announces every account again. Errors: ErrBackwards, ErrTooHigh.
func (h *Hub) Jump(ctx context.Context, to int64) error {
	if to > MaxJump {
		return ErrTooHigh
	}
	select {
	case h.jumps <- struct{}{}:
		defer func() { <-h.jumps }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := h.opts.Log.Jump(ctx, to); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last < to { // otherwise an event came meanwhile, and the ring begins with it
		h.last = to
		h.dropRing()
	}
	for m := range h.members {
		m.end(errJumped)
	}
	h.Wake()
	return nil
}

// Wake makes Announce look whether there is something to announce.
func (h *Hub) Wake() {
	select {
	case h.kick <- struct{}{}:
	default: // it is awake already
	}
}

const (
	// announcePause follows each step of announcing, and leaves the disk to others.
	announcePause = 10 * time.Millisecond
	announceRetry = time.Minute
)

// Announce calls step until every account has been announced again after a jump, even
// one before a restart, and again after Wake. It runs until ctx ends. step announces some
// accounts, continues where it stopped, and reports whether there are more.
func (h *Hub) Announce(ctx context.Context, step func(context.Context) (more bool, err error)) {
	for {
		more, err := step(ctx)
		var again <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			h.opts.Logger.LogAttrs(ctx, slog.LevelError, "announcing accounts failed", slog.String("cause", err.Error()))
			again = time.After(announceRetry)
		case more:
			again = time.After(announcePause)
		}
		select {
		case <-again:
		case <-h.kick:
		case <-ctx.Done():
			return
		}
	}
}

// Close ends the stream for all subscribers, and accepts no new ones. It returns when
// all are gone, soon.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	h.timer.Stop()
	for m := range h.members {
		m.end(errStopping)
	}
	h.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		h.running.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(closeWithin):
		h.mu.Lock()
		for m := range h.members {
			if m.conn != nil {
				_ = m.conn.NetConn().Close() // ends any wait of it
			}
		}
		h.mu.Unlock()
		<-gone
	}
}

// Status describes what the log holds, and its subscribers.
type Status struct {
	Bounds

	Subscribers []Subscriber
	// Ended are the latest that were ended, the latest first.
	Ended []Ended
}

// Ended is a connection that the server ended since its start.
type Ended struct {
	Client, UserAgent string
	At                time.Time
	// Why is what the subscriber was sent as the reason.
	Why string
}

// keptEnded is how many of Ended are remembered.
const keptEnded = 20

// keep remembers a connection that the server ends.
func (h *Hub) keep(m *member, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = append(h.ended, Ended{m.client.Addr.String(), m.client.UserAgent, h.opts.Now().UTC(), why})
	h.ended = h.ended[max(len(h.ended)-keptEnded, 0):]
}

// Subscriber is one connection.
type Subscriber struct {
	// ID names it to Disconnect.
	ID        int64
	Client    string
	UserAgent string
	Since     time.Time
	// Sent is the number of the last event that was sent to it; at first, of the event
	// behind which it began.
	Sent int64
	// SentAt is when the last event that was sent to it was made; zero if there was none yet.
	SentAt time.Time
}

// Status returns the current state; subscribers in the order of connecting.
func (h *Hub) Status(ctx context.Context) (Status, error) {
	b, err := h.opts.Log.Bounds(ctx)
	if err != nil {
		return Status{}, err
	}
	st := Status{Bounds: b, Subscribers: []Subscriber{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	for m := range h.members {
		one := Subscriber{ID: m.id, Client: m.client.Addr.String(), UserAgent: m.client.UserAgent, Since: m.since, Sent: m.sent.Load()}
		if at := m.sentAt.Load(); at != nil {
			one.SentAt = *at
		}
		st.Subscribers = append(st.Subscribers, one)
	}
	st.Ended = slices.Clone(h.ended)
	slices.Reverse(st.Ended)
	slices.SortFunc(st.Subscribers, func(a, b Subscriber) int { return a.Since.Compare(b.Since) })
	return st, nil
}

// Members returns how many subscribers there are.
func (h *Hub) Members() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.members)
}

// errDisconnected: the operator ends a subscription.
var errDisconnected = errors.New("disconnected by the operator")

// Why the server ended connections, as Dropped names it.
const (
	DropSlow         = "too-slow"
	DropFuture       = "future-cursor"
	DropStopping     = "stopping"
	DropDisconnected = "disconnected" // by the operator
	DropJumped       = "jumped"
	DropFailed       = "failed"
)

// Dropped returns how many connections the server ended since its start, by reason.
func (h *Hub) Dropped() map[string]uint64 { return h.dropped.Counts() }

// Last returns the number of the newest event.
func (h *Hub) Last() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// Slowest returns by how many events the subscriber that is furthest behind is behind the newest,
// 0 if there is none.
func (h *Hub) Slowest() (lag int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for m := range h.members {
		lag = max(lag, h.last-m.sent.Load())
	}
	return lag
}

// Disconnect ends the connection of a subscriber, which may come again. It reports whether
// there was one of that ID.
func (h *Hub) Disconnect(id int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for m := range h.members {
		if m.id == id {
			m.end(errDisconnected)
			return true
		}
	}
	return false
}
