package faults

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestReadPlan(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{ // what is wrong; empty: nothing
		`{"faults":[]}`: "",
		`{"name":"a","seed":7,"faults":[{"fault":"delay","from":"1s","to":"30s","share":0.25,"methods":["app.bsky.*","refresh"],"accounts":["alice.test"]}]}`: "",
		`{"faults":[{"fault":"status","status":503,"retryAfter":"2s","done":true,"every":3}]}`:                                                                "",
		`{"faults":[{"fault":"clock","by":"-3m"},{"fault":"nonce"},{"fault":"takedown","for":"20s"}]}`:                                                        "",
		`{"faults":[{"fault":"magic"}]}`:                               "fault 1 (magic): there is no such fault",
		`{"faults":[{"fault":"nonce"},{"fault":"delay","from":"1s"}]}`: "fault 2 (delay): to is missing",
		`{"faults":[{"fault":"delay","from":"3s","to":"1s"}]}`:         "to must not be less than from",
		`{"faults":[{"fault":"status","status":200}]}`:                 "status must be from 400 to 599",
		`{"faults":[{"fault":"status"}]}`:                              "status is missing",
		`{"faults":[{"fault":"cut","status":500}]}`:                    "status means nothing for it",
		`{"faults":[{"fault":"cut","share":1}]}`:                       "share must be above 0 and below 1",
		`{"faults":[{"fault":"cut","share":0.5,"every":2}]}`:           "share and every exclude each other",
		`{"faults":[{"fault":"cut","every":-1}]}`:                      "every must be above 0",
		`{"faults":[{"fault":"cut","methods":["app.*.feed"]}]}`:        "a star may be its last character only",
		`{"faults":[{"fault":"access-life","for":"-1s"}]}`:             "a time must not be negative",
		`{"faults":[{"fault":"access-life","for":"soon"}]}`:            "invalid duration",
		`{"faults":[{"fault":"cut","methods":[""],"sometimes":true}]}`: "sometimes",
		`{"faults":[]} {}`: "there is more behind the plan",
		`{`:                "unexpected EOF",
	} {
		p, err := ReadPlan(strings.NewReader(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err != nil {
			continue
		}
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ReadPlan(strings.NewReader(string(raw))); err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%s: written as %s: %+v, %v", text, raw, again, err)
		}
	}
}

// TestPresets: each preset is right, and between them they have every kind of fault.
func TestPresets(t *testing.T) {
	t.Parallel()
	kinds := needs()
	for _, line := range Presets() {
		p, ok := Preset(line.Name)
		if !ok || p.Name != line.Name || line.About == "" {
			t.Errorf("%+v: %+v", line, p)
		}
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", line.Name, err)
		}
		for _, f := range p.Faults {
			delete(kinds, f.Kind)
		}
	}
	for kind := range kinds {
		t.Errorf("no preset has %s", kind)
	}
	if _, ok := Preset("magic"); ok {
		t.Error("there is a preset that nobody made")
	}
}

// TestSeed: a seed decides at which calls a fault happens, and nothing else does.
func TestSeed(t *testing.T) {
	t.Parallel()
	series := func(seed uint32, share float64) (calls []int) {
		p := Plan{Seed: seed, Faults: []Fault{{Kind: Cut, Share: share}, {Kind: Cut, Share: share}}}
		for n := range 10_000 {
			if p.hits(0, n+1) {
				calls = append(calls, n)
			}
		}
		return calls
	}
	first := series(7, 0.2)
	if n := len(first); n < 1800 || n > 2200 {
		t.Errorf("a fifth of 10,000 is %d", n)
	}
	if !reflect.DeepEqual(first, series(7, 0.2)) {
		t.Error("one seed, two series")
	}
	if reflect.DeepEqual(first, series(8, 0.2)) {
		t.Error("two seeds, one series")
	}
	every := Plan{Faults: []Fault{{Kind: Cut, Every: 3}, {Kind: Cut}}}
	for n, want := range map[int]bool{1: false, 2: false, 3: true, 4: false, 6: true} {
		if every.hits(0, n) != want || !every.hits(1, n) {
			t.Errorf("call %d: %t", n, !want)
		}
	}
	late := Plan{Seed: 7, Faults: []Fault{{Kind: Delay, From: 1000, To: 2000}}}
	seen := map[bool]bool{}
	for n := range 100 {
		d := late.delay(0, n)
		if d < 1000 || d >= 2000 || d != late.delay(0, n) {
			t.Errorf("call %d is %d late", n, d)
		}
		seen[d < 1500] = true
	}
	if len(seen) != 2 {
		t.Error("delays do not spread")
	}
}

// TestLine: a fault is described in a line.
func TestLine(t *testing.T) {
	t.Parallel()
	p, _ := Preset("flaky-host")
	for i, want := range map[int]string{
		0: "access-life for 30s at all calls",
		1: "status 503 Retry-After 2s at one in 3 of refresh",
		5: "status 500 at 4 % of all calls",
	} {
		if got := p.Faults[i].String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f := Fault{Kind: Delay, From: 1e9, To: 2e9, Accounts: []string{"alice.test"}, Methods: []string{"app.bsky.*"}}
	if got, want := f.String(), "delay from 1s to 2s at app.bsky.* by alice.test"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestDocuments: docs/clients.md names each preset and each kind of fault.
func TestDocuments(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind := range needs() {
		if !strings.Contains(string(text), "`"+kind+"`") {
			t.Errorf("nothing about the fault %s", kind)
		}
	}
	for _, p := range Presets() {
		if !strings.Contains(string(text), "\n| `"+p.Name+"` | ") {
			t.Errorf("nothing about the preset %s", p.Name)
		}
	}
}
