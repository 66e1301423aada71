package firehose_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"nestbox/firehose"
	"nestbox/store/storetest"
)

func TestLive(t *testing.T) {
	w := newWorld(t, nil)
	alice := storetest.NewWriter(t, w.Database, "alice")
	before := w.last()
	s := w.subscribe(live)
	for range 3 {
		alice.Write(10)
	}
	for i := range int64(3) {
		s.want(message{kind: "#commit", seq: before + 1 + i})
	}
}

func TestCursor(t *testing.T) {
	w := newWorld(t, func(s *firehose.Settings) { s.RingEvents = 3 })
	alice := storetest.NewWriter(t, w.Database, "alice")
	for range 9 {
		alice.Write(10)
	}
	last := w.last()
	check := func(cursor string, outdated bool, first int64) {
		t.Helper()
		s := w.subscribe(cursor)
		if outdated {
			s.want(message{kind: "#info", name: "OutdatedCursor"})
		}
		s.wantEvents(first, last)
	}
	for cursor := range last {
		check(from(cursor), false, cursor+1)
	}
	check("-7", false, 1)
	w.subscribe(from(last + 1)).wantError("FutureCursor")
	w.subscribe(from(1 << 60)).wantError("FutureCursor")

	// A cursor older than the oldest event kept.
	for removed := 1; removed > 0; {
		var err error
		if removed, err = w.Log.Prune(t.Context(), storetest.At(5), 1<<40); err != nil {
			t.Fatal(err)
		}
	}
	b, err := w.Log.Bounds(t.Context())
	if err != nil || b.Oldest < 3 || b.Oldest > last-3 {
		t.Fatalf("%+v, %v", b, err)
	}
	check(from(b.Oldest-1), false, b.Oldest)
	check(from(b.Oldest-2), true, b.Oldest)
	check(from(0), true, b.Oldest)
	if _, err := w.Log.Prune(t.Context(), storetest.At(1000), 1<<40); err != nil {
		t.Fatal(err)
	}
	gone := w.subscribe(from(last - 1))
	gone.want(message{kind: "#info", name: "OutdatedCursor"})
	current := w.subscribe(from(last))
	alice.Write(10)
	gone.want(message{kind: "#commit", seq: last + 1})
	current.want(message{kind: "#commit", seq: last + 1})

	// The same after a restart: there is nothing in memory.
	w.reopen()
	w.subscribe(from(last)).want(message{kind: "#commit", seq: last + 1})
	w.subscribe(from(last + 2)).wantError("FutureCursor")
}

func TestRefused(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		method, query string
		header        http.Header
		status        int
		text          string
	}{
		{"GET", "", nil, 426, `{"error":"InvalidRequest","message":"This is an event stream: connect with a WebSocket"}`},
		{"HEAD", "", nil, 426, ""},
		{"POST", "", nil, 400, `Incorrect HTTP method (POST) expected GET`},
		{"GET", "?cursor=x", nil, 400, `"InvalidRequest"`},
		{"GET", "?cursor=1.5", nil, 400, `"InvalidRequest"`},
		{"GET", "?cursor=99999999999999999999", nil, 400, `"InvalidRequest"`},
		{"GET", "", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, 400, `"InvalidRequest","message":"websocket: `},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http"+strings.TrimPrefix(w.url(live), "ws")+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(req.Header, c.header)
		resp, err := w.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != c.status || !strings.Contains(string(body), c.text) {
			t.Errorf("%s %s: %d %s, %v", c.method, c.query, resp.StatusCode, body, err)
		}
		if c.status == 426 && resp.Header.Get("Upgrade") != "websocket" {
			t.Errorf("headers %v", resp.Header)
		}
		_ = resp.Body.Close()
	}
	// From any web page.
	s, resp, err := w.try(&websocket.Dialer{}, live, http.Header{"Origin": {"https://elsewhere.example"}})
	if err != nil || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("%v, %v", err, resp)
	}
	_ = s.Close()
	w.logged.await(t, "status=101") // and not 200
}

// TestReplayMeetsLive: a subscriber that comes at any time, with any cursor, during
// heavy writing, sees each event once and in order.
func TestReplayMeetsLive(t *testing.T) {
	const writers, events, subscribers = 4, 150, 60
	w := newWorld(t, func(s *firehose.Settings) {
		s.RingEvents, s.RingBytes = 24, 100_000 // most subscribers fall behind it at times
		s.PerNetwork = subscribers
	})
	var all []*storetest.Writer
	for i := range writers {
		all = append(all, storetest.NewWriter(t, w.Database, fmt.Sprintf("writer%d", i)))
	}
	total := w.last() + writers*events
	var now atomic.Int64 // about the log's last number
	now.Store(w.last())
	wrote := make(chan struct{}, writers*events)
	var writing sync.WaitGroup
	for i, wr := range all {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		writing.Go(func() {
			for range events {
				wr.Write(random.IntN(8000))
				now.Add(1)
				wrote <- struct{}{}
			}
		})
	}
	random := rand.New(rand.NewPCG(2, 0))
	var reading sync.WaitGroup
	for i := range subscribers {
		if i%2 == 1 {
			for range writers * events / subscribers {
				<-wrote // they come throughout the writing
			}
		}
		cursor := random.Int64N(now.Load() + 1)
		reading.Go(func() {
			s, _, err := w.try(&websocket.Dialer{}, from(cursor), nil)
			if err != nil {
				t.Error(err)
				return
			}
			for seq := cursor + 1; seq <= total; seq++ {
				if m, err := s.read(); err != nil || m.seq != seq {
					t.Errorf("subscriber %d, from %d: got %+v, %v; want %d", i, cursor, m, err, seq)
					return
				}
			}
			_ = s.Close()
		})
	}
	writing.Wait()
	reading.Wait()
	if w.last() != total {
		t.Errorf("last is %d, want %d", w.last(), total)
	}
}

// TestSlow: a subscriber that does not read delays no other one, and gets the reason.
func TestSlow(t *testing.T) {
	w := newWorld(t, func(s *firehose.Settings) {
		s.Patience, s.Grace = 2*time.Second, patience
		s.RingEvents = 4
	})
	alice := storetest.NewWriter(t, w.Database, "alice")
	before := w.last()
	slow, quick := w.lazy(live), w.subscribe(live)
	const events = 40
	var writer sync.WaitGroup
	writer.Go(func() {
		for range events {
			alice.Write(100_000)
		}
	})
	quick.wantEvents(before+1, before+events)
	writer.Wait()
	w.logged.await(t, "subscriber is too slow")
	var err error
	var m message
	next := before + 1
	for ; err == nil; next++ {
		if m, err = slow.read(); m.kind == "error" {
			break
		}
		if m.seq != next {
			t.Fatalf("got %+v, want event %d", m, next)
		}
	}
	if m != (message{kind: "error", name: "ConsumerTooSlow"}) || next == before+1 || next > before+events {
		t.Fatalf("after event %d: %+v, %v", next-1, m, err)
	}
	slow.wantClose(websocket.ClosePolicyViolation, "ConsumerTooSlow")
	alice.Write(10)
	quick.wantEvents(before+events+1, before+events+1)
}

// TestPrunedAway: a subscriber so far behind that its next event is gone gets an
// error instead of a silent gap, even if the log has later events.
func TestPrunedAway(t *testing.T) {
	const events = 40
	for keep, left := range map[int]bool{30: true, 1000: false} {
		w := newWorld(t, func(s *firehose.Settings) { s.Patience, s.RingEvents = time.Hour, 2 })
		alice := storetest.NewWriter(t, w.Database, "alice")
		before := w.last()
		s := w.lazy(from(before))
		for range events {
			alice.Write(100_000)
		}
		s.wantEvents(before+1, before+1)
		for removed := 1; removed > 0; {
			var err error
			if removed, err = w.Log.Prune(t.Context(), storetest.At(keep), 1<<40); err != nil {
				t.Fatal(err)
			}
		}
		b, err := w.Log.Bounds(t.Context())
		if err != nil || b.Oldest < before+20 || left != (b.Oldest <= b.Last-5) {
			t.Fatalf("%+v, %v", b, err)
		}
		for next := before + 2; ; next++ {
			m, err := s.read()
			if m.kind == "error" {
				if m.name != "ConsumerTooSlow" {
					t.Errorf("%+v", m)
				}
				break
			}
			if err != nil || m.seq != next || next >= b.Oldest {
				t.Fatalf("got %+v, %v; want event %d", m, err, next)
			}
		}
		s.wantClose(websocket.ClosePolicyViolation, "ConsumerTooSlow")
	}
}

// TestDeleted: events of a deleted account, in memory or in the log, are not sent any
// more; their numbers are left out.
func TestDeleted(t *testing.T) {
	for _, ring := range []int{100, 1} {
		w := newWorld(t, func(s *firehose.Settings) { s.RingEvents = ring })
		alice, bob := storetest.NewWriter(t, w.Database, "alice"), storetest.NewWriter(t, w.Database, "bob")
		alice.Write(10)
		before := w.last()
		for range 5 {
			alice.Write(10)
			bob.Write(10)
		}
		bob.Delete()
		alice.Write(10)
		check := func() {
			t.Helper()
			s := w.subscribe(from(before))
			for seq := before + 1; seq < before+10; seq += 2 {
				s.want(message{kind: "#commit", seq: seq})
			}
			s.want(message{kind: "#account", seq: before + 11})
			s.want(message{kind: "#commit", seq: before + 12})
		}
		check()
		r := firehose.Retention{Log: w.Log, Age: 1000 * time.Hour, MaxBytes: 1 << 40, Now: func() time.Time { return storetest.At(0) }}
		ctx, stop := context.WithCancel(t.Context())
		var worker sync.WaitGroup
		worker.Go(func() { r.Run(ctx) })
		for raw := true; raw; {
			if raw = w.holds(bob.DID()); raw {
				runtime.Gosched()
			}
		}
		stop()
		worker.Wait()
		check()
	}
}

// TestClose: when the server stops, subscribers soon get a close message, and one
// that reads nothing does not keep it from stopping.
func TestClose(t *testing.T) {
	w := newWorld(t, func(s *firehose.Settings) { s.Patience, s.RingEvents = time.Hour, 2 })
	alice := storetest.NewWriter(t, w.Database, "alice")
	idle, stuck := w.subscribe(live), w.lazy(live)
	before := w.last()
	for range 40 {
		alice.Write(100_000)
	}
	idle.wantEvents(before+1, before+40)
	stuck.wantEvents(before+1, before+1)
	started := time.Now()
	closed := make(chan struct{})
	go func() {
		w.hub.Close()
		close(closed)
	}()
	idle.wantClose(websocket.CloseGoingAway, "the server stops")
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close does not return")
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("Close took %s", took)
	}
	st, err := w.hub.Status(t.Context())
	if err != nil || len(st.Subscribers) != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	_, resp, err := w.try(&websocket.Dialer{}, live, nil)
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a subscriber after the end: %v, %v", resp, err)
	}
	alice.Write(10) // a writer does not notice that it is closed
}

func TestRoom(t *testing.T) {
	w := newWorld(t, func(s *firehose.Settings) { s.Subscribers, s.PerNetwork, s.Kept = 4, 2, 0 })
	connect := func(addr, unlimited string) (*stream, *http.Response) {
		t.Helper()
		s, resp, err := w.try(&websocket.Dialer{}, live, http.Header{"X-Forwarded-For": {addr}, "X-Unlimited": {unlimited}})
		if err != nil && resp == nil {
			t.Fatal(err)
		}
		return s, resp
	}
	refused := func(addr string, status int, text string) {
		t.Helper()
		_, resp := connect(addr, "")
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status || !strings.Contains(string(body), text) || resp.Header.Get("Retry-After") != "60" {
			t.Errorf("%s: %d %s %v, %v", addr, resp.StatusCode, body, resp.Header, err)
		}
	}
	first, _ := connect("2001:db8::1", "")
	connect("2001:db8::2", "")
	refused("2001:db8::3", http.StatusTooManyRequests, "too many subscribers from your network")
	connect("192.0.2.1", "")
	connect("2001:db8::4", "yes")
	refused("192.0.2.2", http.StatusServiceUnavailable, "too many subscribers")
	st, err := w.hub.Status(t.Context())
	if err != nil || len(st.Subscribers) != 4 || st.Subscribers[2].Client != "192.0.2.1" {
		t.Errorf("%+v, %v", st, err)
	}
	// If one leaves, there is room for one.
	_ = first.Close()
	for deadline := time.Now().Add(patience); ; {
		if _, resp := connect("2001:db8::3", ""); resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("its place does not become free")
		}
	}
	refused("192.0.2.2", http.StatusServiceUnavailable, "too many subscribers")
}

// TestPings: a subscriber lives as long as it answers, whatever the HTTP
// server's timeouts, and no longer.
func TestPings(t *testing.T) {
	w := newWorld(t, func(s *firehose.Settings) { s.PingEvery, s.SilentFor = 20*time.Millisecond, 2*time.Second })
	w.timeouts = 100 * time.Millisecond
	w.reopen()
	alice := storetest.NewWriter(t, w.Database, "alice")
	before := w.last()
	s, dead := w.subscribe(live), w.subscribe(live)
	pings, written := 0, make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		<-written
		alice.Write(10)
	})
	answer := s.PingHandler()
	s.SetPingHandler(func(data string) error {
		if pings++; pings == 50 { // after a second and more
			close(written)
		}
		return answer(data)
	})
	dead.SetPingHandler(func(string) error { return nil })
	s.wantEvents(before+1, before+1)
	writer.Wait()
	if pings < 50 {
		t.Errorf("%d pings", pings)
	}
	dead.wantEvents(before+1, before+1)
	if m, err := dead.read(); err == nil || websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("one that answers no ping got %+v, %v", m, err)
	}
	// A client's ping is answered.
	pongs := make(chan struct{}, 1)
	s.SetPongHandler(func(string) error { pongs <- struct{}{}; return nil })
	if err := s.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	alice.Write(10)
	s.wantEvents(before+2, before+2)
	go func() { _, _ = s.read() }() // reads the pong, until the test ends
	select {
	case <-pongs:
	case <-time.After(patience):
		t.Error("no pong")
	}
}

// TestReceived: a client's messages mean nothing, and their size is bounded.
func TestReceived(t *testing.T) {
	w := newWorld(t, nil)
	alice := storetest.NewWriter(t, w.Database, "alice")
	before := w.last()
	s, _, err := w.try(&websocket.Dialer{WriteBufferSize: 8192}, live, nil) // larger than the message: one frame
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []int{websocket.TextMessage, websocket.BinaryMessage} {
		if err := s.WriteMessage(typ, []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	alice.Write(10)
	s.wantEvents(before+1, before+1)
	if err := s.WriteMessage(websocket.TextMessage, make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	s.wantClose(websocket.CloseMessageTooBig, "")
}

func TestJump(t *testing.T) {
	w := newWorld(t, nil)
	alice := storetest.NewWriter(t, w.Database, "alice")
	storetest.NewWriter(t, w.Database, "bob")
	for range 5 {
		alice.Write(10)
	}
	last := w.last()
	s := w.subscribe(live)
	if err := w.hub.Jump(t.Context(), last-1); err == nil {
		t.Error("jumped backwards")
	}
	if err := w.hub.Jump(t.Context(), firehose.MaxJump+1); err == nil {
		t.Error("jumped too high")
	}
	ctx, stop := context.WithCancel(t.Context())
	var worker sync.WaitGroup
	worker.Go(func() {
		w.hub.Announce(ctx, func(ctx context.Context) (bool, error) { return storetest.Announce(ctx, w.Database, 1, time.Now()) })
	})
	t.Cleanup(func() { stop(); worker.Wait() })
	const to = 1_000_000
	if err := w.hub.Jump(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	s.wantClose(websocket.CloseServiceRestart, "the stream starts again")
	w.subscribe(from(to + 1000)).wantError("FutureCursor")
	s = w.subscribe(from(last))
	s.want(message{kind: "#info", name: "OutdatedCursor"})
	for i := range int64(2) {
		s.want(message{kind: "#account", seq: to + 1 + 2*i})
		s.want(message{kind: "#sync", seq: to + 2 + 2*i})
	}
	alice.Write(10)
	s.want(message{kind: "#commit", seq: to + 5})
	w.subscribe(from(to + 4)).want(message{kind: "#commit", seq: to + 5})
	if err := w.hub.Jump(t.Context(), firehose.MaxJump); err != nil {
		t.Fatal(err)
	}
	s.wantClose(websocket.CloseServiceRestart, "")
	w.subscribe(from(to + 5)).want(message{kind: "#info", name: "OutdatedCursor"})
}

// TestRoomOfACustomer: a customer with a /48 has half of the places at most, and
// strangers leave some to networks that were here before.
func TestRoomOfACustomer(t *testing.T) {
	w := newWorld(t, func(s *firehose.Settings) { s.Subscribers, s.PerNetwork, s.Kept = 8, 2, 2 })
	connect := func(addr, unlimited string) int {
		t.Helper()
		_, resp, err := w.try(&websocket.Dialer{}, live, http.Header{"X-Forwarded-For": {addr}, "X-Unlimited": {unlimited}})
		if err != nil && resp == nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	statuses := map[int]int{}
	for n := range 10 {
		statuses[connect(fmt.Sprintf("2001:db8:1:%x::1", n), "")]++
	}
	if statuses[http.StatusSwitchingProtocols] != 4 || statuses[http.StatusTooManyRequests] != 6 {
		t.Errorf("one customer: %v", statuses)
	}
	clear(statuses)
	for n := range 4 {
		statuses[connect(fmt.Sprintf("192.0.2.%d", n), "")]++
	}
	if statuses[http.StatusSwitchingProtocols] != 2 || statuses[http.StatusServiceUnavailable] != 2 {
		t.Errorf("strangers: %v", statuses)
	}
	if got := connect("192.0.2.9", "yes"); got != http.StatusSwitchingProtocols {
		t.Errorf("there is no place left: %d", got)
	}
}
