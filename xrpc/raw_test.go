package xrpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"nestbox/xrpc"
)

// rawInput has members that their handler decodes.
type rawInput struct {
	Any  jsontext.Value   `json:"any,omitzero"`
	List []jsontext.Value `json:"list,omitzero"`
}

// TestRaw: a raw member may be any value and stays as sent; an answer that its
// handler encoded is sent as it is.
func TestRaw(t *testing.T) {
	s, _ := server(map[string]xrpc.Method{
		"a.b.raw": xrpc.Procedure(anyone, func(_ context.Context, _ struct{}, in rawInput) (xrpc.RawJSON, error) {
			return fmt.Appendf(nil, "[%s, %s]", string(in.Any), in.List), nil
		}),
	})
	for body, want := range map[string]string{
		`{"any": null }`:                         `[null, []]`,
		`{"any":[1, 2.50],"list":[null,"x",{}]}`: `[[1, 2.50], [null "x" {}]]`,
		`{}`:                                     `[, []]`,
		`{"any":{"a":1,"a":2}}`:                  "",
		`{"list":{}}`:                            "",
	} {
		w := serve(s, post(t, "a.b.raw", strings.NewReader(body)))
		if want == "" {
			if w.Code != 400 {
				t.Errorf("%s: %d %s", body, w.Code, w.Body)
			}
			continue
		}
		if w.Code != 200 || w.Body.String() != want || w.Header().Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s: %d %s %q, want %s", body, w.Code, w.Body, w.Header(), want)
		}
	}
}

// TestDecoder: the members of a union are read, and refused, like an input.
func TestDecoder(t *testing.T) {
	decode := xrpc.Decoder[pair]()
	if got, err := decode(jsontext.Value(`{"left":"l","more":1}`), "$.list[3]"); err != nil || got != (pair{Left: "l"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for raw, want := range map[string]string{
		`{"right":"r"}`:         `Missing required key "left" at $.list[3]`,
		`{"left":1}`:            `Expected string value type (got integer) at $.list[3].left`,
		`"x"`:                   `Expected object value type (got string) at $.list[3]`,
		`{"left":"","left":""}`: `Malformed JSON: `,
	} {
		if _, err := decode(jsontext.Value(raw), "$.list[3]"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
}

// TestMaxBody: a method may have a limit of its own, and the others keep theirs.
func TestMaxBody(t *testing.T) {
	s, _ := server(map[string]xrpc.Method{
		"a.b.large": xrpc.Procedure(anyone, echo[input]).WithMaxBody(1_000_000),
		"a.b.small": xrpc.Procedure(anyone, echo[input]),
	})
	for nsid, limit := range map[string]int{"a.b.large": 1_000_000, "a.b.small": xrpc.DefaultMaxBody} {
		if w := serve(s, post(t, nsid, strings.NewReader(sized(limit)))); w.Code != 200 {
			t.Errorf("%s: %d %.100s", nsid, w.Code, w.Body)
		}
		wantError(t, nsid, serve(s, post(t, nsid, strings.NewReader(sized(limit+1)))), 413, "PayloadTooLarge", "request entity too large")
	}
}

// TestPointerParams: an absent parameter differs from a zero.
func TestPointerParams(t *testing.T) {
	type optional struct {
		Number *int64 `json:"number,omitzero"`
	}
	s, _ := server(map[string]xrpc.Method{"a.b.c": xrpc.Query(anyone, echo[optional])})
	for query, want := range map[string]string{"": `{}`, "number=0": `{"number":0}`, "number=-7": `{"number":-7}`} {
		if w := serve(s, get(t, "a.b.c?"+query)); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%q: %d %s, want %s", query, w.Code, w.Body, want)
		}
	}
	wantError(t, "no number", serve(s, get(t, "a.b.c?number=x")), 400, "InvalidRequest", `Expected integer value type (got "x") at $.number`)
	if !json.Valid(serve(s, get(t, "a.b.c?number=1&number=2")).Body.Bytes()) {
		t.Error("two numbers: no JSON")
	}
}
