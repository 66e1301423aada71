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
		`{"faults":[{"fault":"access-life","for":"soon"}]}`:            `read faults: fault 1: "soon" is not a time: write 20s or 5m`,
		`{"faults":[{"fault":"access-life","for":20}]}`:                `must be a time, such as "20s"`,
		`{"faults":[{"fault":"cut","every":"3"}]}`:                     "every must be a whole number",
		`{"faults":[{"fault":"cut","every":3.5}]}`:                     "every must be a whole number",
		`{"faults":{}}`: "faults must be a list",
		`[]`:            "the plan must be an object",
		`{"faults":[{"fault":"restart","for":"61s"}]}`:                                                                                           "for must not be above 1m",
		`{"faults":[{"fault":"delay","from":"1s","to":"61s"}]}`:                                                                                  "to must not be above 1m: the server ends a connection whose answer takes longer",
		`{"faults":[{"fault":"delay","from":"60s","to":"60s"}]}`:                                                                                 "",
		`{"faults":[{"fault":"cut","methods":["getSession"]}]}`:                                                                                  `method "getSession": write an NSID such as com.atproto.server.getSession`,
		`{"faults":[{"fault":"cut","methods":["refreshes"]}]}`:                                                                                   "refresh or sign-in",
		`{"faults":[{"fault":"cut","methods":["refr*"]}]}`:                                                                                       "refresh or sign-in",
		`{"faults":[{"fault":"cut","methods":["com..x.*"]}]}`:                                                                                    "write an NSID",
		`{"faults":[{"fault":"cut","methods":["/xrpc/com.atproto.server.getSession"]}]}`:                                                         "without /xrpc/",
		`{"faults":[{"fault":"cut","methods":["*","_health","/oauth/*","app.bsky.*","app.bsky.feed.get*","com.example.calls.doIt","sign-in"]}]}`: "",
		`{"faults":[{"fault":"cut","accounts":["alice"]}]}`:                                                                                      `account "alice": write a handle such as alice.test, or a DID`,
		`{"faults":[{"fault":"cut","accounts":["did:plc"]}]}`:                                                                                    "or a DID",
		`{"faults":[{"fault":"cut","accounts":["alice.test","did:plc:abc","did:web:example.com"]}]}`:                                             "",
		`{"faults":[{"fault":"cut","methods":[""],"sometimes":true}]}`:                                                                           "sometimes",
		`{"faults":[{"fault":"delay","from":"0s","to":"3s"},{"fault":"delay","to":"3s"}]}`:                                                       "",
		`{"faults":[{"fault":"cut","share":0}]}`:                                                                                                 "line 1: share must be above 0; without it the fault happens at each call",
		"{\n\"faults\":[{\"fault\":\"cut\",\n\"every\":0}]}":                                                                                     "line 3: every must be above 0",
		`{"faults":[{"fault":"cut","share":null}]}`:                                                                                              "line 1: share is empty",
		`{"faults":[{"fault":"cut","every":null}]}`:                                                                                              "every is empty",
		`{"faults":[{"fault":"cut","methods":null}]}`:                                                                                            "methods is empty",
		`{"faults":[{"fault":"cut","accounts":[]}]}`:                                                                                             "accounts is empty: leave it out",
		`{"faults":[{"fault":"cut","methods":[]}]}`:                                                                                              "methods is empty",
		`{"name":"none","faults":null}`:                                                                                                          "",
		`{"faults":[{"fault":"cut"},{"fault":"cut","every":"3"}]}`:                                                                               "fault 2: every must be a whole number",
		`{"faults":[{"fault":"cut"},{"fault":"cut","sometimes":1}]}`:                                                                             `fault 2: a plan has no member "sometimes"`,
		`{"faults":[{"fault":"cut"},7]}`:                                                                                                         "fault 2: a fault must be an object",
		`{"faults":[{"fault":"cut","every":3,"Every":2}]}`:                                                                                       "every is there twice",
		`{"faults":[{"fault":"cut"}],"faults":[]}`:                                                                                               "faults is there twice",
		`{"seed":0,"faults":[{"fault":"cut","every":3},{"fault":"cut","every":3}]}`:                                                              "",
		`{"faults":[]} {}`:  "there is more behind the plan",
		`{"faults":[]} }`:   "there is more behind the plan",
		`{"faults":[]}]`:    "there is more behind the plan",
		"{\"faults\":[]}\n": "",
		`{`:                 "the text ends in the middle of the plan",
		``:                  "the text is empty",
		"{\n\"faults\" 7}":  "line 2 is not JSON",
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

// TestServed: what no call can name is refused; other services' methods may be any.
func TestServed(t *testing.T) {
	t.Parallel()
	routes := []string{"com.atproto.server.getSession", "_health", "/oauth/token", "/", "/admin/accounts/{did}", "/account/sessions", "/assets/"}
	for name, want := range map[string]bool{
		"com.atproto.server.getSession": true, "com.atproto.server.get*": true, "com.atproto.server.*": true, "com.atproto.*": true,
		"app.bsky.feed.getTimeline": true, "com.atproto.sync.requestCrawl": true, "refresh": true, "sign-in": true, "_health": true, "*": true,
		"/oauth/token": true, "/oauth/*": true, "/": true, "/*": true, "/admin/accounts/did:plc:a": true, "/admin/acc*": true, "/account/*": true, "/assets/x.css": true,
		"com.atproto.server.getSesion": false, "com.atproto.server.getsession": false, "com.atproto.server.push*": false, "com.atproto.repo.createRecords": false,
		"/oauth/tokens": false, "/oauth/tokens*": false, "/nothing": false,
	} {
		err := Plan{Faults: []Fault{{Kind: Cut, Methods: []string{name}}}}.checkRoutes(routes)
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
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
