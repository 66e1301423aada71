//nolint:bodyclose // ask has every body closed at the end of the test
package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/auth"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/request"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

// downloads is a world behind HTTP, where a client names its own network, and the
// system's buffers are small: a client that reads nothing stalls.
type downloads struct {
	*world
	base  string
	ended chan struct{} // a value for each request that has ended
}

// unlimited is a network without limits.
const unlimited = "10.9.9.9"

func newDownloads(t *testing.T) *downloads {
	t.Helper()
	d := &downloads{world: newWorld(t), ended: make(chan struct{}, 1000)}
	d.TempDir = t.TempDir()
	viewer := func(context.Context, *http.Request) (auth.Viewer, error) { return auth.Viewer{}, nil }
	front := &request.Front{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Unlimited:      func(_ *http.Request, c request.Client) bool { return c.Network().String() == unlimited },
		Log:            slog.New(slog.DiscardHandler), Now: d.Now,
	}
	handler := front.Handler(&xrpc.Server{Methods: map[string]xrpc.Method{
		"com.atproto.sync.getRepo":   xrpc.Stream(viewer, d.GetRepo).CountedApart(d.CountExport),
		"com.atproto.sync.getRecord": xrpc.Stream(viewer, d.GetProof),
		"com.atproto.sync.getBlocks": xrpc.Stream(viewer, d.GetBlocks),
	}})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { d.ended <- struct{}{} }()
		handler.ServeHTTP(w, r)
	}))
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && state == http.StateNew {
			_ = tcp.SetWriteBuffer(128 << 10)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	d.base = s.URL
	return d
}

// ask sends a request and reads only the head of the answer.
func (d *downloads) ask(network, method string, params ...string) *http.Response {
	d.t.Helper()
	q := url.Values{}
	for i := 0; i < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, d.base+"/xrpc/com.atproto.sync."+method+"?"+q.Encode(), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("X-Forwarded-For", network)
	client := &http.Transport{DisableKeepAlives: true, ReadBufferSize: 1024, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(128 << 10)
		}
		return c, err
	}}
	resp, err := client.RoundTrip(r)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func (d *downloads) getRepo(network string, p *person) *http.Response {
	d.t.Helper()
	return d.ask(network, "getRepo", "did", p.did.String())
}

// finish reads the rest of an answer.
func (d *downloads) finish(resp *http.Response) []byte {
	d.t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		d.t.Fatalf("%d %s %v: %.200q", resp.StatusCode, resp.Header, err, body)
	}
	_ = resp.Body.Close()
	<-d.ended
	return body
}

// abandon leaves a download, and waits until the server has noticed.
func (d *downloads) abandon(resp *http.Response) {
	_ = resp.Body.Close()
	<-d.ended
}

// refused fails the test unless the answer is that error, with Retry-After.
func (d *downloads) refused(what string, resp *http.Response, status int, name string) {
	d.t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || !bytes.Contains(body, []byte(`"`+name+`"`)) || resp.Header.Get("Retry-After") == "" {
		d.t.Errorf("%s: %d %v %.200q %v, want %d %s", what, resp.StatusCode, resp.Header, body, err, status, name)
	}
	_ = resp.Body.Close()
	<-d.ended
}

// large makes an account with a repository of some megabytes.
func (d *downloads) large(name string, megabytes int) *person {
	d.t.Helper()
	p := d.person(name)
	for i := range megabytes {
		p.mustCreate("com.example.note", new(fmt.Sprintf("note%d", i)), `{"text":"`+strings.Repeat("x", 1_000_000)+`"}`)
	}
	return p
}

// TestDownloadRoom: the disk space of all stalled downloads is bounded, and given
// back.
func TestDownloadRoom(t *testing.T) {
	d := newDownloads(t)
	d.MaxSpool = 7 << 20
	alice, bob, carol, dave := d.large("alice", 3), d.large("bob", 3), d.large("carol", 3), d.person("dave")
	ofAlice, ofBob := d.getRepo("10.0.0.1", alice), d.getRepo("10.0.0.2", bob)
	full := d.getRepo("10.0.0.3", carol)
	if wait := full.Header.Get("Retry-After"); wait != "30" {
		t.Errorf("no room: Retry-After %q, want that of a busy server", wait)
	}
	d.refused("no room", full, http.StatusServiceUnavailable, "ServiceUnavailable")
	d.refused("no room for a third, whoever asks", d.getRepo(unlimited, carol), http.StatusServiceUnavailable, "ServiceUnavailable")
	// A download that takes no room of its own is not refused: a small one, and the
	// same one.
	dave.checkFile(d.finish(d.getRepo("10.0.0.3", dave)))
	alice.checkFile(d.finish(d.getRepo("10.0.0.3", alice)))
	// The operator is not held up.
	carol.checkExport()
	d.refused("what was refused, or is the operator's, took room or gave some", d.getRepo("10.0.0.3", carol), http.StatusServiceUnavailable, "ServiceUnavailable")
	d.abandon(ofAlice)
	carol.checkFile(d.finish(d.getRepo("10.0.0.3", carol)))
	bob.checkFile(d.finish(ofBob))

	// A disk that is nearly full has room for no more than half of what is free.
	// What is free stays the same here, whatever is written.
	d.MaxSpool = 0
	for free, status := range map[int64]int{2 << 20: http.StatusServiceUnavailable, 8 << 20: http.StatusOK} {
		d.Free = func() (int64, error) { return free, nil }
		if resp := d.getRepo("10.0.0.1", alice); status == http.StatusOK {
			alice.checkFile(d.finish(resp))
		} else {
			d.refused("a full disk", resp, status, "ServiceUnavailable")
		}
	}
	d.Free = func() (int64, error) { return 0, errors.New("no disk") }
	d.refused("no disk", d.getRepo("10.0.0.1", alice), http.StatusServiceUnavailable, "ServiceUnavailable")
}

// TestDownloadPlaces: one network gets only a part of the places, and all networks
// together no more than there are.
func TestDownloadPlaces(t *testing.T) {
	const ofNetwork, all, kept = 16, 128, 16
	d := newDownloads(t)
	alice := d.large("alice", 2)
	id := alice.mustCreate("com.example.note", new("small"), `{"text":"hello"}`).CID
	var held []*http.Response
	hold := func(network string) {
		t.Helper()
		resp := d.getRepo(network, alice)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s, %d held: %d", network, len(held), resp.StatusCode)
		}
		held = append(held, resp)
	}
	for range ofNetwork {
		hold("10.0.0.0")
	}
	d.refused("one more of a network", d.getRepo("10.0.0.0", alice), http.StatusTooManyRequests, "RateLimitExceeded")
	d.refused("blocks", d.ask("10.0.0.0", "getBlocks", "did", alice.did.String(), "cids", id), http.StatusTooManyRequests, "RateLimitExceeded")
	d.finish(d.ask("10.0.0.0", "getRecord", "did", alice.did.String(), "collection", "com.example.note", "rkey", "small"))
	d.refused("a large record", d.ask("10.0.0.0", "getRecord", "did", alice.did.String(), "collection", "com.example.note", "rkey", "note0"), http.StatusTooManyRequests, "RateLimitExceeded")
	for range 2 * ofNetwork {
		hold(unlimited)
	}
	for i := len(held); i < all-kept; i++ {
		hold(fmt.Sprintf("10.0.0.%d", i/ofNetwork))
	}
	d.refused("what is kept for networks that were here before", d.getRepo("10.1.0.0", alice), http.StatusServiceUnavailable, "ServiceUnavailable")
	for range kept {
		hold(unlimited)
	}
	d.refused("one more in all", d.getRepo("10.1.0.0", alice), http.StatusServiceUnavailable, "ServiceUnavailable")
	d.refused("one more in all, without limit", d.getRepo(unlimited, alice), http.StatusServiceUnavailable, "ServiceUnavailable")
	d.abandon(held[0])
	alice.checkFile(d.finish(d.getRepo(unlimited, alice)))
	whole := alice.export()
	for i, resp := range held[1:] {
		if i%16 > 0 {
			d.abandon(resp)
		} else if got := d.finish(resp); !bytes.Equal(got, whole) {
			t.Errorf("download %d differs", i)
		}
	}
}

// TestDownloadsOfACustomer: a customer with a /48 has half of the places, from however
// many networks.
func TestDownloadsOfACustomer(t *testing.T) {
	d := newDownloads(t)
	alice := d.large("alice", 2)
	statuses := map[int]int{}
	for n := range 70 {
		statuses[d.getRepo(fmt.Sprintf("2001:db8:1:%x::1", n/2), alice).StatusCode]++
	}
	if statuses[http.StatusOK] != 64 || statuses[http.StatusTooManyRequests] != 6 {
		t.Errorf("one customer: %v", statuses)
	}
	if got := d.getRepo("192.0.2.1", alice).StatusCode; got != http.StatusOK {
		t.Errorf("a neighbour: %d", got)
	}
}

// TestDownloadIdle: if there is no free place, a new client gets the place of a
// download that nobody reads; a download that goes on keeps its place.
func TestDownloadIdle(t *testing.T) {
	const all = 128 - 16
	d := newDownloads(t)
	alice := d.large("alice", 2)
	var held []*http.Response
	for i := range all {
		held = append(held, d.getRepo(fmt.Sprintf("10.0.0.%d", i/16), alice))
	}
	for i, resp := range held {
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%d: %d", i, resp.StatusCode)
		}
	}
	d.clock.Advance(9 * time.Second)
	d.refused("all were read just now", d.getRepo("10.1.0.0", alice), http.StatusServiceUnavailable, "ServiceUnavailable")
	d.clock.Advance(time.Minute)
	for range 3 {
		alice.checkFile(d.finish(d.getRepo("10.1.0.0", alice)))
	}
	<-d.ended // the first new client has taken one's place, and the others its place
	cut := 0
	for _, resp := range held {
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			cut++
		}
	}
	if cut != 1 {
		t.Errorf("%d downloads were cut, want 1", cut)
	}
}

// TestDownloadShared: clients that ask for the same at the same time share it; a
// changed repository is exported again.
func TestDownloadShared(t *testing.T) {
	d := newDownloads(t)
	store := &watched{Store: d.Store}
	d.Store = store
	alice := d.large("alice", 2)
	rev := alice.head().Rev.String()
	made := func(want int32) {
		t.Helper()
		if got := store.scans.Swap(0); got != want {
			t.Errorf("%d exports were made, want %d", got, want)
		}
	}
	first := d.getRepo("10.0.0.1", alice)
	same := d.finish(d.getRepo("10.0.0.2", alice))
	alice.checkFile(same)
	made(1)
	d.finish(d.ask("10.0.0.1", "getRepo", "did", alice.did.String(), "since", rev))
	made(1)
	alice.mustCreate("com.example.note", nil, `{"text":"news"}`)
	if got := alice.checkFile(d.finish(d.getRepo("10.0.0.1", alice))); got.Rev != alice.head().Rev {
		t.Errorf("exported %s, the head is %s", got.Rev, alice.head().Rev)
	}
	made(1)
	if got := d.finish(first); !bytes.Equal(got, same) {
		t.Error("the first download is not the one that it shares")
	}
	d.finish(d.getRepo("10.0.0.1", alice))
	made(1) // an export that nobody takes is not kept
}

// gated makes the first scan wait until its caller gives up.
type gated struct {
	repo.Store
	first   sync.Once
	views   atomic.Int32
	scanned chan struct{}
	viewed  chan struct{}
}

func (g *gated) View(ctx context.Context, id int64, fn func(repo.View) error) error {
	if g.views.Add(1) == 2 {
		defer close(g.viewed)
	}
	return g.Store.View(ctx, id, fn)
}

func (g *gated) Scan(ctx context.Context, id int64, fn func(repo.View) error) (err error) {
	g.first.Do(func() {
		close(g.scanned)
		<-ctx.Done()
		err = ctx.Err()
	})
	if err != nil {
		return err
	}
	return g.Store.Scan(ctx, id, fn)
}

// TestDownloadFirstLeaves: clients that share an export get it even if the client
// that it is made for has gone.
func TestDownloadFirstLeaves(t *testing.T) {
	d := newDownloads(t)
	alice := d.large("alice", 2)
	gate := &gated{Store: d.Store, scanned: make(chan struct{}), viewed: make(chan struct{})}
	d.Store = gate
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	p := repo.GetRepoParams{DID: alice.did.String()}
	go func() { gone <- d.GetRepo(ctx, auth.Viewer{}, p, httptest.NewRecorder(), nil) }()
	<-gate.scanned
	got := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		if err := d.GetRepo(t.Context(), auth.Viewer{}, p, w, nil); err != nil {
			t.Error(err)
		}
		got <- w
	}()
	<-gate.viewed
	leave()
	if err := <-gone; err == nil {
		t.Error("who has gone was served")
	}
	alice.checkFile((<-got).Body.Bytes())
}

// slowWriter takes a second, by the clock, for a number of bytes.
type slowWriter struct {
	*httptest.ResponseRecorder
	clock *storetest.Clock
	pace  int
}

func (s *slowWriter) Write(b []byte) (int, error) {
	s.clock.Advance(time.Duration(len(b)) * time.Second / time.Duration(s.pace))
	return s.ResponseRecorder.Write(b)
}

// TestDownloadPace: a client that keeps the pace gets its file however long it
// takes; one that is slower is cut off soon, whatever the size of the file.
func TestDownloadPace(t *testing.T) {
	d := newDownloads(t)
	alice := d.large("alice", 20)
	p := repo.GetRepoParams{DID: alice.did.String()}
	start := d.clock.Now()
	w := &slowWriter{httptest.NewRecorder(), d.clock, 65 << 10}
	if err := d.GetRepo(t.Context(), auth.Viewer{}, p, w, nil); err != nil {
		t.Error(err)
	}
	alice.checkFile(w.Body.Bytes())
	if took := d.clock.Now().Sub(start); took < 4*time.Minute {
		t.Errorf("it took %s: this test says nothing", took)
	}
	w = &slowWriter{httptest.NewRecorder(), d.clock, 16 << 10}
	start = d.clock.Now()
	if err := d.GetRepo(t.Context(), auth.Viewer{}, p, w, nil); err == nil {
		t.Error("a slow client was served to the end")
	}
	if took := d.clock.Now().Sub(start); took > 3*time.Minute || took < 2*time.Minute {
		t.Errorf("cut off after %s and %d bytes", took, w.Body.Len())
	}

	// A download that stands still is cut off as well, and its connection with it.
	resp := d.getRepo("10.0.0.1", alice)
	d.clock.Advance(3 * time.Minute)
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || n > 2<<20 {
		t.Errorf("a stalled client got %d bytes, %v", n, err)
	}
	<-d.ended
	alice.checkFile(d.finish(d.getRepo("10.0.0.1", alice)))
}

// TestScansAreCounted: reading through large repositories is limited by their size.
func TestScansAreCounted(t *testing.T) {
	d := newDownloads(t)
	alice, bob := d.person("alice"), d.person("bob")
	root, blocks := tree(t, posts(2500))
	alice.mustImport(pack(t, alice.did, repo.NextTID(d.Now(), 1, alice.head().Rev), d.keys[alice.id], root, blocks).bytes())
	d.Limits = ratelimit.New(100, d.clock.Now)
	all := ratelimit.Limit{Name: "scans", Points: 10_000, Window: 5 * time.Minute}
	if !d.Limits.TakeN("10.0.0.1", all.Points-5, all).Allowed {
		t.Fatal("there is such a limit no more")
	}
	ofAlice := []string{"did", alice.did.String(), "cids", alice.head().CID.String()}
	d.finish(d.getRepo("10.0.0.1", alice))
	d.finish(d.ask("10.0.0.1", "getBlocks", ofAlice...))
	d.refused("a third scan", d.getRepo("10.0.0.1", alice), http.StatusTooManyRequests, "RateLimitExceeded")
	d.refused("a third scan", d.ask("10.0.0.1", "getBlocks", ofAlice...), http.StatusTooManyRequests, "RateLimitExceeded")
	d.finish(d.getRepo("10.0.0.1", bob))
	d.finish(d.getRepo("10.0.0.2", alice))
	d.clock.Advance(5 * time.Minute)
	d.finish(d.getRepo("10.0.0.1", alice))
}

// TestBytesAreCounted: a file made from a repository is limited by its bytes, however
// few records it has.
func TestBytesAreCounted(t *testing.T) {
	d := newDownloads(t)
	alice, bob := d.large("alice", 12), d.large("bob", 7)
	d.Limits = ratelimit.New(100, d.clock.Now)
	all := ratelimit.Limit{Name: "scans", Points: 10_000, Window: 5 * time.Minute}
	if !d.Limits.TakeN("10.0.0.1", all.Points-6, all).Allowed {
		t.Fatal("there is such a limit no more")
	}
	old := repo.NextTID(d.Now().AddDate(-1, 0, 0), 1, "").String()
	alice.checkFile(d.finish(d.getRepo("10.0.0.1", alice)))
	d.finish(d.ask("10.0.0.1", "getRepo", "did", alice.did.String(), "since", old))
	d.refused("a third, with the points of the first MiB left", d.getRepo("10.0.0.1", alice), http.StatusTooManyRequests, "RateLimitExceeded")
	bob.checkFile(d.finish(d.getRepo("10.0.0.1", bob)))
	alice.checkFile(d.finish(d.getRepo("10.0.0.2", alice)))
	alice.checkFile(d.finish(d.getRepo(unlimited, alice)))
	alice.checkExport()
	d.clock.Advance(5 * time.Minute)
	alice.checkFile(d.finish(d.getRepo("10.0.0.1", alice)))
}

// awaited makes the first scan wait until another call has looked at the repository.
type awaited struct{ *gated }

func (a awaited) Scan(ctx context.Context, id int64, fn func(repo.View) error) error {
	a.first.Do(func() {
		close(a.scanned)
		<-a.viewed
	})
	return a.Store.Scan(ctx, id, fn)
}

// TestDownloadFirstCannotPay: clients that share an export get it even if the client
// that it is made for has no points left.
func TestDownloadFirstCannotPay(t *testing.T) {
	d := newDownloads(t)
	alice := d.large("alice", 12)
	gate := awaited{&gated{Store: d.Store, scanned: make(chan struct{}), viewed: make(chan struct{})}}
	d.Store = gate
	d.Limits = ratelimit.New(100, d.clock.Now)
	d.Limits.TakeN("10.0.0.1", 10_000, ratelimit.Limit{Name: "scans", Points: 10_000, Window: 5 * time.Minute})
	first := make(chan *http.Response, 1)
	go func() { first <- d.getRepo("10.0.0.1", alice) }()
	<-gate.scanned
	resp := d.getRepo("10.0.0.2", alice)
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	alice.checkFile(body)
	if got := <-first; got.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the first: %d", got.StatusCode)
	}
}

// TestExportsAreCounted: calls of getRepo have a limit of their own, whatever they ask
// for.
func TestExportsAreCounted(t *testing.T) {
	d := newDownloads(t)
	alice := d.person("alice")
	d.Limits = ratelimit.New(100, d.clock.Now)
	all := ratelimit.Limit{Name: "exports", Points: 6000, Window: 5 * time.Minute}
	if !d.Limits.TakeN("10.0.0.1", all.Points-2, all).Allowed {
		t.Fatal("there is such a limit no more")
	}
	d.finish(d.getRepo("10.0.0.1", alice))
	wrong := d.ask("10.0.0.1", "getRepo", "did", "nobody")
	d.abandon(wrong)
	if wrong.StatusCode != http.StatusBadRequest || wrong.Header.Get("RateLimit-Remaining") != "0" {
		t.Errorf("a malformed one: %d %v", wrong.StatusCode, wrong.Header)
	}
	d.refused("one too many", d.getRepo("10.0.0.1", alice), http.StatusTooManyRequests, "RateLimitExceeded")
	d.finish(d.getRepo("10.0.0.2", alice))
	d.finish(d.getRepo(unlimited, alice))
}

// TestBlocksAskedFor: getBlocks bounds the number of blocks.
func TestBlocksAskedFor(t *testing.T) {
	d := newDownloads(t)
	alice := d.person("alice")
	p := repo.GetBlocksParams{DID: alice.did.String(), CIDs: make([]string, 257)}
	for i := range p.CIDs {
		p.CIDs[i] = alice.head().CID.String()
	}
	err := d.GetBlocks(t.Context(), auth.Viewer{}, p, httptest.NewRecorder(), nil)
	wantError(t, "257 blocks", err, 400, "InvalidRequest", "array too big (maximum 256, got 257) at $.cids")
	p.CIDs = p.CIDs[1:]
	if err := d.GetBlocks(t.Context(), auth.Viewer{}, p, httptest.NewRecorder(), nil); err != nil {
		t.Error(err)
	}
}
