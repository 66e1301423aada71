package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// aside starts a server whose operator's port is a socket, and returns it with a client of that.
func aside(t *testing.T, settings ...string) (*pdstest.InProcess, func(header http.Header, path string) (int, string)) {
	t.Helper()
	socket := filepath.Join(pdstest.TempDir(t), "m")
	s := pdstest.Start(t, pdstest.Options{Settings: append(settings, "PDS_METRICS_LISTEN="+socket)})
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(c.CloseIdleConnections)
	return s, func(header http.Header, path string) (int, string) {
		t.Helper()
		return get(t, c, "http://nestbox"+path, header)
	}
}

func get(t *testing.T, c *http.Client, url string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// series returns the lines that are no comments.
func series(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// TestMetrics: what people do is counted, and every name of docs/operations.md is there.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s, ask := aside(t, "PDS_RATE_LIMITS_ENABLED=true")
	alice := s.SignUp(t, "alice")
	alice = s.MustRefresh(t, alice.RefreshJwt)
	s.SignIn(t, "alice.test", pdstest.Password)
	s.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": "alice.test", "password": "wrong"}})
	write := func(nsid string, body map[string]any) {
		body["repo"], body["collection"] = alice.DID, "com.example.note"
		if got := s.Do(t, pdstest.Request{NSID: "com.atproto.repo." + nsid, Auth: pdstest.Bearer(alice.AccessJwt), Body: body}); got.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", nsid, got.Status, got.Body)
		}
	}
	record := func(text string) map[string]any { return map[string]any{"$type": "com.example.note", "text": text} }
	write("createRecord", map[string]any{"record": record("one"), "rkey": "a"})
	write("putRecord", map[string]any{"record": record("two"), "rkey": "a"})
	write("deleteRecord", map[string]any{"rkey": "a"})
	var made any
	if err := s.Run(t.Context(), "account.create", map[string]string{"handle": "bob.test", "email": "bob@example.com"}, &made); err != nil {
		t.Fatal(err)
	}
	var text string
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, text = ask(nil, "/metrics"); strings.Contains(text, "nestbox_accounts") && strings.Contains(text, "nestbox_db_bytes") || time.Now().After(deadline) {
			break
		}
	}
	for _, line := range []string{
		`account_created_total{deactivated="false",source="com.atproto.server.createAccount"} 1`,
		`session_created_total{source="com.atproto.server.createAccount"} 1`,
		`session_created_total{source="com.atproto.server.createSession"} 1`,
		`nestbox_session_refresh_total{outcome="advance"} 1`,
		`nestbox_signin_total{outcome="done"} 1`,
		`nestbox_signin_total{outcome="refused"} 1`,
		`nestbox_repo_commits_total 3`,
		`nestbox_records_written_total{action="create"} 1`,
		`nestbox_records_written_total{action="update"} 1`,
		`nestbox_records_written_total{action="delete"} 1`,
		`http_server_request_duration_seconds_count{http_request_method="POST",http_response_status_code="200",http_route="/xrpc/com.atproto.server.refreshSession"} 1`,
		`nestbox_ready 1`,
		`nestbox_firehose_dropped_total{reason="too-slow"} 0`,
		`nestbox_ratelimited_total{limit="all"} 0`,
		`nestbox_mail_total{outcome="sent"}`,
		`nestbox_build_info{goversion="go`,
		`nestbox_db_commit_duration_seconds_count`, `nestbox_db_group_size_count`, `nestbox_db_queue_wait_seconds_count`,
		`nestbox_db_bytes{file="wal"}`, `nestbox_db_free_pages`, `nestbox_disk_free_bytes{disk="data"}`, `nestbox_clock_skew_seconds`,
		`nestbox_firehose_seq`, `nestbox_firehose_subscribers 0`, `nestbox_firehose_slowest_lag_events 0`, `nestbox_firehose_log_bytes`,
		`nestbox_firehose_log_oldest_timestamp_seconds `, `nestbox_accounts{status="active"}`, `nestbox_blob_bytes 0`, `nestbox_blob_files 0`,
		`nestbox_blob_garbage_files 0`, `nestbox_blob_uploads_total 0`, `nestbox_mail_queue`, `nestbox_import_total{outcome="done"} 0`,
		`go_goroutines`, `process_cpu_seconds_total`,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("%s is missing", line)
		}
	}
	if strings.Contains(text, alice.DID) || strings.Contains(text, "alice.test") || strings.Contains(text, "127.0.0.1") {
		t.Error("metrics name people, or their clients")
	}
}

// TestMetricsOfStrangers: names that strangers make up lead to no series.
func TestMetricsOfStrangers(t *testing.T) {
	t.Parallel()
	s, ask := aside(t)
	send := func(from, to int) {
		for i := range to - from {
			n := from + i
			req, err := http.NewRequestWithContext(t.Context(), []string{"GET", "POST", "BREW"}[n%3], fmt.Sprintf("%s/xrpc/com.example%d.get?did=did:plc:x%d", s.Base, n, n), http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = fmt.Sprintf("host%d.test", n)
			req.Header.Set("Atproto-Proxy", fmt.Sprintf("did:web:host%d.test#x", n))
			if n%5 == 0 {
				req.URL.Path = fmt.Sprintf("/made/up/%d", n)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
	}
	send(0, 60)
	_, first := ask(nil, "/metrics")
	send(60, 1500)
	_, text := ask(nil, "/metrics")
	before, after := 0, 0
	for _, line := range series(first) {
		if strings.HasPrefix(line, "http_") {
			before++
		}
	}
	for _, line := range series(text) {
		if strings.HasPrefix(line, "http_") {
			after++
		}
		if strings.Contains(line, "example") || strings.Contains(line, "host1") || strings.Contains(line, "BREW") {
			t.Errorf("a stranger's word: %s", line)
		}
	}
	if after != before || len(series(text)) >= 2000 {
		t.Errorf("%d series of requests, then %d; %d in all", before, after, len(series(text)))
	}
}

// TestAside: the operator's port lets in who may ask, and the public one has nothing of it.
func TestAside(t *testing.T) {
	t.Parallel()
	s, ask := aside(t, "PDS_METRICS_TOKEN=0123456789abcdef0123")
	paths := []string{"/metrics", "/livez", "/readyz", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline"}
	for _, path := range paths {
		if status, body := ask(nil, path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
		for _, header := range []http.Header{{"X-Forwarded-For": {"192.0.2.1"}}, {"Via": {"1.1 proxy"}}, {"Forwarded": {"for=x"}, "Authorization": {"Bearer 0123456789abcdef012"}}} {
			if status, _ := ask(header, path); status != http.StatusUnauthorized {
				t.Errorf("%s with %v: %d", path, header, status)
			}
		}
		if status, _ := ask(http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Authorization": {"Bearer 0123456789abcdef0123"}}, path); status != http.StatusOK {
			t.Errorf("%s with the token: %d", path, status)
		}
		if status, _ := get(t, http.DefaultClient, s.Base+path, http.Header{"Authorization": {"Bearer 0123456789abcdef0123"}}); status != http.StatusNotFound {
			t.Errorf("%s on the public port: %d", path, status)
		}
	}
	if status, _ := ask(nil, "/xrpc/com.atproto.server.describeServer"); status != http.StatusNotFound {
		t.Errorf("the public API on the operator's port: %d", status)
	}
}

// TestAsideHost: on loopback, a browser that was led here under another name gets nothing.
func TestAsideHost(t *testing.T) {
	t.Parallel()
	var l net.ListenConfig
	free, err := l.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().String()
	_ = free.Close()
	pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_METRICS_LISTEN=" + at}})
	for host, want := range map[string]int{at: 200, "localhost": 200, "[::1]:2584": 200, "evil.example": 401, "localhost.evil.example:80": 401} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+"/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != want {
			t.Errorf("Host %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
}

// TestHealthCommand: the command answers from the server's memory.
func TestHealthCommand(t *testing.T) {
	t.Parallel()
	s := pdstest.Start(t, pdstest.Options{})
	var raw json.RawMessage
	if err := s.Run(t.Context(), "health", struct{}{}, &raw); err != nil || string(raw) != `{"version":"test","live":true,"ready":true}` {
		t.Errorf("%s, %v", raw, err)
	}
}
