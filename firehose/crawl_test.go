package firehose_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nestbox/firehose"
	"nestbox/store/storetest"
)

// relays stands for the network: it answers for all relays.
type relays struct {
	mu    sync.Mutex
	calls []string // "host body" of each
	busy  int
	slow  time.Duration
	down  bool
	t     *testing.T
}

func (r *relays) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.calls = append(r.calls, req.Method+" "+req.URL.String()+" "+req.Header.Get("Content-Type")+" "+string(body))
	if r.busy++; r.busy > 1 {
		r.t.Error("two requests at once")
	}
	slow, down := r.slow, r.down
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.busy--
	}()
	select {
	case <-time.After(slow):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	if down {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("{}")), Request: req}, nil
}

func (r *relays) set(slow time.Duration, down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slow, r.down = slow, down
}

// seen returns the calls since the last time.
func (r *relays) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

func TestCrawl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &relays{t: t, slow: time.Second}
		c := firehose.NewCrawler([]string{"https://one.example", "https://two.example/"}, "pds.example.com", &http.Client{Transport: net}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { c.Run(ctx) })
		expect := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			if got := net.seen(); len(got) != want {
				t.Errorf("%s: %d calls %q, want %d", when, len(got), got, want)
			}
		}
		time.Sleep(time.Hour)
		expect("without news", 0)

		for range 5 {
			c.Notify()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		const body = `/xrpc/com.atproto.sync.requestCrawl application/json {"hostname":"pds.example.com"}`
		got := net.seen()
		if len(got) != 2 || got[0] != "POST https://one.example"+body || got[1] != "POST https://two.example"+body {
			t.Errorf("calls %q", got)
		}
		c.Notify()
		time.Sleep(18 * time.Minute)
		expect("19 minutes after the first", 0)
		time.Sleep(2 * time.Minute)
		expect("21 minutes after", 2)
		time.Sleep(time.Hour)
		expect("without further news", 0)

		// A failed request is tried again, without news, and takes a bounded time.
		net.set(time.Hour, false)
		c.Notify()
		time.Sleep(time.Minute)
		expect("a relay that hangs", 2)
		net.set(0, true)
		time.Sleep(20 * time.Minute)
		expect("after a failure", 2)
		net.set(0, false)
		time.Sleep(20 * time.Minute)
		expect("after another", 2)
		time.Sleep(time.Hour)
		expect("after a success", 0)

		// A stop does not wait for a relay.
		net.set(time.Hour, false)
		c.Notify()
		synctest.Wait()
		before := time.Now()
		stop()
		done.Wait()
		if time.Since(before) != 0 {
			t.Errorf("stopping took %s", time.Since(before))
		}
		// Without relays Run returns at once.
		firehose.NewCrawler(nil, "pds.example.com", nil, nil).Run(t.Context())
	})
}

func TestLastSeen(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   int64
		err    string
	}{
		{200, `{"hostname":"pds.example.com","seq":9007199254740991}`, 1<<53 - 1, ""},
		{200, `{"hostname":"pds.example.com","seq":0}`, 0, ""},
		{200, `{"hostname":"pds.example.com"}`, 0, firehose.ErrUnseen.Error()},
		{400, `{"error":"HostNotFound","message":"unknown"}`, 0, firehose.ErrUnseen.Error()},
		{200, `{"hostname":"pds.example.com","seq":-1}`, 0, "status 200"},
		{200, `{"hostname":"pds.example.com","seq":"1"}`, 0, "status 200"},
		{200, `<html>`, 0, "status 200"},
		{502, `{"seq":1}`, 0, "status 502"},
		{200, strings.Repeat(" ", 64<<10) + `{"seq":1}`, 0, "status 200"}, // an answer without end
	} {
		relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		crawler := firehose.NewCrawler(nil, "pds.example.com", relay.Client(), slog.New(slog.DiscardHandler))
		got, err := crawler.LastSeen(t.Context(), relay.URL)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%d %.60s: %d, %v", c.status, c.body, got, err)
		}
		relay.Close()
	}
	crawler := firehose.NewCrawler(nil, "pds.example.com", &http.Client{}, nil)
	for _, relay := range []string{"", "relay.example.com", "ftp://relay.example.com", "https://", "https://\x00"} {
		if _, err := crawler.LastSeen(t.Context(), relay); !errors.Is(err, firehose.ErrNoRelay) {
			t.Errorf("%q: %v", relay, err)
		}
	}
}

func TestRetention(t *testing.T) {
	w := newWorld(t, nil)
	alice := storetest.NewWriter(t, w.Database, "alice")
	for range 9 {
		alice.Write(1000)
	}
	before := w.last()
	r := &firehose.Retention{
		Log: w.Log, Age: time.Hour, MaxBytes: 1 << 30, Logger: slog.New(slog.NewTextHandler(w.logged, nil)),
		Now: func() time.Time { return storetest.At(8).Add(time.Hour) },
	}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { r.Run(ctx) })
	w.logged.await(t, "event log pruned")
	stop()
	done.Wait()
	b, err := w.Log.Bounds(t.Context())
	if err != nil || !b.OldestAt.Equal(storetest.At(8)) || b.Oldest != before-2 {
		t.Errorf("%+v, %v", b, err)
	}
}

// forgetting is a log that reports when a pass has come to the events of deleted
// accounts, which is its end.
type forgetting struct {
	firehose.Log
	pruned chan struct{}
}

func (f forgetting) Forget(ctx context.Context) (bool, error) {
	close(f.pruned)
	return f.Log.Forget(ctx)
}

// TestRetentionClock: while the clock cannot be trusted no event is removed because of
// its age, but the log is kept within its size.
func TestRetentionClock(t *testing.T) {
	w := newWorld(t, nil)
	alice := storetest.NewWriter(t, w.Database, "alice")
	for range 9 {
		alice.Write(1000)
	}
	before, err := w.Log.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		most    int64
		removes bool
	}{{1 << 30, false}, {2500, true}} {
		log := forgetting{w.Log, make(chan struct{})}
		r := &firehose.Retention{
			Log: log, Age: time.Hour, MaxBytes: c.most, Logger: slog.New(slog.DiscardHandler),
			Now:   func() time.Time { return storetest.At(0).Add(10000 * time.Hour) },
			Doubt: func() error { return errors.New("the clock is ahead") },
		}
		ctx, stop := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { r.Run(ctx) })
		<-log.pruned
		stop()
		done.Wait()
		if b, err := w.Log.Bounds(t.Context()); err != nil || (b.Oldest != before.Oldest) != c.removes {
			t.Errorf("of %d bytes: %+v, %v; before %+v", c.most, b, err, before)
		}
	}
}
