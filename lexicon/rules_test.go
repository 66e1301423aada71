package lexicon_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"nestbox/dagcbor"
	"nestbox/internal/costtest"
	"nestbox/lexicon"
)

// TestLinks: links that apps find in texts (RichText.detectFacets), and strings that
// the reference does not accept as links either.
func TestLinks(t *testing.T) {
	ok := accepts(t, "uri")
	for s, want := range map[string]bool{
		"https://de.wikipedia.org/wiki/Käse": true, "https://münchen.example/": true, "HTTPS://example.com": true, "HTTPS://EXAMPLE.COM/A?b#c": true,
		"https://例え.テスト/ページ": true, "https://example.com/😀": true, "mailto:a@b.example": true, "web+x:y": true, "at://did:plc:x/a.b.c/d": true,
		"https://example.com/a b": false, "https://example.com/a\u00a0b": false, "https://example.com/\ufeff": false, "https:///x": false, "https://": false,
		"https:": false, ":x": false, "käse://example.com": false, "example.com/x": false, "": false, "https://example.com/" + strings.Repeat("x", 8<<10): false,
	} {
		if ok(s) != want {
			t.Errorf("%.60q passes: %t", s, !want)
		}
	}
}

// TestLanguages: tags of RFC 5646 beyond the vectors.
func TestLanguages(t *testing.T) {
	ok := accepts(t, "language")
	for s, want := range map[string]bool{
		"X-fr-CH": true, "x-whatever": true, "de-CH-1996": true, "zh-cmn-Hans-CN": true, "sl-rozaj-biske-1994": true, "en-a-myext-b-another": true,
		"I-KLINGON": true, "de-a-value-x-y": true, "az-Arab-x-AZE-derbend": true,
		"x": false, "x-": false, "x-123456789": false, "de-419-DE": false, "a-DE": false, "DE": false, "dede": false, "de-1996-1996": false, "en-a-bb-a-cc": false,
		"en-a": false, "en-x": false, "i-nothing": false, "de--CH": false, "dé": false, "": false, "x" + strings.Repeat("-a", 200): false,
	} {
		if ok(s) != want {
			t.Errorf("%.60q passes: %t", s, !want)
		}
	}
}

// TestZones: a time zone is less than a day from UTC.
func TestZones(t *testing.T) {
	ok := accepts(t, "datetime")
	for zone, want := range map[string]bool{"Z": true, "+00:00": true, "+14:00": true, "-12:00": true, "+23:59": true, "+24:00": false, "-24:00": false, "+99:00": false, "+01:60": false, "+12:99": false} {
		if ok("2026-11-24T20:00:00"+zone) != want || ok("2026-11-24T20:00:00.123"+zone) != want {
			t.Errorf("%s passes: %t", zone, !want)
		}
	}
}

// TestMalformedBlobs: an object that claims to be a blob must be one, at any place.
func TestMalformedBlobs(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":` + png + `}`:      "",
		`{"a":{"$type":"blob"}}`: ".a",
		`{"a":[0,{"b":{"$type":"blob","mimeType":"image/png","size":1}}]}`:  ".a[1].b",
		`{"a":` + strings.Replace(png, "1000", "-1", 1) + `}`:               "",
		`{"a":` + strings.Replace(png, "1000", "-2", 1) + `}`:               ".a",
		`{"a":` + strings.Replace(png, "1000", `"1"`, 1) + `}`:              ".a",
		`{"a":` + strings.Replace(png, "image/png", "png", 1) + `}`:         ".a",
		`{"a":` + strings.Replace(png, `"size"`, `"x":1,"size"`, 1) + `}`:   ".a",
		`{"a":{"$type":"blobs"},"b":{"$type":"com.example.x#blob"},"c":{}}`: "",
	} {
		if _, got := lexicon.Known().Blobs("com.example.x", value(t, text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestGraphemes: a text of any script counts as many graphemes as the official app
// counts.
func TestGraphemes(t *testing.T) {
	for text, n := range map[string]int{
		"नमस्ते": 3, "হ্যালো": 2, "ક્ષમા": 2, "ନମସ୍କାର": 4, "క్షమించండి": 4, "ക്ഷമിക്കണം": 4, "👨‍👩‍👧‍👦": 1, "🇩🇪🇫🇷": 2, "e\u0301": 1, "\r\n": 1, "한국어": 3, "กำ": 1,
	} {
		if got := lexicon.Graphemes(text); got != n {
			t.Errorf("%q: %d graphemes, want %d", text, got, n)
		}
	}
}

// TestGraphemesOfNode compares the counts of random texts with Node's Intl.Segmenter,
// which the official app uses.
func TestGraphemesOfNode(t *testing.T) {
	const rounds = 5000
	rng := rand.New(rand.NewPCG(11, 29))
	// Characters that join others, or are joined: marks, conjuncts, jamo, emoji, flags,
	// prepended characters, separators.
	pieces := []string{
		"a", "é", "e\u0301", "\u0301", "\u200d", "\u200c", "\r", "\n", "\u00ad", "न", "म", "स", "\u094d", "\u093f", "\u093c", "ক", "\u09cd", "ক্ষ", "ક", "\u0acd", "ଓ", "\u0b4d",
		"త", "\u0c4d", "മ", "\u0d4d", "ത", "\u0d3e", "ก", "ำ", "ᄀ", "ᅡ", "ᆨ", "가", "각", "👩", "👨", "👧", "🏽", "❤", "\ufe0f", "🏳", "🌈", "🇩", "🇪", "🇫", "\u0600", "\U000110bd",
		"\u1f3fb", "1", "\u20e3", "中", "\U000e0067", "\U000e007f", "🏴", "\u0e33", "\u1b44", "ᬅ", "\ua9c0", "ꦏ",
	}
	texts := make([]string, rounds)
	for i := range texts {
		var b strings.Builder
		for range 1 + rng.IntN(8) {
			b.WriteString(pieces[rng.IntN(len(pieces))])
		}
		texts[i] = b.String()
	}
	input, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	const script = `const s = new Intl.Segmenter()
let text = ''
for await (const part of process.stdin.setEncoding('utf8')) text += part
console.log(JSON.stringify({ unicode: process.versions.unicode, counts: JSON.parse(text).map((t) => [...s.segment(t)].length) }))`
	cmd := exec.CommandContext(t.Context(), "node", "--input-type=module", "-e", script)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var node struct {
		Unicode string
		Counts  []int
	}
	if err := json.Unmarshal(out, &node); err != nil || len(node.Counts) != rounds {
		t.Fatalf("%d counts, %v", len(node.Counts), err)
	}
	differ := 0
	for i, text := range texts {
		if got := lexicon.Graphemes(text); got != node.Counts[i] {
			if differ++; differ <= 10 {
				t.Errorf("%+q: %d graphemes, Node (Unicode %s) counts %d", text, got, node.Unicode, node.Counts[i])
			}
		}
	}
	if differ > 0 {
		t.Errorf("%d of %d differ", differ, rounds)
	}
}

// TestRecordCost: the cost of checking a record follows its size.
func TestRecordCost(t *testing.T) {
	for name, record := range map[string]func(n int) map[string]any{
		"a long text":     func(n int) map[string]any { return map[string]any{"text": strings.Repeat("नमस्ते", n/18)} },
		"a long link":     func(n int) map[string]any { return map[string]any{"text": "https://" + strings.Repeat("ä", n/2)} },
		"a long language": func(n int) map[string]any { return map[string]any{"langs": []any{strings.Repeat("x-", n/2)}} },
		"many blobs": func(n int) map[string]any {
			return map[string]any{"x": repeated(map[string]any{"$type": "blob", "mimeType": "a/b", "size": int64(1), "ref": dagcbor.RawCID([32]byte{})}, n/100)}
		},
		"many old blobs": func(n int) map[string]any {
			return map[string]any{"x": repeated(map[string]any{"mimeType": "a/b", "cid": strings.Repeat("z", 200)}, n/220)}
		},
		"malformed blobs": func(n int) map[string]any {
			return map[string]any{"x": repeated(map[string]any{"$type": "blob"}, n/20)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			costtest.Linear(t, 50_000, func(n int) func() {
				v := record(n)
				v["$type"], v["createdAt"] = "app.bsky.feed.post", "2026-11-24T20:00:00Z"
				return func() {
					_, _ = lexicon.Known().ValidateRecord("app.bsky.feed.post", v)
					lexicon.Known().Blobs("app.bsky.feed.post", v)
				}
			})
		})
	}
}

func repeated(v any, n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = v
	}
	return list
}
