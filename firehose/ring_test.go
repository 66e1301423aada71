package firehose

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"nestbox/firehose/event"
)

// idleLog is the log of a hub that is told of events by hand, and never reads.
type idleLog struct {
	Log

	tell func(Logged)
}

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

// sized is an event whose body has size bytes.
func sized(seq int64, size int) Logged {
	body := make([]byte, size)
	copy(body, event.Account{DID: "did:plc:x", Time: time.Unix(0, 0)}.Event().Body)
	return Logged{Seq: seq, Event: event.Event{Kind: event.KindCommit, Body: body, Split: 1}}
}

// TestRing: what is kept in memory, and what one subscriber takes of it, is
// bounded by number and bytes, has no gap, and ends with the newest.
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

// TestPace: many subscribers are woken for several events at once, so that they
// take a part of a core only; few are told at once.
func TestPace(t *testing.T) {
	for _, c := range []struct{ subscribers, want int }{
		{1, 10},   // for each event
		{1000, 4}, // at 0, 50, 100 and 150 ms
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
