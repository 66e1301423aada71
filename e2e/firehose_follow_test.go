package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// streamPatience is how long a follower waits for the next event; on a machine under
// load a test that goes well is over long before.
const streamPatience = 60 * time.Second

// subscribe reads the event stream of a server after a cursor and passes each
// frame to take until that has enough, or the stream ends.
func subscribe(ctx context.Context, base string, cursor int64, take func(frame []byte) (more bool)) error {
	url := fmt.Sprintf("ws%s/xrpc/com.atproto.sync.subscribeRepos?cursor=%d", strings.TrimPrefix(base, "http"), cursor)
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, url, nil)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	_ = resp.Body.Close() // it has none
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	for {
		if err := conn.SetReadDeadline(time.Now().Add(streamPatience)); err != nil {
			return err
		}
		kind, frame, err := conn.ReadMessage()
		if err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		if kind != websocket.BinaryMessage {
			return fmt.Errorf("message of kind %d: %q", kind, frame)
		}
		if !take(frame) {
			return nil
		}
	}
}

// follower is a judge behind a stream that goes on while the test does.
type follower struct {
	t *testing.T

	mu    sync.Mutex
	moved *sync.Cond // with each event, and with the end of the stream
	judge *judge
	ended bool
	err   error // why the stream ended
}

func newFollower(t *testing.T, plc string) *follower {
	t.Helper()
	f := &follower{t: t, judge: newJudge(plc), ended: true}
	f.moved = sync.NewCond(&f.mu)
	return f
}

// follow reads on after the last event, in the background; wait for the end of
// one stream before the next.
func (f *follower) follow(base string) (wait func()) {
	f.mu.Lock()
	f.ended = false
	cursor := f.judge.seq
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := subscribe(ctx, base, cursor, func(frame []byte) bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.moved.Broadcast()
			if err := f.judge.take(ctx, frame); err != nil {
				f.t.Errorf("event: %v", err)
				return false
			}
			return true
		})
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ended, f.err = true, err
		f.moved.Broadcast()
	}()
	f.t.Cleanup(cancel)
	return func() { <-done }
}

// await waits until done reports that the stream has shown enough.
func (f *follower) await(done func(j *judge) bool) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for !done(f.judge) {
		if f.ended {
			f.t.Fatalf("the stream ended after event %d: %v", f.judge.seq, f.err)
		}
		f.moved.Wait()
	}
}

// awaitRev waits until the stream has announced a commit.
func (f *follower) awaitRev(did, rev string) {
	f.t.Helper()
	f.await(func(j *judge) bool { return j.repos[did] != nil && j.repos[did].rev >= rev })
}

// reread reads the whole stream again, or its last hundred thousand events: it must
// equal what was seen, except for deleted accounts.
func (f *follower) reread(base string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, n := f.judge.frames, max(0, f.judge.seq-100_000)
	err := subscribe(f.t.Context(), base, n, func(frame []byte) bool {
		for n++; f.judge.removed(n); {
			n++
		}
		if want, ok := seen[n]; !ok || want != sha256.Sum256(frame) {
			f.t.Errorf("event %d is another now: %x", n, frame)
			return false
		}
		return n < f.judge.seq
	})
	if err := f.judge.gap(); err != nil {
		f.t.Error(err)
	}
	if err != nil {
		f.t.Errorf("read the stream again, to event %d of %d: %v", n, f.judge.seq, err)
	}
}
