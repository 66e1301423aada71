package xrpc_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"nestbox/xrpc"
)

// TestBody is the table of bodies that clients send to an endpoint with an
// input.
func TestBody(t *testing.T) {
	s, log := server(endpoints())
	for _, c := range []struct {
		name, body string
		want       string // the input as it arrived; or
		message    string // of the 400 InvalidRequest
	}{
		{"the required alone", `{"text":"x"}`, `{"text":"x"}`, ""},
		{"everything", `{"text":"","number":-7,"yes":true,"pair":{"left":"l","right":"r"},"list":["a","b"],"optional":"o"}`, `{"text":"","number":-7,"yes":true,"pair":{"left":"l","right":"r"},"list":["a","b"],"optional":"o"}`, ""},
		{"white space around", " \r\n\t{ \"text\" : \"x\" }\n ", `{"text":"x"}`, ""},
		{"byte order mark", "\xEF\xBB\xBF{\"text\":\"x\"}", `{"text":"x"}`, ""},
		{"escapes", `{"te\u0078t":"\u00e9\ud83d\ude00\u0000"}`, `{"text":"é😀\u0000"}`, ""},
		{"unknown members", `{"a":null,"text":"x","b":{"c":[1.5e300]},"Text":1}`, `{"text":"x"}`, ""},
		{"unknown members of a member", `{"text":"x","pair":{"left":"l","middle":null}}`, `{"text":"x","pair":{"left":"l"}}`, ""},
		{"empty list", `{"text":"x","list":[]}`, `{"text":"x","list":[]}`, ""},
		{"largest integer", `{"text":"x","number":9223372036854775807}`, `{"text":"x","number":9223372036854775807}`, ""},

		{"nothing", ``, "", "A request body is expected but none was provided"},
		{"white space", " \n", "", "Malformed JSON: unexpected end of input"},
		{"byte order mark alone", "\xEF\xBB\xBF", "", "A request body is expected but none was provided"},
		{"missing key", `{}`, "", `Missing required key "text" at $`},
		{"key of another letter case", `{"TEXT":"x"}`, "", `Missing required key "text" at $`},
		{"missing key of a member", `{"text":"x","pair":{"right":"r"}}`, "", `Missing required key "left" at $.pair`},
		{"array", `[{"text":"x"}]`, "", "Expected object value type (got array) at $"},
		{"null", `null`, "", "Expected object value type (got null) at $"},
		{"string", `"text"`, "", "Expected object value type (got string) at $"},
		{"number", ` 1 `, "", "Expected object value type (got integer) at $"},
		{"fraction", `1.5`, "", "Expected object value type (got float) at $"},
		{"boolean", `true`, "", "Expected object value type (got boolean) at $"},
		{"number for a string", `{"text":1}`, "", "Expected string value type (got integer) at $.text"},
		{"null for a string", `{"text":null}`, "", "Expected string value type (got null) at $.text"},
		{"object for a string", `{"text":{}}`, "", "Expected string value type (got object) at $.text"},
		{"null for an optional", `{"text":"x","optional":null}`, "", "Expected string value type (got null) at $.optional"},
		{"string for an integer", `{"text":"x","number":"7"}`, "", "Expected integer value type (got string) at $.number"},
		{"fraction for an integer", `{"text":"x","number":7.5}`, "", "Expected integer value type (got float) at $.number"},
		{"exponent for an integer", `{"text":"x","number":1e3}`, "", "Expected integer value type (got float) at $.number"},
		{"integer out of range", `{"text":"x","number":9223372036854775808}`, "", "Invalid value at $.number"},
		{"string for a boolean", `{"text":"x","yes":"true"}`, "", "Expected boolean value type (got string) at $.yes"},
		{"integer for a boolean", `{"text":"x","yes":1}`, "", "Expected boolean value type (got integer) at $.yes"},
		{"string for a list", `{"text":"x","list":"a"}`, "", "Expected array value type (got string) at $.list"},
		{"null for a list", `{"text":"x","list":null}`, "", "Expected array value type (got null) at $.list"},
		{"null in a list", `{"text":"x","list":["a",null]}`, "", "Expected string value type (got null) at $.list[1]"},
		{"integer in a list", `{"text":"x","list":[1]}`, "", "Expected string value type (got integer) at $.list[0]"},
		{"null for an object", `{"text":"x","pair":null}`, "", "Expected object value type (got null) at $.pair"},
		{"list for an object", `{"text":"x","pair":[]}`, "", "Expected object value type (got array) at $.pair"},
		{"null in an object", `{"text":"x","pair":{"left":null}}`, "", "Expected string value type (got null) at $.pair.left"},

		{"duplicate key", `{"text":"x","text":"y"}`, "", "Malformed JSON: duplicate object member name"},
		{"duplicate key, spelt otherwise", `{"text":"x","te\u0078t":"x"}`, "", "Malformed JSON: duplicate object member name"},
		{"duplicate unknown key", `{"text":"x","a":1,"a":1}`, "", "Malformed JSON: duplicate object member name"},
		{"duplicate key far below", `{"text":"x","a":[{"b":1,"b":2}]}`, "", "Malformed JSON: duplicate object member name"},
		{"not UTF-8", "{\"text\":\"secret\xff\"}", "", "Malformed JSON: invalid UTF-8"},
		{"not UTF-8 in a key", "{\"text\":\"x\",\"\xc0\x80\":1}", "", "Malformed JSON: invalid UTF-8"},
		{"more behind it", `{"text":"x"}{}`, "", "Malformed JSON: trailing data after the value"},
		{"a brace behind it", `{"text":"x"}}`, "", "Malformed JSON: trailing data after the value"},
		{"NUL behind it", "{\"text\":\"x\"}\x00", "", "Malformed JSON: trailing data after the value"},
		{"cut short", `{"text":"secret`, "", "Malformed JSON: unexpected end of input"},
		{"no JSON", `text=secret`, "", "Malformed JSON: invalid character 'e' in literal true (expecting 'r')"},
		{"deep", `{"text":"x","a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, "", "Malformed JSON: exceeded max depth"},
	} {
		w := serve(s, post(t, "a.b.body", strings.NewReader(c.body)))
		if c.message != "" {
			wantError(t, c.name, w, 400, "InvalidRequest", c.message)
		} else if w.Code != 200 || w.Body.String() != c.want {
			t.Errorf("%s: %d %s, want %s", c.name, w.Code, w.Body, c.want)
		}
	}
	// A lone surrogate: the text around it may be a password.
	w := serve(s, post(t, "a.b.body", strings.NewReader(`{"text":"\ud800secret"}`)))
	if w.Code != 400 {
		t.Errorf("a surrogate alone: %d %s", w.Code, w.Body)
	}
	// A key may be one as well, and as long as a body.
	long := strings.Repeat("k", 70_000)
	w = serve(s, post(t, "a.b.body", strings.NewReader(`{"`+long+`":1,"`+long+`":"secret"}`)))
	if w.Code != 400 || w.Body.Len() > 1000 {
		t.Errorf("a long key twice: %d, %d bytes", w.Code, w.Body.Len())
	}
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "kkk") {
		t.Error("the log repeats what was sent")
	}
}

func TestContentType(t *testing.T) {
	s, _ := server(endpoints())
	wrong := func(ct string) string { return "Wrong request encoding (Content-Type): " + ct }
	for ct, message := range map[string]string{
		"application/json":                 "",
		"Application/JSON":                 "",
		"application/json; charset=utf-8":  "",
		"application/json;charset=\"x\" ":  "",
		"":                                 "Request encoding (Content-Type) required but not provided",
		"text/plain":                       wrong("text/plain"),
		"application/jsonx":                wrong("application/jsonx"),
		"application/vnd.api+json":         wrong("application/vnd.api+json"),
		"application/json, text/plain":     wrong("application/json, text/plain"),
		"application/x-www-form-urlencode": wrong("application/x-www-form-urlencode"),
		strings.Repeat("x", 1000):          wrong(strings.Repeat("x", 128)),
	} {
		r := post(t, "a.b.body", strings.NewReader(`{"text":"x"}`))
		r.Header.Set("Content-Type", ct)
		w := serve(s, r)
		if message == "" {
			if w.Code != 200 {
				t.Errorf("%q: %d %s", ct, w.Code, w.Body)
			}
			continue
		}
		wantError(t, ct, w, 400, "InvalidRequest", message)
	}
}

// sized is a JSON object of n bytes.
func sized(n int) string {
	const frame = len(`{"text":""}`)
	return `{"text":"` + strings.Repeat("x", n-frame) + `"}`
}

// withoutLength hides a reader's length, so that the body is sent in chunks.
func withoutLength(r io.Reader) io.Reader { return struct{ io.Reader }{r} }

func TestBodyLimit(t *testing.T) {
	s, _ := server(endpoints())
	const limit = 150 << 10
	for _, nsid := range []string{"a.b.body", "a.b.none"} {
		for _, chunked := range []bool{false, true} {
			for _, size := range []int{limit - 1, limit, limit + 1, 10 * limit} {
				body := io.Reader(strings.NewReader(sized(size)))
				if nsid == "a.b.none" {
					body = strings.NewReader(strings.Repeat(" ", size))
				}
				if chunked {
					body = withoutLength(body)
				}
				what := fmt.Sprintf("%s, %d bytes, chunked %v", nsid, size, chunked)
				w := serve(s, post(t, nsid, body))
				if size > limit {
					wantError(t, what, w, 413, "PayloadTooLarge", "request entity too large")
				} else if w.Code != 200 {
					t.Errorf("%s: %d %.200s", what, w.Code, w.Body)
				}
			}
		}
	}
	// A Content-Length that is too large is enough: nothing is read.
	r := post(t, "a.b.body", unreadable{t})
	r.ContentLength = limit + 1
	wantError(t, "length alone", serve(s, r), 413, "PayloadTooLarge", "request entity too large")
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestContentEncoding(t *testing.T) {
	s, _ := server(endpoints())
	for encoding, status := range map[string]int{"": 200, "identity": 200, "IDENTITY": 200, "gzip": 415, "br": 415, "gzip, identity": 415} {
		r := post(t, "a.b.body", strings.NewReader(`{"text":"x"}`))
		r.Header.Set("Content-Encoding", encoding)
		if w := serve(s, r); w.Code != status {
			t.Errorf("%q: %d %s", encoding, w.Code, w.Body)
		}
	}
}

// TestBrokenBody: if a client stops in the middle, the error is the client's.
func TestBrokenBody(t *testing.T) {
	s, _ := server(endpoints())
	broken := io.MultiReader(strings.NewReader(`{"text":`), &failing{})
	wantError(t, "broken", serve(s, post(t, "a.b.body", broken)), 400, "InvalidRequest", "The request body could not be read")
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestNoBody: everything that means "no body", with any Content-Type; and a
// body with content is refused.
func TestNoBody(t *testing.T) {
	s, _ := server(endpoints())
	for body, good := range map[string]bool{
		"": true, " ": true, "\r\n\t ": true, "{}": true, " {\n} ": true,
		`{"a":1}`: false, "null": false, "[]": false, "text": false, `""`: false, "0": false, "{}{}": false, "{": false, "}": false,
		"\x00": false, "{\u00a0}": false, "\uFEFF": true, "\uFEFF{}": true, "\uFEFF\uFEFF{}": false, "\u00a0": true, "{\v}": false,
	} {
		for _, ct := range []string{"", "application/json", "text/plain", "nonsense/", "application/x-www-form-urlencoded"} {
			for _, chunked := range []bool{false, true} {
				var reader io.Reader = strings.NewReader(body)
				if chunked {
					reader = withoutLength(reader)
				}
				r := post(t, "a.b.none?unknown=1", reader)
				r.Header.Set("Content-Type", ct)
				w := serve(s, r)
				what := fmt.Sprintf("%q as %q, chunked %v", body, ct, chunked)
				if !good {
					wantError(t, what, w, 400, "InvalidRequest", "A request body was provided when none was expected")
				} else if w.Code != 200 || w.Body.Len() != 0 || len(w.Header()["Content-Type"]) != 0 {
					t.Errorf("%s: %d %q %v", what, w.Code, w.Body, w.Header())
				}
			}
		}
	}
}

// TestParams is the table of query strings.
func TestParams(t *testing.T) {
	s, _ := server(endpoints())
	for query, want := range map[string]string{
		"text=x":                            `{"text":"x"}`,
		"text=":                             `{"text":""}`,
		"text":                              `{"text":""}`,
		"text=a%20b+c%26%c3%a9":             `{"text":"a b c&é"}`,
		"text=x&unknown=1&unknown=2":        `{"text":"x"}`,
		"text=x&number=-12":                 `{"text":"x","number":-12}`,
		"text=x&number=007":                 `{"text":"x","number":7}`,
		"text=x&yes=true":                   `{"text":"x","yes":true}`,
		"text=x&yes=false":                  `{"text":"x"}`,
		"text=x&list=a&list=b&list=":        `{"text":"x","list":["a","b",""]}`,
		"text=x&list=a,b":                   `{"text":"x","list":["a,b"]}`,
		"":                                  `Missing required key "text" at $`,
		"TEXT=x":                            `Missing required key "text" at $`,
		"text=x&text=y":                     `Expected string value type (got array) at $.text`,
		"text=x&number=1&number=1":          `Expected integer value type (got array) at $.number`,
		"text=x&number=":                    `{"text":"x"}`,
		"text=x&number":                     `{"text":"x"}`,
		"text=x&number=&number=5":           `Expected integer value type (got array) at $.number`,
		"text=x&number=%2B5":                `Expected integer value type (got "+5") at $.number`,
		"text=x&number=+5":                  `Expected integer value type (got " 5") at $.number`,
		"text=x&number=-":                   `Expected integer value type (got "-") at $.number`,
		"text=x&list=":                      `{"text":"x","list":[""]}`,
		"text=x&number=1.5":                 `Expected integer value type (got "1.5") at $.number`,
		"text=x&number=1e3":                 `Expected integer value type (got "1e3") at $.number`,
		"text=x&number=0x10":                `Expected integer value type (got "0x10") at $.number`,
		"text=x&number=%201":                `Expected integer value type (got " 1") at $.number`,
		"text=x&number=9223372036854775808": `Expected integer value type (got "9223372036854775808") at $.number`,
		"text=x&yes=1":                      `Expected boolean value type (got "1") at $.yes`,
		"text=x&yes=":                       `{"text":"x"}`,
		"text=x&yes=TRUE":                   `Expected boolean value type (got "TRUE") at $.yes`,
		"text=%zz":                          "Malformed query string",
		"text=x;y":                          "Malformed query string",
		"text=%ff":                          "Invalid UTF-8 at $.text",
		"text=x&list=%c3&list=%a9":          "Invalid UTF-8 at $.list",
	} {
		w := serve(s, get(t, "a.b.params?"+query))
		if !strings.HasPrefix(want, "{") {
			wantError(t, query, w, 400, "InvalidRequest", want)
		} else if w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s: %d %s, want %s", query, w.Code, w.Body, want)
		}
	}
	long := serve(s, get(t, "a.b.params?text=x&number="+strings.Repeat("9", 10_000)))
	if long.Code != 400 || long.Body.Len() > 200 {
		t.Errorf("a long number: %d, %d bytes", long.Code, long.Body.Len())
	}
	// A query's body, and parameters that the endpoint does not have, are
	// ignored.
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/xrpc/a.b.query?%zz;", strings.NewReader(`{"a":1}`))
	if w := serve(s, r); w.Code != 200 {
		t.Errorf("a query without parameters: %d %s", w.Code, w.Body)
	}
}

// FuzzBody: decoding never panics; a body that is accepted is JSON to another
// decoder, which finds the same in it, and it survives encoding and decoding.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"text":"x"}`, `{"text":"","number":-7,"yes":true,"pair":{"left":"l"},"list":["a",null],"optional":"o"}`,
		`{"text":"x","text":"y"}`, `{"text":"\ud800"}`, "{\"text\":\"\xff\"}", `{"text":"x","number":1e3}`, `[]`, `null`, ` `, `{"text":"x"}{}`,
		`{"text":"x","list":null,"pair":null,"a":[[[{"b":1,"b":2}]]]}`, `{"TEXT":"x","text":"y"}`,
	} {
		f.Add([]byte(seed))
	}
	s, _ := server(endpoints())
	s.Log = slog.New(slog.DiscardHandler)
	decode := func(t *testing.T, body []byte) (*httptest.ResponseRecorder, bool) {
		t.Helper()
		w := serve(s, post(t, "a.b.body", bytes.NewReader(body)))
		if w.Code != 200 && (w.Code != 400 && w.Code != 413 || !json.Valid(w.Body.Bytes())) {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
		return w, w.Code == 200
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w, ok := decode(t, body)
		if !ok {
			return
		}
		again, ok := decode(t, w.Body.Bytes())
		if !ok || again.Body.String() != w.Body.String() {
			t.Fatalf("%q came out as %s, and that as %d %s", body, w.Body, again.Code, again.Body)
		}
		// encoding/json accepts a name in any letter case: compare by the names
		// as they are.
		var theirs map[string]json.RawMessage
		if err := json.Unmarshal(body, &theirs); err != nil {
			t.Fatalf("%q is taken, and no JSON to encoding/json: %v", body, err)
		}
		var ours input
		if err := json.Unmarshal(w.Body.Bytes(), &ours); err != nil {
			t.Fatal(err)
		}
		var text string
		var number int
		if err := json.Unmarshal(theirs["text"], &text); err != nil || text != ours.Text {
			t.Fatalf("%q: text %q, encoding/json says %q (%v)", body, ours.Text, text, err)
		}
		if raw, ok := theirs["number"]; ok {
			if err := json.Unmarshal(raw, &number); err != nil {
				t.Fatalf("%q: number %s: %v", body, raw, err)
			}
		}
		if number != ours.Number {
			t.Fatalf("%q: number %d, encoding/json says %d", body, ours.Number, number)
		}
	})
}

// FuzzParams: reading a query string never panics; an accepted one is valid,
// and every answer is JSON.
func FuzzParams(f *testing.F) {
	for _, seed := range []string{"text=x", "text=x&number=1&yes=true&list=a&list=b", "text=%zz", "text=%ff", "text=a;b", "text=x&text=y", "%74ext=x", "&&=&text=+"} {
		f.Add(seed)
	}
	s, _ := server(map[string]xrpc.Method{"a.b.params": xrpc.Query(anyone, echo[params])})
	s.Log = slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, query string) {
		r := get(t, "a.b.params")
		r.URL.RawQuery = query
		w := serve(s, r)
		if w.Code != 200 && w.Code != 400 || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%q: %d %s", query, w.Code, w.Body)
		}
		if got := r.URL.Query()["text"]; w.Code == 200 {
			var p params
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || len(got) != 1 || p.Text != got[0] {
				t.Fatalf("%q is %s, net/url says %q (%v)", query, w.Body, got, err)
			}
		}
	})
}
