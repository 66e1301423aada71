package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// statusAt asks the operator's port: the status, 0 if nobody answers.
func statusAt(ctx context.Context, url string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// await waits until an URL answers with a status.
func await(t *testing.T, url string, want int, within time.Duration) {
	t.Helper()
	got := 0
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = statusAt(t.Context(), url); got == want {
			return
		}
	}
	t.Errorf("%s answers %d, want %d within %s", url, got, want, within)
}

// TestHealthCommand: nestbox health needs no port and no password, and its exit status says it.
func TestHealthCommand(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "")
	for _, args := range [][]string{{"health"}, {"health", "--ready"}} {
		if out, err := pdstest.Run(t, "", append(args, "--data", p.Dir)...); err != nil || out != "ok\n" {
			t.Errorf("%v: %q, %v", args, out, err)
		}
	}
	out, err := pdstest.Run(t, "", "health", "--ready", "--json", "--data", p.Dir)
	if err != nil {
		t.Error(err)
	}
	wantContains(t, out, `"live": true`, `"ready": true`, `"version"`)
	p.Stop()
	got := pdstest.Exec(t, pdstest.Invocation{Args: []string{"health", "--data", p.Dir}})
	if got.Code != 1 {
		t.Errorf("of no server: %+v", got)
	}
	wantContains(t, got.Stderr, "no server runs on the data directory")
	if got = pdstest.Exec(t, pdstest.Invocation{Args: []string{"health", "--data", filepath.Join(p.Dir, "missing")}}); got.Code != 1 {
		t.Errorf("of no data directory: %+v", got)
	}
}

// TestStopDelay: a server that stops announces it first, and goes on answering, so that a load
// balancer that asks it regularly refuses nobody.
func TestStopDelay(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "", "PDS_METRICS_LISTEN=127.0.0.1:0", "PDS_STOP_DELAY=5s")
	aside := "http://" + p.Ready.Metrics
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 200, "/nothing": 404} {
		if got := statusAt(t.Context(), aside+path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	var ready atomic.Bool
	var served, refused atomic.Int64
	ready.Store(true)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() { // the balancer looks four times a second
		for ctx.Err() == nil {
			if statusAt(ctx, aside+"/readyz") != http.StatusOK {
				ready.Store(false)
			}
			time.Sleep(250 * time.Millisecond)
		}
	})
	for range 4 {
		load.Go(func() {
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for ctx.Err() == nil && ready.Load() {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Base+"/xrpc/_health", http.NoBody) //nolint:contextcheck // one that is under way is not broken off
				if err != nil {
					return
				}
				resp, err := c.Do(req)
				if err != nil {
					refused.Add(1)
					continue
				}
				_ = resp.Body.Close()
				served.Add(1)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	told := time.Now()
	p.Signal(syscall.SIGTERM)
	await(t, aside+"/readyz", http.StatusServiceUnavailable, 4*time.Second)
	if got := statusAt(t.Context(), aside+"/livez"); got != http.StatusOK {
		t.Errorf("/livez of a server that stops: %d", got)
	}
	if got := pdstest.Exec(t, pdstest.Invocation{Args: []string{"health", "--ready", "--data", p.Dir}}); got.Code != 1 || !strings.Contains(got.Stdout, "the server stops") {
		t.Errorf("health --ready of a server that stops: %+v", got)
	}
	if code := p.Wait(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if took := time.Since(told); took < 5*time.Second {
		t.Errorf("it stopped after %s", took)
	}
	stop()
	load.Wait()
	if ready.Load() || refused.Load() > 0 || served.Load() < 10 {
		t.Errorf("ready %t, %d requests were refused, %d served", ready.Load(), refused.Load(), served.Load())
	}
}

// TestServiceManager: systemd hears when the server serves, that it lives, and when it stops.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(pdstest.TempDir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hear := func() string {
		t.Helper()
		text := make([]byte, 100)
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}
	p := pdstest.Launch(t, "", "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=400000")
	seen := map[string]int{}
	for seen["READY=1"] == 0 || seen["WATCHDOG=1"] < 2 {
		seen[hear()]++
	}
	p.Signal(syscall.SIGTERM)
	for seen["STOPPING=1"] == 0 {
		seen[hear()]++
	}
	if code := p.Wait(); code != 0 || len(seen) != 3 {
		t.Errorf("status %d, heard %v", code, seen)
	}
}

// TestWatchdogOfAnother: a watchdog that is meant for another process, and a socket that is gone,
// do no harm.
func TestWatchdogOfAnother(t *testing.T) {
	t.Parallel()
	p := pdstest.Launch(t, "", "NOTIFY_SOCKET="+filepath.Join(pdstest.TempDir(t), "gone"), "WATCHDOG_USEC=100000", "WATCHDOG_PID=1")
	p.AwaitLog("the service manager was not told")
	if got := p.Do(t, pdstest.Request{NSID: "_health"}); got.Status != http.StatusOK {
		t.Errorf("%d", got.Status)
	}
}

// TestMetricsListenRefuses: what cannot be listened on is a fault at the start, and no file is
// lost by it.
func TestMetricsListenRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(pdstest.TempDir(t), "precious")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := serveFails(t, []string{"PDS_METRICS_LISTEN=" + file}, "--dev", "--listen", "127.0.0.1:0", "--data", filepath.Join(filepath.Dir(file), "data"))
	wantContains(t, got, "PDS_METRICS_LISTEN", "is no socket")
	if text, err := os.ReadFile(file); err != nil || string(text) != "kept" {
		t.Errorf("the file has %q, %v", text, err)
	}
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	got = serveFails(t, []string{fmt.Sprintf("PDS_METRICS_LISTEN=%s", taken.Addr())}, "--dev", "--listen", "127.0.0.1:0", "--data", filepath.Join(filepath.Dir(file), "data"))
	wantContains(t, got, "PDS_METRICS_LISTEN", "address already in use")
}
