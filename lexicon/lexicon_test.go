package lexicon_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nestbox/dagcbor"
	"nestbox/lexicon"
)

// indigo returns a path in indigo's module.
func indigo(tb testing.TB, path string) string {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(path))
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// value returns the value of a JSON object.
func value(tb testing.TB, text string) map[string]any {
	tb.Helper()
	v, err := dagcbor.FromJSON([]byte(text))
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		tb.Fatalf("%s is no object", text)
	}
	return m
}

// TestVectors: every implementation must accept or refuse these records.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob(indigo(t, "atproto/lexicon/testdata/catalog/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var docs []lexicon.Document
	for _, file := range files {
		d, err := lexicon.ParseDocument(readFile(t, file))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		docs = append(docs, d)
	}
	c, err := lexicon.New(docs...)
	if err != nil {
		t.Fatal(err)
	}
	for name, good := range map[string]bool{"valid": true, "invalid": false} {
		var cases []struct {
			Name string          `json:"name"`
			Data json.RawMessage `json:"data"`
		}
		raw := readFile(t, indigo(t, "atproto/lexicon/testdata/record-data-"+name+".json"))
		if err := json.Unmarshal(raw, &cases); err != nil || len(cases) == 0 {
			t.Fatalf("%d cases, %v", len(cases), err)
		}
		for _, v := range cases {
			known, err := c.ValidateRecord("example.lexicon.record", value(t, string(v.Data)))
			if !known || (err == nil) != good {
				t.Errorf("%s: %s: %t, %v", name, v.Name, known, err)
			}
			if _, ok := errors.AsType[*lexicon.InvalidError](err); err != nil && !ok {
				t.Errorf("%s: %v is no InvalidError", v.Name, err)
			}
		}
	}
}

// TestLexiconVectors: every implementation must accept or refuse these documents.
func TestLexiconVectors(t *testing.T) {
	var cases []struct {
		Name    string          `json:"name"`
		Lexicon json.RawMessage `json:"lexicon"`
	}
	raw := readFile(t, indigo(t, "atproto/lexicon/testdata/lexicon-valid.json"))
	if err := json.Unmarshal(raw, &cases); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, c := range cases {
		d, err := lexicon.ParseDocument(c.Lexicon)
		if err == nil {
			_, err = lexicon.New(d)
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	record := func(properties string) string {
		return `{"id":"a.b.c","defs":{"main":{"type":"record","key":"tid","record":{"type":"object","properties":{` + properties + `}}}}}`
	}
	for text, part := range map[string]string{
		record(`"a":{"type":"ref","ref":"#gone"}`):              "a.b.c#gone",
		record(`"a":{"type":"ref"}`):                            "refers to nothing",
		record(`"a":{"type":"union","refs":["d.e.f"]}`):         "d.e.f: referred to",
		record(`"a":{"type":"union","closed":true}`):            "closed union",
		record(`"a":{"type":"flaot"}`):                          "flaot",
		record(`"a":{"type":"string","format":"tied"}`):         "tied",
		record(`"a":{"type":"string","const":1.5}`):             "no value",
		record(`"a":{"type":"integer","enum":[{}]}`):            "no value",
		record(`"a":{"type":"array"}`):                          "without items",
		record(`"a":{"type":"array","items":{"type":"x"}}`):     `"x"`,
		record(`"a":{"type":"blob","maxSize":0}`):               "maxSize",
		record(`"a":{"type":"boolean"},"a":{"type":"boolean"}`): "duplicate",
		record(`"a":5`): "",
		`{"id":"a.b.c","defs":{"main":{"type":"record","record":{}}}}`:                                                 "must be main and have an object",
		`{"id":"a.b.c","defs":{"x":{"type":"record","record":{}}}}`:                                                    "must be main",
		strings.Replace(record(""), `"tid"`, `"uuid"`, 1):                                                              "key type",
		strings.Replace(record(""), `"tid"`, `"literal:/"`, 1):                                                         "key type",
		`{"id":"a.b.c","defs":{"x":{"type":"object","required":["a"]}}}`:                                               "no property",
		`{"id":"a.b.c","defs":{"x":{"type":"object","properties":[]}}}`:                                                "not an object",
		`{"id":"a.b.c","defs":{"x":{"type":"object"},"x":{"type":"object"}}}`:                                          "duplicate",
		`{"id":"a.b.c","defs":{"x":{"type":"array","items":{"type":"ref","ref":"#y"}},"y":{"type":"ref","ref":"#x"}}}`: "a.b.c#y",
	} {
		d, err := lexicon.ParseDocument([]byte(text))
		if err == nil {
			_, err = lexicon.New(d)
		}
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want an error with %q", text, err, part)
		}
	}
	d, err := lexicon.ParseDocument([]byte(record("")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lexicon.New(d, d); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a document twice: %v", err)
	}
}

// TestUnknown: a collection without a schema accepts every record.
func TestUnknown(t *testing.T) {
	for _, collection := range []string{"com.example.record", "", "app.bsky.feed.defs", "app.bsky.embed.images", "app.bsky.richtext.facet#link"} {
		if known, err := lexicon.Known().ValidateRecord(collection, map[string]any{"$type": 1}); known || err != nil {
			t.Errorf("%q: %t, %v", collection, known, err)
		}
		if lexicon.Known().Knows(collection) || lexicon.Known().Key(collection) != lexicon.KeyAny {
			t.Errorf("%q is known", collection)
		}
	}
}

func TestKeys(t *testing.T) {
	const tid, nsid = "3jzfcijpj2z2a", "com.example.thing"
	for collection, want := range map[string][]string{
		"app.bsky.feed.post":          {tid},
		"app.bsky.actor.profile":      {"self"},
		"chat.bsky.actor.declaration": {"self"},
		"app.bsky.feed.generator":     {tid, nsid, "self", "other"},
		"com.atproto.lexicon.schema":  {nsid},
		"com.example.unknown":         {tid, nsid, "self", "other"},
	} {
		key := lexicon.Known().Key(collection)
		for _, k := range []string{tid, nsid, "self", "other", "", ".", "..", "a/b", strings.Repeat("a", 513), "ä"} {
			err := key.Check(k)
			if (err == nil) != slices.Contains(want, k) || err != nil && !errors.Is(err, lexicon.ErrKey) {
				t.Errorf("%s/%.20s (%s): %v", collection, k, key, err)
			}
		}
	}
	if only, ok := lexicon.Known().Key("app.bsky.actor.profile").Literal(); !ok || only != "self" {
		t.Errorf("%q, %t", only, ok)
	}
	if only, ok := lexicon.KeyTID.Literal(); ok {
		t.Errorf("tid is the literal %q", only)
	}
	for key, want := range map[lexicon.KeyType]string{
		lexicon.KeyTID: `Invalid TID string (got "x") at $`, "literal:self": `Expected "self" (got "x") at $`,
	} {
		if err := key.Check("x"); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", key, err, want)
		}
	}
}
