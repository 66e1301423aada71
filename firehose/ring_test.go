package firehose

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"nestbox/firehose/event"
)

// idleLog is the log of a hub that gets its events from the test.
type idleLog struct {
	Log

	tell func(Logged)
	read []Logged
	jump chan struct{} // Jump has dropped the log, and returns
}

func (l *idleLog) Read(context.Context, int64, int, int) ([]Logged, error) { return l.read, nil }
func (l *idleLog) Jump(context.Context, int64) error                       { <-l.jump; return nil }

func (l *idleLog) Bounds(context.Context) (Bounds, error) { return Bounds{Oldest: 1}, nil }
func (l *idleLog) Watch(f func(Logged))                   { l.tell = f }

func newIdleHub(tb testing.TB, s Settings) (*Hub, *idleLog) {
	tb.Helper()
	l := &idleLog{}
	h, err := NewHub(tb.Context(), Options{Settings: s, Log: l, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		tb.Fatal(err)
	}
	return h, l
}

// sized returns an event whose body has size bytes.
func sized(seq int64, size int) Logged {
	body := make([]byte, size)
	copy(body, event.Account{DID: "did:plc:x", Time: time.Unix(0, 0)}.Event().Body)
	return Logged{Seq: seq, Event: event.Event{Kind: event.KindCommit, Body: body, Split: 1}}
}

// TestRing: the events in memory, and those that one subscriber takes, are bounded by
// number and bytes, have no gap, and end with the newest.
func TestRing(t *testing.T) {
	s := DefaultSettings()
	s.RingEvents, s.RingBytes = 100, 1_000_000
	h, log := newIdleHub(t, s)
	expect := func(what string, after int64, first int64, n int, behind bool) {
		t.Helper()
		got, isBehind, news := h.next(after, nil)
		if len(got) != n || isBehind != behind || n > 0 && got[0].Seq != first {
			t.Errorf("%s: %d events, behind %t; want %d from %d, %t", what, len(got), isBehind, n, first, behind)
		}
		for i, e := range got {
			if e.Seq != got[0].Seq+int64(i) {
				t.Errorf("%s: a gap at %d", what, e.Seq)
			}
		}
		if something := n > 0 || behind; something != (news == nil) {
			t.Errorf("%s: there is something: %t, and something to wait for: %t", what, something, news != nil)
		}
	}
	expect("empty", 0, 0, 0, false)
	for seq := range int64(150) {
		log.tell(sized(seq+1, 100))
	}
	if len(h.ring) != 100 || h.bytes != 100*100 {
		t.Errorf("%d events, %d bytes", len(h.ring), h.bytes)
	}
	expect("by number, just behind", 49, 0, 0, true)
	expect("by number, the oldest", 50, 51, takeEvents, false)
	expect("the newest", 149, 150, 1, false)
	expect("up to date", 150, 0, 0, false)
	expect("ahead, as what the log already has", 152, 0, 0, false)

	for seq := range int64(20) {
		log.tell(sized(151+seq, takeBytes/2))
	}
	if len(h.ring) != 15 || h.bytes != 15*takeBytes/2 {
		t.Errorf("%d events, %d bytes", len(h.ring), h.bytes)
	}
	expect("by bytes", 155, 156, 2, false)
	log.tell(sized(171, takeBytes*2))
	expect("one larger than what is taken", 170, 171, 1, false)
	log.tell(sized(172, 2_000_000))
	if len(h.ring) != 0 || h.bytes != 0 {
		t.Errorf("%d events, %d bytes", len(h.ring), h.bytes)
	}
	expect("one larger than the ring", 171, 0, 0, true)
	log.tell(sized(173, 100))
	expect("after it", 172, 173, 1, false)

	log.tell(sized(1000, 100)) // the numbers have jumped
	if len(h.ring) != 1 {
		t.Errorf("%d events", len(h.ring))
	}
	expect("before the jump", 173, 0, 0, true)
	expect("after the jump", 999, 1000, 1, false)
}

// TestPace: many subscribers are woken for several events at a time, so that they
// take only a part of a core; few are woken for each event.
func TestPace(t *testing.T) {
	for _, c := range []struct{ subscribers, want int }{
		{1, 10},   // for each event
		{1000, 3}, // at 0, 80 and 160 ms
	} {
		synctest.Test(t, func(t *testing.T) {
			h, log := newIdleHub(t, DefaultSettings())
			for range c.subscribers {
				h.members[&member{}] = struct{}{}
			}
			woken := 0
			for seq := int64(1); seq <= 10; seq++ {
				_, _, news := h.next(seq, nil)
				log.tell(sized(seq, 100))
				time.Sleep(19 * time.Millisecond)
				select {
				case <-news:
					woken++
				default:
				}
			}
			if woken != c.want {
				t.Errorf("%d subscribers were woken %d times by 10 events in 190 ms, want %d", c.subscribers, woken, c.want)
			}
			h.timer.Stop()
		})
	}
}

// TestReplayMemory: all replays together hold no more than they may, and a replay
// that has sent what it held makes room for the next.
func TestReplayMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := DefaultSettings()
		s.ReplayBytes = replayMost + 3*replayBytes
		h, log := newIdleHub(t, s)
		log.read = []Logged{sized(1, 2*replayBytes)} // three parts of the budget, each time
		var ends []func()
		waiting := make(chan func())
		replay := func() {
			got, release, err := h.replay(t.Context(), 0, nil)
			if err != nil || len(got) != 1 {
				t.Errorf("%d events, %v", len(got), err)
			}
			waiting <- release
		}
		go replay()
		ends = append(ends, <-waiting)
		go replay()
		ends = append(ends, <-waiting)
		go replay()
		synctest.Wait()
		select {
		case <-waiting:
			t.Error("a third one reads before there is room")
		default:
		}
		ctx, stop := context.WithCancelCause(t.Context())
		go func() {
			_, release, err := h.replay(ctx, 0, nil)
			if !errors.Is(err, errStopping) {
				t.Errorf("one that does not wait any more got %v", err)
			}
			waiting <- release
		}()
		synctest.Wait()
		stop(errStopping)
		(<-waiting)()
		ends[0]()
		ends[0]() // does nothing
		ends = append(ends, <-waiting)
		for _, end := range ends {
			end()
		}
		if len(h.held) != 0 || len(h.replays) != 0 {
			t.Errorf("%d and %d are still held", len(h.held), len(h.replays))
		}
		h.timer.Stop()
	})
}

// TestReplayJumped: a subscriber that reads the log while it is dropped gets the
// error that the numbers have jumped; one whose next event is gone otherwise, that it
// is too slow.
func TestReplayJumped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, log := newIdleHub(t, DefaultSettings())
		if _, release, err := h.replay(t.Context(), 0, nil); !errors.Is(err, errTooSlow) {
			t.Errorf("without a jump: %v", err)
		} else {
			release()
		}
		log.jump = make(chan struct{})
		ctx, end := context.WithCancelCause(t.Context())
		h.members[&member{end: end}] = struct{}{}
		jumped, ended := make(chan error, 1), make(chan error, 1)
		go func() { jumped <- h.Jump(t.Context(), 1000) }()
		synctest.Wait()
		go func() {
			_, release, err := h.replay(ctx, 0, nil)
			release()
			ended <- err
		}()
		synctest.Wait()
		close(log.jump)
		if err := <-ended; !errors.Is(err, errJumped) {
			t.Errorf("during a jump: %v", err)
		}
		if err := <-jumped; err != nil {
			t.Error(err)
		}
		h.timer.Stop()
	})
}

// TestPatience: patience begins with a write's turn. A write that waited for a large
// frame is not late, however long that took; a write that itself takes too long is.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		slow := 0
		c := &patientConn{Conn: ours, patience: 10 * time.Second, grace: time.Second, tooSlow: func() { slow++ }}
		result := make(chan error)
		read := func(want string) {
			t.Helper()
			time.Sleep(9 * time.Second)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(theirs, got); err != nil || string(got) != want {
				t.Fatalf("%q, %v", got, err)
			}
			if err := <-result; err != nil || slow != 0 {
				t.Errorf("%s: %v, too slow: %d", want, err, slow)
			}
		}
		go func() { result <- c.writeAll(net.Buffers{[]byte("frame")}) }()
		synctest.Wait()
		// The websocket.Conn does this for a pong, before it waits for its turn.
		if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		read("frame")
		go func() {
			_, err := c.Write([]byte("pong"))
			result <- err
		}()
		read("pong")
		// Nothing is written after the end, however much patience is left.
		if err := c.endBy(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := c.Write([]byte("x"))
		if !errors.Is(err, os.ErrDeadlineExceeded) || slow != 1 || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %s, too slow: %d", err, time.Since(began), slow)
		}
		_, _ = ours.Close(), theirs.Close()
	})
}
