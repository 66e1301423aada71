package request_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/request"
)

func front(log slog.Handler) *request.Front {
	return &request.Front{Log: slog.New(log), Now: time.Now}
}

func get(t *testing.T, path string) *http.Request {
	t.Helper()
	return httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
}

func serve(f *request.Front, handle http.HandlerFunc, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.Handler(handle).ServeHTTP(w, r)
	return w
}

// TestLine: every request writes one line, with known keys and short values,
// and nothing of its query, headers or body. The level tells whether the server
// failed.
func TestLine(t *testing.T) {
	const secret = "S3CRET"
	allowed := []string{"time", "level", "msg", "path", "nsid", "method", "status", "took", "client", "request_id", "did", "error", "cause"}
	for _, c := range []struct {
		name   string
		handle http.HandlerFunc
		want   map[string]any
	}{
		{"nothing written", func(http.ResponseWriter, *http.Request) {}, map[string]any{"level": "INFO", "status": 200.0, "path": "/page", "client": "192.0.2.1", "method": "GET"}},
		{"not found", http.NotFound, map[string]any{"level": "INFO", "status": 404.0}},
		{"failed", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, map[string]any{"level": "ERROR", "status": 500.0}},
		{"named", func(_ http.ResponseWriter, r *http.Request) {
			request.SetName(r.Context(), "nsid", strings.Repeat("z", 5000))
			request.SetAccount(r.Context(), "did:plc:alice")
		}, map[string]any{"level": "INFO", "did": "did:plc:alice", "nsid": strings.Repeat("z", 128)}},
		{"failed behind its first bytes", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("x"))
			request.Fail(r.Context(), 503, "ServiceUnavailable", errors.New(strings.Repeat("y", 100_000)))
		}, map[string]any{"level": "ERROR", "status": 200.0, "error": "ServiceUnavailable", "cause": strings.Repeat("y", 8<<10)}},
		{"another host failed", func(w http.ResponseWriter, r *http.Request) {
			request.SetForeign(r.Context())
			w.WriteHeader(http.StatusBadGateway)
		}, map[string]any{"level": "WARN", "status": 502.0}},
		{"refused as it should be", func(w http.ResponseWriter, r *http.Request) {
			request.SetRefusal(r.Context())
			w.WriteHeader(http.StatusServiceUnavailable)
		}, map[string]any{"level": "INFO", "status": 503.0}},
		{"refused, but failed", func(w http.ResponseWriter, r *http.Request) {
			request.SetRefusal(r.Context())
			request.Fail(r.Context(), http.StatusServiceUnavailable, "Unavailable", errors.New("x"))
			w.WriteHeader(http.StatusServiceUnavailable)
		}, map[string]any{"level": "ERROR", "status": 503.0}},
		{"canceled", func(_ http.ResponseWriter, r *http.Request) {
			request.Fail(r.Context(), 499, "ClientGone", context.Canceled)
		}, map[string]any{"level": "INFO", "error": "ClientGone", "cause": nil}},
		{"quiet", func(_ http.ResponseWriter, r *http.Request) { request.SetQuiet(r.Context()) }, map[string]any{"level": "DEBUG"}},
		{"quiet, but failed", func(w http.ResponseWriter, r *http.Request) {
			request.SetQuiet(r.Context())
			w.WriteHeader(http.StatusServiceUnavailable)
		}, map[string]any{"level": "ERROR", "status": 503.0}},
	} {
		var log bytes.Buffer
		r := get(t, "/page?token="+secret)
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("User-Agent", secret)
		serve(front(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), c.handle, r)
		var line map[string]any
		if err := json.Unmarshal(log.Bytes(), &line); err != nil {
			t.Fatalf("%s: not one line: %v\n%s", c.name, err, &log)
		}
		for key := range maps.Keys(line) {
			if !slices.Contains(allowed, key) {
				t.Errorf("%s: key %q", c.name, key)
			}
		}
		for key, want := range c.want {
			if line[key] != want {
				t.Errorf("%s: %s is %.60v, want %.60v", c.name, key, line[key], want)
			}
		}
		if strings.Contains(log.String(), secret) || line["msg"] != "request" {
			t.Errorf("%s: logged %.300s", c.name, &log)
		}
	}
}

// TestPanic ends its own request alone. An answer that has begun is left as it is.
func TestPanic(t *testing.T) {
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		status int
		body   string
	}{
		"before the answer": {func(http.ResponseWriter, *http.Request) { panic("in the kitchen") }, 500, "Internal Server Error\n"},
		"within the answer": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("half"))
			panic("in the kitchen")
		}, 200, "half"},
	} {
		var log bytes.Buffer
		w := serve(front(slog.NewJSONHandler(&log, nil)), c.handle, get(t, "/"))
		if w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("%s: %d %q", name, w.Code, w.Body)
		}
		if text := log.String(); !strings.Contains(text, "ERROR") || !strings.Contains(text, "in the kitchen") || !strings.Contains(text, "front_test.go") {
			t.Errorf("%s: logged %s", name, text)
		}
	}
}

// TestOutside: callers inside the process have no request behind them.
func TestOutside(t *testing.T) {
	ctx := t.Context()
	request.SetAccount(ctx, "did:plc:alice")
	request.Header(ctx).Set("X", "y")
	if c := request.ClientOf(ctx); c != (request.Client{}) {
		t.Errorf("client %+v", c)
	}
	want := request.Client{Addr: netip.MustParseAddr("192.0.2.7"), UserAgent: "x"}
	if c := request.ClientOf(request.WithClient(ctx, want)); c != want {
		t.Errorf("client %+v, want %+v", c, want)
	}
}

// TestBreak: an answer that ends early is cut off and cannot seem whole, though its length
// was never said; the request is logged with what was noted of it.
func TestBreak(t *testing.T) {
	var lines bytes.Buffer
	f := front(slog.NewJSONHandler(&lines, nil))
	logged := make(chan struct{})
	f.Now = time.Now
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(logged)
		f.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
			request.Note(r.Context(), slog.Int("upstream_status", 200))
			request.Break(r.Context())
		})).ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the answer ended with %v", err)
	}
	<-logged
	if text := lines.String(); !strings.Contains(text, `"upstream_status":200`) || strings.Count(text, "\n") != 1 {
		t.Errorf("logged %s", text)
	}
}
