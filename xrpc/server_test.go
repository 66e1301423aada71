package xrpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/request"
	"nestbox/xrpc"
)

// line is the only line of a log, decoded.
func line(t *testing.T, log *bytes.Buffer) map[string]any {
	t.Helper()
	defer log.Reset()
	var m map[string]any
	if err := json.Unmarshal(log.Bytes(), &m); err != nil {
		t.Fatalf("not one log line: %v\n%s", err, log)
	}
	return m
}

// TestErrors is the table of what a handler returns, what the client gets, and
// what the log has.
func TestErrors(t *testing.T) {
	secretCause := errors.New("disk sda1 on fire")
	for _, c := range []struct {
		name          string
		err           error
		status        int
		errName, text string
		retryAfter    string
		level, cause  string
	}{
		{"a client's error", xrpc.BadRequest("HandleNotFound", "Unable to resolve handle"), 400, "HandleNotFound", "Unable to resolve handle", "", "INFO", ""},
		{"wrapped", fmt.Errorf("look up: %w", xrpc.Unauthorized("AuthMissing", "Authentication Required")), 401, "AuthMissing", "Authentication Required", "", "INFO", ""},
		{"unmapped", secretCause, 500, "InternalServerError", "Internal Server Error", "", "ERROR", "disk sda1 on fire"},
		{"a dependency fails", xrpc.Unavailable(secretCause), 503, "ServiceUnavailable", "The service cannot answer right now, please try again", "2", "ERROR", "disk sda1 on fire"},
		{"too many", xrpc.TooManyRequests(1500 * time.Millisecond), 429, "RateLimitExceeded", "Rate Limit Exceeded", "2", "INFO", ""},
		{"a limit", request.ErrTooMany{Wait: 1500 * time.Millisecond}, 429, "RateLimitExceeded", "Rate Limit Exceeded", "2", "INFO", ""},
		{"a limit, unmapped", xrpc.Unavailable(fmt.Errorf("count: %w", request.ErrTooMany{Wait: 1500 * time.Millisecond})), 429, "RateLimitExceeded", "Rate Limit Exceeded", "2", "INFO", ""},
		{"message no UTF-8", xrpc.InvalidRequest("Invalid handle: %s", "\xff<b>\""), 400, "InvalidRequest", "Invalid handle: \uFFFD<b>\"", "", "INFO", ""},
	} {
		s, log := server(map[string]xrpc.Method{"a.b.fails": fails(c.err)})
		w := serve(s, get(t, "a.b.fails"))
		body := struct{ Error, Message string }{}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error != c.errName || body.Message != c.text {
			t.Errorf("%s: %s (%v)", c.name, w.Body, err)
		}
		h := w.Header()
		if w.Code != c.status || h.Get("Retry-After") != c.retryAfter || !slices.Equal(h["Content-Type"], []string{"application/json"}) ||
			h.Get("Content-Length") != fmt.Sprint(w.Body.Len()) {
			t.Errorf("%s: %d %v", c.name, w.Code, h)
		}
		l := line(t, log)
		cause, _ := l["cause"].(string)
		if l["level"] != c.level || l["error"] != c.errName || l["status"] != float64(c.status) || cause != c.cause {
			t.Errorf("%s: logged %v", c.name, l)
		}
		if strings.Contains(w.Body.String(), "fire") {
			t.Errorf("%s: the cause was sent", c.name)
		}
	}
}

// TestExpiredFits: one SDK refreshes only when this answer has at most 81 bytes.
func TestExpiredFits(t *testing.T) {
	s, _ := server(map[string]xrpc.Method{"a.b.fails": fails(xrpc.BadRequest("ExpiredToken", "Token has expired"))})
	if got := serve(s, get(t, "a.b.fails")).Body.String(); got != `{"error":"ExpiredToken","message":"Token has expired"}` {
		t.Errorf("body %s", got)
	}
}

// TestRetryAfter: the header is rounded up, so that a client that waits so long
// does not come too early.
func TestRetryAfter(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		-time.Second: "", 0: "", 1: "1", time.Second: "1", time.Second + 1: "2", 90 * time.Second: "90", 24 * time.Hour: "86400",
	} {
		s, _ := server(map[string]xrpc.Method{"a.b.fails": fails(xrpc.TooManyRequests(wait))})
		if got := serve(s, get(t, "a.b.fails")).Header().Get("Retry-After"); got != want {
			t.Errorf("%v: Retry-After %q, want %q", wait, got, want)
		}
	}
}

func TestPanic(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	leave()
	for name, ctx := range map[string]context.Context{"waiting": t.Context(), "gone": gone} {
		s, log := server(map[string]xrpc.Method{"a.b.panics": does(func(context.Context) error { panic("in the kitchen") })})
		w := serve(s, get(t, "a.b.panics").WithContext(ctx))
		wantError(t, name, w, 500, "InternalServerError", "Internal Server Error")
		l := line(t, log)
		cause, _ := l["cause"].(string)
		if l["level"] != "ERROR" || !strings.Contains(cause, "in the kitchen") || !strings.Contains(cause, "server_test.go") {
			t.Errorf("%s: logged %v", name, l)
		}
	}
}

// TestClientGone: a client that left is not our fault, and raises no alarm.
func TestClientGone(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	leave()
	for name, err := range map[string]error{
		"context":  fmt.Errorf("read account: %w", context.Canceled),
		"answered": xrpc.Unavailable(fmt.Errorf("read account: %w", context.Canceled)),
		"database": xrpc.Unavailable(errors.New("interrupted")),
	} {
		s, log := server(map[string]xrpc.Method{"a.b.fails": fails(err)})
		if w := serve(s, get(t, "a.b.fails").WithContext(ctx)); w.Code != 499 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if l := line(t, log); l["level"] != "INFO" || l["status"] != 499.0 || l["error"] != "ClientGone" || name != "database" && l["cause"] != nil {
			t.Errorf("%s: logged %v", name, l)
		}
	}
	// An error from before the client left stays as it is.
	s, _ := server(map[string]xrpc.Method{"a.b.fails": fails(xrpc.InvalidRequest("no"))})
	wantError(t, "refused", serve(s, get(t, "a.b.fails").WithContext(ctx)), 400, "InvalidRequest", "no")
	// With the client still there a cancelled context of ours is a failure.
	s, _ = server(map[string]xrpc.Method{"a.b.fails": fails(context.Canceled)})
	wantError(t, "ours", serve(s, get(t, "a.b.fails")), 500, "InternalServerError", "Internal Server Error")
}

// TestLogLine: one line a request, its keys known, its values short, and no
// secret of the request in it.
func TestLogLine(t *testing.T) {
	allowed := []string{"time", "level", "msg", "nsid", "method", "status", "took", "client", "request_id", "did", "error", "cause"}
	const secret = "S3CRET"
	methods := endpoints()
	methods["a.b.account"] = does(func(ctx context.Context) error { request.SetAccount(ctx, "did:plc:alice"); return nil })
	methods["a.b.long"] = does(func(ctx context.Context) error {
		request.SetAccount(ctx, "did:web:"+strings.Repeat("x", 10_000))
		return errors.New(strings.Repeat("y", 100_000))
	})
	s, log := server(methods)
	for _, c := range []struct{ verb, path, body string }{
		{"GET", "a.b.query?token=" + secret, ""},
		{"GET", "a.b.params?text=" + secret + "&number=" + secret, ""},
		{"POST", "a.b.body", `{"text":"` + secret + `"}`},
		{"POST", "a.b.body", `{"text":["` + secret + `"]}`},
		{"POST", "a.b.body", `{"` + secret + `":1,"` + secret + `":1}`},
		{"POST", "a.b.body", `{"text":"\ud800` + secret + `"}`},
		{"POST", "a.b.body", secret},
		{"POST", "a.b.none", secret},
		{"GET", "a.b.account", ""},
		{"GET", "a.b.long", ""},
		{"GET", "a.b." + strings.Repeat("z", 5000), ""},
		{strings.Repeat("V", 5000), "a.b.query", ""},
	} {
		r := post(t, c.path, strings.NewReader(c.body))
		r.Method = c.verb
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Cookie", secret)
		r.Header.Set("User-Agent", secret)
		serve(s, r)
		text := log.String()
		l := line(t, log)
		for key := range maps.Keys(l) {
			if !slices.Contains(allowed, key) {
				t.Errorf("%s %.40s: key %q", c.verb, c.path, key)
			}
		}
		if strings.Contains(text, secret) || len(text) > 9000 || l["msg"] != "request" {
			t.Errorf("%.20s %.40s: logged %.300s", c.verb, c.path, text)
		}
		if c.path == "a.b.account" && (l["did"] != "did:plc:alice" || l["status"] != 200.0 || l["client"] != "192.0.2.1") {
			t.Errorf("logged %v", l)
		}
	}
	// A log without lines of successful requests does not pay for them.
	s.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))
	serve(s, get(t, "a.b.query"))
	if log.Len() != 0 {
		t.Errorf("logged %s", log)
	}
}

// TestAdmit: the limit over everything comes before the endpoint, and its
// headers are on the answer.
func TestAdmit(t *testing.T) {
	called := false
	s, _ := server(map[string]xrpc.Method{"a.b.does": does(func(context.Context) error { called = true; return nil })})
	full := false
	s.Unlimited = func(r *http.Request, c request.Client) bool {
		return r.Header.Get("X-Pass") == "yes" && c.Addr.IsValid()
	}
	s.Admit = func(ctx context.Context, _ *http.Request) error {
		request.Header(ctx).Set("RateLimit-Limit", "1")
		if full && !request.ClientOf(ctx).Unlimited {
			return xrpc.TooManyRequests(time.Second)
		}
		return nil
	}
	if w := serve(s, get(t, "a.b.does")); w.Code != 200 || !called || w.Header().Get("RateLimit-Limit") != "1" {
		t.Errorf("admitted: %d %v", w.Code, w.Header())
	}
	called, full = false, true
	w := serve(s, get(t, "a.b.does"))
	wantError(t, "refused", w, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if called || w.Header().Get("RateLimit-Limit") != "1" || w.Header().Get("Retry-After") != "1" {
		t.Errorf("refused: called %v, %v", called, w.Header())
	}
	r := get(t, "a.b.does")
	r.Header.Set("X-Pass", "yes")
	if w := serve(s, r); w.Code != 200 || !called {
		t.Errorf("exempt: %d", w.Code)
	}
}

// TestCountedApart: a limit of its own replaces the one over everything, before the
// parameters are read and the caller is proven.
func TestCountedApart(t *testing.T) {
	refuse := func(context.Context, *http.Request) (struct{}, error) {
		return struct{}{}, xrpc.Unauthorized("AuthMissing", "Authentication Required")
	}
	handle := func(context.Context, struct{}, params, http.ResponseWriter, *http.Request) error {
		t.Error("the handler ran")
		return nil
	}
	counted, full := 0, false
	s, _ := server(map[string]xrpc.Method{
		"a.b.apart": xrpc.Stream(refuse, handle).CountedApart(func(context.Context, *http.Request) error {
			if full {
				return xrpc.TooManyRequests(time.Second)
			}
			counted++
			return nil
		}),
	})
	s.Admit = func(context.Context, *http.Request) error {
		t.Error("counted among everything")
		return nil
	}
	wantError(t, "caller", serve(s, get(t, "a.b.apart?text=a")), 401, "AuthMissing", "Authentication Required")
	if w := serve(s, get(t, "a.b.apart?number=x")); w.Code != 400 || counted != 2 {
		t.Errorf("malformed: %d, %d counted", w.Code, counted)
	}
	full = true
	wantError(t, "refused", serve(s, get(t, "a.b.apart?number=x")), 429, "RateLimitExceeded", "Rate Limit Exceeded")
}

// TestOrder: nothing of a body is read before its caller is proven, and a
// handler runs only after both.
func TestOrder(t *testing.T) {
	refuse := func(context.Context, *http.Request) (struct{}, error) {
		return struct{}{}, xrpc.Unauthorized("AuthMissing", "Authentication Required")
	}
	handle := func(context.Context, struct{}, input) (xrpc.None, error) {
		t.Error("the handler ran")
		return xrpc.None{}, nil
	}
	s, _ := server(map[string]xrpc.Method{"a.b.refuses": xrpc.Procedure(refuse, handle), "a.b.body": xrpc.Procedure(anyone, handle)})
	wantError(t, "caller", serve(s, post(t, "a.b.refuses", unreadable{t})), 401, "AuthMissing", "Authentication Required")
	wantError(t, "body", serve(s, post(t, "a.b.body", strings.NewReader("{}"))), 400, "InvalidRequest", `Missing required key "text" at $`)
}

// TestClientLeaves: the same over a real connection. The handler, not a timer,
// decides when.
func TestClientLeaves(t *testing.T) {
	started, ended := make(chan struct{}), make(chan struct{})
	s, log := server(map[string]xrpc.Method{"a.b.waits": does(func(ctx context.Context) error {
		close(started)
		<-ctx.Done()
		return xrpc.Unavailable(ctx.Err())
	})})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		s.ServeHTTP(w, r)
	}))
	defer srv.Close()
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-started; leave() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/xrpc/a.b.waits", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		t.Fatalf("answered %d", resp.StatusCode)
	}
	<-ended
	if l := line(t, log); l["status"] != 499.0 || l["level"] != "INFO" {
		t.Errorf("logged %v", l)
	}
}
