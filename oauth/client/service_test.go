package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"nestbox/oauth/client"
	"nestbox/oauth/oauthtest"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/store/storetest"
)

// TestFreshness: how long a document is not fetched again.
func TestFreshness(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 10 * time.Minute, "max-age=60": time.Minute, "public, max-age=60": time.Minute, "Max-Age=60": time.Minute, `max-age="60"`: time.Minute,
		"max-age=0": 30 * time.Second, "max-age=29": 30 * time.Second, "max-age=86400": time.Hour, "max-age=99999999999": 10 * time.Minute,
		"no-store": 30 * time.Second, "no-cache": 30 * time.Second, "max-age=3600, no-store": 30 * time.Second, "private": 10 * time.Minute, "max-age=x": 10 * time.Minute,
	} {
		t.Run(header, func(t *testing.T) {
			w := newWorld(t)
			w.serve(appID, answer{body: jsonOf(metadata(nil)), header: map[string]string{"Cache-Control": header}})
			load := func(fetches int) {
				t.Helper()
				if _, err := w.Load(t.Context(), appID, client.ForRequest); err != nil {
					t.Fatal(err)
				}
				if n := w.fetched(appID); n != fetches {
					t.Errorf("fetched %d times, want %d", n, fetches)
				}
			}
			load(1)
			w.pass(want - time.Second)
			load(0)
			w.restart()
			load(0) // the database has it
			w.pass(time.Second)
			load(1)
		})
	}
}

// TestKeySetFreshness: the set of keys is fetched as often as its own answer says.
func TestKeySetFreshness(t *testing.T) {
	w := newWorld(t)
	key := oauthtest.NewSigner("ES256")
	w.serve(appID, answer{body: jsonOf(confidential(map[string]any{"jwks": nil, "jwks_uri": setURL}))})
	w.serve(setURL, answer{body: jsonOf(map[string]any{"keys": []any{keyOf(key, "1", nil)}}), header: map[string]string{"Cache-Control": "max-age=60"}})
	for _, c := range []struct {
		wait  time.Duration
		times int
	}{{0, 1}, {59 * time.Second, 0}, {time.Second, 1}} {
		w.pass(c.wait)
		got, err := w.Load(t.Context(), appID, client.ForRequest)
		if err != nil || !got.HasKey(key.Thumbprint()) {
			t.Fatal(err)
		}
		if n := w.fetched(setURL); n != c.times {
			t.Errorf("after %v: fetched %d times, want %d", c.wait, n, c.times)
		}
		w.restart()
	}
	w.serve(setURL, answer{body: "{}"})
	w.pass(time.Hour)
	_, err := w.Load(t.Context(), appID, client.ForRequest)
	refused(t, err, client.CodeInvalidMetadata, "jwks_uri: it is not an object with an array keys")
}

// TestFaults: the error says which part failed, and a failure is tried again after ten
// seconds and not before.
func TestFaults(t *testing.T) {
	for says, a := range map[string]answer{
		"status 404":                       {status: 404},
		"status 500":                       {status: 500, body: jsonOf(metadata(nil))},
		"status 201":                       {status: 201, body: jsonOf(metadata(nil))},
		"redirect to https://elsewhere":    {status: 302, header: map[string]string{"Location": "https://elsewhere.example.com"}},
		"redirect to  (redirects are not":  {status: 304},
		"content type is text/html":        {header: map[string]string{"Content-Type": "text/html; charset=utf-8"}, body: jsonOf(metadata(nil))},
		"content type is text/json":        {header: map[string]string{"Content-Type": "text/json"}, body: jsonOf(metadata(nil))},
		"content type is , not":            {header: map[string]string{"Content-Type": ""}, body: jsonOf(metadata(nil))},
		"the document is not a JSON objec": {body: "<html>"},
		"too large: more than 131072 byte": {body: jsonOf(metadata(map[string]any{"x": strings.Repeat("x", 128<<10)}))},
		"timed out after 10 s: the app's own server must answer while it waits": {err: context.DeadlineExceeded},
		"connection failed":                            {err: errors.New("10.0.0.9:53 \"x\" is not there")},
		"connection failed: it was refused":            {err: &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(93, 184, 215, 14), Port: 443}, Err: syscall.ECONNREFUSED}},
		"name does not resolve: its name servers fail": {err: &net.DNSError{Err: "server misbehaving", Name: "app.example.com", Server: "10.0.0.53:53", IsTemporary: true}},
	} {
		t.Run(says, func(t *testing.T) {
			w := newWorld(t)
			w.serve(appID, a)
			for range 3 {
				_, err := w.Load(t.Context(), appID, client.ForRequest)
				refused(t, err, client.CodeInvalidMetadata, "Unable to obtain client metadata for '"+appID+"': "+says)
				w.pass(3 * time.Second)
			}
			if n := w.fetched(appID); n != 1 {
				t.Errorf("fetched %d times within 10 seconds", n)
			}
			if _, err := w.Load(t.Context(), appID, client.ForSession); !errors.Is(err, client.ErrUnavailable) {
				t.Errorf("for a session: %v", err)
			}
			w.serve(appID, answer{
				body: "\xEF\xBB\xBF" + jsonOf(metadata(nil)), header: map[string]string{"Content-Type": "application/ld+json; charset=utf-8"},
			})
			w.pass(time.Second)
			if _, err := w.Load(t.Context(), appID, client.ForRequest); err != nil {
				t.Errorf("mended: %v", err)
			}
		})
	}
}

// TestStale: while a host is down the last document counts for as long as the contract
// says, over a restart too, and then nothing is refused, only put off.
func TestStale(t *testing.T) {
	key := oauthtest.NewSigner("ES256")
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		document map[string]any
		why      client.Purpose
		counts   time.Duration
	}{
		"request of a public client":      {metadata(nil), client.ForRequest, day},
		"request of a confidential one":   {confidential(nil, keyOf(key, "1", nil)), client.ForRequest, day},
		"session with a public client":    {metadata(nil), client.ForSession, 7 * day},
		"session with a confidential one": {confidential(nil, keyOf(key, "1", nil)), client.ForSession, day},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve(appID, answer{body: jsonOf(c.document)})
			if _, err := w.Load(t.Context(), appID, c.why); err != nil {
				t.Fatal(err)
			}
			w.serve(appID, answer{err: errors.New("down")})
			w.pass(c.counts)
			for range 2 {
				if _, err := w.Load(t.Context(), appID, c.why); err != nil {
					t.Errorf("after %v: %v", c.counts, err)
				}
				w.restart()
			}
			w.pass(time.Minute)
			var e *client.Error
			_, err := w.Load(t.Context(), appID, c.why)
			if c.why == client.ForSession && !errors.Is(err, client.ErrUnavailable) || errors.As(err, &e) {
				t.Errorf("later: %v", err)
			}
			w.serve(appID, answer{body: jsonOf(c.document)})
			w.pass(time.Minute)
			if _, err := w.Load(t.Context(), appID, c.why); err != nil {
				t.Errorf("up again: %v", err)
			}
		})
	}
}

// TestBrokenDocument: a document that was right and is broken now is refused for new
// requests, so that its developer sees why, and disturbs no session.
func TestBrokenDocument(t *testing.T) {
	w := newWorld(t)
	w.serve(appID, answer{body: jsonOf(metadata(nil))})
	if _, err := w.Load(t.Context(), appID, client.ForRequest); err != nil {
		t.Fatal(err)
	}
	w.serve(appID, answer{body: jsonOf(metadata(map[string]any{"scope": "x"}))})
	w.pass(time.Hour)
	_, err := w.Load(t.Context(), appID, client.ForRequest)
	refused(t, err, client.CodeInvalidMetadata, "scope: it does not hold atproto")
	if _, err := w.Load(t.Context(), appID, client.ForSession); err != nil {
		t.Errorf("a session: %v", err)
	}
	w.pass(8 * 24 * time.Hour)
	if _, err := w.Load(t.Context(), appID, client.ForSession); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("a session, much later: %v", err)
	}
}

// TestSecondLook: nothing is refused because of what an old document does not say.
func TestSecondLook(t *testing.T) {
	w := newWorld(t)
	const wanted = "https://app.example.com/new"
	check := func(c *client.Client) error { return c.Redirect(wanted) }
	w.serve(appID, answer{body: jsonOf(metadata(nil)), header: map[string]string{"Cache-Control": "max-age=3600"}})
	with := func(fetches int) error {
		t.Helper()
		_, err := w.With(t.Context(), appID, client.ForRequest, check)
		if n := w.fetched(appID); n != fetches {
			t.Errorf("fetched %d times, want %d", n, fetches)
		}
		return err
	}
	refused(t, with(1), client.CodeInvalidRequest, "Invalid redirect_uri")
	w.pass(10 * time.Second)
	refused(t, with(0), client.CodeInvalidRequest, "Invalid redirect_uri")
	w.pass(time.Second)
	refused(t, with(1), client.CodeInvalidRequest, "Invalid redirect_uri")
	w.serve(appID, answer{status: 500})
	w.pass(11 * time.Second)
	for fetches := range 2 { // the failure is known for a while
		if err := with(1 - fetches); !errors.Is(err, client.ErrUnavailable) {
			t.Errorf("the host is down: %v", err)
		}
	}
	w.serve(appID, answer{body: jsonOf(metadata(map[string]any{"redirect_uris": []string{wanted}}))})
	w.pass(11 * time.Second)
	if err := with(1); err != nil {
		t.Errorf("the new document: %v", err)
	}
	w.serve(appID, answer{body: "{}"})
	w.pass(11 * time.Second)
	_, err := w.With(t.Context(), appID, client.ForRequest, func(*client.Client) error { return errors.New("no") })
	refused(t, err, client.CodeInvalidMetadata, "client_id")
}

// TestForgotten: clients that nobody asks for are forgotten after a month.
func TestForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := storetest.Open(t, storetest.Options{})
		for i, age := range []time.Duration{29 * 24 * time.Hour, 31 * 24 * time.Hour} {
			at := time.Now().Add(-age)
			if err := db.Clients.Keep(t.Context(), client.Kept{ID: fmt.Sprint(i), Document: []byte("{}"), Fetched: at, Fresh: at}, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		s := client.New(client.Options{Store: db.Clients, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		time.Sleep(time.Hour + time.Second)
		stop()
		<-done
		if _, err := db.Clients.Client(t.Context(), "0"); err != nil {
			t.Errorf("29 days: %v", err)
		}
		if _, err := db.Clients.Client(t.Context(), "1"); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("31 days: %v", err)
		}
		s.Close()
	})
}

// gated is a network on which every request waits.
type gated struct {
	mu      sync.Mutex
	waiting int
	most    int
	all     int
	release chan struct{}
}

func (g *gated) RoundTrip(r *http.Request) (*http.Response, error) {
	g.mu.Lock()
	g.all++
	g.waiting++
	g.most = max(g.most, g.waiting)
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.waiting--
		g.mu.Unlock()
	}()
	select {
	case <-g.release:
		return nil, errors.New("released")
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// until waits until n requests are on their way.
func (g *gated) until(t *testing.T, n int) {
	t.Helper()
	in := func() int { g.mu.Lock(); defer g.mu.Unlock(); return g.waiting }
	for end := time.Now().Add(30 * time.Second); in() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d fetches on their way, want %d", in(), n)
		}
	}
}

func from(ctx context.Context, address string) context.Context {
	return request.WithClient(ctx, request.Client{Addr: netip.MustParseAddr(address)})
}

// TestRoom: of one client there is one fetch at a time, whose answer all share; 32 in all,
// 8 for one network; and one network causes 30 in five minutes. A caller that leaves ends
// nothing.
func TestRoom(t *testing.T) {
	w := newWorld(t)
	w.Close()
	g := &gated{release: make(chan struct{})}
	w.Service = client.New(client.Options{
		Store: w.db.Clients, HTTP: &http.Client{Transport: g}, Issuer: issuer, Limits: ratelimit.New(1000, w.clock), Now: w.clock, Log: slog.New(slog.DiscardHandler),
	})
	var all sync.WaitGroup
	load := func(ctx context.Context, i int) {
		all.Go(func() {
			if _, err := w.Load(ctx, fmt.Sprintf("https://a%d.example.com/client.json", i), client.ForRequest); err == nil {
				t.Error("loaded")
			}
		})
	}
	until := func(n int) { t.Helper(); g.until(t, n) }
	leaving, leave := context.WithCancel(from(t.Context(), "192.0.2.1"))
	load(leaving, 0)
	until(1)
	for range 20 { // they share it
		load(from(t.Context(), "192.0.2.1"), 0)
	}
	leave()
	for i := range 10 {
		load(from(t.Context(), "192.0.2.1"), 1+i)
	}
	until(8)
	for i := range 40 {
		load(from(t.Context(), fmt.Sprintf("198.51.100.%d", i)), 100+i)
	}
	until(32)
	close(g.release)
	all.Wait()
	if g.most != 32 || g.all != 51 {
		t.Errorf("%d fetches at once, %d in all", g.most, g.all)
	}
	for i := range 19 { // 11 are counted already
		load(from(t.Context(), "192.0.2.1"), 200+i)
		all.Wait()
	}
	_, err := w.Load(from(t.Context(), "192.0.2.1"), "https://one.example.com/more", client.ForRequest)
	var many request.ErrTooMany
	if !errors.As(err, &many) {
		t.Errorf("the 31st: %v", err)
	}
	if _, err := w.Load(from(t.Context(), "192.0.2.2"), "https://one.example.com/more", client.ForRequest); errors.As(err, &many) {
		t.Errorf("another network: %v", err)
	}
}

// TestOwnQueue: a network that has as many fetches on their way as it may, and more in its
// queue, makes no other network wait that needs the same document.
func TestOwnQueue(t *testing.T) {
	w := newWorld(t)
	w.Close()
	g := &gated{release: make(chan struct{})}
	w.Service = client.New(client.Options{
		Store: w.db.Clients, HTTP: &http.Client{Transport: g}, Issuer: issuer, Now: w.clock, Log: slog.New(slog.DiscardHandler),
	})
	var all sync.WaitGroup
	load := func(address string, i int) {
		all.Go(func() {
			if _, err := w.Load(from(t.Context(), address), fmt.Sprintf("https://a%d.example.com/client.json", i), client.ForRequest); err == nil {
				t.Error("loaded")
			}
		})
	}
	for i := range 8 {
		load("192.0.2.1", i)
	}
	g.until(t, 8)
	load("192.0.2.1", 8)
	time.Sleep(20 * time.Millisecond) // it is in the queue now, or this shows nothing
	load("192.0.2.2", 8)
	g.until(t, 9)
	close(g.release)
	all.Wait()
	if g.all != 9 {
		t.Errorf("%d fetches, want one for each document", g.all)
	}
}

// TestFaultDetail: the log has what the asker does not read.
func TestFaultDetail(t *testing.T) {
	w := newWorld(t)
	w.Close()
	var log bytes.Buffer
	w.Service = client.New(client.Options{
		Store: w.db.Clients, HTTP: &http.Client{Transport: w}, Issuer: issuer, Now: w.clock, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	w.serve(appID, answer{body: jsonOf(confidential(map[string]any{"jwks": nil, "jwks_uri": setURL}))})
	w.serve(setURL, answer{err: &net.DNSError{Err: "server misbehaving", Name: "keys.example.com", Server: "10.0.0.53:53"}})
	_, err := w.Load(t.Context(), appID, client.ForRequest)
	refused(t, err, client.CodeInvalidMetadata, "jwks_uri: name does not resolve: its name servers fail")
	w.Close()
	if !strings.Contains(log.String(), "10.0.0.53:53: server misbehaving") {
		t.Errorf("the log has no reason:\n%s", &log)
	}
}

// TestFetchedOnce: however the calls of many callers fall, a document that does for them is
// fetched once, and so is one that fails.
func TestFetchedOnce(t *testing.T) {
	w := newWorld(t)
	for i := range 200 {
		id := fmt.Sprintf("https://app.example.com/%d/client-metadata.json", i)
		if i%2 == 0 {
			w.serve(id, answer{body: jsonOf(metadata(map[string]any{"client_id": id}))})
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { _, _ = w.Load(t.Context(), id, client.ForRequest) })
		}
		all.Wait()
		if n := w.fetched(id); n != 1 {
			t.Errorf("%s: fetched %d times", id, n)
		}
	}
}
