package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"nestbox/internal/pdstest"
	"nestbox/store/sqlite"
)

const (
	// logBoundFor is how long TestLogBound goes on, logBoundMost how long at most with
	// NESTBOX_SOAK.
	logBoundFor  = 10 * time.Second
	logBoundMost = 10 * time.Minute
	// logBound is what the log stays below here: its limit, and the largest transaction of
	// this load, which is far below that.
	logBound = sqlite.LogLimit + 1<<20
)

// logLoad is what a server does in TestLogBound.
type logLoad struct {
	t      *testing.T
	p      *pdstest.Process
	owners []pdstest.Session
	text   string
	// counts of what came to its end, by kind; guarded by mu.
	mu   sync.Mutex
	done map[string]int
}

// TestLogBound: the write-ahead log of a server stays short while accounts write,
// exports overlap without a gap, subscribers replay, people search, and a client that
// never comes to its end reads an export.
func TestLogBound(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	t.Parallel()
	long := logBoundFor
	if text := os.Getenv("NESTBOX_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("NESTBOX_SOAK: %v", err)
		}
		long = min(d, logBoundMost)
	}
	l := &logLoad{t: t, p: pdstest.Launch(t, ""), text: strings.Repeat("some text ", 2000), done: map[string]int{}}
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		l.owners = append(l.owners, l.p.SignUp(t, name))
	}
	// Not a deadline, which a dial would notice before ctx does.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	defer time.AfterFunc(long, stop).Stop()
	var running sync.WaitGroup
	loop := func(kind string, step func(context.Context, int) error) {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := step(ctx, n); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", kind, err)
					return
				}
				l.mu.Lock()
				l.done[kind]++
				l.mu.Unlock()
			}
		})
	}
	for i := range l.owners {
		loop("write", func(ctx context.Context, n int) error { return l.write(ctx, i, n) })
		loop("export", func(ctx context.Context, n int) error { return l.export(ctx, i+n, 0) })
	}
	loop("endless export", func(ctx context.Context, _ int) error { return l.export(ctx, 0, time.Second) })
	loop("replay", func(ctx context.Context, _ int) error { return l.replay(ctx) })
	loop("search", func(ctx context.Context, _ int) error {
		return l.get(ctx, "com.atproto.admin.searchAccounts?email=a", basic("admin:admin"), 0)
	})
	most := int64(0)
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if fi, err := os.Stat(filepath.Join(l.p.Dir, "nestbox.sqlite-wal")); err == nil {
			most = max(most, fi.Size())
		}
		if most > logBound {
			t.Errorf("the log has %d bytes, at most %d are allowed", most, logBound)
			break
		}
	}
	stop()
	running.Wait()
	t.Logf("in %s: %v; the log had at most %d MiB", long, l.done, most>>20)
	for _, kind := range []string{"write", "export", "replay", "search"} {
		if l.done[kind] == 0 {
			t.Errorf("nothing of this kind came to its end: %s", kind)
		}
	}
	out, err := pdstest.Run(t, "", "firehose", "status", "--data", l.p.Dir)
	if err != nil || !strings.Contains(out, "write-ahead log:") {
		t.Errorf("firehose status: %s, %v", out, err)
	}
}

// write replaces records, so that the repository stays as large as it is.
func (l *logLoad) write(ctx context.Context, owner, n int) error {
	a, err := l.send(ctx, http.MethodPost, "com.atproto.repo.putRecord", pdstest.Bearer(l.owners[owner].AccessJwt), fmt.Sprintf( //nolint:bodyclose // drain closes it
		`{"repo":%q,"collection":"com.example.note","rkey":"n%d","record":{"n":%d,"text":%q}}`, l.owners[owner].DID, n%200, n, l.text))
	if err != nil {
		return err
	}
	return drain(ctx, a, 0)
}

// export reads a repository, or a KiB of it in each pause, for ever.
func (l *logLoad) export(ctx context.Context, owner int, pause time.Duration) error {
	return l.get(ctx, "com.atproto.sync.getRepo?did="+url.QueryEscape(l.owners[owner%len(l.owners)].DID), "", pause)
}

func (l *logLoad) get(ctx context.Context, nsid, auth string, pause time.Duration) error {
	a, err := l.send(ctx, http.MethodGet, nsid, auth, "") //nolint:bodyclose // drain closes it
	if err != nil {
		return err
	}
	return drain(ctx, a, pause)
}

func (l *logLoad) send(ctx context.Context, method, nsid, auth, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.p.Base+"/xrpc/"+nsid, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return http.DefaultClient.Do(req)
}

// drain reads an answer to its end.
func drain(ctx context.Context, a *http.Response, pause time.Duration) error {
	defer func() { _ = a.Body.Close() }()
	if a.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(a.Body)
		return fmt.Errorf("%d %s", a.StatusCode, body)
	}
	for {
		_, err := io.CopyN(io.Discard, a.Body, 1<<10)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// replay reads the first events that are kept.
func (l *logLoad) replay(ctx context.Context) error {
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(l.p.Base, "http")+"/xrpc/com.atproto.sync.subscribeRepos?cursor=0", nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	defer func() { _ = conn.Close() }()
	for range 50 {
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if _, _, err := conn.ReadMessage(); err != nil {
			return err
		}
	}
	return nil
}
