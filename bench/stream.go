package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// eventsPerSecond is what subscribers are to keep up with.
const eventsPerSecond = 50

// subscriber reads the event stream with as little CPU as possible: it parses a
// frame's number, and drops the rest.
type subscriber struct {
	tcp  net.Conn
	read *bufio.Reader
	// first and last are the numbers of its first and its newest event.
	first, last int64
	frame       int // bytes of the newest
}

func subscribe(host string) (*subscriber, error) {
	tcp, err := net.DialTimeout("tcp", host, requestTimeout) //nolint:noctx // it has its own limit
	if err != nil {
		return nil, err
	}
	s := &subscriber{tcp: tcp, read: bufio.NewReaderSize(tcp, 8<<10)}
	// The key is any 16 bytes; the answer to it is not checked.
	_, err = fmt.Fprintf(tcp, "GET /xrpc/com.atproto.sync.subscribeRepos HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", host)
	if err == nil {
		err = s.upgraded()
	}
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return s, nil
}

func (s *subscriber) upgraded() error {
	resp, err := http.ReadResponse(s.read, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // there is none
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("subscribeRepos answers %s", resp.Status)
	}
	return nil
}

// next reads an event and checks that it follows the last one.
func (s *subscriber) next() error {
	length, err := s.header()
	if err != nil {
		return err
	}
	start, err := s.read.Peek(min(length, 256)) // all that comes before the number is short
	if err != nil {
		return err
	}
	seq, err := seqOf(start)
	if err != nil {
		return err
	}
	switch {
	case s.first == 0:
		s.first = seq
	case seq != s.last+1:
		return fmt.Errorf("event %d follows on %d", seq, s.last)
	}
	s.last, s.frame = seq, length
	_, err = s.read.Discard(length)
	return err
}

// header reads that of a message in one WebSocket frame (RFC 6455, 5.2) and
// returns the length of the message. Pings without content are answered.
func (s *subscriber) header() (int, error) {
	var b [8]byte
	for {
		if _, err := io.ReadFull(s.read, b[:2]); err != nil {
			return 0, err
		}
		if b[0] != 0x89 || b[1] != 0 {
			break
		}
		if _, err := s.tcp.Write([]byte{0x8a, 0x80, 0, 0, 0, 0}); err != nil {
			return 0, err
		}
	}
	if b[0] != 0x82 {
		return 0, fmt.Errorf("a WebSocket frame that begins with %#x is no whole binary message", b[0])
	}
	switch length := int(b[1]); length {
	case 126:
		_, err := io.ReadFull(s.read, b[:2])
		return int(binary.BigEndian.Uint16(b[:])), err
	case 127:
		_, err := io.ReadFull(s.read, b[:8])
		return int(binary.BigEndian.Uint64(b[:])), err
	default:
		return length, nil
	}
}

// seqOf finds the number in the start of an event's bytes.
func seqOf(b []byte) (int64, error) {
	_, b, ok := bytes.Cut(b, []byte("\x63seq")) // DAG-CBOR: a text of three bytes
	if !ok || len(b) < 9 {
		return 0, errors.New("an event without a number")
	}
	switch head := b[0]; {
	case head < 24:
		return int64(head), nil
	case head == 24:
		return int64(b[1]), nil
	case head == 25:
		return int64(binary.BigEndian.Uint16(b[1:])), nil
	case head == 26:
		return int64(binary.BigEndian.Uint32(b[1:])), nil
	case head == 27:
		return int64(binary.BigEndian.Uint64(b[1:])), nil
	default:
		return 0, fmt.Errorf("an event whose number begins with %#x", head)
	}
}

// measureFirehose is the group of the event stream: one account writes at a
// steady pace, and all subscribers read.
func (b *bench) measureFirehose(data string) (err error) {
	if b.rows != nil {
		return nil // it has no row beside the reference
	}
	s, err := nestbox(b.binary, filepath.Join(data, "firehose"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	users, err := signUp(s, 1)
	if err != nil {
		return err
	}
	warm, events := int(b.warmup.Seconds()*eventsPerSecond), int(2*b.window.Seconds()*eventsPerSecond)
	r := &broadcast{server: s, user: users[0], warm: warm, events: events}
	b.figures.Stream, err = r.run(b.subscribers)
	if err != nil {
		return err
	}
	st := b.figures.Stream
	fmt.Printf("%d of %d subscribers kept up with %.0f events/s of %d bytes: delay p50 %.1f ms, at most %.1f ms, CPU %.2f µs per event and subscriber, %.0f MiB\n",
		st.KeptUp, st.Subscribers, st.PerSecond, st.FrameBytes, st.DelayP50, st.DelayWorst, st.CPU, st.Memory)
	return nil
}

// broadcast is a number of events, after some that are not measured, to a number
// of subscribers.
type broadcast struct {
	server       *server
	user         *user
	warm, events int

	sent []time.Time    // when each was asked for
	had  []atomic.Int64 // when the last subscriber had it, in ns
}

func (r *broadcast) run(n int) (*stream, error) {
	r.sent, r.had = make([]time.Time, r.warm+r.events), make([]atomic.Int64, r.warm+r.events)
	subscribers := make([]*subscriber, 0, n)
	defer func() {
		for _, s := range subscribers {
			_ = s.tcp.Close()
		}
	}()
	for range n {
		s, err := subscribe(r.server.host)
		if err != nil {
			return nil, fmt.Errorf("subscriber %d: %w", len(subscribers), err)
		}
		subscribers = append(subscribers, s)
	}
	var wg sync.WaitGroup
	failed := make([]error, n)
	for i, s := range subscribers {
		wg.Go(func() { failed[i] = r.follow(s) })
	}
	c, err := dial(r.server.host)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := r.write(c, 0, r.warm); err != nil {
		return nil, err
	}
	l := load{server: r.server}
	start, err := l.usage()
	if err != nil {
		return nil, err
	}
	if err := r.write(c, r.warm, r.warm+r.events); err != nil {
		return nil, err
	}
	took := time.Since(start.at)
	// A subscriber that has not got everything by then did not keep up.
	deadline := time.Now().Add(maxLag)
	for _, s := range subscribers {
		if err := s.tcp.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
	}
	wg.Wait()
	end, err := l.usage()
	if err != nil {
		return nil, err
	}
	return r.result(subscribers, failed, start, end, took)
}

// maxLag is how long after the last event it may reach the last subscriber.
const maxLag = 10 * time.Second

// write makes events, the first after the others: a second has so many.
func (r *broadcast) write(c *conn, from, to int) error {
	begun := time.Now()
	for i := from; i < to; i++ {
		time.Sleep(time.Until(begun.Add(time.Duration(i-from) * time.Second / eventsPerSecond)))
		r.sent[i] = time.Now()
		if err := create(c, r.user, ""); err != nil {
			return err
		}
	}
	return nil
}

// follow reads all events, and notes when each was there last.
func (r *broadcast) follow(s *subscriber) error {
	for i := range r.had {
		if err := s.next(); err != nil {
			return err
		}
		now := time.Now().UnixNano()
		for {
			last := r.had[i].Load()
			if last >= now || r.had[i].CompareAndSwap(last, now) {
				break
			}
		}
	}
	return nil
}

func (r *broadcast) result(subscribers []*subscriber, failed []error, start, end usage, took time.Duration) (*stream, error) {
	st := &stream{
		Subscribers: len(subscribers), Events: r.events, PerSecond: float64(r.events) / took.Seconds(),
		FrameBytes: subscribers[0].frame, Memory: end.memory,
		CPU:    (end.server - start.server).Seconds() * 1e6 / float64(r.events*len(subscribers)),
		Others: max(0, (end.others-start.others).Seconds()/end.at.Sub(start.at).Seconds()),
	}
	for i, s := range subscribers {
		switch {
		case failed[i] == nil && s.first == subscribers[0].first:
			st.KeptUp++
		case failed[i] == nil:
			return nil, fmt.Errorf("subscriber %d begins with event %d, the first with %d", i, s.first, subscribers[0].first)
		default:
			fmt.Printf("subscriber %d: %v\n", i, failed[i])
		}
	}
	var delays []float64
	for i := r.warm; i < len(r.sent); i++ {
		delays = append(delays, float64(r.had[i].Load()-r.sent[i].UnixNano())/1e6)
	}
	st.DelayP50, st.DelayWorst = median(delays), slices.Max(delays)
	return st, nil
}

func (f *figures) firehoseTables(w *strings.Builder) {
	st := f.Stream
	if st == nil {
		return
	}
	if st.Others > noisyAbove {
		fmt.Fprintf(w, "Something else used %.1f cores.\n", st.Others)
	}
	w.WriteString(limitsHead)
	fmt.Fprintf(w, "| %d subscribers to %.0f events/s of %d bytes: how many got all %d | | %d | all | %s |\n",
		st.Subscribers, st.PerSecond, st.FrameBytes, st.Events, st.KeptUp, yes(st.KeptUp == st.Subscribers))
	fmt.Fprintf(w, "| from the request until the last of them has its event: half of the events, the worst | | %.0f ms, %.0f ms | | |\n", st.DelayP50, st.DelayWorst)
	fmt.Fprintf(w, "| CPU per event and subscriber | | %.2f µs | ≤ 10 µs | %s |\n", st.CPU, yes(st.CPU <= 10))
}
