package request_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"nestbox/request"
)

// logged serves a request and returns the lines that it left, with their keys.
func logged(t *testing.T, f request.Front, handle http.HandlerFunc, r *http.Request) (lines []map[string]any, h http.Header) {
	t.Helper()
	var log bytes.Buffer
	f.Log, f.Now = slog.New(slog.NewJSONHandler(&log, nil)), front(slog.DiscardHandler).Now
	h = serve(&f, handle, r).Result().Header
	for text := range strings.Lines(log.String()) {
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		lines = append(lines, line)
	}
	return lines, h
}

// TestRequestID: a name that a trusted proxy gave is kept if it can stand in a log; any other is made
// here. The answer and the line have the same one.
func TestRequestID(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		name, peer string
		given      []string
		kept       bool
	}{
		{"none", "10.0.0.1:1", nil, false},
		{"a UUID of a proxy", "10.0.0.1:1", []string{"6b1f7a86-3f0c-4f4e-9a51-2f0d7a4f3c11"}, true},
		{"a trace of a proxy", "10.0.0.1:1", []string{"Root=1-67891233:abc/def+x_y.z~@"}, true},
		{"as long as may be", "10.0.0.1:1", []string{strings.Repeat("x", 128)}, true},
		{"too long", "10.0.0.1:1", []string{strings.Repeat("x", 129)}, false},
		{"empty", "10.0.0.1:1", []string{""}, false},
		{"two", "10.0.0.1:1", []string{"one", "two"}, false},
		{"a stranger's", "192.0.2.1:1", []string{"6b1f7a86"}, false},
		{"a space", "10.0.0.1:1", []string{"a b"}, false},
		{"a line's end", "10.0.0.1:1", []string{"a\nb"}, false},
		{"a quote", "10.0.0.1:1", []string{`a"b`}, false},
		{"a list", "10.0.0.1:1", []string{"a,b"}, false},
		{"another language", "10.0.0.1:1", []string{"é"}, false},
		{"a socket", "@", []string{"6b1f7a86"}, false},
	} {
		r := get(t, "/page")
		r.RemoteAddr = c.peer
		r.Header["X-Request-Id"] = c.given
		lines, h := logged(t, request.Front{TrustedProxies: trusted}, http.NotFound, r)
		got := h["X-Request-Id"]
		if len(got) != 1 || len(lines) != 1 || lines[0]["request_id"] != got[0] || len(got[0]) < 20 && !c.kept {
			t.Fatalf("%s: %q, %v", c.name, got, lines)
		}
		if kept := len(c.given) == 1 && got[0] == c.given[0]; kept != c.kept {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	_, one := logged(t, request.Front{}, http.NotFound, get(t, "/"))
	_, two := logged(t, request.Front{}, http.NotFound, get(t, "/"))
	if one.Get("X-Request-Id") == two.Get("X-Request-Id") {
		t.Error("two requests have one name")
	}
}

// TestShown: how much of a client's address the log has, also in the error of its connection.
func TestShown(t *testing.T) {
	for _, c := range []struct {
		shown      request.Shown
		addr, want string
	}{
		{"", "192.0.2.77", "192.0.2.77"},
		{request.ShownFull, "192.0.2.77", "192.0.2.77"},
		{request.ShownFull, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"},
		{request.ShownNetwork, "192.0.2.77", "192.0.2.0/24"},
		{request.ShownNetwork, "2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"},
		{request.ShownNone, "192.0.2.77", ""},
		{request.ShownNone, "2001:db8:1:2:3:4:5:6", ""},
	} {
		addr := netip.MustParseAddr(c.addr)
		if got := c.shown.Of(addr); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.shown, addr, got, c.want)
		}
		r := get(t, "/page")
		r.RemoteAddr = netip.AddrPortFrom(addr, 4711).String()
		var client request.Client
		lines, _ := logged(t, request.Front{Shown: c.shown}, func(w http.ResponseWriter, r *http.Request) {
			client = request.ClientOf(r.Context())
			request.Fail(r.Context(), http.StatusServiceUnavailable, "Unavailable", errors.New("read tcp 10.0.0.1:443->"+r.RemoteAddr+": i/o timeout"))
			w.WriteHeader(http.StatusServiceUnavailable)
		}, r)
		line, told := lines[0]["client"].(string)
		if line != c.want || told != (c.want != "") || client.Logged() != c.want || client.Addr != addr {
			t.Errorf("%s, %s: %v, %q", c.shown, addr, lines, client.Logged())
		}
		if cause, _ := lines[0]["cause"].(string); strings.Contains(cause, c.addr) != (c.want == c.addr) || !strings.Contains(cause, "i/o timeout") {
			t.Errorf("%s, %s: the cause is %q", c.shown, addr, cause)
		}
	}
	if got := request.ShownNetwork.Of(netip.Addr{}); got != "invalid IP" { // of a unix socket
		t.Errorf("of no address: %q", got)
	}
}

// TestSkip: only what was answered below 500 may be left out.
func TestSkip(t *testing.T) {
	for status, want := range map[int]int{200: 0, 302: 0, 404: 0, 499: 0, 500: 1, 503: 1} {
		lines, _ := logged(t, request.Front{Skip: func(*http.Request) bool { return true }},
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }, get(t, "/"))
		if len(lines) != want {
			t.Errorf("%d: %v", status, lines)
		}
	}
	lines, _ := logged(t, request.Front{Skip: func(r *http.Request) bool { return r.URL.Path != "/kept" }},
		func(http.ResponseWriter, *http.Request) {}, get(t, "/kept"))
	if len(lines) != 1 {
		t.Errorf("%v", lines)
	}
	failed, _ := logged(t, request.Front{Skip: func(*http.Request) bool { return true }}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("x"))
		request.Fail(r.Context(), 503, "Unavailable", errors.New("late"))
	}, get(t, "/"))
	if len(failed) != 1 {
		t.Errorf("what failed behind its first bytes: %v", failed)
	}
}

// TestEvent: an event has a line of its own with the name of its request, whatever is left out of the
// log; outside of a request there is none.
func TestEvent(t *testing.T) {
	lines, h := logged(t, request.Front{Skip: func(*http.Request) bool { return true }}, func(_ http.ResponseWriter, r *http.Request) {
		request.Event(r.Context(), request.EventSessionCreated, "did:plc:alice", request.Source(request.SourceOAuth),
			request.ForClient("https://app.example/"+strings.Repeat("x", 5000)))
	}, get(t, "/"))
	if len(lines) != 1 {
		t.Fatalf("%v", lines)
	}
	client, _ := lines[0]["clientId"].(string)
	delete(lines[0], "time")
	delete(lines[0], "clientId")
	want := map[string]any{
		"level": "INFO", "msg": "event", "eventName": "session.created", "did": "did:plc:alice", "source": "oauth", "request_id": h.Get("X-Request-Id"),
	}
	if !maps.Equal(lines[0], want) || len(client) != 256 {
		t.Errorf("%v with a client_id of %d, want %v", lines[0], len(client), want)
	}
	request.Event(t.Context(), request.EventSessionCreated, "did:plc:alice")

	var log bytes.Buffer
	command := request.Marking(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		request.Event(r.Context(), request.EventAccountCreated, "did:plc:bob", request.Source(request.SourceOperator))
	}), slog.New(slog.NewJSONHandler(&log, nil)), nil)
	command.ServeHTTP(httptest.NewRecorder(), get(t, "/"))
	if text := log.String(); !strings.Contains(text, `"eventName":"account.created"`) || strings.Contains(text, "request_id") || strings.Count(text, "\n") != 1 {
		t.Errorf("a command: %s", text)
	}
}
