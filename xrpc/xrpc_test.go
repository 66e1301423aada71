package xrpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"nestbox/request"
	"nestbox/xrpc"
)

// input has a member of each kind that the endpoints take.
type input struct {
	Text   string   `json:"text"`
	Number int      `json:"number,omitzero"`
	Yes    bool     `json:"yes,omitzero"`
	Pair   *pair    `json:"pair,omitzero"`
	List   []string `json:"list,omitzero"`
	Maybe  *string  `json:"optional,omitzero"`
}

type pair struct {
	Left  string `json:"left"`
	Right string `json:"right,omitzero"`
}

type params struct {
	Text   string   `json:"text"`
	Number int      `json:"number,omitzero"`
	Yes    bool     `json:"yes,omitzero"`
	List   []string `json:"list,omitzero"`
}

func anyone(context.Context, *http.Request) (struct{}, error) { return struct{}{}, nil }

func echo[T any](_ context.Context, _ struct{}, in T) (T, error) { return in, nil }

// fails is an endpoint that answers err.
func fails(err error) xrpc.Method {
	return xrpc.Query(anyone, func(context.Context, struct{}, xrpc.None) (xrpc.None, error) { return xrpc.None{}, err })
}

// does is an endpoint that runs f and answers nothing.
func does(f func(context.Context) error) xrpc.Method {
	return xrpc.Query(anyone, func(ctx context.Context, _ struct{}, _ xrpc.None) (xrpc.None, error) { return xrpc.None{}, f(ctx) })
}

// site is a server behind its front, as package server builds it.
type site struct {
	xrpc.Server
	request.Front
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Handler(&s.Server).ServeHTTP(w, r)
}

// server answers for the given methods and logs into the buffer.
func server(methods map[string]xrpc.Method) (*site, *bytes.Buffer) {
	var log bytes.Buffer
	return &site{
		xrpc.Server{Methods: methods, MaxBody: xrpc.DefaultMaxBody},
		request.Front{Now: time.Now, Log: slog.New(slog.NewJSONHandler(&log, nil))},
	}, &log
}

// endpoints are those that most tests call.
func endpoints() map[string]xrpc.Method {
	return map[string]xrpc.Method{
		"a.b.body":   xrpc.Procedure(anyone, echo[input]),
		"a.b.none":   xrpc.Procedure(anyone, echo[xrpc.None]),
		"a.b.params": xrpc.Query(anyone, echo[params]),
		"a.b.query":  xrpc.Query(anyone, echo[xrpc.None]),
	}
}

// post is a request with a JSON body, and with a Content-Length if the body's
// length is known.
func post(tb testing.TB, nsid string, body io.Reader) *http.Request {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/xrpc/"+nsid, body)
	r.Header.Set("Content-Type", "application/json")
	return r
}

func get(tb testing.TB, nsidAndQuery string) *http.Request {
	tb.Helper()
	return httptest.NewRequestWithContext(tb.Context(), http.MethodGet, "/xrpc/"+nsidAndQuery, http.NoBody)
}

func serve(s http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// wantError fails the test unless the answer is that error, in the one form
// that every client reads.
func wantError(t *testing.T, what string, w *httptest.ResponseRecorder, status int, name, message string) {
	t.Helper()
	want, err := json.Marshal(struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}{name, message})
	if err != nil {
		t.Fatal(err)
	}
	if w.Code != status || w.Body.String() != string(want) {
		t.Errorf("%s: got  %d %s\nwant %d %s", what, w.Code, w.Body, status, want)
	}
	if ct := w.Header()["Content-Type"]; len(ct) != 1 || ct[0] != "application/json" {
		t.Errorf("%s: Content-Type %q", what, ct)
	}
}

// TestMethods is the table of verbs and paths.
func TestMethods(t *testing.T) {
	s, _ := server(endpoints())
	const getOnPost, postOnGet, neither = "Incorrect HTTP method (GET) expected POST", "Incorrect HTTP method (POST) expected GET", "XRPC requests only supports GET and POST"
	for _, c := range []struct {
		verb, nsid    string
		status        int
		name, message string
	}{
		{http.MethodPost, "a.b.none", 200, "", ""},
		{http.MethodGet, "a.b.none", 400, "InvalidRequest", getOnPost},
		{http.MethodHead, "a.b.none", 400, "InvalidRequest", getOnPost},
		{http.MethodPut, "a.b.none", 400, "InvalidRequest", neither},
		{http.MethodDelete, "a.b.none", 400, "InvalidRequest", neither},
		{http.MethodPatch, "a.b.none", 400, "InvalidRequest", neither},
		{http.MethodTrace, "a.b.none", 400, "InvalidRequest", neither},
		{"post", "a.b.none", 400, "InvalidRequest", neither},
		{http.MethodOptions, "a.b.none", 204, "", ""},
		{http.MethodGet, "a.b.query", 200, "", ""},
		{http.MethodHead, "a.b.query", 200, "", ""},
		{http.MethodPost, "a.b.query", 400, "InvalidRequest", postOnGet},
		{http.MethodPut, "a.b.query", 400, "InvalidRequest", neither},
		{http.MethodGet, "a.b.unknown", 501, "MethodNotImplemented", "Method Not Implemented"},
		{http.MethodPost, "a.b.unknown", 501, "MethodNotImplemented", "Method Not Implemented"},
		{http.MethodOptions, "a.b.unknown", 204, "", ""},
		{http.MethodGet, "", 400, "InvalidRequest", "invalid xrpc path"},
		{http.MethodGet, "nothing", 400, "InvalidRequest", "invalid xrpc path"},
		{http.MethodGet, "a.b.query/", 400, "InvalidRequest", "invalid xrpc path"},
		{http.MethodGet, "a.b.query/more", 400, "InvalidRequest", "invalid xrpc path"},
		{http.MethodGet, "a..query", 400, "InvalidRequest", "invalid xrpc path"},
		{http.MethodGet, "a.b.quer%79", 400, "InvalidRequest", "invalid xrpc path"},
		{http.MethodGet, strings.Repeat("a.", 200) + "query", 400, "InvalidRequest", "invalid xrpc path"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), c.verb, "/xrpc/"+c.nsid, http.NoBody)
		w := serve(s, r)
		what := c.verb + " " + c.nsid
		switch {
		case c.name == "":
			if w.Code != c.status || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "" {
				t.Errorf("%s: %d %q %v", what, w.Code, w.Body, w.Header())
			}
		case c.verb == http.MethodHead:
			if w.Code != c.status || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%s: %d %q %v", what, w.Code, w.Body, w.Header())
			}
		default:
			wantError(t, what, w, c.status, c.name, c.message)
		}
	}
}

// TestHead answers as GET does, length and all, without the body.
func TestHead(t *testing.T) {
	s, _ := server(endpoints())
	whole := serve(s, get(t, "a.b.params?text=x"))
	r := get(t, "a.b.params?text=x")
	r.Method = http.MethodHead
	head := serve(s, r)
	if whole.Code != 200 || whole.Body.String() != `{"text":"x"}` || whole.Header().Get("Content-Type") != "application/json; charset=utf-8" {
		t.Fatalf("GET: %d %s %v", whole.Code, whole.Body, whole.Header())
	}
	if head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("Content-Length") != "12" ||
		head.Header().Get("Content-Type") != whole.Header().Get("Content-Type") {
		t.Errorf("HEAD: %d %q %v", head.Code, head.Body, head.Header())
	}
}

// TestHeaders: every answer has the cross-origin headers, errors too; those of
// an authenticated route are private.
func TestHeaders(t *testing.T) {
	methods := endpoints()
	methods["a.b.fails"] = fails(errors.New("x"))
	s, _ := server(methods)
	for _, nsid := range []string{"a.b.query", "a.b.params?text=x", "a.b.params", "a.b.fails", "a.b.unknown", "a.b.none", "bad"} {
		h := serve(s, get(t, nsid)).Header()
		if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %v", nsid, h)
		}
		for _, exposed := range []string{
			"DPoP-Nonce", "WWW-Authenticate", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy",
			"Retry-After", "Atproto-Repo-Rev", "Atproto-Content-Labelers", "Content-Range", "Accept-Ranges", "ETag",
		} {
			if !strings.Contains(h.Get("Access-Control-Expose-Headers")+",", exposed+",") {
				t.Errorf("%s: does not expose %s", nsid, exposed)
			}
		}
		private := h.Get("Cache-Control") == "private" && h.Get("Vary") == "Authorization"
		if reached := nsid != "a.b.unknown" && nsid != "a.b.none" && nsid != "bad"; reached != private {
			t.Errorf("%s: Cache-Control %q, Vary %q", nsid, h.Get("Cache-Control"), h.Get("Vary"))
		}
	}
}

func TestPreflight(t *testing.T) {
	s, _ := server(endpoints())
	const always = "Authorization, Content-Type, Atproto-Proxy, Atproto-Accept-Labelers, DPoP"
	for name, c := range map[string]struct {
		asked []string
		want  string
	}{
		"nothing asked":       {nil, always},
		"known ones":          {[]string{"authorization,DPOP, content-type"}, always},
		"another":             {[]string{"x-bsky-topics"}, always + ", x-bsky-topics"},
		"in two headers":      {[]string{"x-a", "x-b"}, always + ", x-a, x-b"},
		"empty ones":          {[]string{",, ,x-a,"}, always + ", x-a"},
		"a header smuggled":   {[]string{"x-a\r\nSet-Cookie: a=b"}, always},
		"quotes and spaces":   {[]string{`x a, "x", x;y, x-b`}, always + ", x-b"},
		"not ASCII":           {[]string{"x-é, \xff, x-b"}, always + ", x-b"},
		"the wildcard is one": {[]string{"*"}, always + ", *"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "/xrpc/a.b.none", http.NoBody)
		r.Header["Access-Control-Request-Headers"] = c.asked
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Origin", "https://app.test")
		w := serve(s, r)
		h := w.Header()
		if w.Code != 204 || w.Body.Len() != 0 || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Methods") != "GET, HEAD, POST, OPTIONS" {
			t.Errorf("%s: %d %v", name, w.Code, h)
		}
		if got := h.Get("Access-Control-Allow-Headers"); got != c.want {
			t.Errorf("%s: allows %q, want %q", name, got, c.want)
		}
		if h.Get("Vary") != "Access-Control-Request-Headers" {
			t.Errorf("%s: Vary %q", name, h.Get("Vary"))
		}
	}

	// The answer stays small, however long the request.
	r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "/xrpc/a.b.none", http.NoBody)
	r.Header.Set("Access-Control-Request-Headers", strings.Repeat("x-header-of-some-length,", 40_000))
	if got := serve(s, r).Header().Get("Access-Control-Allow-Headers"); len(got) > 4096 {
		t.Errorf("a preflight answers %d bytes of header names", len(got))
	}
}

// TestCORS: the same rules outside of /xrpc/.
func TestCORS(t *testing.T) {
	h := xrpc.CORS(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for verb, status := range map[string]int{http.MethodGet: http.StatusTeapot, http.MethodOptions: http.StatusNoContent} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), verb, "/robots.txt", http.NoBody))
		if w.Code != status || w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v", verb, w.Code, w.Header())
		}
	}
}
