package admin_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"nestbox/admin"
	"nestbox/config"
	"nestbox/internal/pdstest"
	"nestbox/server"
)

// TestFirehose: the operator views the stream of a running server, and raises
// its numbers; a restart in between changes nothing.
func TestFirehose(t *testing.T) {
	dir := t.TempDir()
	s := pdstest.Start(t, pdstest.Options{Dir: dir})
	s.SignUp(t, "alice")
	subscribe := func(s *pdstest.InProcess, query string) *websocket.Conn {
		t.Helper()
		conn, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(s.Base, "http")+"/xrpc/com.atproto.sync.subscribeRepos"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	conn := subscribe(s, "")
	var before, after admin.FirehoseStatus
	if err := s.Run(t.Context(), "firehose.status", admin.Done{}, &before); err != nil {
		t.Fatal(err)
	}
	if before.Last < 1 || before.Oldest != 1 || before.Bytes == 0 || before.OldestAt == "" || before.Announcing || before.LogBytes == 0 ||
		len(before.Subscribers) != 1 || before.Subscribers[0].Sent != before.Last {
		t.Errorf("status %+v", before)
	}

	var jumped admin.Jumped
	for _, args := range []admin.JumpArgs{
		{}, {To: -1}, {To: before.Last - 1}, {To: 1 << 53}, {To: 100, Relay: "https://a.example"}, {Relay: "a.example"}, {Relay: "ftp://a.example"},
	} {
		if err := s.Run(t.Context(), "firehose.jump", args, &jumped); err == nil {
			t.Errorf("jumped by %+v", args)
		}
	}
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/xrpc/com.atproto.sync.getHostStatus" || r.URL.Query().Get("hostname") != "localhost" {
			t.Errorf("the relay was asked for %s", r.URL)
		}
		_, _ = io.WriteString(w, `{"hostname":"localhost","seq":123456,"status":"active"}`)
	}))
	defer relay.Close()
	if err := s.Run(t.Context(), "firehose.jump", admin.JumpArgs{Relay: relay.URL + "/"}, &jumped); err != nil || jumped.Last < 123457 {
		t.Fatalf("jumped to %+v, %v", jumped, err)
	}
	var closed *websocket.CloseError
	if _, _, err := conn.ReadMessage(); !errors.As(err, &closed) || closed.Code != websocket.CloseServiceRestart {
		t.Errorf("the subscriber got %v", err)
	}
	s.Stop()

	// On the data directory of a stopped server, too; the next one announces.
	c, _, err := config.Load(config.Flags{Data: dir, Dev: true, Command: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	stopped, err := server.Open(t.Context(), server.Options{Config: c, Log: slog.New(slog.DiscardHandler), Now: time.Now, Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	const to = 5_000_000
	err = stopped.Run(t.Context(), "firehose.jump", admin.JumpArgs{To: to}, &jumped)
	err = errors.Join(err, stopped.Run(t.Context(), "firehose.status", admin.Done{}, &after), stopped.Close())
	if err != nil || jumped.Last != to || after.Last != to || after.Oldest != to+1 || !after.Announcing || after.Bytes != 0 {
		t.Errorf("jumped to %+v, then %+v, %v", jumped, after, err)
	}
	s = pdstest.Start(t, pdstest.Options{Dir: dir})
	conn = subscribe(s, "?cursor=5000000")
	// It listens on another port, which the DID documents name at once.
	for _, kind := range []string{"#identity", "#account", "#sync"} {
		if _, frame, err := conn.ReadMessage(); err != nil || !strings.Contains(string(frame), kind) {
			t.Errorf("announced %q, %v; want %s", frame, err, kind)
		}
	}
	// Open streams do not keep a server from stopping.
	started := time.Now()
	s.Stop()
	if took := time.Since(started); took > 8*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if _, _, err := conn.ReadMessage(); !errors.As(err, &closed) || closed.Code != websocket.CloseGoingAway {
		t.Errorf("the subscriber got %v", err)
	}
}
